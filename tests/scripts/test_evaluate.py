from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scripts.evaluate
from enas.checkpoint import save_checkpoint
from enas.children.cost import measure_cost
from enas.configs import RetrainConfig, ScheduleConfig, SharedConfig
from enas.data_configs import SplitConfig
from enas.datasets import load_data
from enas.datasets.images import ImageData
from enas.export import load_derived
from enas.published import PUBLISHED
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.types import PathBatch
from scripts.build import build_search, derive_answer
from scripts.configuration import CONFIG_FILE, to_yaml
from scripts.evaluate import measure, parse_evaluate
from scripts.presets import quickstart
from scripts.search_config import SearchConfig
from scripts.weights import restore_shared_weights

CHILD = MacroConfig(num_layers=3, filters=4)
TOKENS = [[0, 5, 1, 3, 0, 1], [4, 1, 0, 2, 1, 1]]
ARCS = [" ".join(map(str, row)) for row in TOKENS]


def config_of(batch_norm: Any) -> SearchConfig:
    return replace(
        quickstart(),
        epochs=2,
        threads=1,
        device="cpu",
        child=CHILD,
        shared=SharedConfig(batch_size=32, valid_batch_size=40, batch_norm=batch_norm),
        schedule=ScheduleConfig(controller_steps=2, architectures_per_step=3, candidates=3),
        split=SplitConfig(num_train=100, num_valid=50),
        retrain=RetrainConfig(epochs=0),
    )


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a maker of finished runs, one for each mode of BatchNorm's statistics."""
    folders: dict[str, Path] = {}

    def make(batch_norm: str) -> Path:
        if batch_norm not in folders:
            folder = tmp_path_factory.mktemp("runs") / batch_norm
            with build_search(config_of(batch_norm), folder) as run:
                run.search.run()
                derive_answer(run)
            folders[batch_norm] = folder
        return folders[batch_norm]

    return make


