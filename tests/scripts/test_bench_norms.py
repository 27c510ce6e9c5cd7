from __future__ import annotations

import sys
import time

import pytest
import torch
from torch import Tensor

import scripts.bench
from enas.children.fused_norm import fused_batch_norm
from enas.measure import Pairs
from scripts.bench_norms import NUM_CALLS, NormResult, measure_norms
from scripts.bench_settings import NormShapes

pytestmark = pytest.mark.usefixtures("quick_collections")


def result(*ratios: float, chooses_fused: bool) -> NormResult:
    return NormResult(shape=(2, 20, 4, 4), pairs=Pairs(first=ratios, second=(1.0,) * len(ratios)), chooses_fused=chooses_fused)


@pytest.mark.parametrize(
    ("ratios", "chooses_fused", "verdict"),
    [
        ((0.8,) * 6, True, "faster"),
        ((0.8,) * 6, False, "SLOWER"),
        ((1.2,) * 6, True, "SLOWER"),
        ((1.2,) * 6, False, "faster"),
        ((0.8, 0.9, 0.9, 1.0, 1.1, 1.2), True, "no slower"),
        ((0.8, 0.9, 0.9, 1.0, 1.1, 1.2), False, "no slower"),
        ((1.2,) * 5, True, "no slower"),  # five pairs have no interval
    ],
)
def test_rule_is_wrong_where_the_interval_is_on_the_other_side_of_1(ratios, chooses_fused, verdict):
    assert result(*ratios, chooses_fused=chooses_fused).verdict == verdict


def test_row_shows_the_shape_and_both(monkeypatch):
    cells = result(*[0.75] * 6, chooses_fused=True).cells()
    assert cells == ("20", "2 of 4x4", "100.00 ms", "0.750", "0.750 to 0.750", "fused", "faster")


def test_first_side_is_the_fused_one_and_the_second_never_is(monkeypatch):
    calls: list[int] = []

    def slow(x: Tensor, *arguments: object, **options: object) -> object:
        calls.append(x.shape[1])
        time.sleep(0.002)
        return fused_batch_norm(x, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("scripts.bench_norms.fused_batch_norm", slow)
    monkeypatch.setattr("enas.children.batch_norm.fused_batch_norm", None)  # PyTorch's side must not come here
    monkeypatch.setattr("enas.children.batch_norm.FUSED_PIXELS", 1)
    shapes = NormShapes(channels=(3, 16), image_sizes=(4,), batch_size=2)
    results = measure_norms(shapes, num_pairs=2, seed=0, device=torch.device("cpu"))
    assert [one.shape for one in results] == [(2, 3, 4, 4), (2, 16, 4, 4)]
    assert all(first > 0.002 * NUM_CALLS for one in results for first in one.pairs.first)
    assert calls.count(3) == calls.count(16) == (2 + 2) * NUM_CALLS  # each pair and each warm-up pair


def test_images_are_of_the_precision_asked_for(monkeypatch):
    seen: set[torch.dtype] = set()
    monkeypatch.setattr("scripts.bench_norms.fused_pays", lambda x: seen.add(x.dtype))
    shapes = NormShapes(channels=(3,), image_sizes=(2,), batch_size=2, precision="bf16")
    (found,) = measure_norms(shapes, num_pairs=1, seed=0, device=torch.device("cpu"))
    assert seen == {torch.bfloat16}
    assert len(found.pairs) == 1


def test_command_counts_where_the_rule_chooses_the_slower_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("scripts.bench_norms.fused_pays", lambda x: x.shape[1] == 8)
    monkeypatch.setattr(
        "scripts.bench_norms.time_pairs", lambda *_, num_pairs, **__: Pairs(first=(2.0,) * num_pairs, second=(1.0,) * num_pairs)
    )
    arguments = ["--pairs", "6", "--shapes.channels", "4", "8", "--shapes.image-sizes", "4", "2", "--shapes.batch-size", "2"]
    monkeypatch.setattr(sys, "argv", ["bench", "--norms", str(tmp_path / "norms.md"), *arguments, "--device", "cpu"])
    monkeypatch.setenv("COLUMNS", "80")
    assert scripts.bench.main() == 0
    output = capsys.readouterr().out
    assert "…" not in output
    text = (tmp_path / "norms.md").read_text(encoding="utf-8")
    for said in ("the rule chooses the slower on 2 of 4 shapes", "6 pairs each"):
        assert said in " ".join(output.split())
        assert said in text
    verdicts = {tuple(cells[:2]): cells[5:] for line in text.splitlines() if len(cells := line.strip("| ").split(" | ")) == 7}
    assert verdicts["4", "2 of 4x4"] == ["PyTorch", "faster"]
    assert verdicts["8", "2 of 2x2"] == ["fused", "SLOWER"]
