from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import enas.search
import scripts.build
from controllers import CONTROLLERS
from controllers.evolution import EvolutionConfig
from enas.configs import RetrainConfig, ScheduleConfig, SharedConfig
from enas.datasets.images import ImageData
from enas.errors import SearchFailed
from enas.errors import Stopped as StoppedOnDemand
from enas.failures import LIMITS, NOT_FINITE
from enas.metrics import ACCURACY, METRICS, Metric
from enas.paths import PATHS, PathRule
from enas.position import Position
from enas.search import FETCH_EVERY, Search
from enas.spaces.macro import OPERATIONS, MacroConfig
from enas.spaces.sampling import sample_uniform
from enas.tracking import Tracker
from enas.train_metrics import TrainMetrics
from enas.trainers import PathTrainer
from enas.types import FloatArray, IntArray, PathBatch, Rollout, State
from scripts.build import Run, build_search, derive_answer
from scripts.search_config import ControllerSettings, SearchConfig

SPACE = MacroConfig(num_layers=3).make_space()


class Stopped(Exception):  # noqa: N818 - what stops it is no error of the search
    """Ends a search from outside."""


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# The alternation, over environments and a controller that record what is asked of them.


class RecordingWeights:
    """Says of an architecture that the mean of its tokens is its accuracy; writes every call into `log`."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.num_steps = 0
        self.failing: Collection[int] = ()  # steps, from 1

    def train_step(self, paths: PathBatch) -> TrainMetrics:
        self.log.append(("shared", "step", paths.loss_weights.tolist()))
        self.num_steps += 1
        has_failed = self.num_steps in self.failing
        loss = torch.nan if has_failed else float(self.num_steps)
        return TrainMetrics(
            loss=torch.full((len(paths.tokens),), loss, dtype=torch.float64),
            accuracy=torch.from_numpy(paths.tokens.mean(axis=1)),
            grad_norm=torch.tensor(10.0 * self.num_steps),
            failed=torch.tensor(has_failed),
            learning_rate=0.1 * self.num_steps,
        )


class RecordingEnvs:
    """Rewards an architecture with the mean of its tokens; writes every call into `log`."""

    num_envs = 3

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        assert seed is None  # the search never starts anew
        self.log += [("controller", "reset", name, value) for name, value in options.items()]
        return None, {}

    def step(self, actions: IntArray) -> tuple[Any, FloatArray, Any, Any, dict[str, Any]]:
        assert actions.shape == (self.num_envs, len(SPACE.decisions))
        self.log.append(("controller", "step"))
        rewards = actions.mean(axis=1)
        everyone = np.ones(self.num_envs, dtype=bool)
        return None, rewards, everyone, ~everyone, {"final_info": {"accuracy": 0.5 * rewards}}


class RecordingController:
    """Proposes uniformly; writes every call into `log`."""

    def __init__(self, log: list[Any]) -> None:
        self.rng = np.random.default_rng(1)
        self.log = log
        self.proposed: list[IntArray] = []
        self.updates: list[tuple[Rollout, FloatArray]] = []

    def propose(self, num_architectures: int) -> Rollout:
        self.log.append(("controller", "propose", num_architectures))
        self.proposed.append(sample_uniform(SPACE, num_architectures, self.rng))
        return Rollout(tokens=self.proposed[-1])

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        self.log.append(("controller", "update"))
        self.updates.append((rollout, rewards))
        return {"entropy": float(len(self.updates))}

    def candidates(self, num_candidates: int) -> IntArray:
        raise NotImplementedError

    def state_dict(self) -> State:
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]


class FirstArchitectures:
    """Always the smallest architectures, with weights that are no average."""

    num_paths = 2

    def draw(self) -> PathBatch:
        tokens = np.array([SPACE.encode(SPACE.smallest())] * self.num_paths)
        return PathBatch(tokens=tokens, loss_weights=np.arange(1.0, 1 + self.num_paths))

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class CountingArchitectures(FirstArchitectures):
    """The operation of the first layer tells how many steps there were."""

    def __init__(self) -> None:
        self.num_steps = 0

    def draw(self) -> PathBatch:
        self.num_steps += 1
        paths = super().draw()
        paths.tokens[:, 0] = self.num_steps % len(OPERATIONS)
        return paths


@dataclass
class Recorded:
    """A search over recording parts, and what they recorded."""

    search: Search
    log: list[Any]
    weights: RecordingWeights
    controller: RecordingController
    positions: list[Position]
    saved: list[State]
    folder: Path

    def rows(self, name: str = "architectures") -> list[dict[str, Any]]:
        return rows_of(self.folder / f"{name}.jsonl")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Recorded]]:
    monkeypatch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))
    trackers = []

    def build(
        *, epochs: int = 2, shared_steps: int = 3, paths: PathRule | None = None, metric: Metric = ACCURACY, **schedule: Any
    ) -> Recorded:
        log: list[Any] = []
        weights = RecordingWeights(log)
        positions: list[Position] = []
        saved: list[State] = []
        controller = RecordingController(log)
        trackers.append(Tracker(tmp_path, start=None))
        search = Search(
            space=SPACE,
            trainer=PathTrainer(weights, paths or FirstArchitectures()),
            controller_envs=RecordingEnvs(log),
            controller=controller,
            schedule=ScheduleConfig(**{"controller_steps": 2, "architectures_per_step": 3, **schedule}),
            shared_steps=shared_steps,
            epochs=epochs,
            tracker=trackers[-1],
            parts={},
            save=saved.append,
            on_step=lambda position: positions.append(replace(position)),
            metric=metric,
        )
        return Recorded(search, log, weights, controller, positions, saved, tmp_path)

    yield build
    for tracker in trackers:
        tracker.close()


def test_phases_alternate_in_order_and_number(record):
    recorded = record(paths=FirstArchitectures())
    recorded.search.run()
    calls = [call[:2] if call[0] == "shared" else call for call in recorded.log]
    update = [("controller", "propose", 3), ("controller", "step"), ("controller", "update")]
    reset = ("controller", "reset", "phase", "controller")
    assert calls == 2 * [*3 * [("shared", "step")], reset, *update, *update]


def test_loss_weights_of_the_path_rule_reach_each_shared_step(record):
    recorded = record(paths=FirstArchitectures())
    recorded.search.run()
    assert [call[2] for call in recorded.log if call[0] == "shared"] == 6 * [[1.0, 2.0]]


def test_warmup_epochs_have_no_controller_phase(record):
    recorded = record(epochs=3, warmup_epochs=2)
    recorded.search.run()
    names = [call[0] for call in recorded.log if call[1] == "step"]
    assert names == 9 * ["shared"] + 2 * ["controller"]
    assert recorded.search.num_steps == len(recorded.positions) == 11


def test_two_stages_train_first_and_then_only_measure(record):
    recorded = record(epochs=4, warmup_epochs=2, kind="two-stage")
    done = []
    recorded.search._on_step = lambda _: done.append(recorded.search.steps_done)
    recorded.search.run()
    names = [call[0] for call in recorded.log if call[1] == "step"]
    assert names == 6 * ["shared"] + 4 * ["controller"]
    assert done == list(range(1, 11))
    assert recorded.search.num_steps == 10


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"epochs": 2}, [(step / 6, True) for step in range(6)]),
        ({"epochs": 5, "warmup_epochs": 2}, 6 * [(0.0, False)] + [(step / 9, True) for step in range(9)]),
        ({"epochs": 3, "warmup_epochs": 2, "kind": "two-stage"}, 6 * [(0.0, False)]),
    ],
)
def test_trainer_is_told_the_share_of_the_steps_that_teach(schedule, expected, record):
    search, told = record(**schedule).search, []
    train = search.trainer.step

    def step(*, progress: float, learns: bool) -> Any:
        told.append((progress, learns))
        return train(progress=progress, learns=learns)

    search.trainer.step = step
    search.run()
    assert [learns for _, learns in told] == [learns for _, learns in expected]
    assert [progress for progress, _ in told] == pytest.approx([progress for progress, _ in expected])
    middle = len(expected) // 2
    search.position = Position(epoch=middle // 3, shared_steps=middle % 3)  # where a resumed search may begin
    told.clear()
    search.run()
    assert told == [(pytest.approx(progress), learns) for progress, learns in expected[middle:]]


def test_controller_learns_from_its_own_rollouts(record):
    recorded = record()
    recorded.search.run()
    assert len(recorded.controller.updates) == len(recorded.controller.proposed) == 4
    for (rollout, rewards), tokens in zip(recorded.controller.updates, recorded.controller.proposed, strict=True):
        assert rollout.tokens is tokens
        assert rewards.tolist() == tokens.mean(axis=1).tolist()


def test_position_counts_steps_and_architectures(record):
    recorded = record()
    recorded.search.run()
    counts = [(p.epoch, p.shared_steps, p.controller_steps) for p in recorded.positions]
    epoch = [(1, 0), (2, 0), (3, 0), (3, 1), (3, 2)]
    assert counts == [(0, *steps) for steps in epoch] + [(1, *steps) for steps in epoch]
    assert [p.num_architectures for p in recorded.positions] == [2, 4, 6, 9, 12, 14, 16, 18, 21, 24]
    assert [p.num_measured for p in recorded.positions] == [0, 0, 0, 3, 6, 6, 6, 6, 9, 12]
    assert recorded.search.position == replace(recorded.positions[-1], epoch=2, shared_steps=0, controller_steps=0)


def test_best_reward_is_the_highest_so_far(record):
    recorded = record()
    recorded.search.run()
    rewards = [rewards.max() for _, rewards in recorded.controller.updates]
    best = [position.best_reward for position in recorded.positions]
    expected = np.maximum.accumulate(rewards).tolist()
    assert best == [None] * 3 + expected[:2] + [expected[1]] * 3 + expected[2:]


def test_perplexities_are_recorded_beside_the_accuracies(record):
    recorded = record(metric=METRICS["perplexity"])
    recorded.search.run()
    measured = [row for row in recorded.rows() if row["phase"] == "controller"]
    losses = [row["reward"] for row in measured]  # these environments tell no loss but the reward
    assert [row["perplexity"] for row in measured] == pytest.approx(np.exp(losses).tolist())
    assert not any("perplexity" in row for row in recorded.rows() if row["phase"] == "shared")
    first, second = (row for row in recorded.rows("metrics") if "controller/perplexity" in row)
    assert first["controller/perplexity"] == pytest.approx(np.exp(np.mean(losses[:6])))  # not the mean of perplexities
    assert second["controller/perplexity"] == pytest.approx(np.exp(np.mean(losses[6:])))
    shared = next(row for row in recorded.rows("metrics") if "shared/perplexity" in row)
    assert shared["shared/perplexity"] == pytest.approx(np.exp(shared["shared/loss"]))


def test_accuracies_alone_are_recorded_where_they_are_the_metric(record):
    recorded = record()
    recorded.search.run()
    assert not any("perplexity" in name for row in [*recorded.rows(), *recorded.rows("metrics")] for name in row)


def test_steps_done_counts_to_the_number_of_steps(record):
    recorded = record(epochs=3, warmup_epochs=1)
    done = []
    recorded.search._on_step = lambda _: done.append(recorded.search.steps_done)
    recorded.search.run()
    assert done == list(range(1, recorded.search.num_steps + 1))
    assert recorded.search.steps_done == recorded.search.num_steps == 3 * 3 + 2 * 2


def test_every_architecture_that_ran_has_a_row(record):
    recorded = record()
    recorded.search.run()
    rows = recorded.rows()
    assert [row["index"] for row in rows] == list(range(24))
    assert [(row["epoch"], row["phase"]) for row in rows] == [
        (epoch, phase) for epoch in range(2) for phase in 6 * ["shared"] + 6 * ["controller"]
    ]
    assert [row["step"] for row in rows[:12]] == [2, 2, 4, 4, 6, 6, 9, 9, 9, 12, 12, 12]
    measured = [row for row in rows if row["phase"] == "controller"]
    assert [row["tokens"] for row in measured] == np.concatenate(recorded.controller.proposed).tolist()
    assert [row["reward"] for row in measured] == np.concatenate([r for _, r in recorded.controller.updates]).tolist()
    assert [row["accuracy"] for row in measured] == [0.5 * row["reward"] for row in measured]
    trained = [row for row in rows if row["phase"] == "shared"]
    assert {tuple(row["tokens"]) for row in trained} == {SPACE.encode(SPACE.smallest())}


def test_metrics_are_means_since_the_last_ones_written(record, monkeypatch):
    monkeypatch.setattr(enas.search, "LOG_EVERY", 2)
    recorded = record(epochs=1, shared_steps=5, controller_steps=3)
    recorded.search.run()
    rows = recorded.rows("metrics")
    shared = [row for row in rows if "shared/loss" in row]
    assert [row["step"] for row in rows] == [4, 8, 10, 16, 19]
    weights = 1.0 + 2.0  # what the losses of the two paths were multiplied with
    assert [row["shared/loss"] for row in shared] == pytest.approx([3 / weights, 7 / weights, 10 / weights])
    assert [row["shared/grad_norm"] for row in shared] == [15.0, 35.0, 50.0]
    assert [row["shared/lr"] for row in shared] == pytest.approx([0.15, 0.35, 0.5])
    first, second, third = (rewards for _, rewards in recorded.controller.updates)
    controller = rows[3:]
    assert [row["controller/reward"] for row in controller] == pytest.approx([np.mean([first, second]), third.mean()])
    assert [row["controller/reward_best"] for row in controller] == [max(*first, *second), third.max()]
    assert [row["controller/entropy"] for row in controller] == [1.5, 3.0]
    assert [row["search/best_so_far"] for row in controller] == [max(*first, *second), max(*first, *second, *third)]


def test_exploration_is_measured_over_the_epochs_proposals(record):
    recorded = record(epochs=1)
    same = np.array([[0, 0, 1, 0, 1, 0]] * 3)
    recorded.controller.propose = lambda count: Rollout(tokens=same[:count])
    recorded.search.run()
    row = recorded.rows("metrics")[-1]
    assert row["search/unique_fraction"] == pytest.approx(1 / 6)
    assert row["controller/skip_rate"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("minutes", "expected"), [(0.0, 11), (60.0, 1)])
def test_checkpoints_are_written_by_the_clock_and_at_the_end(minutes, expected, record):
    recorded = record(checkpoint_minutes=minutes)
    recorded.search.run()
    assert len(recorded.saved) == expected
    assert recorded.saved[-1]["position"] == asdict(recorded.search.position)


def test_saved_state_does_not_change_with_the_search(record):
    recorded = record(epochs=1, checkpoint_minutes=0)
    recorded.search.run()
    states = [state["position"] for state in recorded.saved[:-1]]
    assert states == [vars(position) for position in recorded.positions]
    assert [len(state["proposed"]) for state in recorded.saved] == [0, 0, 0, 3, 6, 0]


# What training steps gave is fetched now and then.


def count_rows(recorded: Recorded) -> list[int]:
    """Let the search write down, in the list returned, how many architectures have rows after each step."""
    counts: list[int] = []
    recorded.search._on_step = lambda _: counts.append(len(recorded.rows()))
    return counts


def test_training_steps_are_written_down_where_they_are_fetched(record, monkeypatch):
    monkeypatch.setattr(enas.search, "FETCH_EVERY", 3)
    recorded = record(epochs=1, shared_steps=8)
    counts = count_rows(recorded)
    recorded.search.run()
    assert counts == [0, 0, 6, 6, 6, 12, 12, 16, 19, 22]  # two paths a step, three architectures an update
    assert [row["step"] for row in recorded.rows()[:16]] == [step for step in range(2, 17, 2) for _ in range(2)]
    losses = [row["shared/loss"] for row in recorded.rows("metrics") if "shared/loss" in row]
    assert losses == [pytest.approx(2 * np.mean(range(1, 9)) / 3)]


def test_checkpoint_holds_all_that_was_trained(record):
    recorded = record(epochs=1, shared_steps=8, checkpoint_minutes=0)
    counts = count_rows(recorded)
    recorded.search.run()
    assert counts == [0, 2, 4, 6, 8, 10, 12, 16, 19, 22]  # one step behind: a checkpoint is written after it
    windows = [len(state["window"].get("shared/loss", [])) for state in recorded.saved]
    assert windows == [1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0]


def test_search_that_is_asked_to_stop_saves_the_steps_that_it_has_done(record):
    recorded = record(epochs=1, shared_steps=8)
    recorded.search._should_stop = lambda: recorded.search.position.shared_steps == 5
    with pytest.raises(StoppedOnDemand):
        recorded.search.run()
    assert [row["index"] for row in recorded.rows()] == list(range(10))
    (state,) = recorded.saved
    assert (state["position"]["shared_steps"], state["position"]["num_architectures"]) == (5, 10)
    assert state["window"]["shared/grad_norm"] == [10.0, 20.0, 30.0, 40.0, 50.0]


@pytest.mark.parametrize("first", [1, 4, 11])
def test_search_fails_at_most_a_fetch_later_than_the_step_that_was_one_too_many(first, record):
    recorded = record(epochs=1, shared_steps=60, checkpoint_minutes=60, paths=CountingArchitectures())
    recorded.weights.failing = range(first, 60)
    limit = LIMITS[NOT_FINITE]
    last = first + limit - 1
    text = f"macro architecture {last % len(OPERATIONS)} / 4 0 / 4 0 0"
    with pytest.raises(SearchFailed, match=f"^{limit} training steps in a row failed, the last with {NOT_FINITE}: {text}$"):
        recorded.search.run()
    assert last <= recorded.search.position.shared_steps < last + FETCH_EVERY
    assert len(recorded.rows()) == 2 * last  # what came after it is not written down
    assert recorded.search.position.num_failed == 2 * limit
    assert not recorded.saved


# Whole searches on a small child.


def small_config(*, strategy: str = "enas", paths: str = "controller", kind: str = "aging", epochs: int = 2) -> SearchConfig:
    evolution = EvolutionConfig(kind=kind, population=4, sample=2, parents=2, archive_size=5)
    return SearchConfig(
        strategy=strategy,
        paths=paths,
        epochs=epochs,
        seed=3,
        threads=1,
        device="cpu",
        child=MacroConfig(num_layers=3, filters=4),
        shared=SharedConfig(
            batch_size=20,
            valid_batch_size=10,
            paths_per_step=2 if paths in ("controller", "uniform") else None,
            restart_epochs=1,
        ),
        controller=ControllerSettings(evolution=evolution),
        schedule=ScheduleConfig(controller_steps=2, architectures_per_step=3, candidates=4, checkpoint_minutes=0),
        retrain=RetrainConfig(epochs=0),
    )


NUM_STEPS = 2 * (3 + 2)
STRATEGIES = {
    "aging evolution": {"strategy": "evolution"},
    "categorical": {"strategy": "categorical"},
    "enas": {"strategy": "enas"},
    "generational evolution": {"strategy": "evolution", "kind": "generational"},
    "ppo": {"strategy": "ppo"},
    "uniform": {"strategy": "uniform"},
}


def end_of(run: Run) -> tuple[bytes, list[dict[str, Any]], State]:
    """What a search leaves: rows of architectures, metrics apart from clock and memory, all parts' state."""
    metrics = [
        {tag: value for tag, value in row.items() if tag != "time" and not tag.startswith(("time/", "system/"))}
        for row in rows_of(run.folder / "metrics.jsonl")
    ]
    state = run.search.state_dict()
    del state["tracker"], state["window_seconds"]
    return (run.folder / "architectures.jsonl").read_bytes(), metrics, state


