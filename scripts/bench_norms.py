"""On which images the fused BatchNorm pays: what `enas.children.batch_norm.fused_pays` was, and can be, derived from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from enas.atomic_file import write_atomically
from enas.benchmark import interval_text, ratio_text
from enas.children.batch_norm import BatchNorm, fused_pays
from enas.children.fused_norm import fused_batch_norm
from enas.measure import Pairs, Side, median_interval, time_pairs
from enas.report import markdown_table
from enas.seeding import derive_generator
from scripts.bench_report import print_table
from scripts.bench_settings import NormShapes

HEADINGS = ("channels", "images", "PyTorch", "ratio", "95 % interval", "rule", "which is")
NUM_CALLS = 10
"""Passes that are timed at a time, as in a network, where threads are awake: with one alone, waking them is most of its time."""
WHAT = "fused BatchNorm / PyTorch's, forwards and backwards with ReLU"


@dataclass(frozen=True, kw_only=True)
class NormResult:
    """The fused BatchNorm beside PyTorch's on images of one shape.

    Attributes:
        shape: (B, C, H, W).
        pairs: seconds of `NUM_CALLS` forward and backward passes with ReLU: the fused function's, PyTorch's.
        chooses_fused: what the rule says.
    """

    shape: tuple[int, int, int, int]
    pairs: Pairs
    chooses_fused: bool

    @property
    def verdict(self) -> str:
        """Whether the rule chooses the faster one; nothing is shown where the interval holds 1, or where there is none."""
        interval = median_interval(self.pairs.ratios)
        if interval is None or interval[0] <= 1 <= interval[1]:
            return "no slower"
        return "faster" if self.chooses_fused == (interval[1] < 1) else "SLOWER"

    def cells(self) -> tuple[str, ...]:
        """Return a table's row under `HEADINGS`."""
        batch, channels, height, width = self.shape
        return (
            str(channels),
            f"{batch} of {height}x{width}",
            f"{1e3 * float(np.median(self.pairs.second)) / NUM_CALLS:.2f} ms",
            ratio_text(float(np.median(self.pairs.ratios))),
            interval_text(median_interval(self.pairs.ratios)),
            "fused" if self.chooses_fused else "PyTorch",
            self.verdict,
        )


def measure_norms(
    shapes: NormShapes, *, num_pairs: int, seed: int, device: torch.device, on_shape: Callable[[int], None] = lambda _: None
) -> list[NormResult]:
    """Time both on every shape. Args: on_shape: told how many shapes are complete."""
    results: list[NormResult] = []
    dtype = torch.bfloat16 if shapes.precision == "bf16" else torch.float32
    for size in shapes.image_sizes:
        for channels in shapes.channels:
            shape = (shapes.batch_size, channels, size, size)
            results.append(_measure_shape(shape, dtype, num_pairs=num_pairs, seed=seed, device=device))
            on_shape(len(results))
    return results


def _measure_shape(
    shape: tuple[int, int, int, int], dtype: torch.dtype, *, num_pairs: int, seed: int, device: torch.device
) -> NormResult:
    generator = derive_generator(seed, "norms")
    x, gradient = (
        torch.randn(shape, generator=generator).to(device, dtype).contiguous(memory_format=torch.channels_last) for _ in range(2)
    )
    norm = BatchNorm(shape[1], relu=True).to(device)
    norm.may_fuse = False
    tensors = (x.requires_grad_(), norm.weight, norm.bias)

    def side(forward: Callable[[], Tensor]) -> Side:
        return lambda: [torch.autograd.grad(forward(), tensors, gradient) for _ in range(NUM_CALLS)]

    def sides(_: int) -> tuple[Side, Side]:
        return side(lambda: fused_batch_norm(x, norm.weight, norm.bias, eps=norm.eps, relu=True)[0]), side(lambda: norm(x))

    pairs = time_pairs(sides, num_pairs=num_pairs, device=device, rehearses=False)
    return NormResult(shape=shape, pairs=pairs, chooses_fused=fused_pays(x))


def report_norms(results: Sequence[NormResult], machine: str, file: Path, console: Console) -> None:
    """Print a row a shape and how often the rule chooses the slower one; write the same in Markdown."""
    wrong = sum(result.verdict == "SLOWER" for result in results)
    title = f"{machine}, {len(results[0].pairs)} pairs each"
    summary = f"the rule chooses the slower on {wrong} of {len(results)} shapes"
    rows = [result.cells() for result in results]
    print_table(HEADINGS, rows, title, console)
    console.print(f"{WHAT}; {summary}", markup=False, highlight=False, soft_wrap=True)
    write_atomically(file, "\n".join([*markdown_table(HEADINGS, rows), "", f"{title}. Ratio: {WHAT}; {summary}.", ""]))
