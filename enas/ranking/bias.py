"""Which choices sharing weights over- or under-rates: what the truth does not explain of the ranks of those that hold them.

A score with noise and no bias rates good architectures too low and bad ones too high (regression to the mean), so that the plain
difference of ranks blames every choice that is truly good. Therefore the rank by score is first regressed on the rank by truth
(least squares, over all architectures); what is left of an architecture's rank, its residual, has nothing to do with how good it
is. A straight line is assumed: where score and truth hang together in a curve, choices of the very best and very worst show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from enas.comparison import mean_interval
from enas.ranking.rank_statistics import checked_ranks
from enas.spaces.base import SearchSpace
from enas.types import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class ChoiceBias:
    """How sharing weights rates the architectures that hold a choice.

    Attributes:
        place: the decision, or, over all op decisions of a vocabulary, that vocabulary.
        is_overall: whether it is a vocabulary.
        choice: its label.
        num_architectures: that hold it, in this decision or in any.
        bias: mean over them of the residual of the rank by score, over n, a fraction in (-1, 1); above 0: over-rated.
        interval: 95 % interval of that mean, over architectures.
    """

    place: str
    is_overall: bool
    choice: str
    num_architectures: int
    bias: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        """`over-rated`, `under-rated`, or `-` where the interval holds zero."""
        if self.interval[0] <= 0 <= self.interval[1]:
            return "-"
        return "over-rated" if self.bias > 0 else "under-rated"


def choice_bias(space: SearchSpace[Any], tokens: IntArray, scores: FloatArray, truths: FloatArray) -> list[ChoiceBias]:
    """Say of each operation over all decisions of its vocabulary, then of each choice of each decision, how the score rates it.

    Architectures hold many choices, and what one of them causes shows in the others that often stand beside it. Where many
    choices are looked at, some intervals exclude zero by chance.

    Args: tokens: int64 (n, D). scores, truths: (n,), as in `enas.ranking.agreement`.
    Returns: those that at least two architectures hold, and not all, whose residuals sum to 0 whatever the choice.
    """
    residuals = rank_residuals(scores, truths)
    return [
        ChoiceBias(
            place=place,
            is_overall=is_overall,
            choice=choice,
            num_architectures=int(holds.sum()),
            bias=float(residuals[holds].mean()),
            interval=_interval(residuals[holds], num_all=len(residuals)),
        )
        for place, is_overall, choice, holds in _holders(space, tokens)
        if 1 < holds.sum() < len(residuals)
    ]


def rank_residuals(scores: FloatArray, truths: FloatArray) -> FloatArray:
    """Return what the rank by truth does not explain of the rank by score: residuals of the least-squares line, over n.

    Args: scores, truths: (n,), as in `enas.ranking.agreement`.
    Returns: (n,), of sum 0 and not correlated with the rank by truth.
    """
    by_score, by_truth = (ranks - ranks.mean() for ranks in checked_ranks(scores, truths))
    spread = float(by_truth @ by_truth)
    slope = float(by_score @ by_truth) / spread if spread else 0.0
    residuals: FloatArray = (by_score - slope * by_truth) / len(truths)
    return residuals


def _interval(residuals: FloatArray, *, num_all: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean residual of a choice's holders (Student).

    The residuals of all architectures sum to 0: the mean of a part of them varies as that of a sample without replacement, by
    the root of the share that does not hold the choice (finite population correction, Cochran 1977, chapter 2).
    """
    low, high = mean_interval(residuals.tolist()) or (math.nan, math.nan)
    half = (high - low) / 2 * math.sqrt(1 - len(residuals) / num_all)
    middle = float(residuals.mean())
    return middle - half, middle + half


def _holders(space: SearchSpace[Any], tokens: IntArray) -> Iterator[tuple[str, bool, str, npt.NDArray[np.bool_]]]:
    """Yield (place, is_overall, choice, which architectures hold it, (n,)); a vocabulary of one decision is that decision."""
    columns: dict[str, list[int]] = {}
    for column, decision in enumerate(space.decisions):
        if decision.kind == "op":
            columns.setdefault(decision.vocabulary, []).append(column)
    for vocabulary, members in columns.items():
        labels = dict.fromkeys(choice for column in members for choice in space.decisions[column].choices)
        for choice in labels if len(members) > 1 else ():
            holds = [_chosen(space.decisions[column].choices, choice, tokens[:, column]) for column in members]
            yield vocabulary, True, choice, np.any(holds, axis=0)
    for column, decision in enumerate(space.decisions):
        for choice in decision.choices if len(decision.choices) > 1 else ():
            yield decision.name, False, choice, _chosen(decision.choices, choice, tokens[:, column])


def _chosen(choices: Sequence[str], choice: str, tokens: IntArray) -> npt.NDArray[np.bool_]:
    return np.equal(tokens, choices.index(choice) if choice in choices else -1)
