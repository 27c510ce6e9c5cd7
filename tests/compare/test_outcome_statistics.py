from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from enas.compare.outcome_statistics import (
    compare_strategies,
    holm,
    improvement,
    interquartile_mean,
    pair_by_seed,
    resample_counts,
    resampled_iqm,
    summarise,
)

VALUES = np.random.default_rng(3).normal(0.9, 0.02, 11)


# Of one strategy.


def test_interquartile_mean_by_hand():
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 3.0, 100.0])) == 2.0  # one of five is cut at each end
    assert interquartile_mean(np.array([5.0, 1.0, 3.0])) == 3.0  # none
    assert interquartile_mean(np.array([9.0, 1.0, 2.0, 3.0])) == 2.5


@pytest.mark.parametrize("num", [2, 3, 4, 7, 12])
def test_resampled_interquartile_means_are_those_of_the_resamples_themselves(num):
    rng = np.random.default_rng(num)
    values = rng.integers(4, size=num) / 7  # with ties
    counts = resample_counts(num, 40, rng)
    assert (counts.sum(axis=1) == num).all()
    expected = [stats.trim_mean(np.repeat(values, row), 0.25) for row in counts]
    np.testing.assert_allclose(resampled_iqm(values, counts), expected, rtol=1e-12)


def test_summary_holds_scipys_and_hand_worked_figures():
    summary = summarise(VALUES.tolist())
    assert (summary.num, summary.mean) == (11, pytest.approx(VALUES.mean()))
    assert summary.deviation == pytest.approx(np.std(VALUES, ddof=1))
    assert summary.iqm == pytest.approx(np.sort(VALUES)[2:9].mean())
    expected = stats.bootstrap(
        (VALUES,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=4000, method="percentile", rng=0
    ).confidence_interval
    assert summary.interval == pytest.approx((expected.low, expected.high), abs=1.5e-3)


def test_few_runs_and_runs_without_spread_have_no_interval():
    single = summarise([0.7])
    assert (single.num, single.mean, single.iqm, single.interval) == (1, 0.7, 0.7, None)
    assert math.isnan(single.deviation)
    assert summarise(VALUES[:7].tolist()).interval is None
    low, high = summarise(VALUES[:8].tolist()).interval or (0, 0)
    assert low < interquartile_mean(VALUES[:8]) < high
    assert summarise([0.7] * 9).interval is None


# Of two.


def test_probability_of_improvement_counts_pairs_and_ties_half():
    first, second = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0])
    wins = sum((a > b) + 0.5 * (a == b) for a, b in product(first, second))
    found = improvement(first, second)
    assert found.probability == wins / 6 == 4.5 / 6
    assert found.probability == stats.mannwhitneyu(first, second).statistic / 6
    assert found.interval is not None
    assert found.interval[0] < found.probability <= found.interval[1] <= 1


def test_p_value_of_improvement_is_the_exact_share_of_rank_orders():
    # all 3 of one side above all 3 of the other: 2 of the 20 orders are as extreme
    assert improvement(np.array([4.0, 5, 6]), np.array([1.0, 2, 3])).p_value == pytest.approx(0.1)


def test_improvement_of_equal_and_of_single_values():
    equal = improvement(np.full(4, 0.5), np.full(3, 0.5))
    assert (equal.probability, equal.p_value) == (0.5, 1.0)
    assert equal.interval is not None
    assert equal.interval[0] < 0.3 < 0.7 < equal.interval[1]
    assert improvement(np.array([0.6]), np.array([0.5, 0.4])).interval is None


@pytest.mark.parametrize(("num_first", "num_second", "shift"), [(3, 3, 9), (2, 5, -9), (6, 4, 0.4)])
def test_ends_of_improvements_interval_are_1_96_of_their_own_standard_errors_away(num_first, num_second, shift):
    rng = np.random.default_rng(0)
    found = improvement(rng.normal(shift, 1, num_first), rng.normal(0, 1, num_second))
    assert found.interval is not None
    half = (num_first + num_second) / 2 - 1
    for end in found.interval:
        if 0 < end < 1:
            # Newcombe 2006, method 5: Hanley and McNeil's variance with both sides as large as their mean
            factor = 1 + half * (1 - end) / (2 - end) + half * end / (1 + end)
            error = math.sqrt(end * (1 - end) * factor / (num_first * num_second))
            assert abs(found.probability - end) == pytest.approx(stats.norm.ppf(0.975) * error, rel=1e-6)
    assert found.interval[0] <= found.probability <= found.interval[1]
    assert found.interval[1] - found.interval[0] > 0.3  # even where one side is all better


