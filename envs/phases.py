"""What a step of the environments does in each phase; the single and the vector environment share it.

`shared`: one training step of the shared weights on the given paths; the reward is the accuracy on the training minibatch (no
validation forward), of a text, too: the loss of a step holds penalties, which no perplexity has. `controller`: the weights are
frozen; the reward comes from validation minibatches. `both`: train, then measure, for RL libraries that know no phases. In each
of them an architecture whose loss or gradient is not finite, or that does not fit in memory, gets the reward `FLOOR`; loss and
gradient norm in the info say so (see `enas.failures`). One over a hard limit is measured all the same, and gets `FLOOR` too: what
it would have reached shows what the limit costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from enas.configs import Phase
from enas.costs import CostMeter
from enas.rewards import FLOOR, Reward
from enas.shared_weights import SharedWeights
from enas.train_metrics import fetch
from enas.types import FloatArray, IntArray, PathBatch

PHASES: tuple[Phase, ...] = get_args(Phase)


class PhaseRunner:
    """Runs steps on shared weights and remembers the phase.

    Args:
        shared: the shared weights; several runners may lie over the same ones.
        reward: from a measurement to the reward of each architecture.
        phase: the phase at the start, and after a seeded reset that names none.
        meter: measures the costs that the reward needs, when it measures; None for a reward that needs none.

    Raises: ValueError for an unknown phase.
    """

    def __init__(self, shared: SharedWeights, *, reward: Reward, phase: Phase, meter: CostMeter | None = None) -> None:
        self.shared = shared
        self.space = shared.space
        self.num_decisions = len(shared.space.decisions)
        self.reward = reward
        self.meter = meter
        self._first_phase = _check_phase(phase)
        self.phase: Phase = phase
        self.last: tuple[IntArray, FloatArray] | None = None  # tokens (N, D) and rewards (N,) of the last step, for rendering
        self._loss_weights: FloatArray | None = None

    def reset(self, *, seed: int | None, options: Mapping[str, Any] | None) -> None:
        """Start a new search if a seed is given; take `phase` and `loss_weights` (M,) from the options.

        Raises: ValueError for unknown options or phases; nothing changes then.
        """
        options = options or {}
        unknown = sorted(set(options) - {"phase", "loss_weights"})
        if unknown:
            raise ValueError(f"options: expected 'phase' and 'loss_weights', got {', '.join(map(repr, unknown))}")
        phase = _check_phase(options["phase"]) if "phase" in options else None
        loss_weights = _check_loss_weights(options["loss_weights"]) if "loss_weights" in options else None
        if seed is not None:
            self.shared.reset(seed)
            self.phase, self._loss_weights, self.last = self._first_phase, None, None
        self.phase = phase or self.phase
        self._loss_weights = self._loss_weights if loss_weights is None else loss_weights

    def step(self, actions: Any) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Run one step on N architectures.

        Args: actions: integers (N, D).
        Returns: rewards (N,) and what was measured, each (N,).
        Raises: ValueError for actions outside the space.
        """
        tokens = self._check_actions(actions)
        info: dict[str, FloatArray] = {}
        rewards = np.zeros(len(tokens))
        if self.phase != "controller":
            rewards = self._train(tokens, info)
        if self.phase != "shared":
            rewards = self._measure(tokens, info)
        self.last = (tokens, rewards.copy())
        return rewards, info

    def _train(self, tokens: IntArray, info: dict[str, FloatArray]) -> FloatArray:
        weights = np.full(len(tokens), 1 / len(tokens)) if self._loss_weights is None else self._loss_weights
        if weights.shape != (len(tokens),):
            raise ValueError(f"loss_weights: expected one for each of {len(tokens)} architectures, got shape {weights.shape}")
        (fetched,) = fetch([self.shared.train_step(PathBatch(tokens=tokens, loss_weights=weights))])
        everyone = np.ones(len(tokens))
        info["train_accuracy"], info["train_loss"] = fetched.accuracy, fetched.loss
        info["grad_norm"] = fetched.grad_norm * everyone
        info["learning_rate"] = fetched.learning_rate * everyone
        return fetched.rewards

    def _measure(self, tokens: IntArray, info: dict[str, FloatArray]) -> FloatArray:
        evaluation = self.shared.evaluate([self.shared.space.decode(row) for row in tokens])
        info["accuracy"] = evaluation.accuracy
        info["loss"] = evaluation.loss
        if self.meter is not None:
            evaluation = replace(evaluation, costs=self.meter.measure(tokens))
            info |= evaluation.costs
        return _floored(self.reward(evaluation), loss=evaluation.loss)

    def _check_actions(self, actions: Any) -> IntArray:
        tokens = np.asarray(actions)
        if tokens.ndim != 2 or tokens.shape[1] != self.num_decisions or not np.issubdtype(tokens.dtype, np.integer):
            raise ValueError(
                f"action: expected whole numbers of shape (N, {self.num_decisions}), got {tokens.dtype} of shape {tokens.shape}"
            )
        for row in tokens:
            self.shared.space.validate(row)
        return tokens.astype(np.int64)


def _floored(rewards: FloatArray, *, loss: FloatArray) -> FloatArray:
    """Return a copy of the rewards in which an architecture that failed has the floor."""
    return np.where(np.isfinite(loss) & np.isfinite(rewards), rewards, FLOOR)


def _check_phase(phase: object) -> Phase:
    for known in PHASES:
        if phase == known:
            return known
    raise ValueError(f"phase: expected one of {', '.join(PHASES)}, got {phase!r}")


def _check_loss_weights(given: Any) -> FloatArray:
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"loss_weights: expected numbers, got {given!r}") from error
