from __future__ import annotations

import numpy as np
import pytest
import torch

from enas.datasets.images import STD_FLOOR, ImageData, ImageSplit, channel_statistics


def make_split(num_images: int, shape: tuple[int, int, int] = (3, 8, 8), num_classes: int = 4, seed: int = 0) -> ImageSplit:
    generator = torch.Generator().manual_seed(seed)
    return ImageSplit(
        images=torch.randint(0, 256, (num_images, *shape), dtype=torch.uint8, generator=generator),
        labels=torch.arange(num_images) % num_classes,
    )


def make_data(train: ImageSplit, valid: ImageSplit, test: ImageSplit) -> ImageData:
    return ImageData(
        name="made", train=train, valid=valid, test=test, num_classes=4, mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.25)
    )


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 5, 96)])
def test_statistics_equal_numpys(shape: tuple[int, int, int]) -> None:
    images = make_split(1030, shape).images
    mean, std = channel_statistics(images)
    fractions = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, fractions.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, fractions.std(axis=(0, 2, 3)), rtol=1e-12)


def test_constant_channel_gets_the_least_std() -> None:
    images = torch.full((7, 2, 3, 3), 51, dtype=torch.uint8)
    images[:, 1, 0, 0] = 200
    mean, std = channel_statistics(images)
    assert mean[0] == 0.2
    assert std[0] == STD_FLOOR
    assert std[1] > STD_FLOOR


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 1 to take the mean of, got 0"):
        channel_statistics(torch.zeros(0, 1, 2, 2, dtype=torch.uint8))


def test_image_shape_is_channels_height_width() -> None:
    split = make_split(4, (3, 5, 7))
    assert make_data(split, split, split).input_shape == (3, 5, 7)


def test_retraining_data_holds_train_and_valid_and_keeps_the_statistics() -> None:
    train, valid, test = make_split(6, seed=1), make_split(5, seed=2), make_split(4, seed=3)
    data = make_data(train, valid, test)
    merged = data.with_valid_in_train()
    assert torch.equal(merged.train.images, torch.cat([train.images, valid.images]))
    assert torch.equal(merged.train.labels, torch.cat([train.labels, valid.labels]))
    assert len(merged.valid) == 0
    assert merged.test is test
    assert (merged.mean, merged.std, merged.name) == (data.mean, data.std, "made")
    assert (len(data.train), len(data.valid)) == (6, 5)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), r"images: expected torch.uint8 .*got torch.float32"),
        (
            torch.zeros(2, 4, 4, dtype=torch.uint8),
            torch.zeros(2, dtype=torch.int64),
            r"images: .*\(N, C, H, W\), got .*\(2, 4, 4\)",
        ),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), r"labels: expected torch.int64 \(2,\), got torch.float32"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"labels: .*\(2,\), got .*\(3,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSplit(images=images, labels=labels)


def test_splits_of_different_shapes_are_refused() -> None:
    split = make_split(4)
    with pytest.raises(ValueError, match=r"made: valid: expected images of shape \(3, 8, 8\), got \(3, 8, 9\)"):
        make_data(split, make_split(4, (3, 8, 9)), split)


def test_labels_out_of_range_are_refused() -> None:
    split = make_split(4)
    with pytest.raises(ValueError, match=r"made: test: expected labels in 0..3, got 0 to 4"):
        make_data(split, split, make_split(5, num_classes=5))


def test_statistics_of_another_number_of_channels_are_refused() -> None:
    split = make_split(4, (1, 8, 8))
    with pytest.raises(ValueError, match="expected mean and std of 1 channels, got 3 and 3"):
        make_data(split, split, split)
