"""A user's own images, in a folder with one subfolder a class: what is where, and which images train, validate and test.

Three layouts:
- DIR/train/CLASS/* and DIR/test/CLASS/*; the validation images are taken from those of train.
- The same with DIR/val/CLASS/* (or `valid`): these are the validation images.
- DIR/CLASS/* alone: the last fifth of each class, at least one image, is the test split.

"Last" is in the order of the names, whatever the run's seed; numbers in names count by value, so that `frame_9` stands before
`frame_10`. Neighbours in that order stay on one side, so frames of a video that are named alike leak over a border at most once.
The price: names that sort by something that matters, such as a date or a camera, give test images that differ in it. Make train
and test yourself then.

Classes are the sorted names of the subfolders; folders below them are read, too. Left aside: hidden files and folders,
`__MACOSX`, links to folders below a class, and files whose suffix is not that of a format that Pillow reads.
How the files are decoded and resized: `enas.datasets.pictures`. Pillow is imported when a folder is looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from enas.datasets.pictures import check_headers, read_pictures, readable_suffixes
from enas.datasets.source import Contents, RawImages, Source
from enas.types import IntArray

HEADERS_PER_CLASS = 20
"""Images of a class whose headers `peek_folder` reads, the first ones of each split."""
_HEADERS = 1000  # in all, so that a thousand classes do not take seconds
_NUM_NAMED = 5  # classes that a message names
_VALID_NAMES = ("val", "valid")
_SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}

FilesByClass = Mapping[str, list[Path]]


class _Listing(NamedTuple):
    """The files of each class, in the order of their names; `valid` is None where the folder does not say."""

    train: FilesByClass
    valid: FilesByClass | None
    test: FilesByClass


def folder_source(image_size: int | None = None) -> Source:
    """Return the entry of the table: images as they are, or resized to squares of `image_size` pixels."""
    return Source(
        read=partial(read_folder, image_size=image_size),
        peek=partial(peek_folder, image_size=image_size),
        at_size=folder_source,
        takes="DIR",
        num_valid=None,
        valid_rule="stratified",
        flip=True,
    )


def peek_folder(folder: Path, *, image_size: int | None = None) -> Contents:
    """List a folder and read the headers of the first images of each class, but no pixels.

    Raises:
        ValueError: as in `read_folder`, but for damage behind a header and in images that were not looked at.
    """
    listing = _list(folder)
    splits = [split for split in listing if split is not None]
    limit = max(1, min(HEADERS_PER_CLASS, _HEADERS // sum(map(len, splits))))
    check_headers(folder, [file for split in splits for files in split.values() for file in files[:limit]], image_size)
    _, labels = _train_files(listing)
    return Contents(train_labels=labels, num_test=sum(map(len, listing.test.values())), num_valid=_num_valid(listing))


def read_folder(folder: Path, *, image_size: int | None = None) -> RawImages:
    """Read all images of a folder; they stay in memory as uint8, N * C * H * W bytes, twice that while they are split.

    Args:
        folder: in one of the layouts above.
        image_size: side in pixels that images are resized to, by the shorter side, and cropped to, around the centre;
            None: all of them have one size already.

    Returns: uint8 (N, 1, H, W) if every file is stored as grey, else (N, 3, H, W).

    Raises:
        ValueError: naming the folder or file, what was expected and what was found.
    """
    listing = _list(folder)
    files, labels = _train_files(listing)
    test_files, test_labels = _in_class_order(listing.test, list(listing.train))
    images = read_pictures(folder, [*files, *test_files], image_size)
    return RawImages(
        train_images=images[: len(files)],
        train_labels=labels,
        test_images=images[len(files) :].copy(),  # a view would keep the training images in memory
        test_labels=test_labels,
        num_classes=len(listing.train),
        num_valid=_num_valid(listing),
    )


def _num_valid(listing: _Listing) -> int | None:
    return None if listing.valid is None else sum(map(len, listing.valid.values()))


def _train_files(listing: _Listing) -> tuple[list[Path], IntArray]:
    """Return the training images, followed by the validation images if the folder names them, and their labels."""
    classes = list(listing.train)
    files, labels = _in_class_order(listing.train, classes)
    valid_files, valid_labels = _in_class_order(listing.valid or {}, classes)
    return files + valid_files, np.concatenate([labels, valid_labels])


def _in_class_order(split: FilesByClass, classes: list[str]) -> tuple[list[Path], IntArray]:
    counts = [len(split.get(name, [])) for name in classes]
    return [file for name in classes for file in split.get(name, [])], np.repeat(np.arange(len(classes)), counts)


def _list(folder: Path) -> _Listing:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise ValueError(f"{folder}: expected a folder with a subfolder for each class of images, found {found}")
    try:
        return _layout(folder)
    except OSError as error:
        raise ValueError(f"{folder}: expected a folder that can be read, got {error}") from error


def _layout(folder: Path) -> _Listing:
    parts = _subfolders(folder)
    by_name = {part.name.lower(): part for part in parts}
    if {"train", "test"} <= set(by_name):
        return _given_splits(folder, parts, by_name)
    if parts and (set(by_name) <= _SPLIT_NAMES or ("train" in by_name and _holds_folders_only(by_name["train"]))):
        got = _named(part.name for part in parts)
        raise ValueError(f"{folder}: expected the folders train and test (val may stand beside them), got {got}")
    classes = _classes(folder, at_least=3, what="to train, validate and test on")
    num_test = {name: max(1, len(files) // 5) for name, files in classes.items()}
    return _Listing(
        train={name: files[: -num_test[name]] for name, files in classes.items()},
        valid=None,
        test={name: files[-num_test[name] :] for name, files in classes.items()},
    )


def _given_splits(folder: Path, parts: list[Path], by_name: Mapping[str, Path]) -> _Listing:
    valid_folders = [by_name[name] for name in _VALID_NAMES if name in by_name]
    unknown = [part.name for part in parts if part not in (by_name["train"], by_name["test"], *valid_folders[:1])]
    if unknown:
        raise ValueError(f"{folder}: expected only val or valid beside train and test, got {_named(unknown)}")
    if valid_folders:
        train = _classes(by_name["train"], at_least=1, what="to train on")
        valid = _classes_of(train, by_name["train"], valid_folders[0])
    else:
        train = _classes(by_name["train"], at_least=2, what="to train and validate on")
        valid = None
    return _Listing(train=train, valid=valid, test=_classes_of(train, by_name["train"], by_name["test"]))


def _classes(folder: Path, *, at_least: int, what: str) -> FilesByClass:
    """Return the images of each class of a folder, two classes or more with `at_least` images each."""
    parts = _subfolders(folder)
    if len(parts) < 2:
        got = f"1 ({parts[0].name})" if parts else f"none and {_count(sum(1 for _ in folder.iterdir()), 'file')}"
        raise ValueError(f"{folder}: expected a subfolder for each of at least 2 classes, got {got}")
    classes = {part.name: _images_below(part) for part in parts}
    for part in parts:
        if (count := len(classes[part.name])) < at_least:
            raise ValueError(f"{part}: expected at least {_count(at_least, 'image')}, {what}, got {count}")
    return classes


def _classes_of(train: FilesByClass, train_folder: Path, folder: Path) -> FilesByClass:
    """Return the images of each class of a split beside train; it may lack classes, but not have others."""
    parts = _subfolders(folder)
    if not parts:
        got = _count(sum(1 for _ in folder.iterdir()), "file")
        raise ValueError(f"{folder}: expected a subfolder for each class, as in {train_folder}, got none and {got}")
    if unknown := [part.name for part in parts if part.name not in train]:
        raise ValueError(f"{folder}: expected only the classes of {train_folder}, {_named(train)}, got {_named(unknown)}")
    return {part.name: _images_below(part) for part in parts}


def _images_below(folder: Path) -> list[Path]:
    """Return the images of a class in the order of their names."""
    suffixes = readable_suffixes()
    found: list[Path] = []
    num_others = 0
    for root, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if _is_visible(name)]
        for name in filter(_is_visible, files):
            if Path(name).suffix.lower() in suffixes:
                found.append(Path(root, name))
            else:
                num_others += 1
    if not found:
        got = f"none beside {_count(num_others, 'file')} with other suffixes" if num_others else "none"
        raise ValueError(f"{folder}: expected images of the class {folder.name}, got {got}")
    return sorted(found, key=lambda file: _order(file.relative_to(folder).as_posix()))


def _order(name: str) -> tuple[list[str | int], str]:
    """Return what names are sorted by: texts and numbers take turns; the name itself decides between 1 and 01."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", name))], name


def _subfolders(folder: Path) -> list[Path]:
    return sorted(part for part in folder.iterdir() if _is_visible(part.name) and part.is_dir())


def _holds_folders_only(folder: Path) -> bool:
    """Whether a folder looks like a split, not like a class: trains are a class in some data sets."""
    members = [member for member in folder.iterdir() if _is_visible(member.name)]
    return bool(members) and all(member.is_dir() for member in members)


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _raise(error: OSError) -> None:
    raise error


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _named(names: Iterable[str]) -> str:
    names = sorted(names)
    more = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
