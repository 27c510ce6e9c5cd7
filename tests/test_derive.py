from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from enas.configs import SharedConfig
from enas.datasets.images import ImageData
from enas.derive import rank_candidates
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.spaces.sampling import sample_uniform
from enas.types import Evaluation, PathBatch


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