@pytest.mark.parametrize(("num", "least"), [(3, 0.88), (5, 0.91), (8, 0.92)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_improvements_interval_covers_the_truth_in_95_of_100_repetitions_of_few_runs(num, least, shift):
    rng = np.random.default_rng(num)
    truth = stats.norm.cdf(shift / math.sqrt(2))
    intervals = [improvement(rng.normal(shift, 1, num), rng.normal(0, 1, num)).interval for _ in range(200)]
    assert np.mean([low <= truth <= high for low, high in intervals]) >= least


def test_pairs_are_runs_of_the_same_seed():
    first, second = {0: 0.95, 1: 0.90, 2: 0.93, 9: 0.1}, {2: 0.90, 1: 0.88, 0: 0.91, 7: 0.99}
    found = pair_by_seed(first, second)
    differences = [0.04, 0.02, 0.03]
    assert found is not None
    assert (found.num, found.difference) == (3, pytest.approx(0.03))
    expected = stats.ttest_rel([0.95, 0.90, 0.93], [0.91, 0.88, 0.90]).confidence_interval()
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.p_value == pytest.approx(0.25) == pytest.approx(stats.wilcoxon(differences).pvalue)  # 2 of the 8 signs


def test_pairs_that_tell_nothing():
    assert pair_by_seed({0: 0.5}, {1: 0.5}) is None
    single = pair_by_seed({0: 0.5}, {0: 0.25})
    assert single is not None
    assert (single.num, single.difference, single.interval, single.p_value) == (1, 0.25, None, None)
    for shift in (0.0, 0.1):  # .5 + .1 - .5 is not .6 + .1 - .6 to the last bit
        same = pair_by_seed({0: 0.5 + shift, 1: 0.6 + shift}, {0: 0.5, 1: 0.6})
        assert same is not None
        assert (same.num, same.interval, same.p_value) == (2, None, None)


def test_holm_by_hand():
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9})
    assert adjusted == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


# Of all.


def outcomes(**values: tuple[float, ...]) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(runs)) for name, runs in values.items()}


def test_verdict_is_what_welchs_interval_shows():
    found = compare_strategies(
        outcomes(uniform=(0.5, 0.52, 0.51), up=(0.6, 0.61, 0.63), down=(0.4, 0.41, 0.43), same=(0.5, 0.53, 0.5), one=(0.9,)),
        reference="uniform",
    )
    assert {name: one.verdict for name, one in found.versus.items()} == {
        "up": "yes",
        "down": "no",
        "same": "not shown",
        "one": "not shown",
    }
    assert list(found.summaries) == ["uniform", "up", "down", "same", "one"]
    assert found.versus["one"].obstacle == "2 of 3 runs failed"  # the others made three
    up = found.versus["up"]
    expected = stats.ttest_ind([0.6, 0.61, 0.63], [0.5, 0.52, 0.51], equal_var=False)
    assert up.p_value == pytest.approx(expected.pvalue)
    assert up.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert up.adjusted == pytest.approx(3 * expected.pvalue)  # `one` has no p-value to adjust
    assert (found.versus["one"].p_value, found.versus["one"].adjusted) == (None, None)


def test_two_runs_that_agree_show_nothing():
    values = outcomes(uniform=(0.5, 0.5), up=(0.6, 0.6), same=(0.5, 0.5), spread=(0.6, 0.601))
    found = compare_strategies(values, reference="uniform").versus
    for name in ("up", "same"):
        assert (found[name].interval, found[name].p_value, found[name].adjusted) == (None, None, None)
        assert (found[name].verdict, found[name].obstacle) == ("not shown", "no spread")
    assert (found["spread"].verdict, found["spread"].num_compared) == ("yes", 1)


def test_verdict_has_to_hold_for_all_strategies_together():
    uniform, better = (0.50, 0.52, 0.51, 0.50), (0.515, 0.530, 0.521, 0.528)
    same = (0.51, 0.52, 0.50, 0.5)
    alone = compare_strategies(outcomes(uniform=uniform, better=better), reference="uniform").versus["better"]
    assert (alone.verdict, alone.obstacle, alone.adjusted) == ("yes", "", alone.p_value)
    assert alone.p_value is not None
    assert 0.01 < alone.p_value < 0.05
    others = {f"same{index}": same for index in range(4)}
    among = compare_strategies(outcomes(uniform=uniform, better=better, **others), reference="uniform").versus["better"]
    assert (among.interval, among.p_value) == (alone.interval, alone.p_value)
    assert among.adjusted == pytest.approx(5 * alone.p_value)
    assert (among.verdict, among.obstacle) == ("not shown", "does not hold after the correction for 5 comparisons")


@pytest.mark.parametrize(
    ("values", "num_uniform", "verdict", "obstacle"),
    [
        ((0.90, 0.91), 3, "not shown", "1 of 3 runs failed"),
        ((0.90, 0.91, 0.92), 2, "yes", ""),
        ((0.10, 0.11), 3, "no", ""),
        ((0.10, 0.11, 0.12), 2, "not shown", "1 of 3 runs of random search failed"),
    ],
)
def test_failed_run_counts_as_worse_than_any(values, num_uniform, verdict, obstacle):
    runs = outcomes(uniform=(0.50, 0.51, 0.52)[:num_uniform], other=values)
    found = compare_strategies(runs, reference="uniform", num_runs=3).versus["other"]
    assert (found.verdict, found.obstacle) == (verdict, obstacle)


def test_a_strategy_like_random_search_is_shown_to_beat_it_in_about_1_of_40_repetitions():
    rng = np.random.default_rng(1)
    draws = [outcomes(uniform=tuple(rng.normal(size=8)), same=tuple(rng.normal(size=8))) for _ in range(60)]
    verdicts = [compare_strategies(draw, reference="uniform").versus["same"].verdict for draw in draws]
    assert verdicts.count("yes") <= 5
    assert verdicts.count("not shown") >= 50


def test_missing_reference_and_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="expected runs of uniform, got those of enas"):
        compare_strategies({"uniform": {}, "enas": {0: 0.5}}, reference="uniform")
    with pytest.raises(ValueError, match="expected finite outcomes, got nan"):
        compare_strategies(outcomes(uniform=(0.5, math.nan)), reference="uniform")
