"""Numbers of a report as text: p-values, intervals or why there is none; those of a metric are written as it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enas.compare.outcome_statistics import LEAST_RUNS, Interval, Summary
from enas.metrics import Metric


def iqm_interval(summary: Summary, metric: Metric) -> str:
    """Return the interval of an IQM, or why there is none."""
    if summary.interval is None:
        return f"n={summary.num}: no interval" if summary.num < LEAST_RUNS else "no spread"
    return metric.figure_range(summary.interval)


def difference_interval(interval: Interval | None, metric: Metric, *, num: int) -> str:
    """Return the interval of a difference, or why there is none. Args: num: of values on the side with fewer."""
    if interval is None:
        return "n=1: no interval" if num < 2 else "no spread"
    return metric.signed_range(interval)


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
