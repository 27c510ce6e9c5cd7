"""How a process uses its processor: threads of PyTorch, number formats, and memory that is kept for the next tensor.

A training step allocates and frees the same hundreds of megabytes again. glibc gives large pieces back to the kernel at once, and
the kernel fills them with zeros, page by page, each time anew: with recurrent cells (minibatches of 64 x 35 words, 10,000 words)
that was 88,000 page faults and .27 of .66 s a step. Kept instead, there are none, and the process is no larger at its peak (macro
network of 12 layers: 2,316 MiB, 2,381 before).
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings

import torch

from enas.configs import DeviceName, Precision
from enas.devices import select_device

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_LARGEST_INT = 2**31 - 1
_CHOSEN_BY_USER = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def prepare_processor(*, threads: int | None, device: DeviceName = "auto", precision: Precision = "fp32") -> None:
    """Set the number of PyTorch's CPU threads, None for its own choice, and keep freed memory.

    A RuntimeWarning says so where networks are to run in bfloat16 on a CPU that has no instructions for it.

    Raises: ValueError for a device that is not there, with bf16.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    if precision == "bf16" and select_device(device).type == "cpu" and not calculates_in_bfloat16():
        text = "precision bf16: this processor has no instructions for bfloat16 and is several times slower than in fp32"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def calculates_in_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16 (AVX-512 BF16, AMX, Arm's), or does not say."""
    told = [is_there for name, is_there in torch.cpu.get_capabilities().items() if "bf16" in name]
    return not told or any(told)


def keep_freed_memory() -> bool:
    """Let the process keep what it frees for what it allocates next; return whether it does.

    On Linux with glibc only, and not where the environment chooses an allocator or its settings (`MALLOC_...`, `GLIBC_TUNABLES`,
    `LD_PRELOAD`).
    """
    if sys.platform != "linux" or any(name.startswith(_CHOSEN_BY_USER) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(name, value) for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST_INT)))
