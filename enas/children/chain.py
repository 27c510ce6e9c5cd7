"""Convolutions with their BatchNorm: two steps in training, one convolution where BatchNorm's statistics are known.

In evaluation mode with running averages BatchNorm maps each channel by a factor and a constant, which a convolution in front of
it can do, too (Jacob et al. 2018, section 3.2): a pass over memory less. The layers keep their own weights; the product is
made anew for each call, since the shared weights change between rewards.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.children.batch_norm import BatchNorm
from enas.children.fused_norm import scaled_sum


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
        return convolve_scaled(conv, x, *norm.factors(), relu=norm.relu)
    out: Tensor = norm(conv(x))
    return out


def convolve_scaled(conv: nn.Conv2d, x: Tensor, scale: Tensor, level: Tensor, *, relu: bool = False) -> Tensor:
    """Map (B, C, H, W) by a convolution whose output channels are multiplied, shifted, and cut off at zero if asked to.

    The ReLU is oneDNN's, taken before the output reaches memory: the bits of a ReLU behind it, .85 to 1 of the time.

    Args: scale, level: (C',).
    """
    weight = conv.weight * scale[:, None, None, None]
    if relu and x.dtype == torch.float32 and _has_onednn():
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, level, conv.padding, conv.stride, conv.dilation, conv.groups, "relu", [], ""
        )
        return out
    out = F.conv2d(x, weight, level, conv.stride, conv.padding, conv.dilation, conv.groups)
    return torch.relu_(out) if relu else out


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)  # type: ignore[no-untyped-call]


def normalise_sum(*tensors_and_norm: Any) -> Tensor:
    """Map tensors (B, C, H, W), then the BatchNorm of their sum, which `folds`, to its output in one pass over memory."""
    *tensors, norm = tensors_and_norm
    return scaled_sum(tensors, *norm.factors())