def assert_same(first: Any, second: Any) -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


def run_to_end(config: SearchConfig, folder: Path, data: ImageData, **options: Any) -> Any:
    with build_search(config, folder, data=data, **options) as run:
        run.search.run()
        return end_of(run)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[SearchConfig, ImageData], Any]:
    """Return what a search leaves that nobody stops; each configuration runs once."""
    ends: dict[SearchConfig, Any] = {}

    def run(config: SearchConfig, data: ImageData) -> Any:
        if config not in ends:
            ends[config] = run_to_end(config, tmp_path_factory.mktemp("undisturbed"), data)
        return ends[config]

    return run


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))


def stop_after(num_steps: int) -> Callable[[Search], None]:
    """Stop a search in its environment step number `num_steps` (from 1), before the checkpoint after it."""
    left = iter(range(num_steps - 1))

    def stop(_: Search) -> None:
        if next(left, None) is None:
            raise Stopped

    return stop


@pytest.mark.parametrize("step", range(1, NUM_STEPS + 1))
def test_search_stopped_in_any_step_ends_as_an_undisturbed_one(step, tmp_path, images, undisturbed):
    config = small_config()
    with pytest.raises(Stopped):
        run_to_end(config, tmp_path, images, on_step=stop_after(step))
    with build_search(replace(config, resume=tmp_path), tmp_path, data=images) as run:
        assert run.search.steps_done == step - 1
        assert run.resumed == (step > 1)
        run.search.run()
        assert_same(end_of(run), undisturbed(config, images))


