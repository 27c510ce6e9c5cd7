"""The machine that a measurement was made on, in words."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


def machine_in_words(device: torch.device) -> str:
    """Return processor, cores that this process may use, threads, PyTorch's version and the device, separated by commas."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    parts = (processor_name(), f"{cores} cores", f"{torch.get_num_threads()} threads", f"torch {torch.__version__}")
    return ", ".join((*parts, f"device {name}"))


def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """Return the processor's model; its architecture where the system does not tell more."""
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
