from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

import enas.search
import scripts.rank
import scripts.rank_runs
from enas.checkpoint import read_checkpoint, save_checkpoint
from enas.configs import RetrainConfig, ScheduleConfig, SharedConfig
from enas.data_configs import SplitConfig
from enas.datasets import load_data
from enas.errors import Stopped, TrainingFailed
from enas.retrain import Retraining
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.spaces.nasbench201 import OPERATIONS, NasBench201Config
from scripts.build import build_search
from scripts.configuration import CONFIG_FILE
from scripts.presets import quickstart
from scripts.rank import parse_rank, run_rank
from scripts.search_config import SearchConfig
from scripts.weights import restore_shared_weights


def config_of(space: str) -> SearchConfig:
    return replace(
        quickstart(),
        space=space,
        epochs=1,
        threads=1,
        device="cpu",
        paths="uniform",
        child=MacroConfig(num_layers=2, filters=2) if space == "macro" else NasBench201Config(filters=2, cells_per_stage=1),
        shared=SharedConfig(batch_size=32, valid_batch_size=40, batch_norm="batch"),
        schedule=ScheduleConfig(controller_steps=1, architectures_per_step=2, candidates=2),
        split=SplitConfig(num_train=100, num_valid=50),
        retrain=RetrainConfig(epochs=1, batch_size=50),
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with finished searches: cells, cells of another seed, macro."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))
        for name, space, seed in (("cells", "nasbench201", 0), ("other", "nasbench201", 1), ("macro", "macro", 0)):
            with build_search(replace(config_of(space), seed=seed), folder / name) as run:
                run.search.run()
    return folder


@pytest.fixture
def runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies that a test may change, named from where it stands, and a table of all cells, of one data set."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    codes = np.array(np.unravel_index(np.arange(5**6), (5,) * 6)).T.astype(np.uint8)
    percent = np.random.default_rng(0).uniform(10, 95, (2, 5**6))
    np.savez("table.npz", ops=np.array(OPERATIONS), codes=codes, cifar10_valid=percent[0], cifar10_test=percent[1])
    return tmp_path


@pytest.fixture
def rank(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], str]]:
    """Return a runner of the command, without pictures unless asked; it returns `rank.json` and standard output."""

    def call(line: str, *, out: str = "out", has_picture: bool = False) -> tuple[dict[str, Any], str]:
        output = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", output)
            if not has_picture:
                patch.setattr(scripts.rank_runs, "save_ranks", lambda panels, path, **names: None)
            patch.setattr(sys, "argv", ["rank", *line.split(), "--out", out])
            scripts.rank.main()
        return json.loads(Path(out, "rank.json").read_text(encoding="utf-8")), output.getvalue()

    return call


TABLE, FEW = (f"--truth table.npz --num-architectures {num}" for num in (12, 4))


def columns(record: dict[str, Any], name: str) -> Any:
    return np.array([row[name] for row in record["architectures"]], dtype=float).T


# What is measured.


def test_scores_are_those_of_the_runs_weights_on_its_whole_validation_split(rank):
    record, _ = rank(f"--runs cells other {TABLE}")
    tokens = [row["tokens"] for row in record["architectures"]]
    assert len({tuple(row) for row in tokens}) == 12
    for number, name in enumerate(("cells", "other")):
        config = config_of("nasbench201")
        data = load_data("digits", data_dir=Path("data"), num_train=100, num_valid=50)
        shared = restore_shared_weights(config, read_checkpoint(Path(name)) or {}, data, split="valid")
        expected = shared.evaluate_all([shared.space.decode(row) for row in tokens])
        assert columns(record, "accuracy")[number].tolist() == expected.accuracy.tolist()
        np.testing.assert_allclose(columns(record, "loss")[number], expected.loss, rtol=1e-6)
        assert record["runs"][number]["images"] == 50


