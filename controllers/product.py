"""Independent distributions, one for each decision of a space: sampling, log-probabilities and entropy of their product.

Private to this package. Tables are float (D, C), C the largest number of choices; a decision with fewer has zeros behind them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from controllers.archive import distinct_samples
from enas.spaces.base import SearchSpace
from enas.types import BoolArray, FloatArray, IntArray, Rollout


def choice_mask(space: SearchSpace[Any]) -> BoolArray:
    """Return which entries of a table are choices, boolean (D, C)."""
    mask: BoolArray = np.arange(space.num_choices.max()) < space.num_choices[:, None]
    return mask


def uniform_table(space: SearchSpace[Any]) -> FloatArray:
    """Return uniform distributions (D, C)."""
    table: FloatArray = choice_mask(space) / space.num_choices[:, None]
    return table


def softmax(logits: FloatArray, mask: BoolArray) -> FloatArray:
    """Return the distributions (D, C) of logits (D, C), zero outside the mask."""
    shifted = np.where(mask, logits, -np.inf)
    weights = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    probabilities: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return probabilities


def sample_product(probabilities: FloatArray, num_architectures: int, rng: np.random.Generator) -> Rollout:
    """Draw architectures, with their log-probabilities and the product's entropy, in nats.

    Args: probabilities: (D, C), rows that sum to 1.
    """
    cumulative = np.cumsum(probabilities, axis=1)
    last = probabilities.shape[1] - 1 - (probabilities[:, ::-1] > 0).argmax(axis=1)  # rounding must not lead behind it
    drawn = rng.random((num_architectures, len(probabilities), 1))
    tokens = np.minimum((drawn >= cumulative).sum(axis=2), last).astype(np.int64)
    entropy = np.full(num_architectures, table_entropy(probabilities).sum())
    return Rollout(tokens=tokens, log_prob=log_prob(probabilities, tokens), entropy=entropy)


def log_prob(probabilities: FloatArray, tokens: IntArray) -> FloatArray:
    """Return the log-probability of each architecture, (N,), nats, for tokens int64 (N, D)."""
    chosen = probabilities[np.arange(len(probabilities)), tokens]  # (N, D)
    total: FloatArray = np.log(np.maximum(chosen, _TINY)).sum(axis=1)
    return total


def table_entropy(probabilities: FloatArray) -> FloatArray:
    """Return the entropy of each row, (D,), nats."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    entropy: FloatArray = -(probabilities * logs).sum(axis=1)
    return entropy


def likely_architectures(probabilities: FloatArray, num_architectures: int, *, seed: np.random.SeedSequence) -> IntArray:
    """Return the most likely architecture and then distinct samples, int64 (<= num_architectures, D).

    Args: seed: of the samples, so that asking disturbs no later proposal.
    """
    rng = np.random.default_rng(seed)
    likeliest: IntArray = probabilities.argmax(axis=1)
    return distinct_samples(likeliest, lambda count: sample_product(probabilities, count, rng).tokens, num_architectures)


def require_shape(name: str, values: Any, expected: tuple[int, ...]) -> None:
    """Refuse a saved table of another space. Raises ValueError. Args: values: a tensor or an array."""
    if tuple(values.shape) != expected:
        raise ValueError(f"{name}: expected the state of a space with a table {expected}, got {tuple(values.shape)}")


_TINY = np.finfo(np.float64).tiny  # in place of a probability that is too small for a number
