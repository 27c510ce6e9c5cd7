"""The outcome of `scripts.bench`: a table on the terminal, the same in Markdown, every measurement as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console
from rich.table import Table

from enas.atomic_file import write_atomically
from enas.benchmark import HEADINGS, MIN_PAIRS, BenchmarkResult
from enas.report import markdown_table

KIND = "enas bench"
"""What a file of measurements says that it is."""
_PARTS = ("kind", "machine", "versions", "settings", "results")


def print_results(results: Sequence[BenchmarkResult], machine: str, console: Console) -> None:
    """Print a row a benchmark and the notes."""
    print_table(HEADINGS, [result.cells() for result in results], f"{machine}, {len(results[0].pairs)} pairs each", console)
    console.print("\n".join(notes(results)), markup=False, highlight=False, soft_wrap=True)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str, console: Console) -> None:
    """Print a table, its first column in one line and no word cut."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(zip(headings, *rows, strict=True)):
        longest = max(len(word) for cell in column for word in cell.split() or [""])
        table.add_column(column[0], justify="right" if index else "left", no_wrap=index == 0, min_width=longest)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def notes(results: Sequence[BenchmarkResult]) -> list[str]:
    """Return the lines beneath the table: what is compared, what else was seen, and whether there are enough pairs."""
    lines = [f"{result.name}: {result.what}{result.note and f' ({result.note})'}" for result in results]
    num_pairs = len(results[0].pairs)
    if num_pairs < MIN_PAIRS:
        lines.append(f"For trying out only: expected at least {MIN_PAIRS} pairs, got {num_pairs}")
    return lines


def write_markdown(file: Path, results: Sequence[BenchmarkResult], machine: str) -> None:
    """Write the table, with the machine and the notes beneath it."""
    table = markdown_table(HEADINGS, [result.cells() for result in results])
    lines = [*table, "", f"{machine}, {len(results[0].pairs)} pairs each.", "", *(f"- {note}" for note in notes(results)), ""]
    write_atomically(file, "\n".join(lines))


def versions() -> dict[str, str]:
    """Return what figures depend on beside the machine: versions, the operating system, the number of CPU threads."""
    packages = {name: version(name) for name in ("numpy", "gymnasium", "scipy")}
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # tells what it was built for, too
        **packages,
        "platform": platform.platform(),
        "threads": str(torch.get_num_threads()),
    }


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What a file of `--json` holds.

    Attributes:
        machine: in words.
        versions: of Python and packages, see `versions`.
        settings: of the benchmarks, nested.
        results: in the order that they were measured in.
    """

    machine: str
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    results: Sequence[BenchmarkResult]

    def write(self, file: Path) -> None:
        """Write every pair in seconds or bytes, with what it follows from."""
        values = {"kind": KIND, **vars(self), "results": [result.to_json() for result in self.results]}
        write_atomically(file, json.dumps(values, indent=2) + "\n")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what `write` wrote. Raises ValueError naming the file where it is missing, damaged or something else."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"--compare: expected a file of --json, got {file}: {error}") from error
        if not isinstance(values, dict) or values.get("kind") != KIND:
            raise ValueError(f"--compare: expected a file of --json, which says kind {KIND!r}, got {file}")
        lacks = [part for part in _PARTS if part not in values]
        if lacks or not all(isinstance(values[part], dict) for part in ("versions", "settings")):
            raise ValueError(f"--compare: expected {', '.join(_PARTS)} in {file}, got {', '.join(values)}")
        try:
            results = [BenchmarkResult.from_json(result) for result in values["results"]]
        except (TypeError, ValueError) as error:
            raise ValueError(f"--compare: {file}: {error}") from error
        return cls(machine=str(values["machine"]), versions=values["versions"], settings=values["settings"], results=results)