@pytest.fixture
def run(run_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run's folder that a test may change, named from where the test stands."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(run_of("running"), "mine"))


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], str]]:
    """Return a runner of the command; it returns what `--json` wrote and standard output."""

    def call(folder: Path, *architectures: str, flags: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
        file, output = tmp_path / "numbers.json", io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", output)
            patch.setenv("COLUMNS", "150")
            arguments = ["--run", str(folder), "--architecture", *architectures, "--json", str(file), *flags]
            patch.setattr(sys, "argv", ["evaluate", *arguments])
            scripts.evaluate.main()
        return json.loads(file.read_text(encoding="utf-8")), output.getvalue()

    return call


def answer_of(folder: Path) -> dict[str, Any]:
    answer = json.loads((folder / "best_architecture.json").read_text(encoding="utf-8"))
    assert isinstance(answer, dict)
    return answer


# What is measured.


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", ["batch", "running", "recalibrated"])
def test_answer_has_exactly_the_numbers_that_the_search_wrote(batch_norm, run_of, evaluate):
    folder = run_of(batch_norm)
    answer = answer_of(folder)
    record, _ = evaluate(folder, ARCS[0], str(folder), ARCS[1])
    row = record["architectures"][1]
    assert (row["accuracy"], row["loss"]) == (answer["valid_accuracy"], answer["valid_loss"])
    assert (row["tokens"], row["parameters"], row["flops"]) == (answer["tokens"], answer["parameters"], answer["flops"])
    assert row["num_images"] == 50


def test_any_architecture_is_measured_on_the_whole_split_as_its_own_network(run, evaluate):
    """Oracle: another network, with the answer's weights copied out, on images that nothing of the search normalised."""
    network = load_derived(run)
    data = load_data("digits", data_dir=Path("data"), num_train=100, num_valid=50)
    for split, images in (("valid", data.valid), ("test", data.test)):
        (row,) = evaluate(run, "mine", flags=("--split", split))[0]["architectures"]
        with torch.no_grad():
            logits = network(images.images / 255)
        assert row["num_images"] == len(images)
        assert row["accuracy"] == pytest.approx(float((logits.argmax(dim=1) == images.labels).double().mean()))
        assert row["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, images.labels)), rel=1e-5)


def test_every_way_to_name_an_architecture_gives_the_same_numbers(run, evaluate):
    answer = answer_of(run)
    Path("arc.txt").write_text(answer["text"])
    Path("tokens.json").write_text(json.dumps(answer["tokens"]))
    Path("several.json").write_text(json.dumps([TOKENS[0], answer["tokens"]]))
    line = " ".join(answer["text"].split())
    given = ["mine", "mine/best_architecture.json", "arc.txt", answer["text"], json.dumps(answer["tokens"]), "tokens.json"]
    rows = evaluate(run, *given, "several.json")[0]["architectures"]
    assert [row.pop("name") for row in rows] == [*given[:3], line, *given[4:], "several.json[0]", "several.json[1]"]
    assert rows.pop(-2)["tokens"] == TOKENS[0]
    assert all(row == rows[0] for row in rows)
    assert rows[0]["tokens"] == answer["tokens"]


def test_table_lists_architectures_in_the_order_given(run, evaluate):
    record, output = evaluate(run, *ARCS)
    title, *lines = output.splitlines()
    assert title.strip() == "mine after 2 epochs, whole valid split, in the order given"
    assert (record["run"], record["epoch"], record["split"]) == ("mine", 2, "valid")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert len(rows) == 2
    for row, measured, arc, tokens in zip(rows, record["architectures"], ARCS, TOKENS, strict=True):
        cost = measure_cost(CHILD, CHILD.make_space().decode(tokens), input_shape=(1, 8, 8), num_classes=10)
        accuracy, loss = f"{measured['accuracy']:.2%}", f"{measured['loss']:.4f}"
        assert row == [arc, accuracy, loss, f"{cost.parameters:,}", f"{cost.flops:,}", "50"]
    assert record["architectures"][0]["loss"] != record["architectures"][1]["loss"]


def test_loss_that_is_not_finite_is_null_in_the_file(run, evaluate):
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    for name, value in state["parts"]["shared"]["child"].items():
        if name == "classifier.weight":
            value.fill_(3e38)
    save_checkpoint(run, state)
    record, output = evaluate(run, ARCS[0])
    assert record["architectures"][0]["loss"] is None
    assert "nan" in output or "inf" in output


# The test split.


def shared_on(images: ImageData, split: Any, *, valid_batch_size: int) -> SharedWeights:
    """Train a little, then restore the weights so that a split is measured on."""
    shared = SharedConfig(batch_size=16, valid_batch_size=valid_batch_size, batch_norm="batch")
    config = replace(config_of("batch"), shared=shared)
    trained = SharedWeights(CHILD, images, config.shared, seed=3)
    for _ in range(3):
        trained.train_step(PathBatch(tokens=np.array(TOKENS), loss_weights=np.ones(2)))
    return restore_shared_weights(config, {"parts": {"shared": trained.state_dict()}}, images, split=split)


def test_test_split_may_be_smaller_than_the_minibatches_of_rewards(images):
    shared = shared_on(images, "test", valid_batch_size=25)
    architecture = shared.space.decode(TOKENS[0])
    (row,) = measure(shared, [("name", architecture)])
    assert (row.name, row.num_examples) == ("name", 20)
    swapped = shared_on(replace(images, valid=images.test, test=images.valid), "valid", valid_batch_size=20)
    (other,) = measure(swapped, [("name", architecture)])
    assert (row.accuracy, row.loss) == (other.accuracy, other.loss)


def test_weights_of_other_data_are_refused(images):
    trained = SharedWeights(CHILD, images, SharedConfig(batch_size=16, valid_batch_size=25))
    state = {"parts": {"shared": trained.state_dict()}}
    config = replace(config_of("batch"), shared=trained.config)
    more_classes = replace(images, num_classes=4)
    with pytest.raises(ValueError, match=r"expected the data .* searched on, got tiny, which classifier\.weight does not fit"):
        restore_shared_weights(config, state, more_classes, split="valid")


# Reading only.


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]
    }


