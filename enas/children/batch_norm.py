"""BatchNorm (with its ReLU), and the three ways its statistics can serve a reward: `batch`, `running`, `recalibrated`.

In a supernet the running averages mix the statistics of all sampled paths, so they fit none of them well; which statistics the
reward uses moves ENAS on NAS-Bench-201 from 54.30 to 93.76 % (Dong et al. 2021). The modes here work on any
`torch.nn.BatchNorm2d`, so a child of a user's own needs no class from this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from enas.children.fused_norm import fused_batch_norm
from enas.children.layout import in_channels_last, may_choose_kernel

FUSED_PIXELS = 2**15
"""Fewest pixels, of all images together, that the fused function is chosen for: below, its fixed cost eats the gain."""

FOLDED_ELEMENTS = 2**17
"""Smallest input that a convolution does its BatchNorm's work for: making its weights costs the same however small it is."""

_num_parts: ContextVar[int] = ContextVar("num_parts", default=1)


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm over (B, H, W), optionally without weights, optionally followed by ReLU. Momentum .1: the authors' decay of .9.

    Which kernel computes it follows from the input alone, so a supernet and a standalone network agree bit for bit; but not where
    second derivatives are taken (`twice_differentiable`).
    """

    def __init__(self, num_features: int, *, eps: float = 1e-5, relu: bool = False, affine: bool = True) -> None:
        super().__init__(num_features, eps=eps, momentum=0.1, affine=affine)
        self.relu = relu
        self.may_fuse = True

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W), in the memory format of x."""
        uses_batch = self.training or self.running_mean is None
        if uses_batch and _num_parts.get() > 1:
            return self._forward_parts(x, _num_parts.get())
        if self.may_fuse and self.affine and uses_batch and x.shape[1] == self.num_features and fused_pays(x):
            return self._forward_fused(x)
        out = super().forward(x)
        out = torch.relu_(out) if self.relu else out
        if out.requires_grad and out.device.type == "cpu" and in_channels_last(out):
            out.register_hook(_to_channels_last)  # type: ignore[no-untyped-call]
        return out

    def folds(self, x: Tensor) -> bool:
        """Whether a convolution of x should do what this layer does behind it, by `factors`.

        On CPUs in channels_last order only, where it was measured: rewards of the macro network (12 layers, 36 filters, 128
        images) take .88 of the time. Not in bfloat16, which would round the mean.
        """
        return (
            not (self.training or self.running_mean is None or torch.is_grad_enabled())
            and may_choose_kernel(x)
            and x.numel() >= FOLDED_ELEMENTS
        )

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return what running averages multiply each channel by and then add to it, (C,) each.

        Raises: ValueError for a layer without running averages.
        """
        if self.running_mean is None or self.running_var is None:
            raise ValueError("expected a BatchNorm with running averages")
        scale = (self.running_var + self.eps).rsqrt()
        scale = scale * self.weight if self.affine else scale
        level = -self.running_mean * scale
        return scale, level + self.bias if self.affine else level

    def _forward_parts(self, x: Tensor, num_parts: int) -> Tensor:
        """Normalise each part of a batch by its own statistics, recording none. Args: x: (parts * B, C, H, W)."""
        parts = x.view(num_parts, -1, *x.shape[1:])  # (parts, B, C, H, W)
        wide = parts.float() if x.dtype in (torch.bfloat16, torch.float16) else parts
        var, mean = torch.var_mean(wide, dim=(1, 3, 4), correction=0, keepdim=True)  # (parts, 1, C, 1, 1)
        scale = (var + self.eps).rsqrt_()
        centred = wide - mean
        if self.affine:
            out = torch.addcmul(self.bias[:, None, None], centred, scale.mul_(self.weight[:, None, None]))
        else:
            out = centred.mul_(scale)
        out = out.relu_() if self.relu else out
        return out.flatten(0, 1).to(x.dtype)

    def _forward_fused(self, x: Tensor) -> Tensor:
        out, mean, var = fused_batch_norm(x, self.weight, self.bias, eps=self.eps, relu=self.relu)
        if self.training and self.track_running_stats:
            count = x.numel() / x.shape[1]
            self._record(mean, var * (count / (count - 1)))  # PyTorch records the unbiased variance
        return out

    def _record(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(var.to(self.running_var.dtype), momentum)


def fused_pays(x: Tensor) -> bool:
    """Whether `fused_batch_norm` is chosen: channels_last on a CPU with several threads, channels no multiple of 16 (bf16: of 8).

    Forward and backward with ReLU over PyTorch's own in channels_last, 128 images, medians of 30 pairs on two threads of an AMD
    EPYC with AVX-512 (`bench --norms`, `--shapes.precision bf16`):

    | channels | fp32, 32x32 | 16x16 | 8x8 | bf16, 32x32 | 16x16 | 8x8 |
    |:--|--:|--:|--:|--:|--:|--:|
    | 20 | .26 | .35 | .98 | .60 | .70 | 1.04 |
    | 36 | .38 | .66 | .63 | .87 | .96 | .65 |
    | 24 | .55 | .65 | 1.14 | .99 | 1.02 | 1.18 |
    | 40 | .81 | .90 | 1.14 | 1.19 | 1.31 | 1.12 |
    | 72 | .95 | .89 | 1.20 | 1.36 | 1.54 | 1.68 |
    | 16, 32, 48, 64 | 1.18 to 1.48 | 1.32 to 1.55 | 1.49 to 1.84 | 1.77 to 2.04 | 1.74 to 2.10 | 1.78 to 2.22 |

    So the rule chooses the slower beyond doubt for 36 channels of 8x8 alone; a step of the macro network, which has them, gains
    nothing (.99). With one thread, where no two write to one cache line, the fused function is slower.
    """
    lanes = 8 if x.dtype == torch.bfloat16 else 16
    return (
        may_choose_kernel(x, in_autocast=True)
        and x.dtype in (torch.float32, torch.float64, torch.bfloat16)
        and torch.get_num_threads() > 1
        and x.shape[1] % lanes != 0
        and x.numel() // x.shape[1] >= FUSED_PIXELS
    )


def _to_channels_last(grad: Tensor) -> Tensor:
    """Bring a gradient to the layout of its input: with two layouts PyTorch's backward takes a path several times slower."""
    return grad.contiguous(memory_format=torch.channels_last)


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the BatchNorm layers of a network."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@contextmanager
def batch_statistics(norms: Iterable[nn.BatchNorm2d]) -> Iterator[None]:
    """Within the block, layers in evaluation mode normalise by the statistics of their own batch and record nothing."""
    norms = list(norms)
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.training, norm.track_running_stats = False, True