@pytest.mark.parametrize(
    ("strategy", "paths"),
    [*product(sorted(STRATEGIES), ["controller"]), *product(["enas"], sorted(set(PATHS) - {"controller"}))],
)
def test_search_stopped_again_and_again_ends_as_an_undisturbed_one(strategy, paths, tmp_path, images, undisturbed):
    config = small_config(**STRATEGIES[strategy], paths=paths)
    resumed = replace(config, resume=tmp_path)
    for number, num_steps in enumerate((3, 5, 4)):  # all but the last step of each session is kept
        with pytest.raises(Stopped):
            run_to_end(resumed if number else config, tmp_path, images, on_step=stop_after(num_steps))
    assert_same(run_to_end(resumed, tmp_path, images), undisturbed(config, images))


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("number", [1, 4, 7, NUM_STEPS + 1])
def test_search_stopped_in_a_save_ends_as_an_undisturbed_one(number, is_written, tmp_path, images, undisturbed, monkeypatch):
    config = small_config()
    calls = iter(range(1, 100))
    save = scripts.build.save_checkpoint

    def stopped_save(folder: Path, state: State) -> None:
        is_last = next(calls) == number
        if not is_last or is_written:
            save(folder, state)
        if is_last:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(scripts.build, "save_checkpoint", stopped_save)
        with pytest.raises(Stopped):
            run_to_end(config, tmp_path, images)
    assert_same(run_to_end(replace(config, resume=tmp_path), tmp_path, images), undisturbed(config, images))


