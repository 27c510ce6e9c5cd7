"""Several networks trained from scratch on equal terms: an architecture with n seeds, random architectures beside it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from enas.atomic_file import write_atomically
from enas.checkpoint import NOT_SAVED, SAVED, saved_unless_refused
from enas.children.cost import size_of
from enas.configs import Precision, RetrainConfig
from enas.console import ProgressBar
from enas.datasets.data import Data
from enas.errors import Stopped, TrainingFailed
from enas.report import Row
from enas.retrain import Retraining
from enas.retrain_result import RetrainResult
from enas.seeding import derive_seed
from enas.spaces.base import ChildConfig
from enas.spaces.sampling import sample_uniform

MAX_DRAWS = 2_000
"""Uniform architectures that are looked at for those of about the same size. Each is built to count its weights, without memory
for them, which takes 60 to 140 ms at the depth of the published networks: minutes for all."""
RANDOM_FILE = "random.json"
"""Keeps those of about the same size that were found, and what they were drawn for."""


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
    data: Data
    retrain: RetrainConfig
    augmentation: Any
    seed: int
    device: torch.device
    precision: Precision

    def random_architectures(
        self,
        architecture: Any,
        folder: Path,
        *,
        on_draw: Callable[[int], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[Any]:
        """Return the random architectures that one is compared with: uniform ones, or those of them that are about as large.

        Those are looked for one by one, see `MAX_DRAWS`. `RANDOM_FILE` keeps what was found: read back, or gone on with. Warns
        where fewer than asked for are found.

        Args:
            folder: gets the file, which only architectures of about the same size need.
            on_draw: told before each draw how many have been found.
            should_stop: asked before each draw.
        Raises: Stopped where it was asked to.
        """
        space, wanted = self.child.make_space(), self.retrain.random
        if self.retrain.random_within is None or not wanted:
            return [space.decode(row) for row in sample_uniform(space, wanted, self.random_generator())]
        return _SizedDraw(recipe=self, architecture=architecture, folder=folder).run(on_draw, should_stop)

    def random_generator(self) -> np.random.Generator:
        """Return what random architectures are drawn with, at its start."""
        return np.random.default_rng(derive_seed(self.seed, "random architectures"))

    def size_of(self, architecture: Any) -> int:
        """Return an architecture's number of parameters, as `enas.children.cost.size_of`."""
        return size_of(self.child, architecture, input_shape=self.data.input_shape, num_classes=self.data.num_classes)

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


@dataclass(kw_only=True)
class _SizedDraw:
    """Uniform architectures looked at for those of about the size of one, until there are enough or `MAX_DRAWS` were looked at.

    Attributes:
        recipe: with `random` and `random_within`.
        architecture: that they are compared with.
        folder: gets `RANDOM_FILE`.
        found: so far.
        num_draws: architectures looked at so far.
    """

    recipe: Recipe
    architecture: Any
    folder: Path
    found: list[Any] = field(default_factory=list)
    num_draws: int = 0

    def run(self, on_draw: Callable[[int], None], should_stop: Callable[[], bool]) -> list[Any]:
        """Read what was found before, look for the rest, return all. Raises Stopped."""
        self._read()
        if not self._is_complete():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._look(on_draw, should_stop)
        retrain = self.recipe.retrain
        if len(self.found) < retrain.random:
            size = f"within {retrain.random_within} of {self.recipe.size_of(self.architecture):,} parameters"
            message = f"only {len(self.found)} of {self.num_draws} random architectures are {size}"
            warnings.warn(f"{message}, {retrain.random} were asked for", RuntimeWarning, stacklevel=3)
        return self.found

    def _is_complete(self) -> bool:
        return len(self.found) == self.recipe.retrain.random or self.num_draws >= MAX_DRAWS

    def _look(self, on_draw: Callable[[int], None], should_stop: Callable[[], bool]) -> None:
        space, rng, within = self.recipe.child.make_space(), self.recipe.random_generator(), self.recipe.retrain.random_within
        assert within is not None
        for _ in range(self.num_draws):
            sample_uniform(space, 1, rng)
        expected = self.recipe.size_of(self.architecture)
        while not self._is_complete():
            on_draw(len(self.found))
            if should_stop():
                saved = saved_unless_refused(self._write)
                draws = f"{self.num_draws} of at most {MAX_DRAWS} draws, {len(self.found)} of {self.recipe.retrain.random} found"
                what = f"stopped while looking for random architectures of about the same size ({draws})"
                raise Stopped(f"{what}, {SAVED if saved else NOT_SAVED}")
            member = space.decode(sample_uniform(space, 1, rng)[0])
            self.num_draws += 1
            if abs(self.recipe.size_of(member) / expected - 1) <= within:
                self.found.append(member)
                saved_unless_refused(self._write)  # a killed draw goes on from here
        saved_unless_refused(self._write)

    def _drawn_for(self) -> dict[str, Any]:
        retrain = self.recipe.retrain
        counted = {"seed": self.recipe.seed, "within": retrain.random_within, "count": retrain.random}
        return {**self._record(self.architecture), **counted}

    def _record(self, architecture: Any) -> dict[str, Any]:
        """Return an architecture as a search's answer has it: tokens to read back, names for others."""
        tokens = self.recipe.child.make_space().encode(architecture)
        return {"tokens": [int(token) for token in tokens], "architecture": architecture.to_json()}

    def _write(self) -> None:
        found = [self._record(member) for member in self.found]
        record = {"drawn_for": self._drawn_for(), "draws": self.num_draws, "complete": self._is_complete(), "found": found}
        write_atomically(self.folder / RANDOM_FILE, json.dumps(record, indent=2) + "\n")

    def _read(self) -> None:
        """Take over what the file holds, if it was drawn for the same; a damaged file is warned of."""
        file = self.folder / RANDOM_FILE
        if not file.exists():
            return
        space = self.recipe.child.make_space()
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["drawn_for"] == self._drawn_for():
                found, num_draws = [space.decode(row["tokens"]) for row in record["found"]], int(record["draws"])
                self.found, self.num_draws = found, num_draws
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{file} is damaged; drawing anew", RuntimeWarning, stacklevel=4)


