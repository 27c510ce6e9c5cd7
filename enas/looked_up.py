"""What a benchmark's table says of a search's answer, after it was chosen: its accuracies when trained alone, and its ranks.

Test accuracies are read here, and only here by a search: nothing is chosen afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from enas.spaces.nasbench201 import NasBench201Architecture, NasBench201Space
from enas.tables import BenchmarkTable, Split

SPLITS: tuple[Split, ...] = ("valid", "test")
LOOKED_UP_HEADINGS = ("data set", "split", "accuracy", "rank", "best in the table", "median")


@dataclass(frozen=True, kw_only=True)
class LookedUp:
    """One accuracy of a cell beside those of all cells of a table, after 200 epochs.

    Attributes:
        data, split: what it was measured on.
        accuracy: fraction, mean over seeds.
        rank: 1 for the best; cells that are as good share one.
        num_cells: in the table.
        best, median: of the table, fractions.
    """

    data: str
    split: str
    accuracy: float
    rank: int
    num_cells: int
    best: float
    median: float

    def cells(self) -> tuple[str, ...]:
        """Return a table's row under `LOOKED_UP_HEADINGS`."""
        rank = f"{self.rank:,} of {self.num_cells:,} (top {100 * self.rank / self.num_cells:.3g} %)"
        return self.data, self.split, f"{self.accuracy:.2%}", rank, f"{self.best:.2%}", f"{self.median:.2%}"


def look_up(table: BenchmarkTable, architecture: NasBench201Architecture) -> list[LookedUp]:
    """Return what a table says of a cell, for each data set and split that it has. Raises ValueError for a cell it lacks."""
    row = int(table.rows_of(np.array([NasBench201Space().encode(architecture)]))[0])
    found = []
    for data, split in ((data, split) for data in table.datasets for split in SPLITS if f"{data}_{split}" in table.columns):
        accuracies = table.accuracy(data, split)
        found.append(
            LookedUp(
                data=data,
                split=split,
                accuracy=float(accuracies[row]),
                rank=1 + int((accuracies > accuracies[row]).sum()),
                num_cells=len(accuracies),
                best=float(accuracies.max()),
                median=float(np.median(accuracies)),
            )
        )
    return found


def kind_of_cell(architecture: NasBench201Architecture) -> str:
    """Say in a sentence whether a cell is one that a search collapses onto: all skips, cut off from its input, no weights."""
    space = NasBench201Space()
    if architecture == space.smallest():
        return "It is the all-skip cell, onto which ENAS collapsed in the benchmark's own experiments."
    operations = architecture.operations
    counts = {name: operations.count(name) for name in dict.fromkeys(operations)}
    words = ", ".join(f"{count} x {name}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    reason = space.degeneracy(architecture)
    return (
        f"It is not the all-skip cell ({words})." if reason is None else f"It is not the all-skip cell, but {reason} ({words})."
    )
