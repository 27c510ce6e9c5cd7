"""What networks of cells share around them: the searched and the authors' final micro network, and that of the DARTS space.

Described is the micro network (authors: `src/cifar10/micro_child.py`); others say where they differ.

A 3x3 stem to three times the filters, L + 2 cells of which two are reduction cells, ReLU, global average pooling, dropout, a
linear classifier without bias. A cell reads the outputs of the two cells before it; the first reads the stem twice. A second
classifier reads the cell after the last reduction cell in training mode.

Departures from the authors' code: the auxiliary head is trained (theirs was left out of the list of trained variables); drop-path
follows the depth here and the step wherever the network is trained, which sets `drop_path_keep_prob`; each weight is drawn for
its own number of inputs (He normal), where theirs takes the number of items for it in the shared weights, which BatchNorm hides.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.children.base import Output
from enas.children.batch_norm import BatchNorm
from enas.children.cell_parts import Noise, Shape
from enas.children.chain import Chain
from enas.children.ops import dropout
from enas.children.rounds import Call, Rounds, RoundsChild, pooled
from enas.spaces.base import SearchSpace

STEM_MULTIPLE = 3
"""Channels of the stem over the filters of the first cells."""


class CellArchitecture(Protocol):
    """An architecture of two cells."""

    @property
    def normal(self) -> tuple[Any, ...]:
        """The nodes of the normal cell."""

    @property
    def reduce(self) -> tuple[Any, ...]:
        """The nodes of the reduction cell."""


class CellConfig(Protocol):
    """What a network of cells reads of its configuration."""

    @property
    def filters(self) -> int:
        """Channels of the first cells."""

    @property
    def keep_prob(self) -> float:
        """Probability of keeping a feature before the classifier."""

    def make_space(self) -> SearchSpace[Any]:
        """Return the search space."""


class AuxiliaryHead(nn.Module):
    """The second classifier: ReLU, 5x5 average pooling of stride 3, 1x1 to 128, a convolution as large as the image to 768.

    BatchNorm and ReLU follow both; then global average pooling and a linear map. No biases.

    Args:
        channels: of its input.
        size: (height, width) of its input; below 5 the pooling shrinks with it.
        num_classes: size of the logits.
    """

    def __init__(self, channels: int, *, size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        window = (min(5, size[0]), min(5, size[1]))
        kernel = ((size[0] - window[0]) // 3 + 1, (size[1] - window[1]) // 3 + 1)
        self.has_one_pixel = kernel == (1, 1)
        self.pool = nn.AvgPool2d(window, stride=3)
        self.project = nn.Sequential(nn.Conv2d(channels, 128, 1, bias=False), BatchNorm(128, relu=True))
        # TensorFlow's SAME: an even kernel's odd pixel of padding is at the bottom and right
        self.padding = ((kernel[1] - 1) // 2, kernel[1] // 2, (kernel[0] - 1) // 2, kernel[0] // 2)
        self.full = nn.Sequential(nn.Conv2d(128, 768, kernel, bias=False), BatchNorm(768, relu=True))
        self.classifier = nn.Linear(768, num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, num_classes). Raises ValueError for one image where BatchNorm needs more."""
        if len(x) == 1 and self.has_one_pixel:
            raise ValueError("batch_size: expected at least 2 images for the auxiliary head (child.aux_head), got 1")
        out = self.full(F.pad(self.project(self.pool(torch.relu(x))), self.padding))  # (B, 768, ceil(H'/3), ceil(W'/3))
        logits: Tensor = self.classifier(pooled(out))
        return logits


class CellChild(RoundsChild):
    """A network of cells; a subclass fills `cells` and then calls `_add_heads`.

    A cell is a module whose rounds map (older output, newer output, nodes, noise) to the next cell's two inputs.

    Args:
        config: filters, dropout.
        input_shape: (channels, height, width) of the input; any size, height and width are halved (rounded up) twice.
        reductions: ids of the two reduction cells.
        architecture: None for a supernet.
        rectifies_stem: whether all cells that read the stem begin with a ReLU, which is taken of it once then.
    """

    has_drop_path = True
    rectifies_features = True
    """Whether a ReLU comes before the global pooling."""
    cells: nn.ModuleList
    classifier: nn.Linear
    auxiliary: AuxiliaryHead | None

    def __init__(
        self,
        config: CellConfig,
        *,
        input_shape: tuple[int, ...],
        reductions: tuple[int, int],
        architecture: CellArchitecture | None,
        rectifies_stem: bool = True,
    ) -> None:
        super().__init__()
        if architecture is not None:
            config.make_space().encode(architecture)  # raises for an architecture of another space
        self.keep_prob = config.keep_prob
        self.architecture = architecture
        self.reduction_cells = reductions
        self.stem_shape = Shape(channels=STEM_MULTIPLE * config.filters, level=0, rectified=rectifies_stem)
        width = self.stem_shape.channels
        self.stem = Chain(nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False), BatchNorm(width, relu=rectifies_stem))

    def _add_heads(
        self,
        channels: int,
        *,
        aux_channels: int | None,
        image_size: tuple[int, ...],
        num_classes: int,
        bias: bool = False,
    ) -> None:
        """Add the classifier for the last cell's channels, and the auxiliary head for its cell's unless that is None."""
        height, width = ((size + 3) // 4 for size in image_size)  # two halvings that round up
        self.classifier = nn.Linear(channels, num_classes, bias=bias)
        self.auxiliary = (
            None if aux_channels is None else AuxiliaryHead(aux_channels, size=(height, width), num_classes=num_classes)
        )

    @property
    def auxiliary_head(self) -> nn.Module | None:
        """See `Child.auxiliary_head`."""
        return self.auxiliary

    def drop_auxiliary_head(self) -> None:
        """See `Child.drop_auxiliary_head`."""
        self.auxiliary = None

    @property
    def auxiliary_cell(self) -> int:
        """The cell whose output the auxiliary head reads: the one after the last reduction cell."""
        return self.reduction_cells[-1] + 1

    def rounds(self, x: Tensor, architecture: CellArchitecture, *, generator: torch.Generator | None = None) -> Rounds[Output]:
        """Run one architecture; see `RoundsChild.rounds`."""
        return self._run(x, normal=architecture.normal, reduce=architecture.reduce, generator=generator)

    def _run(self, x: Tensor, *, normal: Any, reduce: Any, generator: torch.Generator | None) -> Rounds[Output]:
        """Run the cells. Args: normal, reduce: what the cells of each kind take as their nodes."""
        [newer] = yield [Call(self.stem, (x,))]
        older, aux_logits = newer, None
        for index, cell in enumerate(self.cells):
            nodes = reduce if index in self.reduction_cells else normal
            noise = Noise(keep_prob=self._path_keep_prob(index), generator=generator)
            older, newer = yield from cell(older, newer, nodes, noise)
            if index == self.auxiliary_cell and self.training and self.auxiliary is not None:
                aux_logits = self.auxiliary(newer)
        if self.rectifies_features:
            [newer] = yield [Call(torch.relu, (newer,))]
        [features] = yield [Call(pooled, (newer,))]
        if self.training and self.keep_prob < 1:
            features = dropout(features, keep_prob=self.keep_prob, generator=generator)
        [logits] = yield [Call(self.classifier, (features,))]
        return Output(logits=logits, aux_logits=aux_logits)

    def _path_keep_prob(self, index: int) -> float:
        """Return a cell's probability of keeping a path, which falls linearly with depth (authors: `_apply_drop_path`)."""
        if not self.training:
            return 1.0
        return 1 - (index + 1) / len(self.cells) * (1 - self.drop_path_keep_prob)
