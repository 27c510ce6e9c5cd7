"""What the runs of a comparison gave: one outcome a strategy and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from enas.compare.budget import Budget
from enas.metrics import ACCURACY, Metric
from enas.types import FloatArray

Front = tuple[FloatArray, FloatArray]
"""Costs (K,), rising, and the best value (K,), of the metric, of what costs as much or less."""


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """The architectures that a run measured, in order.

    Attributes:
        rewards: (n,), n >= 1.
        values: (n,), of the metric, of the measurements that rewards come from; NaN where an architecture failed.
        seconds: (n,), how long the run had taken when each was measured; never falling.
        truths: (n,), fractions, the judged accuracy of each; None where it is not known.
    """

    rewards: FloatArray
    values: FloatArray
    seconds: FloatArray
    truths: FloatArray | None = None


SEARCH_SECONDS = "seconds of search"
"""Name of what `Outcome.spent` has where budgets are seconds by the clock."""
LARGEST_DEVIATION = 0.1
"""How far apart, in shares of the budget, strategies' seconds may be for budgets to count as equal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a run gave.

    Attributes:
        strategy: label of the strategy.
        seed: of the run.
        measures: what its answer reached, values of the metric by name of the measure.
        history: what it measured on the way.
        spent: what it took, numbers by name: `architectures`, `seconds`, ...
        fronts: what a good result costs in this run, by the cost's name; see `front_of`.
        machine: where it ran, in words; empty where it plays no part.
    """

    strategy: str
    seed: int
    measures: Mapping[str, float]
    history: History
    spent: Mapping[str, float]
    fronts: Mapping[str, Front] = field(default_factory=dict)
    machine: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Everything that a report is written from.

    Attributes:
        title: what is compared, in a line.
        facts: what holds for all runs, by name, in words; shown as they are.
        strategies: by label, how each differs from the settings that all share, in words.
        reference: label of random search.
        names: by label, the strategy's name; variants of a strategy share it.
        seeds: of every strategy.
        budget: of every run.
        measures: by name, what it means; the first one is judged, the others are shown beside it.
        metric: what the measures are of.
        is_proxy: whether the judged measure is not that of a network trained alone.
        outcomes: of the runs that ended.
        failures: by run (`label, seed 3`), why it gave no answer.
        simulates: whether seconds are simulated ones.
        best_truth: the highest judged accuracy that there is; None where it is not known.
        sampling: what a single random architecture reaches on average, in the judged measure; None where it is not known.
        machines: where runs were made.
        total_seconds: what the runs that ended took by the clock; None where it was not taken.
        tuned: by label, how a strategy's settings differ from its defaults, in words; empty where they do not.
        command: that made the runs.
    """

    title: str
    facts: Mapping[str, str]
    strategies: Mapping[str, str]
    names: Mapping[str, str]
    reference: str
    seeds: Sequence[int]
    budget: Budget
    measures: Mapping[str, str]
    outcomes: Sequence[Outcome]
    metric: Metric = ACCURACY
    is_proxy: bool = False
    failures: Mapping[str, str] = field(default_factory=dict)
    simulates: bool = False
    best_truth: float | None = None
    sampling: float | None = None
    machines: Sequence[str] = ()
    total_seconds: float | None = None
    tuned: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    @property
    def judged(self) -> str:
        """Name of the measure that strategies are judged by."""
        return next(iter(self.measures))

    @property
    def deviations(self) -> dict[str, float]:
        """By strategy, how far its searches' mean seconds are from a budget of seconds, a fraction of it; else empty."""
        if self.budget.kind != "seconds":
            return {}
        taken = {name: [one.spent[SEARCH_SECONDS] for one in self.of(name)] for name in self.strategies}
        return {name: float(np.mean(runs)) / self.budget.amount - 1 for name, runs in taken.items() if runs}

    @property
    def has_equal_budgets(self) -> bool:
        """Whether no strategy took more than `LARGEST_DEVIATION` of the budget longer than another."""
        deviations = self.deviations.values() or [0.0]
        return max(deviations) - min(deviations) <= LARGEST_DEVIATION

    def of(self, strategy: str) -> list[Outcome]:
        """Return a strategy's outcomes by seed."""
        return sorted((one for one in self.outcomes if one.strategy == strategy), key=lambda one: one.seed)

    def values(self, measure: str) -> dict[str, dict[int, float]]:
        """Return a measure by strategy and seed."""
        return {
            strategy: {one.seed: one.measures[measure] for one in self.of(strategy) if measure in one.measures}
            for strategy in self.strategies
        }


def front_of(costs: FloatArray, values: FloatArray, metric: Metric = ACCURACY) -> Front | None:
    """Return the best value at each cost or below, over architectures (n,); None where all of them failed.

    Args: costs, values: (n,); an architecture of which either is not finite is left out. metric: of the values.
    """
    usable = np.isfinite(costs) & np.isfinite(values)
    if not usable.any():
        return None
    scores = metric.scores(values[usable])
    order = np.lexsort((-scores, costs[usable]))
    rising, best = costs[usable][order], np.maximum.accumulate(scores[order])
    is_better = np.concatenate([[True], best[1:] > best[:-1]])
    return rising[is_better], metric.scores(best[is_better])
