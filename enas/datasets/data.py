"""What training, measuring and reporting need of a data set, whatever its examples are: images with labels, or a text.

A data set is three splits of examples and makes streams of minibatches over them. An example is an image, or a text's sequence of
as many tokens as back-propagation goes through; a label is an image's class, or a token's successor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from enas.configs import InputKind
from enas.data_configs import AugmentConfig
from enas.metrics import MetricName


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """A minibatch on the stream's device.

    Attributes:
        inputs: float (B, C, H, W), images normalised per channel; or int64 (B, T), tokens of B places of a text.
        labels: int64 (B,), classes; or int64 (B * T,), the token that follows each input, row after row.
        starts_afresh: whether it does not continue the batch before it, as sequences of a text do; then nothing is carried over.
        rate: factor of the learning rate, for a step on less or more than usual.
    """

    inputs: Tensor
    labels: Tensor
    starts_afresh: bool = True
    rate: float = 1.0


class Stream(Protocol):
    """Endless minibatches of one split: a pure function of (seed, step).

    Attributes:
        batch_size: B.
        num_batches: minibatches of an epoch, which is one pass over the split, of texts about one.
    """

    batch_size: int
    num_batches: int

    def batch(self, step: int) -> Batch:
        """Return the minibatch of a step, at least 0; the same for the same (seed, step), whatever was asked for before."""
        ...

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Yield the split once, in order and unvaried. Raises ValueError for a batch size below 1."""
        ...


class Split(Protocol):
    """A part of a data set; its length is the number of its examples."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def to(self, device: torch.device) -> Self:
        """Return the split on a device, so that several streams over it share one copy there."""
        ...

    def first(self, count: int) -> Self:
        """Return the first examples, at most all."""
        ...


class Data(ABC):
    """A data set, split.

    Attributes:
        name: the source it was loaded from, such as `cifar10`.
        train: what weights are trained on.
        valid: what architectures are compared on; never varied.
        test: read only after the search is over.
        num_classes: labels are in 0..num_classes-1; of a text, the size of its vocabulary.
        augmentation: how training minibatches of this data set are usually varied; None: not at all.
        unit: what its examples are called, in the plural.
        kind: what networks get to see.
        metric: how results are told.
        whole_batch_size: examples at once where a network that is trained from scratch is measured on a whole split; of a text,
            rows that start from an empty state each.
    """

    name: str
    train: Any
    valid: Any
    test: Any
    num_classes: int
    augmentation: Any
    unit: str
    kind: ClassVar[InputKind]
    metric: ClassVar[MetricName]
    whole_batch_size: ClassVar[int]

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """(C, H, W) of images; () of texts, whose inputs are token numbers."""

    @abstractmethod
    def with_valid_in_train(self) -> Self:
        """Return the data for retraining: train + valid to train on, an empty valid split, the same test split."""

    def with_valid(self, split: Any) -> Self:
        """Return the data with another split in the place of its validation split."""
        return replace(self, valid=split)  # type: ignore[type-var]  # every data set is a dataclass

    @abstractmethod
    def measured(self, split: Any) -> Any:
        """Return a split in the order in which architectures are measured on it, the same in every run."""

    @abstractmethod
    def stream(
        self,
        split: Any,
        *,
        batch_size: int,
        seed: int,
        augmentation: Any = None,
        device: torch.device | str = "cpu",
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> Stream:
        """Return minibatches of one of the splits, or of a part of one.

        Args:
            split: moved to `device` once.
            batch_size: from 1 to the number of examples.
            seed: at least 0.
            augmentation: how minibatches are varied, such as `augmentation` of the data; None for validation and test.
            device: where minibatches are made.
            memory_format: of images.

        Raises: ValueError for what does not fit.
        """

    @abstractmethod
    def varied(self, config: AugmentConfig) -> Any:
        """Return the data's own augmentation with the configured changes. Raises ValueError for one that it cannot have."""

    @abstractmethod
    def preparation(self) -> dict[str, Any]:
        """Return how raw examples become inputs, as JSON types, to be kept beside a network that is taken elsewhere."""

    def files(self) -> Mapping[str, str]:
        """Return texts to be kept beside such a network as files of their own, by name; by default none."""
        return {}


def even_chunk(split: Split, most: int) -> int:
    """Return a chunk size of at most `most` that cuts a split into pieces of nearly equal size.

    BatchNorm's batch statistics on a short last piece would be another measurement than on the rest.
    """
    pieces = -(-len(split) // most)
    return -(-len(split) // pieces)
