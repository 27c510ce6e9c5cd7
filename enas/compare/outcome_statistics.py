"""Outcomes of strategies over seeds: centre and spread, and each strategy against random search.

The interquartile mean (IQM) and its bootstrap interval are those of Agarwal et al. 2021 (arXiv 2108.13264): robust as the median,
less noisy. Their bootstrap is stratified by task; on one benchmark the only strata are the strategies, each of which is resampled
by itself. Of few runs a bootstrap's interval is far too narrow, so below `LEAST_RUNS` there is none. The probability of
improvement is Mann and Whitney's U / (n m): how often a run of a strategy is better than one of random search, ties counting
half. Its interval is Newcombe's (2006, Statistics in Medicine 25:559, method 5), which stays wide where one side is all better.

The verdict `beats random` is read from Welch's 95 % interval of the difference of means, and has to hold for all strategies
together, too: Holm's adjusted p-value (1979) is below .05. A run that failed counts as worse than any that ended: a strategy with
such runs is never said to beat random search, nor to be worse than a random search with such runs. Pairs by seed share what a
seed fixes (data order, initial weights); where it fixes nothing in common, pairing gains nothing and costs little. Not covered:
the choice of a benchmark, whose cells are no sample of anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from enas.comparison import deviation, has_spread, mean_interval, verdict_of, welch_interval, welch_p_value
from enas.types import FloatArray, IntArray

CUT = 0.25
"""Share of the values that the interquartile mean leaves out at each end."""
NUM_RESAMPLES = 2_000
LEAST_RUNS = 8
"""Runs from which on the IQM has an interval: of 8 normal values it holds the truth 94 times in 100, of 3 only 71 times."""
LEVEL = 0.05
"""p-value below which a difference counts as shown."""

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Values of one strategy, a value a run.

    Attributes:
        num: of runs, n.
        mean: of the values.
        deviation: sample standard deviation; NaN for n=1.
        iqm: interquartile mean.
        interval: 95 % interval of the IQM (percentile bootstrap over runs); None below `LEAST_RUNS` and for runs without spread.
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
        interval: 95 % interval (Newcombe 2006, method 5); None where a side has one run.
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
        interval: 95 % interval of it (Student); None for fewer than 2 pairs, and where all differences are the same.
        p_value: two-sided, of Wilcoxon's signed-rank test; None where there is no interval.
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
        interval: its 95 % interval (Welch); None where a side has one run, or neither has any spread.
        p_value: two-sided, of Welch's test; None where there is no interval.
        adjusted: that p-value after Holm, over all strategies that have one.
        num_compared: how many these are.
        num_runs: that each strategy was to make.
        num_ended, num_reference_ended: runs that gave a value, of the strategy and of the reference.
        improvement: the probability of improvement.
        pairs: by seed; None where no seed is shared.
        higher_is_better: of the values.
    """

    difference: float
    interval: Interval | None
    p_value: float | None
    adjusted: float | None
    num_compared: int
    num_runs: int
    num_ended: int
    num_reference_ended: int
    improvement: Improvement
    pairs: Pairs | None
    higher_is_better: bool = True

    @property
    def verdict(self) -> str:
        """`yes`, `no` or `not shown`: whether the strategy beats random search."""
        return "not shown" if self.obstacle else self._bare_verdict

    @property
    def _bare_verdict(self) -> str:
        """What the interval alone says."""
        return verdict_of(self.interval, higher_is_better=self.higher_is_better)

    @property
    def obstacle(self) -> str:
        """What stands against a verdict, in words, other than an interval with zero in it; empty where nothing does."""
        failed, reference_failed = self.num_runs - self.num_ended, self.num_runs - self.num_reference_ended
        bare = self._bare_verdict
        if failed and bare != "no":
            return f"{failed} of {self.num_runs} runs failed"
        if self.interval is None:
            return "n=1, no interval" if min(self.num_ended, self.num_reference_ended) < 2 else "no spread"
        if reference_failed and bare == "no":
            return f"{reference_failed} of {self.num_runs} runs of random search failed"
        if bare != "not shown" and self.adjusted is not None and self.adjusted >= LEVEL:
            return f"does not hold after the correction for {self.num_compared} comparisons"
        return ""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Every strategy by itself and against the reference.

    Attributes:
        summaries: by strategy, in the order given.
        versus: by strategy, without the reference.
    """

    summaries: Mapping[str, Summary]
    versus: Mapping[str, Versus]


def compare_strategies(
    outcomes: Mapping[str, Mapping[int, float]],
    *,
    reference: str,
    num_runs: int | None = None,
    higher_is_better: bool = True,
    seed: int = 0,
) -> Judgement:
    """Judge outcomes.

    Args:
        outcomes: by strategy and seed, finite; strategies without runs are left out.
        reference: name of one of them.
        num_runs: that each was to make; None for as many as the reference or the strategy made, if these are more.
        higher_is_better: of the outcomes.
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
        planned = max(len(first), len(second)) if num_runs is None else num_runs
        versus[name] = Versus(
            difference=float(first.mean() - second.mean()),
            interval=welch_interval(first.tolist(), second.tolist()),
            p_value=p_values[name],
            adjusted=adjusted.get(name),
            num_compared=len(adjusted),
            num_runs=planned,
            num_ended=len(first),
            num_reference_ended=len(second),
            improvement=improvement(first, second) if higher_is_better else improvement(-first, -second),
            pairs=pair_by_seed(runs[name], runs[reference]),
            higher_is_better=higher_is_better,
        )
    return Judgement(summaries=summaries, versus=versus)


