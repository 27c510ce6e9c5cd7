"""The network that ENAS' authors train for the micro cells that they found (`_fixed_layer` of `src/cifar10/micro_child.py`).

It is not the one that was searched: a 1x1 convolution is put before each cell's newer input, a reduction cell halves by its
operations on the two inputs, and the loose items are concatenated as they are, so that a cell has C channels for each of them.

Departure from the authors' code, besides those in `cell_child`: operations of stride 2 pad by k // 2 on all sides, where
TensorFlow's SAME pads an even size by one pixel less at the top and left.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from enas.children.cell_child import CellChild
from enas.children.cell_parts import CellNode, Items, Noise, Shape, calibration, node_choices, rectified_conv1x1, unchanged
from enas.children.ops import FactorizedReduction
from enas.children.rounds import Call, Rounds
from enas.spaces.micro import MicroArchitecture, MicroConfig, Nodes, loose_items, reduction_cells
from enas.spaces.two_cells import NUM_INPUTS


class AuthorsMicroCell(nn.Module):
    """A cell of one architecture.

    Args:
        older, newer: shapes of its two inputs.
        channels: C, of its nodes.
        nodes: of the architecture.
        is_reduction: whether operations on the inputs, and inputs that are loose, are halved.
    """

    def __init__(self, older: Shape, newer: Shape, *, channels: int, nodes: Nodes, is_reduction: bool) -> None:
        super().__init__()
        target = Shape(channels=channels, level=newer.level)
        self.calibrate_0 = calibration(older, target)
        self.calibrate_1 = calibration(newer, target)
        self.base = rectified_conv1x1(target, channels)
        self.nodes = nn.ModuleList(
            CellNode(channels, choices=node_choices((), index, picked), halves_inputs=is_reduction)
            for index, picked in enumerate(nodes)
        )
        loose = loose_items(nodes)
        self.reductions = nn.ModuleDict(
            {str(item): FactorizedReduction(channels, channels) for item in loose if is_reduction and item < NUM_INPUTS}
        )
        self.shape = Shape(channels=len(loose) * channels, level=newer.level + is_reduction)

    def forward(self, older: Tensor, newer: Tensor, nodes: Nodes, noise: Noise) -> Rounds[tuple[Tensor, Tensor]]:
        """Map the two outputs before, (B, C', H', W'), to the newer one and the cell's own (B, loose * C, H, W)."""
        first, second = yield [Call(self.calibrate_0 or unchanged, (older,)), Call(self.calibrate_1 or unchanged, (newer,))]
        items = Items((first, *(yield [Call(self.base, (second,))])))
        for node, picked in zip(self.nodes, nodes, strict=True):
            items.append((yield from node(items, picked, noise)))
        halved = dict(self.reductions.items())
        loose = yield [Call(halved.get(str(item), unchanged), (items[item],)) for item in loose_items(nodes)]
        return newer, torch.cat(loose, dim=1)


class AuthorsMicroChild(CellChild):
    """The authors' final network of one architecture.

    Args:
        config: layers, filters, dropout, auxiliary head.
        input_shape: (channels, height, width) of the input; any size, height and width are halved (rounded up) twice.
        num_classes: size of the logits.
        architecture: a member of the space.
    """

    def __init__(
        self,
        config: MicroConfig,
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        architecture: MicroArchitecture,
    ) -> None:
        reductions = reduction_cells(config.num_layers)
        super().__init__(config, input_shape=input_shape, reductions=reductions, architecture=architecture)
        self.cells = nn.ModuleList()
        older = newer = self.stem_shape
        shapes = []
        for index in range(config.num_layers + 2):
            is_reduction = index in self.reduction_cells
            cell = AuthorsMicroCell(
                older,
                newer,
                channels=config.filters * 2 ** (newer.level + is_reduction),
                nodes=architecture.reduce if is_reduction else architecture.normal,
                is_reduction=is_reduction,
            )
            self.cells.append(cell)
            older, newer = newer, cell.shape
            shapes.append(newer)
        aux_channels = shapes[self.auxiliary_cell].channels if config.aux_head else None
        self._add_heads(newer.channels, aux_channels=aux_channels, image_size=input_shape[1:], num_classes=num_classes)
