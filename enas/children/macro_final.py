"""The network that ENAS' authors train for the macro architecture they found (`_fixed_layer` of `src/cifar10/general_child.py`).

It is not the one that was searched: an operation is ReLU, 1x1, BN, ReLU, k x k, BN, and from layer 1 on its output is
concatenated with the skips and goes through ReLU, a 1x1 convolution and BN; channels double at each reduction. Their code makes
full convolutions of the separable ones and has nothing for the poolings, which is refused here.

Departure from the authors' code: a reduction is computed only where a later layer needs it. In their published 24 layers that
is everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from enas.children.batch_norm import BatchNorm
from enas.children.chain import Chain
from enas.children.macro import MacroChild
from enas.children.ops import conv1x1, separable_conv
from enas.children.rounds import Call, Rounds
from enas.spaces.macro import MacroArchitecture, MacroConfig, Operation

KERNEL_SIZES: dict[Operation, int] = {"conv3x3": 3, "conv5x5": 5, "sep3x3": 3, "sep5x5": 5}


def _operation(operation: Operation, channels: int, *, keeps_separable: bool) -> Chain:
    """Return ReLU, 1x1, BN, ReLU, k x k, BN."""
    size = KERNEL_SIZES[operation]
    if keeps_separable and operation.startswith("sep"):
        conv: nn.Module = separable_conv(channels, size)
    else:
        conv = nn.Conv2d(channels, channels, size, padding=size // 2, bias=False)
    return Chain(nn.ReLU(), conv1x1(channels, channels), conv, BatchNorm(channels))


class AuthorsMacroLayer(nn.Module):
    """One operation, and the 1x1 convolution over its output and the skips (layer 0 has none).

    Args:
        channels: C, of every input and of the output.
        operation: of the layer.
        num_skips: that the convolution joins with the operation's output; None for a layer without a convolution.
        keeps_separable: whether a separable convolution stays one.
    """

    def __init__(self, channels: int, *, operation: Operation, num_skips: int | None, keeps_separable: bool) -> None:
        super().__init__()
        self.operation = _operation(operation, channels, keeps_separable=keeps_separable)
        self.join = None
        if num_skips is not None:
            joined = nn.Conv2d((num_skips + 1) * channels, channels, 1, bias=False)
            self.join = Chain(nn.ReLU(), joined, BatchNorm(channels))

    def forward(self, x: Tensor, skips: list[Tensor], operation: Operation) -> Rounds[Tensor]:
        """Map (B, C, H, W) and the chosen earlier outputs of that shape to (B, C, H, W)."""
        del operation  # it has but one
        [out] = yield [Call(self.operation, (x,))]
        if self.join is None:
            return out
        [out] = yield [Call(self.join, (torch.cat([*skips, out], dim=1),))]
        return out


class AuthorsMacroChild(MacroChild):
    """The authors' final network of one architecture.

    Args:
        config: layers, filters, dropout, whether separable convolutions stay separable.
        input_shape: (channels, height, width) of the input; any size, height and width are halved (rounded up) twice.
        num_classes: size of the logits.
        architecture: a member of the space without pooling.
    """

    always_doubles = True

    def __init__(
        self,
        config: MacroConfig,
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        architecture: MacroArchitecture,
    ) -> None:
        for layer, operation in enumerate(architecture.operations):
            if operation not in KERNEL_SIZES:
                raise ValueError(
                    f"layer {layer}: the authors' final network has no pooling; "
                    f"expected an operation out of {', '.join(KERNEL_SIZES)}, got {operation}"
                )
        super().__init__(config, input_shape=input_shape, num_classes=num_classes, architecture=architecture)

    def _make_layer(self, config: MacroConfig, layer: int, channels: int) -> nn.Module:
        assert self.architecture is not None, "the constructor takes no supernet"
        return AuthorsMacroLayer(
            channels,
            operation=self.architecture.operations[layer],
            num_skips=len(self.architecture.skips[layer]) if layer else None,
            keeps_separable=config.final == "authors-separable",
        )
