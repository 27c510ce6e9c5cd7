"""Searches with an objective, whole: what they answer, write and go on with."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import enas.costs
import enas.export
import enas.search
import scripts.build
from enas.children.cost import Cost, measure_cost
from enas.configs import ObjectiveConfig, RetrainConfig, ScheduleConfig, SharedConfig
from enas.costs import CostMeter
from enas.data_configs import SplitConfig
from enas.datasets.images import ImageData
from enas.errors import SearchFailed, Stopped
from enas.rewards import FLOOR
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.types import Evaluation
from scripts.build import Run, build_search, derive_answer
from scripts.configuration import parse_search, to_yaml
from scripts.evaluate import parse_evaluate, run_evaluate
from scripts.finish import retrain_and_report
from scripts.search import run_search
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest

CHILD = MacroConfig(num_layers=3, filters=4)
ONE_STEP = ScheduleConfig(controller_steps=1, architectures_per_step=5, candidates=4)
GOAL = ObjectiveConfig(cost="parameters", target=300, exponent=-0.5)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (enas.search, scripts.build):
        monkeypatch.setattr(module, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))
    monkeypatch.setattr(scripts.build, "save_front_picture", lambda front, measured, folder: np.zeros((2, 2, 3), dtype=np.uint8))
    monkeypatch.setattr(enas.export, "save_drawing", lambda graph, path, title: path.touch())


def config_of(objective: ObjectiveConfig, **changes: Any) -> SearchConfig:
    values: dict[str, Any] = {
        "strategy": "evolution",
        "reward": "accuracy" if objective.cost is None else "cost_product",
        "epochs": 2,
        "threads": 1,
        "device": "cpu",
        "child": CHILD,
        "shared": SharedConfig(batch_size=20, valid_batch_size=10, steps_per_epoch=1),
        "schedule": ScheduleConfig(controller_steps=2, architectures_per_step=10, candidates=4),
        "retrain": RetrainConfig(epochs=0),
        "objective": objective,
    }
    return SearchConfig(**{**values, **changes})


def cost_of(tokens: Sequence[int], name: str = "parameters", *, classes: int = 3) -> int:
    return int(getattr(_cost_of(tuple(tokens), classes), name))


@cache
def _cost_of(tokens: tuple[int, ...], classes: int) -> Cost:
    return measure_cost(CHILD, CHILD.make_space().decode(tokens), input_shape=(1, 8, 8), num_classes=classes)


def rows_of(folder: Path, phase: str) -> list[dict[str, Any]]:
    lines = (folder / "architectures.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["phase"] == phase]


@pytest.fixture
def planted(without_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The more weights an architecture has, the more accurate it is: .5 with 100, .6 with 1,000."""
    monkeypatch.setattr(enas.costs, "size_of", lambda _, one, **__: cost_of(CHILD.make_space().encode(one)))

    def evaluate(self: SharedWeights, architectures: Any, **_: Any) -> Evaluation:
        sizes = np.array([cost_of(self.space.encode(one)) for one in architectures], dtype=np.float64)
        accuracy = 0.3 + 0.1 * np.log10(sizes)
        return Evaluation(accuracy=accuracy, loss=-np.log(accuracy), num_examples=30)

    monkeypatch.setattr(SharedWeights, "evaluate", evaluate)
    monkeypatch.setattr(SharedWeights, "evaluate_all", evaluate)


@pytest.fixture
def searched(without_pictures: None, tmp_path: Path, images: ImageData) -> Callable[..., tuple[Any, Path]]:
    def search(objective: ObjectiveConfig, name: str = "run", **changes: Any) -> tuple[Any, Path]:
        folder = tmp_path / name
        with build_search(config_of(objective, **changes), folder, data=images) as run:
            run.search.run()
            return derive_answer(run), folder

    return search


# What is answered.


