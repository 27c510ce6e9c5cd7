"""Depthwise convolution whose weights' gradient is faster than PyTorch's on a CPU in channels_last order.

oneDNN is fast at the gradient of depthwise filters of up to three columns: one of 5x5 takes five times as long as one of 5x3, in
bfloat16 thirty times. Columns of a filter have gradients of their own, so here three at a time are computed, on images padded so
that the rest of the filter is not missed. The output and the gradient of the images are PyTorch's.

Both passes of a 5x5 convolution as a share of PyTorch's, medians of 15 on two threads of an AMD EPYC: with AVX-512 and its
instructions for bfloat16, and fp32 held to AVX2. A training step of the micro network (8 cells, 20 filters, 160 images) takes .90
of the time, in bf16 .76.

| channels, image, images | 20, 32x32, 160 | 40, 16x16, 160 | 80, 8x8, 160 | 36, 32x32, 128 | 36, 16x16, 128 |
|:--|--:|--:|--:|--:|--:|
| fp32 | .82 | .79 | .67 | .77 | .74 |
| fp32, AVX2 | .90 | .73 | .66 | .85 | .73 |
| bf16 | .26 | .20 | .16 | .32 | .21 |

Strides gain nothing and are PyTorch's (1.1 to 1.3 in fp32), small images too: 16 channels of 8x8, 64 images, 1.04.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.children.layout import has_onednn, may_choose_kernel

COLUMNS = 3
"""Most columns of a filter whose gradient oneDNN is fast at."""

LEAST_ELEMENTS = 2**19
"""Smallest input that this gradient is chosen for."""


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise convolution of a square kernel of odd size, output of size ceil(H/stride); no bias.

    Which kernel computes the weights' gradient follows from the input alone; the last bits depend on it.
    """

    def __init__(self, channels: int, kernel_size: int, *, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, ceil(H/stride), ceil(W/stride))."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.weight.dtype
        if not (torch.is_grad_enabled() and self.weight.requires_grad and self._columns_pay(x, dtype)):
            return super().forward(x)
        out: Tensor = _ByColumns.apply(x.to(dtype), self.weight.to(dtype))
        return out

    def _columns_pay(self, x: Tensor, dtype: torch.dtype) -> bool:
        """Whether columns pay for images that are convolved in a type, theirs but in autocast."""
        return (
            self.kernel_size[1] > COLUMNS
            and self.stride[1] == 1
            and may_choose_kernel(x, in_autocast=True)
            and dtype in (torch.float32, torch.bfloat16)
            and (x.dtype == dtype or torch.is_autocast_enabled("cpu"))
            and x.numel() >= LEAST_ELEMENTS
            and x.shape[3] >= self.kernel_size[1]
            and has_onednn()
        )


class _ByColumns(torch.autograd.Function):
    """A depthwise convolution of stride 1 whose weights have a gradient.

    Backwards it is made of PyTorch's operators, so that second derivatives exist.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=weight.shape[3] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors
        grad, padding, size = grad.contiguous(memory_format=torch.channels_last), weight.shape[3] // 2, weight.shape[3]
        grad_x = _backward(grad, x, weight, (padding, padding), of_weight=False) if ctx.needs_input_grad[0] else None
        parts = []
        for start in range(0, size, COLUMNS):
            end = min(start + COLUMNS, size)
            seen = F.pad(x, (padding - start, padding - size + end))  # of the border, as much as these columns meet
            parts.append(_backward(grad, seen, weight[..., start:end], (padding, 0), of_weight=True))
        return grad_x, torch.cat(parts, dim=3)


def _backward(grad: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], *, of_weight: bool) -> Tensor:
    """Return the gradient of a depthwise convolution's filters, or of its images."""
    mask = [not of_weight, of_weight, False]
    stride = dilation = [1, 1]
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, list(padding), dilation, False, [0, 0], len(weight), mask
    )
    return found[1] if of_weight else found[0]
