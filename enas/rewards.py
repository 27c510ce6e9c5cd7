"""From a measurement to the number that a controller maximises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from enas.types import Evaluation, FloatArray

Reward = Callable[[Evaluation], FloatArray]
"""Rewards are at least `FLOOR`."""

FLOOR = 0.0
"""What an architecture gets whose measurement failed: its loss was not a finite number, or it did not fit in memory."""


def accuracy(evaluation: Evaluation) -> FloatArray:
    """Return the accuracy, a fraction in [0, 1], of each architecture (N,); the floor where its loss is not finite."""
    return np.where(np.isfinite(evaluation.loss), evaluation.accuracy, FLOOR)


REWARDS: dict[str, Reward] = {
    "accuracy": accuracy,
}
"""Every reward by its name."""
