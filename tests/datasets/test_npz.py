from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from enas.datasets import check_source, load_data
from enas.datasets.source import SplitSizes

Arrays = dict[str, npt.NDArray[Any]]


def make_arrays(num_train: int = 40, num_test: int = 12, shape: tuple[int, ...] = (6, 5, 3), num_classes: int = 4) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(256, size=(num_train, *shape), dtype=np.uint8),
        "y_train": np.arange(num_train) % num_classes,
        "x_test": rng.integers(256, size=(num_test, *shape), dtype=np.uint8),
        "y_test": np.arange(num_test) % num_classes,
    }


def save(folder: Path, arrays: Arrays) -> Path:
    file = folder / "images.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file


@pytest.mark.parametrize("shape", [(6, 5, 3), (8, 8, 1), (5, 5, 4), (96, 96, 3), (6, 6, 7)])
def test_colour_images_are_turned_channels_first(shape: tuple[int, int, int], tmp_path: Path) -> None:
    arrays = make_arrays(shape=shape)
    data = load_data(f"npz:{save(tmp_path, arrays)}", data_dir=tmp_path)
    assert data.input_shape == (shape[2], shape[0], shape[1])
    np.testing.assert_array_equal(data.test.images.permute(0, 2, 3, 1), arrays["x_test"])
    assert data.test.labels.tolist() == arrays["y_test"].tolist()


def test_grey_images_get_one_channel(tmp_path: Path) -> None:
    arrays = make_arrays(shape=(8, 8))
    data = load_data(f"npz:{save(tmp_path, arrays)}", data_dir=tmp_path)
    assert data.input_shape == (1, 8, 8)
    np.testing.assert_array_equal(data.test.images[:, 0], arrays["x_test"])


