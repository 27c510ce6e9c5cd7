"""The network of the NAS-Bench-201 space (Dong and Yang 2020, section 2.1; authors: `TinyNetwork` of NATS-Bench's models).

A 3x3 stem, three stages of N cells with a residual block of stride 2 between them, BatchNorm, ReLU, global average pooling,
a linear classifier. An operation is ReLU, convolution, BatchNorm; an average pooling that leaves padding out; the identity; or
zero.

A mixture adds the active operations of each edge, times their weights. Where one operation an edge is active, with a weight of
one, it computes what that cell computes, bit for bit.

Departures: what the output does not depend on is not computed (it still counts as parameters, as in the benchmark), so a
multiply-add that the benchmark counts for a dead edge is not counted here; images of odd size are halved rounding up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.children.base import Output, draw_as_pytorch
from enas.children.batch_norm import BatchNorm
from enas.children.cell_parts import EDGE_ROUNDS, Items, unchanged
from enas.children.chain import Chain
from enas.children.mixing import MixedItems, MixedNode, check_mixture, require_supernet, weighted_sum
from enas.children.pooling import average3x3
from enas.children.rounds import Call, Rounds, RoundsChild, idle, pooled, run_alone, total
from enas.spaces.nasbench201 import (
    EDGES,
    NUM_NODES,
    OPERATIONS,
    NasBench201Architecture,
    NasBench201Config,
    Operation,
    live_nodes,
)
from enas.types import BoolArray

KERNEL_SIZES: dict[Operation, int] = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""Operations with weights."""
WITHOUT_WEIGHTS: dict[Operation, Callable[..., Tensor]] = {"skip_connect": unchanged, "avg_pool_3x3": average3x3}
"""The others, but for `none`."""


def conv_norm(in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, affine: bool) -> Chain:
    """Return convolution and BatchNorm; the ReLU before them is the caller's."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    return Chain(conv, BatchNorm(out_channels, affine=affine))


class Edge(nn.ModuleDict):
    """The operations of an edge that have weights.

    Args: channels: of its input and output. operations: that may be picked. affine: of BatchNorm.
    """

    def __init__(self, channels: int, *, operations: Iterable[Operation], affine: bool) -> None:
        super().__init__(
            {
                name: conv_norm(channels, channels, kernel_size=KERNEL_SIZES[name], affine=affine)
                for name in operations
                if name in KERNEL_SIZES
            }
        )

    def forward(self, items: Items, source: int, operation: Operation) -> Rounds[Tensor]:
        """Return an operation, not `none`, on a node, (B, C, H, W)."""
        has_weights = operation in KERNEL_SIZES
        yield from items.rectify(source, needed=has_weights)
        block = self[operation] if has_weights else WITHOUT_WEIGHTS[operation]
        [out] = yield [Call(block, (items.rectified(source) if has_weights else items[source],))]
        return out


class BenchmarkCell(nn.ModuleList):
    """A cell: three nodes that add operations on the nodes before them.

    Args:
        channels: of all nodes.
        operations: of the one cell that the network is for, or None for all.
        affine: of BatchNorm.
    """

    def __init__(self, channels: int, *, operations: tuple[Operation, ...] | None, affine: bool) -> None:
        super().__init__(
            Edge(channels, operations=OPERATIONS if operations is None else (operations[index],), affine=affine)
            for index in range(len(EDGES))
        )

    def forward(self, x: Tensor, operations: tuple[Operation, ...]) -> Rounds[Tensor]:
        """Map (B, C, H, W) to (B, C, H, W)."""
        items, live = Items([x]), live_nodes(operations)
        for node in range(1, NUM_NODES + 1):
            outputs = []
            for edge, (source, target), operation in zip(self, EDGES, operations, strict=True):
                if target != node:
                    continue
                if live[node] and operation != "none":
                    outputs.append((yield from edge(items, source, operation)))
                else:
                    yield from idle(EDGE_ROUNDS)
            [out] = yield [Call(total, tuple(outputs)) if outputs else Call(torch.zeros_like, (x,))]
            items.append(out)
        return items[NUM_NODES]

    def mix(self, x: Tensor, nodes: Sequence[MixedNode | None]) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W). Args: nodes: 1 to 3; None for one that is zero, or that the output does not need."""
        items = MixedItems([x])
        for target, node in enumerate(nodes, start=1):
            if node is None:
                items.append(torch.zeros_like(x))
                continue
            outputs = [
                items.pooled(source, operation, average3x3)
                if operation == "avg_pool_3x3"
                else run_alone(self[EDGES.index((source, target))](items, source, operation))
                for source, operation in node.terms
            ]
            items.append(weighted_sum(outputs, node.weights))
        return items[NUM_NODES]


