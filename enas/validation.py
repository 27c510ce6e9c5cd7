"""How images lie that architectures are measured on: on the device, in a fixed random order, in pieces of nearly equal size."""

from __future__ import annotations

import numpy as np
import torch

from enas.datasets.images import ImageSplit
from enas.seeding import derive_generator


def even_chunk(split: ImageSplit, most: int) -> int:
    """Return a chunk size of at most `most` that cuts a split into pieces of nearly equal size.

    BatchNorm's batch statistics on a short last piece would be another measurement than on the rest.
    """
    pieces = -(-len(split) // most)
    return int(np.ceil(len(split) / pieces))


def on_device(split: ImageSplit, device: torch.device) -> ImageSplit:
    """Return a split on a device, so that several streams over it share one copy there."""
    return ImageSplit(images=split.images.to(device), labels=split.labels.to(device))


def shuffled(split: ImageSplit) -> ImageSplit:
    """Return a split in a fixed random order: pieces of a split sorted by class would have odd batch statistics."""
    order = torch.randperm(len(split), generator=derive_generator(0, "validation order"))
    return ImageSplit(images=split.images[order], labels=split.labels[order])