def test_search_resumed_after_its_end_changes_nothing(tmp_path, images, undisturbed):
    config = small_config()
    run_to_end(config, tmp_path, images)
    assert_same(run_to_end(replace(config, resume=tmp_path), tmp_path, images), undisturbed(config, images))


@pytest.mark.parametrize("strategy", ["enas", "generational evolution"])
def test_finished_search_that_gets_more_epochs_equals_the_longer_one(strategy, tmp_path, images, undisturbed):
    config = small_config(**STRATEGIES[strategy])
    with build_search(replace(config, epochs=1), tmp_path, data=images) as run:
        run.search.run()
        derive_answer(run)
    longer = undisturbed(config, images)
    assert_same(run_to_end(replace(config, resume=tmp_path), tmp_path, images), longer)


def test_seed_decides_the_search(tmp_path, images, undisturbed):
    config = small_config()
    same = run_to_end(config, tmp_path / "same", images)
    other = run_to_end(replace(config, seed=4), tmp_path / "other", images)
    assert_same(same, undisturbed(config, images))
    assert other[0] != same[0]


@pytest.mark.parametrize("paths", ["controller", "uniform"])
def test_strategies_measure_and_train_equally_many_architectures(paths, images, undisturbed):
    for options in STRATEGIES.values():
        architectures, _, state = undisturbed(small_config(**options, paths=paths), images)
        phases = [json.loads(line)["phase"] for line in architectures.splitlines()]
        assert phases.count("controller") == state["position"]["num_measured"] == 2 * 2 * 3
        assert phases.count("shared") == 2 * 3 * 2
        assert state["parts"]["shared"]["num_train_steps"] == 6


