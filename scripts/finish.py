"""The end of a search: the answer and its table printed, the report written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from enas.answers import ANSWER
from enas.assemble import choose_augmentation
from enas.devices import select_device
from enas.export import Answer
from enas.recipe import Recipe, train_all
from enas.report import BEST_ERROR_NOTE, HEADINGS, Row, retrain_comparison, write_report
from scripts.build import Run
from scripts.stopping import StopRequest


def print_answer(run: Run, answer: Answer) -> None:
    """Print the searched architecture and where its files are."""
    console = Console()
    console.print(f"\n[bold]Searched architecture[/] ({run.shared.space.name}, {run.config.strategy}):\n")
    console.print(answer.text, highlight=False, markup=False)
    console.print(
        f"\nShared-weight accuracy on the whole validation set {answer.candidate.valid_accuracy:.2%}; "
        f"{answer.cost.parameters:,} parameters, {answer.cost.flops:,} multiply-adds.\n"
        f"Files: {run.folder / ANSWER}.json, .svg, .png, .safetensors",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def retrain_and_report(run: Run, answer: Answer, console: Console, stop: StopRequest) -> None:
    """Train the answer and random architectures from scratch, print the table and the verdict, write `report.md`.

    Raises: Stopped where `stop` asks for it.
    """
    config = run.config
    rows: list[Row] = []
    outcome = {"derive/best": answer.candidate.valid_accuracy}
    if config.retrain.epochs > 0:
        recipe = Recipe(
            child=config.child,
            data=run.data,
            retrain=config.retrain,
            augmentation=choose_augmentation(run.data, config.augment),
            seed=config.seed,
            device=select_device(config.device),
            precision=config.precision,
        )
        with stop.deferred():
            rows = train_all(recipe, answer.architecture, run.folder / "retrain", console, name="searched", should_stop=stop)
        accuracies = [result.test_accuracy for result in rows[0].results]
        outcome["retrain/test_accuracy"] = sum(accuracies) / len(accuracies)
    settings = asdict(config)
    settings["controller"] = settings["controller"][config.strategy]
    run.tracker.hparams(flatten(settings), outcome)
    verdict = print_rows(rows)
    heading = f"{config.strategy} on {config.data}, {config.space} space, seed {config.seed}"
    write_report(run.folder, heading=heading, answer=answer, rows=rows, verdict=verdict)


def print_rows(rows: list[Row], *, subject: str = "the search") -> str | None:
    """Print the table of trainings, and in words whether the subject, the first row, beat the second; return those words."""
    if not rows:
        return None
    table = Table(title="Trained from scratch on equal terms", title_justify="left")
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if index else "left", no_wrap=not index)
    for row in rows:
        table.add_row(*row.cells())
    console = Console()
    if not console.is_terminal:  # a file's lines need not fit anything
        console = Console(width=max(console.width, 120))
    console.print()
    console.print(table)
    console.print(BEST_ERROR_NOTE, highlight=False)
    if len(rows) < 2:
        return None
    verdict = retrain_comparison(rows[0].results, rows[1].results).in_words(subject)
    console.print(f"[bold]{verdict}[/]", highlight=False, soft_wrap=True)
    return verdict


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
