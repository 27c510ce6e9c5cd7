"""What a training step of the shared weights gave, by paths or by a mixture, still on the device."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
