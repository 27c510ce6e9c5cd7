"""Did the search beat random architectures? A difference of means with its interval, and the answer in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from enas.metrics import ACCURACY, Metric

_ROUNDING = 1e-12
"""Values that differ by less are the same."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Searched against random architectures by a metric on the test split.

    Attributes:
        searched_mean, random_mean: means.
        searched_deviation, random_deviation: standard deviations (n - 1); NaN for n = 1.
        num_searched, num_random: how many trainings each mean is over.
        difference: searched minus random; NaN where both are infinite.
        interval: 95 % interval of the difference (Welch); None where a side has a single value, no side has any spread, or a
            value is infinite.
        metric: what the values are of.
    """

    searched_mean: float
    random_mean: float
    searched_deviation: float
    random_deviation: float
    num_searched: int
    num_random: int
    difference: float
    interval: tuple[float, float] | None
    metric: Metric = ACCURACY

    @property
    def verdict(self) -> str:
        """`yes`, `no` or `not shown`: whether the search beat random architectures."""
        return verdict_of(self.interval, higher_is_better=self.metric.higher_is_better)

    def in_words(self, subject: str = "the search") -> str:
        """Return the verdict on a subject as a sentence with its figures: of accuracies in percentage points."""
        if math.isnan(self.difference):
            return f"Not shown that {subject} beat random architectures: both have an infinite {self.metric.name}."
        points = self.metric.difference(self.difference)
        if self.interval is None:
            cause = "n=1" if min(self.num_searched, self.num_random) < 2 else "no spread"
            if not (math.isfinite(self.searched_mean) and math.isfinite(self.random_mean)):
                cause = f"an infinite {self.metric.name}"
            return f"Not shown that {subject} beat random architectures: {points}, but {cause} gives no interval."
        figures = f"{points}, 95 % interval {self.metric.signed_range(self.interval)}"
        if self.verdict == "yes":
            return f"{subject.capitalize()} beat random architectures: {figures}."
        if self.verdict == "no":
            return f"{subject.capitalize()} did worse than random architectures: {figures}."
        return f"Not shown that {subject} beat random architectures: {figures} includes zero."


def compare(searched: Sequence[float], random: Sequence[float], *, metric: Metric = ACCURACY) -> Comparison:
    """Compare a metric of the searched architecture (a value a seed) with that of random architectures (a value each).

    The interval treats the searched values as the spread of training alone, and the random ones as the spread of architectures
    and training; it says nothing about repeating the search.
    """
    return Comparison(
        searched_mean=float(np.mean(searched)),
        random_mean=float(np.mean(random)),
        searched_deviation=deviation(searched),
        random_deviation=deviation(random),
        num_searched=len(searched),
        num_random=len(random),
        difference=float(np.mean(searched)) - float(np.mean(random)),
        interval=welch_interval(searched, random),
        metric=metric,
    )


def verdict_of(interval: tuple[float, float] | None, *, higher_is_better: bool = True) -> str:
    """Return what the interval of a difference shows: `yes` for a gain, `no` for a loss, `not shown` with zero or without one."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "not shown"
    return "yes" if (interval[0] > 0) == higher_is_better else "no"


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation; NaN for a single value, and where one is infinite."""
    return float(np.std(values, ddof=1)) if len(values) > 1 and _are_finite(values) else math.nan


def has_spread(values: Sequence[float]) -> bool:
    """Return whether values are finite and differ by more than rounding."""
    return len(values) > 1 and _are_finite(values) and float(np.ptp(values)) > _ROUNDING


def _are_finite(values: Sequence[float]) -> bool:
    return bool(np.isfinite(values).all())


def welch_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of mean(first) - mean(second) (Welch 1947).

    None where a side has fewer than two values, where neither has any spread (that a few runs agree to the last digit says that
    spread is rare, not that there is none), and where a value is infinite.
    """
    if not _can_be_compared(first, second):
        return None
    difference = float(np.mean(first) - np.mean(second))
    error, freedom = _welch_error(first, second)
    half = float(stats.t.ppf(0.975, freedom)) * error
    return difference - half, difference + half


def welch_p_value(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the two-sided p-value of mean(first) = mean(second) (Welch 1947); None where there is no `welch_interval`."""
    if not _can_be_compared(first, second):
        return None
    difference = float(np.mean(first) - np.mean(second))
    error, freedom = _welch_error(first, second)
    return float(2 * stats.t.sf(abs(difference) / error, freedom))


def _can_be_compared(first: Sequence[float], second: Sequence[float]) -> bool:
    if min(len(first), len(second)) < 2 or not (_are_finite(first) and _are_finite(second)):
        return False
    return has_spread(first) or has_spread(second)


def _welch_error(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return the standard error of the difference of means, and its degrees of freedom."""
    variances = [deviation(values) ** 2 / len(values) for values in (first, second)]  # of the means
    freedom = sum(variances) ** 2 / sum(v**2 / (len(x) - 1) for v, x in zip(variances, (first, second), strict=True))
    return math.sqrt(sum(variances)), freedom


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean (Student); None for a single value, and where one is infinite."""
    if len(values) < 2 or not _are_finite(values):
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation(values) / math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half
