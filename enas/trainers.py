"""What a training step of the shared weights is in a search: sampled paths, or a mixture of all operations.

A search asks its trainer for one step after the other and writes down what each gave; it knows nothing of paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from enas.failures import STEEP, Failure, failures
from enas.paths import PathRule
from enas.train_metrics import MixtureGradient
from enas.types import FloatArray, GradientController, IntArray, Rollout, State, TrainingLearner

if TYPE_CHECKING:
    from torch import Tensor

    from enas.shared_weights import SharedWeights


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
        tokens: int64 (M, D), the architectures that were trained, for the record; (0, D) where a mixture was.
        rewards: (M,), what the strategy would learn from.
        accuracy: (M,), or (1,) of a mixture; fractions of the training minibatch.
        loss: what the step descended, nats; NaN or infinite where it failed.
        grad_norm: L2 norm of the weights' gradient before clipping.
        learning_rate: of the weights in this step.
        failed: how each of the M failed, or the mixture, or None.
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
            progress: the share of the training steps in which a strategy may learn that are done, in [0, 1); 0 in warm-up.
            learns: whether a strategy that learns while the weights are trained may do so; not in warm-up epochs.
        """
        ...


class PathTrainer:
    """Trains the paths that a rule draws.

    Args:
        envs: as many slots as the rule draws paths.
        paths: the rule.
        learner: a strategy that may learn from the accuracies of its paths on the training minibatch; None for none.
    """

    def __init__(self, envs: SearchEnv, paths: PathRule, *, learner: TrainingLearner | None = None) -> None:
        self.parts: Mapping[str, Stateful] = {"paths": paths}
        self._envs = envs
        self._paths = paths
        self._learner = learner if learner is not None and learner.learns_in_training else None

    def start(self) -> None:
        """Switch the environments to phase `shared`."""
        self._envs.reset(options={"phase": "shared"})

    def step(self, *, progress: float, learns: bool) -> Trained:
        """Train the paths of one draw; see `Trainer.step`. From a step that failed nothing is learned."""
        del progress
        paths = self._paths.draw()
        self._envs.reset(options={"loss_weights": paths.loss_weights})
        _, rewards, _, _, infos = self._envs.step(paths.tokens)
        measured = infos["final_info"]
        failed = failures(measured["train_loss"], measured["train_accuracy"])
        grad_norm = float(measured["grad_norm"][0])
        if not any(failed) and not np.isfinite(grad_norm):
            failed = [STEEP] * len(failed)
        metrics: Mapping[str, float] = {}
        if learns and self._learner is not None and not any(failed):
            metrics = self._learner.update_in_training(Rollout(tokens=paths.tokens), measured["train_accuracy"])
        return Trained(
            tokens=paths.tokens,
            rewards=rewards,
            accuracy=measured["train_accuracy"],
            loss=float(measured["train_loss"].sum() / paths.loss_weights.sum()),
            grad_norm=grad_norm,
            learning_rate=float(measured["learning_rate"][0]),
            failed=failed,
            metrics=metrics,
        )


class MixtureTrainer:
    """Trains the mixtures that a strategy makes, and lets it learn from the gradient of their weights.

    At level `bilevel` the strategy descends on a validation minibatch first, then its next mixture is trained (Liu et al. 2019,
    algorithm 1); at level `single` it descends with the gradient of the training step itself.

    Args: shared: the weights. controller: the strategy.
    """

    def __init__(self, shared: SharedWeights, controller: GradientController) -> None:
        self.parts: Mapping[str, Stateful] = {}
        self._shared = shared
        self._controller = controller

    def start(self) -> None:
        """Do nothing: there are no environments to switch."""

    def step(self, *, progress: float, learns: bool) -> Trained:
        """Train one mixture; see `Trainer.step`.

        A gradient that is not finite reaches no strategy, and fails the step; at level `single` a failed step teaches nothing.
        """
        metrics: Mapping[str, float] = {}
        failure: Failure | None = None
        if learns and self._controller.level == "bilevel":
            relaxation = self._controller.relax(progress)
            found = self._shared.architecture_gradient(relaxation, order=self._controller.order)
            metrics, failure = self._descend(found)
        trained = self._shared.mixture_step(self._controller.relax(progress))
        if learns and self._controller.level == "single" and not bool(trained.failed):
            metrics, _ = self._descend(MixtureGradient(gradient=trained.gradient, loss=trained.loss, accuracy=trained.accuracy))
        accuracy = _on_cpu(trained.accuracy)[None]
        failure = failures(_on_cpu(trained.loss)[None], accuracy)[0] or failure
        if failure is None and bool(trained.failed):
            failure = STEEP
        return Trained(
            tokens=np.zeros((0, len(self._shared.space.decisions)), dtype=np.int64),
            rewards=np.zeros(0),
            accuracy=accuracy,
            loss=float(trained.loss),
            grad_norm=float(trained.grad_norm),
            learning_rate=trained.learning_rate,
            failed=[failure],
            metrics=metrics,
        )

    def _descend(self, found: MixtureGradient) -> tuple[Mapping[str, float], Failure | None]:
        """Hand a gradient to the strategy if it is sound; return what it learned, and how the gradient failed."""
        gradient = _on_cpu(found.gradient)
        loss, accuracy = (_on_cpu(value)[None] for value in (found.loss, found.accuracy))
        failure = failures(loss, accuracy)[0] or (None if np.isfinite(gradient).all() else STEEP)
        if failure is not None:
            return {}, failure
        return {"loss": float(loss[0]), **self._controller.descend(gradient)}, None


def _on_cpu(values: Tensor) -> FloatArray:
    array: FloatArray = values.cpu().double().numpy()  # in this order: MPS knows no float64
    return array
