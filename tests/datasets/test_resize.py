from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enas.datasets import check_source, find_looks, load_data
from enas.datasets.resize import resize_images


def noise(*shape):
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [5, 16, 32, 40])
def test_pixels_are_those_of_pillow(size):
    images = noise(3, 2, 32, 32)
    resized = resize_images(images, size)
    assert resized.shape == (3, 2, size, size)
    for image, small in zip(images.reshape(6, 32, 32), resized.reshape(6, size, size), strict=True):
        expected = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(small.astype(int) - expected.astype(int)).max() <= 1


def test_images_of_their_size_stay_as_they_are():
    images = noise(4, 1, 8, 8)
    assert np.array_equal(resize_images(images, 8), images)


def test_oblong_images_are_cropped_around_the_centre():
    images = noise(2, 1, 8, 12)
    assert np.array_equal(resize_images(images, 8), images[:, :, :, 2:10])


def test_chunks_do_not_show(monkeypatch):
    images = noise(7, 1, 8, 8)
    whole = resize_images(images, 4)
    monkeypatch.setattr("enas.datasets.resize._CHUNK", 3)
    assert np.array_equal(resize_images(images, 4), whole)


def test_every_split_of_a_data_set_is_resized_and_its_statistics_are_of_what_is_left(tmp_path: Path):
    whole, small = (load_data("digits", data_dir=tmp_path, image_size=size) for size in (None, 4))
    assert small.input_shape == (1, 4, 4)
    for name in ("train", "valid", "test"):
        expected = resize_images(getattr(whole, name).images.numpy(), 4)
        assert np.array_equal(getattr(small, name).images.numpy(), expected)
        assert getattr(small, name).labels.equal(getattr(whole, name).labels)
    assert small.mean == pytest.approx([small.train.images.double().mean().item() / 255])
    looks = find_looks("digits", tmp_path, image_size=4)
    assert looks is not None
    assert looks.input_shape == (1, 4, 4)
    assert check_source("digits", tmp_path, image_size=4) == check_source("digits", tmp_path)
