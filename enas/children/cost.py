"""What an architecture costs: parameters and FLOPs of its standalone network, counted on the meta device (no memory, no data)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from enas.children.base import Child
from enas.spaces.base import ChildConfig


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The size of one standalone network.

    Attributes:
        parameters: trainable weights, BatchNorm's included, an auxiliary head's left out, as the literature counts.
        flops: multiply-adds of convolutions and matrix products for one image, or one token of a text, as the NAS literature
            counts FLOPs.
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


def size_of(config: ChildConfig, architecture: Any, *, input_shape: tuple[int, ...], num_classes: int) -> int:
    """Return an architecture's number of parameters at a configuration's width and depth, as `count_parameters` does."""
    with torch.device("meta"):
        return count_parameters(config.make_child(input_shape=input_shape, num_classes=num_classes, architecture=architecture))


class _FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts as `torch.utils.flop_counter.FlopCounterMode` does, in a third of its time.

    It keeps no tree of modules, and of a BatchNorm, which counts for nothing, it takes the shape alone: on the meta device that
    one is computed operation by operation in Python.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.native_batch_norm.default:
            return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
        out = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def measure_cost(config: ChildConfig, architecture: Any, *, input_shape: tuple[int, ...], num_classes: int) -> Cost:
    """Count an architecture's parameters and FLOPs at a configuration's width and depth."""
    with torch.device("meta"):
        child = config.make_child(input_shape=input_shape, num_classes=num_classes, architecture=architecture).eval()
        one = child.example(1, input_shape=input_shape)
    with torch.no_grad(), _FlopCounter() as counter:
        child(one, architecture)
    return Cost(parameters=count_parameters(child), flops=counter.total // 2, auxiliary=count_auxiliary(child))
