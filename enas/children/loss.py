"""What training descends for one path and what measurements add up, in a supernet and from scratch alike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from enas.children.base import Output


def training_loss(output: Output, labels: Tensor, *, aux_weight: float) -> Tensor:
    """Return cross-entropy + aux_weight * the auxiliary head's cross-entropy + the child's penalty, in nats, float32.

    What a child does not give is left out, and so is a head without weight; the sum is not finite where any of its terms is not.
    (Authors: `_build_train` of `src/cifar10/micro_child.py`, with a weight of .4.)

    Args:
        output: of a forward pass in training mode, in any precision.
        labels: int64 (B,).
        aux_weight: at least 0.
    """
    loss = F.cross_entropy(output.logits.float(), labels)
    if output.aux_logits is not None and aux_weight > 0:
        loss = loss + aux_weight * F.cross_entropy(output.aux_logits.float(), labels)
    return loss if output.penalty is None else loss + output.penalty


def minibatch_accuracy(output: Output, labels: Tensor) -> Tensor:
    """Return the fraction of a minibatch that the logits get right, a float scalar on the device. labels: int64 (B,)."""
    return (output.logits.detach().argmax(dim=1) == labels).float().mean()


def count_and_loss(output: Output, labels: Tensor) -> Tensor:
    """Return how many labels the logits get right and the sum of the cross-entropies, nats, float32 (2,). labels: int64 (B,)."""
    loss = F.cross_entropy(output.logits.float(), labels, reduction="sum")
    return torch.stack([(output.logits.argmax(dim=1) == labels).sum().float(), loss])
