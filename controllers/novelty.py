"""Which architectures were measured already, for a strategy that shall not measure one twice. Private to this package."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from controllers.archive import as_rows
from enas.spaces.base import SearchSpace
from enas.spaces.sampling import sample_uniform
from enas.types import IntArray

VARIATIONS = 10
"""How often a child that was measured before is varied again."""
_BLOCKS, _BLOCK = 10, 256  # then so many batches of so many uniform samples are looked through


class Novelty:
    """The architectures measured so far, and the search for others.

    Args: space: D decisions.
    """

    def __init__(self, space: SearchSpace[Any]) -> None:
        self._space = space
        self._size = math.prod(space.num_choices.tolist())
        self._measured: set[tuple[int, ...]] = set()

    def add(self, tokens: IntArray) -> None:
        """Take in measured architectures, int64 (N, D)."""
        self._measured |= set(map(tuple, tokens.tolist()))

    def renew(self, children: IntArray, vary: Callable[[int], IntArray], rng: np.random.Generator) -> None:
        """Replace, in place, children that were measured before or repeat an earlier one of the batch.

        They are varied again, then drawn uniformly. Where that finds no new architecture either (almost all members of the space
        have been measured), they stay as they are.

        Args: children: int64 (N, D). vary: makes so many other children.
        """
        for _ in range(VARIATIONS if len(self._measured) < self._size else 0):
            known = self._known(children)
            if not len(known):
                return
            children[known] = vary(len(known))
        for index in self._known(children):
            batch = set(map(tuple, children.tolist()))
            children[index] = self._unlike(batch, rng, otherwise=children[index])

    def rows(self) -> list[list[int]]:
        """Return the measured architectures, sorted, for a checkpoint."""
        return sorted(map(list, self._measured))

    def load_rows(self, rows: Any) -> None:
        """Restore what `rows` returned. Raises ValueError for another width."""
        self._measured.clear()
        self.add(as_rows(rows, len(self._space.decisions)))

    def _known(self, children: IntArray) -> IntArray:
        """Return the indices of children that are not new."""
        batch: set[tuple[int, ...]] = set()
        known = []
        for index, row in enumerate(map(tuple, children.tolist())):
            if row in self._measured or row in batch:
                known.append(index)
            batch.add(row)
        return np.array(known, dtype=np.int64)

    def _unlike(self, batch: set[tuple[int, ...]], rng: np.random.Generator, *, otherwise: IntArray) -> IntArray:
        """Return a uniform sample that is new, also to its batch."""
        num_taken = len(self._measured) + len(batch - self._measured)
        for _ in range(_BLOCKS if num_taken < self._size else 0):
            samples = sample_uniform(self._space, _BLOCK, rng).tolist()
            new = [row for row in map(tuple, samples) if row not in self._measured and row not in batch]
            if new:
                return np.array(new[0], dtype=np.int64)
        return otherwise
