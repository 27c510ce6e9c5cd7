"""What a training step of the shared weights is in a search: sampled paths, or a mixture of all operations.

A search asks its trainer for one step after the other and, now and then, for what they gave; it knows nothing of paths. Until
then that stays on the device, so that no step waits for it. Only a strategy that learns from the steps themselves has to know at
once: each step that it learns from costs a transfer, and of second order (`enas.mixture_gradient`) two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from enas.failures import STEEP, Failure, failures
from enas.paths import PathRule
from enas.train_metrics import FetchedMetrics, MixtureGradient, TrainMetrics, fetch
from enas.transfer import to_host
from enas.types import FloatArray, GradientController, IntArray, PathBatch, Rollout, State, TrainingLearner

if TYPE_CHECKING:
    from enas.shared_weights import SharedWeights


class PathWeights(Protocol):
    """Shared weights that paths are trained on."""

    def train_step(self, paths: PathBatch) -> TrainMetrics:
        """Train paths on one minibatch; what that gave stays on the device."""
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
        parts: owners of state beside the strategy and the shared weights, by their name in the checkpoint; what is not fetched
            yet is no part of it.
    """

    parts: Mapping[str, Stateful]

    def step(self, *, progress: float, learns: bool) -> int:
        """Train once.

        Args:
            progress: the share of the training steps in which a strategy may learn that are done, in [0, 1); 0 in warm-up.
            learns: whether a strategy that learns while the weights are trained may do so; not in warm-up epochs.

        Returns: how many architectures that trained; a mixture counts as one.
        """
        ...

    def fetch(self) -> list[Trained]:
        """Return what the steps since the last call gave, in order; waits for the device."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A step that is not fetched yet.

    Attributes:
        tokens: as in `Trained`.
        total_weight: of the losses that were added up.
        metrics: what it gave, on the device.
        failure: of what came before the training, or None.
        learned: what the strategy learned before the training.
    """

    tokens: IntArray
    total_weight: float
    metrics: TrainMetrics
    failure: Failure | None = None
    learned: Mapping[str, float] = field(default_factory=dict)

    def told(self, fetched: FetchedMetrics) -> Trained:
        """Return what the step gave. Args: fetched: its metrics."""
        return Trained(
            tokens=self.tokens,
            rewards=fetched.rewards[: len(self.tokens)],
            accuracy=fetched.accuracy,
            loss=float(fetched.loss.sum() / self.total_weight),
            grad_norm=fetched.grad_norm,
            learning_rate=fetched.learning_rate,
            failed=[failure or self.failure for failure in fetched.failed],
            metrics=self.learned,
        )


class _Steps:
    """The steps since the last fetch, of which the last ones may still be on the device."""

    def __init__(self) -> None:
        self._told: list[Trained] = []
        self._pending: list[_Step] = []

    def add(self, step: _Step) -> None:
        """Take in a step without waiting for it."""
        self._pending.append(step)

    def fetch_latest(self) -> tuple[Trained, FetchedMetrics]:
        """Return the step that was added last, and its metrics; one transfer."""
        fetched = fetch([step.metrics for step in self._pending])
        self._told += [step.told(one) for step, one in zip(self._pending, fetched, strict=True)]
        self._pending = []
        return self._told[-1], fetched[-1]

    def teach(self, metrics: Mapping[str, float]) -> None:
        """Note what the strategy learned from the latest step, which is fetched."""
        self._told[-1] = replace(self._told[-1], metrics=metrics)

    def take(self) -> list[Trained]:
        """Return all steps, in order, and forget them; one transfer, none where nothing is on the device."""
        if self._pending:
            self.fetch_latest()
        told, self._told = self._told, []
        return told


class PathTrainer:
    """Trains the paths that a rule draws.

    Args:
        shared: the weights.
        paths: the rule.
        learner: a strategy that may learn from the accuracies of its paths on the training minibatch; None for none.
    """

    def __init__(self, shared: PathWeights, paths: PathRule, *, learner: TrainingLearner | None = None) -> None:
        self.parts: Mapping[str, Stateful] = {"paths": paths}
        self._shared = shared
        self._paths = paths
        self._learner = learner if learner is not None and learner.learns_in_training else None
        self._steps = _Steps()

    def step(self, *, progress: float, learns: bool) -> int:
        """Train the paths of one draw; see `Trainer.step`. From a step that failed nothing is learned."""
        del progress
        paths = self._paths.draw()
        metrics = self._shared.train_step(paths)
        self._steps.add(_Step(tokens=paths.tokens, total_weight=float(paths.loss_weights.sum()), metrics=metrics))
        if learns and self._learner is not None:
            trained, _ = self._steps.fetch_latest()
            if not any(trained.failed):
                self._steps.teach(self._learner.update_in_training(Rollout(tokens=trained.tokens), trained.accuracy))
        return len(paths.tokens)

    def fetch(self) -> list[Trained]:
        """Return what the steps since the last call gave; see `Trainer.fetch`."""
        return self._steps.take()


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
        self._no_tokens = np.zeros((0, len(shared.space.decisions)), dtype=np.int64)
        self._steps = _Steps()

    def step(self, *, progress: float, learns: bool) -> int:
        """Train one mixture; see `Trainer.step`.

        A gradient that is not finite reaches no strategy, and fails the step; at level `single` a failed step teaches nothing.
        """
        learned: Mapping[str, float] = {}
        failure: Failure | None = None
        if learns and self._controller.level == "bilevel":
            relaxation = self._controller.relax(progress)
            learned, failure = self._descend(self._shared.architecture_gradient(relaxation, order=self._controller.order))
        metrics = self._shared.mixture_step(self._controller.relax(progress))
        self._steps.add(_Step(tokens=self._no_tokens, total_weight=1.0, metrics=metrics, failure=failure, learned=learned))
        if learns and self._controller.level == "single":
            trained, fetched = self._steps.fetch_latest()
            if not any(trained.failed) and fetched.gradient is not None:
                self._steps.teach({"loss": trained.loss, **self._controller.descend(fetched.gradient)})
        return 1

    def fetch(self) -> list[Trained]:
        """Return what the steps since the last call gave; see `Trainer.fetch`."""
        return self._steps.take()

    def _descend(self, found: MixtureGradient) -> tuple[Mapping[str, float], Failure | None]:
        """Hand a gradient to the strategy if it is sound; return what it learned, and how the gradient failed."""
        gradient, loss, accuracy = to_host([found.gradient, found.loss, found.accuracy])
        failure = failures(loss[None], accuracy[None])[0] or (None if np.isfinite(gradient).all() else STEEP)
        if failure is not None:
            return {}, failure
        return {"loss": float(loss), **self._controller.descend(gradient)}, None
