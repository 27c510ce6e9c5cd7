"""How much memory the process holds, for TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

MIB = 2**20


def memory_metrics() -> dict[str, float]:
    """Return MiB: `system/rss` (resident memory; its peak on macOS; left out on Windows) and `system/gpu_memory` with CUDA."""
    metrics = {}
    if (resident := _resident_bytes()) is not None:
        metrics["system/rss"] = resident / MIB
    if torch.cuda.is_available():
        metrics["system/gpu_memory"] = torch.cuda.memory_allocated() / MIB
    return metrics


def _resident_bytes() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
