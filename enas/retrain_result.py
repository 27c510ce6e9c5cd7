"""What one training from scratch gave, and the `result.json` that keeps it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from enas.atomic_file import write_atomically


@dataclass(frozen=True, kw_only=True)
class RetrainResult:
    """What one training gave.

    Attributes:
        test_accuracy: fraction of the test split after the last epoch.
        best_test_accuracy: the highest of the measurements on the way; chosen on the test split, so never a result by itself.
        train_loss: mean over the last epoch of what its steps descended, nats; an auxiliary head's part is in it.
        parameters: of the network, without an auxiliary head.
        seed: of weights, minibatches, augmentation, dropout and drop-path.
    """

    test_accuracy: float
    best_test_accuracy: float
    train_loss: float
    parameters: int
    seed: int


def read_result(file: Path, *, architecture: Mapping[str, object]) -> RetrainResult | None:
    """Return the result of an architecture (as its `to_json`) that a file holds, if it does; a damaged file is warned of."""
    if not file.exists():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        result = RetrainResult(**record["result"])
        return result if record["architecture"] == architecture else None
    except (ValueError, KeyError, TypeError):
        warnings.warn(f"{file} is damaged; training anew", RuntimeWarning, stacklevel=3)
        return None


def write_result(
    file: Path, result: RetrainResult, *, history: Sequence[Mapping[str, float]], architecture: Mapping[str, object]
) -> None:
    """Write what `read_result` reads, and the measurements on the way, a row each."""
    record = {"result": asdict(result), "history": history, "architecture": architecture}
    write_atomically(file, json.dumps(record, indent=2) + "\n")
