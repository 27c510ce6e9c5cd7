"""The end of a search or a retraining: networks trained from scratch, the table and the verdict, the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from enas.assemble import choose_augmentation
from enas.configs import Precision, RetrainConfig
from enas.console import ProgressBar
from enas.datasets.augment import Augmentation
from enas.datasets.images import ImageData
from enas.devices import select_device
from enas.export import ANSWER, Answer
from enas.report import HEADINGS, Row, retrain_comparison, write_report
from enas.retrain import Retraining, RetrainResult
from enas.seeding import derive_seed
from enas.spaces.base import ChildConfig
from enas.spaces.sampling import sample_uniform
from scripts.build import Run


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How networks are trained from scratch on equal terms.

    Attributes:
        child: width and depth.
        data: trained and tested on.
        retrain: see `RetrainConfig`; `seeds` trainings of the architecture, `random` random architectures.
        augmentation: of training images.
        seed: everything random follows from it.
        device, precision: where and in which format forward passes run.
    """

    child: ChildConfig
    data: ImageData
    retrain: RetrainConfig
    augmentation: Augmentation
    seed: int
    device: Any
    precision: Precision

    def training(self, architecture: Any, number: int) -> Retraining:
        """Return the training of one architecture with the recipe's seed number `number`."""
        return Retraining(
            self.child,
            architecture,
            self.data,
            self.retrain,
            augmentation=self.augmentation,
            seed=derive_seed(self.seed, "retrain", number),
            device=self.device,
            precision=self.precision,
        )


def train_all(recipe: Recipe, architecture: Any, folder: Path, console: Console, *, name: str) -> list[Row]:
    """Train an architecture with each seed and random architectures once each; trainings finished before are read back."""
    space, config = recipe.child.make_space(), recipe.retrain
    tokens = sample_uniform(space, config.random, np.random.default_rng(derive_seed(recipe.seed, "random architectures")))
    jobs = [(f"{name}-{seed}", architecture, seed) for seed in range(config.seeds)]
    jobs += [(f"random-{index}", space.decode(row), index) for index, row in enumerate(tokens)]
    results: list[RetrainResult] = []
    with ProgressBar(console, unit="epochs") as bar:
        for job, member, number in jobs:

            def show(training: Retraining, job: str = job) -> None:
                done = len(results) * config.epochs + training.epoch
                bar.show(done, len(jobs) * config.epochs, text=f"training {job} from scratch")

            results.append(recipe.training(member, number).run(folder / job, on_epoch=show))
    rows = [Row(name=name, results=results[: config.seeds])]
    return [*rows, Row(name="random", results=results[config.seeds :])] if config.random else rows


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
    rows: list[Row] = []
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
        rows = train_all(recipe, answer.architecture, run.folder / "retrain", console, name="searched")
        accuracy = sum(result.test_accuracy for result in rows[0].results) / len(rows[0].results)
        outcome = {"derive/valid_accuracy": answer.candidate.valid_accuracy, "retrain/test_accuracy": accuracy}
        run.tracker.hparams(flatten(asdict(config)), outcome)
    verdict = print_rows(rows)
    heading = f"{config.strategy} on {config.data}, {config.space} space, seed {config.seed}"
    write_report(run.folder, heading=heading, answer=answer, rows=rows, verdict=verdict)


def print_rows(rows: list[Row]) -> str | None:
    """Print the table of trainings, and in words whether the first row beat the second; return those words."""
    if not rows:
        return None
    console = Console()
    table = Table(title="Trained from scratch on equal terms", title_justify="left")
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row.cells())
    console.print()
    console.print(table)
    if len(rows) < 2:
        return None
    verdict = retrain_comparison(rows[0].results, rows[1].results).in_words()
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
