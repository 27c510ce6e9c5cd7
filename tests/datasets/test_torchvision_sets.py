"""No test here downloads: files are written in the original formats, or torchvision's class is replaced."""

from __future__ import annotations

import gzip
import struct
import warnings
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from enas.datasets import load_data

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def write_idx(folder: Path, prefix: str, num_images: int, seed: int) -> np.ndarray[Any, Any]:
    """Write images and labels (index modulo 10) as LeCun's IDX files; return the images."""
    images = np.random.default_rng(seed).integers(256, size=(num_images, 28, 28), dtype=np.uint8)
    labels = (np.arange(num_images) % 10).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, num_images, 28, 28) + images.tobytes())
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, num_images) + labels.tobytes())
    return images


@pytest.mark.parametrize(("source", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_are_read_and_the_last_training_images_validate(source: str, folder: str, tmp_path: Path) -> None:
    train = write_idx(tmp_path / folder / "raw", "train", 40, seed=1)
    test = write_idx(tmp_path / folder / "raw", "t10k", 20, seed=2)
    data = load_data(source, data_dir=tmp_path, num_valid=15)
    assert data.input_shape == (1, 28, 28)
    np.testing.assert_array_equal(data.train.images[:, 0], train[:25])
    np.testing.assert_array_equal(data.valid.images[:, 0], train[25:])
    np.testing.assert_array_equal(data.test.images[:, 0], test)
    assert data.valid.labels.tolist() == [i % 10 for i in range(25, 40)]
    np.testing.assert_allclose(data.mean, train[:25].mean() / 255)


class FakeCifar:
    """Carries what torchvision's class carries: images (N, 32, 32, C) and a list of labels."""

    num_classes = 10

    def __init__(self, root: Path, *, train: bool, download: bool) -> None:
        warnings.warn("what numpy says about old pickles", UserWarning, stacklevel=1)
        print("Files already downloaded and verified")
        assert not download
        count = 300 if train else 100
        self.data = np.random.default_rng(train).integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
        self.targets = [i % self.num_classes for i in range(count)]


class FakeCifar100(FakeCifar):
    num_classes = 100


class FakeSvhn:
    """SVHN differs: `split`, `labels`, and channels first, on a transposed array."""

    def __init__(self, root: Path, *, split: str, download: bool) -> None:
        assert not download
        count = {"train": 300, "test": 100}[split]
        self.data = np.random.default_rng(0).integers(256, size=(32, 32, 3, count), dtype=np.uint8).transpose(3, 2, 0, 1)
        self.labels = np.arange(count) % 10


@pytest.mark.parametrize(("source", "name", "fake"), [("cifar10", "CIFAR10", FakeCifar), ("cifar100", "CIFAR100", FakeCifar100)])
def test_cifar_is_turned_channels_first_and_says_nothing(
    source: str,
    name: str,
    fake: type[FakeCifar],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torchvision.datasets, name, fake)
    data = load_data(source, data_dir=tmp_path, num_valid=120)
    assert capsys.readouterr().out == ""
    pixels = np.random.default_rng(True).integers(256, size=(300, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(data.train.images.permute(0, 2, 3, 1), pixels[:180])
    np.testing.assert_array_equal(data.valid.images.permute(0, 2, 3, 1), pixels[180:])
    assert data.num_classes == fake.num_classes
    assert data.test.labels.tolist() == [i % fake.num_classes for i in range(100)]


def test_svhn_is_read_and_never_mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "SVHN", FakeSvhn)
    data = load_data("svhn", data_dir=tmp_path, num_valid=50)
    assert data.input_shape == (3, 32, 32)
    assert data.valid.labels.tolist() == [i % 10 for i in range(250, 300)]
    assert data.augmentation is not None
    assert (data.augmentation.pad, data.augmentation.flip) == (4, False)
    assert data.train.images.is_contiguous()


@pytest.mark.parametrize(
    ("source", "name", "file"),
    [
        ("cifar10", "CIFAR10", "cifar-10-python.tar.gz"),
        ("cifar100", "CIFAR100", "cifar-100-python.tar.gz"),
        ("fashion_mnist", "FashionMNIST", "FashionMNIST/raw/"),
        ("mnist", "MNIST", "MNIST/raw/"),
        ("svhn", "SVHN", "train_32x32.mat"),
    ],
)
def test_failed_download_names_data_set_folder_and_files(
    source: str, name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(self: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(getattr(torchvision.datasets, name), "download", no_network)
    with pytest.raises(ValueError, match="Name or service not known") as error:
        load_data(source, data_dir=tmp_path / "missing")
    message = str(error.value)
    assert message.startswith(f"{name}: expected its files in {tmp_path / 'missing'}")
    assert file in message


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / "MNIST" / "raw", prefix, 20, seed=0)
    images = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"MNIST: expected its files in .*, found none that can be read"):
        load_data("mnist", data_dir=tmp_path, num_valid=10)


@pytest.mark.slow
def test_real_fashion_mnist_has_the_published_statistics(tmp_path: Path) -> None:
    if not DEBIAN_FASHION_MNIST.is_dir():
        pytest.skip("needs the Debian package dataset-fashion-mnist")
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in DEBIAN_FASHION_MNIST.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    data = load_data("fashion_mnist", data_dir=tmp_path)
    assert (len(data.train), len(data.valid), len(data.test)) == (55_000, 5_000, 10_000)
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.mean[0] == pytest.approx(0.2860, abs=5e-4)
    assert data.std[0] == pytest.approx(0.3530, abs=5e-4)
