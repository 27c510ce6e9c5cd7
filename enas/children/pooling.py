"""3x3 pooling with a border of one pixel, as kernels that are faster than PyTorch's own on a CPU in channels_last order.

PyTorch's average takes the nine pixels of a window one after the other; its maximum also writes where it was found, which only
a gradient needs. Here the average is a depthwise convolution, and so is its gradient, and the maximum is taken along one axis and
then the other. Their time as a share of PyTorch's, on two threads / on one, medians of three times 41:

| channels, image, images | 16, 32x32, 32 | 20, 32x32, 128 | 36, 32x32, 128 | 36, 16x16, 64 | 64, 16x16, 128 | 36, 8x8, 128 |
|:--|--:|--:|--:|--:|--:|--:|
| average | .50 / .27 | .21 / .25 | .44 / .43 | .61 / .61 | .60 / .58 | .77 / .68 |
| average and its gradient | .56 / .37 | .32 / .28 | .52 / .65 | .66 / .62 | .82 / .91 | 1.10 / .82 |
| maximum, without a gradient | .32 / .20 | .21 / .29 | .56 / .41 | .35 / .28 | .56 / .74 | .43 / .31 |

Averages differ from PyTorch's in the last bits; maxima are the same. Strides and the gradient of a maximum are left to PyTorch;
`torch.func`'s transforms are not served.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from enas.children.layout import has_onednn, may_choose_kernel

LEAST_ELEMENTS = 2**19
"""Smallest input that these kernels are chosen for. Being several in place of one, they take on two threads 1.2 to 1.6 times as
long for averages of 2^17 elements."""

LEAST_PIXELS = 16 * 16
"""Smallest image: at 8x8 they gain little, and averages with a gradient nothing."""


def average3x3(x: Tensor, stride: int = 1) -> Tensor:
    """Return the mean of each window, without padding, as TensorFlow's SAME; (B, C, H, W) to (B, C, ceil(H/s), ceil(W/s))."""
    if stride != 1 or not _pays(x):
        return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    if torch.is_grad_enabled() and x.requires_grad:
        averages: Tensor = _Average.apply(x)
        return averages
    return _weigh_borders(_ninth_of_sums(x))


def maximum3x3(x: Tensor, stride: int = 1) -> Tensor:
    """Return the maximum of each window, of the same size as `average3x3`."""
    if stride != 1 or not _pays(x) or (torch.is_grad_enabled() and x.requires_grad):
        return F.max_pool2d(x, 3, stride, 1)
    return _maximum_of_neighbours(_maximum_of_neighbours(x, dim=2), dim=3)


def _pays(x: Tensor) -> bool:
    return (
        may_choose_kernel(x)
        and x.dtype == torch.float32
        and x.numel() >= LEAST_ELEMENTS
        and x.shape[2] * x.shape[3] >= LEAST_PIXELS
        and min(x.shape[2:]) > 1
        and has_onednn()
    )


class _Average(torch.autograd.Function):
    """Sums of windows are symmetric, so the gradient of weighted sums is the sums of the weighted gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _weigh_borders(_ninth_of_sums(x))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _ninth_of_sums(_weigh_borders(grad.clone(memory_format=torch.channels_last)))


def _ninth_of_sums(x: Tensor) -> Tensor:
    channels = x.shape[1]
    return F.conv2d(x, x.new_full((channels, 1, 3, 3), 1 / 9), padding=1, groups=channels)


def _weigh_borders(x: Tensor) -> Tensor:
    """Multiply, in place, what has six pixels in its window by 9/6, and corners, which have four, by 9/4."""
    for dim in (2, 3):
        for index in (0, -1):
            x.select(dim, index).mul_(1.5)
    return x


def _maximum_of_neighbours(x: Tensor, *, dim: int) -> Tensor:
    """Return the maximum of each pixel and its two neighbours along an axis."""
    out, length = torch.empty_like(x), x.shape[dim] - 1
    out.select(dim, 0).copy_(x.select(dim, 0))
    torch.maximum(x.narrow(dim, 1, length), x.narrow(dim, 0, length), out=out.narrow(dim, 1, length))
    but_last = out.narrow(dim, 0, length)
    torch.maximum(but_last, x.narrow(dim, 1, length), out=but_last)
    return out
