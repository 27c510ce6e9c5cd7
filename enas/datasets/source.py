"""What a source of images is: arrays straight from its files, and how they are split and augmented unless told otherwise.

Imports numpy only, so that the table of sources can be read without waiting for torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

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
    """

    train_images: ImageArray
    train_labels: IntArray
    test_images: ImageArray
    test_labels: IntArray
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set of the table.

    Attributes:
        read: reads the arrays, given the data folder (`npz`: the file).
        num_valid: how many training images validate by default; None: a tenth, and at least one of each class.
        valid_rule: `last` takes the last ones, as the ENAS authors do; `stratified` the last ones of each class.
        flip: whether a mirrored image keeps its class, so that the default augmentation may flip.
    """

    read: Callable[[Path], RawImages]
    num_valid: int | None
    valid_rule: ValidRule
    flip: bool
