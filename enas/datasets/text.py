"""A text as token numbers in three disjoint splits, with its vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from enas.configs import InputKind
from enas.data_configs import AugmentConfig
from enas.datasets.data import Data
from enas.datasets.random_lengths import RandomLengths
from enas.datasets.text_source import num_sequences, unit_of
from enas.datasets.text_stream import TextStream
from enas.datasets.vocabulary import Vocabulary
from enas.metrics import MetricName

VOCABULARY_FILE = "vocabulary.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class TextSplit:
    """A part of a text; its examples are sequences of bptt tokens, each with the token after it.

    Attributes:
        tokens: int64 (N,), from 0.
        bptt: tokens of a sequence, at least 1.
    """

    tokens: Tensor
    bptt: int

    def __post_init__(self) -> None:
        """Refuse what is no text."""
        if self.tokens.dtype != torch.int64 or self.tokens.dim() != 1:
            raise ValueError(f"tokens: expected torch.int64 (N,), got {self.tokens.dtype} {tuple(self.tokens.shape)}")
        if self.bptt < 1:
            raise ValueError(f"bptt: expected at least 1, got {self.bptt}")

    def __len__(self) -> int:
        return num_sequences(len(self.tokens), self.bptt)

    def to(self, device: torch.device) -> Self:
        """Return the split on a device, so that several streams over it share one copy there."""
        return replace(self, tokens=self.tokens.to(device))

    def first(self, count: int) -> Self:
        """Return the first sequences, at most all, and the token after them."""
        return replace(self, tokens=self.tokens[: count * self.bptt + 1])


@dataclass(frozen=True, eq=False, kw_only=True)
class TextData(Data):
    """A text, split.

    A whole split is measured in rows that are read side by side, each from an empty state: the shared weights' in as many as
    `shared.valid_batch_size` says, a network trained from scratch in 10, as AWD-LSTM's validation split; `enas_lm` tests in one.

    Attributes:
        name: the source it was loaded from, such as `ptb:DIR`.
        train: what weights are trained on.
        valid: what architectures are compared on.
        test: read only after the search is over.
        vocabulary: the tokens by their numbers.
        augmentation: how the lengths of training sequences vary; None: not at all.
    """

    name: str
    train: TextSplit
    valid: TextSplit
    test: TextSplit
    vocabulary: Vocabulary
    augmentation: RandomLengths | None = None
    kind: ClassVar[InputKind] = "text"
    metric: ClassVar[MetricName] = "perplexity"
    whole_batch_size: ClassVar[int] = 10

    def __post_init__(self) -> None:
        """Refuse splits of other sequences than the training split's, and numbers out of the vocabulary."""
        for which, split in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            if split.bptt != self.train.bptt:
                raise ValueError(f"{self.name}: {which}: expected {self.unit}, got {unit_of(split.bptt)}")
            tokens = split.tokens
            if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.num_classes:
                got = f"{int(tokens.min())} to {int(tokens.max())}"
                raise ValueError(f"{self.name}: {which}: expected tokens in 0..{self.num_classes - 1}, got {got}")

    @property
    def num_classes(self) -> int:  # type: ignore[override]  # of images it is a number of their own
        """The size of the vocabulary."""
        return len(self.vocabulary)

    @property
    def unit(self) -> str:  # type: ignore[override]  # of images it is a constant
        """What its examples are called, in the plural."""
        return unit_of(self.train.bptt)

    @property
    def input_shape(self) -> tuple[()]:
        """()."""
        return ()

    def with_valid_in_train(self) -> Self:
        """Return the data for retraining: train and then valid to train on, an empty valid split, the same test split."""
        train = replace(self.train, tokens=torch.cat([self.train.tokens, self.valid.tokens]))
        return replace(self, train=train, valid=replace(self.valid, tokens=self.valid.tokens[:0]))

    def measured(self, split: TextSplit) -> TextSplit:
        """Return a split as it is: a text is read in its own order."""
        return split

    def stream(
        self,
        split: TextSplit,
        *,
        batch_size: int,
        seed: int,
        augmentation: RandomLengths | None = None,
        device: torch.device | str = "cpu",
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> TextStream:
        """Return minibatches of a split, of random lengths if `augmentation` says so; see `Data.stream`."""
        del memory_format  # tokens have only one
        return TextStream(split, batch_size=batch_size, seed=seed, lengths=augmentation, device=device)

    def varied(self, config: AugmentConfig) -> RandomLengths | None:
        """Return how lengths vary. Raises ValueError where it is asked for what only images can have."""
        config.require_kind(self.kind)
        return self.augmentation

    def preparation(self) -> dict[str, str]:
        """Return what a token is, and the file that holds the tokens in the order of their numbers."""
        return {"level": self.vocabulary.level, "vocabulary": VOCABULARY_FILE}

    def files(self) -> Mapping[str, str]:
        """Return the vocabulary, a JSON list."""
        return {VOCABULARY_FILE: json.dumps(self.vocabulary.tokens, ensure_ascii=False, separators=(",", ":")) + "\n"}

    def encode(self, text: str) -> Tensor:
        """Return a text's token numbers, int64 (N,). Raises ValueError for a token that nothing stands for."""
        return torch.from_numpy(self.vocabulary.encode(text))

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """Return the text that token numbers, (N,), stand for."""
        return self.vocabulary.decode(tokens.tolist() if isinstance(tokens, Tensor) else tokens)