def mixed_nodes(weights: Tensor, active: BoolArray) -> tuple[MixedNode | None, ...]:
    """Return what each node of a mixture adds: the active operations of its edges but `none`, in token order.

    None for a node that the output does not depend on, or without such operations.

    Args: weights: (6, 5). active: (6, 5).
    """
    running: BoolArray = active & np.array([operation != "none" for operation in OPERATIONS])
    live = live_nodes(["skip_connect" if row.any() else "none" for row in running])
    nodes: list[MixedNode | None] = []
    for node in range(1, NUM_NODES + 1):
        places = [(edge, choice) for edge, choice in np.argwhere(running).tolist() if EDGES[edge][1] == node]
        if not (live[node] and places):
            nodes.append(None)
            continue
        edges, choices = (list(column) for column in zip(*places, strict=True))
        terms = tuple((EDGES[edge][0], OPERATIONS[choice]) for edge, choice in places)
        nodes.append(MixedNode(terms=terms, weights=weights[edges, choices]))
    return tuple(nodes)


class ResidualReduction(nn.Module):
    """Two 3x3 convolutions, the first of stride 2, beside 2x2 average pooling and a 1x1 convolution (`ResNetBasicblock`)."""

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        self.conv_a = conv_norm(in_channels, out_channels, kernel_size=3, stride=2, affine=affine)
        self.conv_b = conv_norm(out_channels, out_channels, kernel_size=3, affine=affine)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', ceil(H/2), ceil(W/2))."""
        body = self.conv_b(torch.relu(self.conv_a(torch.relu(x))))
        out: Tensor = self.shortcut(F.avg_pool2d(x, 2, 2, ceil_mode=True)) + body
        return out


class NasBench201Child(RoundsChild):
    """The NAS-Bench-201 supernet, or the network of one cell.

    Args:
        config: channels, cells, BatchNorm.
        input_shape: (channels, height, width) of the input; any size, height and width are halved (rounded up) twice.
        num_classes: size of the logits.
        architecture: None for the supernet.
    """

    def __init__(
        self,
        config: NasBench201Config,
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        architecture: NasBench201Architecture | None = None,
    ) -> None:
        super().__init__()
        self.space = config.make_space()
        if architecture is not None:
            self.space.encode(architecture)  # raises for an architecture of another space
        self.architecture = architecture
        operations, affine = None if architecture is None else architecture.operations, config.affine
        width = config.filters
        self.stem = Chain(nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False), BatchNorm(width, affine=affine))
        self.layers = nn.ModuleList()
        for stage in range(3):
            if stage:
                self.layers.append(ResidualReduction(width, 2 * width, affine=affine))
                width *= 2
            for _ in range(config.cells_per_stage):
                self.layers.append(BenchmarkCell(width, operations=operations, affine=affine))
        self.norm = BatchNorm(width, relu=True, affine=affine)
        self.classifier = nn.Linear(width, num_classes)

    def rounds(
        self, x: Tensor, architecture: NasBench201Architecture, *, generator: torch.Generator | None = None
    ) -> Rounds[Output]:
        """Run one cell's network; see `RoundsChild.rounds`."""
        [x] = yield [Call(self.stem, (x,))]
        for layer in self.layers:
            if isinstance(layer, BenchmarkCell):
                x = yield from layer(x, architecture.operations)
            else:
                [x] = yield [Call(layer, (x,))]
        for block in (self.norm, pooled, self.classifier):
            [x] = yield [Call(block, (x,))]
        return Output(logits=x)

    def forward_mixture(
        self, x: Tensor, weights: Tensor, active: BoolArray, *, generator: torch.Generator | None = None
    ) -> Output:
        """Run a mixture; see `Child.forward_mixture`. Raises ValueError on the network of one cell."""
        require_supernet(self)
        check_mixture(self.space, weights, active)
        nodes = mixed_nodes(weights, active)
        x = self.stem(x)
        for layer in self.layers:
            x = layer.mix(x, nodes) if isinstance(layer, BenchmarkCell) else layer(x)
        return Output(logits=self.classifier(pooled(self.norm(x))))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw all weights anew as PyTorch does by itself, and so the benchmark."""
        draw_as_pytorch(self, generator)
