"""Trainings from scratch of several runs side by side: each strategy's searches beside random architectures.

A search counts once, with the mean of its trainings, so that the interval is that of repeating the search; one with the same
settings and seed is the same search, whatever its folder. A random architecture counts once, however many runs trained it. Runs
whose trainings follow from different settings are refused. Folders are only read; one of `retrain` belongs to the search whose
answer it trained, if that search's folder is still where it was named. Not covered: strategies against each other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from enas.configs import require
from enas.metrics import METRICS, Metric
from scripts.configuration import differences, program
from scripts.ending import run_command
from scripts.folders import check_writable
from scripts.trainings import Training, Trainings, read_folder

RANDOM = "random architectures"
_COUNTS = ("retrain.seeds", "retrain.random")
"""Settings that say how many trainings there are, not what each is."""


@dataclass(frozen=True, kw_only=True)
class SummariseCommand:
    """Compare the trainings from scratch of several runs: folders of `search` and `retrain`, which are only read."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs whose trainings have the same data, split, network and recipe."""
    markdown: Path | None = None
    """File that the table and the verdicts are also written to; None for none."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(len(self.runs) >= 1, "runs", "at least one folder", "none")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        name: as `Origin.name`, or RANDOM.
        metric: how trainings are told.
        searches: the trainings of each search by their keys; each random architecture is one of its own.
    """

    name: str
    metric: Metric
    searches: dict[str, dict[tuple[str, int], Training]] = field(default_factory=dict)

    def add(self, search: str, training: Training) -> None:
        """Add a training unless it is there."""
        self.searches.setdefault(search, {}).setdefault(training.key, training)

    @property
    def values(self) -> list[float]:
        """The mean test result of each search's trainings, in the metric."""
        return [sum(one.test_value for one in group.values()) / len(group) for group in self.searches.values()]

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return the line of the table; the deviation is that of searches, or of random architectures."""
        from enas.report import spread

        sizes = [one.parameters for group in self.searches.values() for one in group.values()]
        size = f"{sizes[0]:,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
        searches = "-" if self.name == RANDOM else str(len(self.searches))
        return self.name, searches, str(len(sizes)), spread(self.values, self.metric), size


def main() -> None:
    """Run the command line in `sys.argv`."""
    run_command(lambda _: run_summarise(parse_summarise(sys.argv[1:])))


def parse_summarise(arguments: Sequence[str]) -> SummariseCommand:
    """Read a command line. Raises ValueError naming the mistake."""
    command = tyro.cli(SummariseCommand, prog=program(), args=list(arguments), config=(tyro.conf.FlagConversionOff,))
    named: dict[Path, Path] = {}
    for folder in command.runs:
        other = named.setdefault(folder.resolve(), folder)
        require(other is folder, "runs", "each folder once", f"{other} and {folder}")
    if (file := command.markdown) is not None:
        if file.is_dir() or not file.parent.is_dir():
            raise ValueError(f"--markdown: expected a file in a folder that exists, got {file}")
        if any(file.resolve().is_relative_to(folder) for folder in named):
            raise ValueError(f"--markdown: expected a file outside the runs' folders, which are only read, got {file}")
        check_writable(file.parent, flag="--markdown", folder=file)
    return command


def run_summarise(command: SummariseCommand) -> None:
    """Print table, verdicts and notes, write the file that was asked for. Raises ValueError naming what can't be compared."""
    runs = [read_folder(folder) for folder in command.runs]
    refuse_mixture(runs)
    metric = common_metric(runs)
    if metric is None:
        raise ValueError(f"runs: expected at least one finished training, got none: {' '.join(notes(runs))}")
    rows, headings = make_rows(runs, metric), headings_of(metric)
    from enas.atomic_file import write_atomically
    from enas.report import markdown_table

    lines = [row.cells() for row in rows]
    words = [*verdicts(rows), *notes(runs)]
    _print(headings, lines, words)
    if command.markdown is not None:
        paragraphs = [line for word in words for line in ("", word)]
        write_atomically(command.markdown, "\n".join([*markdown_table(headings, lines), *paragraphs, ""]))


def refuse_mixture(runs: Sequence[Trainings]) -> None:
    """Raise ValueError naming the first setting that trainings follow from and two runs differ in."""
    first = runs[0]
    for run in runs[1:]:
        forward = differences(first.settings, run.settings)
        backward = ((path, old, new) for path, new, old in differences(run.settings, first.settings))
        for path, old, new in (*forward, *backward):
            if path not in _COUNTS:
                raise ValueError(f"{run.folder}: expected {path} {old}, as in {first.folder}, got {new}; they can't be compared")


def common_metric(runs: Sequence[Trainings]) -> Metric | None:
    """Return how all trainings are told; None without any. Raises ValueError naming the first that is told otherwise."""
    found = [(training.metric, run) for run in runs for training in (*run.own, *run.random)]
    for name, run in found:
        first, where = found[0]
        if name != first:
            expected = f"trainings told by their {first}, as in {where.folder}"
            raise ValueError(f"{run.folder}: expected {expected}, got {name}; they can't be compared")
    return METRICS[found[0][0]] if found else None


def headings_of(metric: Metric) -> tuple[str, ...]:
    """Return the headings of the table."""
    return "architectures of", "searches", "trainings", f"test {metric.name}", "parameters"


def make_rows(runs: Sequence[Trainings], metric: Metric) -> list[Row]:
    """Return a row for each origin of architectures, by name, and the random architectures last; none without trainings."""
    rows: dict[str, Row] = {}
    random = Row(name=RANDOM, metric=metric)
    for run in runs:
        for training in run.own:
            rows.setdefault(run.origin.name, Row(name=run.origin.name, metric=metric)).add(run.origin.search, training)
        for training in run.random:
            random.add(repr(training.key), training)
    return [*(rows[name] for name in sorted(rows)), *([random] if random.searches else [])]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Return a sentence a row: whether its searches beat random architectures."""
    from enas.comparison import compare

    *searched, last = rows
    if last.name != RANDOM:
        return ["No random architectures are there to compare with."]
    return [f"{row.name}: {compare(row.values, last.values, metric=row.metric).in_words()}" for row in searched]


def notes(runs: Sequence[Trainings]) -> list[str]:
    """Return what to know before reading the table.

    That is: runs that are not complete, that repeat a search, and rows of searches that were set up differently.
    """
    incomplete = [f"Incomplete: {run.folder} {run.missing}." for run in runs if run.missing]
    return [*incomplete, *_repeated_searches(runs), *_mixed_searches(runs)]


def _repeated_searches(runs: Sequence[Trainings]) -> Iterator[str]:
    first: dict[str, Trainings] = {}
    for run in runs:
        before = first.setdefault(run.origin.search, run)
        if before.origin.folder != run.origin.folder:
            yield f"Counted as one search: {run.folder} repeats that of {before.folder}, with the same settings and seed."


def _mixed_searches(runs: Sequence[Trainings]) -> Iterator[str]:
    for name in sorted({run.origin.name for run in runs}):
        first, *others = [run.origin.settings for run in runs if run.origin.name == name]
        paths = dict.fromkeys(path for other in others for path, _, _ in differences(first, other))
        if paths:
            yield f"Searches of the row {name} differ in {', '.join(paths)}."


def _print(headings: Sequence[str], lines: Sequence[Sequence[str]], words: Sequence[str]) -> None:
    console = Console()
    table = Table(title="Trained from scratch on equal terms", title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=bool(index))
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)
    for word in words:
        console.print(word, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
