from __future__ import annotations

import sys

import pytest
import torch

import scripts.bench
from enas.profiling import ARITHMETIC, KINDS, NUM_RECORDINGS, REST, Profile
from enas.shared_weights import SharedWeights
from scripts.bench_profile import NUM_STEPS, Comparison

pytestmark = pytest.mark.usefixtures("quick_collections")


def made(seconds: float, *, num_calls: int, **kinds: float) -> Profile:
    return Profile(
        seconds=seconds, kinds={kind: kinds.get(kind, 0.0) for kind in (*KINDS, ARITHMETIC, REST)}, num_calls=num_calls
    )


def test_lines_are_of_one_time():
    plain = made(2.0, num_calls=100, convolution=1.0, rest=1.0)
    own = made(1.0, num_calls=50, convolution=0.5, pooling=0.25, rest=0.25)
    one = Comparison(what="macro, training step", plain=plain, own=own, count=5, num_examples=10)
    lines = {name: texts for name, *texts in one.rows(torch.device("cpu"))}
    assert lines == {
        "all": ["400.0 ms", "200.0 ms"],
        "convolution": ["200.0 ms (50%)", "100.0 ms (50%)"],
        "pooling": ["0.0 ms (0%)", "50.0 ms (25%)"],
        "between operators": ["200.0 ms (50%)", "50.0 ms (25%)"],
        "operators": ["20", "10"],
        "examples a second": ["25", "50"],
    }
    assert {"kernels", "device idle"} <= {name for name, *_ in one.rows(torch.device("cuda"))}


def test_command_profiles_every_space_in_both_ways(small_bench, monkeypatch, capsys, tmp_path):
    steps: list[torch.memory_format] = []
    train = SharedWeights.train_step

    def spy(self: SharedWeights, *arguments: object) -> object:
        steps.append(self.memory_format)
        return train(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SharedWeights, "train_step", spy)
    file = tmp_path / "profile.md"
    monkeypatch.setattr(sys, "argv", ["bench", "--profile", str(file), *small_bench])
    monkeypatch.setenv("COLUMNS", "80")
    assert scripts.bench.main() == 0
    output = capsys.readouterr().out
    text = file.read_text(encoding="utf-8")
    for space in ("macro", "micro", "nb201", "rnn"):
        for work in ("training step", "an architecture's reward"):
            assert f"| {space}, {work} | plain | as a search does it |" in text
            assert f"{space}, {work}" in output
    assert "…" not in output
    assert steps.count(torch.channels_last) == steps.count(torch.contiguous_format) == 4 * (2 + NUM_RECORDINGS) * NUM_STEPS
