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
    if relu and x.dtype == torch.float32 and has_onednn():
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, *weights, conv.padding, conv.stride, conv.dilation, conv.groups, "relu", [], ""
        )
        return out
    out = F.conv2d(x, *weights, conv.stride, conv.padding, conv.dilation, conv.groups)
    return torch.relu_(out) if relu else out


def normalise_sum(*tensors_and_norm: Any) -> Tensor:
    """Map tensors (B, C, H, W), then the BatchNorm of their sum, which `folds`, to its output in one pass over memory."""
    *tensors, norm = tensors_and_norm
    return scaled_sum(tensors, *known_factors(norm))
