"""What a source of texts is: tokens straight from its files, and how they are split and numbered.

A text is split in its own order, without any randomness: what trains comes first, then what validates, then what tests.
Imports numpy only, so that the table of sources can be read without waiting for torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from enas.configs import require
from enas.data_configs import TextConfig
from enas.datasets.source import Looks, SplitSizes
from enas.datasets.vocabulary import Vocabulary, frequent_tokens
from enas.types import IntArray

LEAST_TOKENS = 2
"""Of each part: the least that anything can be predicted in."""


class PartSizes(NamedTuple):
    """Numbers of tokens that train, validate and test."""

    train: int
    valid: int
    test: int


@dataclass(frozen=True, eq=False, kw_only=True)
class RawText:
    """The tokens that a source comes with.

    Attributes:
        rest: all but the ones below, in their order.
        test: what tests.
        valid: what validates, where the source says so; None: the last of the rest do, by default as many as test.
        vocabulary: of a source that has its own; None: it is made of the tokens that train.
        num_unread: bytes of a file beyond what was read; they are so many tokens more at most.
    """

    rest: Sequence[str]
    test: Sequence[str]
    valid: Sequence[str] | None = None
    vocabulary: Vocabulary | None = None
    num_unread: int = 0

    def part_sizes(self, *, num_valid: int | None, num_train: int | None) -> PartSizes:
        """Return how many tokens of the source train, validate and test; of one that was not read in full, at most.

        Args: num_valid, num_train: as in `enas.datasets.load_data`.
        Raises: ValueError where the tokens do not suffice.
        """
        rest, test = len(self.rest) + self.num_unread, len(self.test) + self.num_unread
        if self.valid is None:
            least = num_valid
            if least is None:
                least = max(len(self.test), LEAST_TOKENS) if self.num_unread else len(self.test)
            self._check_count("num_valid", least, most=rest - LEAST_TOKENS, total=rest)
            rest -= least
            valid = test if num_valid is None else num_valid
        else:
            expected = f"None, since the data set has {len(self.valid)} validation tokens of its own"
            require(num_valid is None, "split.num_valid", expected, num_valid)
            valid = len(self.valid)
        train = rest if num_train is None else num_train
        self._check_count("num_train", train, most=rest, total=rest)
        return PartSizes(train, valid, test)

    def _check_count(self, name: str, count: int, *, most: int, total: int) -> None:
        expected = f"{LEAST_TOKENS} to {most} of the {self.up_to}{total} training tokens"
        require(LEAST_TOKENS <= count <= most, name, expected, count)

    @property
    def up_to(self) -> str:
        """What stands before a number of tokens in a message; nothing where all were read."""
        return "at most " if self.num_unread else ""


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """One text of the table of data sets.

    Attributes:
        read: reads the tokens, given the path that the source takes and how texts are read.
        peek: the same in well under a second, where need be of a part of the source.
        takes: what follows the name and a colon, such as FILE; None: nothing.
        looks: of the published text that it is made for, which holds where there are no files; None: it is made for any.
    """

    read: Callable[[Path, TextConfig], RawText]
    peek: Callable[[Path, TextConfig], RawText]
    takes: str | None = None
    looks: Looks | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class NumberedText:
    """A text as numbers, split.

    Attributes:
        vocabulary: of the training tokens, or the source's own.
        parts: what trains, validates and tests, int64 (N,) each, in 0..len(vocabulary)-1.
    """

    vocabulary: Vocabulary
    parts: tuple[IntArray, IntArray, IntArray]


def check_text(
    name: str, raw: RawText, config: TextConfig, *, num_valid: int | None = None, num_train: int | None = None
) -> SplitSizes:
    """Return the numbers of sequences of a text's parts; of one that was not read in full, the most there can be.

    Args: name: of the source, for messages. num_valid, num_train: as in `enas.datasets.load_data`.
    Raises: ValueError where one of the parts has not a single sequence.
    """
    sizes = raw.part_sizes(num_valid=num_valid, num_train=num_train)
    for purpose, count in zip(("train on", "validate on", "test on"), sizes, strict=True):
        expected = f"at most {count - 1}, since {name} has {raw.up_to}{count} tokens to {purpose}"
        require(config.bptt < count, "text.bptt", expected, config.bptt)
    train, valid, test = (num_sequences(count, config.bptt) for count in sizes)
    return SplitSizes(train=train, valid=valid, test=test, unit=unit_of(config.bptt), kind="text")


def number_text(
    name: str, raw: RawText, config: TextConfig, *, num_valid: int | None = None, num_train: int | None = None
) -> NumberedText:
    """Split a text and number its tokens. Args and Raises: as in `check_text`."""
    sizes = raw.part_sizes(num_valid=num_valid, num_train=num_train)
    train = raw.rest[: sizes.train]
    valid = raw.rest[len(raw.rest) - sizes.valid :] if raw.valid is None else raw.valid
    vocabulary = raw.vocabulary or frequent_tokens(train, config.level, most=config.vocabulary)
    if len(vocabulary) < 2:
        raise ValueError(f"{name}: expected a text whose tokens recur, got {len(train):,} that are all different")
    first, second, third = (vocabulary.numbers(part) for part in (train, valid, raw.test))
    return NumberedText(vocabulary=vocabulary, parts=(first, second, third))


def text_looks(
    name: str, raw: RawText, config: TextConfig, *, num_valid: int | None = None, num_train: int | None = None
) -> Looks | None:
    """Return what a network has to know of a text; None where only a part of it was read. Args and Raises: as in `check_text`."""
    if raw.num_unread:
        return None
    vocabulary = number_text(name, raw, config, num_valid=num_valid, num_train=num_train).vocabulary
    return Looks((), len(vocabulary))


def num_sequences(num_tokens: int, bptt: int) -> int:
    """Return how many whole sequences there are in a text, the last of them with a token after it."""
    return max(num_tokens - 1, 0) // bptt


def unit_of(bptt: int) -> str:
    """Return what the examples of a text are called."""
    return f"sequences of {bptt} tokens"
