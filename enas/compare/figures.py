"""Numbers of a report as text: accuracies in percent, differences in points, p-values, intervals or why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from enas.compare.outcome_statistics import LEAST_RUNS, Interval, Summary


def points(difference: float, *, unit: str = " points") -> str:
    """Return a difference of fractions in percentage points, with its sign."""
    return f"{100 * difference:+.2f}{unit}"


def points_range(interval: Interval) -> str:
    """Return an interval of a difference of fractions in percentage points."""
    return f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"


def percent(value: float) -> str:
    """Return a fraction in percent, a dash for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def iqm_interval(summary: Summary) -> str:
    """Return the interval of an IQM in percent, or why there is none."""
    if summary.interval is None:
        return f"n={summary.num}: no interval" if summary.num < LEAST_RUNS else "no spread"
    return f"{100 * summary.interval[0]:.2f} to {100 * summary.interval[1]:.2f}"


def difference_interval(interval: Interval | None, *, num: int) -> str:
    """Return the interval of a difference, or why there is none. Args: num: of values on the side with fewer."""
    if interval is None:
        return "n=1: no interval" if num < 2 else "no spread"
    return points_range(interval)


def p_value(value: float | None, *, name: str = "p") -> str:
    """Return `p=.0123`, a dash for None."""
    if value is None:
        return "-"
    shown = "<.0001" if value < 1e-4 else f"{value:.4f}".lstrip("0") if value < 1 else "1"
    return shown if not name else f"{name}{shown}" if value < 1e-4 else f"{name}={shown}"


def spread(values: Sequence[float]) -> str:
    """Return `mean (lowest to highest)`, a dash for no values."""
    if not values:
        return "-"
    low, mean, high = (number(value) for value in (min(values), float(np.mean(values)), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def number(value: float) -> str:
    """Return a number with commas, or with four digits where it is small."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
