"""Minibatches as a pure function of (seed, step): nothing to save in a checkpoint, nothing to replay on resume.

Images stay on the device as uint8, N * C * H * W bytes; a batch is picked, normalised and augmented there as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from enas.datasets.augment import Augmentation, augment
from enas.datasets.data import Batch
from enas.transfer import to_device

if TYPE_CHECKING:
    from enas.datasets.images import ImageSplit

# Second key of a stream's seeds: what the numbers are drawn for.
_ORDER, _AUGMENTATION = 0, 1


class BatchStream:
    """Endless shuffled minibatches of one split.

    An epoch is `num_batches` full batches of a fresh permutation; the ragged rest is left out, other images each epoch.

    Args:
        split: the images; moved to `device` once, as uint8.
        batch_size: B, from 1 to the size of the split.
        seed: at least 0; with `step` it decides every batch.
        mean, std: per channel, fractions; a batch holds (x / 255 - mean) / std.
        augmentation: how images are varied; None for validation and test, which never are.
        device: where batches are made.
        memory_format: of the batches' images.
        dtype: of the batches' images; normalisation is computed in at least float32.

    Attributes:
        batch_size: B.
        num_batches: full batches in an epoch, N // B.
    """

    def __init__(
        self,
        split: ImageSplit,
        *,
        batch_size: int,
        seed: int,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Augmentation | None = None,
        device: torch.device | str = "cpu",
        memory_format: torch.memory_format = torch.contiguous_format,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        num_channels = split.images.shape[1]
        if not 1 <= batch_size <= len(split):
            raise ValueError(f"batch_size: expected 1 to {len(split)}, the number of images, got {batch_size}")
        if seed < 0:
            raise ValueError(f"seed: expected at least 0, got {seed}")
        if not len(mean) == len(std) == num_channels:
            raise ValueError(f"expected mean and std of {num_channels} channels, got {len(mean)} and {len(std)}")
        self.batch_size = batch_size
        self.num_batches = len(split) // batch_size
        self._images = split.images.to(device)
        self._labels = split.labels.to(device)
        self._seed = seed
        self._augmentation = augmentation
        self._memory_format = memory_format
        self._dtype = dtype
        # (x / 255 - mean) / std = x * scale + shift
        working_dtype = torch.promote_types(dtype, torch.float32)
        std_64 = torch.tensor(std, dtype=torch.float64).view(-1, 1, 1)
        self._scale = (1 / (255 * std_64)).to(device, working_dtype)
        self._shift = (-torch.tensor(mean, dtype=torch.float64).view(-1, 1, 1) / std_64).to(device, working_dtype)
        self._epoch_order: tuple[int, Tensor] | None = None  # a cache: the latest epoch and its permutation

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; the same for the same (seed, step), whatever was asked for before.

        Raises:
            ValueError: step is negative.
        """
        if step < 0:
            raise ValueError(f"step: expected at least 0, got {step}")
        epoch, position = divmod(step, self.num_batches)
        index = self._order(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        images = self._normalised(self._images.index_select(0, index))
        if self._augmentation is not None:
            images = augment(images, self._augmentation, _generator(self._seed, _AUGMENTATION, step))
        return Batch(inputs=images.contiguous(memory_format=self._memory_format), labels=self._labels.index_select(0, index))

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Yield every image once, in order and unaugmented; the last batch may be smaller.

        Raises:
            ValueError: batch_size is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        return self._whole(batch_size)

    def _whole(self, batch_size: int) -> Iterator[Batch]:
        for images, labels in zip(torch.split(self._images, batch_size), torch.split(self._labels, batch_size), strict=True):
            yield Batch(inputs=self._normalised(images).contiguous(memory_format=self._memory_format), labels=labels)

    def _normalised(self, images: Tensor) -> Tensor:
        # in place: three times faster on a CPU than addcmul, whose broadcast is not vectorised
        return images.to(self._scale.dtype).mul_(self._scale).add_(self._shift).to(self._dtype)

    def _order(self, epoch: int) -> Tensor:
        """Return the permutation of an epoch, int64 (N,), on the device."""
        if self._epoch_order is None or self._epoch_order[0] != epoch:
            order = torch.randperm(len(self._labels), generator=_generator(self._seed, _ORDER, epoch))
            self._epoch_order = (epoch, to_device(order, self._labels.device))
        return self._epoch_order[1]


def _generator(seed: int, purpose: int, index: int) -> torch.Generator:
    """Return a CPU generator for one epoch's order or one step's augmentation.

    numpy's SeedSequence mixes the three numbers, by an algorithm that numpy promises to keep.
    """
    state = np.random.SeedSequence(seed, spawn_key=(purpose, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
