"""What a training step of the shared weights gave, by paths or by a mixture: on the device, and fetched from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from enas.failures import STEEP, Failure, failures
from enas.rewards import FLOOR
from enas.transfer import to_host
from enas.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class TrainMetrics:
    """What one shared step gave, still on the device.

    Attributes:
        loss: float (M,), each path's weight times its `training_loss` in nats (an auxiliary head's part and the penalty are in
            it): their sum is what the step descends. A path that did not fit in memory has NaN here and as its accuracy.
        accuracy: float (M,), fraction of the training minibatch that each path got right.
        grad_norm: scalar, L2 norm of the gradient before clipping.
        failed: boolean scalar: a loss or the norm was not finite, so the step moved nothing.
        learning_rate: of this step, but for the factor that a text's minibatch has by its length (`Batch.rate`).
    """

    loss: Tensor
    accuracy: Tensor
    grad_norm: Tensor
    failed: Tensor
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class MixtureMetrics(TrainMetrics):
    """What one training step on a mixture gave; `loss` and `accuracy` are scalars.

    Attributes:
        gradient: float (R, K), of the loss with respect to the mixture's weights, from the same backward pass; zero where an
            operation is not active. Where it is not finite, the step has failed.
    """

    gradient: Tensor


@dataclass(frozen=True, kw_only=True)
class MixtureGradient:
    """The gradient with respect to a mixture's weights, and the loss that it is of.

    Attributes:
        gradient: float (R, K), zero where an operation is not active; all NaN where it did not fit in memory.
        loss: scalar, nats; NaN where it did not fit in memory, as the accuracy is.
        accuracy: scalar, fraction of the minibatch.
    """

    gradient: Tensor
    loss: Tensor
    accuracy: Tensor


@dataclass(frozen=True, kw_only=True)
class FetchedMetrics:
    """What one shared step gave, on the host; M is 1 of a mixture.

    Attributes:
        loss, accuracy: (M,), see `TrainMetrics`.
        grad_norm, learning_rate: see `TrainMetrics`.
        failed: how each of the M failed, or None; all of them where the gradient alone was not finite.
        gradient: (R, K), of a mixture's weights; None of paths.
    """

    loss: FloatArray
    accuracy: FloatArray
    grad_norm: float
    learning_rate: float
    failed: Sequence[Failure | None]
    gradient: FloatArray | None

    @property
    def rewards(self) -> FloatArray:
        """What a strategy would learn from, (M,): the accuracy on the training minibatch; the floor where a path failed."""
        return np.where([failure is None for failure in self.failed], self.accuracy, FLOOR)


def fetch(steps: Sequence[TrainMetrics]) -> list[FetchedMetrics]:
    """Bring what steps gave to the host, by one transfer for all of them; none for no steps."""
    if not steps:
        return []
    arrays = iter(to_host([part for step in steps for part in _parts(step)]))
    return [_fetched(step.learning_rate, *(next(arrays) for _ in _parts(step))) for step in steps]


def _parts(step: TrainMetrics) -> list[Tensor]:
    parts = [step.loss, step.accuracy, step.grad_norm, step.failed]
    return [*parts, step.gradient] if isinstance(step, MixtureMetrics) else parts


def _fetched(
    learning_rate: float,
    loss: FloatArray,
    accuracy: FloatArray,
    grad_norm: FloatArray,
    has_failed: FloatArray,
    gradient: FloatArray | None = None,
) -> FetchedMetrics:
    loss, accuracy = loss.reshape(-1), accuracy.reshape(-1)
    failed = failures(loss, accuracy)
    if has_failed and not any(failed):  # no loss tells that the step failed
        failed = [STEEP] * len(failed)
    return FetchedMetrics(
        loss=loss,
        accuracy=accuracy,
        grad_norm=float(grad_norm),
        learning_rate=learning_rate,
        failed=failed,
        gradient=gradient,
    )
