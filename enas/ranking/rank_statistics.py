"""How well a score ranks architectures: its agreement with ground truth.

Scores and truths are arrays with a value an architecture, in the same order; higher is better. A score that is not finite, of an
architecture that could not be measured, counts as worse than all others. Architectures with equal values are put in order by
chance, and what depends on that order is the mean over all orders.

Kendall's tau-b and its interval over architectures say how two rankings agree as a whole; regret, precision and the mean truth of
the best say how they agree where a search looks. Not covered: the noise of the truth itself (seeds of the training), and of the
score (another supernet), which the interval over architectures knows nothing of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from enas.types import FloatArray, IntArray

TOP = (1, 5, 10)
"""How many of the best-scored architectures regret is told of."""
TOP_SHARE = 0.1
"""The share of the architectures that precision is about."""
MIN_FOR_INTERVAL = 10
"""Fewest architectures that an interval of tau is told of."""
NUM_RESAMPLES = 1_000
_BLOCK = 512  # rows of the table of pairs held in memory at once


@dataclass(frozen=True, kw_only=True)
class RankAgreement:
    """How a score agrees with the truth over a sample of architectures.

    Attributes:
        num_architectures: in the sample, n.
        tau: Kendall's tau-b, in [-1, 1]; NaN where all scores or all truths are equal.
        interval: 95 % interval of tau over architectures (percentile bootstrap); None without a tau or for n < MIN_FOR_INTERVAL.
        spearman: Spearman's rho, in [-1, 1]; NaN as tau.
        regrets: for each k of `TOP`, cut to n: the best truth in the sample minus the best among the k best-scored, at least 0.
        precision: the share of the ceil(n / 10) best-scored that are among the ceil(n / 10) truly best, in [0, 1].
        mean_truth: of the 10 best-scored.
    """

    num_architectures: int
    tau: float
    interval: tuple[float, float] | None
    spearman: float
    regrets: Mapping[int, float]
    precision: float
    mean_truth: float

    def tau_in_words(self) -> str:
        """Return tau with its interval, or why there is none."""
        if math.isnan(self.tau):
            return "none: all values are equal"
        if self.interval is None:
            return f"{self.tau:.2f} (n={self.num_architectures}: no interval)"
        return f"{self.tau:.2f} ({self.interval[0]:.2f} to {self.interval[1]:.2f})"


def agreement(scores: FloatArray, truths: FloatArray, *, seed: int = 0) -> RankAgreement:
    """Measure how scores agree with truths.

    Args: scores: (n,), not finite for what could not be measured. truths: (n,), finite. seed: of the bootstrap.
    Raises: ValueError for arrays of other lengths, empty ones, or a truth that is not finite.
    """
    ranks = checked_ranks(scores, truths)
    usable = all(np.ptp(values) > 0 for values in ranks)
    num = len(truths)
    return RankAgreement(
        num_architectures=num,
        tau=kendall_tau(*ranks),
        interval=tau_interval(scores, truths, seed=seed),
        spearman=float(np.corrcoef(*ranks)[0, 1]) if usable else math.nan,
        regrets={k: regret(scores, truths, min(k, num)) for k in TOP},
        precision=precision(scores, truths, math.ceil(TOP_SHARE * num)),
        mean_truth=float(top_probabilities(ranks[0], min(max(TOP), num)) @ truths) / min(max(TOP), num),
    )


def kendall_tau(scores: FloatArray, truths: FloatArray) -> float:
    """Return Kendall's tau-b of two arrays (n,); NaN where the values of one are all equal."""
    ranks = checked_ranks(scores, truths)
    if min(np.ptp(values) for values in ranks) == 0:
        return math.nan
    return float(stats.kendalltau(*ranks).statistic)


def tau_interval(
    scores: FloatArray, truths: FloatArray, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float] | None:
    """Return the 95 % percentile-bootstrap interval of tau-b over architectures; None as `RankAgreement.interval`."""
    ranks = checked_ranks(scores, truths)
    num = len(truths)
    if num < MIN_FOR_INTERVAL or min(np.ptp(values) for values in ranks) == 0:
        return None
    counts = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=num_resamples)
    taus = resampled_taus(*ranks, counts)
    low, high = np.percentile(taus[np.isfinite(taus)], [2.5, 97.5]).tolist()
    return low, high