@pytest.mark.parametrize(("paths", "num_paths"), [("fair", 6), ("sandwich", 4)])
def test_a_step_trains_as_many_architectures_as_the_path_rule_draws(paths, num_paths, images, undisturbed):
    architectures, _, state = undisturbed(small_config(paths=paths), images)
    phases = [json.loads(line)["phase"] for line in architectures.splitlines()]
    assert phases.count("shared") == 2 * 3 * num_paths
    assert state["parts"]["shared"]["num_train_steps"] == 6


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_two_stage_search_leaves_the_trained_weights_alone(strategy, images, tmp_path):
    """Stopped in its search stage it goes on in the same bits, and its weights are those at the end of the first stage."""
    schedule = ScheduleConfig(
        kind="two-stage", warmup_epochs=2, controller_steps=2, architectures_per_step=3, candidates=4, checkpoint_minutes=0
    )
    config = replace(small_config(**STRATEGIES[strategy], paths="fair", epochs=4), schedule=schedule)
    weights = []

    def stop(search: Search) -> None:
        state = search.state_dict()["parts"]["shared"]
        if state["num_train_steps"] == 6:
            weights.append({name: value.clone() for name, value in state["child"].items()})
        if search.position.epoch == 3 and len(weights) == 4:
            raise Stopped

    with pytest.raises(Stopped):
        run_to_end(config, tmp_path / "stopped", images, on_step=stop)
    calm = run_to_end(config, tmp_path / "calm", images)
    resumed = replace(config, resume=tmp_path / "stopped")
    assert_same(run_to_end(resumed, tmp_path / "stopped", images), calm)
    for values in (*weights, calm[2]["parts"]["shared"]["child"]):
        assert_same(weights[0], values)
    phases = [json.loads(line)["phase"] for line in calm[0].splitlines()]
    assert phases == 6 * 6 * ["shared"] + 2 * 2 * 3 * ["controller"]


