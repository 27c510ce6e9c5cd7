"""GAEA (Li et al. 2021, arXiv 2004.07802): exponentiated gradient on the simplex, p <- p exp(-lr g) / Z.

A step that fits the geometry of distributions: it multiplies, so that iterates grow sparse where softmax's flatten out, and
little is lost by taking the best operation of a mixture. Entries start uniform and are kept at 1e-5 or more, as the authors keep
them. Two kinds:

- `mixture`, GAEA DARTS: p weighs the operations of a mixture, g is the loss's gradient with respect to these weights.
- `sampled`, any space: p is the distribution of each decision and g estimates the gradient of minus the expected reward from
  sampled architectures by the score function: g[d, a_d] = -(R - b) / p[d, a_d], 0 for what was not taken, the mean over a batch.

Either descends the validation loss before each step of the shared weights (`bilevel`; for `sampled`: in controller steps) or the
training loss or accuracy of the very step that trains the weights (`single`, their ERM).

The score function's variance grows as 1 / p. It is held in check by a baseline b, the average of earlier rewards; by a bound on
1 / p, at most `importance_limit` times what it is under uniform choices (truncated importance weights, Ionides 2008), which
biases the estimate towards zero where a choice is rarer; and by the floor, under which none gets so rare that it is never tried
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from controllers.base import ControllerConfig, SearchPlan
from controllers.baseline import MovingBaseline, check_rewards
from controllers.mixture import MixtureController, check_mixture_search, require_accuracy, require_own_training
from controllers.product import (
    choice_mask,
    likely_architectures,
    require_shape,
    sample_product,
    table_entropy,
    uniform_table,
)
from enas.configs import require
from enas.seeding import derive_seed
from enas.spaces.base import SearchSpace
from enas.types import BoolArray, FloatArray, IntArray, Level, Relaxation, Rollout, State


@dataclass(frozen=True, kw_only=True)
class GaeaConfig(ControllerConfig):
    """Exponentiated gradient, of a mixture or of sampled architectures."""

    kind: Literal["mixture", "sampled"] = "mixture"
    """Whether p weighs the operations of a mixture, or is the distribution that architectures of any space are drawn from."""
    level: Level = "bilevel"
    """Whether it learns from validation images, or from the training images that the shared weights learn from (ERM)."""
    learning_rate: float | None = None
    """Step in the exponent; None for the kind's own: .1 for a mixture (authors), .5 for sampled architectures."""
    floor: float = 1e-5
    """Least probability, before rows are brought to 1 again."""
    baseline_decay: float = 0.99
    """Sampled: decay of the baseline, the moving average of the reward, per evaluated architecture."""
    importance_limit: float = 4.0
    """Sampled: 1 / p counts as at most this many times the number of choices."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        require(self.rate > 0, "learning_rate", "a number above 0 or None", self.learning_rate)
        require(0 < self.floor < 0.01, "floor", "a number in (0, .01)", self.floor)
        require(0 <= self.baseline_decay < 1, "baseline_decay", "a number in [0, 1)", self.baseline_decay)
        require(self.importance_limit >= 1, "importance_limit", "at least 1", self.importance_limit)

    @property
    def rate(self) -> float:
        """The learning rate, or the kind's own."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.1 if self.kind == "mixture" else 0.5

    def check_search(self, space: SearchSpace[Any], plan: SearchPlan) -> None:
        """Refuse a search without mixtures, or one that trains nothing that a single level could learn from."""
        try:
            if self.kind == "mixture":
                check_mixture_search(space, plan)
            elif self.level == "single":
                require_own_training(plan, what="what it samples")
                require_accuracy(plan, what="accuracies on training minibatches")
        except ValueError as error:
            flags = "--controller.gaea.kind sampled --controller.gaea.level bilevel"
            raise ValueError(f"{error}; gaea serves every search with {flags}") from error

    def settles_by(self, space: SearchSpace[Any]) -> tuple[str, ...]:
        """Return its rate."""
        del space
        return ("learning_rate",)

    def make(self, space: SearchSpace[Any], *, seed: int) -> GaeaMixture | GaeaSampled:
        """Build the controller of the kind. Raises ValueError for a mixture on a space without them."""
        return (GaeaMixture if self.kind == "mixture" else GaeaSampled)(space, self, seed=seed)


def exponentiated_step(
    probabilities: FloatArray, gradient: FloatArray, *, learning_rate: float, floor: float, mask: BoolArray
) -> FloatArray:
    """Return p exp(-lr g) / Z for each row, computed in logarithms, with entries of at least about `floor`.

    Args:
        probabilities: (R, K), above 0 in the mask, rows that sum to 1.
        gradient: (R, K).
        mask: (R, K), which entries are choices; the others stay zero.
    """
    logs = np.log(probabilities, out=np.full_like(probabilities, -np.inf), where=mask)
    logs = np.where(mask, logs - learning_rate * gradient, -np.inf)
    stepped = np.exp(logs - logs.max(axis=1, keepdims=True))
    stepped /= stepped.sum(axis=1, keepdims=True)
    kept = np.where(mask, np.maximum(stepped, floor), 0.0)
    result: FloatArray = kept / kept.sum(axis=1, keepdims=True)
    return result