@dataclass(kw_only=True)
class _Trainings:
    """The trainings of `train_all`, one after another.

    Attributes:
        recipe, folder, should_stop: as there.
        bar: shows them.
        num_jobs: how many there will be.
        num_done: how many have ended.
    """

    recipe: Recipe
    folder: Path
    bar: ProgressBar
    should_stop: Callable[[], bool]
    num_jobs: int
    num_done: int = 0

    def train(self, job: str, architecture: Any, number: int) -> RetrainResult:
        """Train in the folder of a job's name with the recipe's seed number `number`. Raises Stopped and TrainingFailed."""

        def show(training: Retraining) -> None:
            self._show(training.epoch, f"training {job} from scratch")

        try:
            training = self.recipe.training(architecture, number)
            return training.run(self.folder / job, on_epoch=show, should_stop=self.should_stop)
        finally:
            self.num_done += 1

    def train_random(self, architecture: Any) -> list[RetrainResult | None]:
        """Train the random architectures that one is compared with; None, and a warning, for one that cannot be trained."""

        def show(num_found: int) -> None:
            found = f"{num_found} of {self.recipe.retrain.random} found"
            self._show(0, f"looking for random architectures of about the same size, {found}")

        members = self.recipe.random_architectures(architecture, self.folder, on_draw=show, should_stop=self.should_stop)
        self.num_jobs = self.num_done + len(members)
        results: list[RetrainResult | None] = []
        for index, member in enumerate(members):
            try:
                results.append(self.train(f"random-{index}", member, index))
            except TrainingFailed as error:
                warnings.warn(f"random-{index} is left out: {error}", RuntimeWarning, stacklevel=3)
                results.append(None)
        return results

    def _show(self, epochs: int, text: str) -> None:
        each = self.recipe.retrain.epochs
        self.bar.show(self.num_done * each + epochs, self.num_jobs * each, text=text)


def train_all(
    recipe: Recipe,
    architecture: Any,
    folder: Path,
    console: Console,
    *,
    name: str,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Row]:
    """Train an architecture with each seed and random architectures once each; trainings finished before are read back.

    Args:
        folder: gets a folder a training, and the random architectures of about the same size, if any; see `RANDOM_FILE`.
        console: where progress is shown.
        name: of the architecture's row and folders.
        should_stop: asked after each training step and before each draw; see `Retraining.run`.
    Returns: the architecture's row and, where the recipe has random architectures, theirs. One of them that cannot be trained
        is left out with a warning.
    Raises: Stopped where it was asked to; TrainingFailed where the architecture itself cannot be trained.
    """
    seeds, num_jobs = recipe.retrain.seeds, recipe.retrain.seeds + recipe.retrain.random
    with ProgressBar(console, unit="epochs") as bar:
        trainings = _Trainings(recipe=recipe, folder=folder, bar=bar, should_stop=should_stop, num_jobs=num_jobs)
        own = [trainings.train(f"{name}-{seed}", architecture, seed) for seed in range(seeds)]
        trained = trainings.train_random(architecture)
    random = [result for result in trained if result is not None]
    lost = len(trained) - len(random)
    rows = [Row(name=name, results=own)]
    name_of_random = f"random ({lost} failed)" if lost else "random"
    return [*rows, Row(name=name_of_random, results=random)] if random else rows
