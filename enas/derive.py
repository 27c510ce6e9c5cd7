"""From a finished search to its answer: candidates measured on the whole validation set, best first (Pham et al. 2018, 2.2).

Rewards are measured on single minibatches while the weights move; a ranking needs every candidate on the same examples under the
final weights. The test split plays no part here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from enas.configs import CostName
from enas.costs import CostMeter
from enas.failures import Failure, failures
from enas.metrics import Metric
from enas.rewards import FLOOR, Reward, accuracy, limit_excess
from enas.shared_weights import SharedWeights
from enas.types import IntArray


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An architecture and what the shared weights say of it.

    Attributes:
        tokens: of the search's space.
        valid_accuracy: fraction of the whole validation split that is right.
        valid_loss: mean cross-entropy there, nats.
        failure: why it could not be measured, or None.
        reward: of this measurement.
        costs: of its network, by name; those that the search's objective needs.
        excess: largest ratio of a cost to its hard limit; 0 without limits.
    """

    tokens: tuple[int, ...]
    valid_accuracy: float
    valid_loss: float
    failure: Failure | None = None
    reward: float = FLOOR
    costs: Mapping[str, float] = field(default_factory=dict)
    excess: float = 0.0

    @property
    def within_limits(self) -> bool:
        """Whether no cost is above its hard limit."""
        return self.excess <= 1

    def valid(self, metric: Metric) -> float:
        """Return a metric on the whole validation split."""
        return metric.of(accuracy=self.valid_accuracy, loss=self.valid_loss)


def rank_candidates(
    shared: SharedWeights,
    tokens: IntArray,
    *,
    reward: Reward = accuracy,
    meter: CostMeter | None = None,
    limits: Mapping[CostName, float] | None = None,
) -> list[Candidate]:
    """Measure architectures, int64 (K, D), on the whole validation split.

    Args: reward: what ranks. meter: measures the costs that it needs. limits: hard ones, of costs that the meter measures.
    Returns: the highest reward first (ties: lower loss); behind those within the limits the others, the nearest to them first;
        last of all those that failed (see `enas.failures`).
    """
    evaluation = shared.evaluate_all([shared.space.decode(row) for row in tokens])
    if meter is not None:
        evaluation = replace(evaluation, costs=meter.measure(tokens))
    excess = limit_excess(evaluation.costs, limits) if limits else np.zeros(len(tokens))
    failed = failures(evaluation.loss, evaluation.accuracy)
    rewards = reward(evaluation).tolist()
    candidates = [
        Candidate(
            tokens=tuple(row),
            valid_accuracy=float(evaluation.accuracy[index]),
            valid_loss=float(evaluation.loss[index]),
            failure=failed[index],
            reward=rewards[index],
            costs={name: float(values[index]) for name, values in evaluation.costs.items()},
            excess=float(excess[index]),
        )
        for index, row in enumerate(tokens.tolist())
    ]
    return sorted(candidates, key=_rank)


def _rank(candidate: Candidate) -> tuple[bool, float, float, float, tuple[int, ...]]:
    if candidate.failure is not None:
        return True, 0.0, 0.0, 0.0, candidate.tokens
    over = 0.0 if candidate.within_limits else candidate.excess
    return False, over, -candidate.reward, candidate.valid_loss, candidate.tokens
