"""What the floors say to each other: plain values, and the protocols that search is written against.

Nothing here imports torch: a reader of this file sees the whole vocabulary of one search iteration
(`PathBatch` -> shared step, `Rollout` -> `Evaluation` -> reward -> `Controller.update`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Level = Literal["bilevel", "single"]
Order = Literal[1, 2]
State = dict[str, Any]
"""Checkpoint state: only tensors, numbers, strings, lists, tuples and dicts (what `weights_only` loading takes)."""


class Architecture(Protocol):
    """A frozen, hashable value that names one member of a search space."""

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as JSON types; the space's `from_json` reads it back."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """N proposed architectures.

    Attributes:
        tokens: int64 (N, D), one row an architecture, one column a decision of the space.
        log_prob: float (N,), natural log of the probability of each row, or None where a strategy has none.
        entropy: float (N,), nats: the sum over decisions of the entropy of the distribution each was drawn from, or None.
    """

    tokens: IntArray
    log_prob: FloatArray | None = None
    entropy: FloatArray | None = None


@dataclass(frozen=True, kw_only=True)
class PathBatch:
    """The M paths of one shared-weight training step.

    Attributes:
        tokens: int64 (M, D).
        loss_weights: float (M,); the step descends sum_m loss_weights[m] * loss(path m). 1/M each is the average of
            ENAS (Pham et al. 2018, eq. 2); 1 each is the sum of FairNAS.
    """

    tokens: IntArray
    loss_weights: FloatArray


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """A weighted mixture of operations in place of one architecture (Liu et al. 2019, eq. 2).

    Rows and choices are those of `SearchSpace.mixed_operations`.

    Attributes:
        weights: float (R, K), the factor of each operation's output in the sum that takes the operation's place.
        active: boolean (R, K), which operations run; the others add nothing and have no gradient. At least one a row.
    """

    weights: FloatArray
    active: BoolArray


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What measuring N architectures on held-out examples gave.

    Attributes:
        accuracy: float (N,), fraction in [0, 1].
        loss: float (N,), mean cross-entropy in nats.
        num_examples: how many examples each architecture was measured on.
        costs: (N,) by name, of the networks alone, in the units of `enas.configs.ObjectiveConfig`; those that were asked for.
    """

    accuracy: FloatArray
    loss: FloatArray
    num_examples: int
    costs: Mapping[str, FloatArray] = field(default_factory=dict)


class Controller(Protocol):
    """Who proposes architectures. Every strategy, learned or not, has this shape.

    `propose` may be called without a following `update` (paths for a shared-weight step are drawn that way).
    """

    def propose(self, num_architectures: int) -> Rollout:
        """Propose architectures to evaluate or to train."""
        ...

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Learn from rewards (N,) of a rollout; return the metrics of this update, tagged without a prefix."""
        ...

    def candidates(self, num_candidates: int) -> IntArray:
        """Return at most `num_candidates` distinct architectures, int64 (K, D), worth measuring on the whole validation set."""
        ...

    def state_dict(self) -> State:
        """Return every piece of mutable state, generators included."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class SearchEnv(Protocol):
    """What a search needs of a Gymnasium vector environment (SAME_STEP autoreset, measurements in `final_info`)."""

    num_envs: int

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Switch the phase by `options={"phase": ...}`."""
        ...

    def step(self, actions: IntArray) -> tuple[Any, FloatArray, Any, Any, dict[str, Any]]:
        """Run architectures, integers (num_envs, D)."""
        ...


@runtime_checkable
class GradientController(Controller, Protocol):
    """A strategy that learns from the loss's gradient with respect to a mixture's weights; rewards teach it nothing.

    Attributes:
        level: `bilevel` takes that gradient on a validation minibatch, before each step of the shared weights; `single` on the
            training minibatch, in the same pass as theirs.
        order: 1, or 2 for a gradient through one step of the shared weights (Liu et al. 2019, eq. 7); 2 is bilevel.
    """

    level: Level
    order: Order

    def relax(self, progress: float) -> Relaxation:
        """Return the mixture of the next training step.

        Args: progress: the share of the training steps that it learns in that are done, in [0, 1); 0 in warm-up.
        """
        ...

    def descend(self, gradient: FloatArray) -> dict[str, float]:
        """Learn from the gradient (R, K) of the loss with respect to the weights of the relaxation returned last.

        Returns: the metrics of this update, without a prefix. Raises: ValueError for one that is not finite or does not fit.
        """
        ...


@runtime_checkable
class TrainingLearner(Controller, Protocol):
    """A strategy that may learn from the rewards of training steps too (single-level optimisation).

    Attributes:
        learns_in_training: whether it does; its `update` then teaches it nothing.
    """

    learns_in_training: bool

    def update_in_training(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Learn from the accuracies (M,) that the paths of a training step had on the training minibatch; see `update`."""
        ...
