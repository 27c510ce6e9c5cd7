"""The network of the ENAS micro space, as it is searched (authors: `_enas_layer` of `src/cifar10/micro_child.py`).

Before a reduction cell the newer output is halved by a factorized reduction to twice the channels; the cell itself has stride 1,
and its older input is a second reduction of the same output. The loose items of a cell go through ReLU, a 1x1 convolution and
BatchNorm. A separable convolution has weights of its own for each cell, node, side and item; the 1x1 convolution has a block of
C x C weights for each item, of which the loose ones are joined.

The rest of the network, and the departures from the authors' code, are in `cell_child`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.children.batch_norm import BatchNorm
from enas.children.cell_child import CellChild
from enas.children.cell_parts import CellNode, Items, Noise, Shape, calibration, node_choices, unchanged
from enas.children.chain import known_factors
from enas.children.ops import FactorizedReduction, rectified_channels
from enas.children.rounds import Call, Rounds
from enas.spaces.micro import MicroArchitecture, MicroConfig, Nodes, Operation, loose_items, reduction_cells
from enas.spaces.two_cells import NUM_INPUTS


class LooseConv(nn.ModuleDict):
    """ReLU, 1x1 convolution and BatchNorm of the items that are loose, with a block of C x C weights for each item.

    Args: channels: C, of each item and of the output. items: those that may be loose.
    """

    def __init__(self, channels: int, *, items: tuple[int, ...]) -> None:
        super().__init__({str(item): nn.Conv2d(channels, channels, 1, bias=False) for item in items})
        self["norm"] = BatchNorm(channels)

    def forward(self, *items_and_numbers: Any) -> Tensor:
        """Map the loose items, (B, C, H, W) each, then the tuple of their numbers, to (B, C, H, W)."""
        *items, loose = items_and_numbers
        joined = rectified_channels(*items)  # (B, loose * C, H, W)
        weight = torch.cat([self.get_parameter(f"{item}.weight") for item in loose], dim=1)  # (C, loose * C, 1, 1)
        norm = self["norm"]
        assert isinstance(norm, BatchNorm)
        if norm.folds(joined):
            scale, level = known_factors(norm)
            return F.conv2d(joined, weight * scale[:, None, None, None], level)
        out: Tensor = norm(F.conv2d(joined, weight))
        return out


class MicroCell(nn.Module):
    """A cell of the supernet, or of one architecture.

    Args:
        older, newer: shapes of its two inputs.
        shape: of its output.
        operations: that a node may pick.
        num_nodes: B.
        nodes: of the one architecture, or None.
    """

    def __init__(
        self,
        older: Shape,
        newer: Shape,
        shape: Shape,
        *,
        operations: tuple[Operation, ...],
        num_nodes: int,
        nodes: Nodes | None,
    ) -> None:
        super().__init__()
        self.reduction = None
        if shape.level > newer.level:
            self.reduction = FactorizedReduction(newer.channels, shape.channels)
            older, newer = newer, shape
        self.calibrate_0 = calibration(older, shape)
        self.calibrate_1 = calibration(newer, shape)
        self.nodes = nn.ModuleList(
            CellNode(shape.channels, choices=node_choices(operations, index, None if nodes is None else nodes[index]))
            for index in range(num_nodes)
        )
        items = tuple(range(NUM_INPUTS + num_nodes)) if nodes is None else loose_items(nodes)
        self.output = LooseConv(shape.channels, items=items)

    def forward(self, older: Tensor, newer: Tensor, nodes: Nodes, noise: Noise) -> Rounds[tuple[Tensor, Tensor]]:
        """Map the two outputs before, (B, C', H', W'), to the newer one (reduced, in a reduction cell) and the cell's own."""
        if self.reduction is not None:
            older = newer
            [newer] = yield [Call(self.reduction, (newer,))]
        items = Items((yield [Call(self.calibrate_0 or unchanged, (older,)), Call(self.calibrate_1 or unchanged, (newer,))]))
        for node, picked in zip(self.nodes, nodes, strict=True):
            items.append((yield from node(items, picked, noise)))
        loose = loose_items(nodes)
        [out] = yield [Call(self.output, tuple(items[item] for item in loose), (loose,))]
        return newer, out


class MicroChild(CellChild):
    """The micro supernet, or the standalone network of one architecture.

    Args:
        config: layers, nodes, filters, dropout, auxiliary head, operations.
        input_shape: (channels, height, width) of the input; any size, height and width are halved (rounded up) twice.
        num_classes: size of the logits.
        architecture: None for the supernet.
    """

    def __init__(
        self,
        config: MicroConfig,
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        architecture: MicroArchitecture | None = None,
    ) -> None:
        reductions = reduction_cells(config.num_layers)
        super().__init__(
            config,
            input_shape=input_shape,
            reductions=reductions,
            architecture=architecture,
            rectifies_stem=0 not in reductions,  # a reduction reads it as it is
        )
        self.cells = nn.ModuleList()
        older = newer = self.stem_shape
        for index in range(config.num_layers + 2):
            is_reduction = index in self.reduction_cells
            level = newer.level + is_reduction
            shape = Shape(channels=config.filters * 2**level, level=level)
            nodes = None if architecture is None else architecture.reduce if is_reduction else architecture.normal
            cell = MicroCell(older, newer, shape, operations=config.operations, num_nodes=config.num_nodes, nodes=nodes)
            self.cells.append(cell)
            older, newer = shape if is_reduction else newer, shape
        width = newer.channels  # of the auxiliary head's cell, too: no reduction lies between
        self._add_heads(
            width, aux_channels=width if config.aux_head else None, image_size=input_shape[1:], num_classes=num_classes
        )
