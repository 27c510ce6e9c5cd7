"""What one training from scratch gave, and the `result.json` that keeps it."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from enas.atomic_file import write_atomically
from enas.metrics import METRICS, MetricName


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A network on a whole split.

    Attributes:
        accuracy: fraction of the examples, or of a text's tokens, that it gets right.
        loss: mean cross-entropy, nats.
    """

    accuracy: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class RetrainResult:
    """What one training gave.

    Attributes:
        test_accuracy: fraction of the test split after the last epoch.
        best_test_accuracy: the highest of the measurements on the way; chosen on the test split, so never a result by itself.
        train_loss: mean over the last epoch of what its steps descended, nats; an auxiliary head's part is in it.
        parameters: of the network, without an auxiliary head.
        seed: of weights, minibatches, augmentation, dropout and drop-path.
        test_loss: mean cross-entropy on the test split after the last epoch, nats; NaN in files of before it was kept.
        best_test_loss: the lowest of the measurements on the way; no result by itself either.
        valid_accuracy, valid_loss: on the validation split after the last epoch; None where it was trained on or there is none.
        metric: how the result is told.
    """

    test_accuracy: float
    best_test_accuracy: float
    train_loss: float
    parameters: int
    seed: int
    test_loss: float = math.nan
    best_test_loss: float = math.nan
    valid_accuracy: float | None = None
    valid_loss: float | None = None
    metric: MetricName = "accuracy"

    @property
    def test_value(self) -> float:
        """The metric on the test split after the last epoch."""
        return METRICS[self.metric].of(accuracy=self.test_accuracy, loss=self.test_loss)

    @property
    def valid_value(self) -> float | None:
        """The metric on the validation split after the last epoch, if it was measured there."""
        if self.valid_accuracy is None or self.valid_loss is None:
            return None
        return METRICS[self.metric].of(accuracy=self.valid_accuracy, loss=self.valid_loss)

    @property
    def best_test_value(self) -> float:
        """The best of the metric's measurements on the way."""
        return METRICS[self.metric].of(accuracy=self.best_test_accuracy, loss=self.best_test_loss)


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
