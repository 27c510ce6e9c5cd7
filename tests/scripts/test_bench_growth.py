from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import scripts.bench
from enas.shared_weights import SharedWeights
from scripts.bench_growth import Size, _Network, lines_of, measure_growth
from scripts.bench_settings import BenchCommand, GrowthPoints
from scripts.workbench import Workbench, make_workbench

pytestmark = pytest.mark.usefixtures("quick_collections")
SMALL = {"image_size": 8, "num_images": 24, "macro_batch_size": 4, "valid_batch_size": 4, "architectures": 2, "vocabulary": 20}
SMALL |= {"micro_batch_size": 4, "nb201_batch_size": 4, "rnn_batch_size": 4, "bptt": 3}
POINTS = GrowthPoints(layers=(2, 4), filters=(8, 4), batch_sizes=(2, 4, 8), architectures=(1, 2), rounds=3)
BASE = Size(layers=3, filters=4, batch_size=4, architectures=2)


@pytest.fixture
def bench() -> Workbench:
    command = BenchCommand(**SMALL)  # type: ignore[arg-type]
    macro = replace(command.macro, num_layers=3, filters=4)
    return make_workbench(replace(command, macro=macro), torch.device("cpu"))


def test_one_number_varies_along_each_axis():
    lines = lines_of(BASE, POINTS)
    assert lines["layers"] == [replace(BASE, layers=2), replace(BASE, layers=4)]
    assert lines["filters"] == [replace(BASE, filters=4), replace(BASE, filters=8)]
    assert lines["batch_size"] == [replace(BASE, batch_size=size) for size in (2, 4, 8)]
    assert lines["architectures"] == [replace(BASE, architectures=size) for size in (1, 2)]


def test_epoch_is_its_steps_times_their_medians(bench, monkeypatch):
    calls: dict[str, list[Size]] = {"train": [], "control": []}

    def train(self: _Network, tokens: object) -> float:
        size = self._size
        calls["train"].append(size)
        noise = {0: 50.0, 1: 0.9, 2: 1.0, 3: 7.0}[calls["train"].count(size) - 1]  # the first is of the warm-up
        return noise * size.layers * size.batch_size

    def control(self: _Network, tokens: object) -> float:
        calls["control"].append(self._size)
        return 0.1 * self._size.filters**2 * self._size.architectures

    monkeypatch.setattr(_Network, "train", train)
    monkeypatch.setattr(_Network, "control", control)
    done: list[int] = []
    layers, filters, images, architectures = measure_growth(bench, POINTS, on_round=done.append)
    assert done == [0, 1, 2, 3]
    # 24 images, 50 controller steps: epochs of 24 // 4 * 3 * 4 = 72 s and 50 * .1 * 16 * 2 = 160 s at the base
    assert layers.sizes == [2, 4]
    assert layers.seconds["training"] == pytest.approx([48, 96])
    assert layers.seconds["controller"] == pytest.approx([160, 160])
    assert layers.seconds["epoch"] == pytest.approx([208, 256])
    assert filters.seconds["controller"] == pytest.approx([160, 640])
    assert filters.exponent("controller") == pytest.approx(2)
    assert images.seconds["training"] == pytest.approx([72, 72, 72])
    assert images.exponent("training") == pytest.approx(0, abs=1e-9)
    assert architectures.seconds["controller"] == pytest.approx([80, 160])
    assert architectures.seconds["training"] == pytest.approx([72, 72])
    # what a size has nothing to do with is not timed again: of 6 and 5 different ones, four rounds each
    assert {size.architectures for size in calls["train"]} == {BASE.architectures}
    assert {size.batch_size for size in calls["control"]} == {BASE.batch_size}
    assert (len(calls["train"]), len(calls["control"])) == (4 * 6, 4 * 5)


def test_shallow_networks_run_the_first_layers_of_deep_ones(bench, monkeypatch):
    seen: dict[int, list[object]] = {}

    def spy(self: SharedWeights, architectures: list[object]) -> object:
        seen[self.space.num_layers] = list(architectures)
        return evaluate(self, architectures)

    evaluate = SharedWeights.evaluate
    monkeypatch.setattr(SharedWeights, "evaluate", spy)
    rng = np.random.default_rng(0)
    tokens = np.concatenate(
        [rng.integers(0, 6 if skip == 0 else 2, (2, 1)) for layer in range(4) for skip in range(layer + 1)], axis=1
    )
    for layers in (2, 4):
        network = _Network(bench, replace(BASE, layers=layers))
        assert network.control(tokens) > 0
        assert network.train(tokens) > 0
    for shallow, deep in zip(seen[2], seen[4], strict=True):
        assert (shallow.operations, shallow.skips) == (deep.operations[:2], deep.skips[:2])
    assert len(seen[2]) == BASE.architectures


def test_command_writes_the_picture_and_the_numbers(monkeypatch, capsys, tmp_path):
    arguments = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    arguments += ["--macro.num-layers", "1", "--macro.filters", "4", "--device", "cpu"]
    arguments += ["--points.layers", "1", "2", "--points.filters", "2", "4"]
    arguments += ["--points.batch-sizes", "2", "4", "--points.architectures", "1", "2", "--points.rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments, "--growth", str(tmp_path / "growth.svg")])
    monkeypatch.setenv("COLUMNS", "80")
    assert scripts.bench.main() == 0
    output = capsys.readouterr().out
    assert "…" not in output
    text = (tmp_path / "growth.md").read_text(encoding="utf-8")
    assert text.startswith("![seconds an epoch](growth.svg)\n")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        *("1 layers", "2 layers", "exponent, layers"),
        *("2 filters", "4 filters", "exponent, filters"),
        *("2 images of a minibatch", "4 images of a minibatch", "exponent, images of a minibatch"),
        *("1 architectures of a step", "2 architectures of a step", "exponent, architectures of a step"),
    ]
    assert "exponent" in (tmp_path / "growth.svg").read_text(encoding="utf-8")