def test_compressed_and_fortran_ordered_arrays_are_read(tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays["x_train"] = np.asfortranarray(arrays["x_train"])
    np.savez_compressed(tmp_path / "images.npz", **arrays)  # type: ignore[arg-type]
    data = load_data(f"npz:{tmp_path / 'images.npz'}", data_dir=tmp_path)
    np.testing.assert_array_equal(data.train.images.permute(0, 2, 3, 1), arrays["x_train"][:36])


def test_last_tenth_of_each_class_validates_in_a_file_sorted_by_class(tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays["y_train"] = np.repeat(np.arange(4), 10)
    data = load_data(f"npz:{save(tmp_path, arrays)}", data_dir=tmp_path)
    assert data.valid.labels.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(data.valid.images.permute(0, 2, 3, 1), arrays["x_train"][[9, 19, 29, 39]])
    assert len(data.train) == 36


def test_statistics_are_of_the_training_images_that_are_left(tmp_path: Path) -> None:
    arrays = make_arrays()
    data = load_data(f"npz:{save(tmp_path, arrays)}", data_dir=tmp_path, num_valid=8, num_train=16)
    fractions = data.train.images.numpy().astype(np.float64) / 255
    assert len(fractions) == 16
    np.testing.assert_allclose(data.mean, fractions.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, fractions.std(axis=(0, 2, 3)), rtol=1e-12)
    assert data.mean[0] != pytest.approx(float(arrays["x_train"][..., 0].mean() / 255), rel=1e-6)


def test_a_class_of_the_test_split_alone_counts(tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays["y_test"][0] = 6
    assert load_data(f"npz:{save(tmp_path, arrays)}", data_dir=tmp_path).num_classes == 7


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_labels_of_any_integer_dtype_are_read(dtype: npt.DTypeLike, tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays |= {key: arrays[key].astype(dtype) for key in ("y_train", "y_test")}
    data = load_data(f"npz:{save(tmp_path, arrays)}", data_dir=tmp_path)
    assert data.train.labels.dtype == torch.int64


def changed(key: str, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Arrays:
    arrays = make_arrays()
    return arrays | {key: change(arrays[key])}


def without(key: str) -> Arrays:
    return {name: array for name, array in make_arrays().items() if name != key}


HEADER_ERRORS = [
    (without("x_test"), r"expected the keys x_train, y_train, x_test, y_test, got x_train, y_train, y_test; no x_test"),
    (without("y_train"), r"expected the keys x_train, .*; no y_train"),
    (changed("x_train", lambda x: x / 255), r"x_train: expected dtype uint8, got float64"),
    (changed("x_test", lambda x: x.astype(object)), r"x_test: expected dtype uint8, got object"),
    (
        changed("x_train", lambda x: x[0, 0]),
        r"x_train: expected shape \(N, H, W\) or \(N, H, W, C\), none of them 0, got \(5, 3\)",
    ),
    (changed("x_train", lambda x: x[:0]), r"x_train: expected shape .* none of them 0, got \(0, 6, 5, 3\)"),
    (changed("x_train", lambda x: x.transpose(0, 3, 1, 2)), r"x_train: expected channels last, .* got \(40, 3, 6, 5\)"),
    (changed("x_test", lambda x: x[:, 1:]), r"x_test: expected images of shape \(6, 5, 3\) as in x_train, got \(5, 5, 3\)"),
    (changed("y_train", lambda y: y[:-1]), r"y_train: expected shape \(40,\), a label for each image, got \(39,\)"),
    (changed("y_test", lambda y: y[:, None]), r"y_test: expected shape \(12,\), a label for each image, got \(12, 1\)"),
    (changed("y_test", lambda y: y.astype(np.float32)), r"y_test: expected an integer dtype, got float32"),
]
VALUE_ERRORS = [
    (changed("y_train", lambda y: y - 1), r"y_train: expected labels from 0, got -1"),
    (changed("y_test", lambda y: y - 2), r"y_test: expected labels from 0, got -2"),
    (changed("y_train", lambda y: y * 1000), r"y_train: expected labels below the number of training images, 40, got 3000"),
]


@pytest.mark.parametrize(("arrays", "message"), [*HEADER_ERRORS, *VALUE_ERRORS])
def test_wrong_headers_and_labels_are_found_before_the_images_are_read(arrays: Arrays, message: str, tmp_path: Path) -> None:
    file = save(tmp_path, arrays)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: {message}"):
        check_source(f"npz:{file}", tmp_path)


@pytest.mark.parametrize(("arrays", "message"), [*HEADER_ERRORS, *VALUE_ERRORS])
def test_wrong_arrays_are_refused(arrays: Arrays, message: str, tmp_path: Path) -> None:
    file = save(tmp_path, arrays)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: {message}"):
        load_data(f"npz:{file}", data_dir=tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x05\x06" + bytes(18)])
def test_file_that_is_no_npz_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "images.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: expected .*x_train, y_train, x_test, y_test, got"):
        check_source(f"npz:{file}", tmp_path)


def test_damaged_content_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path, make_arrays(shape=(64, 64, 3)))
    content = bytearray(file.read_bytes())
    content[300_000] ^= 0xFF  # in the pixels of x_train
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: expected whole arrays .*, got a damaged file"):
        load_data(f"npz:{file}", data_dir=tmp_path)


@pytest.mark.parametrize(("name", "found"), [("missing.npz", "nothing there"), ("", "a folder")])
def test_missing_file_is_refused(name: str, found: str, tmp_path: Path) -> None:
    file = tmp_path / name
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: expected an .npz file, found {found}"):
        check_source(f"npz:{file}", tmp_path)


def test_class_with_a_single_image_is_refused(tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays["y_train"] = np.array([0] * 39 + [1])
    file = save(tmp_path, arrays)
    message = "expected at least 2 training images of each class to split, got 1 of class 1"
    with pytest.raises(ValueError, match=message):
        check_source(f"npz:{file}", tmp_path)
    with pytest.raises(ValueError, match=message):
        load_data(f"npz:{file}", data_dir=tmp_path)


def test_checking_reads_no_pixel(tmp_path: Path) -> None:
    file = save(tmp_path, make_arrays(shape=(64, 64, 3)))
    content = bytearray(file.read_bytes())
    content[300_000] ^= 0xFF  # in the pixels of x_train, whose checksum is wrong now
    file.write_bytes(content)
    assert check_source(f"npz:{file}", tmp_path) == SplitSizes(train=36, valid=4, test=12)