def test_truth_is_the_tables_and_tau_is_scipys(rank):
    record, output = rank(f"--runs cells {TABLE}")
    rows = [int(np.ravel_multi_index(row["tokens"], (5,) * 6)) for row in record["architectures"]]
    (truths,), (accuracy,), (loss,) = (columns(record, name) for name in ("truth", "accuracy", "loss"))
    with np.load("table.npz") as table:
        np.testing.assert_allclose(truths, table["cifar10_test"][rows] / 100, rtol=1e-6)
        valid = parse_rank(f"--runs cells {TABLE} --split valid --out new".split()).truths
        np.testing.assert_allclose(valid, table["cifar10_valid"][rows] / 100, rtol=1e-6)
    (run,) = record["runs"]
    assert run["by_accuracy"]["tau"] == pytest.approx(stats.kendalltau(accuracy, truths).statistic)
    assert run["by_loss"]["tau"] == pytest.approx(stats.kendalltau(-loss, truths).statistic)
    assert (run["run"], run["paths"], run["epoch"]) == ("cells", "uniform", 1)
    assert f"{run['by_accuracy']['tau']:.2f} (" in output
    assert "cifar10 test accuracy in the table" in output


def test_same_architectures_are_scored_whatever_the_runs(runs):
    lines = [f"--runs {names} {TABLE} --out out" for names in ("cells", "other", "other cells", "cells --seed 1")]
    first, *same, other_seed = [parse_rank(line.split()).tokens.tolist() for line in lines]
    assert same == [first, first]
    assert first != other_seed
    assert len({tuple(row) for row in first}) == 12


def test_fewer_images_are_a_part_of_the_validation_split(rank):
    record, _ = rank(f"--runs cells {FEW} --images 20")
    assert record["runs"][0]["images"] == 20
    assert set(columns(record, "accuracy")[0] * 20) <= set(range(21))


def test_report_and_pictures_are_written(rank):
    _, output = rank(f"--runs cells {TABLE}", has_picture=True)
    report = Path("out/report.md").read_text(encoding="utf-8")
    assert "| op | nor_conv_3x3 |" in report
    assert "| edge_0_1 |" in report
    assert {"scatter.png", "scatter.svg"} <= {path.name for path in Path("out").iterdir()}
    assert "cells, paths: uniform" in Path("out/scatter.svg").read_text(encoding="utf-8")
    assert "out/report.md" in output


@pytest.mark.slow
def test_truth_may_be_trained_and_runs_of_the_same_recipe_share_the_trainings(rank):
    shutil.copytree("macro", "again")
    record, output = rank("--runs macro again --truth retrain --num-architectures 3")
    results = [json.loads(Path(f"out/retrain-1/architecture-{index}/result.json").read_text()) for index in range(3)]
    truths = columns(record, "truth")
    assert truths.tolist() == [[result["result"]["test_accuracy"] for result in results]] * 2
    assert [result["architecture"] for result in results] == [
        MacroConfig(num_layers=2).make_space().decode(row["tokens"]).to_json() for row in record["architectures"]
    ]
    assert len({result["result"]["seed"] for result in results}) == 3
    assert not Path("out/retrain-2").exists()
    assert "no interval" in output
    before = Path("out/retrain-1/architecture-0/result.json").stat().st_mtime_ns
    rank("--runs macro again --truth retrain --num-architectures 3 --score loss")
    assert Path("out/retrain-1/architecture-0/result.json").stat().st_mtime_ns == before


# Going on, and reading only.


def test_stopped_command_goes_on_and_gives_what_an_undisturbed_one_does(rank, monkeypatch):
    line = f"--runs cells other {FEW}"
    measured = []
    evaluate_all = SharedWeights.evaluate_all

    def spy(self: SharedWeights, architectures: Any, **options: Any) -> Any:
        measured.append(len(architectures))
        return evaluate_all(self, architectures, **options)

    monkeypatch.setattr(SharedWeights, "evaluate_all", spy)
    stop: Any = StopAfter(measured, 5)
    with pytest.raises(Stopped, match="stopped after 1 of 4 architectures of other, which are kept"):
        run_rank(parse_rank([*line.split(), "--out", "out"]), quiet(), stop)
    assert stop.hint == "go on with the same command"
    resumed, _ = rank(line)
    assert len(measured) == 8
    assert rank(line, out="undisturbed")[0] == resumed


class StopAfter:
    """Asks to stop once so many measurements were made."""

    def __init__(self, measured: list[int], count: int) -> None:
        self._measured, self._count = measured, count
        self.hint = ""

    def __call__(self) -> bool:
        return len(self._measured) >= self._count

    def deferred(self) -> Any:
        return nullcontext()


