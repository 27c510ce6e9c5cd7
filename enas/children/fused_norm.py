"""BatchNorm with its ReLU for channels_last images on the CPU, as an autograd function of plain PyTorch operations.

PyTorch's own kernel adds up each channel in single precision, pixel after pixel, in one row of a small table per thread. Rows of
36 or 20 channels share cache lines, which threads then take from each other, and long sums round off: with 128 images of 32x32
its gradients are off by 1e-3. Here the images are read as a matrix with several pixels in a row: long rows suit vector units
whatever the number of channels, and short columns keep sums exact. Work runs chunk by chunk, so that only the first operation on
a chunk waits for memory.

The variance is that of x - s, where s is the mean of the first sixteenth of the rows. The mean of a share p of any numbers is
within sqrt((1 - p) / p) standard deviations of the mean of all (Cauchy-Schwarz), here about 5, so that nothing cancels however
far the numbers are from zero.

Not covered: second derivatives (PyTorch raises), `torch.func` transforms.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROW = 2048
"""Most elements in a row of the matrix that images are read as."""

CHUNK = 2**18
"""Elements of a chunk for each thread: 1 MB in single precision, so that two fit a core's second-level cache."""

SAMPLE = 16
"""The shift s is the mean of the first row in so many."""


def fused_batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *, eps: float, relu: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by the mean and variance over (B, H, W), scale, shift, and take the positive part if asked to.

    Args:
        x: float32 or float64 (B, C, H, W) on the CPU, dense in channels_last order.
        weight, bias: (C,), or None for one and zero.
        eps: added to the variance.
        relu: whether max(0, .) follows.
    Returns: output (B, C, H, W) in channels_last order; mean and biased variance, float64 (C,), without a gradient.
    Raises: ValueError for an x of another layout.
    """
    if not x.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"expected images dense in channels_last order, got shape {tuple(x.shape)} with strides {x.stride()}")
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (x, weight, bias)):
        result: tuple[Tensor, Tensor, Tensor] = _FusedBatchNorm.apply(x, weight, bias, eps, relu)
        return result
    with torch.no_grad():
        out, mean, var, *_ = _normalise(x, weight, bias, eps, relu, keep=False)
    return out, mean, var


class _FusedBatchNorm(torch.autograd.Function):
    """Keeps x - s in place of x, and the output for its ReLU: as much as PyTorch's own BatchNorm and ReLU keep."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        out, mean, var, *kept = _normalise(x, weight, bias, eps, relu, keep=True)
        ctx.save_for_backward(out if relu else None, *kept)
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        out, centred, offset, inverse, scale = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = torch.empty_like(grad)
        sources, centres, targets = _chunks(_rows(grad)), _chunks(centred), _chunks(_rows(grad_x))
        if out is None:
            grad_bias, product = _sums(zip(sources, centres, strict=True), len(scale))
        else:  # what passes the ReLU is written where the gradient of x will be
            masked = map(_mask, sources, _chunks(_rows(out)), targets)
            grad_bias, product = _sums(zip(masked, centres, strict=True), len(scale))
            sources = targets
        grad_weight = (product - offset * grad_bias) * inverse
        # source * scale + centre * slope + level is scale * (grad - mean(grad) - normalised * mean(grad * normalised))
        factor = scale * (-len(scale) / grad.numel())
        slope = factor * inverse * grad_weight
        level = factor * grad_bias - slope * offset
        scales, slopes, levels = (_spread(vector, centred) for vector in (scale, slope, level))
        for source, centre, target in zip(sources, centres, targets, strict=True):
            torch.addcmul(levels, source, scales, out=target).addcmul_(centre, slopes)
        _, has_weight, has_bias, *_ = ctx.needs_input_grad
        return grad_x, grad_weight if has_weight else None, grad_bias if has_bias else None, None, None


def _normalise(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, relu: bool, *, keep: bool
) -> tuple[Tensor, ...]:
    """Return output, mean, variance; x - s as rows (the output's memory unless kept), mean - s, 1 / deviation, scale."""
    out = torch.empty_like(x)
    rows, targets = _rows(x), _rows(out)
    centred = torch.empty_like(rows) if keep else targets
    shift = _shift(rows, x.shape[1])
    offset, var = _centre(rows, shift, centred)
    inverse = (var + eps).rsqrt()
    scale = inverse if weight is None else inverse * weight
    level = -offset * scale if bias is None else bias - offset * scale
    scales, levels = _spread(scale, rows), _spread(level, rows)
    for centre, target in zip(_chunks(centred), _chunks(targets), strict=True):
        torch.addcmul(levels, centre, scales, out=target)
        if relu:
            target.relu_()
    return out, shift + offset, var, centred, offset, inverse, scale


def _shift(rows: Tensor, num_channels: int) -> Tensor:
    """Return s (C,), the mean of the first rows."""
    sample = rows[: -(-len(rows) // SAMPLE)]
    return sample.sum(dim=0).view(-1, num_channels).sum(dim=0) * (num_channels / sample.numel())


def _centre(rows: Tensor, shift: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
    """Write x - s; return its mean and the biased variance (C,) in float64."""
    shifts = _spread(shift, rows)
    differences = (torch.sub(chunk, shifts, out=centre) for chunk, centre in zip(_chunks(rows), _chunks(centred), strict=True))
    sums = _sums(((chunk, chunk) for chunk in differences), len(shift))
    offset, square = sums * (len(shift) / rows.numel())
    return offset, (square - offset * offset).clamp_min_(0)


def _mask(grad: Tensor, positive: Tensor, target: Tensor) -> Tensor:
    """Write the gradient where an output of ReLU is positive, else zero; return what is written to."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, positive, 0, grad_input=target)
    return result


def _sums(pairs: Iterable[tuple[Tensor, Tensor]], num_channels: int) -> Tensor:
    """Return the sum of the first and of the product over all chunks and pixels, (2, C) in float64."""
    sums = [total for first, second in pairs for total in (first.sum(dim=0), (first * second).sum(dim=0))]
    return torch.stack(sums).view(len(sums) // 2, 2, -1, num_channels).sum(dim=(0, 2), dtype=torch.float64)


def _rows(x: Tensor) -> Tensor:
    """View (B, C, H, W), dense in channels_last order, as a matrix with several pixels in a row."""
    width = _row_width(x.numel() // x.shape[1], x.shape[1])
    return x.as_strided((x.numel() // width, width), (width, 1))


@cache
def _row_width(num_pixels: int, num_channels: int) -> int:
    """Return the most elements, up to ROW, that whole pixels fill and that divide all elements evenly."""
    return num_channels * next(count for count in range(max(1, ROW // num_channels), 0, -1) if num_pixels % count == 0)


def _chunks(rows: Tensor) -> tuple[Tensor, ...]:
    most = CHUNK * torch.get_num_threads()
    return (rows,) if rows.numel() <= most else torch.split(rows, max(1, most // rows.shape[1]))


def _spread(vector: Tensor, rows: Tensor) -> Tensor:
    """Repeat (C,) to the length of a row, in its type."""
    return vector.to(rows.dtype).expand(rows.shape[1] // len(vector), -1).reshape(-1)