def resampled_taus(scores: FloatArray, truths: FloatArray, counts: IntArray) -> FloatArray:
    """Return tau-b of each resample, from signs of pairs that are taken once.

    With s_ij = sign(score_i - score_j), t_ij alike and c_i copies of architecture i, tau-b is
    sum c_i c_j s_ij t_ij / sqrt(sum c_i c_j |s_ij| * sum c_i c_j |t_ij|): copies of one are tied, and ties count in neither sum.

    Args: scores, truths: (n,). counts: (B, n), how often each resample holds each architecture.
    Returns: (B,); NaN for a resample whose scores or truths are all equal.
    """
    copies = counts.astype(np.float32)  # products below are whole numbers under 2**24, exact in float32
    sums = np.zeros((3, len(counts)))
    for rows in (slice(start, start + _BLOCK) for start in range(0, len(scores), _BLOCK)):
        signs = [np.sign(values[rows, None] - values[None, :]).astype(np.float32) for values in (scores, truths)]
        for total, pairs in zip(sums, (signs[0] * signs[1], np.abs(signs[0]), np.abs(signs[1])), strict=True):
            total += np.einsum("br,br->b", copies[:, rows], copies @ pairs.T, dtype=np.float64)
    agreeing, *untied = sums
    scale = np.sqrt(untied[0] * untied[1])
    return np.divide(agreeing, scale, out=np.full_like(scale, np.nan), where=scale > 0)


def top_probabilities(values: FloatArray, k: int) -> FloatArray:
    """Return for each of n values the probability that it is among the k highest, equal ones being put in order by chance."""
    kth = np.sort(values)[-k]
    above, tied = (mask.astype(np.float64) for mask in (values > kth, values == kth))
    chances: FloatArray = above + tied * (k - above.sum()) / tied.sum()
    return chances


def precision(scores: FloatArray, truths: FloatArray, k: int) -> float:
    """Return the share of the k best-scored of n architectures that are among the k truly best."""
    return float(top_probabilities(comparable(scores), k) @ top_probabilities(truths, k)) / k


def regret(scores: FloatArray, truths: FloatArray, k: int) -> float:
    """Return the best truth of n architectures minus the best among the k best-scored."""
    chances = top_probabilities(comparable(scores), k)
    sure, tied = truths[chances == 1], np.sort(truths[(chances > 0) & (chances < 1)])[::-1]
    best_sure = float(sure.max(initial=-math.inf))
    drawn, expected, none_yet = k - len(sure), 0.0, 1.0
    for index, truth in enumerate(tied.tolist()):  # the best of those drawn from the tied is the first that is drawn
        is_drawn = min(1.0, drawn / (len(tied) - index))  # given that none before it was
        expected += none_yet * is_drawn * max(truth, best_sure)
        none_yet *= 1 - is_drawn
    return float(truths.max()) - (expected if len(tied) else best_sure)


def comparable(scores: FloatArray, *, losses: FloatArray | None = None) -> FloatArray:
    """Return scores with minus infinity, worse than all others, for architectures that could not be measured.

    Args: scores: (n,). losses: (n,), where a loss that is not finite tells what failed; None where the scores tell themselves.
    """
    is_measured = np.isfinite(scores) if losses is None else np.isfinite(scores) & np.isfinite(losses)
    return np.where(is_measured, scores, -math.inf)


def checked_ranks(scores: FloatArray, truths: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return both arrays as ranks 1..n from the lowest on, equal values sharing the mean of theirs. Raises ValueError."""
    if scores.ndim != 1 or scores.shape != truths.shape or not scores.size:
        raise ValueError(f"expected as many scores as truths, at least one, got shapes {scores.shape} and {truths.shape}")
    if not np.isfinite(truths).all():
        raise ValueError("expected truths that are finite, got NaN or an infinity")
    by_score, by_truth = (stats.rankdata(values).astype(np.float64) for values in (comparable(scores), truths))
    return by_score, by_truth
