from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from enas.configs import ObjectiveConfig, SharedConfig
from enas.datasets.images import ImageData
from enas.derive import Candidate, rank_candidates
from enas.rewards import make_reward
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.spaces.sampling import sample_uniform
from enas.types import Evaluation, FloatArray, IntArray, PathBatch


class FixedScores:
    """Shared weights that say of each architecture what a table says."""

    def __init__(self, scores: dict[tuple[int, ...], tuple[float, float]]) -> None:
        self.space = MacroConfig(num_layers=2).make_space()
        self.scores = scores

    def evaluate_all(self, architectures: Sequence[Any]) -> Evaluation:
        accuracy, loss = np.array([self.scores[self.space.encode(architecture)] for architecture in architectures]).T
        return Evaluation(accuracy=accuracy, loss=loss, num_examples=30)


def ranked(scores: dict[tuple[int, ...], tuple[float, float]]) -> list[tuple[int, ...]]:
    shared: Any = FixedScores(scores)
    return [candidate.tokens for candidate in rank_candidates(shared, np.array(list(scores)))]


def test_highest_accuracy_comes_first_and_the_loss_decides_ties():
    assert ranked({(0, 0, 0): (0.5, 9.0), (1, 0, 0): (0.9, 2.0), (2, 0, 0): (0.9, 1.0), (3, 0, 0): (0.7, 0.1)}) == [
        (2, 0, 0),
        (1, 0, 0),
        (3, 0, 0),
        (0, 0, 0),
    ]


def test_order_of_the_candidates_plays_no_part():
    scores = {(2, 1, 0): (0.5, 1.0), (1, 1, 1): (0.5, 1.0), (1, 1, 0): (0.5, 1.0)}
    assert ranked(scores) == ranked(dict(reversed(scores.items()))) == sorted(scores)


@pytest.mark.parametrize("worst", [(0.5, float("nan")), (0.5, float("inf")), (0.9, float("nan"))])
def test_candidate_whose_loss_is_not_finite_comes_last(worst):
    scores = {(0, 0, 0): worst, (1, 0, 0): (0.5, 5.0), (2, 0, 0): (0.5, 1.0), (3, 0, 0): (0.4, 1.0)}
    assert ranked(scores)[-1] == (0, 0, 0)


SCORES = {(0, 0, 0): (0.9, 1.0), (1, 0, 0): (0.8, 1.0), (2, 0, 0): (0.85, float("nan")), (3, 0, 0): (0.5, 1.0)}
SIZES = {(0, 0, 0): 900.0, (1, 0, 0): 300.0, (2, 0, 0): 10.0, (3, 0, 0): 100.0}


class FixedCosts:
    """A meter that says of each architecture what a table says."""

    def measure(self, tokens: IntArray) -> dict[str, FloatArray]:
        return {"parameters": np.array([SIZES[tuple(row)] for row in tokens.tolist()])}


def ranked_by(objective: ObjectiveConfig) -> list[Candidate]:
    shared: Any = FixedScores(SCORES)
    meter: Any = FixedCosts()
    reward = make_reward("accuracy" if objective.cost is None else "cost_product", objective)
    return rank_candidates(shared, np.array(list(SCORES)), reward=reward, meter=meter, limits=objective.limits)


def test_objective_puts_the_small_architecture_first_that_accuracy_alone_puts_behind():
    weighed = ranked_by(ObjectiveConfig(cost="parameters", target=300, exponent=-0.5))
    assert [candidate.tokens[0] for candidate in weighed] == [3, 1, 0, 2]  # .5 * 3^.5 > .8 > .9 / 3^.5
    assert [candidate.tokens[0] for candidate in ranked_by(ObjectiveConfig(max_parameters=10_000))] == [0, 1, 3, 2]
    assert weighed[0].reward == pytest.approx(0.5 * 3**0.5)
    assert [candidate.costs for candidate in weighed] == [{"parameters": SIZES[candidate.tokens]} for candidate in weighed]


def test_what_is_over_a_limit_comes_behind_what_is_within_the_nearest_first():
    candidates = ranked_by(ObjectiveConfig(max_parameters=200))
    assert [candidate.tokens[0] for candidate in candidates] == [3, 1, 0, 2]
    assert [candidate.within_limits for candidate in candidates[:3]] == [True, False, False]
    assert [candidate.excess for candidate in candidates[:3]] == [0.5, 1.5, 4.5]
    assert [candidate.reward for candidate in candidates] == [0.5, 0.0, 0.0, 0.0]
    none_within = ranked_by(ObjectiveConfig(max_parameters=5))
    assert [candidate.tokens[0] for candidate in none_within] == [3, 1, 0, 2]
    assert not none_within[0].within_limits


def test_candidates_are_measured_on_the_whole_validation_split(images: ImageData):
    shared = SharedWeights(MacroConfig(num_layers=3, filters=4), images, SharedConfig(batch_size=16, valid_batch_size=8))
    tokens = sample_uniform(shared.space, 6, np.random.default_rng(0))
    for row in tokens:
        shared.train_step(PathBatch(tokens=row[None], loss_weights=np.ones(1)))
    before = {name: value.clone() for name, value in shared.child.state_dict().items()}
    candidates = rank_candidates(shared, tokens)
    assert {candidate.tokens for candidate in candidates} == set(map(tuple, tokens.tolist()))
    for candidate in candidates:
        evaluation = shared.evaluate_all([shared.space.decode(candidate.tokens)])
        assert (candidate.valid_accuracy, candidate.valid_loss) == (evaluation.accuracy[0], evaluation.loss[0])
        assert 30 * candidate.valid_accuracy == pytest.approx(round(30 * candidate.valid_accuracy))
    accuracies = [candidate.valid_accuracy for candidate in candidates]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > accuracies[-1]
    assert shared.num_evaluations == 0
    assert all(torch.equal(value, before[name]) for name, value in shared.child.state_dict().items())
