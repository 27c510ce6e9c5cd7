"""How a process uses its processor: threads of PyTorch, and memory that is kept for the next tensor.

A training step allocates and frees the same hundreds of megabytes again. glibc gives large pieces back to the kernel at once, and
the kernel fills them with zeros, page by page, each time anew: with recurrent cells (minibatches of 64 x 35 words, 10,000 words)
that was 88,000 page faults and .27 of .66 s a step. Kept instead, there are none, and the process is no larger at its peak (macro
network of 12 layers: 2,316 MiB, 2,381 before).
"""

from __future__ import annotations

import ctypes
import os
import sys

import torch

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_LARGEST_INT = 2**31 - 1
_CHOSEN_BY_USER = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def prepare_processor(*, threads: int | None) -> None:
    """Set the number of PyTorch's CPU threads, None for its own choice, and keep freed memory."""
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Let the process keep what it frees for what it allocates next; return whether it does.

    On Linux with glibc only, and not where the environment chooses an allocator or its settings (`MALLOC_...`, `GLIBC_TUNABLES`,
    `LD_PRELOAD`).
    """
    if sys.platform != "linux" or any(name.startswith(_CHOSEN_BY_USER) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(name, value) for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST_INT)))