def test_nothing_in_the_folder_changes_even_what_a_killed_save_left(run, evaluate):
    (run / "checkpoint.pt.tmp").write_bytes(b"half a save of the run under way")
    folders = [run, *(path for path in run.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        before = contents(run)
        evaluate(run, "mine", ARCS[0], flags=("--split", "test"))
        assert contents(run) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_newest_checkpoint_of_a_run_under_way_is_measured(run, evaluate):
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    old = evaluate(run, ARCS[0])[0]
    state["position"]["epoch"] = 1
    state["parts"]["shared"]["child"]["classifier.weight"].mul_(-1)
    save_checkpoint(run, state)
    new = evaluate(run, ARCS[0])[0]
    assert (old["epoch"], new["epoch"]) == (2, 1)
    assert new["architectures"][0]["loss"] != old["architectures"][0]["loss"]


def test_flags_replace_the_runs_device_data_folder_and_threads(run):
    arguments = ["--run", "mine", "--architecture", "mine"]
    own = parse_evaluate(arguments).config
    assert (own.device, own.data_dir, own.threads) == ("cpu", Path("data"), 1)
    given = parse_evaluate([*arguments, "--device", "auto", "--data-dir", "elsewhere", "--threads", "2"]).config
    assert given == replace(own, device="auto", data_dir=Path("elsewhere"), threads=2)


def test_help_names_the_published_architectures(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        parse_evaluate(["--help"])
    assert f"a published one ({', '.join(PUBLISHED)})" in " ".join(capsys.readouterr().out.replace("│", " ").split())


# Mistakes.


@pytest.mark.usefixtures("without_bfloat16")
def test_run_in_half_precision_is_warned_of_on_a_processor_without_it(run, evaluate):
    file = run / CONFIG_FILE
    file.write_text(file.read_text().replace("precision: fp32", "precision: bf16"))
    with pytest.warns(RuntimeWarning, match="^precision bf16: this processor"):
        evaluate(run, ARCS[0])


@pytest.fixture
def refused(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a runner of a command line that is wrong; it returns the message."""

    def call(*arguments: str, status: int = 2) -> str:
        monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
        with pytest.raises(SystemExit) as caught:
            scripts.evaluate.main()
        assert caught.value.code == status
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return call


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0", "--architecture 0: macro: expected 6 tokens, got 1"),
        ("[0, 5, 1, 3, 0, 1, 0]", "--architecture [0, 5, 1, 3, 0, 1, 0]: macro: expected 6 tokens, got 7"),
        ("[0, 5, 1, 3, 0, 2]", "--architecture [0, 5, 1, 3, 0, 2]: layer_2/skip_1: expected a token in 0..1, got 2"),
        ("0 6 1 3 0 1", "--architecture 0 6 1 3 0 1: layer_1/op: expected a token in 0..5, got 6"),
        ("[[0, 5, 1, 3, 0, 1], [0]]", "--architecture [0]: macro: expected 6 tokens, got 1"),
        ("bad.json", "--architecture bad.json[1]: macro: expected 6 tokens, got 0"),
        ("[]", "--architecture []: macro: expected 6 tokens, got 0"),
        ("deeper.json", "--architecture deeper.json: macro: expected 3 operations and skip lists, got 4 and 4"),
        ("unknown.json", "--architecture unknown.json: layer 0: expected an operation out of conv3x3, "),
        ("space.json", "--architecture space.json: expected an architecture of the macro space, got one of nasbench"),
        ("young", "young/best_architecture.json: expected the answer of a finished search, got no such file"),
        (
            "nothing.txt",
            "--architecture: expected a run folder, a file, an arc string, a cell's text or a list of tokens, got 'nothing.txt'",
        ),
    ],
)
def test_architecture_that_is_no_member_is_named(given, message, run, refused):
    Path("young").mkdir()
    Path("bad.json").write_text(f"[{TOKENS[0]}, []]")
    answer = answer_of(run)
    deeper = {"operations": ["conv3x3"] * 4, "skips": [[]] * 4}
    unknown = {"operations": ["conv9x9"] * 3, "skips": [[]] * 3}
    for name, changes in {
        "deeper": {"architecture": deeper},
        "unknown": {"architecture": unknown},
        "space": {"space": "nasbench"},
    }.items():
        Path(f"{name}.json").write_text(json.dumps({**answer, **changes}))
    assert message in refused("--run", "mine", "--architecture", ARCS[0], given)


def test_operation_that_the_run_leaves_out_is_named(run, refused):
    config = replace(config_of("running"), child=replace(CHILD, operations=("conv3x3", "max3x3")))
    (run / CONFIG_FILE).write_text(to_yaml(config, threads=1), encoding="utf-8")
    answer = {**answer_of(run), "architecture": {"operations": ["conv3x3", "sep5x5", "max3x3"], "skips": [[], [], []]}}
    Path("other.json").write_text(json.dumps(answer))
    assert "--architecture other.json: layer 1: expected an operation out of conv3x3, max3x3, got 'sep5x5'" in refused(
        "--run", "mine", "--architecture", "other.json"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--run missing --architecture mine", "--run: expected the folder of a run with a config.yaml, got missing"),
        ("--run empty --architecture mine", "--run: expected the folder of a run with a config.yaml, got empty"),
        ("--run young --architecture mine", "--run: expected a run that has saved a checkpoint, got young, which has none yet"),
        (
            "--run mine --architecture mine --json missing/x.json",
            "--json: expected a file in a folder that exists, got missing/x",
        ),
        ("--run mine --architecture mine --json empty", "--json: expected a file in a folder that exists, got empty"),
        (
            "--run mine --architecture mine --json mine/config.yaml",
            "--json: expected a file outside the run's folder, which is only read, got mine/config.yaml",
        ),
        ("--run mine --architecture mine --data-dir file", "data_dir: expected a folder, got file, where file is a file"),
        ("--run mine --architecture mine --threads 0", "threads: expected at least 1, got 0"),
        ("--run mine --architecture mine --split train", "invalid choice 'train'"),
        ("--run mine --architecture", "architecture: expected at least one, got none"),
        ("--run mine", "--architecture"),
        ("--architecture mine", "--run"),
    ],
)
def test_mistake_on_the_command_line_is_named(line, message, run, refused):
    Path("file").write_text("text")
    for name in ("empty", "young"):
        Path(name).mkdir()
    shutil.copy(run / CONFIG_FILE, "young")
    assert message in refused(*line.split())


def test_damaged_checkpoint_is_named(run, refused):
    os.truncate(run / "checkpoint.pt", 1000)
    assert "error: mine: no checkpoint is intact; checkpoint.pt is damaged" in refused(
        "--run", "mine", "--architecture", "mine", status=3
    )
