"""What a source of images is: arrays straight from its files, and how they are split and augmented unless told otherwise.

Imports numpy only, so that the table of sources can be read without waiting for torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from enas.configs import InputKind
from enas.types import IntArray

ImageArray = npt.NDArray[np.uint8]
ValidRule = Literal["last", "stratified"]


@dataclass(frozen=True, eq=False, kw_only=True)
class RawImages:
    """The two splits that a source comes in; the validation images are still among the training ones.

    Attributes:
        train_images: uint8 (N, C, H, W).
        train_labels: int64 (N,), in 0..num_classes-1.
        test_images: uint8 (M, C, H, W).
        test_labels: int64 (M,), in 0..num_classes-1.
        num_classes: how many classes there are.
        num_valid: how many of the last training images the source itself keeps for validation; None: it leaves that open.
    """

    train_images: ImageArray
    train_labels: IntArray
    test_images: ImageArray
    test_labels: IntArray
    num_classes: int
    num_valid: int | None = None


class Looks(NamedTuple):
    """What a network has to know of its images, or of a text.

    Attributes:
        input_shape: (channels, height, width); () of a text.
        num_classes: how many classes there are; of a text, the size of its vocabulary.
    """

    input_shape: tuple[int, ...]
    num_classes: int

    @property
    def kind(self) -> InputKind:
        """What networks get to see."""
        return "images" if self.input_shape else "text"


@dataclass(frozen=True, eq=False, kw_only=True)
class Contents:
    """What is known of a source without reading, or downloading, its images.

    Attributes:
        train_labels: int64 (N,); where only their numbers are known, the classes take turns.
        num_test: test images.
        num_valid: as in RawImages.
        looks: of the images; None where only reading them all would tell.
    """

    train_labels: IntArray
    num_test: int
    num_valid: int | None = None
    looks: Looks | None = None


@dataclass(frozen=True, kw_only=True)
class SplitSizes:
    """How many examples a data set has to train, validate and test on.

    Attributes:
        unit: what they are called, in the plural.
        kind: what networks get to see.
    """

    train: int
    valid: int
    test: int
    unit: str = "images"
    kind: InputKind = "images"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set of the table.

    Attributes:
        read: reads the arrays, given the data folder, or the path that the source takes.
        peek: finds out, given the same, what can be known in well under a second, without torch.
        at_size: returns the source with its images resized to squares of so many pixels as they are read; None: they are
            resized after that (`enas.datasets.resize`).
        takes: what follows the name and a colon, such as FILE; None: nothing.
        num_valid: how many training images validate by default; None: a tenth, and at least one of each class.
        valid_rule: `last` takes the last ones, as the ENAS authors do; `stratified` the last ones of each class.
        flip: whether a mirrored image keeps its class, so that the default augmentation may flip.
    """

    read: Callable[[Path], RawImages]
    peek: Callable[[Path], Contents]
    num_valid: int | None
    valid_rule: ValidRule
    flip: bool
    at_size: Callable[[int], Source] | None = None
    takes: str | None = None


def published(*, num_train: int, num_test: int, num_classes: int, input_shape: tuple[int, ...]) -> Callable[[Path], Contents]:
    """Return the `peek` of a data set whose numbers are known; the files are not looked at."""

    def peek(_: Path) -> Contents:
        looks = Looks(input_shape, num_classes)
        return Contents(train_labels=np.arange(num_train) % num_classes, num_test=num_test, looks=looks)

    return peek