def test_every_strategy_is_searched_with_here():
    on_mixtures = {"darts", "gaea", "gdas"}  # see test_trainers.py
    assert {options["strategy"] for options in STRATEGIES.values()} == set(CONTROLLERS) - on_mixtures


def test_uniform_paths_follow_no_controller(images, undisturbed):
    trained = []
    for strategy in ("enas", "uniform"):
        lines = undisturbed(small_config(strategy=strategy, paths="uniform"), images)[0].splitlines()
        trained.append([row["tokens"] for row in map(json.loads, lines) if row["phase"] == "shared"])
    assert trained[0] == trained[1]


ALWAYS = {"search/failed", "step", "system/rss", "time"}
SHARED_TAGS = {f"shared/{name}" for name in ("loss", "accuracy", "lr", "grad_norm")} | {"time/shared_steps_per_s"}
CONTROLLER_TAGS = {
    *(f"controller/{name}" for name in ("reward", "reward_best", "loss", "entropy", "advantage", "baseline", "grad_norm")),
    "controller/skip_rate",
    *(f"collapse/{name}" for name in ("alarm", "entropy_mean", "entropy_min", "settled", "unique_fraction")),
    *(f"collapse/{name}" for name in ("skip_share", "skip_target")),
    *(f"operation/{name}" for name in OPERATIONS),
    "search/best_so_far",
    "search/choice_entropy",
    "search/unique_fraction",
    "time/architectures_per_s",
}


