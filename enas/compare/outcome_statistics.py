"""Outcomes of strategies over seeds: centre and spread, and each strategy against random search.

The interquartile mean (IQM) and its bootstrap interval are those of Agarwal et al. 2021 (arXiv 2108.13264): robust as the median,
less noisy. Their bootstrap is stratified by task; on one benchmark the only strata are the strategies, each of which is resampled
by itself. The probability of improvement is Mann and Whitney's U / (n m): how often a run of a strategy is better than one of
random search, ties counting half.

The verdict `beats random` is read from Welch's 95 % interval of the difference of means. With several strategies it is one of
several such intervals, of which one in twenty misses by chance; Holm's adjusted p-values (1979) hold for all together. Pairs by
seed share what a seed fixes (data order, initial weights); where it fixes nothing in common, pairing gains nothing and costs
little. Not covered: the choice of a benchmark, whose cells are no sample of anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from enas.comparison import deviation, mean_interval, verdict_of, welch_interval, welch_p_value
from enas.types import FloatArray, IntArray

CUT = 0.25
"""Share of the values that the interquartile mean leaves out at each end."""
NUM_RESAMPLES = 2_000
_BLOCK = 200  # resamples held in memory at once

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Values of one strategy, a value a run.

    Attributes:
        num: of runs, n.
        mean: of the values.
        deviation: sample standard deviation; NaN for n=1.
        iqm: interquartile mean.
        interval: 95 % interval of the IQM (percentile bootstrap over runs); None for n=1.
    """

    num: int
    mean: float
    deviation: float
    iqm: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """How often a run of a strategy is better than a run of the reference.

    Attributes:
        probability: U / (n m), in [0, 1]; .5 where nothing tells them apart.
        interval: 95 % interval (percentile bootstrap, both sides resampled); None where a side has one run.
        p_value: two-sided, of Mann and Whitney's test.
    """

    probability: float
    interval: Interval | None
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Differences from the reference, run by run of the same seed.

    Attributes:
        num: of seeds that both have.
        difference: mean difference.
        interval: 95 % interval of it (Student); None for fewer than 2 pairs.
        p_value: two-sided, of Wilcoxon's signed-rank test; None for fewer than 2 pairs.
    """

    num: int
    difference: float
    interval: Interval | None
    p_value: float | None


@dataclass(frozen=True, kw_only=True)
class Versus:
    """A strategy against the reference.

    Attributes:
        difference: of the means, strategy minus reference.
        interval: its 95 % interval (Welch); None where a side has one run.
        p_value: two-sided, of Welch's test; None where there is no interval.
        adjusted: that p-value after Holm, over all strategies compared.
        improvement: the probability of improvement.
        pairs: by seed; None where no seed is shared.
    """

    difference: float
    interval: Interval | None
    p_value: float | None
    adjusted: float | None
    improvement: Improvement
    pairs: Pairs | None

    @property
    def verdict(self) -> str:
        """`yes`, `no` or `not shown`: whether the strategy beats random search."""
        return verdict_of(self.interval)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every strategy by itself and against the reference.

    Attributes:
        summaries: by strategy, in the order given.
        versus: by strategy, without the reference.
    """

    summaries: Mapping[str, Summary]
    versus: Mapping[str, Versus]


def compare_strategies(outcomes: Mapping[str, Mapping[int, float]], *, reference: str, seed: int = 0) -> Comparison:
    """Judge outcomes.

    Args: outcomes: by strategy and seed, finite; strategies without runs are left out. reference: name of one of them.
        seed: of the bootstraps.
    Raises: ValueError where the reference has no runs, or a value is not finite.
    """
    runs = {name: dict(values) for name, values in outcomes.items() if values}
    if reference not in runs:
        raise ValueError(f"expected runs of {reference}, got those of {', '.join(runs) or 'no strategy'}")
    wrong = [value for values in runs.values() for value in values.values() if not math.isfinite(value)]
    if wrong:
        raise ValueError(f"expected finite outcomes, got {wrong[0]}")
    summaries = {name: summarise(list(values.values()), seed=seed) for name, values in runs.items()}
    others = [name for name in runs if name != reference]
    p_values = {name: welch_p_value(list(runs[name].values()), list(runs[reference].values())) for name in others}
    adjusted = holm({name: value for name, value in p_values.items() if value is not None})
    versus = {}
    for name in others:
        first, second = (np.array(list(runs[one].values())) for one in (name, reference))
        versus[name] = Versus(
            difference=float(first.mean() - second.mean()),
            interval=welch_interval(first.tolist(), second.tolist()),
            p_value=p_values[name],
            adjusted=adjusted.get(name),
            improvement=improvement(first, second, seed=seed),
            pairs=pair_by_seed(runs[name], runs[reference]),
        )
    return Comparison(summaries=summaries, versus=versus)


