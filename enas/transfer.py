"""What crosses between the host and an accelerator.

A read from an accelerator waits until it has done all that was asked of it, and so long nothing more is asked: it falls idle. So
what the host wants to know is read together, by one transfer, and what the host gives is handed over without being waited for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from enas.types import FloatArray


def to_host(tensors: Sequence[Tensor]) -> list[FloatArray]:
    """Return tensors as float64 arrays of their shapes, by one transfer. Args: tensors: at least one, of one device."""
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    values: FloatArray = flat.cpu().double().numpy()  # in this order: MPS knows no float64
    pieces = np.split(values, np.cumsum([tensor.numel() for tensor in tensors])[:-1])
    return [piece.reshape(tuple(tensor.shape)) for piece, tensor in zip(pieces, tensors, strict=True)]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; CUDA fetches it by itself, from pinned memory, and nobody waits for that."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
