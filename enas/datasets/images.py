"""A data set as uint8 tensors in three disjoint splits, with the statistics that normalise it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from enas.configs import InputKind
from enas.data_configs import AugmentConfig
from enas.datasets.augment import Augmentation
from enas.datasets.batches import BatchStream
from enas.datasets.data import Data
from enas.metrics import MetricName
from enas.seeding import derive_generator

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

    def to(self, device: torch.device) -> Self:
        """Return the split on a device, so that several streams over it share one copy there."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def first(self, count: int) -> Self:
        """Return the first images, at most all."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageData(Data):
    """Labelled images, split.

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
    unit: ClassVar[str] = "images"  # type: ignore[misc]  # of a text it depends on its settings
    kind: ClassVar[InputKind] = "images"
    metric: ClassVar[MetricName] = "accuracy"
    whole_batch_size: ClassVar[int] = 500

    def __post_init__(self) -> None:
        """Refuse splits of different shapes, labels out of range and statistics of another number of channels."""
        for which, split in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            if split.images.shape[1:] != self.train.images.shape[1:]:
                shape = tuple(split.images.shape[1:])
                raise ValueError(f"{self.name}: {which}: expected images of shape {self.input_shape}, got {shape}")
            if len(split) and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < self.num_classes:
                got = f"{int(split.labels.min())} to {int(split.labels.max())}"
                raise ValueError(f"{self.name}: {which}: expected labels in 0..{self.num_classes - 1}, got {got}")
        if not len(self.mean) == len(self.std) == self.input_shape[0]:
            got = f"{len(self.mean)} and {len(self.std)}"
            raise ValueError(f"{self.name}: expected mean and std of {self.input_shape[0]} channels, got {got}")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def with_valid_in_train(self) -> Self:
        """Return the data for retraining: train + valid to train on, an empty valid split, the same test split, mean and std."""
        train = ImageSplit(
            images=torch.cat([self.train.images, self.valid.images]),
            labels=torch.cat([self.train.labels, self.valid.labels]),
        )
        valid = ImageSplit(images=self.valid.images[:0], labels=self.valid.labels[:0])
        return replace(self, train=train, valid=valid)

    def measured(self, split: ImageSplit) -> ImageSplit:
        """Return a split in a fixed random order: pieces of a split sorted by class would have odd batch statistics."""
        order = torch.randperm(len(split), generator=derive_generator(0, "validation order"))
        return ImageSplit(images=split.images[order], labels=split.labels[order])

    def stream(
        self,
        split: ImageSplit,
        *,
        batch_size: int,
        seed: int,
        augmentation: Augmentation | None = None,
        device: torch.device | str = "cpu",
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> BatchStream:
        """Return minibatches of a split, normalised by the statistics of the training images; see `Data.stream`."""
        return BatchStream(
            split,
            batch_size=batch_size,
            seed=seed,
            mean=self.mean,
            std=self.std,
            augmentation=augmentation,
            device=device,
            memory_format=memory_format,
        )

    def varied(self, config: AugmentConfig) -> Augmentation:
        """Return the data set's own augmentation with the configured changes."""
        own = self.augmentation or Augmentation(pad=0, flip=False)
        return replace(
            own,
            pad=own.pad if config.pad is None else config.pad,
            flip=own.flip if config.flip is None else config.flip,
            cutout=config.cutout,
        )

    def preparation(self) -> dict[str, list[float]]:
        """Return mean and std of each channel, fractions: a network sees (x / 255 - mean) / std."""
        return {"mean": list(self.mean), "std": list(self.std)}


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
