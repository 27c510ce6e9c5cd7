from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import enas.ranking
from enas.ranking import (
    MIN_FOR_INTERVAL,
    agreement,
    choice_bias,
    kendall_tau,
    precision,
    regret,
    resampled_taus,
    tau_interval,
    top_probabilities,
)
from enas.spaces.sampling import sample_distinct, sample_uniform
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
    monkeypatch.setattr(enas.ranking, "_BLOCK", 16)
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


# Choices that a score over- or under-rates.


def test_bias_is_the_mean_shift_of_rank_as_by_hand(chain_space):
    """Ranks by score 4 1 2 3, by truth 2 1 3 4: the shifts are 2 0 -1 -1 of 4."""
    space = chain_space(2, 3)
    tokens = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    scores, truths = np.array([0.9, 0.1, 0.2, 0.3]), np.array([20.0, 10.0, 30.0, 40.0])
    found = {(one.place, one.choice): one for one in choice_bias(space, tokens, scores, truths)}
    assert {key: one.bias for key, one in found.items()} == {
        ("op_0", "0"): 0.25,
        ("op_0", "1"): -0.25,
        ("op_1", "0"): 0.125,
        ("op_1", "1"): -0.125,
    }  # nobody holds the third choice of op_1
    assert all(one.num_architectures == 2 and not one.is_overall for one in found.values())
    half = stats.t.ppf(0.975, 1) * np.std([0.5, 0.0], ddof=1) / math.sqrt(2)
    assert found["op_0", "0"].interval == pytest.approx((0.25 - half, 0.25 + half))
    assert found["op_0", "0"].verdict == "-"


def test_choice_of_a_single_architecture_is_left_out(chain_space):
    tokens = np.array([[0, 0], [0, 1], [1, 1]])
    found = choice_bias(chain_space(2, 3), tokens, np.arange(3.0), np.arange(3.0))
    assert [(one.place, one.choice) for one in found] == [("op_0", "0"), ("op_1", "1")]


def test_choices_that_a_perfect_score_ranks_have_no_bias(planted_space):
    tokens = sample_uniform(planted_space, 100, np.random.default_rng(0))
    truths = np.random.default_rng(1).normal(size=100)
    found = choice_bias(planted_space, tokens, 3 * truths - 1, truths)
    assert {one.bias for one in found} == {0.0}
    assert {one.verdict for one in found} == {"-"}


def test_operation_is_held_by_all_that_have_it_in_any_decision(planted_space):
    tokens = sample_uniform(planted_space, 60, np.random.default_rng(0))
    ops = [column for column, decision in enumerate(planted_space.decisions) if decision.kind == "op"]
    found = choice_bias(planted_space, tokens, np.arange(60.0), np.arange(60.0))
    overall = {one.choice: one.num_architectures for one in found if one.is_overall}
    assert overall == {f"op_{c}": int((tokens[:, ops] == c).any(axis=1).sum()) for c in range(6)}
    assert {one.place for one in found if one.is_overall} == {"op"}
    skips = {one.place for one in found} - {"op"} - {planted_space.decisions[column].name for column in ops}
    assert skips == {decision.name for decision in planted_space.decisions if decision.kind == "skip"}


def test_operation_whose_holders_are_scored_higher_is_the_one_reported(chain_space):
    space = chain_space(5, 5, 5, 5)
    tokens = sample_distinct(space, 300, np.random.default_rng(0))
    truths = np.random.default_rng(1).normal(size=300)
    holders = (tokens == 2).any(axis=1)
    found = choice_bias(space, tokens, truths + 0.8 * holders, truths)
    overall = {one.choice: one.verdict for one in found if one.is_overall}
    assert [choice for choice, verdict in overall.items() if verdict == "over-rated"] == ["2"]
    lowered = choice_bias(space, tokens, truths - 0.8 * holders, truths)
    assert [one.choice for one in lowered if one.is_overall and one.verdict == "under-rated"] == ["2"]


def test_decision_whose_choice_is_scored_higher_is_the_one_reported(chain_space):
    space = chain_space(3, 4, 4)
    tokens = sample_uniform(space, 400, np.random.default_rng(2))
    truths = np.random.default_rng(3).normal(size=400)
    found = choice_bias(space, tokens, truths + 1.0 * (tokens[:, 1] == 3), truths)
    over_rated = [(one.place, one.choice) for one in found if one.verdict == "over-rated"]
    assert ("op_1", "3") in over_rated
    assert max(found, key=lambda one: one.bias).choice == "3"
    assert {place for place, _ in over_rated if place != "op_4"} == {"op_1"}