def test_accuracy_alone_answers_with_a_large_architecture_and_the_objective_with_a_small_one(planted, searched):
    large, _ = searched(ObjectiveConfig(), "accuracy")
    small, folder = searched(GOAL, "product")
    sizes = sorted(row["costs"]["parameters"] for row in rows_of(folder, "controller"))
    assert large.cost.parameters > np.median(sizes)
    assert small.cost.parameters == sizes[0]
    assert large.candidate.valid_accuracy > small.candidate.valid_accuracy
    for answer, name in ((large, "accuracy"), (small, "product")):  # the answer's, not the highest accuracy
        metrics = map(json.loads, (folder.parent / name / "metrics.jsonl").read_text().splitlines())
        assert [row["derive/best"] for row in metrics if "derive/best" in row] == [answer.candidate.valid_accuracy]
    assert small.candidate.reward == pytest.approx(small.candidate.valid_accuracy * (sizes[0] / 300) ** -0.5)


def test_answer_is_within_the_limits_where_any_measured_architecture_is(planted, searched):
    limit = 300  # one uniform architecture in ten is below: a policy's few candidates may all be above
    answer, folder = searched(ObjectiveConfig(max_parameters=limit), strategy="enas", epochs=1)
    within = [row["costs"]["parameters"] <= limit for row in rows_of(folder, "controller")]
    assert 0 < sum(within) < len(within) / 2
    assert answer.cost.parameters <= limit
    assert answer.candidate.within_limits
    for row in rows_of(folder, "controller"):
        assert (row["reward"] == FLOOR) == (row["costs"]["parameters"] > limit)
        assert row["accuracy"] > 0.4
    derived = rows_of(folder, "derive")
    best = max((row for row in derived if row["costs"]["parameters"] <= limit), key=lambda row: row["reward"])
    assert answer.candidate.valid_accuracy == best["accuracy"]


def test_nothing_within_the_limits_is_said_in_report_and_message(without_pictures, tmp_path, images, capsys):
    with build_search(
        config_of(ObjectiveConfig(max_parameters=10), epochs=1, schedule=ONE_STEP), tmp_path / "run", data=images
    ) as run:
        run.search.run()
        answer = derive_answer(run)
        smallest = cost_of(CHILD.make_space().encode(CHILD.make_space().smallest()))
        assert answer.cost.parameters == smallest  # the nearest to the limit, measured or not
        said = "No architecture within the limits was found; the nearest to them, the answer, has "
        said += f"{smallest} of at most 10 parameters."
        with pytest.raises(SearchFailed, match=said):
            retrain_and_report(run, answer, Console(file=io.StringIO()), StopRequest())
        scripts.finish.print_answer(run, answer)
    assert f"Warning: {said}" in (run.folder / "report.md").read_text()
    assert said in " ".join(capsys.readouterr().out.split())


def test_smallest_architecture_that_is_a_candidate_already_is_measured_once(without_pictures, tmp_path, images):
    """With one layer there are six architectures, and all are candidates."""
    config = config_of(
        ObjectiveConfig(max_parameters=10),
        strategy="uniform",
        child=MacroConfig(num_layers=1, filters=4),
        schedule=ScheduleConfig(controller_steps=3, architectures_per_step=10, candidates=8),
    )
    with build_search(config, tmp_path / "run", data=images) as run:
        run.search.run()
        derive_answer(run)
    assert sorted(row["tokens"] for row in rows_of(run.folder, "derive")) == [[index] for index in range(6)]


# What is written, and gone on with.


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search on real digits, from its configuration to its report."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    goal = ObjectiveConfig(cost="flops", target=10_000, exponent=-0.5, max_parameters=10**7, max_latency=1e6, latency_repeats=1)
    config = config_of(goal, run_dir=folder, data="digits", split=SplitConfig(num_train=60, num_valid=30))
    run_search(config, Console(file=io.StringIO()))
    return folder


