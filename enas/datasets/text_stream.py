"""Minibatches of a text for truncated back-propagation through time: a pure function of (seed, step), as those of images are.

The text is cut into as many rows of equal length as a minibatch has; step by step all of them are read in parallel from left to
right, so that a network can carry its state from one minibatch to the next (`Batch.starts_afresh` says where it can't).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from enas.datasets.data import Batch
from enas.datasets.random_lengths import LEAST, RandomLengths
from enas.datasets.text_source import unit_of
from enas.seeding import derive_generator

if TYPE_CHECKING:
    from enas.datasets.text import TextSplit

_LEAST_REST = 2  # tokens of a row that are worth a minibatch of their own (authors)


class TextStream:
    """Endless minibatches of one split, pass after pass over the text.

    A row has L = (N - 1) // B places, each with a token and the one after it; the fewer than B tokens that remain are left out.
    Without random lengths every minibatch has bptt tokens of each row, and a pass leaves out what does not fill one, so that all
    rewards are measured on as many tokens. With them a pass uses its rows up, has lengths of its own, and a step's learning rate
    goes with its length (`Batch.rate`: length / bptt).

    Args:
        split: the text; moved to `device` once.
        batch_size: B, from 1 to the number of sequences of the split, so that a row has at least one.
        seed: at least 0; with `step` it decides every length.
        lengths: how they vary; None for bptt tokens always.
        device: where minibatches are made.

    Attributes:
        batch_size: B.
        num_batches: minibatches of a pass; with random lengths a number near it, the same for every seed.
    """

    def __init__(
        self,
        split: TextSplit,
        *,
        batch_size: int,
        seed: int,
        lengths: RandomLengths | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 1 <= batch_size <= len(split):
            raise ValueError(f"batch_size: expected 1 to {len(split)}, the number of {unit_of(split.bptt)}, got {batch_size}")
        if seed < 0:
            raise ValueError(f"seed: expected at least 0, got {seed}")
        self.batch_size = batch_size
        self._split = split.to(torch.device(device))
        self._bptt = split.bptt
        self._seed = seed
        self._lengths = lengths
        self._rows = in_rows(self._split.tokens, batch_size)  # (B, L + 1)
        mean = split.bptt if lengths is None else lengths.mean(split.bptt)
        self.num_batches = self._length // split.bptt if lengths is None else max(1, round(self._length / mean))
        self._first_steps = [0]  # of each pass that is known, and of the one after
        self._latest_ends: tuple[int, list[int]] | None = None  # a cache: the latest pass and where its minibatches end

    @property
    def _length(self) -> int:
        """L."""
        return self._rows.shape[1] - 1

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; the same for the same (seed, step), whatever was asked for before.

        Raises:
            ValueError: step is negative.
        """
        if step < 0:
            raise ValueError(f"step: expected at least 0, got {step}")
        start, end = self._place(step)
        rate = 1.0 if self._lengths is None else (end - start) / self._bptt
        return _cut(self._rows, start, end, rate=rate)

    def whole(self, batch_size: int) -> Iterator[Batch]:
        """Yield the text once, bptt tokens of each row at a time; the last batch may be shorter.

        Args: batch_size: rows; there are fewer where they would be shorter than a sequence.

        Raises:
            ValueError: batch_size is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        return self._whole(min(batch_size, len(self._split)))

    def _whole(self, num_rows: int) -> Iterator[Batch]:
        rows = in_rows(self._split.tokens, num_rows)
        length = rows.shape[1] - 1
        for start in range(0, length, self._bptt):
            yield _cut(rows, start, min(start + self._bptt, length), rate=1.0)

    def _place(self, step: int) -> tuple[int, int]:
        """Return where in the rows a step's minibatch starts and ends."""
        if self._lengths is None:
            start = step % self.num_batches * self._bptt
            return start, start + self._bptt
        while self._first_steps[-1] <= step:
            number = len(self._first_steps) - 1
            self._first_steps.append(self._first_steps[-1] + len(self._ends(number, self._lengths)))
        number = bisect_right(self._first_steps, step) - 1
        index = step - self._first_steps[number]
        ends = self._ends(number, self._lengths)
        return ends[index - 1] if index else 0, ends[index]

    def _ends(self, number: int, lengths: RandomLengths) -> list[int]:
        """Return where in the rows the minibatches of a pass end; the last one takes what is not worth one of its own."""
        if self._latest_ends is None or self._latest_ends[0] != number:
            generator = derive_generator(self._seed, "lengths", number)
            most = self._length // min(LEAST, self._bptt) + 1
            ends = lengths.draw(most, bptt=self._bptt, generator=generator).cumsum(0)
            before_last = ends[ends <= self._length - _LEAST_REST].tolist()
            self._latest_ends = (number, [*before_last, self._length])
        return self._latest_ends[1]


def in_rows(tokens: Tensor, num_rows: int) -> Tensor:
    """Cut a text into rows, each with the token after its last one.

    Args: tokens: int64 (N,).
    Returns: a view, int64 (num_rows, L + 1) with L = (N - 1) // num_rows; a row's last token is the first of the next row.
    """
    length = (len(tokens) - 1) // num_rows
    return tokens[: num_rows * length + 1].unfold(0, length + 1, length)


def _cut(rows: Tensor, start: int, end: int, *, rate: float) -> Batch:
    labels = rows[:, start + 1 : end + 1].reshape(-1)  # (B * T,)
    return Batch(inputs=rows[:, start:end], labels=labels, starts_afresh=start == 0, rate=rate)
