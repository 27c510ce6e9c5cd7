"""A data set as uint8 tensors in three disjoint splits, with the statistics that normalise it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from enas.datasets.augment import Augmentation

STD_FLOOR = 1e-3
"""Least standard deviation of a channel, a quarter of a grey level: a constant channel is not divided by zero."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageSplit:
    """Labelled images.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), from 0.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        """Refuse tensors that do not fit each other."""
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            got = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise ValueError(f"images: expected torch.uint8 (N, C, H, W), got {got}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            got = f"{self.labels.dtype} {tuple(self.labels.shape)}"
            raise ValueError(f"labels: expected torch.int64 ({len(self.images)},), got {got}")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageData:
    """A data set, split.

    Attributes:
        name: the source it was loaded from, such as `cifar10`.
        train: what weights are trained on.
        valid: what architectures are compared on; never augmented.
        test: read only after the search is over.
        num_classes: labels are in 0..num_classes-1.
        mean: per channel, fraction in [0, 1], over the training split alone.
        std: per channel, fraction, at least STD_FLOOR, over the training split alone.
        augmentation: how training images of this data set are usually varied; None: not at all.
    """

    name: str
    train: ImageSplit
    valid: ImageSplit
    test: ImageSplit
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation | None = None

    def __post_init__(self) -> None:
        """Refuse splits of different shapes, labels out of range and statistics of another number of channels."""
        for which, split in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            if split.images.shape[1:] != self.train.images.shape[1:]:
                shape = tuple(split.images.shape[1:])
                raise ValueError(f"{self.name}: {which}: expected images of shape {self.image_shape}, got {shape}")
            if len(split) and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < self.num_classes:
                got = f"{int(split.labels.min())} to {int(split.labels.max())}"
                raise ValueError(f"{self.name}: {which}: expected labels in 0..{self.num_classes - 1}, got {got}")
        if not len(self.mean) == len(self.std) == self.image_shape[0]:
            got = f"{len(self.mean)} and {len(self.std)}"
            raise ValueError(f"{self.name}: expected mean and std of {self.image_shape[0]} channels, got {got}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def with_valid_in_train(self) -> ImageData:
        """Return the data for retraining: train + valid to train on, an empty valid split, the same test split, mean and std."""
        train = ImageSplit(
            images=torch.cat([self.train.images, self.valid.images]),
            labels=torch.cat([self.train.labels, self.valid.labels]),
        )
        valid = ImageSplit(images=self.valid.images[:0], labels=self.valid.labels[:0])
        return replace(self, train=train, valid=valid)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure mean and (population) standard deviation of each channel, from an exact histogram.

    Args: images: uint8 (N, C, H, W), N at least 1.

    Returns: (mean, std), C fractions each; std is at least STD_FLOOR.

    Raises:
        ValueError: there are no images.
    """
    if not len(images):
        raise ValueError("images: expected at least 1 to take the mean of, got 0")
    count = images.numel() // images.shape[1]
    levels = torch.arange(256)
    statistics = []
    for channel in range(images.shape[1]):
        chunks = torch.split(images[:, channel], 1024)  # bincount widens what it counts
        histogram = torch.stack([torch.bincount(chunk.flatten(), minlength=256).cpu() for chunk in chunks]).sum(0)
        total, squares = int(histogram @ levels), int(histogram @ levels.square())
        std = (count * squares - total**2) ** 0.5 / (255 * count)
        statistics.append((total / (255 * count), max(std, STD_FLOOR)))
    return tuple(mean for mean, _ in statistics), tuple(std for _, std in statistics)