def summarise(values: Sequence[float], *, seed: int = 0) -> Summary:
    """Summarise the values of at least one run."""
    array = np.array(values, dtype=np.float64)
    interval = None
    if len(array) > 1:
        counts = resample_counts(len(array), NUM_RESAMPLES, np.random.default_rng(seed))
        interval = percentile_interval(resampled_iqm(array, counts))
    return Summary(
        num=len(array), mean=float(array.mean()), deviation=deviation(values), iqm=interquartile_mean(array), interval=interval
    )


def interquartile_mean(values: FloatArray) -> float:
    """Return the mean of values (n,) without the floor(n / 4) lowest and as many highest."""
    return float(stats.trim_mean(values, CUT))


def resample_counts(num: int, num_resamples: int, rng: np.random.Generator) -> IntArray:
    """Return how often each of n runs is in each resample of n, int64 (B, n)."""
    return rng.multinomial(num, np.full(num, 1 / num), size=num_resamples)


def resampled_iqm(values: FloatArray, counts: IntArray) -> FloatArray:
    """Return the IQM of each resample, (B,), from values that are sorted once.

    A resample's sorted values are the sorted values, each as often as it was drawn: of those copies the IQM averages the ones
    between the places floor(n / 4) and n - floor(n / 4).

    Args: values: (n,). counts: (B, n), rows that sum to n.
    """
    order = np.argsort(values, kind="stable")
    last = counts[:, order].cumsum(axis=1)  # (B, n), the place behind a value's last copy
    num, cut = len(values), int(CUT * len(values))
    places = np.clip(last, cut, num - cut)
    kept = np.diff(places, axis=1, prepend=cut)
    means: FloatArray = kept @ values[order] / (num - 2 * cut)
    return means


def percentile_interval(resampled: FloatArray) -> Interval:
    """Return the middle 95 % of a statistic's resamples (B,)."""
    low, high = np.percentile(resampled, [2.5, 97.5]).tolist()
    return low, high


def improvement(first: FloatArray, second: FloatArray, *, seed: int = 0) -> Improvement:
    """Say how often a value of `first` (n,) is higher than one of `second` (m,)."""
    wins = (np.sign(first[:, None] - second[None, :]) + 1) / 2  # (n, m), ties half
    interval = None
    if min(len(first), len(second)) > 1:
        rng = np.random.default_rng(seed)
        means = [
            np.einsum("bn,bn->b", own @ wins, other) / wins.size
            for own, other in (
                (resample_counts(len(first), _BLOCK, rng), resample_counts(len(second), _BLOCK, rng))
                for _ in range(NUM_RESAMPLES // _BLOCK)
            )
        ]
        interval = percentile_interval(np.concatenate(means))
    return Improvement(probability=float(wins.mean()), interval=interval, p_value=_mann_whitney(first, second))


def _mann_whitney(first: FloatArray, second: FloatArray) -> float:
    if np.ptp(np.concatenate([first, second])) == 0:
        return 1.0  # all are tied: the test's variance would be zero
    return float(stats.mannwhitneyu(first, second, alternative="two-sided").pvalue)


def pair_by_seed(first: Mapping[int, float], second: Mapping[int, float]) -> Pairs | None:
    """Compare runs of the same seed; None where there are none."""
    differences = np.array([value - second[seed] for seed, value in first.items() if seed in second])
    if not differences.size:
        return None
    p_value = None
    if len(differences) > 1:
        # all zero: nothing is left to rank
        p_value = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Pairs(
        num=len(differences),
        difference=float(differences.mean()),
        interval=mean_interval(differences.tolist()),
        p_value=p_value,
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for their number (Holm 1979): the k-th lowest of m times m - k + 1, never below the one before."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * value))
        adjusted[name] = highest
    return adjusted
