"""Two ways of doing the same work, timed side by side, and the interval of a median.

A pair runs both sides one after the other; which starts changes from pair to pair, so that a machine whose speed drifts slows
both alike, and what counts is the ratio within a pair. The interval is the exact one of a median by order statistics (Conover,
Practical Nonparametric Statistics, 1999, section 3.2): a binomial tail, whatever the distribution.

Not covered: what Python's garbage collector costs. It runs before each side and is off while the clock runs, as in `timeit`:
since it starts after a fixed number of allocations, it would fall on the same side of every pair (measured: a ratio off by .07).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats

from enas.types import FloatArray

NUM_WARMUP_PAIRS = 2
"""Pairs that are run first and forgotten: kernels are chosen and threads started in them."""

Side = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Two sides of the same comparison, measured n times.

    Attributes:
        first, second: of each pair, all in one unit (seconds, bytes), above 0.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse sides that do not fit each other."""
        if not len(self.first) == len(self.second) >= 1:
            raise ValueError(f"expected as many first as second values, at least 1, got {len(self.first)} and {len(self.second)}")

    def __len__(self) -> int:
        return len(self.first)

    @property
    def ratios(self) -> FloatArray:
        """Float (n,): first over second."""
        return np.divide(self.first, self.second, dtype=np.float64)


def median_interval(values: FloatArray, *, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return an interval that covers the median with at least this probability; None for too few values (below 6 for 95 %).

    Args: values: (n,). Returns: the k-th smallest and the k-th largest value, with the largest k that keeps the probability.
    """
    rank = int(stats.binom.ppf((1 - confidence) / 2, len(values), 0.5))
    if rank < 1:
        return None
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[-rank])


def seconds(work: Side, device: torch.device) -> float:
    """Return how long something takes, with everything that it queued on the device."""
    _wait_for(device)
    start = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - start


def time_pairs(
    sides: Callable[[int], tuple[Side, Side]],
    *,
    num_pairs: int,
    device: torch.device,
    rehearses: bool = True,
    on_pair: Callable[[int], None] = lambda _: None,
) -> Pairs:
    """Time two sides alternately, after warm-up pairs.

    Args:
        sides: called with the pair's index, before its clock starts; negative for the warm-up pairs. Returns both sides.
        num_pairs: n, at least 1.
        device: waited for, before and after each side.
        rehearses: whether both sides run untimed before they are timed, so that neither pays for what the other finds ready;
            sides of several seconds, or that repeat their work, where that is nothing, need not.
        on_pair: told how many pairs are complete.
    Returns: seconds.
    """
    rows: list[tuple[float, float]] = []
    for index in range(-NUM_WARMUP_PAIRS, num_pairs):
        pair = sides(index)
        order = (0, 1) if index % 2 == 0 else (1, 0)
        if rehearses:
            for side in order:
                pair[side]()
        spent = {}
        for side in order:
            with no_collection():
                spent[side] = seconds(pair[side], device)
        if index >= 0:
            rows.append((spent[0], spent[1]))
            on_pair(len(rows))
    return Pairs(first=tuple(row[0] for row in rows), second=tuple(row[1] for row in rows))


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect what is garbage, and nothing more within the block."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def timed_calls(owner: object, name: str, device: torch.device) -> Iterator[list[float]]:
    """Within the block, each call of a method of one object adds its seconds to the list."""
    spent: list[float] = []
    method = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        results: list[Any] = []
        spent.append(seconds(lambda: results.append(method(*arguments, **options)), device))
        return results[0]

    setattr(owner, name, timed)
    try:
        yield spent
    finally:
        delattr(owner, name)


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
