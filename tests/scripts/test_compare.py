from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import count, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

import enas.search
import scripts.compare
import scripts.compare_results
from controllers import CONTROLLERS
from enas.compare.trials import TRIAL_FILE, load_trial
from enas.errors import SearchFailed, Stopped
from enas.spaces.nasbench201 import OPERATIONS
from enas.tables import load_table
from scripts.build import Run
from scripts.calibration import Timing, find_steps, time_steps
from scripts.compare import run_compare
from scripts.compare_searches import OUTCOME_FILE, read_fronts, read_history
from scripts.compare_settings import num_measured, parse_compare
from scripts.compare_strategies import REFERENCE
from scripts.compare_trials import TrialTask, TrialWork
from scripts.configuration import load_saved
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest

CODES = np.array(np.unravel_index(np.arange(5**6), (5,) * 6)).T.astype(np.uint8)


def write_table(file: str = "table.npz", **changes: Any) -> None:
    """A table of all cells: each operation is worth something on each edge; a training costs 1 to 2 seconds."""
    rng = np.random.default_rng(0)
    score = rng.random((6, 5))[np.arange(6), CODES].sum(axis=1)
    names = ("cifar10_valid", "cifar10_test", "e12_cifar10_valid", "e12_cifar10_test", "cifar100_test")
    percent = {name: 60 + 5 * score + rng.normal(size=len(CODES)) for name in names}
    columns = {
        **percent,
        "cifar10valid_train_s": (1 + CODES[:, 0] / 4) * 200 / 12,
        "params_m": 0.1 + score / 10,
        "flops_m": score,
        **changes,
    }
    np.savez(file, ops=np.array(OPERATIONS), codes=CODES, **{name: np.float32(values) for name, values in columns.items()})


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))
    write_table()
    return tmp_path


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], str]]:
    """Return a runner of the command, without pictures; it returns `results.json` and standard output."""

    def call(line: str, *, out: str = "out") -> tuple[dict[str, Any], str]:
        output = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", output)
            patch.setattr(scripts.compare_results, "write_pictures", NamedPictures())
            patch.setattr(sys, "argv", ["compare", *line.split(), "--run-dir", out])
            scripts.compare.main()
        return json.loads(Path(out, "results.json").read_text(encoding="utf-8")), output.getvalue()

    return call


