"""What a benchmark's table says of a finished trial: of its answer after 200 epochs, and of all that it measured.

Test accuracies are read here, when nothing is chosen any more.
"""

from __future__ import annotations

from collections.abc import Mapping

from enas.compare.outcomes import History, Outcome, front_of
from enas.compare.trials import Trial
from enas.tables import BenchmarkTable, Split
from enas.types import FloatArray

SPLITS: tuple[Split, ...] = ("test", "valid")
SPLIT_NAMES: dict[Split, str] = {"test": "test", "valid": "validation"}
BEST_REWARD = "best reward"
"""Name of the measure that strategies maximise."""


def table_measures(table: BenchmarkTable, data: str) -> dict[str, tuple[str, Split]]:
    """Return what is looked up of an answer: data set and split by name of the measure, test on the searched data set first."""
    pairs = [(name, split) for split in SPLITS for name in sorted(table.datasets, key=lambda name: name != data)]
    return {f"{name} {split}": (name, split) for name, split in pairs if f"{name}_{split}" in table.columns}


def meaning(data: str, split: Split) -> str:
    """Return in words what is looked up."""
    return f"{SPLIT_NAMES[split]} accuracy on {data} in the table, after 200 epochs of training alone"


def table_costs(table: BenchmarkTable) -> Mapping[str, FloatArray]:
    """Return the costs that a table knows of its cells, (R,) by name."""
    costs = {"flops": ("flops_m", "flops"), "parameters": ("params_m", "parameters")}
    return {name: getattr(table, field) for name, (column, field) in costs.items() if column in table.columns}


def look_up_trial(trial: Trial, table: BenchmarkTable, *, data: str, strategy: str, seed: int) -> Outcome:
    """Return what the table says of a finished trial: of its answer after 200 epochs, and of all that it measured.

    Raises: ValueError naming what the table lacks.
    """
    rows = table.rows_of(trial.tokens)
    answer = rows[trial.answer]
    columns = {name: table.accuracy(one, split) for name, (one, split) in table_measures(table, data).items()}
    fronts = {name: front_of(costs[rows], trial.accuracies) for name, costs in table_costs(table).items()}
    history = History(
        rewards=trial.rewards,
        values=trial.accuracies,
        seconds=trial.seconds,
        truths=table.accuracy(data, "test")[rows],
    )
    measures = {name: float(values[answer]) for name, values in columns.items()}
    return Outcome(
        strategy=strategy,
        seed=seed,
        measures={**measures, BEST_REWARD: float(trial.rewards[trial.answer])},
        history=history,
        fronts={name: front for name, front in fronts.items() if front is not None},
        spent={"architectures": float(len(rows)), "simulated seconds": float(trial.seconds[-1])},
    )
