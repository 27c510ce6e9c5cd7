"""What a training step of the shared weights is in a search: sampled paths.

A search asks its trainer for one step after the other and writes down what each gave; it knows nothing of paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from enas.failures import STEEP, Failure, failures
from enas.paths import PathRule
from enas.types import FloatArray, IntArray, State


class SearchEnv(Protocol):
    """What a search needs of a Gymnasium vector environment (SAME_STEP autoreset, measurements in `final_info`)."""

    num_envs: int

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Switch the phase by `options={"phase": ...}`."""
        ...

    def step(self, actions: IntArray) -> tuple[Any, FloatArray, Any, Any, dict[str, Any]]:
        """Run architectures, integers (num_envs, D)."""
        ...


class Stateful(Protocol):
    """Anything whose state belongs in the checkpoint."""

    def state_dict(self) -> State:
        """Return every piece of mutable state."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one training step gave.

    Attributes:
        tokens: int64 (M, D), the architectures that were trained, for the record; (0, D) where none was by itself.
        rewards, accuracy: (M,); fractions of the training minibatch.
        loss: what the step descended, nats; NaN or infinite where it failed.
        grad_norm: L2 norm of the weights' gradient before clipping.
        learning_rate: of the weights in this step.
        failed: how each of the M failed, or None.
        metrics: what the strategy learned in the step, by name without a group; nothing where it learned nothing.
    """

    tokens: IntArray
    rewards: FloatArray
    accuracy: FloatArray
    loss: float
    grad_norm: float
    learning_rate: float
    failed: Sequence[Failure | None]
    metrics: Mapping[str, float] = field(default_factory=dict)


class Trainer(Protocol):
    """Who trains the shared weights, step by step.

    Attributes:
        parts: owners of state beside the strategy and the shared weights, by their name in the checkpoint.
    """

    parts: Mapping[str, Stateful]

    def start(self) -> None:
        """Begin, or go on with, a phase of training."""
        ...

    def step(self, *, progress: float, learns: bool) -> Trained:
        """Train once.

        Args:
            progress: the share of the search's training steps that are done, in [0, 1).
            learns: whether a strategy that learns while the weights are trained may do so; not in warm-up epochs.
        """
        ...


class PathTrainer:
    """Trains the paths that a rule draws.

    Args: envs: as many slots as the rule draws paths. paths: the rule.
    """

    def __init__(self, envs: SearchEnv, paths: PathRule) -> None:
        self.parts: Mapping[str, Stateful] = {"paths": paths}
        self._envs = envs
        self._paths = paths

    def start(self) -> None:
        """Switch the environments to phase `shared`."""
        self._envs.reset(options={"phase": "shared"})

    def step(self, *, progress: float, learns: bool) -> Trained:
        """Train the paths of one draw; see `Trainer.step`."""
        del progress, learns
        paths = self._paths.draw()
        self._envs.reset(options={"loss_weights": paths.loss_weights})
        _, rewards, _, _, infos = self._envs.step(paths.tokens)
        measured = infos["final_info"]
        failed = failures(measured["train_loss"], measured["train_accuracy"])
        grad_norm = float(measured["grad_norm"][0])
        if not any(failed) and not np.isfinite(grad_norm):
            failed = [STEEP] * len(failed)
        return Trained(
            tokens=paths.tokens,
            rewards=rewards,
            accuracy=measured["train_accuracy"],
            loss=float(measured["train_loss"].sum() / paths.loss_weights.sum()),
            grad_norm=grad_norm,
            learning_rate=float(measured["learning_rate"][0]),
            failed=failed,
        )
