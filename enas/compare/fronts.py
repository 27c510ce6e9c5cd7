"""What a good result costs: of each run, the best one that it found at a cost or below, and that over a strategy's runs.

A front of all runs together would be one of luck: with 500 runs each strategy finds the best of everything once. A run's front is
a step function of the cost; at each cost the runs of a strategy are summarised as anytime curves are. Results are those that the
search knew, never ones on the test split: who picks an architecture from a front has chosen it by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from enas.compare.curves import NUM_POINTS, Band, band, step_values
from enas.compare.outcomes import Outcome


def cost_names(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the costs of which every run has a front."""
    names = [set(one.fronts) for one in outcomes]
    return sorted(set.intersection(*names)) if names else []


def front_bands(outcomes: Mapping[str, Sequence[Outcome]], cost: str) -> dict[str, Band]:
    """Return the fronts of each strategy that has runs, at costs that they share.

    A strategy's line begins where all of its runs have found something, and ends at the highest cost that improved any run.

    Args: outcomes: by strategy.
    """
    fronts = {name: [one.fronts[cost] for one in runs] for name, runs in outcomes.items() if runs}
    if not fronts:
        return {}
    costs = np.unique(np.concatenate([x for runs in fronts.values() for x, _ in runs]))
    shown = costs[np.unique(np.linspace(0, len(costs) - 1, NUM_POINTS).round().astype(np.int64))]
    bands = {}
    for name, runs in fronts.items():
        start = max(x[0] for x, _ in runs)
        points = np.unique(np.concatenate([[start], shown[shown > start]]))
        bands[name] = band(points, np.array([step_values(x, y, points) for x, y in runs]))
    return bands
