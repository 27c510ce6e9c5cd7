"""The work of `rank`: scores of each run's weights, the truth where it has to be trained, the files and the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from enas.atomic_file import write_atomically
from enas.console import ProgressBar
from enas.datasets import load_data
from enas.datasets.data import Data
from enas.devices import select_device
from enas.metrics import METRICS, Metric
from enas.processor import prepare_processor
from enas.ranking.picture import save_ranks
from enas.ranking.report import RankedRun, architectures_json, headings, note, report_text
from enas.ranking.scores import digest_of, score_all, train_truths
from enas.recipe import Recipe
from enas.types import Evaluation, FloatArray
from scripts.configuration import as_yaml, differences, read_config
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest
from scripts.weights import read_state, restore_shared_weights

if TYPE_CHECKING:
    from scripts.rank import RankCommand, Request

RECIPE_FILE = "recipe.yaml"
"""Says in a folder of trainings what they follow from."""
_TRUTH_FOLLOWS_FROM = ("space", "data", "precision", "child", "split", "text", "augment", "retrain")


def rank_runs(request: Request, console: Console, stop: StopRequest) -> list[RankedRun]:
    """Return each run's scores beside the truth, in the order given. Raises: Stopped where `stop` asks for it."""
    command, images = request.command, _Images()
    scores = [_score(request, number, images, console, stop) for number in range(len(request.configs))]
    truths = [request.truths] * len(scores) if request.truths is not None else _train(request, images, console, stop)
    names = [run.name for run in command.runs]
    return [
        RankedRun(
            name=str(run) if names.count(run.name) > 1 else run.name or str(run),
            paths=config.paths,
            data=config.data,
            epoch=epoch,
            space=config.child.make_space(),
            tokens=request.tokens,
            scores=evaluation,
            truths=truth,
            score=command.score_of(metric),
            metric=metric,
            seed=command.seed,
        )
        for run, config, (epoch, evaluation, metric), truth in zip(command.runs, request.configs, scores, truths, strict=True)
    ]


class _Images:
    """Loads a run's data, once for runs in a row that have the same."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._data: Data | None = None

    def of(self, config: SearchConfig) -> Data:
        key = (config.data, config.data_dir, config.split, config.text)
        if self._data is None or self._key != key:
            self._data = load_data(config.data, data_dir=config.data_dir, text=config.text, **asdict(config.split))
            self._key = key
        return self._data


def _score(request: Request, number: int, images: _Images, console: Console, stop: StopRequest) -> tuple[int, Evaluation, Metric]:
    """Return how many epochs a run has completed, the scores under its weights, and how results on its data are told.

    Raises: Stopped, ValueError.
    """
    command, config, run = request.command, request.configs[number], request.command.runs[number]
    state = read_state("--runs", run)
    try:
        prepare_processor(threads=config.threads, device=config.device, precision=config.precision)
        shared = restore_shared_weights(config, state, images.of(config), split="valid")
    except ValueError as error:
        raise ValueError(f"--runs {run}: {error}") from error
    position = state["position"]
    source = {
        "run": str(run),
        "epoch": position["epoch"],
        "architectures_before": position["num_architectures"],
        "weights": digest_of(state["parts"]["shared"]["child"]),  # another run in the same folder ends with the same numbers
    }
    with ProgressBar(console, unit="architectures") as bar:

        def show(done: int) -> None:
            bar.show(done, len(request.tokens), text=f"scoring under the weights of {run}")

        file = command.out / f"scores-{number + 1}.jsonl"
        scores = score_all(
            shared, request.tokens, file, source=source, num_images=command.images, on_score=show, should_stop=stop
        )
    return position["epoch"], scores, METRICS[images.of(config).metric]


def _train(request: Request, images: _Images, console: Console, stop: StopRequest) -> list[FloatArray]:
    """Return each run's truths, trained from scratch; runs of the same recipe share them.

    Raises: Stopped; TrainingFailed; ValueError where a folder holds trainings of another recipe.
    """
    known: dict[str, FloatArray] = {}
    truths = []
    for config in request.configs:
        key = _recipe_text(config, seed=request.command.seed)
        if key not in known:
            data = images.of(config)
            recipe = Recipe(
                child=config.child,
                data=data,
                retrain=config.retrain,
                augmentation=data.varied(config.augment),
                seed=request.command.seed,
                device=select_device(config.device),
                precision=config.precision,
            )
            folder = request.command.out / f"retrain-{len(known) + 1}"
            _claim_trainings(folder, key)
            known[key] = train_truths(recipe, request.tokens, folder, console, should_stop=stop)
        truths.append(known[key])
    return truths


def _recipe_text(config: SearchConfig, *, seed: int) -> str:
    """Return what a training follows from, as YAML."""
    values: dict[str, Any] = {name: value for name, value in asdict(config).items() if name in _TRUTH_FOLLOWS_FROM}
    values["retrain"] = {
        name: value for name, value in values["retrain"].items() if name not in ("seeds", "random", "random_within")
    }
    return as_yaml({"seed": seed, **values})


def _claim_trainings(folder: Path, recipe: str) -> None:
    """Write into a folder what its trainings follow from. Raises ValueError naming what differs where it holds others."""
    file = folder / RECIPE_FILE
    if file.exists():
        for path, old, new in differences(read_config(file), yaml.safe_load(recipe)):
            raise ValueError(f"{file}: expected the recipe of --runs, with {path} {new}, got {old}; choose another --out")
    elif any(folder.glob("architecture-*")):
        raise ValueError(
            f"{folder}: expected trainings with a {RECIPE_FILE}, got some of an unknown recipe; choose another --out"
        )
    folder.mkdir(exist_ok=True)
    write_atomically(file, recipe)


def write_results(command: RankCommand, runs: Sequence[RankedRun]) -> None:
    """Write `rank.json`, `report.md` and the picture."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(command).items()}
    score, metric = runs[0].score, runs[0].metric
    record = {
        **{name: values[name] for name in ("truth", "split", "num_architectures", "seed", "images")},
        "score": score,
        "data": command.table_data,  # None: each run's own
        "runs": [run.to_json() for run in runs],
        "architectures": architectures_json(runs),
    }
    write_atomically(command.out / "rank.json", json.dumps(record, indent=1) + "\n")
    panels, truth = [run.panel() for run in runs], command.truth_in_words(metric)
    for suffix in (".png", ".svg"):
        save_ranks(panels, command.out / f"scatter{suffix}", score=score, truth=f"{truth}{metric.heading_unit}")
    write_atomically(command.out / "report.md", report_text(runs, truth=truth, picture="scatter.svg"))


def print_runs(command: RankCommand, runs: Sequence[RankedRun]) -> None:
    """Print the table and where the files are."""
    console = Console()
    if not console.is_terminal:  # a file's lines need not fit anything
        console = Console(width=max(console.width, 170))
    score, truth = runs[0].score, command.truth_in_words(runs[0].metric)
    title = f"{len(runs[0].tokens)} random architectures: {score} under shared weights against {truth}"
    table = Table(title=Text(title), title_justify="left")
    for index, heading in enumerate(headings(score)):
        table.add_column(heading, justify="right" if index > 1 else "left", overflow="fold")
    for run in runs:
        table.add_row(*map(Text, run.cells()))
    console.print(table)
    text = note(score, truth, runs[0].metric)
    console.print(f"{text}\nFiles: {command.out}/report.md, rank.json, scatter.png, .svg", highlight=False, markup=False)
