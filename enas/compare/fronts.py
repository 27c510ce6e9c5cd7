"""What accuracy costs: the Pareto fronts of the architectures that strategies measured.

The accuracy is the one that was measured in the search, never one on the test split: who picks an architecture from a front has
chosen it by what the search knew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enas.compare.outcomes import Outcome
from enas.pareto import pareto_front
from enas.types import FloatArray

Front = tuple[FloatArray, FloatArray]
"""Costs (K,), rising, and accuracies (K,), fractions, of the architectures that no other beats in both."""


def cost_names(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the costs that every run knows of all its architectures."""
    names = [set(one.history.costs) for one in outcomes]
    return sorted(set.intersection(*names)) if names else []


def front_of(outcomes: Sequence[Outcome], cost: str) -> Front:
    """Return the front of all that runs measured, over their seeds; architectures that failed are left out."""
    accuracies = np.concatenate([one.history.accuracies for one in outcomes])
    costs = np.concatenate([one.history.costs[cost] for one in outcomes])
    points = np.unique(np.stack([costs, accuracies]), axis=1)  # of the same point once
    points = points[:, np.isfinite(points).all(axis=0)]
    front = pareto_front(points[1], points[0])
    return points[0, front], points[1, front]
