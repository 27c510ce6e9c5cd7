"""Convolutions with their BatchNorm: two steps in training, one convolution where BatchNorm's statistics are known.

In evaluation mode with running averages BatchNorm maps each channel by a factor and a constant, which a convolution in front of
it can do, too (Jacob et al. 2018, section 3.2): a pass over memory less. The layers keep their own weights; the product is
made anew for each call, since the shared weights change between rewards, or once for all calls within `unchanging_weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.children.batch_norm import BatchNorm
from enas.children.fused_norm import scaled_sum
from enas.children.layout import has_onednn

ResultT = TypeVar("ResultT")

LANES = 8
"""Numbers in a vector of AVX2."""

WIDENED_KERNEL = 25
"""Fewest weights of a kernel, for an input and an output channel, that `widening_pays` for."""

WIDENED_ELEMENTS = 2**20
"""Smallest input that `widening_pays` for."""

_cache: ContextVar[dict[Hashable, Any] | None] = ContextVar("cache", default=None)


class Folded(NamedTuple):
    """What a convolution without bias takes instead of its weight to do the work of the BatchNorm behind it, too.

    Attributes:
        weight: of the shape of the convolution's.
        bias: (C',).
    """

    weight: Tensor
    bias: Tensor


@contextmanager
def unchanging_weights() -> Iterator[None]:
    """Within the block, the caller promises, no weight and no average changes: what is made of them is made once."""
    token = _cache.set({})
    try:
        yield
    finally:
        _cache.reset(token)


def _made_once(make: Callable[..., ResultT], *layers: nn.Module) -> ResultT:
    """Return make(*layers), which nobody may change. Args: make: the same object whenever the same is meant."""
    cache = _cache.get()
    if cache is None:
        return make(*layers)
    key = (make, *layers)
    if key not in cache:
        cache[key] = make(*layers)
    result: ResultT = cache[key]
    return result


class Chain(nn.Sequential):
    """Runs layers one after the other, a convolution without bias and the BatchNorm behind it as one where that pays."""

    def forward(self, x: Tensor) -> Tensor:
        """Map what the first layer takes to what the last one gives."""
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if isinstance(layer, nn.Conv2d) and layer.bias is None and layers and isinstance(layers[0], BatchNorm):
                x = convolve_and_normalise(layer, layers.pop(0), x)  # type: ignore[arg-type]  # the line above has looked
            else:
                x = layer(x)
        return x


def convolve_and_normalise(conv: nn.Conv2d, norm: BatchNorm, x: Tensor) -> Tensor:
    """Map (B, C, H, W) by a convolution without bias and the BatchNorm behind it."""
    if norm.folds(x):
        [each] = folded(norm, conv)
        return convolve_folded(conv, each, x, relu=norm.relu)
    out: Tensor = norm(conv(x))
    return out


def known_factors(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Return `BatchNorm.factors`."""
    return _made_once(BatchNorm.factors, norm)


def folded(norm: BatchNorm, *convs: nn.Conv2d) -> list[Folded]:
    """Return what convolutions need to do the work of `norm`, too, whose channels are their outputs, one after the other."""
    return _made_once(_fold, norm, *convs)


def _fold(norm: BatchNorm, *convs: nn.Conv2d) -> list[Folded]:
    parts = (torch.split(factor, [conv.out_channels for conv in convs]) for factor in known_factors(norm))
    return [Folded(conv.weight * scale[:, None, None, None], level) for conv, scale, level in zip(convs, *parts, strict=True)]


def convolve_folded(conv: nn.Conv2d, weights: Folded, x: Tensor, *, relu: bool = False) -> Tensor:
    """Map (B, C, H, W) by a convolution with other weights, and cut it off at zero if asked to.

    The ReLU is oneDNN's, taken before the output reaches memory: the bits of a ReLU behind it, .85 to 1 of the time.
    """
    num_channels = conv.out_channels
    if widening_pays(conv, x):
        spare = -num_channels % LANES
        weights = Folded(F.pad(weights.weight, (0, 0) * 3 + (0, spare)), F.pad(weights.bias, (0, spare)))
    if relu and x.dtype == torch.float32 and has_onednn():
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, *weights, conv.padding, conv.stride, conv.dilation, conv.groups, "relu", [], ""
        )
    else:
        out = F.conv2d(x, *weights, conv.stride, conv.padding, conv.dilation, conv.groups)
        out = torch.relu_(out) if relu else out
    return out[:, :num_channels].contiguous(memory_format=torch.channels_last) if out.shape[1] > num_channels else out


def widening_pays(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a convolution is computed for a few channels more, up to full vectors, which are then left away again.

    oneDNN's kernel for AVX2 is slow in the last, masked vector. Time with the copy over that without more channels, 5x5, 128
    images, two threads: 36 channels at 32x32 .92, at 16x16 .97, but 1.03 at 8x8; 20 and 44 channels at 32x32 .91 and .93; but
    28 channels 1.01, and 36 channels by a 3x3 kernel 1.05. Same bits.
    """
    return (
        conv.groups == 1
        and conv.kernel_size[0] * conv.kernel_size[1] >= WIDENED_KERNEL
        and conv.out_channels % LANES == LANES // 2
        and x.numel() >= WIDENED_ELEMENTS
        and x.dtype == torch.float32
        and has_onednn()
    )


def normalise_sum(*tensors_and_norm: Any) -> Tensor:
    """Map tensors (B, C, H, W), then the BatchNorm of their sum, which `folds`, to its output in one pass over memory."""
    *tensors, norm = tensors_and_norm
    return scaled_sum(tensors, *known_factors(norm))
