"""What strategies that learn a mixture's weights have in common (DARTS, GDAS, GAEA): what they need, propose and answer.

While the shared weights are trained they learn from the loss's gradient. Proposals serve to watch them, and to compare them with
other strategies: each row of weights, a distribution over K operations, is sampled by adding Gumbel noise to its logarithms, and
the space makes an architecture of the result as it makes one of the weights themselves. Where that takes the largest entry of
each row, the samples are exactly the distribution's (Gumbel-max; Maddison et al. 2014).

The answer is the one architecture that the weights stand for, as in all three papers: no samples are compared for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from controllers.base import SearchPlan
from controllers.baseline import check_rewards
from controllers.product import log_prob, table_entropy
from enas.configs import require
from enas.seeding import derive_seed
from enas.spaces.base import SearchSpace
from enas.types import FloatArray, IntArray, Level, Order, Relaxation, Rollout, State


def require_mixtures(space: SearchSpace[Any]) -> None:
    """Refuse a space whose networks run no mixtures. Raises ValueError with the space's reason."""
    if not space.mixed_operations:
        raise ValueError(f"{space.name}: expected a space with mixtures, but {space.why_no_mixture}")


def check_mixture_search(space: SearchSpace[Any], plan: SearchPlan) -> None:
    """Refuse a search in which no mixture can be learned. Raises ValueError."""
    require_mixtures(space)
    require_own_training(plan, what="its mixture")
    expected = "None, since a mixture trains the shared weights, and no paths"
    require(plan.paths_per_step is None, "--shared.paths-per-step", expected, plan.paths_per_step)
    require_accuracy(plan, what="the gradient of the loss")


def require_own_training(plan: SearchPlan, *, what: str) -> None:
    """Refuse a search whose shared weights are trained on something else than the strategy's own. Raises ValueError.

    Args: what: they are to be trained on.
    """
    paths, kind = plan.paths, plan.kind
    require(paths == "controller", "--paths", f"controller, since it learns while {what} trains the shared weights", paths)
    require(kind == "alternating", "--schedule.kind", "alternating, since it learns while the weights are trained", kind)


def require_accuracy(plan: SearchPlan, *, what: str) -> None:
    """Refuse a goal that a strategy would not see, since rewards teach it nothing. Raises ValueError.

    Args: what: it learns from.
    """
    if not plan.is_accuracy:
        raise ValueError(f"--reward: expected accuracy, without limits by --objective.max-*, since it learns from {what} alone")


def has_choice_a_row(space: SearchSpace[Any]) -> bool:
    """Whether a space's decisions are its mixed operations, one for one, so that their product is the law of proposals."""
    places = [(mixed.name, mixed.choices) for mixed in space.mixed_operations]
    return places == [(decision.name, decision.choices) for decision in space.decisions]


class MixtureController(ABC):
    """Learns the weights of a mixture; see `enas.types.GradientController`.

    Args:
        space: with mixtures, R mixed operations of K choices.
        seed: of the proposals, and of what a subclass draws.
        level, order: see `enas.types.GradientController`.

    Raises: ValueError for a space without mixtures.
    """

    def __init__(self, space: SearchSpace[Any], *, seed: int, level: Level, order: Order = 1) -> None:
        require_mixtures(space)
        self.level: Level = level
        self.order: Order = order
        self.num_descents = 0
        self.num_updates = 0
        self.shape = (len(space.mixed_operations), len(space.mixed_operations[0].choices))
        self._space = space
        self._seed = seed
        self._rng = np.random.default_rng(derive_seed(seed, "proposals"))
        self._is_product = has_choice_a_row(space)

    @property
    @abstractmethod
    def probabilities(self) -> FloatArray:
        """The present distribution over the operations of each place, (R, K), above 0, rows that sum to 1."""

    @abstractmethod
    def relax(self, progress: float) -> Relaxation:
        """Return the mixture of the next training step; see `enas.types.GradientController`."""

    @abstractmethod
    def _learn(self, gradient: FloatArray) -> None:
        """Take a step against the gradient (R, K) with respect to the weights of the latest mixture."""

    def descend(self, gradient: FloatArray) -> dict[str, float]:
        """Learn from the gradient (R, K) of the loss with respect to the weights of the mixture that `relax` returned last.

        Returns: `entropy` and `largest_weight`, see `metrics`, and `grad_norm`, the gradient's L2 norm.
        Raises: ValueError for a gradient that is not finite or does not fit; nothing changes then.
        """
        if gradient.shape != self.shape:
            raise ValueError(f"gradient: expected {self.shape}, got {gradient.shape}")
        if not np.isfinite(gradient).all():
            raise ValueError(f"gradient: expected finite numbers, got {gradient[~np.isfinite(gradient)][0]}")
        self._learn(gradient)
        self.num_descents += 1
        return {**self.metrics(), "grad_norm": float(np.linalg.norm(gradient))}

    def metrics(self) -> dict[str, float]:
        """Return `entropy`, the sum over places in nats, and `largest_weight`, the likeliest operation's, a mean over places."""
        weights = self.probabilities
        return {"entropy": float(table_entropy(weights).sum()), "largest_weight": float(weights.max(axis=1).mean())}

    def propose(self, num_architectures: int) -> Rollout:
        """Draw architectures from the present distribution.

        `log_prob` and `entropy` are exact where each decision of the space is a place of its own; elsewhere there are none.
        """
        weights = self.probabilities
        logs = np.log(weights)
        noise = self._rng.gumbel(size=(num_architectures, *self.shape))
        rows = [self._space.encode(self._space.discretize(logs + sample)) for sample in noise]
        tokens = np.array(rows, dtype=np.int64).reshape(num_architectures, len(self._space.decisions))
        if not self._is_product:
            return Rollout(tokens=tokens)
        entropy = np.full(num_architectures, table_entropy(weights).sum())
        return Rollout(tokens=tokens, log_prob=log_prob(weights, tokens), entropy=entropy)

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Return `metrics`; rewards (N,) teach nothing. Raises ValueError for rewards that are not finite or do not fit."""
        check_rewards(rollout, rewards)
        self.num_updates += 1
        return self.metrics()

    def candidates(self, num_candidates: int) -> IntArray:
        """Return the architecture that the weights stand for, int64 (1, D); more are never nominated."""
        del num_candidates
        return np.array([self._space.encode(self._space.discretize(self.probabilities))], dtype=np.int64)

    def state_dict(self) -> State:
        """Return seed, generator and counters; a subclass adds its own."""
        return {
            "seed": self._seed,
            "rng": self._rng.bit_generator.state,
            "num_descents": self.num_descents,
            "num_updates": self.num_updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._seed = state["seed"]
        self._rng.bit_generator.state = state["rng"]
        self.num_descents = state["num_descents"]
        self.num_updates = state["num_updates"]
