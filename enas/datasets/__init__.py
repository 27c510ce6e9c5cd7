"""Data sets as uint8 tensors, one file a source; torch, torchvision and scikit-learn load when a data set does.

Nothing is random here: validation images and subsets are fixed by the data set, and no run's seed changes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from enas.datasets.digits import read_digits
from enas.datasets.npz import check_npz, read_npz
from enas.datasets.source import RawImages, Source
from enas.datasets.splits import first_per_class, split_valid
from enas.datasets.torchvision_sets import read_cifar10, read_cifar100, read_fashion_mnist, read_mnist, read_svhn

if TYPE_CHECKING:
    from enas.datasets.images import ImageData, ImageSplit
    from enas.types import IntArray

__all__ = ["DATASETS", "check_source", "load_data"]

DATASETS: dict[str, Source] = {
    "cifar10": Source(read=read_cifar10, num_valid=5_000, valid_rule="last", flip=True),
    "cifar100": Source(read=read_cifar100, num_valid=5_000, valid_rule="last", flip=True),
    "digits": Source(read=read_digits, num_valid=350, valid_rule="stratified", flip=False),
    "fashion_mnist": Source(read=read_fashion_mnist, num_valid=5_000, valid_rule="last", flip=True),
    "mnist": Source(read=read_mnist, num_valid=5_000, valid_rule="last", flip=False),
    "npz": Source(read=read_npz, num_valid=None, valid_rule="stratified", flip=True),
    "svhn": Source(read=read_svhn, num_valid=5_000, valid_rule="last", flip=False),
}


def check_source(source: str, data_dir: Path) -> None:
    """Find a user's mistakes in well under a second, without torch and without a download.

    Args:
        source: a name of DATASETS, or `npz:FILE`; a relative FILE starts at the working directory.
        data_dir: where downloaded data sets are kept; it need not exist yet.

    Raises:
        ValueError: the name is unknown, the file does not hold what it should, or data_dir is no folder.
    """
    name, colon, file = source.partition(":")
    if name not in DATASETS:
        known = ", ".join("npz:FILE" if known == "npz" else known for known in DATASETS)
        raise ValueError(f"data set: expected one of {known}, got {source!r}")
    if name == "npz" and not file:
        raise ValueError(f"data set: expected npz:FILE, the path of an .npz file after a colon, got {source!r}")
    if name != "npz" and colon:
        raise ValueError(f"data set: expected {name!r}, which takes no file, got {source!r}")
    if name == "npz":
        check_npz(_location(source, data_dir))
    nearest = next((folder for folder in (data_dir, *data_dir.parents) if folder.exists()), data_dir)
    if nearest.is_file():
        raise ValueError(f"data_dir: expected a folder, got {data_dir}, where {nearest} is a file")


def load_data(source: str, *, data_dir: Path, num_valid: int | None = None, num_train: int | None = None) -> ImageData:
    """Load a data set into disjoint train, valid and test splits.

    Args:
        source: a name of DATASETS, or `npz:FILE`; a relative FILE starts at the working directory.
        data_dir: where torchvision's data sets are found, or downloaded to.
        num_valid: how many of the training images validate; None: the data set's own number. Which ones is the data set's rule:
            the last (cifar10, cifar100, fashion_mnist, mnist, svhn), or the last of each class (digits, npz).
        num_train: how many of the remaining training images to keep, the first of each class in proportion; None: all.

    Returns: the data, with mean and std of the training images that are left.

    Raises:
        ValueError: as in `check_source`; or the images do not suffice; or the files are neither there nor to be downloaded.
    """
    check_source(source, data_dir)
    entry = DATASETS[source.partition(":")[0]]
    raw = entry.read(_location(source, data_dir))
    train, valid = split_valid(raw.train_labels, entry.num_valid if num_valid is None else num_valid, rule=entry.valid_rule)
    if num_train is not None:
        train = train[first_per_class(raw.train_labels[train], num_train)]
    return _image_data(source, entry, raw, train, valid)


def _location(source: str, data_dir: Path) -> Path:
    """Return what the source's `read` is given: the data folder, or the file of `npz:FILE`."""
    name, _, file = source.partition(":")
    return Path(file).expanduser() if name == "npz" else data_dir


def _image_data(name: str, entry: Source, raw: RawImages, train: IntArray, valid: IntArray) -> ImageData:
    import torch

    from enas.datasets.augment import Augmentation
    from enas.datasets.images import ImageData, ImageSplit, channel_statistics

    def chosen(indices: IntArray) -> ImageSplit:
        return ImageSplit(
            images=torch.from_numpy(raw.train_images[indices]),
            labels=torch.from_numpy(raw.train_labels[indices]),
        )

    train_split = chosen(train)
    mean, std = channel_statistics(train_split.images)
    pad = min(raw.train_images.shape[2:]) // 8  # 4 of 32 pixels, as the ENAS authors
    return ImageData(
        name=name,
        train=train_split,
        valid=chosen(valid),
        test=ImageSplit(images=torch.from_numpy(raw.test_images), labels=torch.from_numpy(raw.test_labels)),
        num_classes=raw.num_classes,
        mean=mean,
        std=std,
        augmentation=Augmentation(pad=pad, flip=entry.flip),
    )
