"""The best architectures seen so far, and how a strategy nominates some for the final ranking. Private to this package.

The archive and `nominate` are for strategies that learn no distribution (`uniform`, `evolution`), `distinct_samples` for those
that learn one.

Shared weights move, so a reward holds for the moment it was measured at: an architecture that is evaluated again keeps its latest
reward, good or bad; one that never is keeps a stale one. That is why the archive only nominates, and the ranking on the
whole validation set decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from enas.spaces.base import SearchSpace
from enas.spaces.sampling import sample_uniform
from enas.types import FloatArray, IntArray, State

DRAWS_PER_CANDIDATE = 10
"""How many uniform samples are tried for each candidate asked for; only a tiny space has too many repeats among them."""
_ROUNDS = 20  # batches of a learned distribution drawn at most in the search for distinct candidates


class Archive:
    """At most `capacity` distinct architectures with the highest latest rewards; of equal ones, those seen earlier.

    Args:
        capacity: most entries kept, at least 1.
        num_decisions: D, the width of a row of tokens.
    """

    def __init__(self, *, capacity: int, num_decisions: int) -> None:
        self._capacity = capacity
        self._num_decisions = num_decisions
        self._reward_of: dict[tuple[int, ...], float] = {}  # in the order of first sight: a dict keeps it when a value changes

    def __len__(self) -> int:
        return len(self._reward_of)

    def add(self, tokens: IntArray, rewards: FloatArray) -> None:
        """Record evaluated architectures in order, then forget the worst beyond `capacity`.

        Args:
            tokens: int64 (N, D), N >= 1.
            rewards: float (N,), finite.

        Raises:
            ValueError: for another shape or a reward that is not finite; nothing is recorded then.
        """
        expected = (len(rewards), self._num_decisions)
        if not len(rewards) or tokens.shape != expected or rewards.shape != expected[:1]:
            raise ValueError(f"expected tokens (N, {expected[1]}) and N >= 1 rewards, got {tokens.shape} and {rewards.shape}")
        if not np.isfinite(rewards).all():
            raise ValueError(f"rewards: expected finite numbers, got {rewards[~np.isfinite(rewards)][0]}")
        for row, reward in zip(tokens.tolist(), rewards.tolist(), strict=True):
            self._reward_of[tuple(row)] = float(reward)
        self._forget_worst()

    def best(self, num_architectures: int | None = None) -> IntArray:
        """Return the `num_architectures` best (None: all), best first: int64 (<= num_architectures, D)."""
        return as_rows(self._ranked()[:num_architectures], self._num_decisions)

    def rewards(self) -> FloatArray:
        """Return the latest rewards in the order of `best`: float (len(self),)."""
        return np.array([self._reward_of[row] for row in self._ranked()], dtype=np.float64)

    def state_dict(self) -> State:
        """Return the entries in the order of first sight."""
        return {"tokens": [list(row) for row in self._reward_of], "rewards": list(self._reward_of.values())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the entries; a smaller capacity than the saved one keeps the best. Raises ValueError for another width."""
        tokens = as_rows(state["tokens"], self._num_decisions).tolist()
        self._reward_of = {tuple(row): float(reward) for row, reward in zip(tokens, state["rewards"], strict=True)}
        self._forget_worst()

    def _ranked(self) -> list[tuple[int, ...]]:
        return sorted(self._reward_of, key=lambda row: -self._reward_of[row])  # a stable sort: equal ones stay in order

    def _forget_worst(self) -> None:
        for row in self._ranked()[self._capacity :]:
            del self._reward_of[row]


def as_rows(rows: Any, num_decisions: int) -> IntArray:
    """Return rows of tokens as int64 (N, D), also where N is 0. Raises ValueError naming the width that was expected."""
    array = np.array(rows, dtype=np.int64)
    if array.size and array.shape[1:] != (num_decisions,):
        raise ValueError(f"expected rows of {num_decisions} tokens, got an array of shape {array.shape}")
    return array.reshape(-1, num_decisions)


def nominate(space: SearchSpace[Any], ranked: IntArray, num_candidates: int, *, seed: int, num_updates: int) -> IntArray:
    """Return the first distinct rows of `ranked`, topped up with fresh uniform samples where they are too few.

    The fresh samples come from `seed` and `num_updates` alone, so that asking for candidates disturbs no later proposal.

    Args:
        space: D decisions.
        ranked: int64 (N, D), best first, repeats allowed.
        num_candidates: K, the most that is returned; a space with few members may give fewer.
        seed: non-negative; the controller's.
        num_updates: how many updates the controller has seen.

    Returns: distinct tokens, int64 (<= K, D).
    """
    distinct = dict.fromkeys(map(tuple, ranked.tolist()))
    if len(distinct) < num_candidates:
        # A spawn key: the entropy (seed, 0) would be the proposals' own generator, for SeedSequence pads with zeros.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(num_updates,)))
        fresh = sample_uniform(space, DRAWS_PER_CANDIDATE * num_candidates, rng)
        distinct |= dict.fromkeys(map(tuple, fresh.tolist()))
    return as_rows(list(distinct)[:num_candidates], len(space.decisions))


def distinct_samples(likeliest: IntArray, draw: Callable[[int], IntArray], num_candidates: int) -> IntArray:
    """Return the likeliest architecture of a distribution and then distinct samples, int64 (<= num_candidates, D).

    A distribution that has settled may give fewer.

    Args: likeliest: int64 (D,). draw: gives so many samples, int64 (N, D).
    """
    rows = [tuple(likeliest.tolist())]
    for _ in range(_ROUNDS):
        if len(set(rows)) >= num_candidates:
            break
        rows += map(tuple, draw(num_candidates).tolist())
    return as_rows(list(dict.fromkeys(rows))[:num_candidates], len(likeliest))
