"""A text as tokens, which are words or characters, and tokens as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from enas.data_configs import TextLevel
from enas.types import IntArray

UNKNOWN = "<unk>"
"""The token that stands for all that the vocabulary lacks."""
END_OF_LINE = "<eos>"
"""The token that a line of words ends with; a text of characters has its line breaks themselves."""


def split_text(text: str, level: TextLevel) -> Sequence[str]:
    """Return a text's tokens: its characters, or its words between blanks with `END_OF_LINE` at each line's end.

    The last line ends, too, if it has no line break; an empty text has no line. Words that are `END_OF_LINE` or `UNKNOWN`
    already, as the Penn Treebank's `<unk>`, are these tokens.
    """
    if level == "char":
        return text
    ended = text if not text or text.endswith("\n") else f"{text}\n"
    return ended.replace("\n", f" {END_OF_LINE} ").split()


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The different tokens of a text, each with its number.

    Attributes:
        tokens: in the order of their numbers, which start at 0.
        level: what a token is.
    """

    tokens: tuple[str, ...]
    level: TextLevel = "word"

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def numbers(self, tokens: Sequence[str]) -> IntArray:
        """Return the tokens' numbers, int64 (N,).

        Raises: ValueError naming a token that is not in the vocabulary, where there is no `UNKNOWN` for it.
        """
        numbers, unknown = self._numbers, self._numbers.get(UNKNOWN)
        try:
            values = [numbers[token] if unknown is None else numbers.get(token, unknown) for token in tokens]
        except KeyError as error:
            raise ValueError(f"text: expected tokens of a vocabulary of {len(self)}, got {error.args[0]!r}") from error
        return np.array(values, dtype=np.int64)

    def encode(self, text: str) -> IntArray:
        """Split a text and return its tokens' numbers, int64 (N,). Raises ValueError as `numbers` does."""
        return self.numbers(split_text(text, self.level))

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text that numbers stand for: words between blanks, a line break for each `END_OF_LINE`.

        A word of the text that is `<eos>` itself comes back as a line break; `<unk>` stays, be it a word of the text or not.
        """
        tokens = [self.tokens[number] for number in numbers]
        if self.level == "char":
            return "".join(tokens)
        lines: list[list[str]] = [[]]
        for token in tokens:
            if token == END_OF_LINE:
                lines.append([])
            else:
                lines[-1].append(token)
        return "\n".join(" ".join(line) for line in lines)


def all_tokens(tokens: Iterable[str], level: TextLevel = "word") -> Vocabulary:
    """Return the vocabulary of a text that is complete: the most frequent token is 0, ties go by the alphabet."""
    return Vocabulary(tokens=tuple(_by_frequency(Counter(tokens))), level=level)


def frequent_tokens(tokens: Iterable[str], level: TextLevel, *, most: int) -> Vocabulary:
    """Return a vocabulary of `UNKNOWN`, which is 0, and a text's most frequent tokens.

    A token that the text has once only is left out wherever there is room: that is what a network learns `UNKNOWN` from, and
    about as often it meets a new token in another text (Good 1953).

    Args: most: size of the vocabulary, `UNKNOWN` included, at least 2.
    """
    counts = Counter(tokens)
    counts.pop(UNKNOWN, None)
    kept = [token for token in _by_frequency(counts) if counts[token] > 1]
    return Vocabulary(tokens=(UNKNOWN, *kept[: most - 1]), level=level)


def _by_frequency(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda token: (-counts[token], token))