def quiet() -> Any:
    return Console(file=io.StringIO())


def test_other_score_of_the_same_folder_measures_nothing_again(rank, monkeypatch):
    by_accuracy, _ = rank(f"--runs cells {FEW}")
    monkeypatch.setattr(SharedWeights, "evaluate_all", None)
    by_loss, output = rank(f"--runs cells {FEW} --score loss")
    assert by_loss["architectures"] == by_accuracy["architectures"]
    assert "tau by accuracy" in output


def test_runs_are_only_read(rank):
    def contents() -> dict[Path, tuple[bytes, int]]:
        paths = [Path("cells"), *Path("cells").rglob("*")]
        return {path: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns) for path in paths}

    before = contents()
    rank(f"--runs cells {FEW}")
    assert contents() == before


# Mistakes.


@pytest.mark.usefixtures("without_bfloat16")
def test_run_in_half_precision_is_warned_of_on_a_processor_without_it(runs, rank):
    file = runs / "cells" / CONFIG_FILE
    file.write_text(file.read_text().replace("precision: fp32", "precision: bf16"))
    with pytest.warns(RuntimeWarning, match="^precision bf16: this processor"):
        rank("--runs cells --truth table.npz --num-architectures 5")


@pytest.fixture
def refused(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Return a runner of a command line that is wrong; it returns the message."""

    def call(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["rank", *line.split()])
        with pytest.raises(SystemExit) as caught:
            scripts.rank.main()
        assert caught.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    return call


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--runs missing --truth table.npz", "--runs: expected the folder of a run with a config.yaml, got missing"),
        ("--runs cells macro --truth retrain --retrain-epochs 1", "--runs: expected runs of the same space as cells, got macro"),
        ("--runs macro --truth table.npz", "--truth: expected retrain, since there are tables of nasbench201 only, not of macro"),
        ("--runs cells --truth none.npz", "--truth: none.npz: expected a table, .npz or .csv, found nothing there"),
        ("--runs cells --truth table.npz --data cifar100", "--data, --split: data: expected one of cifar10 as in table.npz"),
        ("--runs cells --truth retrain --split valid", "--split: expected test with --truth retrain, got valid"),
        (
            "--runs macro --truth retrain --data cifar100",
            "--data: expected none with --truth retrain, which takes each run's own data, got cifar100",
        ),
        ("--runs cells --truth retrain --retrain-epochs 0", "--retrain-epochs: expected at least 1, got 0"),
        ("--runs cells --truth table.npz --retrain-epochs 3", "--retrain-epochs: expected none with a table, got 3"),
        ("--runs cells --truth table.npz --num-architectures 1", "--num-architectures: expected at least 2, got 1"),
        (
            "--runs cells --truth table.npz --num-architectures 15626",
            "--num-architectures: nasbench201: expected at most its 15625",
        ),
        ("--runs cells --truth table.npz --images 51", "--images: expected at most 50, the validation images of cells, got 51"),
        ("--runs cells --truth table.npz --images 0", "--images: expected at least 1, got 0"),
        ("--runs cells --truth table.npz --seed -1", "--seed: expected at least 0, got -1"),
        ("--runs cells --truth table.npz --out cells/x", "--out: expected a folder outside the runs', which are only read"),
        ("--runs cells --truth table.npz --out table.npz", "--out: expected a folder, got table.npz"),
        ("--runs cells --truth table.npz --out macro", "--out: expected a new folder or that of the same command, got macro"),
        ("--runs --truth table.npz", "--runs: expected at least one folder, got none"),
        ("--truth table.npz", "--runs"),
    ],
)
def test_mistake_on_the_command_line_is_named(line, message, refused):
    assert message in refused(line if "--out" in line else f"{line} --out new")
    assert not Path("new").exists()


def test_other_arguments_for_the_same_folder_and_weights_that_have_gone_on_are_named(rank, refused):
    rank(f"--runs cells {FEW}")
    for flags, message in (
        ("--seed 1", "--out: expected seed 0, as in out/rank.yaml, got 1; choose another folder"),
        ("--images 30", "--out: expected images None, as in out/rank.yaml, got 30"),
        ("--runs cells other", "--out: expected runs ['cells'], as in out/rank.yaml, got ['cells', 'other']"),
    ):
        assert message in refused(f"--runs cells {FEW} {flags} --out out")
    state = read_checkpoint(Path("cells"))
    assert state is not None
    state["position"]["epoch"] = 2
    save_checkpoint(Path("cells"), state)
    assert "scores-1.jsonl: expected scores of" in refused(f"--runs cells {FEW} --out out")


def test_other_run_in_the_same_folder_is_not_given_the_scores_of_the_one_before(rank, refused):
    """Another seed ends with the same numbers of epochs and architectures."""
    rank(f"--runs cells {FEW}")
    shutil.rmtree("cells")
    shutil.copytree("other", "cells")
    message = refused(f"--runs cells {FEW} --out out")
    assert "out/scores-1.jsonl: expected scores of" in message
    assert "choose another --out" in message


def test_data_set_of_the_table_is_cifar10_given_or_not(rank):
    record, _ = rank(f"--runs cells {FEW}")
    assert (record["data"], record["runs"][0]["data"]) == ("cifar10", "digits")
    assert rank(f"--runs cells {FEW} --data cifar10")[0] == record


# Trainings from scratch.


RETRAIN = "--runs macro --truth retrain --num-architectures 2"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings that end at once, in a folder each; returns the names of those that were made."""
    names: list[str] = []

    def train_truths(recipe: Any, tokens: Any, folder: Path, console: Any, **options: Any) -> Any:
        for index in range(len(tokens)):
            (folder / f"architecture-{index}").mkdir(exist_ok=True)
        names.append(folder.name)
        return np.arange(1.0, 1 + len(tokens)) / 10

    monkeypatch.setattr(scripts.rank_runs, "train_truths", train_truths)
    return names


def change_recipe(run: str) -> None:
    file = Path(run, "config.yaml")
    text = file.read_text(encoding="utf-8")
    before, found, after = text.rpartition("batch_size: 50\n")
    assert found
    file.write_text(f"{before}batch_size: 25\n{after}", encoding="utf-8")


def test_trainings_of_another_recipe_are_not_taken_for_the_truth(rank, refused, trained):
    record, _ = rank(RETRAIN)
    assert record["data"] is None
    assert record["runs"][0]["data"] == "digits"
    assert rank(RETRAIN)[0] == record
    change_recipe("macro")
    expected = (
        "out/retrain-1/recipe.yaml: expected the recipe of --runs, with retrain.batch_size 25, got 50; choose another --out"
    )
    assert expected in refused(f"{RETRAIN} --out out")
    Path("out/retrain-1/recipe.yaml").unlink()
    assert "out/retrain-1: expected trainings with a recipe.yaml, got some of" in refused(f"{RETRAIN} --out out")
    assert trained == ["retrain-1", "retrain-1"]


def test_runs_of_other_recipes_have_trainings_of_their_own(rank, trained):
    for name in ("again", "changed"):
        shutil.copytree("macro", name)
    change_recipe("changed")
    rank("--runs macro again changed --truth retrain --num-architectures 2")
    assert trained == ["retrain-1", "retrain-2"]


def test_trainings_that_all_fail_end_the_command_with_1(runs, monkeypatch, capsys):
    def fail(self: Retraining, folder: Path, **options: Any) -> Any:
        raise TrainingFailed("no finite loss")

    monkeypatch.setattr(Retraining, "run", fail)
    monkeypatch.setattr(sys, "argv", ["rank", *RETRAIN.split(), "--out", "out"])
    with pytest.warns(RuntimeWarning, match="is left out: no finite loss"), pytest.raises(SystemExit) as caught:
        scripts.rank.main()
    assert caught.value.code == 1
    assert "none of 2 architectures could be trained from scratch" in capsys.readouterr().err


def test_run_that_trains_nothing_from_scratch_needs_a_number_of_epochs(rank, refused):
    config = Path("macro/config.yaml")
    before, _, after = config.read_text(encoding="utf-8").rpartition("epochs: 1")
    config.write_text(f"{before}epochs: 0{after}", encoding="utf-8")
    message = "--retrain-epochs: expected at least 1, since macro trains nothing from scratch itself, got 0"
    assert message in refused("--runs macro --truth retrain --out new")