@contextmanager
def separate_batches(num_parts: int) -> Iterator[None]:
    """Within the block, a batch is several put together: each equal part of it is normalised by its own statistics.

    Only `BatchNorm` does so, not PyTorch's own; it records none.
    """
    token = _num_parts.set(num_parts)
    try:
        yield
    finally:
        _num_parts.reset(token)


@contextmanager
def twice_differentiable(norms: Iterable[nn.BatchNorm2d]) -> Iterator[None]:
    """Within the block, layers compute by PyTorch's kernels alone: `fused_batch_norm` has no second derivative."""
    own = [norm for norm in norms if isinstance(norm, BatchNorm)]
    for norm in own:
        norm.may_fuse = False
    try:
        yield
    finally:
        for norm in own:
            norm.may_fuse = True


@contextmanager
def fresh_statistics(norms: Iterable[nn.BatchNorm2d]) -> Iterator[None]:
    """Within the block, layers start from empty statistics, averaged over all batches seen; afterwards the old ones return.

    In training mode a layer of the block accumulates; switched to evaluation mode it uses what was accumulated.
    """
    norms = list(norms)
    saved = [(norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    hooks = [norm.register_forward_pre_hook(_CumulativeAverage()) for norm in norms]
    try:
        yield
    finally:
        for norm, hook, (momentum, buffers) in zip(norms, hooks, saved, strict=True):
            hook.remove()
            norm.momentum = momentum
            with torch.no_grad():
                for buffer, old in zip(norm.buffers(), buffers, strict=True):
                    buffer.copy_(old)


class _CumulativeAverage:
    """Called before a layer's forward pass: sets its momentum so that statistics are the plain average over all batches so far.

    A momentum of None is PyTorch's own switch for that, but then each call reads the layer's count back from the device.
    """

    def __init__(self) -> None:
        self._num_batches = 0

    def __call__(self, norm: nn.Module, inputs: object) -> None:
        if norm.training and isinstance(norm, nn.BatchNorm2d):
            self._num_batches += 1
            norm.momentum = 1 / self._num_batches


def set_accumulating(norms: Iterable[nn.BatchNorm2d], accumulating: bool) -> None:
    """Switch layers between recording statistics (training mode) and using them (evaluation mode)."""
    for norm in norms:
        norm.training = accumulating


@torch.no_grad()
def read_averages(norms: Iterable[nn.BatchNorm2d]) -> Tensor:
    """Return a copy of all running means and variances, (S,), for `undo_averages`."""
    averages = _averages(norms)
    return torch.cat(averages) if averages else torch.zeros(0)


@torch.no_grad()
def undo_averages(failed: Tensor, norms: Iterable[nn.BatchNorm2d], before: Tensor) -> None:
    """Put running means and variances back to what they were before a step, if it failed: one that is not finite never heals.

    Args: failed: a boolean scalar, read on the CPU, left on any other device. before: (S,), of `read_averages`.
    """
    averages = _averages(norms)
    if not averages or (failed.device.type == "cpu" and not failed):
        return
    kept = torch.where(failed, before, torch.cat(averages))
    torch._foreach_copy_(averages, list(torch.split(kept, [len(values) for values in averages])))


def _averages(norms: Iterable[nn.BatchNorm2d]) -> list[Tensor]:
    pairs = ((norm.running_mean, norm.running_var) for norm in norms)
    return [values for pair in pairs for values in pair if values is not None]
