from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import enas.ranking.rank_statistics
from enas.ranking.rank_statistics import (
    MIN_FOR_INTERVAL,
    agreement,
    kendall_tau,
    precision,
    regret,
    resampled_taus,
    tau_interval,
    top_probabilities,
)
from enas.types import FloatArray


def draw(num: int, *, noise: float, seed: int = 0, decimals: int = 12) -> tuple[FloatArray, FloatArray]:
    """Scores that follow truths but for noise, rounded so that some are equal."""
    rng = np.random.default_rng(seed)
    truths = rng.normal(size=num)
    return np.round(truths + noise * rng.normal(size=num), decimals), np.round(truths, decimals)


# Agreement of whole rankings.


def test_tau_counts_pairs_as_by_hand():
    """Of the six pairs four agree and one (the middle scores) does not; scores 3 and 3 are tied: 3 / sqrt(5 * 6)."""
    scores, truths = np.array([1.0, 3.0, 3.0, 2.0]), np.array([0.1, 0.2, 0.4, 0.3])
    assert kendall_tau(scores, truths) == pytest.approx((4 - 1) / math.sqrt(5 * 6))


@pytest.mark.parametrize("decimals", [12, 0])
def test_tau_and_spearman_are_scipys(decimals):
    scores, truths = draw(80, noise=0.7, decimals=decimals)
    found = agreement(scores, truths)
    assert found.num_architectures == 80
    assert found.tau == pytest.approx(stats.kendalltau(scores, truths).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(scores, truths).statistic)


@pytest.mark.parametrize("decimals", [12, 0])
def test_tau_of_a_resample_is_scipys_tau_of_the_copies(decimals, monkeypatch):
    monkeypatch.setattr(enas.ranking.rank_statistics, "_BLOCK", 16)
    scores, truths = draw(40, noise=1.0, decimals=decimals)
    counts = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=25)
    expected = []
    for row in counts:
        index = np.repeat(np.arange(40), row)
        expected.append(stats.kendalltau(scores[index], truths[index]).statistic)
    np.testing.assert_allclose(resampled_taus(scores, truths, counts), expected, rtol=1e-12)


def test_resample_of_a_single_architecture_has_no_tau():
    scores, truths = draw(3, noise=0.1)
    assert np.isnan(resampled_taus(scores, truths, np.array([[3, 0, 0], [2, 1, 0]]))).tolist() == [True, False]


def test_interval_is_scipys_percentile_bootstrap():
    """Oracle: SciPy's own resampling; both have an error of chance of about .01 at 1,000 resamples."""
    scores, truths = draw(60, noise=1.0)
    interval = tau_interval(scores, truths)
    expected = stats.bootstrap(
        (scores, truths),
        lambda x, y: stats.kendalltau(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=500,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert interval == pytest.approx(tuple(expected), abs=0.04)


def test_interval_covers_the_tau_of_many_architectures():
    truth = kendall_tau(*draw(4000, noise=1.0, seed=99))
    intervals = [tau_interval(*draw(60, noise=1.0, seed=seed), num_resamples=200) for seed in range(100)]
    covered = sum(low <= truth <= high for low, high in intervals)
    assert 88 <= covered <= 99


def test_interval_is_the_same_for_the_same_seed():
    scores, truths = draw(50, noise=1.0)
    assert tau_interval(scores, truths, seed=3) == tau_interval(scores, truths, seed=3) != tau_interval(scores, truths, seed=4)


@pytest.mark.parametrize("constant", ["scores", "truths"])
def test_equal_values_have_no_tau_and_no_interval(constant):
    values = {"scores": np.arange(20.0), "truths": np.arange(20.0), constant: np.ones(20)}
    found = agreement(**values)
    assert math.isnan(found.tau)
    assert math.isnan(found.spearman)
    assert found.interval is None
    assert found.tau_in_words() == "none: all values are equal"


def test_few_architectures_have_a_tau_but_no_interval():
    few = agreement(*draw(MIN_FOR_INTERVAL - 1, noise=0.0))
    assert (few.tau, few.interval) == (1.0, None)
    assert few.tau_in_words() == "1.00 (n=9: no interval)"
    enough = agreement(*draw(MIN_FOR_INTERVAL, noise=0.0))
    assert enough.interval == (1.0, 1.0)
    assert enough.tau_in_words() == "1.00 (1.00 to 1.00)"


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_what_could_not_be_measured_counts_as_the_worst(bad):
    scores, truths = draw(30, noise=0.5)
    worst, failed = scores.copy(), scores.copy()
    worst[[3, 7]], failed[[3, 7]] = scores.min() - 1, bad
    assert agreement(failed, truths) == agreement(worst, truths)


@pytest.mark.parametrize(
    ("scores", "truths", "message"),
    [
        ([1.0, 2.0], [1.0], r"expected as many scores as truths, at least one, got shapes \(2,\) and \(1,\)"),
        ([], [], r"at least one, got shapes \(0,\) and \(0,\)"),
        ([1.0, 2.0], [1.0, math.nan], "expected truths that are finite, got NaN"),
    ],
)
def test_values_that_do_not_fit_are_refused(scores, truths, message):
    with pytest.raises(ValueError, match=message):
        agreement(np.array(scores), np.array(truths))


# The best of a ranking, equal values in an order of chance.


def orders(values: FloatArray) -> list[list[int]]:
    """Every order of architectures from the best on that the values allow."""
    indices = range(len(values))
    return [list(order) for order in itertools.permutations(indices) if np.all(np.diff(values[list(order)]) <= 0)]


SCORES = np.array([0.2, 0.5, 0.5, 0.9, 0.5, 0.1])
TRUTHS = np.array([0.8, 0.3, 0.6, 0.6, 0.9, 0.2])


@pytest.mark.parametrize("k", range(1, 7))
def test_top_probabilities_are_shares_of_all_orders(k):
    tops = [order[:k] for order in orders(SCORES)]
    expected = [np.mean([index in top for top in tops]) for index in range(6)]
    assert top_probabilities(SCORES, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", range(1, 7))
def test_regret_is_the_mean_over_all_orders(k):
    expected = np.mean([TRUTHS.max() - TRUTHS[order[:k]].max() for order in orders(SCORES)])
    assert regret(SCORES, TRUTHS, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", range(1, 7))
def test_precision_is_the_mean_over_all_orders_of_both(k):
    shares = [len({*a[:k]} & {*b[:k]}) / k for a in orders(SCORES) for b in orders(TRUTHS)]
    assert precision(SCORES, TRUTHS, k) == pytest.approx(np.mean(shares))


def test_best_of_25_architectures_as_by_hand():
    """The score swaps the best two and puts the third best last: of the three best-scored two are among the three best."""
    truths = np.arange(25.0)
    scores = truths.copy()
    scores[[24, 23, 22]] = [23, 24, -1]
    found = agreement(scores, truths)
    assert found.regrets == {1: 1.0, 5: 0.0, 10: 0.0}
    assert found.precision == pytest.approx(2 / 3)
    assert found.mean_truth == np.mean([24, 23, 21, 20, 19, 18, 17, 16, 15, 14])


def test_top_is_cut_to_the_sample():
    found = agreement(np.array([1.0, 2.0, 3.0]), np.array([0.6, 0.3, 0.0]))
    assert found.regrets == {1: pytest.approx(0.6), 5: 0.0, 10: 0.0}
    assert found.mean_truth == pytest.approx(0.3)
    assert found.precision == 0.0