def score_gradient(probabilities: FloatArray, tokens: IntArray, advantages: FloatArray, *, largest: FloatArray) -> FloatArray:
    """Return the estimate of d(-E[R])/dp: the mean over samples of -(advantage) / p at the choices taken, (D, C).

    Args:
        probabilities: (D, C).
        tokens: int64 (N, D).
        advantages: (N,), rewards less a baseline that does not depend on them.
        largest: (D,), bound on 1 / p.
    """
    decisions = np.broadcast_to(np.arange(len(probabilities)), tokens.shape)
    importance = np.minimum(1 / probabilities[decisions, tokens], largest)  # (N, D)
    gradient = np.zeros_like(probabilities)
    np.add.at(gradient, (decisions, tokens), -advantages[:, None] * importance / len(tokens))
    return gradient


class GaeaMixture(MixtureController):
    """GAEA DARTS.

    Args:
        space: with mixtures.
        config: see `GaeaConfig`.
        seed: of the proposals.
    """

    def __init__(self, space: SearchSpace[Any], config: GaeaConfig, *, seed: int) -> None:
        super().__init__(space, seed=seed, level=config.level)
        self.config = config
        self._mask: BoolArray = np.ones(self.shape, dtype=np.bool_)
        self._p = np.full(self.shape, 1 / self.shape[1])

    @property
    def probabilities(self) -> FloatArray:
        """The mixture's weights, (R, K)."""
        return self._p.copy()

    def relax(self, progress: float) -> Relaxation:
        """Return the mixture of the next training step, in which every operation runs."""
        del progress
        return Relaxation(weights=self._p.copy(), active=self._mask.copy())

    def _learn(self, gradient: FloatArray) -> None:
        config = self.config
        self._p = exponentiated_step(self._p, gradient, learning_rate=config.rate, floor=config.floor, mask=self._mask)

    def state_dict(self) -> State:
        """Return the weights beside what `MixtureController` has."""
        return {**super().state_dict(), "p": self._p.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError where another space saved it."""
        p = np.array(state["p"], dtype=np.float64)
        require_shape("p", p, self.shape)
        super().load_state_dict(state)
        self._p = p


class GaeaSampled:
    """Exponentiated gradient on the distributions that architectures are drawn from; a `TrainingLearner`.

    Args:
        space: any, D decisions.
        config: see `GaeaConfig`.
        seed: of the proposals.
    """

    def __init__(self, space: SearchSpace[Any], config: GaeaConfig, *, seed: int) -> None:
        self.config = config
        self.learns_in_training = config.level == "single"
        self.baseline = MovingBaseline(decay=config.baseline_decay, start="first", update="after")
        self.num_updates = 0
        self._mask = choice_mask(space)
        self._largest: FloatArray = config.importance_limit * space.num_choices.astype(np.float64)
        self._seed = seed
        self._rng = np.random.default_rng(derive_seed(seed, "proposals"))
        self._p = uniform_table(space)

    @property
    def probabilities(self) -> FloatArray:
        """The distributions, (D, C), zeros behind the choices that a decision has."""
        return self._p.copy()

    def propose(self, num_architectures: int) -> Rollout:
        """Draw every decision from its own distribution."""
        return sample_product(self._p, num_architectures, self._rng)

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Learn from validation rewards (N,) where the level is bilevel; at a single level they teach nothing.

        Raises: ValueError for rewards that are not finite or do not fit the rollout; nothing changes then.
        """
        check_rewards(rollout, rewards)
        return self._metrics() if self.learns_in_training else self._learn(rollout, rewards)

    def update_in_training(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Learn from training accuracies (M,) where the level is single. Raises ValueError as `update` does."""
        check_rewards(rollout, rewards)
        return self._learn(rollout, rewards) if self.learns_in_training else self._metrics()

    def _learn(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        config = self.config
        baseline = self.baseline.move(float(rewards.mean()), len(rewards))
        gradient = score_gradient(self._p, rollout.tokens, rewards - baseline, largest=self._largest)
        self._p = exponentiated_step(self._p, gradient, learning_rate=config.rate, floor=config.floor, mask=self._mask)
        self.num_updates += 1
        advantage, norm = float(rewards.mean()) - baseline, float(np.linalg.norm(gradient))
        return {**self._metrics(), "advantage": advantage, "baseline": baseline, "grad_norm": norm}

    def _metrics(self) -> dict[str, float]:
        return {"entropy": float(table_entropy(self._p).sum()), "largest_weight": float(self._p.max(axis=1).mean())}

    def candidates(self, num_candidates: int) -> IntArray:
        """Return the likeliest architecture and distinct samples, without disturbing later proposals."""
        seed = np.random.SeedSequence(derive_seed(self._seed, "candidates", self.num_updates))
        return likely_architectures(self._p, num_candidates, seed=seed)

    def state_dict(self) -> State:
        """Return distributions, baseline, seed, generator and counter."""
        return {
            "seed": self._seed,
            "p": self._p.tolist(),
            "baseline": self.baseline.value,
            "num_updates": self.num_updates,
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError where another space saved it."""
        p = np.array(state["p"], dtype=np.float64)
        require_shape("p", p, self._p.shape)
        self._p = p
        self.baseline.value = state["baseline"]
        self.num_updates = state["num_updates"]
        self._seed = state["seed"]
        self._rng.bit_generator.state = state["rng"]
