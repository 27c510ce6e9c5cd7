"""What decides which kernel serves a tensor: where it lies, in which order of memory, and what PyTorch was built with."""

from __future__ import annotations

import torch
from torch import Tensor


def in_channels_last(x: Tensor) -> bool:
    """Whether (B, C, H, W) lies in memory pixel by pixel, and not also channel by channel."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def may_choose_kernel(x: Tensor) -> bool:
    """Whether kernels other than PyTorch's own may serve x: on CPUs in channels_last order, where they were measured.

    Not in bfloat16 autocast, which has a list of its own of what is computed in which precision, nor in a network that is being
    exported or compiled: which kernel is faster follows from sizes, and an exported network serves all of them.
    """
    is_plain = not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))
    return is_plain and x.device.type == "cpu" and in_channels_last(x)


def has_onednn() -> bool:
    """Whether convolutions on the CPU are oneDNN's."""
    return bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled)  # type: ignore[no-untyped-call]
