"""CIFAR-10, CIFAR-100, MNIST, Fashion-MNIST and SVHN: torchvision finds or downloads the files, the raw arrays are taken whole.

torchvision's per-image transforms are not used (`enas.datasets.augment` works on whole batches).
SVHN's 531,131 extra images are left out, as the NAS literature does.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enas.datasets.source import ImageArray, RawImages
from enas.types import IntArray

# What torchvision raises for missing, truncated or damaged files, and for a download that fails.
_READ_ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError, AssertionError)


class _Kind(NamedTuple):
    class_name: str  # in torchvision.datasets
    num_classes: int
    layout: str  # of the class's `data`
    files: str  # what to place in the data folder by hand


def read_cifar10(data_dir: Path) -> RawImages:
    """Read CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 images, uint8 (N, 3, 32, 32).

    Raises:
        ValueError: the files are not in `data_dir` and could not be downloaded.
    """
    return _read(_Kind("CIFAR10", 10, "NHWC", "cifar-10-python.tar.gz or the folder cifar-10-batches-py from it"), data_dir)


def read_cifar100(data_dir: Path) -> RawImages:
    """Read CIFAR-100 (Krizhevsky 2009), fine labels: 50,000 + 10,000 images, uint8 (N, 3, 32, 32).

    Raises:
        ValueError: the files are not in `data_dir` and could not be downloaded.
    """
    return _read(_Kind("CIFAR100", 100, "NHWC", "cifar-100-python.tar.gz or the folder cifar-100-python from it"), data_dir)


def read_fashion_mnist(data_dir: Path) -> RawImages:
    """Read Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 images, uint8 (N, 1, 28, 28).

    Raises:
        ValueError: the files are not in `data_dir` and could not be downloaded.
    """
    files = "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte, four unpacked files"
    return _read(_Kind("FashionMNIST", 10, "NHW", files), data_dir)


def read_mnist(data_dir: Path) -> RawImages:
    """Read MNIST (LeCun et al. 1998): 60,000 + 10,000 images, uint8 (N, 1, 28, 28).

    Raises:
        ValueError: the files are not in `data_dir` and could not be downloaded.
    """
    files = "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte, four unpacked files"
    return _read(_Kind("MNIST", 10, "NHW", files), data_dir)


def read_svhn(data_dir: Path) -> RawImages:
    """Read SVHN (Netzer et al. 2011), cropped digits: 73,257 + 26,032 images, uint8 (N, 3, 32, 32).

    Raises:
        ValueError: the files are not in `data_dir` and could not be downloaded.
    """
    return _read(_Kind("SVHN", 10, "NCHW", "train_32x32.mat and test_32x32.mat"), data_dir)


def _read(kind: _Kind, data_dir: Path) -> RawImages:
    splits = {}
    for name in ("train", "test"):
        try:
            splits[name] = _arrays(_open(kind, data_dir, name), kind.layout)
        except _READ_ERRORS as error:
            raise ValueError(
                f"{kind.class_name}: expected its files in {data_dir}, found none that can be read, and downloading them failed "
                f"({type(error).__name__}: {error}). To place them there by hand: {kind.files}"
            ) from error
    (train_images, train_labels), (test_images, test_labels) = splits["train"], splits["test"]
    return RawImages(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=kind.num_classes,
    )


def _open(kind: _Kind, data_dir: Path, split: str) -> Any:
    """Open a torchvision data set from its files, or download them; only the download's progress bar reaches the console."""
    import torchvision

    dataset_class = getattr(torchvision.datasets, kind.class_name)
    which: dict[str, Any] = {"split": split} if kind.class_name == "SVHN" else {"train": split == "train"}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # old pickles and read-only arrays, nothing that a user could act on
        try:
            return dataset_class(data_dir, download=False, **which)
        except _READ_ERRORS:
            return dataset_class(data_dir, download=True, **which)


def _arrays(dataset: Any, layout: str) -> tuple[ImageArray, IntArray]:
    """Return a torchvision data set's images, uint8 (N, C, H, W), and labels, int64 (N,)."""
    images = np.asarray(dataset.data)
    if layout == "NHW":
        images = images[:, None]
    elif layout == "NHWC":
        images = images.transpose(0, 3, 1, 2)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    return np.ascontiguousarray(images), np.asarray(labels, dtype=np.int64)
