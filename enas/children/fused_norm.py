"""BatchNorm with its ReLU for channels_last images on the CPU, as an autograd function of plain PyTorch operations.

PyTorch's own kernel adds up each channel in single precision, pixel after pixel, in one row of a small table per thread. Rows of
36 or 20 channels share cache lines, which threads then take from each other, and long sums round off: with 128 images of 32x32
its gradients are off by 1e-3. Here the images are read as a matrix with several pixels in a row, as if they had that many
channels: long rows suit vector units and keep threads apart, and short columns keep sums exact. Work runs chunk by chunk, so that
only the first operation on a chunk waits for memory. Vectors of a number for each channel are NumPy's, whose calls take a
quarter of the time of PyTorch's on so few numbers.

Where a channel's mean is far from zero, as counted in its deviations, single precision would lose what matters; everything is
then computed from x - s, where s is the mean that was found.

Images in bfloat16 are computed on in single precision, a chunk at a time; kept, given and returned they are in bfloat16.

Not covered: second derivatives (PyTorch raises), `torch.func` transforms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from enas.types import FloatArray

ROW = 2048
"""Most elements in a row of the matrix that images are read as."""

CHUNK = 2**18
"""Elements of a chunk for each thread: 1 MB in single precision, so that two fit a core's second-level cache."""

_quiet = np.errstate(invalid="ignore", over="ignore", divide="ignore")  # an infinite input gives NaN, as in PyTorch

FAR = 30
"""Means of more deviations than this are shifted to zero. Rounding is about 1e-7 of the mean, hence 3e-6 of the deviation."""


def fused_batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *, eps: float, relu: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by the mean and variance over (B, H, W), scale, shift, and take the positive part if asked to.

    Args:
        x: float32, float64 or bfloat16 (B, C, H, W) on the CPU, dense in channels_last order.
        weight, bias: (C,), or None for one and zero.
        eps: added to the variance.
        relu: whether max(0, .) follows.
    Returns: output (B, C, H, W), as x; mean and biased variance, float64 (C,), without a gradient.
    Raises: ValueError for an x of another layout.
    """
    if not x.is_contiguous(memory_format=torch.channels_last):
        raise ValueError(f"expected images dense in channels_last order, got shape {tuple(x.shape)} with strides {x.stride()}")
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in (x, weight, bias)):
        result: tuple[Tensor, Tensor, Tensor] = _FusedBatchNorm.apply(x, weight, bias, eps, relu)
        return result
    with torch.no_grad():
        out, found = _normalise(x, weight, bias, eps, relu)
    return out, *found.moments()


class _FusedBatchNorm(torch.autograd.Function):
    """Keeps x, and the output for its ReLU: as much as PyTorch's own BatchNorm and ReLU keep."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        out, ctx.found = _normalise(x, weight, bias, eps, relu)
        mean, var = ctx.found.moments()
        ctx.save_for_backward(x, out if relu else None)
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    @_quiet
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, out = ctx.saved_tensors
        found: _Found = ctx.found
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = torch.empty_like(grad)
        rows, sources, targets = _rows(x), _chunks(_rows(grad)), _chunks(_rows(grad_x))
        # what passes the ReLU is written where the gradient of x will be
        masked = sources if out is None else map(_mask, sources, _chunks(_rows(out)), targets)
        num_channels = len(found.scale)
        wide = map(_wide, masked)
        grad_bias, product = _gradient_sums(wide, _shifted(rows, found.shift), _spread(found.offset, rows), num_channels)
        sources = sources if out is None else targets
        grad_weight = product * found.inverse
        # source * scale + (x - s) * slope + level is scale * (grad - mean(grad) - normalised * mean(grad * normalised))
        factor = found.scale * (-num_channels / grad.numel())
        slope = factor * found.inverse * grad_weight
        level = factor * grad_bias - slope * found.offset
        scales, slopes, levels = (_spread(vector, rows) for vector in (found.scale, slope, level))
        for source, centre, target in zip(map(_wide, sources), _shifted(rows, found.shift), targets, strict=True):
            room = _room(target, source)
            _keep(torch.addcmul(levels, source, scales, out=room).addcmul_(centre, slopes), target)
        _, has_weight, has_bias, *_ = ctx.needs_input_grad
        return grad_x, _tensor(grad_weight) if has_weight else None, _tensor(grad_bias) if has_bias else None, None, None


def scaled_sum(tensors: Sequence[Tensor], scale: Tensor, level: Tensor) -> Tensor:
    """Return the sum of at least one tensor times a factor for each channel plus a constant for each; no gradient.

    Args: tensors: (B, C, H, W) on the CPU, dense in channels_last order. scale, level: (C,).
    Returns: (B, C, H, W) in channels_last order.
    """
    out = torch.empty_like(tensors[0])
    rows = _rows(out)
    scales, levels = (_spread(_array(vector), rows).to(rows.dtype) for vector in (scale, level))
    for target, first, *rest in zip(_chunks(rows), *(_chunks(_rows(tensor)) for tensor in tensors), strict=True):
        partial_sum = first
        for chunk in rest:
            partial_sum = torch.add(partial_sum, chunk, out=target)
        torch.addcmul(levels, partial_sum, scales, out=target)
    return out


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What was found of an input: numbers for each channel, float64 (C,).

    Attributes:
        shift: s, or None for zero.
        offset, var: mean of x - s, biased variance.
        inverse: 1 / deviation.
        scale: the same times the weight.
    """

    shift: FloatArray | None
    offset: FloatArray
    var: FloatArray
    inverse: FloatArray
    scale: FloatArray

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance of x."""
        mean = self.offset.copy() if self.shift is None else self.shift + self.offset
        return _tensor(mean), _tensor(self.var.copy())


