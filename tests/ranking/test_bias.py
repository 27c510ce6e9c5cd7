from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from enas.ranking.bias import choice_bias, rank_residuals
from enas.ranking.rank_statistics import kendall_tau
from enas.spaces.sampling import sample_distinct, sample_uniform
from enas.types import FloatArray


def test_residuals_are_those_of_scipys_regression_of_ranks():
    rng = np.random.default_rng(0)
    truths = rng.normal(size=50).round(1)  # some are equal
    scores = truths + rng.normal(size=50)
    by_score, by_truth = stats.rankdata(scores), stats.rankdata(truths)
    line = stats.linregress(by_truth, by_score)
    expected = (by_score - line.intercept - line.slope * by_truth) / 50
    np.testing.assert_allclose(rank_residuals(scores, truths), expected, atol=1e-12)


def test_truths_that_are_all_equal_explain_nothing():
    scores = np.array([0.1, 0.4, 0.2, math.nan])
    np.testing.assert_allclose(rank_residuals(scores, np.ones(4)), np.array([-0.5, 1.5, 0.5, -1.5]) / 4)


# Of the choices.


def test_bias_is_the_mean_residual_of_rank_as_by_hand(chain_space):
    """Ranks by score 4 1 2 3, by truth 2 1 3 4: the slope is 2 / 5, the residuals are 1.7 -.9 -.7 -.1 of 4."""
    space = chain_space(2, 3)
    tokens = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    scores, truths = np.array([0.9, 0.1, 0.2, 0.3]), np.array([20.0, 10.0, 30.0, 40.0])
    found = {(one.place, one.choice): one for one in choice_bias(space, tokens, scores, truths)}
    assert {key: one.bias for key, one in found.items()} == {
        ("op_0", "0"): pytest.approx(0.1),
        ("op_0", "1"): pytest.approx(-0.1),
        ("op_1", "0"): pytest.approx(0.125),
        ("op_1", "1"): pytest.approx(-0.125),
    }  # nobody holds the third choice of op_1
    assert all(one.num_architectures == 2 and not one.is_overall for one in found.values())
    # Half of the architectures hold it: the interval of the mean of a part of what sums to 0.
    half = stats.t.ppf(0.975, 1) * np.std([0.425, -0.225], ddof=1) / math.sqrt(2) * math.sqrt(0.5)
    assert found["op_0", "0"].interval == pytest.approx((0.1 - half, 0.1 + half))
    assert found["op_0", "0"].verdict == "-"


def noisy(truths: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A score that is the rank by truth with noise of its own for each architecture."""
    return stats.rankdata(truths) / len(truths) + 0.32 * rng.normal(size=len(truths))


def test_noise_alone_flags_one_choice_in_twenty_whatever_the_choices_are_worth(chain_space):
    """Each decision's last choice is the best: with the plain difference of ranks noise would under-rate it."""
    space, taus, verdicts = chain_space(5, 5, 5, 5, 5, 5), [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        tokens = sample_distinct(space, 300, rng)
        truths = tokens @ np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]) + rng.normal(size=300)
        scores = noisy(truths, rng)
        taus.append(kendall_tau(scores, truths))
        verdicts.append(
            {(one.is_overall, one.place, one.choice): one.verdict for one in choice_bias(space, tokens, scores, truths)}
        )
    assert np.mean(taus) == pytest.approx(0.5, abs=0.05)
    flagged = [verdict != "-" for row in verdicts for verdict in row.values()]
    assert len(flagged) == 25 * 35
    assert 0.03 <= np.mean(flagged) <= 0.07
    best = [row[False, f"op_{decision}", "4"] for row in verdicts for decision in range(6)]
    assert best.count("under-rated") <= 8  # of 150, where 2.5 % are expected; a bias would flag most


def test_choice_that_all_architectures_hold_is_left_out(chain_space):
    tokens = np.array([[0, 0], [0, 1], [0, 0], [0, 1]])
    found = choice_bias(chain_space(2, 3), tokens, np.array([0.3, 0.1, 0.4, 0.1]), np.arange(4.0))
    assert [(one.place, one.choice) for one in found] == [("op_1", "0"), ("op_1", "1")]


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
