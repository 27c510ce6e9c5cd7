"""The outcome of `scripts.bench`: a table on the terminal, the same in Markdown, every measurement as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from enas.atomic_file import write_atomically
from enas.benchmark import HEADINGS, MIN_PAIRS, BenchmarkResult
from enas.report import markdown_table


def print_results(results: Sequence[BenchmarkResult], machine: str, console: Console) -> None:
    """Print a row a benchmark and the notes."""
    table = Table(title=f"{machine}, {len(results[0].pairs)} pairs each", title_justify="left")
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if index else "left", no_wrap=index == 0)
    for result in results:
        table.add_row(*result.cells())
    console.print(table)
    console.print("\n".join(notes(results)), markup=False, highlight=False, soft_wrap=True)


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


def write_json(file: Path, results: Sequence[BenchmarkResult], machine: str, settings: Mapping[str, Any]) -> None:
    """Write every pair in seconds or bytes, with the settings that they were measured with."""
    values = {"machine": machine, "settings": dict(settings), "results": [result.to_json() for result in results]}
    write_atomically(file, json.dumps(values, indent=2) + "\n")