def test_answer_has_the_highest_reward_on_the_whole_validation_set_and_is_on_the_front(finished):
    derived, answer = rows_of(finished, "derive"), json.loads((finished / "best_architecture.json").read_text())
    (row,) = (row for row in derived if row["tokens"] == answer["tokens"])
    assert row["reward"] == max(row["reward"] for row in derived)
    front = json.loads((finished / "pareto.json").read_text())
    assert front["answer"] == answer["tokens"]
    assert front["answer"] in [row["tokens"] for row in front["front"]]
    assert front["num_measured"] == len(derived) > 4
    points = [(row["costs"]["flops"], row["valid_accuracy"]) for row in front["front"]]
    assert points == sorted(points)
    assert points[-1][1] == max(row["accuracy"] for row in derived)


def test_costs_of_what_was_measured_are_recorded(finished):
    assert not any("costs" in row for row in rows_of(finished, "shared"))
    rows = [*rows_of(finished, "controller"), *rows_of(finished, "derive")]
    for row in rows[::9]:
        assert list(row["costs"]) == ["flops", "latency", "parameters"]
        assert (row["costs"]["flops"], row["costs"]["parameters"]) == tuple(
            cost_of(row["tokens"], name, classes=10) for name in ("flops", "parameters")
        )
        assert row["reward"] == pytest.approx(row["accuracy"] * (row["costs"]["flops"] / 10_000) ** -0.5)
    metrics = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    logged = [line["controller/cost_latency"] for line in metrics if "controller/cost_latency" in line]
    measured = [row["costs"]["latency"] for row in rows_of(finished, "controller")]
    assert logged == pytest.approx([np.mean(measured[:20]), np.mean(measured[20:])])


def test_report_shows_the_front(finished):
    report = (finished / "report.md").read_text()
    assert "## Accuracy against multiply-adds" in report
    assert "| multiply-adds | latency (ms) | parameters | accuracy | reward |  | architecture |" in report
    assert "| answer | `" in report
    assert " ms.\n" in report
    assert (finished / "pareto.svg").exists()
    assert (finished / "pareto.png").exists()


def test_run_with_an_objective_is_evaluated(finished, capsys):
    answer = json.loads((finished / "best_architecture.json").read_text())
    run_evaluate(parse_evaluate(["--run", str(finished), "--architecture", str(finished)]))
    assert f"{answer['valid_accuracy']:.2%}" in capsys.readouterr().out


def test_search_without_an_objective_records_no_costs(searched):
    _, folder = searched(ObjectiveConfig())
    assert not any("costs" in row for phase in ("shared", "controller", "derive") for row in rows_of(folder, phase))
    assert not (folder / "pareto.json").exists()


def tick(rng: np.random.Generator) -> Callable[[], float]:
    """A clock that no two runs read alike."""
    now = 0.0

    def read() -> float:
        nonlocal now
        now += float(rng.exponential(0.01))
        return now

    return read


def test_search_by_latency_goes_on_in_the_same_bits(without_pictures, tmp_path, images, monkeypatch):
    """With one layer there are six architectures: all are timed before the stop, so whoever goes on must not time any."""
    config = config_of(
        ObjectiveConfig(cost="latency", target=5.0, max_latency=1000.0, latency_repeats=3),
        child=MacroConfig(num_layers=1, filters=4),
        strategy="uniform",
    )

    def use_clock(clock: Callable[[], float]) -> None:
        monkeypatch.setattr(scripts.build, "make_meter", lambda shared, goal: CostMeter(shared, goal, clock=clock))

    def finish(folder: Path, config: SearchConfig) -> Run:
        with build_search(config, folder, data=images) as run:
            run.search.run()
            derive_answer(run)
        return run

    use_clock(tick(np.random.default_rng(0)))
    finish(tmp_path / "whole", config)
    use_clock(tick(np.random.default_rng(0)))
    steps = count(1)
    stopped = build_search(config, tmp_path / "stopped", data=images, should_stop=lambda: next(steps) == 4)
    with stopped, pytest.raises(Stopped):
        stopped.search.run()
    assert len({tuple(row["tokens"]) for row in rows_of(tmp_path / "stopped", "controller")}) == 6
    use_clock(lambda: pytest.fail("every architecture has been timed"))
    finish(tmp_path / "stopped", replace(config, resume=tmp_path / "stopped"))
    names = ("architectures.jsonl", "pareto.json", "best_architecture.json")
    for name in names:
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    latencies = {tuple(row["tokens"]): row["costs"]["latency"] for row in rows_of(tmp_path / "whole", "controller")}
    assert len(set(latencies.values())) == 6


