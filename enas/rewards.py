"""From a measurement to the number that a controller maximises.

`accuracy` is ENAS' reward for images, `perplexity` that for texts; `cost_product` is MnasNet's, which a target for parameters,
FLOPs or latency bends (Tan et al. 2019, eq. 2 and 3, arXiv 1807.11626). Under hard limits an architecture over one of them earns
the floor whatever the reward is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from enas.configs import CostName, InputKind, ObjectiveConfig
from enas.types import Evaluation, FloatArray

Reward = Callable[[Evaluation], FloatArray]
"""Rewards are at least `FLOOR`."""

FLOOR = 0.0
"""What an architecture gets whose measurement failed (its loss was not a finite number, or it did not fit in memory), and one
over a hard limit."""
_LEAST_RATIO = 1e-6  # of a cost to its target: a network without weights must not earn an infinite reward


def accuracy(evaluation: Evaluation) -> FloatArray:
    """Return the accuracy, a fraction in [0, 1], of each architecture (N,); the floor where its loss is not finite."""
    return np.where(np.isfinite(evaluation.loss), evaluation.accuracy, FLOOR)


@dataclass(frozen=True, kw_only=True)
class CostProduct:
    """Accuracy * (cost / target)^w, (N,); the floor where the loss is not finite or the cost infinite.

    A cost of less than a millionth of the target counts as that much.

    Args: objective: with a cost and its target.
    """

    objective: ObjectiveConfig

    def __post_init__(self) -> None:
        """Refuse an objective without a cost."""
        self.objective.require_reward("cost_product")

    def __call__(self, evaluation: Evaluation) -> FloatArray:
        """Return the rewards. Raises ValueError where the cost was not measured."""
        assert self.objective.cost is not None
        assert self.objective.target is not None
        cost = _cost_of(evaluation, self.objective.cost)
        ratio = np.maximum(cost / self.objective.target, _LEAST_RATIO)
        if not self.objective.soft:
            ratio = np.maximum(ratio, 1.0)
        return accuracy(evaluation) * ratio**self.objective.exponent


@dataclass(frozen=True, kw_only=True)
class InversePerplexity:
    """c / perplexity, (N,) (Pham et al. 2018, section 2.2); the floor where the loss is not finite.

    Args: scale: c.
    """

    scale: float

    def __call__(self, evaluation: Evaluation) -> FloatArray:
        """Return the rewards."""
        loss = np.where(np.isfinite(evaluation.loss), evaluation.loss, np.inf)
        return np.maximum(self.scale * np.exp(-loss), FLOOR)


def _inverse_perplexity(objective: ObjectiveConfig) -> Reward:
    return InversePerplexity(scale=objective.perplexity_scale)


def _accuracy_alone(objective: ObjectiveConfig) -> Reward:
    del objective
    return accuracy


def _cost_product(objective: ObjectiveConfig) -> Reward:
    return CostProduct(objective=objective)


REWARDS: dict[str, Callable[[ObjectiveConfig], Reward]] = {
    "accuracy": _accuracy_alone,
    "cost_product": _cost_product,
    "perplexity": _inverse_perplexity,
}
"""What makes every reward, by its name."""


@dataclass(frozen=True, kw_only=True)
class LimitedReward:
    """A reward that is the floor for architectures over a hard limit.

    Args: reward: within the limits. limits: the most of each cost.
    """

    reward: Reward
    limits: Mapping[CostName, float]

    def __call__(self, evaluation: Evaluation) -> FloatArray:
        """Return the rewards (N,). Raises ValueError where a limited cost was not measured."""
        excess = limit_excess({name: _cost_of(evaluation, name) for name in self.limits}, self.limits)
        return np.where(excess <= 1, self.reward(evaluation), FLOOR)


def limit_excess(costs: Mapping[str, FloatArray], limits: Mapping[CostName, float]) -> FloatArray:
    """Return of each architecture the largest ratio of a cost to its limit, (N,): within all limits it is at most 1.

    Args: costs: (N,) by name, those that are limited at least. limits: at least one.
    """
    ratios: FloatArray = np.stack([costs[name] / most for name, most in limits.items()])
    excess: FloatArray = np.max(ratios, axis=0)
    return excess


def _cost_of(evaluation: Evaluation, name: CostName) -> FloatArray:
    if name not in evaluation.costs:
        known = ", ".join(evaluation.costs) or "none"
        raise ValueError(f"reward: expected an evaluation with {name}, which `enas.costs.CostMeter` measures, got costs {known}")
    return evaluation.costs[name]


def make_reward(name: str, objective: ObjectiveConfig | None = None, *, kind: InputKind | None = None) -> Reward:
    """Return a reward by its name.

    Args: objective: what is weighed and limited; None for accuracy alone. kind: of the examples; None where that is not known.
    Raises: ValueError for an unknown name, and for an objective or examples that do not fit it.
    """
    if name not in REWARDS:
        raise ValueError(f"reward: expected one of {', '.join(REWARDS)}, got {name!r}")
    objective = objective or ObjectiveConfig()
    objective.require_reward(name, kind=kind)
    reward = REWARDS[name](objective)
    return LimitedReward(reward=reward, limits=objective.limits) if objective.limits else reward


def make_objective(values: Mapping[str, Any] | None) -> ObjectiveConfig:
    """Return an objective from plain values, as `gym.make` hands them over. Raises ValueError for what does not fit."""
    try:
        return ObjectiveConfig(**(values or {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"objective: {error}") from error
