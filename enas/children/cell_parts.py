"""The parts that a cell of the searched and of the authors' final micro network is made of (`src/cifar10/micro_child.py`).

Cells of other spaces share those that know no operation's name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from enas.children.batch_norm import BatchNorm
from enas.children.chain import Chain
from enas.children.depthwise import DepthwiseConv2d
from enas.children.ops import FactorizedReduction, drop_path
from enas.children.pooling import average3x3, maximum3x3
from enas.children.rounds import Call, Rounds, idle, total
from enas.spaces.micro import Node as PickedNode
from enas.spaces.micro import Operation
from enas.spaces.two_cells import NUM_INPUTS, SIDES

EDGE_ROUNDS = 2
"""Rounds of an operation on an item: its ReLU, the rest."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the output of a cell, or of the stem, is before any image is seen.

    Attributes:
        channels: C.
        level: how often height and width were halved.
        rectified: whether a ReLU is taken of it already.
    """

    channels: int
    level: int
    rectified: bool = False


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What is random in a cell's forward pass: each operation's output is kept with `keep_prob`, drawn from `generator`."""

    keep_prob: float
    generator: torch.Generator | None


def rectified_conv1x1(shape: Shape, out_channels: int, *, affine: bool = True) -> Chain:
    """Return ReLU, unless the input of this shape has gone through one, 1x1 convolution, BatchNorm."""
    conv = nn.Conv2d(shape.channels, out_channels, 1, bias=False)
    return Chain(nn.Identity() if shape.rectified else nn.ReLU(), conv, BatchNorm(out_channels, affine=affine))


def rectified_reduction(shape: Shape, out_channels: int, *, affine: bool = True) -> nn.Sequential:
    """Return ReLU, unless the input of this shape has gone through one, and a factorized reduction."""
    reduction = FactorizedReduction(shape.channels, out_channels, affine=affine, rectify=not shape.rectified)
    return nn.Sequential(nn.Identity(), reduction)  # weights are named as behind a ReLU


def calibration(shape: Shape, target: Shape) -> nn.Module | None:
    """Return what brings a cell's input to the width and resolution of its nodes; None where it has both."""
    if shape.level != target.level:
        return rectified_reduction(shape, target.channels)
    return None if shape.channels == target.channels else rectified_conv1x1(shape, target.channels)


def separable_convs(channels: int, *, kernel_size: int, stride: int = 1, affine: bool = True) -> Chain:
    """Return (depthwise k x k, pointwise 1x1, BatchNorm) twice with a ReLU between; the ReLU before is the caller's.

    The first depthwise convolution has the stride; padding is k // 2 on all sides.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, step in enumerate((stride, 1)):
        layers[f"depthwise_{index}"] = DepthwiseConv2d(channels, kernel_size, stride=step)
        layers[f"pointwise_{index}"] = nn.Conv2d(channels, channels, 1, bias=False)
        layers[f"norm_{index}"] = BatchNorm(channels, relu=index == 0, affine=affine)
    return Chain(layers)


class Items:
    """The items of a cell, (B, C, H, W) each; the ReLU that separable convolutions begin with is computed once an item."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = list(tensors)
        self._rectified: dict[int, Tensor] = {}

    def __getitem__(self, item: int) -> Tensor:
        return self._tensors[item]

    def append(self, tensor: Tensor) -> None:
        """Add the output of the next node."""
        self._tensors.append(tensor)

    def rectify(self, item: int, *, needed: bool = True) -> Rounds[None]:
        """Compute max(0, .) of an item in one round, if it is needed and not there yet."""
        if needed and item not in self._rectified:
            [self._rectified[item]] = yield [Call(torch.relu, (self._tensors[item],))]
        else:
            yield from idle(1)

    def rectified(self, item: int) -> Tensor:
        """Return max(0, .) of an item, which `rectify` has computed."""
        return self._rectified[item]


def unchanged(x: Tensor) -> Tensor:
    """Return x itself."""
    return x


class Side(nn.ModuleDict):
    """One side of a node: its operations that have weights, by operation and item (`sep3x3_4`).

    Args:
        channels: of all items.
        choices: operations and items that may be picked.
        halves_inputs: whether operations on the cell's inputs have stride 2; an identity is a factorized reduction then.
    """

    def __init__(self, channels: int, *, choices: Iterable[tuple[Operation, int]], halves_inputs: bool = False) -> None:
        super().__init__()
        self.halves_inputs = halves_inputs
        for operation, item in choices:
            stride = self._stride(item)
            if operation.startswith("sep"):
                self[f"{operation}_{item}"] = separable_convs(channels, kernel_size=int(operation[-1]), stride=stride)
            elif operation == "identity" and stride > 1:
                self[f"{operation}_{item}"] = FactorizedReduction(channels, channels)

    def _stride(self, item: int) -> int:
        return 2 if self.halves_inputs and item < NUM_INPUTS else 1

    def forward(self, items: Items, item: int, operation: Operation, noise: Noise) -> Rounds[Tensor]:
        """Return the operation on the item, (B, C, H, W); its path may be dropped unless it is an identity."""
        yield from items.rectify(item, needed=operation.startswith("sep"))
        [out] = yield [self._call(items, item, operation)]
        if operation == "identity" or noise.keep_prob == 1:
            return out
        return drop_path(out, keep_prob=noise.keep_prob, generator=noise.generator)

    def _call(self, items: Items, item: int, operation: Operation) -> Call:
        stride = self._stride(item)
        if operation == "identity":
            return Call(unchanged if stride == 1 else self[f"{operation}_{item}"], (items[item],))
        if operation in ("avg3x3", "max3x3"):
            return Call(average3x3 if operation == "avg3x3" else maximum3x3, (items[item],), (stride,))
        return Call(self[f"{operation}_{item}"], (items.rectified(item),))


class CellNode(nn.ModuleList):
    """A node: the sum of its two sides.

    Args:
        channels: of all items.
        choices: operations and items that may be picked, for each side.
        halves_inputs: see `Side`.
    """

    def __init__(self, channels: int, *, choices: Iterable[Iterable[tuple[Operation, int]]], halves_inputs: bool = False) -> None:
        super().__init__(Side(channels, choices=side, halves_inputs=halves_inputs) for side in choices)

    def forward(self, items: Items, picked: PickedNode, noise: Noise) -> Rounds[Tensor]:
        """Return operation 0 on item 0 + operation 1 on item 1, (B, C, H, W)."""
        outputs = []
        for side, item, operation in zip(self, picked.inputs, picked.operations, strict=True):
            outputs.append((yield from side(items, item, operation, noise)))
        [out] = yield [Call(total, tuple(outputs))]
        return out


def node_choices(
    operations: Iterable[Operation], index: int, picked: PickedNode | None
) -> tuple[tuple[tuple[Operation, int], ...], ...]:
    """Return what each side of a node may pick: every operation and item of a supernet, or those of one architecture's node."""
    if picked is None:
        return (tuple((operation, item) for operation in operations for item in range(NUM_INPUTS + index)),) * SIDES
    return tuple(((operation, item),) for item, operation in zip(picked.inputs, picked.operations, strict=True))
