"""BatchNorm (with its ReLU), and the three ways its statistics can serve a reward: `batch`, `running`, `recalibrated`.

In a supernet the running averages mix the statistics of all sampled paths, so they fit none of them well; which statistics the
reward uses moves ENAS on NAS-Bench-201 from 54.30 to 93.76 % (Dong et al. 2021). The modes here work on any
`torch.nn.BatchNorm2d`, so a child of a user's own needs no class from this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm over (B, H, W), optionally followed by ReLU. Momentum .1: the authors' decay of .9."""

    def __init__(self, num_features: int, *, eps: float = 1e-5, relu: bool = False) -> None:
        super().__init__(num_features, eps=eps, momentum=0.1)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        out = super().forward(x)
        return torch.relu_(out) if self.relu else out


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
def fresh_statistics(norms: Iterable[nn.BatchNorm2d]) -> Iterator[None]:
    """Within the block, layers start from empty statistics, averaged over all batches seen; afterwards the old ones return.

    In training mode a layer of the block accumulates; switched to evaluation mode it uses what was accumulated.
    """
    norms = list(norms)
    saved = [(norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's switch for a cumulative average
    try:
        yield
    finally:
        for norm, (momentum, buffers) in zip(norms, saved, strict=True):
            norm.momentum = momentum
            with torch.no_grad():
                for buffer, old in zip(norm.buffers(), buffers, strict=True):
                    buffer.copy_(old)


def set_accumulating(norms: Iterable[nn.BatchNorm2d], accumulating: bool) -> None:
    """Switch layers between recording statistics (training mode) and using them (evaluation mode)."""
    for norm in norms:
        norm.training = accumulating
