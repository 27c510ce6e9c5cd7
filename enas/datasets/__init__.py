"""Data sets of images and texts, one file a source; torch, torchvision, scikit-learn and Pillow load when a data set does.

Nothing is random here: validation examples and subsets are fixed by the data set, and no run's seed changes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from enas.configs import require
from enas.data_configs import TextConfig
from enas.datasets.digits import read_digits
from enas.datasets.folder import folder_source
from enas.datasets.npz import peek_npz, read_npz
from enas.datasets.penn_treebank import read_ptb
from enas.datasets.resize import resized
from enas.datasets.source import Contents, Looks, RawImages, Source, SplitSizes, published
from enas.datasets.splits import split_train
from enas.datasets.text_file import peek_text_file, read_text_file
from enas.datasets.text_source import RawText, TextSource, check_text, number_text, text_looks
from enas.datasets.topics import read_topics
from enas.datasets.torchvision_sets import read_cifar10, read_cifar100, read_fashion_mnist, read_mnist, read_svhn

if TYPE_CHECKING:
    from enas.datasets.data import Data
    from enas.datasets.images import ImageData, ImageSplit
    from enas.datasets.text import TextData
    from enas.types import IntArray

__all__ = ["DATASETS", "check_source", "find_looks", "load_data"]

DATASETS: dict[str, Source | TextSource] = {
    "cifar10": Source(
        read=read_cifar10,
        peek=published(num_train=50_000, num_test=10_000, num_classes=10, input_shape=(3, 32, 32)),
        num_valid=5_000,
        valid_rule="last",
        flip=True,
    ),
    "cifar100": Source(
        read=read_cifar100,
        peek=published(num_train=50_000, num_test=10_000, num_classes=100, input_shape=(3, 32, 32)),
        num_valid=5_000,
        valid_rule="last",
        flip=True,
    ),
    "digits": Source(
        read=read_digits,
        peek=published(num_train=1_447, num_test=350, num_classes=10, input_shape=(1, 8, 8)),
        num_valid=350,
        valid_rule="stratified",
        flip=False,
    ),
    "fashion_mnist": Source(
        read=read_fashion_mnist,
        peek=published(num_train=60_000, num_test=10_000, num_classes=10, input_shape=(1, 28, 28)),
        num_valid=5_000,
        valid_rule="last",
        flip=True,
    ),
    "folder": folder_source(),
    "mnist": Source(
        read=read_mnist,
        peek=published(num_train=60_000, num_test=10_000, num_classes=10, input_shape=(1, 28, 28)),
        num_valid=5_000,
        valid_rule="last",
        flip=False,
    ),
    "npz": Source(read=read_npz, peek=peek_npz, takes="FILE", num_valid=None, valid_rule="stratified", flip=True),
    "ptb": TextSource(read=read_ptb, peek=read_ptb, takes="DIR", looks=Looks((), 10_000)),
    "svhn": Source(
        read=read_svhn,
        peek=published(num_train=73_257, num_test=26_032, num_classes=10, input_shape=(3, 32, 32)),
        num_valid=5_000,
        valid_rule="last",
        flip=False,
    ),
    "text": TextSource(read=read_text_file, peek=peek_text_file, takes="FILE"),
    "topics": TextSource(read=read_topics, peek=read_topics),
}


def check_source(
    source: str,
    data_dir: Path,
    *,
    num_valid: int | None = None,
    num_train: int | None = None,
    image_size: int | None = None,
    text: TextConfig | None = None,
) -> SplitSizes:
    """Find a user's mistakes in well under a second, without torch and without a download.

    Args:
        source, num_valid, num_train, image_size, text: as in `load_data`.
        data_dir: where downloaded data sets are kept; it need not exist yet.

    Returns: the sizes of the splits that `load_data` makes of intact files; of a large text, at most so many, which
        leaves the rest to be found out by whoever loads it.

    Raises:
        ValueError: the name is unknown, the path does not hold what it should, the examples do not suffice, a setting is not for
            such data, or data_dir is no folder.
    """
    entry, path = _find(source, data_dir, image_size)
    nearest = next((folder for folder in (data_dir, *data_dir.parents) if folder.exists()), data_dir)
    if nearest.is_file():
        raise ValueError(f"data_dir: expected a folder, got {data_dir}, where {nearest} is a file")
    if isinstance(entry, TextSource):
        text = text or TextConfig()
        return check_text(source, entry.peek(path, text), text, num_valid=num_valid, num_train=num_train)
    contents = entry.peek(path)
    train, valid = _split(entry, contents, num_valid, num_train)
    return SplitSizes(train=len(train), valid=len(valid), test=contents.num_test)


def find_looks(
    source: str,
    data_dir: Path,
    *,
    num_valid: int | None = None,
    num_train: int | None = None,
    image_size: int | None = None,
    text: TextConfig | None = None,
) -> Looks | None:
    """Return the shape and the number of classes of a data set's examples without loading, or downloading, images.

    Args: as in `check_source`; how many train decides a text's vocabulary, and nothing of images.
    Returns: those of the Penn Treebank where its folder is not there; None where only reading everything would tell.
    Raises: ValueError as in `check_source`, but for numbers of images.
    """
    entry, path = _find(source, data_dir, image_size)
    if isinstance(entry, TextSource):
        if entry.looks is not None and not path.exists():
            return entry.looks
        text = text or TextConfig()
        return text_looks(source, entry.peek(path, text), text, num_valid=num_valid, num_train=num_train)
    return entry.peek(path).looks


def load_data(
    source: str,
    *,
    data_dir: Path,
    num_valid: int | None = None,
    num_train: int | None = None,
    image_size: int | None = None,
    text: TextConfig | None = None,
) -> Data:
    """Load a data set into disjoint train, valid and test splits.

    Args:
        source: a name of DATASETS, which some follow with a path, as in `npz:FILE`; a relative path starts at the working
            directory.
        data_dir: where torchvision's data sets are found, or downloaded to.
        num_valid: how many of the training images validate, or tokens of a text; None: the data set's own number. Which ones is
            the data set's rule: the last (cifar10, cifar100, fashion_mnist, mnist, svhn, and before the last tenth text, topics),
            or the last of each class (digits, folder, npz).
        num_train: how many of the remaining training images to keep, the first of each class in proportion, or how many of the
            remaining tokens, the first; None: all.
        image_size: side in pixels of the squares that images are cropped and resized to; None: they stay as they are.
        text: how a text is read; None for the defaults.

    Returns: the data, with mean and std of the training images that are left, or the vocabulary of such tokens.

    Raises:
        ValueError: as in `check_source`; or files are damaged; or they are neither there nor to be downloaded.
    """
    entry, path = _find(source, data_dir, image_size)
    if isinstance(entry, TextSource):
        text = text or TextConfig()
        return _text_data(source, entry.read(path, text), text, num_valid, num_train)
    check_source(source, data_dir, num_valid=num_valid, num_train=num_train, image_size=image_size)
    raw = entry.read(path)
    train, valid = _split(entry, raw, num_valid, num_train)
    return _image_data(source, entry, raw, train, valid)


def _find(source: str, data_dir: Path, image_size: int | None) -> tuple[Source | TextSource, Path]:
    """Return the source's entry, resizing if asked for, and the path that it reads."""
    name, colon, given = source.partition(":")
    if name not in DATASETS:
        known = ", ".join(f"{known}:{entry.takes}" if entry.takes else known for known, entry in DATASETS.items())
        raise ValueError(f"data set: expected one of {known}, got {source!r}")
    entry = DATASETS[name]
    if entry.takes and not given:
        raise ValueError(f"data set: expected {name}:{entry.takes}, a path after a colon, got {source!r}")
    if colon and not entry.takes:
        raise ValueError(f"data set: expected {name!r}, which takes no file, got {source!r}")
    if isinstance(entry, TextSource):
        require(image_size is None, "split.image_size", f"None with {name}, a text", image_size)
    elif image_size is not None:
        entry = resized(entry, image_size) if entry.at_size is None else entry.at_size(image_size)
    return entry, Path(given).expanduser() if entry.takes else data_dir


