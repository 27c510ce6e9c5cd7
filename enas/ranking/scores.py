"""What a ranking is made of: scores under a run's shared weights, and the truth about architectures that no table knows.

Scores stand in a file that grows as they come, so that a stopped measurement goes on where it was: a line says which weights were
measured, then a line an architecture: tokens, accuracy, loss. Written by one process at a time. The truth is a training from
scratch each, in a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from enas.console import ProgressBar
from enas.errors import Stopped, TrainingFailed
from enas.line_file import LineFile, cut_files
from enas.recipe import Recipe
from enas.retrain import Retraining
from enas.shared_weights import SharedWeights
from enas.types import Evaluation, FloatArray, IntArray

_KEYS = ("tokens", "accuracy", "loss", "images")  # of a line


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """Return what tells saved weights from all others: 16 digits of the SHA-256 over their names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def score_all(
    shared: SharedWeights,
    tokens: IntArray,
    file: Path,
    *,
    source: Mapping[str, Any],
    num_images: int | None,
    on_score: Callable[[int], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Measure architectures on validation images, those that the file holds excepted, and add each to the file.

    Args:
        tokens: int64 (n, D).
        file: made if it does not exist.
        source: JSON values that say which weights these are.
        num_images: as in `SharedWeights.evaluate_all`.
        on_score: told how many are done before each.
        should_stop: asked before each.

    Returns: NaN or infinities where an architecture could not be measured.
    Raises: ValueError where the file holds other scores; Stopped where it was asked to.
    """
    rows = _read_rows(file, tokens, source)
    lines = LineFile(file)
    try:
        if not file.stat().st_size:
            lines.append([source])
        for done in range(len(rows), len(tokens)):
            on_score(done)
            if should_stop():
                raise Stopped(f"stopped after {done} of {len(tokens)} architectures of {source['run']}, which are kept")
            measured = shared.evaluate_all([shared.space.decode(tokens[done])], num_images=num_images)
            accuracy, loss = float(measured.accuracy[0]), float(measured.loss[0])
            row = dict(zip(_KEYS, (tokens[done].tolist(), accuracy, loss, measured.num_examples), strict=True))
            lines.append([row])
            rows.append(row)
    finally:
        lines.close()
    return Evaluation(
        accuracy=np.array([row["accuracy"] for row in rows], dtype=np.float64),  # null becomes NaN
        loss=np.array([row["loss"] for row in rows], dtype=np.float64),
        num_examples=max(row["images"] for row in rows),
    )


def _read_rows(file: Path, tokens: IntArray, source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that a file holds, cutting off a line that a killed process left unfinished. Raises ValueError."""
    if not file.exists():
        return []
    whole = file.read_bytes().rpartition(b"\n")[0]
    cut_files({file: len(whole) + 1 if whole else 0})
    try:
        first, *lines = [json.loads(line) for line in whole.splitlines()] or [None]
        rows = [{key: line[key] for key in _KEYS} for line in lines]
        same = [row["tokens"] for row in rows] == tokens[: len(rows)].tolist()
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected scores of architectures, got {error!r}; choose another --out") from error
    if first is not None and (first != dict(source) or not same):
        raise ValueError(f"{file}: expected scores of {json.dumps(dict(source))}, got {json.dumps(first)}; choose another --out")
    return rows


def train_truths(
    recipe: Recipe, tokens: IntArray, folder: Path, console: Console, *, should_stop: Callable[[], bool] = lambda: False
) -> FloatArray:
    """Train architectures, each with a seed of its own; trainings finished before are read back, a stopped one goes on.

    Args: tokens: int64 (n, D). folder: gets a folder a training. console: shows progress. should_stop: asked after each step.
    Returns: results on the test split after the last epoch, in its metric (n,); NaN, and a warning, for one that cannot be
        trained, and for an infinite perplexity.
    Raises: Stopped where it was asked to; TrainingFailed where none can be trained.
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
            truths[index] = result.test_value if math.isfinite(result.test_value) else math.nan
            if math.isnan(truths[index]):
                text = f"architecture-{index} is left out: its {result.metric} is not finite"
                warnings.warn(text, RuntimeWarning, stacklevel=2)
    if not np.isfinite(truths).any():
        raise TrainingFailed(f"none of {len(tokens)} architectures could be trained from scratch, see the warnings")
    return truths
