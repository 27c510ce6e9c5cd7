"""The end of a search: the answer and its table printed, the report written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from enas.answers import ANSWER
from enas.costs import UNITS, cost_text
from enas.devices import select_device
from enas.errors import SearchFailed
from enas.export import Answer
from enas.looked_up import LOOKED_UP_HEADINGS, LookedUp, kind_of_cell, look_up
from enas.pareto import FRONT_FILE, front_lines
from enas.recipe import Recipe, train_all
from enas.report import Row, best_note, latency_of, markdown_table, retrain_comparison, training_table, write_report
from enas.tables import load_table
from scripts.build import Run
from scripts.stopping import StopRequest

LOOKED_UP = "The answer in the benchmark's table, trained alone for 200 epochs"


def print_answer(run: Run, answer: Answer) -> None:
    """Print the searched architecture and where its files are."""
    console = Console()
    console.print(f"\n[bold]Searched architecture[/] ({run.shared.space.name}, {run.config.strategy}):\n")
    console.print(answer.text, highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"\nShared-weight {answer.metric.name} on the whole validation set {answer.metric.text(answer.valid)}; "
        f"{answer.cost.parameters:,} parameters, {answer.cost.flops:,} multiply-adds{latency_of(answer)}.\n"
        f"Files: {run.folder / ANSWER}.json, .svg, .png, .safetensors",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    broken = broken_limits(run, answer)
    if broken is not None:
        console.print(f"[bold]{broken}[/]", highlight=False, soft_wrap=True)


def broken_limits(run: Run, answer: Answer) -> str | None:
    """Say that no architecture was found within the hard limits; None where the answer is."""
    if answer.candidate.within_limits:
        return None
    costs, limits = answer.candidate.costs, run.config.objective.limits
    parts = [
        f"{cost_text(name, costs[name])} of at most {cost_text(name, most)} {UNITS[name]}"
        for name, most in limits.items()
        if costs[name] > most
    ]
    return f"No architecture within the limits was found; the nearest to them, the answer, has {', '.join(parts)}."


def retrain_and_report(run: Run, answer: Answer, console: Console, stop: StopRequest) -> None:
    """Train the answer and random architectures from scratch, print the table and the verdict, write `report.md`.

    Where the search has a benchmark's table, what it says of the answer is printed and reported, too.

    Raises: Stopped where `stop` asks for it; SearchFailed, at the very end, where the answer is over a hard limit.
    """
    config = run.config
    rows: list[Row] = []
    outcome = {"derive/best": answer.valid}
    if config.retrain.epochs > 0:
        recipe = Recipe(
            child=config.child,
            data=run.data,
            retrain=config.retrain,
            augmentation=run.data.varied(config.augment),
            seed=config.seed,
            device=select_device(config.device),
            precision=config.precision,
        )
        with stop.deferred():
            rows = train_all(recipe, answer.architecture, run.folder / "retrain", console, name="searched", should_stop=stop)
        values = [result.test_value for result in rows[0].results]
        outcome[f"retrain/test_{answer.metric.name}"] = sum(values) / len(values)
    found = look_up_answer(run, answer)
    outcome |= {f"table/{one.data}_{one.split}": one.accuracy for one in found}
    settings = asdict(config)
    settings["controller"] = settings["controller"][config.strategy]
    run.tracker.hparams(flatten(settings), outcome)
    verdict = print_rows(rows)
    heading = f"{config.strategy} on {config.data}, {config.space} space, seed {config.seed}"
    lines = looked_up_lines(found, answer)
    broken = broken_limits(run, answer)
    warning = " ".join(filter(None, (broken, run.search.collapse.warning))) or None
    front = front_lines(json.loads((run.folder / FRONT_FILE).read_text(encoding="utf-8"))) if run.meter is not None else []
    write_report(
        run.folder,
        heading=heading,
        answer=answer,
        rows=rows,
        verdict=verdict,
        looked_up=lines,
        warning=warning,
        front=front,
        data_files=run.data.files(),
    )
    if broken is not None:
        raise SearchFailed(broken)


def look_up_answer(run: Run, answer: Answer) -> list[LookedUp]:
    """Print and return what the search's table says of its answer; nothing where it has none, or a warning where it fails."""
    if run.config.ranking.table is None:
        return []
    try:
        found = look_up(load_table(run.config.ranking.table), answer.architecture)
    except ValueError as error:  # a table of a part of the space, or one that has gone since the search began
        warnings.warn(f"the answer is not looked up: {error}", RuntimeWarning, stacklevel=2)
        return []
    table = Table(title=LOOKED_UP, title_justify="left")
    for index, heading in enumerate(LOOKED_UP_HEADINGS):
        table.add_column(heading, justify="right" if index > 1 else "left")
    for one in found:
        table.add_row(*one.cells())
    console = _wide_console()
    console.print()
    console.print(table)
    console.print(kind_of_cell(answer.architecture), highlight=False, soft_wrap=True)
    return found


def looked_up_lines(found: Sequence[LookedUp], answer: Answer) -> list[str]:
    """Return the report's lines on what was looked up; none where nothing was."""
    if not found:
        return []
    table = markdown_table(LOOKED_UP_HEADINGS, [one.cells() for one in found])
    return [f"{LOOKED_UP}:", "", *table, "", kind_of_cell(answer.architecture), ""]


def print_rows(rows: list[Row], *, subject: str = "the search") -> str | None:
    """Print the table of trainings, and in words whether the subject, the first row, beat the second; return those words."""
    if not rows:
        return None
    table = Table(title="Trained from scratch on equal terms", title_justify="left")
    headings, lines = training_table(rows)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=not index)
    for line in lines:
        table.add_row(*line)
    console = _wide_console()
    console.print()
    console.print(table)
    console.print(best_note(rows[0].metric), highlight=False)
    if len(rows) < 2:
        return None
    verdict = retrain_comparison(rows[0].results, rows[1].results).in_words(subject)
    console.print(f"[bold]{verdict}[/]", highlight=False, soft_wrap=True)
    return verdict


def _wide_console() -> Console:
    console = Console()
    if console.is_terminal:
        return console
    return Console(width=max(console.width, 120))  # a file's lines need not fit anything


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Return nested settings as one level: {"child": {"filters": 16}} as {"child.filters": 16}."""
    flat: dict[str, bool | int | float | str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, (bool, int, float, str)):
            flat[f"{prefix}{name}"] = value
        elif value is not None and not isinstance(value, Path):
            flat[f"{prefix}{name}"] = str(value)
    return flat
