"""The table of data sets, and what holds for every one of images that is at hand without a download."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from enas.datasets import DATASETS, check_source, find_looks, load_data
from enas.datasets.augment import Augmentation
from enas.datasets.batches import BatchStream
from enas.datasets.images import ImageData
from enas.datasets.source import RawImages, SplitSizes


@pytest.fixture(params=["digits", "folder of classes", "folder of splits", "npz"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "digits":
        return "digits"
    if request.param == "folder of classes":
        return f"folder:{write_classes(tmp_path / 'made', num_images=60)}"
    if request.param == "folder of splits":
        write_classes(tmp_path / "made" / "train", num_images=40)
        return f"folder:{write_classes(tmp_path / 'made' / 'test', num_images=10).parent}"
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(256, size=(200, 9, 9, 3), dtype=np.uint8),
        "y_train": rng.permutation(np.arange(200) % 5),
        "x_test": rng.integers(256, size=(50, 9, 9, 3), dtype=np.uint8),
        "y_test": np.arange(50) % 5,
    }
    np.savez(tmp_path / "made.npz", **arrays)  # type: ignore[arg-type]
    return f"npz:{tmp_path / 'made.npz'}"


def write_classes(folder: Path, *, num_images: int) -> Path:
    """Write five classes of random 9x9 images, no two alike; return the folder."""
    rng = np.random.default_rng(num_images)
    for name in "abcde":
        (folder / name).mkdir(parents=True)
        for index in range(num_images):
            Image.fromarray(rng.integers(256, size=(9, 9, 3), dtype=np.uint8)).save(folder / name / f"{index}.bmp")
    return folder


def all_images(data: ImageData) -> list[bytes]:
    return [image.tobytes() for split in (data.train, data.valid, data.test) for image in split.images.numpy()]


def test_table_is_sorted() -> None:
    images = ["cifar10", "cifar100", "digits", "fashion_mnist", "folder", "mnist", "npz", "svhn"]
    assert list(DATASETS) == sorted([*images, "ptb", "text", "topics"])


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


@pytest.mark.parametrize("asked", [{}, {"num_valid": 50, "num_train": 100}, {"num_valid": 23}, {"num_train": 31}])
def test_sizes_are_known_before_the_images_are_read(source: str, asked: dict[str, int], tmp_path: Path) -> None:
    data = load_data(source, data_dir=tmp_path, **asked)
    expected = SplitSizes(train=len(data.train), valid=len(data.valid), test=len(data.test))
    assert check_source(source, tmp_path, **asked) == expected


def test_looks_are_known_before_the_images_are_read(source: str, tmp_path: Path) -> None:
    data = load_data(source, data_dir=tmp_path)
    looks = find_looks(source, tmp_path)
    assert looks == ((data.input_shape, data.num_classes) if not source.startswith("folder") else None)


@pytest.mark.parametrize(
    ("source", "num_classes", "shape", "train", "test"),
    [
        ("cifar10", 10, (3, 32, 32), 45_000, 10_000),
        ("cifar100", 100, (3, 32, 32), 45_000, 10_000),
        ("fashion_mnist", 10, (1, 28, 28), 55_000, 10_000),
        ("mnist", 10, (1, 28, 28), 55_000, 10_000),
        ("svhn", 10, (3, 32, 32), 68_257, 26_032),
    ],
)
def test_sizes_of_published_data_sets(
    source: str, num_classes: int, shape: tuple[int, int, int], train: int, test: int, tmp_path: Path
) -> None:
    assert find_looks(source, tmp_path) == (shape, num_classes)
    assert check_source(source, tmp_path) == SplitSizes(train=train, valid=5_000, test=test)
    with pytest.raises(ValueError, match=f"num_train: expected {num_classes} to {train} of the {train} training images, got 9"):
        check_source(source, tmp_path, num_train=9)


def test_impossible_numbers_are_refused_before_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: Path) -> RawImages:
        raise AssertionError("read")

    monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], read=read))
    with pytest.raises(ValueError, match="num_valid: expected 1 to 49999 of the 50000 training images, got 50000"):
        load_data("cifar10", data_dir=tmp_path, num_valid=50_000)


def test_batches_of_the_validation_split_are_plain_and_those_of_train_varied(source: str, tmp_path: Path) -> None:
    data = load_data(source, data_dir=tmp_path)
    valid = BatchStream(data.valid, batch_size=10, seed=0, mean=data.mean, std=data.std)
    plain = {image.tobytes() for batch in valid.whole(7) for image in batch.inputs.numpy()}
    assert {image.tobytes() for step in range(2) for image in valid.batch(step).inputs.numpy()} <= plain
    train = BatchStream(data.train, batch_size=50, seed=0, mean=data.mean, std=data.std, augmentation=data.augmentation)
    unvaried = {image.tobytes() for batch in train.whole(100) for image in batch.inputs.numpy()}
    assert not {image.tobytes() for image in train.batch(0).inputs.numpy()} <= unvaried


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
        (
            "cifar",
            "cifar100, digits, fashion_mnist, folder:DIR, mnist, npz:FILE, ptb:DIR, svhn, text:FILE, topics, got 'cifar'",
        ),
        ("", "expected one of cifar10, .* got ''"),
        ("CIFAR10", "expected one of cifar10, .* got 'CIFAR10'"),
        ("images.npz", "expected one of .*npz:FILE.* got 'images.npz'"),
        ("npz", "expected npz:FILE, .* got 'npz'"),
        ("npz:", "expected npz:FILE, .* got 'npz:'"),
        ("folder", "expected folder:DIR, .* got 'folder'"),
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
