"""Blocks shared by image children: BatchNorm with ReLU, convolution branches, factorized reduction, dropout and drop-path from
a generator.

Values follow the authors' `src/cifar10/general_child.py` and `common_ops.py`; numbers of weights are in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from enas.children.batch_norm import BatchNorm
from enas.children.chain import Chain, convolve_and_normalise, convolve_folded, folded
from enas.children.depthwise import DepthwiseConv2d
from enas.children.grids import even_and_odd
from enas.children.layout import may_choose_kernel
from enas.children.pooling import average3x3, maximum3x3
from enas.transfer import to_device

BRANCH_EPS = 1e-3
"""Epsilon of the BatchNorm behind a branch's convolution (the authors' masked BatchNorm); 1e-5 elsewhere."""


def conv1x1(in_channels: int, out_channels: int) -> Chain:
    """Return 1x1 convolution, BatchNorm, ReLU."""
    return Chain(nn.Conv2d(in_channels, out_channels, 1, bias=False), BatchNorm(out_channels, relu=True))


def separable_conv(channels: int, kernel_size: int) -> nn.Sequential:
    """Return a depthwise k x k and a pointwise convolution."""
    return nn.Sequential(DepthwiseConv2d(channels, kernel_size), nn.Conv2d(channels, channels, 1, bias=False))


class ConvBranch(nn.Module):
    """1x1 conv-BN-ReLU, then a k x k convolution (full or depthwise separable), BN, ReLU; stride 1, same size."""

    def __init__(self, channels: int, *, kernel_size: int, separable: bool) -> None:
        super().__init__()
        self.enter = conv1x1(channels, channels)
        if separable:
            self.conv: nn.Module = separable_conv(channels, kernel_size)
        else:
            self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = BatchNorm(channels, eps=BRANCH_EPS, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        x = self.enter(x)
        *before, last = self.conv if isinstance(self.conv, nn.Sequential) else (self.conv,)
        for layer in before:
            x = layer(x)
        assert isinstance(last, nn.Conv2d)
        return convolve_and_normalise(last, self.norm, x)


class PoolBranch(nn.Module):
    """1x1 conv-BN-ReLU, then 3x3 pooling, stride 1, same size; the average leaves padding out, as TensorFlow's SAME does."""

    def __init__(self, channels: int, *, average: bool) -> None:
        super().__init__()
        self.enter = conv1x1(channels, channels)
        self.pool = average3x3 if average else maximum3x3

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        return self.pool(self.enter(x))


class FactorizedReduction(nn.Module):
    """Halve height and width: two stride-2 grids, offset by one pixel, each through a 1x1 convolution, concatenated, BN.

    Odd sizes round up. The shifted grid is padded with zeros at the bottom and right. With `rectify` a ReLU comes before,
    taken of the grids, which have half of the pixels between them.
    """

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool = True, rectify: bool = False) -> None:
        super().__init__()
        self.rectify = rectify
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, bias=False)
        self.norm = BatchNorm(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', ceil(H/2), ceil(W/2))."""
        even, odd = (torch.relu(grid) if self.rectify else grid for grid in even_and_odd(x))
        if not self.norm.folds(x):
            out: Tensor = self.norm(torch.cat([self.even(even), self.odd(odd)], dim=1))
            return out
        halves = zip((self.even, self.odd), folded(self.norm, self.even, self.odd), (even, odd), strict=True)
        return torch.cat([convolve_folded(*half) for half in halves], dim=1)


def rectified_channels(*tensors: Tensor) -> Tensor:
    """Return ReLU of tensors (B, C, H, W) one after the other, (B, n * C, H, W).

    Where no gradient is asked for, it is written straight to its place: of four with 20 channels at 32x32, .83 of the time.
    """
    first = tensors[0]
    if torch.is_grad_enabled() or not may_choose_kernel(first):
        return torch.relu_(torch.cat(tensors, dim=1))
    num_images, channels, *size = first.shape
    shape = (num_images, len(tensors) * channels, *size)
    joined = torch.empty(shape, dtype=first.dtype, memory_format=torch.channels_last)
    for tensor, part in zip(tensors, torch.split(joined, channels, dim=1), strict=True):
        torch.clamp_min(tensor, 0, out=part)
    return joined


def dropout(x: Tensor, *, keep_prob: float, generator: torch.Generator | None) -> Tensor:
    """Zero each element with probability 1 - keep_prob and scale the rest by 1 / keep_prob.

    Args: generator: CPU generator of the mask, so that results do not depend on the device.
    Raises: ValueError without a generator.
    """
    return x * dropout_mask(x.shape, keep_prob=keep_prob, generator=generator, like=x)


def dropout_mask(shape: Sequence[int], *, keep_prob: float, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Return factors that are 0 with probability 1 - keep_prob, else 1 / keep_prob.

    Args: generator: CPU generator, so that results do not depend on the device. like: a tensor of the mask's device and type.
    Raises: ValueError without a generator.
    """
    if generator is None:
        raise ValueError("dropout in training mode: expected a generator for its mask, got None")
    mask = torch.rand(tuple(shape), generator=generator) < keep_prob
    return to_device(mask, like.device).to(like.dtype) / keep_prob


def drop_path(x: Tensor, *, keep_prob: float, generator: torch.Generator | None) -> Tensor:
    """Zero all of an image with probability 1 - keep_prob and scale the rest by 1 / keep_prob (Larsson et al. 2017).

    Args:
        x: (B, C, H, W).
        generator: CPU generator of the mask, so that results do not depend on the device.
    Raises: ValueError without a generator.
    """
    if generator is None:
        raise ValueError("drop-path in training mode: expected a generator for its mask, got None")
    mask = torch.rand(len(x), 1, 1, 1, generator=generator) < keep_prob
    return x / keep_prob * to_device(mask, x.device).to(x.dtype)  # 1 / keep_prob itself would be rounded in bfloat16
