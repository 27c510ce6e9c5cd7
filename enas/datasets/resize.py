"""Images of a data set that come in one size, brought to another: cropped to a square around the centre, then resized.

Smaller images make smaller networks' work: a quarter of the multiply-adds at half the side.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from enas.datasets.source import Contents, ImageArray, Looks, RawImages, Source

_CHUNK = 1024  # images that are held as floats at a time


def resized(source: Source, size: int) -> Source:
    """Return a source whose images are squares of `size` pixels."""

    def read(path: Path) -> RawImages:
        raw = source.read(path)
        images = (resize_images(values, size) for values in (raw.train_images, raw.test_images))
        train, test = images
        return replace(raw, train_images=train, test_images=test)

    def peek(path: Path) -> Contents:
        contents = source.peek(path)
        if contents.looks is None:
            return contents
        channels = contents.looks.input_shape[0]
        return replace(contents, looks=Looks((channels, size, size), contents.looks.num_classes))

    return replace(source, read=read, peek=peek)


def resize_images(images: ImageArray, size: int) -> ImageArray:
    """Crop images to a square around the centre and resize it, bilinear with antialiasing, as Pillow does.

    Args: images: uint8 (N, C, H, W).
    Returns: uint8 (N, C, size, size).
    """
    import torch
    from torch.nn import functional as F

    side = min(images.shape[2:])
    top, left = ((length - side) // 2 for length in images.shape[2:])
    square = images[:, :, top : top + side, left : left + side]
    result = np.empty((*images.shape[:2], size, size), dtype=np.uint8)
    for start in range(0, len(images), _CHUNK):
        pixels = torch.from_numpy(np.ascontiguousarray(square[start : start + _CHUNK])).float()
        small = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        result[start : start + _CHUNK] = small.round_().clamp_(0, 255).to(torch.uint8).numpy()
    return result
