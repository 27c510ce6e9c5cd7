from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import enas.search
from enas.configs import RankingConfig, RetrainConfig, ScheduleConfig, SharedConfig
from enas.ranking.monitor import RankMonitor, draw_sample
from enas.spaces.nasbench201 import OPERATIONS, NasBench201Config, NasBench201Space
from enas.spaces.sampling import sample_distinct
from enas.types import Evaluation, FloatArray
from scripts.build import build_search
from scripts.search_config import SearchConfig

SPACE = NasBench201Space()
NUM_CELLS = 5**6


def all_cells() -> Any:
    return np.array(np.unravel_index(np.arange(NUM_CELLS), (5,) * 6)).T.astype(np.uint8)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of all cells; validation accuracy grows with the number of convolutions, test accuracy falls."""
    codes = all_cells()
    good = ((codes == 2) | (codes == 3)).sum(axis=1)
    noise = np.random.default_rng(0).random(NUM_CELLS)
    columns = {"cifar10_valid": 10 + 10 * good + noise, "cifar10_test": 90 - 10 * good - noise, "cifar100_valid": 50 + noise}
    np.savez(tmp_path / "table.npz", ops=np.array(OPERATIONS), codes=codes, **columns)
    return tmp_path / "table.npz"


class Weights:
    """Answers with given accuracies; remembers what it was asked."""

    def __init__(self, accuracies: FloatArray, losses: FloatArray | None = None) -> None:
        self.evaluation = Evaluation(accuracy=accuracies, loss=-accuracies if losses is None else losses, num_examples=1)
        self.asked: list[tuple[Sequence[Any], int | None]] = []

    def evaluate_all(self, architectures: Sequence[Any], *, num_images: int | None = None) -> Evaluation:
        self.asked.append((architectures, num_images))
        return self.evaluation


def test_sample_has_the_validation_accuracies_of_its_cells(table):
    sample = draw_sample(SPACE, RankingConfig(table=table, num_architectures=40))
    assert len({SPACE.encode(one) for one in sample.architectures}) == 40
    good = [sum(name.startswith("nor_conv") for name in one.operations) for one in sample.architectures]
    assert np.floor(10 * sample.truths - 1).tolist() == good  # percent 10 + 10 * good + [0, 1)


def test_larger_sample_begins_with_the_smaller_one(table):
    small, large = (draw_sample(SPACE, RankingConfig(table=table, num_architectures=num)) for num in (10, 600))
    assert large.architectures[:10] == small.architectures
    assert large.truths[:10].tolist() == small.truths.tolist()


def test_truth_may_be_another_data_sets(table):
    config = RankingConfig(table=table, data="cifar100", num_architectures=5)
    assert ((draw_sample(SPACE, config).truths >= 0.5) & (draw_sample(SPACE, config).truths < 0.51)).all()


def test_tau_is_between_shared_weight_accuracy_and_validation_accuracy(table):
    config = RankingConfig(table=table, num_architectures=30, every_epochs=1, num_images=77)
    sample = draw_sample(SPACE, config)
    accuracies = np.random.default_rng(2).random(30) + sample.truths
    weights = Weights(accuracies)
    metrics = RankMonitor(weights, sample, config)(1, False)
    assert metrics == {"ranking/tau": pytest.approx(stats.kendalltau(accuracies, sample.truths).statistic)}
    assert weights.asked == [(sample.architectures, 77)]


def test_architecture_whose_loss_is_not_finite_counts_as_the_worst(table):
    config = RankingConfig(table=table, num_architectures=10, every_epochs=1)
    sample = draw_sample(SPACE, config)
    accuracies, losses = sample.truths.copy(), np.zeros(10)
    worst = int(sample.truths.argmin())
    accuracies[worst], losses[worst] = 1.0, np.inf
    assert RankMonitor(Weights(accuracies, losses), sample, config)(1, False) == {"ranking/tau": pytest.approx(1.0)}


def test_measures_every_few_epochs(table):
    config = RankingConfig(table=table, num_architectures=4, every_epochs=3)
    sample = draw_sample(SPACE, config)
    monitor = RankMonitor(Weights(sample.truths), sample, config)
    assert [epoch for epoch in range(1, 8) if monitor(epoch, False)] == [3, 6]


def test_weights_that_are_trained_no_more_are_measured_whatever_the_epoch(table):
    config = RankingConfig(table=table, num_architectures=4, every_epochs=3)
    sample = draw_sample(SPACE, config)
    monitor = RankMonitor(Weights(sample.truths), sample, config)
    assert [epoch for epoch in range(8) if monitor(epoch, epoch in (0, 4))] == [0, 3, 4, 6]


def test_sample_is_another_than_the_one_that_rank_reports_on(table):
    """Of 50 cells, one is expected among 300 of 15,625 by chance."""
    sample = {SPACE.encode(one) for one in draw_sample(SPACE, RankingConfig(table=table)).architectures}
    for seed in range(3):
        reported = {tuple(row) for row in sample_distinct(SPACE, 300, np.random.default_rng(seed)).tolist()}
        assert len(sample & reported) <= 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": None}, "ranking.table: expected a table, got none"),
        ({"table": Path("missing.npz")}, r"ranking.table: missing.npz: expected a table, .*, found nothing there"),
        ({"data": "imagenet16"}, "ranking.data: data: expected one of cifar10, cifar100 .*, got 'imagenet16'"),
        (
            {"num_architectures": 15_626},
            "ranking.num_architectures: nasbench201: expected at most its 15625 architectures, got 15626",
        ),
    ],
)
def test_setting_that_does_not_serve_is_named(changes, message, table):
    with pytest.raises(ValueError, match=f"^{message}"):
        draw_sample(SPACE, RankingConfig(**{"table": table, **changes}))


def test_table_that_lacks_a_cell_is_named(tmp_path):
    codes = all_cells()[:-5000]
    np.savez(tmp_path / "part.npz", ops=np.array(OPERATIONS), codes=codes, cifar10_valid=np.full(len(codes), 50.0))
    with pytest.raises(ValueError, match=r"^ranking.table: .*part.npz: expected one of its 10625 cells, got"):
        draw_sample(SPACE, RankingConfig(table=tmp_path / "part.npz"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every_epochs": 0}, "every_epochs: expected at least 1, got 0"),
        ({"num_architectures": 1}, "num_architectures: expected at least 2, got 1"),
        ({"num_images": 0}, "num_images: expected at least 1 or None, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RankingConfig(**changes)


# In a search.


def config_of(ranking: RankingConfig, **changes: Any) -> SearchConfig:
    config = SearchConfig(
        space="nasbench201",
        epochs=4,
        seed=3,
        threads=1,
        device="cpu",
        child=NasBench201Config(filters=2, cells_per_stage=1),
        shared=SharedConfig(batch_size=20, valid_batch_size=10, batch_norm="recalibrated"),
        schedule=ScheduleConfig(controller_steps=1, architectures_per_step=3, candidates=2, checkpoint_minutes=0),
        retrain=RetrainConfig(epochs=0),
        ranking=ranking,
    )
    return replace(config, **changes)


class Killed(Exception):  # noqa: N818 - it is no error of the search
    """Ends a search from outside."""


def search(
    config: SearchConfig, folder: Path, images: Any, on_step: Any = lambda _: None
) -> tuple[bytes, list[Any], dict[str, Any]]:
    """Return what a search wrote of architectures and of taus, and the state of its weights."""
    with build_search(config, folder, data=images, on_step=on_step) as run:
        run.search.run()
        state = run.shared.state_dict()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    taus = [(row["step"], row["ranking/tau"]) for row in rows if "ranking/tau" in row]
    return (folder / "architectures.jsonl").read_bytes(), taus, state


def same_child(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(torch.equal(value, second["child"][name]) for name, value in first["child"].items())


def same_weights(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return same_child(first, second) and all(first[name] == second[name] for name in ("num_train_steps", "num_evaluations"))


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))


@pytest.mark.usefixtures("without_pictures")
def test_search_that_is_watched_is_the_same_search_and_goes_on_after_a_kill(table, tmp_path, images):
    watched = RankingConfig(table=table, num_architectures=6, every_epochs=2, num_images=15)
    architectures, taus, state = search(config_of(watched), tmp_path / "watched", images)
    plain, none, plain_state = search(config_of(RankingConfig()), tmp_path / "plain", images)
    assert architectures == plain
    assert same_weights(state, plain_state)
    assert (none, [step for step, _ in taus]) == ([], [12, 24])  # after the epochs' architectures
    assert all(-1 <= tau <= 1 for _, tau in taus)

    left = iter(range(8))

    def kill(_: Any) -> None:
        if next(left, None) is None:
            raise Killed

    with pytest.raises(Killed):
        search(config_of(watched), tmp_path / "killed", images, kill)
    resumed = search(config_of(watched, resume=tmp_path / "killed"), tmp_path / "killed", images)
    assert resumed[:2] == (architectures, taus)


def two_stage(table: Path, *, warmup_epochs: int, every_epochs: int, **changes: Any) -> SearchConfig:
    ranking = RankingConfig(table=table, num_architectures=4, every_epochs=every_epochs, num_images=10)
    schedule = ScheduleConfig(
        kind="two-stage", warmup_epochs=warmup_epochs, controller_steps=2, architectures_per_step=2, checkpoint_minutes=0
    )
    return config_of(ranking, **{"schedule": schedule, "paths": "uniform", "epochs": 4, **changes})


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(("every_epochs", "steps"), [(1, [3, 6]), (2, [6]), (5, [6])])
def test_weights_that_a_two_stage_search_freezes_are_measured_once(every_epochs, steps, table, tmp_path, images):
    config = two_stage(table, warmup_epochs=2, every_epochs=every_epochs)
    _, taus, _ = search(config, tmp_path / "run", images)
    assert [step for step, _ in taus] == steps


@pytest.mark.usefixtures("without_pictures")
def test_weights_of_another_run_that_nothing_trains_are_measured_once_at_the_start(table, tmp_path, images):
    _, trained, state = search(two_stage(table, warmup_epochs=2, every_epochs=5), tmp_path / "trained", images)
    config = two_stage(table, warmup_epochs=0, every_epochs=5, warm_start=tmp_path / "trained")
    architectures, taus, frozen = search(config, tmp_path / "run", images)
    assert [step for step, _ in taus] == [0]
    assert same_child(frozen, state)
    # Another search's recalibration minibatches follow from its own seed, which is the same here.
    assert taus[0][1] == trained[-1][1]

    short = replace(config, epochs=2)
    search(short, tmp_path / "longer", images)
    longer = search(replace(config, resume=tmp_path / "longer"), tmp_path / "longer", images)
    assert longer[:2] == (architectures, taus)

    left = iter(range(1))  # a checkpoint after the first step, then the end

    def kill(_: Any) -> None:
        if next(left, None) is None:
            raise Killed

    with pytest.raises(Killed):
        search(config, tmp_path / "killed", images, kill)
    resumed = search(replace(config, resume=tmp_path / "killed"), tmp_path / "killed", images)
    assert resumed[:2] == (architectures, taus)


def test_other_spaces_have_no_table(table):
    message = "ranking.table: expected none, since there are tables of the space nasbench201 only, not of macro, got"
    with pytest.raises(ValueError, match=message):
        SearchConfig(space="macro", ranking=RankingConfig(table=table))
