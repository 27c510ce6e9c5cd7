"""From a finished search to its answer: candidates measured on the whole validation set, best first (Pham et al. 2018, 2.2).

Rewards are measured on single minibatches while the weights move; a ranking needs every candidate on the same images under the
final weights. The test split plays no part here.
"""

from __future__ import annotations

from dataclasses import dataclass

from enas.failures import Failure, failures
from enas.shared_weights import SharedWeights
from enas.types import IntArray


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An architecture and what the shared weights say of it.

    Attributes:
        tokens: of the search's space.
        valid_accuracy: fraction of the whole validation split.
        valid_loss: mean cross-entropy there, nats.
        failure: why it could not be measured, or None.
    """

    tokens: tuple[int, ...]
    valid_accuracy: float
    valid_loss: float
    failure: Failure | None = None


def rank_candidates(shared: SharedWeights, tokens: IntArray) -> list[Candidate]:
    """Measure architectures, int64 (K, D), on the whole validation split.

    Returns: the highest accuracy first (ties: lower loss); last of all those that failed (see `enas.failures`).
    """
    evaluation = shared.evaluate_all([shared.space.decode(row) for row in tokens])
    failed = failures(evaluation.loss, evaluation.accuracy)
    rows = zip(tokens.tolist(), evaluation.accuracy.tolist(), evaluation.loss.tolist(), failed, strict=True)
    candidates = [
        Candidate(tokens=tuple(row), valid_accuracy=accuracy, valid_loss=loss, failure=failure)
        for row, accuracy, loss, failure in rows
    ]
    return sorted(candidates, key=_rank)


def _rank(candidate: Candidate) -> tuple[bool, float, float, tuple[int, ...]]:
    if candidate.failure is not None:
        return True, 0.0, 0.0, candidate.tokens
    return False, -candidate.valid_accuracy, candidate.valid_loss, candidate.tokens
