"""A whole run, from the command line's configuration to the report, and retraining of what it found."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from enas.checkpoint import load_checkpoint
from enas.children.cost import measure_cost
from enas.configs import RetrainConfig, ScheduleConfig, SharedConfig
from enas.data_configs import SplitConfig
from enas.datasets import load_data
from enas.export import load_derived
from enas.report import retrain_comparison
from enas.retrain import RetrainResult
from enas.spaces.macro import MacroConfig, deepen
from scripts.configuration import parse_search
from scripts.presets import quickstart
from scripts.retrain import parse_retrain, run_retrain
from scripts.search import new_folder, run_search
from scripts.search_config import SearchConfig

pytestmark = pytest.mark.slow

CHILD = MacroConfig(num_layers=3, filters=4)
RETRAINING = ["--retrain.epochs", "1", "--retrain.seeds", "1", "--retrain.random", "1", "--threads", "1", "--device", "cpu"]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def results_in(folder: Path, name: str) -> list[RetrainResult]:
    files = sorted(folder.glob(f"{name}-*/result.json"))
    return [RetrainResult(**json.loads(file.read_text())["result"]) for file in files]


def flat(text: str) -> str:
    return " ".join(text.split())


@dataclass
class FinishedRun:
    """A run's folder and what it printed."""

    config: SearchConfig
    folder: Path
    output: str
    errors: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = replace(
        quickstart(),
        epochs=2,
        threads=1,
        device="cpu",
        run_dir=folder,
        child=CHILD,
        shared=SharedConfig(batch_size=32, valid_batch_size=25),
        schedule=ScheduleConfig(controller_steps=3, architectures_per_step=4, candidates=5),
        split=SplitConfig(num_train=100, num_valid=50),
        retrain=RetrainConfig(epochs=2, batch_size=25, seeds=2, random=3),
    )
    errors, output = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", output)
        run_search(config, Console(file=errors, width=100))
    return FinishedRun(config, folder, output.getvalue(), errors.getvalue())


def test_folder_holds_every_file_of_a_run(finished):
    assert {path.name for path in finished.folder.iterdir()} == {
        "architectures.jsonl",
        "best_architecture.json",
        "best_architecture.png",
        "best_architecture.safetensors",
        "best_architecture.svg",
        "checkpoint.pt",
        "checkpoint.sha256",
        "config.yaml",
        "lock",
        "metrics.jsonl",
        "report.md",
        "retrain",
        "tb",
    }


def test_configuration_of_the_run_replays_it(finished):
    file = finished.folder / "config.yaml"
    assert parse_search(["--config", str(file)]) == replace(finished.config, run_dir=None, config=file)


def test_answer_is_a_member_of_the_space_and_its_best_candidate(finished):
    answer = json.loads((finished.folder / "best_architecture.json").read_text())
    space = CHILD.make_space()
    architecture = space.decode(answer["tokens"])
    assert space.from_json(answer["architecture"]) == space.from_text(answer["text"]) == architecture
    derived = [row for row in rows_of(finished.folder / "architectures.jsonl") if row["phase"] == "derive"]
    assert len(derived) == 5
    assert max(derived, key=lambda row: row["accuracy"])["accuracy"] == answer["valid_accuracy"]
    assert answer["tokens"] in [row["tokens"] for row in derived]
    cost = measure_cost(CHILD, architecture, input_shape=(1, 8, 8), num_classes=10)
    assert (answer["parameters"], answer["flops"]) == (cost.parameters, cost.flops)


def test_derived_network_has_the_accuracy_that_the_answer_says(finished):
    network = load_derived(finished.folder)
    data = load_data("digits", data_dir=Path("data"), num_train=100, num_valid=50)
    answer = json.loads((finished.folder / "best_architecture.json").read_text())
    with torch.no_grad():
        accuracy = (network(data.valid.images / 255).argmax(dim=1) == data.valid.labels).double().mean()
    assert float(accuracy) == pytest.approx(answer["valid_accuracy"])


def test_budget_of_the_run_is_what_was_asked_for(finished):
    phases = [row["phase"] for row in rows_of(finished.folder / "architectures.jsonl")]
    assert {phase: phases.count(phase) for phase in phases} == {"shared": 2 * 3, "controller": 2 * 3 * 4, "derive": 5}
    state = load_checkpoint(finished.folder)
    assert state is not None
    assert (state["position"]["epoch"], state["position"]["num_measured"]) == (2, 24)


def test_report_names_the_verdict_of_the_trainings(finished):
    searched, random = (results_in(finished.folder / "retrain", name) for name in ("searched", "random"))
    assert (len(searched), len(random)) == (2, 3)
    verdict = retrain_comparison(searched, random).in_words()
    report = (finished.folder / "report.md").read_text(encoding="utf-8")
    assert f"**{verdict}**" in report
    assert verdict in flat(finished.output)
    mean = 100 * np.mean([result.test_accuracy for result in searched])
    assert f"| searched | 2 | {mean:.2f} +- " in report
    assert "# enas on digits, macro space, seed 0" in report


