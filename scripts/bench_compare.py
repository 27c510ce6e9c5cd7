"""Two files of `scripts.bench --json` held against each other: which ratios moved, further than their intervals reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from enas.benchmark import BenchmarkResult, interval_text, ratio_text
from scripts.bench_report import Measurements, print_table
from scripts.configuration import differences

HEADINGS = ("benchmark", "old ratio", "new ratio", "change", "verdict")
SAME = "no difference shown"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A benchmark in both files.

    Attributes:
        old, new: its outcomes.
    """

    old: BenchmarkResult
    new: BenchmarkResult

    @property
    def is_worse(self) -> bool:
        """Whether the new ratio's interval is wholly above the old one's."""
        old, new = self.old.interval, self.new.interval
        return old is not None and new is not None and new[0] > old[1]

    @property
    def is_better(self) -> bool:
        """Whether it is wholly below."""
        old, new = self.old.interval, self.new.interval
        return old is not None and new is not None and new[1] < old[0]

    @property
    def verdict(self) -> str:
        """What the intervals say; without both, nothing."""
        better, worse = ("smaller", "larger") if self.new.unit == "MiB" else ("faster", "slower")
        return worse if self.is_worse else better if self.is_better else SAME

    def cells(self) -> tuple[str, ...]:
        """Return a table's row under `HEADINGS`; changes are relative to the old file."""
        sides = (float(np.median(one.pairs.first)) for one in (self.old, self.new))
        return (
            self.new.name,
            f"{ratio_text(self.old.median)} ({interval_text(self.old.interval)})",
            f"{ratio_text(self.new.median)} ({interval_text(self.new.interval)})",
            f"{_percent(self.old.median, self.new.median)} / {_percent(*sides)} %",
            self.verdict,
        )


def compare_files(old_file: Path, new_file: Path, console: Console) -> int:
    """Print what changed from the old file to the new one. Returns the exit status: 1 where something became slower or larger.

    Raises: ValueError naming a file that is missing, damaged or something else.
    """
    old, new = Measurements.read(old_file), Measurements.read(new_file)
    before, after = ({result.name: result for result in side.results} for side in (old, new))
    changes = [Change(old=before[name], new=after[name]) for name in after if name in before]
    if not changes:
        raise ValueError(f"--compare: expected a benchmark that both files have, got none in {old_file} and {new_file}")
    print_table(HEADINGS, [change.cells() for change in changes], f"{old_file} -> {new_file}", console)
    lines = list(warnings_of(old, new))
    lines += [f"only in {old_file}: {name}" for name in before if name not in after]
    lines += [f"only in {new_file}: {name}" for name in after if name not in before]
    lines.append("ratios with 95 % interval; change of the ratio / of its first side's median time or memory")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 1 if any(change.is_worse for change in changes) else 0


def warnings_of(old: Measurements, new: Measurements) -> Iterator[str]:
    """Yield a line for everything that differs beside the figures, which then are not of the same work on the same machine."""
    if old.machine != new.machine:
        yield f"warning: the machines differ: {old.machine} -> {new.machine}"
    for what, one, other in (("version", old.versions, new.versions), ("setting", old.settings, new.settings)):
        for name, before, after in _both_ways(one, other):
            yield f"warning: the {what} {name} differs: {before} -> {after}"


def _both_ways(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what `differences` finds, and what only the new side has."""
    found = list(differences(old, new))
    yield from found
    names = {name for name, _, _ in found}
    yield from ((name, before, after) for name, after, before in differences(new, old) if name not in names)


def _percent(old: float, new: float) -> str:
    return f"{100 * (new / old - 1):+.1f}"
