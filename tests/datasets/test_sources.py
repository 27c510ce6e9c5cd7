"""The table of data sets, and what holds for every one of them that is at hand without a download."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from enas.datasets import DATASETS, check_source, load_data
from enas.datasets.augment import Augmentation
from enas.datasets.batches import BatchStream
from enas.datasets.images import ImageData


@pytest.fixture(params=["digits", "npz"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "digits":
        return "digits"
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(256, size=(200, 9, 9, 3), dtype=np.uint8),
        "y_train": rng.permutation(np.arange(200) % 5),
        "x_test": rng.integers(256, size=(50, 9, 9, 3), dtype=np.uint8),
        "y_test": np.arange(50) % 5,
    }
    np.savez(tmp_path / "made.npz", **arrays)  # type: ignore[arg-type]
    return f"npz:{tmp_path / 'made.npz'}"


def all_images(data: ImageData) -> list[bytes]:
    return [image.tobytes() for split in (data.train, data.valid, data.test) for image in split.images.numpy()]


def test_table_is_sorted() -> None:
    assert list(DATASETS) == ["cifar10", "cifar100", "digits", "fashion_mnist", "mnist", "npz", "svhn"]


def test_splits_are_disjoint(source: str, tmp_path: Path) -> None:
    images = all_images(load_data(source, data_dir=tmp_path))
    assert len(images) == len(set(images))


def test_loading_twice_gives_the_same_splits(source: str, tmp_path: Path) -> None:
    first, second = (load_data(source, data_dir=tmp_path) for _ in range(2))
    assert all_images(first) == all_images(second)
    assert (first.mean, first.std) == (second.mean, second.std)


def test_numbers_of_images_are_the_ones_asked_for_and_even_over_classes(source: str, tmp_path: Path) -> None:
    data = load_data(source, data_dir=tmp_path, num_valid=50, num_train=100)
    assert (len(data.valid), len(data.train)) == (50, 100)
    for split in (data.train, data.valid):
        counts = torch.bincount(split.labels)
        assert int(counts.max() - counts.min()) <= 1
    assert len(set(all_images(data))) == 100 + 50 + len(data.test)


def test_fewer_training_images_leave_valid_and_test_as_they_are(source: str, tmp_path: Path) -> None:
    full, few = load_data(source, data_dir=tmp_path), load_data(source, data_dir=tmp_path, num_train=20)
    assert torch.equal(full.valid.images, few.valid.images)
    assert torch.equal(full.test.images, few.test.images)
    assert full.mean != few.mean


def test_batches_of_the_validation_split_are_plain_and_those_of_train_varied(source: str, tmp_path: Path) -> None:
    data = load_data(source, data_dir=tmp_path)
    valid = BatchStream(data.valid, batch_size=10, seed=0, mean=data.mean, std=data.std)
    plain = {image.tobytes() for batch in valid.whole(7) for image in batch.images.numpy()}
    assert {image.tobytes() for step in range(2) for image in valid.batch(step).images.numpy()} <= plain
    train = BatchStream(data.train, batch_size=50, seed=0, mean=data.mean, std=data.std, augmentation=data.augmentation)
    unvaried = {image.tobytes() for batch in train.whole(100) for image in batch.images.numpy()}
    assert not {image.tobytes() for image in train.batch(0).images.numpy()} <= unvaried


def test_default_padding_is_an_eighth_of_the_shorter_side(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(256, size=(20, 32, 40, 3), dtype=np.uint8)
    labels = np.arange(20) % 2
    np.savez(tmp_path / "made.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    data = load_data(f"npz:{tmp_path / 'made.npz'}", data_dir=tmp_path)
    assert data.augmentation == Augmentation(pad=4, flip=True, cutout=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_valid": 0}, "num_valid: expected 10 to 1437 of the 1447 training images, got 0"),
        ({"num_valid": 1447}, "num_valid: expected 10 to 1437 of the 1447 training images, got 1447"),
        ({"num_train": 9}, "num_train: expected 10 to 1097 of the 1097 training images, got 9"),
        ({"num_train": 1098}, "num_train: expected 10 to 1097 of the 1097 training images, got 1098"),
    ],
)
def test_impossible_numbers_of_images_are_refused(arguments: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_data("digits", data_dir=tmp_path, **arguments)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("cifar", "expected one of cifar10, cifar100, digits, fashion_mnist, mnist, npz:FILE, svhn, got 'cifar'"),
        ("", "expected one of cifar10, .* got ''"),
        ("CIFAR10", "expected one of cifar10, .* got 'CIFAR10'"),
        ("images.npz", "expected one of .*npz:FILE.* got 'images.npz'"),
        ("npz", "expected npz:FILE, .* got 'npz'"),
        ("npz:", "expected npz:FILE, .* got 'npz:'"),
        ("digits:file", "expected 'digits', which takes no file, got 'digits:file'"),
    ],
)
def test_unknown_source_is_refused(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        check_source(source, tmp_path)
    with pytest.raises(ValueError, match=message):
        load_data(source, data_dir=tmp_path)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_data_dir_that_is_a_file_is_refused(below: str, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.touch()
    with pytest.raises(ValueError, match=re.escape(f"data_dir: expected a folder, got {file / below}, where {file} is a file")):
        check_source("cifar10", file / below)


def test_data_dir_need_not_exist(tmp_path: Path) -> None:
    check_source("cifar10", tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_checking_a_source_loads_neither_torch_nor_torchvision_nor_sklearn() -> None:
    code = (
        "import sys; from pathlib import Path; from enas.datasets import check_source; check_source('cifar10', Path('data'));"
        "from enas.datasets.augment import Augmentation; Augmentation();"
        "print(sorted({'torch', 'torchvision', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
