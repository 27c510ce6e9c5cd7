"""The network of the DARTS space (Liu et al. 2019; authors: `cnn/model.py`, `cnn/operations.py`, `cnn/model_search.py`).

A 3x3 stem to three times the filters, L cells of which two are reduction cells, global average pooling, a linear classifier with
bias. Each input of a cell goes through ReLU, a 1x1 convolution and BatchNorm; where the older one is twice as large, through ReLU
and a factorized reduction. A reduction cell's operations on its inputs have stride 2, and a skip connection is a factorized
reduction there. The nodes of a cell are concatenated. An operation has weights of its own for each cell, node and item, whichever
pair it is picked in, as an edge of the authors' search has.

The searched network is the retrained one, so it follows the authors' final network where theirs differ: no BatchNorm behind
poolings (their search puts one without weights there, which no count of parameters sees). BatchNorm of the cells has weights or
not by `affine`; the stem's always has.

In a mixture a node adds the active operations on all items before it, times their weights (authors: `cnn/model_search.py`).

Departures: the auxiliary head is that of ENAS (`cell_child`), behind the same cell as the authors'; drop-path falls with depth as
in the micro network, where the authors' is the same in all cells; images of odd size are halved rounding up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from enas.children.base import Output, draw_as_pytorch
from enas.children.batch_norm import BatchNorm
from enas.children.cell_child import CellChild
from enas.children.cell_parts import (
    EDGE_ROUNDS,
    Items,
    Noise,
    Shape,
    rectified_conv1x1,
    rectified_reduction,
    separable_convs,
    unchanged,
)
from enas.children.chain import Chain
from enas.children.mixing import MixedItems, MixedNode, check_mixture, require_supernet, weighted_sum
from enas.children.ops import FactorizedReduction, drop_path
from enas.children.pooling import average3x3, maximum3x3
from enas.children.rounds import Call, Rounds, idle, joined_channels, run_alone, total
from enas.spaces.darts import DartsArchitecture, DartsConfig, DartsSpace, Nodes, Operation, mixed_edges, reduction_cells
from enas.spaces.darts import Node as PickedNode
from enas.spaces.two_cells import CELLS, NUM_INPUTS
from enas.types import BoolArray

DILATION = 2


def dilated_conv(channels: int, *, kernel_size: int, stride: int, affine: bool) -> Chain:
    """Return a depthwise k x k convolution of dilation 2, pointwise 1x1, BatchNorm; the ReLU before is the caller's."""
    padding = DILATION * (kernel_size // 2)
    depthwise = nn.Conv2d(
        channels, channels, kernel_size, stride=stride, padding=padding, dilation=DILATION, groups=channels, bias=False
    )
    return Chain(depthwise, nn.Conv2d(channels, channels, 1, bias=False), BatchNorm(channels, affine=affine))


POOLINGS: dict[Operation, Callable[..., Tensor]] = {"avg_pool_3x3": average3x3, "max_pool_3x3": maximum3x3}


def zeros(x: Tensor, stride: int) -> Tensor:
    """Return zeros of the size that an operation of this stride has."""
    return torch.zeros_like(x[:, :, ::stride, ::stride])


class DartsNode(nn.ModuleDict):
    """A node: its operations that have weights, by operation and item (`sep_conv_3x3_4`).

    Args:
        channels: of all items.
        choices: operations and items that may be picked.
        is_reduction: whether operations on the cell's inputs have stride 2.
        affine: of BatchNorm.
    """

    def __init__(self, channels: int, *, choices: Iterable[tuple[Operation, int]], is_reduction: bool, affine: bool) -> None:
        super().__init__()
        self.is_reduction = is_reduction
        for operation, item in choices:
            stride = self._stride(item)
            if operation == "skip_connect" and stride > 1:
                self[f"{operation}_{item}"] = FactorizedReduction(channels, channels, affine=affine)
            elif operation.startswith(("sep", "dil")):
                build = separable_convs if operation.startswith("sep") else dilated_conv
                self[f"{operation}_{item}"] = build(channels, kernel_size=int(operation[-1]), stride=stride, affine=affine)

    def _stride(self, item: int) -> int:
        return 2 if self.is_reduction and item < NUM_INPUTS else 1

    def forward(self, items: MixedItems, picked: PickedNode | MixedNode, noise: Noise) -> Rounds[Tensor]:
        """Return operation 0 on item 0 + operation 1 on item 1, or a mixture's sum; (B, C, H, W)."""
        if isinstance(picked, MixedNode):
            return weighted_sum([self._mixed(items, *term, noise) for term in picked.terms], picked.weights)
        outputs = []
        for item, operation in zip(picked.inputs, picked.operations, strict=True):
            if operation == "none":
                yield from idle(EDGE_ROUNDS)
            else:
                outputs.append((yield from self._operate(items, item, operation, noise)))
        first = picked.inputs[0]
        nothing = Call(zeros, (items[first],), (self._stride(first),))
        [out] = yield [Call(total, tuple(outputs)) if outputs else nothing]
        return out

    def _operate(self, items: Items, item: int, operation: Operation, noise: Noise) -> Rounds[Tensor]:
        """Return an operation other than `none` on an item; its path may be dropped unless it is an identity."""
        stride = self._stride(item)
        is_identity = operation == "skip_connect" and stride == 1
        has_weights = not is_identity and operation not in POOLINGS
        yield from items.rectify(item, needed=has_weights)
        if has_weights:
            call = Call(self[f"{operation}_{item}"], (items.rectified(item),))
        else:
            call = Call(unchanged, (items[item],)) if is_identity else Call(POOLINGS[operation], (items[item],), (stride,))
        [out] = yield [call]
        return out if is_identity else _dropped(out, noise)

    def _mixed(self, items: MixedItems, item: int, operation: Operation, noise: Noise) -> Tensor:
        """Return an operation of a mixture on an item: the same, with a pooling that the item's edges share."""
        stride = self._stride(item)
        if operation in POOLINGS:
            return _dropped(items.pooled(item, operation, partial(POOLINGS[operation], stride=stride)), noise)
        if operation == "none":  # where nothing else on the node's edges is active
            return zeros(items[item], stride)
        return run_alone(self._operate(items, item, operation, noise))


def _dropped(x: Tensor, noise: Noise) -> Tensor:
    return drop_path(x, keep_prob=noise.keep_prob, generator=noise.generator) if noise.keep_prob < 1 else x


class DartsCell(nn.Module):
    """A cell of the supernet, or of one architecture.

    Args:
        older, newer: shapes of its two inputs.
        config: nodes, operations, BatchNorm.
        channels: C, of its nodes.
        is_reduction: whether height and width are halved.
        nodes: of the one architecture, or None.
    """

    def __init__(
        self, older: Shape, newer: Shape, *, config: DartsConfig, channels: int, is_reduction: bool, nodes: Nodes | None
    ) -> None:
        super().__init__()
        affine = config.affine
        self.preprocess_0: nn.Module
        if older.level == newer.level:
            self.preprocess_0 = rectified_conv1x1(older, channels, affine=affine)
        else:
            self.preprocess_0 = rectified_reduction(older, channels, affine=affine)
        self.preprocess_1 = rectified_conv1x1(newer, channels, affine=affine)
        self.nodes = nn.ModuleList(
            DartsNode(
                channels,
                choices=edge_choices(config.operations, index, None if nodes is None else nodes[index]),
                is_reduction=is_reduction,
                affine=affine,
            )
            for index in range(config.num_nodes)
        )
        self.shape = Shape(channels=config.num_nodes * channels, level=newer.level + is_reduction)

    def forward(
        self, older: Tensor, newer: Tensor, nodes: Nodes | tuple[MixedNode, ...], noise: Noise
    ) -> Rounds[tuple[Tensor, Tensor]]:
        """Map the two outputs before, (B, C', H', W'), to the newer one and the cell's own (B, num_nodes * C, H, W)."""
        items = MixedItems((yield [Call(self.preprocess_0, (older,)), Call(self.preprocess_1, (newer,))]))
        outputs = []
        for node, picked in zip(self.nodes, nodes, strict=True):
            outputs.append((yield from node(items, picked, noise)))
            items.append(outputs[-1])
        [out] = yield [Call(joined_channels, tuple(outputs))]
        return newer, out


def edge_choices(operations: Iterable[Operation], index: int, picked: PickedNode | None) -> tuple[tuple[Operation, int], ...]:
    """Return what a node may pick: every operation and item of a supernet, or those of one architecture's node."""
    if picked is None:
        return tuple((operation, item) for operation in operations for item in range(NUM_INPUTS + index))
    return tuple(zip(picked.operations, picked.inputs, strict=True))


def mixed_nodes(weights: Tensor, active: BoolArray, space: DartsSpace) -> tuple[tuple[MixedNode, ...], ...]:
    """Return what each node of the normal and of the reduction cell adds in a mixture: active operations, in row order.

    `none` is left out unless it is all that a node has.

    Args: weights: (R, K), rows in the order of `mixed_edges`. active: (R, K).
    """
    edges = list(mixed_edges(space.num_nodes))
    cells: list[list[MixedNode]] = [[] for _ in CELLS]
    for cell, node in dict.fromkeys((cell, node) for cell, node, _ in edges):
        rows = [row for row, edge in enumerate(edges) if edge[:2] == (cell, node)]
        places = [(rows[index], choice) for index, choice in np.argwhere(active[rows]).tolist()]
        places = [place for place in places if space.operations[place[1]] != "none"] or places[:1]
        terms = tuple((edges[row][2], space.operations[choice]) for row, choice in places)
        own_rows, choices = (list(column) for column in zip(*places, strict=True))
        cells[cell].append(MixedNode(terms=terms, weights=weights[own_rows, choices]))
    return tuple(map(tuple, cells))


class DartsChild(CellChild):
    """The DARTS supernet, or the standalone network of one architecture.

    Args:
        config: layers, nodes, filters, dropout, auxiliary head, operations, BatchNorm.
        input_shape: (channels, height, width) of the input; any size, height and width are halved (rounded up) twice.
        num_classes: size of the logits.
        architecture: None for the supernet.
    """

    rectifies_features = False

    def __init__(
        self,
        config: DartsConfig,
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        architecture: DartsArchitecture | None = None,
    ) -> None:
        reductions = reduction_cells(config.num_layers)
        super().__init__(config, input_shape=input_shape, reductions=reductions, architecture=architecture)
        self.space = config.make_space()
        self.cells = nn.ModuleList()
        older = newer = self.stem_shape
        shapes = []
        for index in range(config.num_layers):
            is_reduction = index in reductions
            channels = config.filters * 2 ** (newer.level + is_reduction)
            nodes = None if architecture is None else architecture.reduce if is_reduction else architecture.normal
            cell = DartsCell(older, newer, config=config, channels=channels, is_reduction=is_reduction, nodes=nodes)
            self.cells.append(cell)
            older, newer = newer, cell.shape
            shapes.append(newer)
        self._add_heads(
            newer.channels,
            aux_channels=shapes[self.auxiliary_cell].channels if config.aux_head else None,
            image_size=input_shape[1:],
            num_classes=num_classes,
            bias=True,
        )

    def forward_mixture(
        self, x: Tensor, weights: Tensor, active: BoolArray, *, generator: torch.Generator | None = None
    ) -> Output:
        """Run a mixture; see `Child.forward_mixture`. Raises ValueError on the network of one architecture."""
        require_supernet(self)
        check_mixture(self.space, weights, active)
        normal, reduce = mixed_nodes(weights, active, self.space)
        return run_alone(self._run(x, normal=normal, reduce=reduce, generator=generator))

    @property
    def auxiliary_cell(self) -> int:
        """The last reduction cell."""
        return self.reduction_cells[-1]

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw all weights anew as PyTorch does by itself, and so the authors."""
        draw_as_pytorch(self, generator)
