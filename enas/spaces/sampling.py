"""Drawing and varying architectures by their decisions alone: uniform samples, mutation, crossover. For every space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from enas.spaces.base import SearchSpace
from enas.types import IntArray

_BLOCK = 256  # rows drawn at a time, whatever is asked for


def sample_uniform(space: SearchSpace[Any], num_architectures: int, rng: np.random.Generator) -> IntArray:
    """Draw each decision uniformly and independently.

    Returns: tokens, int64 (num_architectures, D).
    """
    return rng.integers(space.num_choices, size=(num_architectures, len(space.decisions)), dtype=np.int64)


def sample_distinct(space: SearchSpace[Any], num_architectures: int, rng: np.random.Generator) -> IntArray:
    """Draw architectures uniformly without repetition; asking for more begins with the same ones.

    Returns: tokens, int64 (num_architectures, D).
    Raises: ValueError where the space has fewer.
    """
    size = math.prod(space.num_choices.tolist())
    if num_architectures > size:
        raise ValueError(f"{space.name}: expected at most its {size} architectures, got {num_architectures}")
    found: dict[tuple[int, ...], None] = {}
    while len(found) < num_architectures:
        found |= dict.fromkeys(map(tuple, sample_uniform(space, _BLOCK, rng).tolist()))
    return np.array(list(found)[:num_architectures], dtype=np.int64).reshape(num_architectures, len(space.decisions))


def mutate(space: SearchSpace[Any], tokens: IntArray, rng: np.random.Generator, *, probability: float) -> IntArray:
    """Give each decision, with the given probability, one of its other choices (uniformly).

    Args: tokens: int64 (N, D). probability: in [0, 1].
    Returns: new tokens, int64 (N, D); decisions with a single choice stay as they are.
    """
    others = np.maximum(space.num_choices - 1, 1)
    changes = (rng.random(tokens.shape) < probability) & (space.num_choices > 1)
    shift = 1 + rng.integers(others, size=tokens.shape)
    return np.where(changes, (tokens + shift) % space.num_choices, tokens)


def mutate_one(space: SearchSpace[Any], tokens: IntArray, rng: np.random.Generator) -> IntArray:
    """Change exactly one decision of each row to another choice (Real et al. 2019), all decisions alike.

    Args: tokens: int64 (N, D).
    Returns: new tokens, int64 (N, D); unchanged where the space has a single member.
    """
    open_decisions = np.flatnonzero(space.num_choices > 1)
    if open_decisions.size == 0:
        return tokens.copy()
    rows = np.arange(len(tokens))
    columns = rng.choice(open_decisions, size=len(tokens))
    result = tokens.copy()
    shift = 1 + rng.integers(space.num_choices[columns] - 1)
    result[rows, columns] = (tokens[rows, columns] + shift) % space.num_choices[columns]
    return result


def crossover(first: IntArray, second: IntArray, rng: np.random.Generator) -> IntArray:
    """Take each decision from either parent with probability 1/2 (uniform crossover, as in SPOS, Guo et al. 2020).

    Args: first, second: int64 (N, D).
    Returns: new tokens, int64 (N, D).
    """
    return np.where(rng.random(first.shape) < 0.5, first, second)