def _split(
    entry: Source, images: Contents | RawImages, num_valid: int | None, num_train: int | None
) -> tuple[IntArray, IntArray]:
    """Return which training images train and which validate."""
    if images.num_valid is None:
        wanted = entry.num_valid if num_valid is None else num_valid
        return split_train(images.train_labels, num_valid=wanted, num_train=num_train, rule=entry.valid_rule)
    expected = f"None, since the data set has {images.num_valid} validation images of its own"
    require(num_valid is None, "split.num_valid", expected, num_valid)
    return split_train(images.train_labels, num_valid=images.num_valid, num_train=num_train, rule="last")


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


def _text_data(name: str, raw: RawText, config: TextConfig, num_valid: int | None, num_train: int | None) -> TextData:
    import torch

    from enas.datasets.random_lengths import RandomLengths
    from enas.datasets.text import TextData, TextSplit

    check_text(name, raw, config, num_valid=num_valid, num_train=num_train)
    text = number_text(name, raw, config, num_valid=num_valid, num_train=num_train)
    train, valid, test = (TextSplit(tokens=torch.from_numpy(part), bptt=config.bptt) for part in text.parts)
    return TextData(
        name=name,
        train=train,
        valid=valid,
        test=test,
        vocabulary=text.vocabulary,
        augmentation=RandomLengths() if config.random_lengths else None,
    )
