"""What decides which kernel serves a tensor: where it lies, in which order of memory, and what PyTorch was built with."""

from __future__ import annotations

import torch
from torch import Tensor


def in_channels_last(x: Tensor) -> bool:
    """Whether (B, C, H, W) lies in memory pixel by pixel, and not also channel by channel."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def may_choose_kernel(x: Tensor, *, in_autocast: bool = False) -> bool:
    """Whether kernels other than PyTorch's own may serve x: on CPUs in channels_last order, where they were measured.

    Not in a network that is being exported or compiled: which kernel is faster follows from sizes, and an exported network serves
    all of them.

    Args: in_autocast: whether they serve in bfloat16 autocast, too, which else decides what is computed in which precision.
    """
    is_plain = not torch.compiler.is_compiling() and (in_autocast or not torch.is_autocast_enabled("cpu"))
    return is_plain and x.device.type == "cpu" and in_channels_last(x)


def has_onednn() -> bool:
    """Whether convolutions on the CPU are oneDNN's."""
    return bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)  # type: ignore[no-untyped-call]