def test_tags_of_the_metrics_are_the_agreed_ones(tmp_path, images):
    run_to_end(small_config(), tmp_path, images)
    rows = rows_of(tmp_path / "metrics.jsonl")
    shared, controller = rows[0], rows[1]
    assert set(shared) - {"system/gpu_memory"} == ALWAYS | SHARED_TAGS
    assert set(controller) - {"system/gpu_memory"} == ALWAYS | CONTROLLER_TAGS
    assert [row["step"] for row in rows] == [6, 12, 18, 24]


def test_answer_is_measured_and_recorded_after_the_search(tmp_path, images):
    with build_search(small_config(), tmp_path, data=images) as run:
        run.search.run()
        answer = derive_answer(run)
    rows = [row for row in rows_of(tmp_path / "architectures.jsonl") if row["phase"] == "derive"]
    assert [row["index"] for row in rows] == list(range(24, 24 + len(rows)))
    assert [row["tokens"] for row in rows[:1]] == [list(answer.candidate.tokens)]
    assert [row["reward"] for row in rows] == sorted((row["reward"] for row in rows), reverse=True)
    last = rows_of(tmp_path / "metrics.jsonl")[-1]
    assert last["derive/best"] == answer.candidate.valid_accuracy == rows[0]["accuracy"]
    assert last["derive/mean"] == pytest.approx(np.mean([row["accuracy"] for row in rows]))