def summarise(values: Sequence[float], *, seed: int = 0) -> Summary:
    """Summarise the values of at least one run."""
    array = np.array(values, dtype=np.float64)
    interval = None
    if len(array) >= LEAST_RUNS and has_spread(values):
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


def improvement(first: FloatArray, second: FloatArray) -> Improvement:
    """Say how often a value of `first` (n,) is higher than one of `second` (m,)."""
    wins = (np.sign(first[:, None] - second[None, :]) + 1) / 2  # (n, m), ties half
    probability = float(wins.mean())
    interval = None
    if min(wins.shape) > 1:
        interval = (_least_improvement(probability, *wins.shape), 1 - _least_improvement(1 - probability, *wins.shape))
    return Improvement(probability=probability, interval=interval, p_value=_mann_whitney(first, second))


def _least_improvement(probability: float, num_first: int, num_second: int) -> float:
    """Return the lower end of Newcombe's interval: the truth of which the estimate is 1.96 of its standard errors above.

    The variance is Hanley and McNeil's (1982), of the truth and not of the estimate, as in Wilson's interval of a share.
    """
    if probability == 0:
        return 0.0
    quantile = float(stats.norm.ppf(0.975))
    half = (num_first + num_second) / 2 - 1

    def excess(truth: float) -> float:
        spread = 1 + half * (1 - truth) / (2 - truth) + half * truth / (1 + truth)
        return (probability - truth) ** 2 - quantile**2 * truth * (1 - truth) * spread / (num_first * num_second)

    return float(optimize.brentq(excess, 0.0, min(probability, 1 - 1e-9)))  # at 1 the variance is zero: no solution, but a root


def _mann_whitney(first: FloatArray, second: FloatArray) -> float:
    if np.ptp(np.concatenate([first, second])) == 0:
        return 1.0  # all are tied: the test's variance would be zero
    return float(stats.mannwhitneyu(first, second, alternative="two-sided").pvalue)


def pair_by_seed(first: Mapping[int, float], second: Mapping[int, float]) -> Pairs | None:
    """Compare runs of the same seed; None where there are none."""
    differences = np.array([value - second[seed] for seed, value in first.items() if seed in second])
    if not differences.size:
        return None
    has_interval = has_spread(differences.tolist())
    return Pairs(
        num=len(differences),
        difference=float(differences.mean()),
        interval=mean_interval(differences.tolist()) if has_interval else None,
        p_value=float(stats.wilcoxon(differences).pvalue) if has_interval else None,
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for their number (Holm 1979): the k-th lowest of m times m - k + 1, never below the one before."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * value))
        adjusted[name] = highest
    return adjusted
