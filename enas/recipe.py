"""Several networks trained from scratch on equal terms: an architecture with n seeds, random architectures beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from enas.children.cost import size_of
from enas.configs import Precision, RetrainConfig
from enas.console import ProgressBar
from enas.datasets.augment import Augmentation
from enas.datasets.images import ImageData
from enas.errors import TrainingFailed
from enas.report import Row
from enas.retrain import Retraining
from enas.retrain_result import RetrainResult
from enas.seeding import derive_seed
from enas.spaces.base import ChildConfig
from enas.spaces.sampling import sample_uniform

MAX_DRAWS = 5_000
"""Uniform architectures that are looked at for those of about the same size; counting one's parameters takes some 20 ms."""


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
    device: torch.device
    precision: Precision

    def random_architectures(self, architecture: Any) -> list[Any]:
        """Return the random architectures that one is compared with: uniform ones, or those of them that are about as large.

        Warns where fewer than asked for are found.
        """
        space, wanted, within = self.child.make_space(), self.retrain.random, self.retrain.random_within
        rng = np.random.default_rng(derive_seed(self.seed, "random architectures"))
        if within is None or not wanted:
            return [space.decode(row) for row in sample_uniform(space, wanted, rng)]
        expected, found = self._size_of(architecture), []
        for _ in range(MAX_DRAWS):
            member = space.decode(sample_uniform(space, 1, rng)[0])
            if abs(self._size_of(member) / expected - 1) <= within:
                found.append(member)
            if len(found) == wanted:
                return found
        message = f"only {len(found)} of {MAX_DRAWS} random architectures are within {within} of {expected:,} parameters"
        warnings.warn(f"{message}, {wanted} were asked for", RuntimeWarning, stacklevel=3)
        return found

    def _size_of(self, architecture: Any) -> int:
        return size_of(self.child, architecture, image_shape=self.data.image_shape, num_classes=self.data.num_classes)

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
        folder: gets a folder a training.
        console: where progress is shown.
        name: of the architecture's row and folders.
        should_stop: asked after each training step; see `Retraining.run`.
    Returns: the architecture's row and, where the recipe has random architectures, theirs. One of them that cannot be trained
        is left out with a warning.
    Raises: Stopped where it was asked to; TrainingFailed where the architecture itself cannot be trained.
    """
    config = recipe.retrain
    jobs = [(f"{name}-{seed}", architecture, seed) for seed in range(config.seeds)]
    jobs += [(f"random-{index}", member, index) for index, member in enumerate(recipe.random_architectures(architecture))]
    own: list[RetrainResult] = []
    random: list[RetrainResult] = []
    with ProgressBar(console, unit="epochs") as bar:
        for index, (job, member, number) in enumerate(jobs):

            def show(training: Retraining, index: int = index, job: str = job) -> None:
                done = index * config.epochs + training.epoch
                bar.show(done, len(jobs) * config.epochs, text=f"training {job} from scratch")

            try:
                result = recipe.training(member, number).run(folder / job, on_epoch=show, should_stop=should_stop)
            except TrainingFailed as error:
                if index < config.seeds:
                    raise
                warnings.warn(f"{job} is left out: {error}", RuntimeWarning, stacklevel=2)
            else:
                (own if index < config.seeds else random).append(result)
    rows = [Row(name=name, results=own)]
    lost = len(jobs) - config.seeds - len(random)
    name_of_random = f"random ({lost} failed)" if lost else "random"
    return [*rows, Row(name=name_of_random, results=random)] if random else rows