def test_candidates_timed_after_the_search_are_timed_once(without_pictures, tmp_path, images, monkeypatch):
    config = config_of(ObjectiveConfig(max_latency=1e6, latency_repeats=1), strategy="enas", epochs=1, schedule=ONE_STEP)
    clocks = [np.random.default_rng(seed) for seed in range(2)]
    folder = tmp_path / "run"
    rows = []
    for resume, clock in zip((None, folder), clocks, strict=True):
        ticking = tick(clock)
        monkeypatch.setattr(scripts.build, "make_meter", lambda shared, goal, c=ticking: CostMeter(shared, goal, clock=c))
        with build_search(replace(config, resume=resume), folder, data=images) as run:
            run.search.run()
            derive_answer(run)
        rows.append(rows_of(folder, "derive"))
    assert rows[0] == rows[1]


# The command line.


def test_flags_and_files_give_the_same_objective(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = "--reward cost_product --objective.cost parameters --objective.target 3e5 --objective.exponent -1e-05 "
    flags += "--objective.max-parameters 1e6"
    config = parse_search([*flags.split(), "--objective.soft", "False", "--objective.max-flops", "12345"])
    expected = {"cost": "parameters", "target": 3e5, "exponent": -1e-5, "soft": False, "max_flops": 12345, "max_parameters": 1e6}
    assert config.objective == ObjectiveConfig(**expected)
    Path("config.yaml").write_text(to_yaml(config, threads=1), encoding="utf-8")
    assert parse_search(["--config", "config.yaml"]).objective == config.objective


def test_file_of_before_there_were_objectives_is_replayed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("preset: quickstart\nreward: accuracy\n", encoding="utf-8")
    config = parse_search(["--config", "config.yaml"])
    assert (config.reward, config.objective) == ("accuracy", ObjectiveConfig())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--reward cost_product", "objective.cost: expected flops, latency, parameters with the reward cost_product"),
        ("--objective.cost flops --objective.target 5", "objective.cost: expected none with the reward accuracy"),
        (
            "--reward cost_product --objective.cost flops",
            "objective: target: expected a number above 0, the flops to aim at, got",
        ),
        ("--objective.target 5", "objective: target: expected None without a cost, got 5.0"),
        ("--objective.exponent 1", "objective: exponent: expected a number below 0, got 1.0"),
        ("--objective.max-parameters 0", "objective: max_parameters: expected a number above 0 or None, got 0"),
        ("--objective.latency-batch 8", "objective: latency_batch: expected 1 where no latency is measured, got 8"),
        (
            "--space nasbench201 --strategy darts --objective.max-parameters 3e5",
            "darts does not fit, --reward: expected accuracy, without limits by --objective.max-*, since it learns from the",
        ),
        (
            "--strategy gaea --controller.gaea.kind sampled --controller.gaea.level single --objective.max-flops 9",
            "gaea does not fit, --reward: expected accuracy, without limits by --objective.max-*, since it learns from acc",
        ),
        (
            "--space nasbench201 --strategy gdas --reward cost_product --objective.cost flops --objective.target 5",
            "gdas does not fit, --reward: expected accuracy, without limits by --objective.max-*, since it learns from the",
        ),
        (
            "--space nasbench201 --strategy darts --shared.paths-per-step 5",
            "darts does not fit, --shared.paths-per-step: expected None, since a mixture trains the shared weights, and no",
        ),
        ("--objective.cost energy", "invalid choice 'energy' for argument '--objective.cost'"),
        ("--reward speed", "invalid choice 'speed' for argument '--reward'"),
    ],
)
def test_mistakes_are_named(flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_search(flags.split())
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert message in " ".join("".join(" " if char in "╭╮╰╯│─" else char for char in text).split())
