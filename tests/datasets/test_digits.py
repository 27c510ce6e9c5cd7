from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from enas.datasets import load_data
from enas.datasets.images import ImageData


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits", data_dir=Path("nowhere"))


def contents(images: torch.Tensor) -> set[bytes]:
    return {image.tobytes() for image in images.numpy()}


def test_splits_are_disjoint_and_hold_all_digits(digits: ImageData) -> None:
    train, valid, test = (contents(split.images) for split in (digits.train, digits.valid, digits.test))
    assert (len(train), len(valid), len(test)) == (1097, 350, 350)  # no image twice
    assert len(train | valid | test) == 1797


def test_every_split_has_the_classes_in_proportion(digits: ImageData) -> None:
    for split in (digits.train, digits.valid, digits.test):
        share = torch.bincount(split.labels, minlength=10) / len(split)
        assert share.min() > 0.085
        assert share.max() < 0.115


def test_pixels_and_labels_are_scikit_learns(digits: ImageData) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    label_of = {
        np.rint(image * 255 / 16).astype(np.uint8).tobytes(): int(label)
        for image, label in zip(bunch.images, bunch.target, strict=True)
    }
    for split in (digits.train, digits.valid, digits.test):
        assert [label_of[image.tobytes()] for image in split.images.numpy()] == split.labels.tolist()
    assert (int(digits.train.images.min()), int(digits.train.images.max())) == (0, 255)


def test_digits_are_small_and_grey_and_never_mirrored(digits: ImageData) -> None:
    assert digits.input_shape == (1, 8, 8)
    assert digits.num_classes == 10
    assert digits.augmentation is not None
    assert (digits.augmentation.pad, digits.augmentation.flip) == (1, False)
