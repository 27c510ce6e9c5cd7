from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from enas.comparison import Comparison, compare, deviation, has_spread, mean_interval, welch_interval, welch_p_value
from enas.metrics import METRICS

FIRST, SECOND = (0.95, 0.97, 0.96, 0.99), (0.90, 0.93, 0.85)


def test_interval_of_a_difference_is_welchs():
    expected = stats.ttest_ind(FIRST, SECOND, equal_var=False).confidence_interval(0.95)
    assert welch_interval(FIRST, SECOND) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_interval_of_a_difference_by_hand():
    # Means 3 and 1; variances of the means 1/3 and 4/3; 25/9 / (1/9/2 + 16/9/2) = 50/17 degrees of freedom.
    low, high = welch_interval((2, 3, 4), (-1, 1, 3))
    half = stats.t.ppf(0.975, 50 / 17) * math.sqrt(5 / 3)
    assert (low, high) == pytest.approx((2 - half, 2 + half))


def test_interval_holds_the_true_difference_in_95_of_100_repetitions():
    rng = np.random.default_rng(0)
    intervals = [welch_interval(rng.normal(0.5, 0.1, 5), rng.normal(0.2, 0.4, 10)) for _ in range(1000)]
    assert np.mean([low <= 0.3 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.02)


def test_one_constant_side_leaves_the_others_spread():
    low, high = welch_interval((0.9, 0.9, 0.9), (0.8, 0.85, 0.9))  # scipy's own warns of lost precision here
    half = stats.t.ppf(0.975, 2) * 0.05 / math.sqrt(3)
    assert (low, high) == pytest.approx((0.05 - half, 0.05 + half))


def test_interval_of_a_mean_is_students():
    expected = stats.ttest_1samp(FIRST, 0).confidence_interval(0.95)
    assert mean_interval(FIRST) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("values", [(0.9,), ()])
def test_single_values_have_no_interval(values):
    assert welch_interval(FIRST, values) is None
    assert welch_interval(values, FIRST) is None
    assert mean_interval(values) is None
    assert math.isnan(deviation(values))


def test_comparison_holds_the_figures_of_both_sides():
    comparison = compare(FIRST, SECOND)
    assert comparison == Comparison(
        searched_mean=pytest.approx(0.9675),
        random_mean=pytest.approx(0.89333333),
        searched_deviation=pytest.approx(np.std(FIRST, ddof=1)),
        random_deviation=pytest.approx(np.std(SECOND, ddof=1)),
        num_searched=4,
        num_random=3,
        difference=pytest.approx(0.07416667),
        interval=welch_interval(FIRST, SECOND),
    )


@pytest.mark.parametrize(
    ("searched", "random", "verdict", "words"),
    [
        ((0.96, 0.97, 0.98), (0.90, 0.91, 0.92), "yes", "The search beat random architectures: +6.00 points, 95 % interval +"),
        ((0.90, 0.91, 0.92), (0.96, 0.97, 0.98), "no", "The search did worse than random architectures: -6.00 points"),
        (
            (0.90, 0.95, 0.99),
            (0.89, 0.94, 0.98),
            "not shown",
            "Not shown that the search beat random architectures: +1.00 points",
        ),
        ((0.99,), (0.5, 0.5, 0.5), "not shown", "+49.00 points, but n=1 gives no interval."),
        ((0.99, 0.98), (0.5,), "not shown", "but n=1 gives no interval."),
        ((0.9, 0.9), (0.9, 0.9, 0.9), "not shown", "+0.00 points, but no spread gives no interval."),
        ((0.9, 0.9), (0.8, 0.8), "not shown", "+10.00 points, but no spread gives no interval."),
        ((0.3, 0.1 + 0.2), (0.8, 0.8), "not shown", "-50.00 points, but no spread gives no interval."),
    ],
)
def test_verdict_is_what_the_interval_says(searched, random, verdict, words):
    comparison = compare(searched, random)
    assert comparison.verdict == verdict
    assert words in comparison.in_words()


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.0, 0.1), "not shown"), ((-0.1, 0.0), "not shown"), ((1e-9, 0.1), "yes"), ((-0.1, -1e-9), "no")],
)
def test_interval_that_touches_zero_shows_nothing(interval, verdict):
    numbers = dict.fromkeys(("searched_mean", "random_mean", "searched_deviation", "random_deviation", "difference"), 0.0)
    assert Comparison(**numbers, num_searched=2, num_random=2, interval=interval).verdict == verdict


@pytest.mark.parametrize(
    ("searched", "random", "verdict", "words"),
    [
        (
            (90.0, 91.0, 92.0),
            (96.0, 97.0, 98.0),
            "yes",
            "The search beat random architectures: -6.00 in perplexity, 95 % interval -",
        ),
        ((96.0, 97.0, 98.0), (90.0, 91.0, 92.0), "no", "The search did worse than random architectures: +6.00 in perplexity"),
        ((90.0, 95.0), (90.0, 94.0), "not shown", "Not shown that the search beat random architectures: +0.50 in perplexity"),
        ((math.inf, 90.0), (80.0, 81.0), "not shown", "+inf in perplexity, but an infinite perplexity gives no interval."),
        (
            (math.inf,),
            (math.inf,),
            "not shown",
            "Not shown that the search beat random architectures: both have an infinite perplexity.",
        ),
    ],
)
def test_lower_perplexities_are_better(searched, random, verdict, words):
    comparison = compare(searched, random, metric=METRICS["perplexity"])
    assert comparison.verdict == verdict
    assert words in comparison.in_words()


def test_infinite_values_have_neither_spread_nor_interval():
    values = (1.0, math.inf, math.inf)
    assert not has_spread(values)
    assert math.isnan(deviation(values))
    assert mean_interval(values) is None
    assert welch_interval(values, FIRST) is welch_interval(FIRST, values) is welch_p_value(values, FIRST) is None


def test_words_name_what_was_compared_with_random_architectures():
    high, low = (0.96, 0.97, 0.98), (0.90, 0.91, 0.92)
    assert compare(high, low).in_words("the architecture").startswith("The architecture beat random architectures: +6.00")
    assert (
        compare(low, high).in_words("the architecture").startswith("The architecture did worse than random architectures: -6.00")
    )
    assert (
        compare(high, high).in_words("the architecture").startswith("Not shown that the architecture beat random architectures")
    )
