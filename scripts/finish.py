"""The end of a search: the answer printed, networks trained from scratch, the report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from enas.assemble import choose_augmentation
from enas.console import ProgressBar
from enas.devices import select_device
from enas.export import ANSWER, Answer
from enas.report import HEADINGS, Row, retrain_comparison, write_report
from enas.retrain import Retraining, RetrainResult
from enas.seeding import derive_seed
from enas.spaces.sampling import sample_uniform
from scripts.build import Run


def print_answer(run: Run, answer: Answer) -> None:
    """Print the searched architecture and where its files are."""
    console = Console()
    console.print(f"\n[bold]Searched architecture[/] ({run.shared.space.name}, {run.config.strategy}):\n")
    console.print(answer.text, highlight=False)
    console.print(
        f"\nShared-weight accuracy on the whole validation set {answer.candidate.valid_accuracy:.2%}; "
        f"{answer.cost.parameters:,} parameters, {answer.cost.flops:,} multiply-adds.\n"
        f"Files: {run.folder / ANSWER}.json, .svg, .png, .safetensors",
        highlight=False,
        soft_wrap=True,
    )


def retrain_and_report(run: Run, answer: Answer, console: Console) -> None:
    """Train the answer and random architectures from scratch, print the table and the verdict, write `report.md`."""
    config = run.config
    rows, verdict = [], None
    if config.retrain.epochs > 0:
        searched, random = train_all(run, answer, console)
        rows.append(Row(name="searched", results=searched))
        if random:
            rows.append(Row(name="random", results=random))
            verdict = retrain_comparison(searched, random).in_words()
            record_hparams(run, answer, searched)
        print_table(rows, verdict)
    heading = f"{config.strategy} on {config.data}, {config.space} space, seed {config.seed}"
    write_report(run.folder, heading=heading, answer=answer, rows=rows, verdict=verdict)


def train_all(run: Run, answer: Answer, console: Console) -> tuple[list[RetrainResult], list[RetrainResult]]:
    """Train the answer with each seed and each random architecture once; finished trainings are read back."""
    config = run.config.retrain
    rng = np.random.default_rng(derive_seed(run.config.seed, "random architectures"))
    tokens = sample_uniform(run.shared.space, config.random, rng)
    jobs: list[tuple[str, Any, int]] = [(f"searched-{seed}", answer.architecture, seed) for seed in range(config.seeds)]
    jobs += [(f"random-{index}", run.shared.space.decode(row), index) for index, row in enumerate(tokens)]
    results = []
    with ProgressBar(console, unit="epochs") as bar:
        for number, (name, architecture, seed) in enumerate(jobs):
            training = make_retraining(run, architecture, seed)

            def show(training: Retraining, name: str = name, number: int = number) -> None:
                bar.show(number * config.epochs + training.epoch, len(jobs) * config.epochs, text=f"training {name} from scratch")

            results.append(training.run(run.folder / "retrain" / name, on_epoch=show))
    return results[: config.seeds], results[config.seeds :]


def make_retraining(run: Run, architecture: Any, seed: int) -> Retraining:
    """Return a training from scratch at the search's own width and depth."""
    return Retraining(
        run.config.child,
        architecture,
        run.data,
        run.config.retrain,
        augmentation=choose_augmentation(run.data, run.config.augment),
        seed=derive_seed(run.config.seed, "retrain", seed),
        device=select_device(run.config.device),
        precision=run.config.precision,
    )


def print_table(rows: list[Row], verdict: str | None) -> None:
    """Print the table of trainings and the verdict."""
    console = Console()
    table = Table(title="Trained from scratch on equal terms", title_justify="left")
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row.cells())
    console.print()
    console.print(table)
    if verdict is not None:
        console.print(f"[bold]{verdict}[/]", highlight=False, soft_wrap=True)


def record_hparams(run: Run, answer: Answer, searched: list[RetrainResult]) -> None:
    """Write the run's settings and its outcome to TensorBoard's HParams page."""
    flat = flatten(asdict(run.config))
    accuracy = sum(result.test_accuracy for result in searched) / len(searched)
    run.tracker.hparams(flat, {"derive/valid_accuracy": answer.candidate.valid_accuracy, "retrain/test_accuracy": accuracy})


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
