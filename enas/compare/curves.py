"""Anytime curves: how good a search's best architecture so far is, against what it has spent.

A run's curve is a step function: it changes where a better architecture is measured, and holds its last value when the run is
over. At each point of a common grid the runs of a strategy are summarised by their interquartile mean and its 95 % bootstrap
interval, or, where they are too few for one, by their lowest and highest; the band is one of points, not of whole curves. A
strategy's curve begins where all of its runs have measured something and ends where fewer than half of them still go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from enas.compare.outcome_statistics import LEAST_RUNS, interquartile_mean, resample_counts, resampled_iqm
from enas.compare.outcomes import History, Outcome
from enas.types import FloatArray, IntArray

Axis = Literal["architectures", "seconds"]
Quantity = Literal["reward", "regret", "value"]
NUM_POINTS = 120
"""Points of a grid."""
NUM_RESAMPLES = 500
"""Resamples of a band; fewer than of a table's interval, since there are many points."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """A strategy's curve.

    Attributes:
        x: (G,), rising.
        iqm: (G,), over runs.
        low, high: (G,), 95 % interval of the IQM, or lowest and highest run; None for a single run.
        num_runs: that it is over.
    """

    x: FloatArray
    iqm: FloatArray
    low: FloatArray | None
    high: FloatArray | None
    num_runs: int

    @property
    def has_interval(self) -> bool:
        """Whether low and high are an interval."""
        return self.num_runs >= LEAST_RUNS


def incumbents(rewards: FloatArray) -> IntArray:
    """Return which architecture is the best after each, int64 (n,), the first of equal ones. Args: rewards: (n,)."""
    best = np.maximum.accumulate(rewards)
    is_new = np.concatenate([[True], rewards[1:] > best[:-1]])
    return np.maximum.accumulate(np.where(is_new, np.arange(len(rewards)), 0))


def curve_of(
    history: History, *, axis: Axis, quantity: Quantity, best_truth: float | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return a run's curve as steps: where each begins and its value, (n,) both.

    Args: axis: what is spent. quantity: the best reward so far, or of the architecture that has it the regret, `best_truth` minus
        its truth, or the value that the reward comes from, NaN where it is infinite.
    Raises: ValueError for a regret without truths.
    """
    best = incumbents(history.rewards)
    x = history.seconds if axis == "seconds" else np.arange(1.0, len(best) + 1)
    if quantity == "reward":
        return x, history.rewards[best]
    if quantity == "value":
        values = history.values[best]
        return x, np.where(np.isfinite(values), values, np.nan)
    if history.truths is None or best_truth is None:
        raise ValueError("expected truths for a regret, got none")
    regret: FloatArray = best_truth - history.truths[best]
    return x, np.maximum(regret, 0.0)  # no minus zero, nor the last bit below it


def step_values(x: FloatArray, y: FloatArray, grid: FloatArray) -> FloatArray:
    """Return a step function at a grid (G,): the y of the last step that begins at or before each point; NaN before the first."""
    places = np.searchsorted(x, grid, side="right") - 1
    return np.where(places >= 0, y[np.maximum(places, 0)], np.nan)


def bands_of(
    outcomes: Mapping[str, Sequence[Outcome]], *, axis: Axis, quantity: Quantity, best_truth: float | None = None
) -> dict[str, Band]:
    """Return the curve of each strategy that has runs, on a grid that they share.

    Args: outcomes: by strategy.
    """
    curves = {
        name: [curve_of(one.history, axis=axis, quantity=quantity, best_truth=best_truth) for one in runs]
        for name, runs in outcomes.items()
        if runs
    }
    if not curves:
        return {}
    grid = _grid([x for runs in curves.values() for x, _ in runs], is_whole=axis == "architectures")
    bands = {}
    for name, runs in curves.items():
        start = max(x[0] for x, _ in runs)
        end = max(start, sorted(x[-1] for x, _ in runs)[len(runs) // 2])  # half of the runs, or more, get there
        points = np.unique(np.concatenate([[start], grid[(grid > start) & (grid < end)], [end]]))
        bands[name] = band(points, np.array([step_values(x, y, points) for x, y in runs]))
    return bands


def _grid(starts: Sequence[FloatArray], *, is_whole: bool) -> FloatArray:
    end = max(x[-1] for x in starts)
    grid = np.linspace(min(x[0] for x in starts), end, NUM_POINTS)
    return np.unique(np.rint(grid)) if is_whole else grid


def band(x: FloatArray, values: FloatArray, *, seed: int = 0) -> Band:
    """Summarise runs at each point. Args: x: (G,). values: (S, G), a row a run."""
    num_runs = len(values)
    iqm = np.array([interquartile_mean(column) for column in values.T])
    if num_runs < 2:
        return Band(x=x, iqm=iqm, low=None, high=None, num_runs=num_runs)
    if num_runs < LEAST_RUNS:
        return Band(x=x, iqm=iqm, low=values.min(axis=0), high=values.max(axis=0), num_runs=num_runs)
    counts = resample_counts(num_runs, NUM_RESAMPLES, np.random.default_rng(seed))  # the same runs at every point
    resampled = np.array([resampled_iqm(column, counts) for column in values.T])  # (G, B)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=1)
    return Band(x=x, iqm=iqm, low=low, high=high, num_runs=num_runs)
