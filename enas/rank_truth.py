"""The truth about architectures that no table knows: each trained from scratch, once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from enas.console import ProgressBar
from enas.errors import TrainingFailed
from enas.recipe import Recipe
from enas.retrain import Retraining
from enas.types import FloatArray, IntArray


def train_truths(
    recipe: Recipe, tokens: IntArray, folder: Path, console: Console, *, should_stop: Callable[[], bool] = lambda: False
) -> FloatArray:
    """Train architectures, each with a seed of its own; trainings finished before are read back, a stopped one goes on.

    Args: tokens: int64 (n, D). folder: gets a folder a training. console: shows progress. should_stop: asked after each step.
    Returns: test accuracies after the last epoch, fractions (n,); NaN, and a warning, for one that cannot be trained.
    Raises: Stopped where it was asked to.
    """
    space, epochs = recipe.child.make_space(), recipe.retrain.epochs
    truths = np.full(len(tokens), math.nan)
    with ProgressBar(console, unit="epochs") as bar:
        for index, row in enumerate(tokens):

            def show(training: Retraining, index: int = index) -> None:
                text = f"training architecture {index + 1} of {len(tokens)} from scratch"
                bar.show(index * epochs + training.epoch, len(tokens) * epochs, text=text)

            training = recipe.training(space.decode(row), index)
            try:
                result = training.run(folder / f"architecture-{index}", on_epoch=show, should_stop=should_stop)
            except TrainingFailed as error:
                warnings.warn(f"architecture-{index} is left out: {error}", RuntimeWarning, stacklevel=2)
                continue
            truths[index] = result.test_accuracy
    return truths