@_quiet
def _normalise(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, relu: bool) -> tuple[Tensor, _Found]:
    out = torch.empty_like(x)
    rows, targets = _rows(x), _rows(out)
    shift, offset, var = _statistics(rows, x.shape[1])
    inverse = 1 / np.sqrt(var + eps)
    scale = inverse if weight is None else inverse * _array(weight)
    level = -offset * scale if bias is None else _array(bias) - offset * scale
    scales, levels = _spread(scale, rows), _spread(level, rows)
    for centre, target in zip(_shifted(rows, shift), _chunks(targets), strict=True):
        result = torch.addcmul(levels, centre, scales, out=_room(target, centre))
        _keep(result.relu_() if relu else result, target)
    return out, _Found(shift=shift, offset=offset, var=var, inverse=inverse, scale=scale)


def _statistics(rows: Tensor, num_channels: int) -> tuple[FloatArray | None, FloatArray, FloatArray]:
    """Return s or None for zero, the mean of x - s and the biased variance, (C,)."""
    mean, var = _moments(_shifted(rows, None), num_channels)
    if not (np.square(mean) > FAR**2 * var).any():
        return None, mean, var
    shift = _array(_tensor(mean).to(_wide_type(rows.dtype)))  # rounded as what it is taken from
    return shift, *_moments(_shifted(rows, shift), num_channels)


def _moments(chunks: Iterable[Tensor], num_channels: int) -> tuple[FloatArray, FloatArray]:
    """Return mean and biased variance over all pixels, (C,), from those of each chunk's columns."""
    lengths: list[float] = []
    found: tuple[list[FloatArray], list[FloatArray]] = [], []
    for chunk in chunks:
        lengths.append(len(chunk))
        for column, moment in zip(found, torch.batch_norm_update_stats(_as_images(chunk), None, None, 0), strict=True):
            column.append(_array(moment).reshape(-1, num_channels))
    means, variances = (np.array(column) for column in found)
    weights = np.array(lengths)[:, None, None] / (sum(lengths) * means.shape[1])
    mean = (means * weights).sum(axis=(0, 1))
    return mean, ((variances + np.square(means - mean)) * weights).sum(axis=(0, 1))


def _gradient_sums(
    grads: Iterable[Tensor], centres: Iterable[Tensor], mean: Tensor, num_channels: int
) -> tuple[FloatArray, FloatArray]:
    """Return the sums over all pixels of a gradient and of its product with x - s - mean, (C,).

    They are what PyTorch's BatchNorm returns as gradients of its bias and weight.

    Args: grads, centres: chunks of the gradient and of x - s. mean: of x - s, repeated to the length of a row.
    """
    one, only_sums = torch.ones_like(mean), [False, True, True]
    sums: list[FloatArray] = []
    for grad, centre in zip(grads, centres, strict=True):
        images = _as_images(grad), _as_images(centre)
        _, product, total = torch.ops.aten.native_batch_norm_backward(*images, one, mean, one, None, None, False, 0.0, only_sums)
        sums += _array(total), _array(product)
    total, product = np.array(sums).reshape(len(sums) // 2, 2, -1, num_channels).sum(axis=(0, 2))
    return total, product


def _array(vector: Tensor) -> FloatArray:
    """Return the numbers of a tensor, in double precision."""
    return vector.detach().numpy().astype(np.float64)


def _tensor(vector: FloatArray) -> Tensor:
    return torch.from_numpy(vector)


def _as_images(rows: Tensor) -> Tensor:
    """View a matrix of n rows as n pixels, (1, C, n, 1) in channels_last order, with a channel for each column."""
    length, width = rows.shape
    return rows.as_strided((1, width, length, 1), (rows.numel(), 1, width, width))


def _shifted(rows: Tensor, shift: FloatArray | None) -> Iterator[Tensor]:
    """Yield x - s chunk by chunk; each is valid until the next one, and may be written to unless it is a part of x."""
    if shift is None:
        yield from map(_wide, _chunks(rows))
        return
    shifts, chunks = _spread(shift, rows), _chunks(rows)
    scratch = torch.empty_like(chunks[0], dtype=shifts.dtype)
    for chunk in chunks:
        yield torch.sub(chunk, shifts, out=scratch[: len(chunk)])


def _wide_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type that values of a type are computed in."""
    return torch.promote_types(dtype, torch.float32)


def _wide(chunk: Tensor) -> Tensor:
    """Return a chunk in the type that it is computed in: itself, or a copy."""
    return chunk.to(_wide_type(chunk.dtype))


def _room(target: Tensor, scratch: Tensor) -> Tensor:
    """Return where to compute what belongs into a chunk: there, or, if it is of another type, in a copy that is at hand."""
    return target if target.dtype == scratch.dtype else scratch


def _keep(result: Tensor, target: Tensor) -> None:
    """Write what was computed in `_room` into a chunk, unless it is there."""
    if result.dtype != target.dtype:
        target.copy_(result)


def _mask(grad: Tensor, positive: Tensor, target: Tensor) -> Tensor:
    """Write the gradient where an output of ReLU is positive, else zero; return what is written to."""
    result: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, positive, 0, grad_input=target)
    return result


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


def _spread(vector: FloatArray, rows: Tensor) -> Tensor:
    """Repeat (C,) to the length of a row, in the type that it is computed in."""
    return _tensor(np.tile(vector, rows.shape[1] // len(vector))).to(_wide_type(rows.dtype))