def test_no_gradient_reaches_the_shared_weights_from_a_reward(tmp_path, images):
    weights: dict[str, Any] = {}
    num_checked = 0

    def check(search: Search) -> None:
        nonlocal num_checked
        child = run.shared.child
        if search.position.shared_steps == 3 and search.position.controller_steps == 0:
            weights.update({name: value.clone() for name, value in child.state_dict().items()})
            child.zero_grad(set_to_none=True)
        if search.position.controller_steps:
            num_checked += 1
            assert all(parameter.grad is None for parameter in child.parameters())
            assert_same(dict(child.state_dict()), weights)

    with build_search(small_config(), tmp_path, data=images, on_step=check) as run:
        run.search.run()
    assert num_checked == 4


def test_no_gradient_reaches_the_controller_from_a_shared_step(tmp_path, images):
    weights: dict[str, Any] = {}
    num_checked = 0

    def check(search: Search) -> None:
        nonlocal num_checked
        policy = run.controller.policy
        if search.position.controller_steps == 0:
            num_checked += 1
            assert all(parameter.grad is None for parameter in policy.parameters())
            assert_same(dict(policy.state_dict()), weights)
        elif search.position.controller_steps == 2:
            assert any(parameter.grad is not None for parameter in policy.parameters())
            policy.zero_grad(set_to_none=True)
            weights.update({name: value.clone() for name, value in policy.state_dict().items()})

    with build_search(small_config(), tmp_path, data=images, on_step=check) as run:
        weights.update({name: value.clone() for name, value in run.controller.policy.state_dict().items()})
        run.search.run()
    assert num_checked == 6


@pytest.mark.usefixtures("without_bfloat16")
def test_search_in_half_precision_is_warned_of_on_a_processor_without_it(tmp_path, images):
    with (
        pytest.warns(RuntimeWarning, match="^precision bf16: this processor"),
        build_search(replace(small_config(), precision="bf16", device="cpu"), tmp_path, data=images),
    ):
        pass