class NamedPictures:
    """Stands for what draws pictures."""

    def __call__(self, study: Any, judged: Any, folder: Path) -> Any:
        from enas.compare.document import Picture

        return [Picture(name=name, alt=name, png=b"") for name in ("outcomes", "curves", "pareto-flops", "pareto-parameters")]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Return a runner of a command line that is wrong; it returns the message."""

    def call(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["compare", *line.split()])
        with pytest.raises(SystemExit) as caught:
            scripts.compare.main()
        assert caught.value.code == 2
        return " ".join(capsys.readouterr().err.replace("│", " ").split())

    return call


def parse(line: str) -> Any:
    return parse_compare(line.split())


TABLE = "--table table.npz --workers 1"
SECONDS = f"{TABLE} --budget.kind simulated-seconds --budget.amount 30"


def contents(folder: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob(TRIAL_FILE))}


# What is asked for.


def test_table_makes_its_own_preset_the_default():
    config = parse(TABLE).config
    assert (config.preset, config.space, config.controller.evolution.population) == ("nasbench201-table", "nasbench201", 10)
    assert parse("").config.preset == "quickstart"
    assert parse("").config.retrain.random == 0  # random search is among the strategies
    assert parse("--retrain.random 3").config.retrain.random == 3


def test_variants_have_settings_of_their_own_over_those_of_all():
    found = parse(
        f"{TABLE} --controller.enas.hidden 8 --strategies enas uniform "
        "evo=evolution:controller.evolution.population=7,schedule.architectures-per-step=3 batch=enas:controller.enas.hidden=5"
    ).strategies
    assert list(found) == ["enas", "uniform", "evo", "batch"]
    assert found["evo"].config.controller.evolution.population == 7
    assert found["evo"].config.schedule.architectures_per_step == 3
    assert found["enas"].config.schedule.architectures_per_step == 1
    assert [found[label].config.controller.enas.hidden for label in ("enas", "batch")] == [8, 5]
    assert {label: one.config.strategy for label, one in found.items()} == {
        "enas": "enas",
        "uniform": "uniform",
        "evo": "evolution",
        "batch": "enas",
    }
    assert (found["enas"].own, found["batch"].own) == ("", "controller.enas.hidden 5")


def test_a_setting_of_several_values_keeps_its_commas():
    (strategy,) = parse("--strategies uniform:schedule.controller-steps=12,shared.batch-size=32").strategies.values()
    assert (strategy.config.schedule.controller_steps, strategy.config.shared.batch_size) == (12, 32)


def test_random_search_is_added_first_where_it_is_absent():
    request = parse(f"{TABLE} --strategies enas")
    assert list(request.strategies) == [REFERENCE, "enas"]
    assert request.is_reference_added
    assert not parse(f"{TABLE} --strategies enas uniform:controller.uniform.archive-size=3").is_reference_added


def test_searches_measure_equally_many_architectures_whatever_the_variant():
    line = "--epochs 4 --schedule.warmup-epochs 1 --schedule.controller-steps 6 --schedule.architectures-per-step 4 --strategies"
    variants = f"{line} uniform one=evolution:schedule.architectures-per-step=1 late=enas:schedule.warmup-epochs=2"
    request = parse(variants)
    assert request.budget.amount == 72
    assert {label: num_measured(one.config) for label, one in request.strategies.items()} == {
        "uniform": 72,
        "one": 72,
        "late": 72,
    }
    assert request.strategies["one"].own == "schedule.architectures_per_step 1, schedule.controller_steps 24 (to measure 72)"
    assert num_measured(parse(f"{variants} --budget.amount 24").strategies["late"].config) == 24


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--strategy enas", "--strategy: expected none, since --strategies names all of them"),
        ("--resume=out", "--resume: expected none, since giving the same command again goes on where it stopped"),
        ("--strategies", "--strategies: expected at least one, got none"),
        ("--strategies enass", "--strategies: expected one of categorical,"),
        ("--strategies a/b=enas", "expected a label of letters, digits and . _ + - in 'a/b=enas', got 'a/b'"),
        ("--strategies enas enas", "expected each label once, got enas twice; name one LABEL=NAME:flag=value"),
        ("--strategies uniform=enas", "expected random search under the label uniform, the reference, got enas"),
        ("--strategies enas:", "--strategies: expected flag=value after the colon in 'enas:', got ''"),
        ("--strategies enas:7", "expected flag=value after the colon in 'enas:7', got '7'"),
        ("--strategies enas:no.such=7", "The settings are those of --strategies enas:no.such=7."),
        (
            "--strategies enas:controller.enas.hidden=0",
            "hidden: expected a number above 0, got 0",
        ),
        ("--strategies enas:seed=3", "seed: expected the same for all strategies, since it is part of the benchmark, got 3"),
        ("--strategies enas:split.num-train=9", "split.num_train: expected the same for all strategies"),
        ("--strategies enas:child.filters=3", "child.filters: expected the same for all strategies"),
        (
            f"{TABLE} --strategies enas:paths=uniform",
            "paths: expected only controller.* and schedule.architectures_per_step with --table",
        ),
        ("--seeds 0", "--seeds: expected at least 1, got 0"),
        ("--workers 0", "--workers: expected at least 1, got 0"),
        ("--budget.kind simulated-seconds --budget.amount 9", "--budget.kind: expected architectures or seconds without --table"),
        (
            f"{TABLE} --budget.kind seconds --budget.amount 9",
            "--budget.kind: expected architectures or simulated-seconds with --table",
        ),
        (f"{TABLE} --budget.kind simulated-seconds", "budget.amount: expected a number of simulated-seconds, got none"),
        (
            f"{TABLE} --budget.kind simulated-seconds --budget.amount 1.5",
            "--budget.amount: expected at least 2.0, the seconds of",
        ),
        (
            "--budget.amount 7",
            "--budget.amount: expected a multiple of 300, the architectures of one step in each of its measuring",
        ),
        (f"{TABLE} --paths uniform", "--paths: expected the preset's controller with --table, where nothing is trained"),
        (f"{TABLE} --retrain.epochs 3", "--retrain.epochs: expected the preset's 0 with --table"),
        (f"{TABLE} --shared.batch-size 3", "--shared.batch-size: expected the preset's 128 with --table"),
        (f"{TABLE} --schedule.controller-steps 9", "--schedule.controller-steps: expected the preset's 110 with --table"),
        (f"{TABLE} --warm-start out", "--warm-start: expected the preset's None with --table"),
        (f"{TABLE} --objective.max-latency 3", "--objective: expected flops or parameters with --table, since a table holds no"),
        (f"{TABLE} --objective.max-parameters 5", "--objective: expected hard limits that some cell of the table keeps"),
        ("--table no.npz", "--table: expected a table, .npz or .csv, got no.npz"),
        ("--table cut.npz", "--table: cut.npz: expected an .npz file of plain arrays, got one that cannot be read"),
        (
            "--table part.npz",
            "--table: expected a table of all 15,625 cells, since strategies may propose any, got 50 in part.npz",
        ),
        (
            "--preset quickstart --space nasbench201 --ranking.table part.npz --ranking.num-architectures 5",
            "--ranking.table: expected a table of all 15,625 cells, since strategies may propose any, got 50 in part.npz",
        ),
        (f"{TABLE} --table-data cifar100", "--table, --table-data: data: cifar100: expected"),
        (f"{TABLE} --table-data svhn", "--table, --table-data: data: expected one of cifar10, cifar100"),
        (f"{TABLE} --space macro", "--space: expected nasbench201 with --table, since there are tables of it only, got macro"),
        ("--preset none", "--preset: expected one of enas-macro, enas-micro"),
        ("--data npz:none.npz", "none.npz: expected an .npz file, found nothing there"),
        ("--config none.yaml", "none.yaml: expected a readable configuration file"),
        (f"{TABLE} --run-dir table.npz", "--run-dir: expected a folder, got table.npz"),
        (
            f"{TABLE} --run-dir .",
            "--run-dir: expected a new folder or that of the same comparison, got ., which holds other files",
        ),
    ],
)
def test_mistake_on_the_command_line_is_named_before_anything_is_written(line, message, refused):
    if "table-data cifar100" in line:
        message = "--table, --table-data: "
    if "part.npz" in line:
        write_table("whole.npz")
        with np.load("whole.npz") as whole:
            np.savez("part.npz", **{name: values if name == "ops" else values[:50] for name, values in whole.items()})
    if "cut.npz" in line:
        Path("cut.npz").write_bytes(Path("table.npz").read_bytes()[:1000])
    assert message in refused(line if "--run-dir" in line else f"{line} --run-dir new")
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("darts", "darts, which learns from the gradient of a network's loss, and a table has no network"),
        ("gdas", "gdas, which learns from the gradient"),
        ("gaea:controller.gaea.kind=mixture", "gaea, which learns from the gradient"),
        ("erm=gaea:controller.gaea.level=single", "erm, which learns while shared weights are trained, and a table has none"),
    ],
)
def test_strategies_that_rewards_teach_nothing_are_refused_on_a_table(item, reason, refused):
    message = refused(f"{TABLE} --strategies {item} --run-dir new")
    assert f"--strategies: expected strategies that learn from rewards with --table, got {reason}" in message
    assert not Path("new").exists()


def test_all_other_strategies_run_on_a_table_with_the_presets_settings(compare):
    names = [name for name in CONTROLLERS if name not in ("darts", "gdas")]
    record, _ = compare(f"{TABLE} --strategies {' '.join(names)} --seeds 1 --budget.amount 6")
    assert [one["strategy"] for one in record["outcomes"]] == names
    assert {one["spent"]["architectures"] for one in record["outcomes"]} == {6}


def test_mistakes_do_not_wait_for_pytorch_scipy_or_matplotlib():
    code = (
        "import sys; from scripts.compare import parse_compare; parse_compare(['--table', 'table.npz', '--run-dir', 'new']); "
        "parse_compare([]); print(sorted({'torch', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_help_names_the_settings_of_a_comparison_and_of_a_search(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare", "--help"])
    with pytest.raises(SystemExit) as caught:
        scripts.compare.main()
    assert not caught.value.code
    text = capsys.readouterr().out
    for flag in ("--strategies", "--budget.kind", "--table-epochs {12,200}", "--schedule.controller-steps", "--workers"):
        assert flag in text
    assert "--resume" not in text


# Trials on a table.


def test_trials_are_judged_by_what_answers_reach_alone(compare):
    record, output = compare(f"{SECONDS} --strategies evolution --seeds 3")
    assert record["judged"] == "cifar10 test"
    assert [(one["strategy"], one["seed"]) for one in record["outcomes"]] == [
        (label, seed) for label in ("uniform", "evolution") for seed in range(3)
    ]
    table = load_table(Path("table.npz"))
    for one in record["outcomes"]:
        trial = load_trial(Path("out", one["strategy"], f"seed-{one['seed']}"))
        rows = table.rows_of(trial.tokens)
        rewards = table.accuracy("cifar10", "valid", epochs=12)[rows]
        assert trial.rewards.tolist() == rewards.tolist()
        np.testing.assert_allclose(trial.seconds, table.train_seconds("cifar10")[rows].cumsum())
        assert 28 < trial.seconds[-1] <= 30
        assert one["measures"]["cifar10 test"] == table.accuracy("cifar10", "test")[rows[rewards.argmax()]]
    assert "evolution beats random:" in output
    assert "out/report.html" in output


def test_reward_may_be_the_long_trainings_and_the_budget_architectures(compare):
    compare(f"{TABLE} --strategies uniform --seeds 1 --budget.amount 7 --table-epochs 200")
    trial = load_trial(Path("out/uniform/seed-0"))
    table = load_table(Path("table.npz"))
    assert trial.rewards.tolist() == table.accuracy("cifar10", "valid")[table.rows_of(trial.tokens)].tolist()
    assert len(trial.rewards) == 7


def test_rewards_on_a_table_are_those_that_were_asked_for(compare):
    line = f"{TABLE} --strategies evolution --seeds 1 --budget.amount 9"
    goal = "--reward cost_product --objective.cost flops --objective.target 2e6 --objective.exponent -0.5"
    compare(f"{line} {goal}")
    trial, table = load_trial(Path("out/evolution/seed-0")), load_table(Path("table.npz"))
    rows = table.rows_of(trial.tokens)
    accuracies = table.accuracy("cifar10", "valid", epochs=12)[rows]
    assert trial.accuracies.tolist() == accuracies.tolist()
    np.testing.assert_allclose(trial.rewards, accuracies * (table.flops[rows] / 2e6) ** -0.5)
    assert "accuracy * (flops / 2,000,000)^-0.5. Strategies are judged by accuracy" in Path("out/report.md").read_text()
    compare(f"{line} --seed 3", out="plain")
    assert np.array_equal(load_trial(Path("plain/uniform/seed-3")).rewards, load_trial(Path("plain/uniform/seed-3")).accuracies)


def test_run_without_an_answer_within_the_limits_counts_as_failed(compare):
    table = load_table(Path("table.npz"))
    limit = int(np.sort(table.parameters)[len(CODES) // 3])
    line = f"{TABLE} --strategies evolution --seeds 6 --budget.amount 2 --objective.max-parameters {limit}"
    record, output = compare(line)
    kept = {f"{one['strategy']}, seed {one['seed']}" for one in record["outcomes"]}
    for label in ("uniform", "evolution"):
        for seed in range(6):
            rows = table.rows_of(load_trial(Path("out", label, f"seed-{seed}")).tokens)
            assert (f"{label}, seed {seed}" in kept) == (table.parameters[rows] <= limit).any()
    assert set(record["failures"].values()) == {"nothing within the hard limits was found"}
    assert len(kept) + len(record["failures"]) == 12
    num_failed = sum(name.startswith("evolution") for name in record["failures"])
    assert num_failed
    assert f"evolution beats random: not shown: {num_failed} of 6 runs failed" in output
    best = table.accuracy("cifar10", "test")[table.parameters <= limit].max()
    assert f"the best there is reaches {best:.2%}" in Path("out/report.md").read_text(encoding="utf-8")


def test_test_accuracies_play_no_part_in_a_trial(compare):
    line = f"{SECONDS} --strategies evolution enas --seeds 1"
    first, _ = compare(line)
    shuffled = np.random.default_rng(5).uniform(20, 90, len(CODES))
    write_table(cifar10_test=shuffled, e12_cifar10_test=shuffled[::-1], cifar100_test=shuffled)
    second, _ = compare(line, out="other")
    assert contents("out") == contents("other")
    assert first["outcomes"][0]["measures"]["cifar10 test"] != second["outcomes"][0]["measures"]["cifar10 test"]
    write_table(e12_cifar10_valid=shuffled)
    compare(line, out="third")
    assert contents("third") != contents("out")  # the comparison sees what does play a part


def test_trials_follow_from_what_a_process_of_its_own_is_given(compare):
    compare(f"{SECONDS} --strategies evolution --seeds 2")
    request = parse(f"{SECONDS} --strategies evolution --seeds 2 --run-dir out")
    assert request.digest is not None
    work = TrialWork(
        table=Path("table.npz"), digest=request.digest, data="cifar10", epochs=12, budget=request.budget, out=Path("again")
    )
    for label, strategy in request.strategies.items():
        sent = pickle.loads(pickle.dumps((work, TrialTask(label=label, config=strategy.config, seeds=(1, 0)))))
        assert sent[0](sent[1], StopRequest()) == 2
    assert contents("again") == contents("out")


@pytest.mark.thorough
def test_same_trials_whatever_the_number_of_processes(compare):
    line = f"{SECONDS} --strategies evolution --seeds 12".replace("--workers 1", "")
    alone, _ = compare(f"{line} --workers 1")
    spread, _ = compare(f"{line} --workers 2", out="spread")
    assert contents("out") == contents("spread")
    assert len(contents("out")) == 24
    assert alone["outcomes"] == spread["outcomes"]


def test_more_seeds_and_strategies_are_added_to_what_is_there(compare):
    compare(f"{SECONDS} --strategies uniform --seeds 2")
    times = {path: path.stat().st_mtime_ns for path in Path("out").rglob(TRIAL_FILE)}
    record, _ = compare(f"{SECONDS} --strategies uniform evolution --seeds 3")
    assert len(record["outcomes"]) == 6
    assert {path: path.stat().st_mtime_ns for path in times} == times
    compare(f"{SECONDS} --strategies evolution uniform --seeds 3", out="at-once")
    assert contents("at-once") == contents("out")


def test_other_settings_for_the_same_folder_are_named(compare, refused):
    compare(f"{SECONDS} --strategies evolution --seeds 2")
    for changes, message in (
        ("--strategies evolution --seeds 1", "--seeds: expected at least 2, as in out/compare.yaml, got 1"),
        ("--strategies uniform --seeds 2", "--strategies: expected evolution among them, as in out/compare.yaml, got uniform"),
        ("--strategies evolution --budget.amount 31", "--run-dir: expected compare.budget.amount 30.0, as in out/compare.yaml"),
        ("--strategies evolution --seed 1", "expected compare.first_seed 0, as in out/compare.yaml, got 1"),
        (
            "--strategies evolution:controller.evolution.population=9",
            "expected strategies.evolution.controller.evolution.population 10, as in out/compare.yaml, got 9",
        ),
    ):
        assert message in refused(f"{SECONDS} {changes} --run-dir out")
    shutil.move("table.npz", "moved.npz")
    compare(f"{SECONDS} --strategies evolution --seeds 2 --table moved.npz")
    write_table(cifar10_test=np.full(len(CODES), 50.0))
    assert "expected compare.table_sha256" in refused(f"{SECONDS} --strategies evolution --seeds 2 --run-dir out")


def test_stopped_command_keeps_what_is_finished_and_goes_on(compare):
    line = f"{SECONDS} --strategies evolution --seeds 3"
    stop: Any = StopAfter(lambda: len(contents("out")) >= 2)
    with pytest.raises(Stopped, match="stopped, what is finished is kept"):
        run_compare(parse(f"{line} --run-dir out"), Console(file=io.StringIO()), stop)
    assert stop.hint == "go on with the same command"
    assert len(contents("out")) == 2
    record, _ = compare(line)
    undisturbed, _ = compare(line, out="undisturbed")
    assert {**record, "command": ""} == {**undisturbed, "command": ""}


class StopAfter:
    """Asks to stop once something is so."""

    def __init__(self, is_so: Callable[[], bool]) -> None:
        self._is_so = is_so
        self.hint = ""

    def __call__(self) -> bool:
        return self._is_so()

    def deferred(self) -> Any:
        return nullcontext()


def test_damaged_trial_is_named(compare, refused):
    compare(f"{SECONDS} --strategies uniform --seeds 1")
    Path("out/uniform/seed-0", TRIAL_FILE).write_text("{")
    message = refused(f"{SECONDS} --strategies uniform --seeds 1 --run-dir out")
    assert "out/uniform/seed-0/trial.json: expected a trial" in message
    Path("out/uniform/seed-0", TRIAL_FILE).write_text('{"tokens": [[0, 0, 0, 0, 0, 9]], "rewards": [1], "seconds": [1]}')
    message = refused(f"{SECONDS} --strategies uniform --seeds 1 --run-dir out")
    assert "out/uniform/seed-0/trial.json: cells: expected numbers in 0..4" in message


def test_command_is_written_down(compare):
    line = f"{SECONDS} --strategies uniform --seeds 1"
    record, _ = compare(line)
    expected = f"python3 scripts/run.py compare {line} --run-dir out"
    assert record["command"] == expected
    assert yaml.safe_load(Path("out/compare.yaml").read_text())["compare"]["command"] == expected
    assert f"The command: `{expected}`." in Path("out/report.md").read_text(encoding="utf-8")


# Searches with shared weights.

SMALL = (
    "--epochs 2 --threads 1 --device cpu --child.num-layers 2 --child.filters 2 --shared.batch-size 32 "
    "--shared.valid-batch-size 40 --shared.steps-per-epoch 2 --schedule.controller-steps 2 "
    "--schedule.architectures-per-step 2 --schedule.candidates 2 --split.num-train 100 --split.num-valid 50 "
    "--retrain.epochs 1 --retrain.batch-size 50 --retrain.seeds 1"
)


def test_searches_are_judged_by_training_from_scratch_and_finished_ones_are_not_made_again(compare, monkeypatch):
    line = f"{SMALL} --strategies rs-ws=uniform:paths=uniform --seeds 1"
    record, output = compare(line)
    assert (record["judged"], record["is_proxy"]) == ("test accuracy from scratch", False)
    assert [(one["strategy"], one["seed"]) for one in record["outcomes"]] == [
        ("uniform", 0),
        ("rs-ws", 0),
    ]
    for one in record["outcomes"]:
        folder = Path("out", one["strategy"], f"seed-{one['seed']}")
        result = json.loads((folder / "retrain/searched-0/result.json").read_text())
        assert one["measures"]["test accuracy from scratch"] == result["result"]["test_accuracy"]
        assert (one["spent"]["architectures"], one["spent"]["training steps"]) == (8, 4)
        saved = load_saved(folder)
        assert (saved.seed, saved.paths) == (one["seed"], "uniform" if one["strategy"] == "rs-ws" else "controller")
    assert "rs-ws beats random:" in output
    monkeypatch.setattr(scripts.compare_searches, "build_search", None)
    assert compare(line)[0] == record


def test_without_training_from_scratch_the_outcome_is_called_a_proxy(compare):
    record, _ = compare(f"{SMALL} --retrain.epochs 0 --strategies uniform --seeds 1")
    assert (record["judged"], record["is_proxy"]) == ("shared-weight validation accuracy", True)
    assert "**A proxy**" in Path("out/report.md").read_text(encoding="utf-8")


def test_with_a_table_answers_are_looked_up(compare, refused):
    line = SMALL.replace("--child.num-layers 2", "--child.cells-per-stage 1").replace("--retrain.epochs 1", "--retrain.epochs 0")
    record, _ = compare(
        f"{line} --space nasbench201 --ranking.table table.npz --ranking.num-architectures 2 --ranking.num-images 10 "
        "--strategies uniform --seeds 1"
    )
    (one,) = record["outcomes"]
    table, tokens = (
        load_table(Path("table.npz")),
        json.loads(Path("out/uniform/seed-0/best_architecture.json").read_text())["tokens"],
    )
    (row,) = table.rows_of(np.array([tokens]))
    assert (record["judged"], record["is_proxy"]) == ("cifar10 test", False)
    assert one["measures"]["cifar10 test"] == table.accuracy("cifar10", "test")[row]
    history = read_history(Path("out/uniform/seed-0"), table, data="cifar10")
    rows = [json.loads(text) for text in Path("out/uniform/seed-0/architectures.jsonl").read_text().splitlines()]
    measured = [entry for entry in rows if entry["phase"] == "controller"]
    assert history.rewards.tolist() == [entry["reward"] for entry in measured]
    assert history.truths is not None
    assert (
        history.truths.tolist()
        == table.accuracy("cifar10", "test")[table.rows_of(np.array([r["tokens"] for r in measured]))].tolist()
    )
    assert (np.diff(history.seconds) >= 0).all()
    assert 0 < history.seconds[0] <= history.seconds[-1] <= one["spent"]["seconds of search"] + 0.1
    again = (
        f"{line} --space nasbench201 --ranking.table table.npz --ranking.num-architectures 2 --ranking.num-images 10 "
        "--strategies uniform --seeds 1 --run-dir out"
    )
    write_table(cifar10_test=np.full(len(CODES), 50.0))
    assert "expected compare.ranking_table_sha256" in refused(again)
    write_table()
    assert "expected strategies.uniform.data_dir data" in refused(f"{again} --data-dir elsewhere")


@pytest.mark.thorough
def test_stopped_search_goes_on_in_the_same_bits(compare):
    line = f"{SMALL} --retrain.epochs 0 --strategies uniform --seeds 1 --schedule.checkpoint-minutes 0"
    asked = count()
    with pytest.raises(Stopped, match="stopped in epoch"):
        run_compare(parse(f"{line} --run-dir out"), Console(file=io.StringIO()), StopAfter(lambda: next(asked) >= 4))  # type: ignore[arg-type]
    assert not Path("out/uniform/seed-0", OUTCOME_FILE).exists()
    record, _ = compare(line)
    undisturbed, _ = compare(line, out="undisturbed")
    assert record["outcomes"][0]["measures"] == undisturbed["outcomes"][0]["measures"]
    paths = [Path(folder, "uniform/seed-0/architectures.jsonl") for folder in ("out", "undisturbed")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_failed_run_is_left_out_and_told(compare, monkeypatch):
    build = scripts.compare_searches.build_search

    def fail(config: SearchConfig, folder: Path, **options: Any) -> Any:
        if config.strategy == "evolution":
            folder.mkdir(parents=True)
            raise SearchFailed("no finite loss")
        return build(config, folder, **options)

    monkeypatch.setattr(scripts.compare_searches, "build_search", fail)
    record, _ = compare(f"{SMALL} --retrain.epochs 0 --strategies evolution --seeds 1")
    assert record["failures"] == {"evolution, seed 0": "no finite loss"}
    assert list(record["statistics"]["shared-weight validation accuracy"]["summaries"]) == ["uniform"]
    assert "1 run failed" in Path("out/report.md").read_text(encoding="utf-8")
    assert "**evolution beats random: not shown: 1 of 1 runs failed**" in Path("out/report.md").read_text(encoding="utf-8")


def test_answers_over_a_limit_and_fronts_are_read_from_the_runs(compare, monkeypatch):
    line = f"{SMALL} --retrain.epochs 0 --strategies evolution --seeds 1"
    derive = scripts.compare_searches.derive_answer

    def over(run: Any) -> Any:
        answer = derive(run)
        is_over = run.config.strategy == "evolution"
        return replace(answer, candidate=replace(answer.candidate, excess=2.0)) if is_over else answer

    monkeypatch.setattr(scripts.compare_searches, "derive_answer", over)
    record, _ = compare(f"{line} --objective.max-flops 1000000000")
    assert list(record["failures"]) == ["evolution, seed 0"]
    assert record["failures"]["evolution, seed 0"].startswith("No architecture within the limits was found")
    front = read_fronts(Path("out/uniform/seed-0"))
    rows = json.loads(Path("out/uniform/seed-0/pareto.json").read_text(encoding="utf-8"))["front"]
    assert list(front) == ["flops"]
    best = {row["costs"]["flops"]: row["valid_accuracy"] for row in rows}
    assert dict(zip(*map(np.ndarray.tolist, front["flops"]), strict=True)) == best
    assert read_fronts(Path("out")) == {}
    assert "## Accuracy against cost" in Path("out/report.md").read_text(encoding="utf-8")
    Path("out/uniform/seed-0/pareto.json").write_text("{")
    with pytest.raises(ValueError, match=r"pareto\.json: expected the front of a search"):
        read_fronts(Path("out/uniform/seed-0"))


def test_accuracy_of_what_failed_is_not_known(tmp_path):
    rows = [{"phase": "controller", "step": step, "tokens": [0], "reward": 0.0, "accuracy": 0.1} for step in (1, 2)]
    rows[1]["failure"] = "loss"
    (tmp_path / "architectures.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "time": 8.0}\n')
    history = read_history(tmp_path, None, data="cifar10")
    np.testing.assert_array_equal(history.values, [0.1, np.nan])


@pytest.mark.parametrize(
    ("flags", "threads"), [("--workers 2", 3), ("--workers 5", 1), ("--workers 2 --threads 4", 4), ("", None)]
)
def test_workers_share_the_cores(flags, threads, monkeypatch):
    monkeypatch.setattr(scripts.compare_searches, "num_cores", lambda: 6)
    works = []
    monkeypatch.setattr(scripts.compare_searches, "run_all", lambda work, tasks, **options: works.append((work, tasks)))
    monkeypatch.setattr(scripts.compare_searches, "_study", lambda request, strategies: None)
    request = parse(f"{SMALL.replace('--threads 1', '')} --preset enas-macro --data digits {flags} --run-dir out")
    scripts.compare_searches.compare_searches(request, Console(file=io.StringIO()), StopRequest())
    ((work, tasks),) = works
    assert {task.config.threads or work.threads for task in tasks} == {threads}


# A budget of seconds.


def test_steps_fill_the_seconds_by_what_a_step_of_each_kind_takes():
    line = f"{SMALL} --epochs 3 --shared.steps-per-epoch 20 --schedule.warmup-epochs 1 --strategies uniform"
    config = parse(line).strategies["uniform"].config
    timings = [Timing(shared_steps=20, warming=0.01, training=slow, measuring=0.05, watching=9.0) for slow in (0.02, 0.04)]
    # 20 steps of .01 s and twice 20 of .03 s, and twice 2 updates of .05 s: 1.6 s; ten times as many of both fill 16 s.
    found = find_steps(config, timings, 16.0, label="uniform")
    assert (found["shared.steps_per_epoch"], found["schedule.controller_steps"]) == (200, 20)
    with pytest.raises(
        ValueError, match=r"--budget\.amount: expected enough seconds for a step of uniform in each epoch, got 0\.1"
    ):
        find_steps(config, timings, 0.1, label="uniform")


def test_looks_at_the_ranking_leave_less_for_steps():
    line = f"{SMALL} --epochs 4 --shared.steps-per-epoch 20 --ranking.every-epochs 2 --strategies uniform"
    config = parse(line).strategies["uniform"].config
    timing = Timing(shared_steps=20, warming=0.0, training=0.01, measuring=0.0, watching=1.5)
    assert find_steps(config, [timing], 7.0, label="uniform")["shared.steps_per_epoch"] == 100  # (7 - 2 * 1.5) / (4 * .01)


def test_steps_of_all_strategies_are_timed_in_turns(monkeypatch):
    import scripts.calibration

    order: list[tuple[str, bool]] = []
    train = scripts.calibration._train

    def noted(run: Run, *, learns: bool) -> None:
        order.append((run.config.strategy, learns))
        train(run, learns=learns)

    monkeypatch.setattr(scripts.calibration, "_train", noted)
    line = f"{SMALL} --schedule.warmup-epochs 1 --strategies uniform evolution"
    configs = [one.config for one in parse(line).strategies.values()]
    timings = time_steps(configs, StopRequest())
    assert all(min(one.warming, one.training, one.measuring) > 0 for one in timings)
    kinds = [kind for kind, _ in groupby(order)]
    expected = [("uniform", False), ("uniform", True), ("evolution", False), ("evolution", True)]
    assert kinds == expected * (len(kinds) // 4)
    assert len(kinds) > 4


def test_steps_that_were_found_are_the_runs_own(compare, monkeypatch, capsys):
    import scripts.calibration

    found = {"shared.steps_per_epoch": 3, "schedule.controller_steps": 1}
    monkeypatch.setattr(scripts.calibration, "find_steps", lambda config, timings, seconds, label: found)
    line = f"{SMALL} --retrain.epochs 0 --strategies uniform --budget.kind seconds --budget.amount 5"
    record, _ = compare(f"{line} --seeds 1")
    monkeypatch.setattr(scripts.calibration, "time_steps", None)  # a second call asks the file
    assert compare(f"{line} --seeds 1")[0] == record
    with pytest.raises(SystemExit) as ended:
        compare(f"{line} --seeds 1 --workers 2")
    assert ended.value.code == 2
    assert "steps.json: expected steps that were timed with workers 2, got 1; delete the file" in capsys.readouterr().err
    saved = load_saved(Path("out/uniform/seed-0"))
    assert (saved.shared.steps_per_epoch, saved.schedule.controller_steps) == (3, 1)
    assert record["outcomes"][0]["spent"]["training steps"] == 6
    assert "Steps were timed beforehand" in Path("out/report.md").read_text(encoding="utf-8")
    assert yaml.safe_load(Path("out/compare.yaml").read_text())["compare"]["budget"] == {"kind": "seconds", "amount": 5.0}
