"""A user's own images, in a NumPy `.npz` file with x_train, y_train, x_test and y_test.

Images are uint8 (N, H, W), grey, or (N, H, W, C); labels are integers from 0, (N,). There are max + 1 classes, over both splits.
Not covered: images of different sizes, float images, several labels an image.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from enas.datasets.source import Contents, ImageArray, Looks, RawImages
from enas.types import IntArray

KEYS = ("x_train", "y_train", "x_test", "y_test")
_READ_ERRORS = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def check_npz(file: Path) -> tuple[int, ...]:
    """Check keys, dtypes and shapes from the headers in the file, without reading the images.

    Returns: the shape of an image, (H, W) or (H, W, C).

    Raises:
        ValueError: naming the file, the key, what was expected and what was found.
    """
    if not file.is_file():
        raise ValueError(f"{file}: expected an .npz file, found {'a folder' if file.is_dir() else 'nothing there'}")
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            missing = [key for key in KEYS if key not in names]
            headers = {key: _read_header(archive, key) for key in KEYS if key in names}
    except _READ_ERRORS as error:
        raise ValueError(
            f"{file}: expected an .npz file with {', '.join(KEYS)}, got one that cannot be read ({error})"
        ) from error
    if missing:
        raise ValueError(f"{file}: expected the keys {', '.join(KEYS)}, got {', '.join(names) or 'none'}; no {missing[0]}")
    for key in ("x_train", "x_test"):
        _check_images(file, key, headers[key])
    if headers["x_train"].shape[1:] != headers["x_test"].shape[1:]:
        expected, got = headers["x_train"].shape[1:], headers["x_test"].shape[1:]
        raise ValueError(f"{file}: x_test: expected images of shape {expected} as in x_train, got {got}")
    for key, images in (("y_train", "x_train"), ("y_test", "x_test")):
        _check_labels(file, key, headers[key], num_images=headers[images].shape[0])
    return headers["x_train"].shape[1:]


def peek_npz(file: Path) -> Contents:
    """Check the headers and read the labels, but not the images.

    Raises:
        ValueError: naming the file, the key, what was expected and what was found.
    """
    height, width, *channels = check_npz(file)
    labels = _read_labels(file, _read_arrays(file, ("y_train", "y_test")))
    looks = Looks((channels[0] if channels else 1, height, width), _num_classes(labels))
    return Contents(train_labels=labels["y_train"], num_test=len(labels["y_test"]), looks=looks)


def read_npz(file: Path) -> RawImages:
    """Read the arrays of an .npz file.

    Raises:
        ValueError: naming the file, the key, what was expected and what was found.
    """
    check_npz(file)
    arrays = _read_arrays(file, KEYS)
    labels = _read_labels(file, arrays)
    return RawImages(
        train_images=_images(arrays["x_train"]),
        train_labels=labels["y_train"],
        test_images=_images(arrays["x_test"]),
        test_labels=labels["y_test"],
        num_classes=_num_classes(labels),
    )


def _num_classes(labels: dict[str, IntArray]) -> int:
    return 1 + int(max(values.max() for values in labels.values()))


def _read_arrays(file: Path, keys: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys}
    except _READ_ERRORS as error:
        raise ValueError(f"{file}: expected whole arrays {', '.join(keys)}, got a damaged file ({error})") from error


def _read_labels(file: Path, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, IntArray]:
    return {key: _labels(file, key, arrays[key], below=len(arrays["y_train"])) for key in ("y_train", "y_test")}


def _read_header(archive: zipfile.ZipFile, key: str) -> _Header:
    with archive.open(f"{key}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    return _Header(shape, dtype)


def _check_images(file: Path, key: str, header: _Header) -> None:
    if header.dtype != np.uint8:
        raise ValueError(f"{file}: {key}: expected dtype uint8, got {header.dtype}")
    if len(header.shape) not in (3, 4) or 0 in header.shape:
        raise ValueError(f"{file}: {key}: expected shape (N, H, W) or (N, H, W, C), none of them 0, got {header.shape}")
    if len(header.shape) == 4 and header.shape[1] <= 4 < header.shape[3]:
        raise ValueError(
            f"{file}: {key}: expected channels last, (N, H, W, C), got {header.shape}, which looks like (N, C, H, W)"
        )


def _check_labels(file: Path, key: str, header: _Header, *, num_images: int) -> None:
    if header.dtype.kind not in "iu":
        raise ValueError(f"{file}: {key}: expected an integer dtype, got {header.dtype}")
    if header.shape != (num_images,):
        raise ValueError(f"{file}: {key}: expected shape ({num_images},), a label for each image, got {header.shape}")


def _labels(file: Path, key: str, values: npt.NDArray[Any], *, below: int) -> IntArray:
    """Return labels as int64; more classes than training images are taken for a mistake (ids, or 255 for `ignore`)."""
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0:
        raise ValueError(f"{file}: {key}: expected labels from 0, got {lowest}")
    if highest >= below:
        raise ValueError(f"{file}: {key}: expected labels below the number of training images, {below}, got {highest}")
    return values.astype(np.int64)


def _images(values: ImageArray) -> ImageArray:
    """Return images as (N, C, H, W)."""
    if values.ndim == 3:
        return np.ascontiguousarray(values[:, None])
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
