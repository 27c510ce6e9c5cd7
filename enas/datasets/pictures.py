"""Image files as uint8 arrays: any format and colour mode that Pillow reads, upright, and resized if asked for.

Grey stays grey (stored as 1, 8 or 16 bits, with or without alpha), everything else becomes RGB: palettes, CMYK, YCbCr. Alpha is
dropped, not blended. 16 bit grey levels 0..65535 are spread over 0..255. Photographs are turned as their EXIF orientation asks.
Of animations and many-page files the first picture counts. Not covered: floating-point grey, whose range no file tells.
Files are decoded in threads, since Pillow's decoders run without the interpreter's lock.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from enas.datasets.source import ImageArray

if TYPE_CHECKING:
    from PIL.Image import Image

_GREY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_GREY = ("1", "L", "LA", "La", *_GREY_16)
_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap width and height
# What Pillow raises for damaged files, beside its DecompressionBombError.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, LookupError, OverflowError, struct.error)


def readable_suffixes() -> frozenset[str]:
    """Return the suffixes of the formats that Pillow reads, lower case, with their dot."""
    from PIL import Image

    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)


def check_headers(folder: Path, files: Sequence[Path], image_size: int | None) -> None:
    """Check that files are images, of one size if they are not to be resized, from their headers.

    Args:
        folder: that a message about sizes names.
        files: at least one.
        image_size: what they will be resized to, or None.

    Raises:
        ValueError: naming the file, what was expected and what was found.
    """
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_header_size, files))
    if image_size is None:
        for file, size in zip(files, sizes, strict=True):
            _require_one_size(folder, files[0], sizes[0], file, size)


def read_pictures(folder: Path, files: Sequence[Path], image_size: int | None) -> ImageArray:
    """Decode files in their order.

    Args:
        folder: that a message about sizes names.
        files: at least one.
        image_size: side N of the squares that images become: resized so that the shorter side fits, then cropped around the
            centre; None: they have one size.

    Returns: uint8 (N, 1, H, W) if every file is stored as grey, else (N, 3, H, W).

    Raises:
        ValueError: naming the file, what was expected and what was found.
    """
    height, width = _decode(files[0], image_size).shape[:2]
    images = np.empty((len(files), 3, height, width), dtype=np.uint8)

    def read(index: int) -> bool:
        pixels = _decode(files[index], image_size)
        _require_one_size(folder, files[0], (width, height), files[index], (pixels.shape[1], pixels.shape[0]))
        if pixels.ndim == 2:
            images[index, 0] = pixels
        else:
            images[index] = pixels.transpose(2, 0, 1)
        return pixels.ndim == 2

    with ThreadPoolExecutor() as pool:
        is_grey = np.array(list(pool.map(read, range(len(files)))))
    if is_grey.all():
        return images[:, :1].copy()
    for index in np.flatnonzero(is_grey):
        images[index, 1:] = images[index, 0]
    return images


def _require_one_size(folder: Path, first: Path, expected: tuple[int, int], file: Path, actual: tuple[int, int]) -> None:
    if actual != expected:
        raise ValueError(
            f"{folder}: expected images of one size, or --split.image-size N to make them N x N, got "
            f"{first.relative_to(folder)} with {expected[0]} x {expected[1]} pixels (width x height) and "
            f"{file.relative_to(folder)} with {actual[0]} x {actual[1]}"
        )


def _header_size(file: Path) -> tuple[int, int]:
    """Return (width, height) of the upright image, without decoding it."""
    from PIL import Image

    try:
        with file.open("rb") as opened, Image.open(opened) as image:
            mode, size = image.mode, image.size
            # Pillow turns TIFF files by itself; a PNG without this entry would be decoded to look for one behind the pixels
            is_turned = "exif" in image.info and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error
    _require_known_mode(file, mode)
    return size[::-1] if is_turned else size


def _decode(file: Path, image_size: int | None) -> ImageArray:
    """Return the upright image, uint8 (H, W) if it is stored as grey, else (H, W, 3)."""
    from PIL import Image, ImageOps

    try:
        # Pillow maps files that it opens by name, and then mistakes the strides of turned, uncompressed grey TIFF files
        with file.open("rb") as opened, Image.open(opened) as image:
            if image_size is not None:
                image.draft(None, (2 * image_size, 2 * image_size))  # a large JPEG is decoded at a fraction of its size
            upright = ImageOps.exif_transpose(image)
    except (*_DECODE_ERRORS, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error
    _require_known_mode(file, upright.mode)
    plain = _in_8_bits(file, upright)
    return np.asarray(plain if image_size is None else ImageOps.fit(plain, (image_size, image_size)))


def _in_8_bits(file: Path, image: Image) -> Image:
    """Return an image of mode L or RGB."""
    from PIL import Image

    if image.mode in _GREY_16:
        levels = np.asarray(image)
        if not 0 <= levels.min() <= levels.max() <= 65535:
            raise ValueError(f"{file}: expected grey levels in 0..65535, got {levels.min()} to {levels.max()}")
        return Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    if image.mode in _GREY:
        return image.convert("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about the direct way
    return image.convert("RGB")


def _require_known_mode(file: Path, mode: str) -> None:
    if mode == "F":
        raise ValueError(f"{file}: expected colours, or grey levels of at most 16 bits, got floating-point numbers")


def _unreadable(file: Path, error: Exception) -> ValueError:
    from PIL import Image, UnidentifiedImageError

    kind = Image.registered_extensions().get(file.suffix.lower(), "Pillow")
    if isinstance(error, UnidentifiedImageError):
        is_empty = file.stat().st_size == 0
        got = "an empty file" if is_empty else "a file that is no image, or a damaged one"
    else:
        got = f"one that cannot be decoded ({error})"
    return ValueError(f"{file}: expected a whole image ({kind}, by its suffix), got {got}")
