"""One run seed, many independent streams: a sub-seed for each purpose and step, so that no generator state has to be carried."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *path: str | int) -> int:
    """Return a 64-bit seed for a purpose, such as `derive_seed(7, "dropout", step)`; equal arguments give equal seeds anywhere.

    Args: seed: at least 0. path: names and numbers (at least 0, below 2**32) that tell streams apart.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    # spawn_key, since a plain list of words would give [7, 1] and [7, 1, 0] the same seed
    low, high = np.random.SeedSequence(seed, spawn_key=words).generate_state(2, np.uint32).tolist()
    return int(low | (high & 0x7FFFFFFF) << 32)


def derive_generator(seed: int, *path: str | int) -> torch.Generator:
    """Return a CPU generator seeded with `derive_seed`."""
    import torch  # path rules need seeds only, and the command line asks them before it waits for PyTorch

    return torch.Generator().manual_seed(derive_seed(seed, *path))