def test_searched_networks_differ_by_their_seeds_alone(finished):
    records = [json.loads(file.read_text()) for file in sorted(finished.folder.glob("retrain/*/result.json"))]
    answer = json.loads((finished.folder / "best_architecture.json").read_text())
    architectures = [record["architecture"] for record in records]
    assert architectures[3:] == [answer["architecture"]] * 2
    assert len({json.dumps(architecture) for architecture in architectures[:3]}) == 3
    seeds = [record["result"]["seed"] for record in records]
    assert seeds[3] != seeds[4]
    assert seeds[:2] == seeds[3:]  # equal terms: training number i has the same seed on both sides


def test_answer_goes_to_standard_output_and_progress_to_standard_error(finished):
    answer = json.loads((finished.folder / "best_architecture.json").read_text())
    assert answer["text"] in finished.output
    assert f"{answer['valid_accuracy']:.2%}" in finished.output
    assert str(finished.folder / "best_architecture.json") in flat(finished.output)
    assert f"Run folder: {finished.folder}" in finished.errors
    assert "Run folder" not in finished.output


def test_metrics_end_with_the_answer(finished):
    rows = rows_of(finished.folder / "metrics.jsonl")
    answer = json.loads((finished.folder / "best_architecture.json").read_text())
    searched = results_in(finished.folder / "retrain", "searched")
    (derived,) = (row for row in rows if "derive/best" in row)
    assert derived["derive/best"] == answer["valid_accuracy"]
    assert rows[-1]["retrain/test_accuracy"] == pytest.approx(np.mean([result.test_accuracy for result in searched]))
    events = EventAccumulator(str(finished.folder / "tb"), size_guidance={"scalars": 0}).Reload()
    assert {"shared/loss", "controller/reward", "derive/best", "retrain/test_accuracy"} <= set(events.Tags()["scalars"])


def test_longer_search_trains_its_new_answer(finished, tmp_path):
    """The trainings of the first answer must not pass for those of the second."""
    folder = Path(shutil.copytree(finished.folder, tmp_path / "copy"))
    file = folder / "retrain" / "searched-0" / "result.json"
    record = json.loads(file.read_text())
    record["architecture"]["skips"] = [[], [0], [0, 1]]
    record["architecture"]["operations"] = ["conv5x5"] * 3
    record["result"]["test_accuracy"] = 2.0
    file.write_text(json.dumps(record))
    config = replace(finished.config, run_dir=folder, resume=folder)
    run_search(config, Console(file=io.StringIO()))
    assert results_in(folder / "retrain", "searched") == results_in(finished.folder / "retrain", "searched")
    assert (folder / "report.md").read_bytes() == (finished.folder / "report.md").read_bytes()


@pytest.fixture
def retrain(tmp_path: Path) -> Callable[..., Path]:
    def run(architecture: str, *flags: str, folder: Path = tmp_path / "retrained") -> Path:
        command, stored = parse_retrain(["--architecture", architecture, "--run-dir", str(folder), *RETRAINING, *flags])
        run_retrain(command, stored, Console(file=io.StringIO()))
        return folder

    return run


@pytest.mark.parametrize("given", ["", "best_architecture.json"])
def test_answer_is_retrained_at_another_width_and_depth(given, finished, retrain):
    child = MacroConfig(num_layers=6, filters=6)
    folder = retrain(str(finished.folder / given), "--child.num-layers", "6", "--child.filters", "6")
    answer = json.loads((finished.folder / "best_architecture.json").read_text())
    expected = deepen(CHILD.make_space().from_json(answer["architecture"]), 6)
    record = json.loads((folder / "architecture-0" / "result.json").read_text())
    assert record["architecture"] == expected.to_json()
    cost = measure_cost(child, expected, input_shape=(1, 8, 8), num_classes=10)
    assert record["result"]["parameters"] == cost.parameters
    random = json.loads((folder / "random-0" / "result.json").read_text())
    assert len(random["architecture"]["operations"]) == 6


def test_arc_string_is_retrained(retrain, capsys):
    folder = retrain("0\n5 1\n3 0 1", "--child.num-layers", "3", "--child.filters", "4", "--split.num-train", "100")
    record = json.loads((folder / "architecture-0" / "result.json").read_text())
    assert record["architecture"] == {"operations": ["conv3x3", "max3x3", "sep5x5"], "skips": [[], [0], [1]]}
    assert "n=1 gives no interval" in flat(capsys.readouterr().out)


def test_folder_of_something_else_is_not_taken_for_trainings(retrain, tmp_path):
    other = tmp_path / "photos"
    (other / "cats").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"--run-dir: expected a new folder or that of the same command, got .*photos"):
        retrain("0", "--child.num-layers", "1", "--child.filters", "4", "--split.num-train", "50", folder=other)
    assert [path.name for path in other.iterdir()] == ["cats"]


def test_same_command_reads_back_and_another_is_refused(retrain, tmp_path):
    flags = ["--child.num-layers", "1", "--child.filters", "4", "--split.num-train", "50"]
    folder = retrain("0", *flags)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    assert len(before) == 2
    retrain("0", *flags)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")} == before
    with pytest.raises(ValueError, match="--run-dir: expected a new folder or that of the same command"):
        retrain("0", *flags, "--seed", "1")


def test_new_folder_never_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = []
    for _ in range(3):
        folders.append(new_folder("quickstart"))
        folders[-1].mkdir(parents=True)
    assert len(set(folders)) == 3
    assert all(folder.parent == Path("runs") for folder in folders)
