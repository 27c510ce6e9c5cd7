"""What an architecture costs: parameters and FLOPs of its standalone network, counted on the meta device (no memory, no data)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from enas.children.base import Child
from enas.spaces.base import ChildConfig


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The size of one standalone network.

    Attributes:
        parameters: trainable weights, BatchNorm's included, an auxiliary head's left out, as the literature counts.
        flops: multiply-adds of convolutions and matrix products for one image, as the NAS literature counts FLOPs.
        auxiliary: trainable weights of the auxiliary head, which only training runs.
    """

    parameters: int
    flops: int
    auxiliary: int = 0


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable weights, those of a child's auxiliary head left out."""
    return _num_weights(network) - count_auxiliary(network)


def count_auxiliary(network: nn.Module) -> int:
    """Return the number of trainable weights in a child's auxiliary head; 0 without one."""
    head = network.auxiliary_head if isinstance(network, Child) else None
    return 0 if head is None else _num_weights(head)


def _num_weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def size_of(config: ChildConfig, architecture: Any, *, image_shape: tuple[int, int, int], num_classes: int) -> int:
    """Return an architecture's number of parameters at a configuration's width and depth, as `count_parameters` does."""
    with torch.device("meta"):
        return count_parameters(config.make_child(image_shape=image_shape, num_classes=num_classes, architecture=architecture))


def measure_cost(config: ChildConfig, architecture: Any, *, image_shape: tuple[int, int, int], num_classes: int) -> Cost:
    """Count an architecture's parameters and FLOPs at a configuration's width and depth."""
    with torch.device("meta"):
        child = config.make_child(image_shape=image_shape, num_classes=num_classes, architecture=architecture).eval()
        image = torch.empty(1, *image_shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        child(image, architecture)
    return Cost(parameters=count_parameters(child), flops=counter.get_total_flops() // 2, auxiliary=count_auxiliary(child))
