"""Scores of a run's shared weights in a file that grows as they come, so that a stopped measurement goes on where it was.

A line says which weights were measured, then a line an architecture: tokens, accuracy, loss. Written by one process at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from enas.errors import Stopped
from enas.line_file import LineFile, cut_files
from enas.shared_weights import SharedWeights
from enas.types import Evaluation, IntArray


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
            row = {"tokens": tokens[done].tolist(), "accuracy": accuracy, "loss": loss, "images": measured.num_examples}
            lines.append([row])
            rows.append(row)
    finally:
        lines.close()
    return Evaluation(
        accuracy=np.array([_number(row["accuracy"]) for row in rows]),
        loss=np.array([_number(row["loss"]) for row in rows]),
        num_examples=max(row["images"] for row in rows),
    )


def _read_rows(file: Path, tokens: IntArray, source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that a file holds, cutting off a line that a killed process left unfinished. Raises ValueError."""
    if not file.exists():
        return []
    whole = file.read_bytes().rpartition(b"\n")[0]
    cut_files({file: len(whole) + 1 if whole else 0})
    try:
        first, *rows = [json.loads(line) for line in whole.splitlines()] or [None]
        same = [row["tokens"] for row in rows] == tokens[: len(rows)].tolist()
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected scores of architectures, got {error!r}; choose another --out") from error
    if first is not None and (first != dict(source) or not same):
        raise ValueError(f"{file}: expected scores of {json.dumps(dict(source))}, got {json.dumps(first)}; choose another --out")
    return rows


def _number(value: float | None) -> float:
    return math.nan if value is None else value
