"""Watching, as a search goes, how well its shared weights rank architectures whose truth a benchmark's table knows.

The sample is the same in every run, so that curves of runs lie over each other, and another than that of the command `rank`.
Only validation accuracies are read: nothing that a user may act upon during a search knows of the test split. Nothing of the
search moves: no weight, no counter, no generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from enas.configs import RankingConfig
from enas.seeding import derive_seed
from enas.spaces.base import SearchSpace
from enas.spaces.sampling import sample_distinct
from enas.tables import load_table
from enas.types import Evaluation, FloatArray

SAMPLE_SEED = derive_seed(0, "ranking monitor")
"""Not a number that a user would give `rank`, whose architectures are drawn alike: who tunes a search by `ranking/tau` would
otherwise have tuned it on a part of the sample that the outcome is then reported on."""


class Measured(Protocol):
    """What the monitor needs of shared weights."""

    def evaluate_all(self, architectures: Sequence[Any], *, num_images: int | None = None) -> Evaluation:
        """Measure architectures on validation images and leave everything as it is."""
        ...


@dataclass(frozen=True, kw_only=True)
class RankSample:
    """Architectures and what the table says of them.

    Attributes:
        architectures: of the space.
        truths: float (n,), validation accuracies of the networks trained alone, fractions.
    """

    architectures: Sequence[Any]
    truths: FloatArray


def draw_sample(space: SearchSpace[Any], config: RankingConfig) -> RankSample:
    """Draw the sample of a configuration that names a table.

    Raises: ValueError naming the flag where the table cannot be read, or lacks the data set or an architecture, or where the
        space has fewer architectures.
    """
    if config.table is None:
        raise ValueError("ranking.table: expected a table, got none")
    with _named("ranking.table"):
        table = load_table(config.table)
    with _named("ranking.num_architectures"):
        tokens = sample_distinct(space, config.num_architectures, np.random.default_rng(SAMPLE_SEED))
    with _named("ranking.data"):
        truths = table.accuracy(config.data, "valid")
    with _named("ranking.table"):
        rows = table.rows_of(tokens)
    return RankSample(architectures=[space.decode(row) for row in tokens], truths=truths[rows])


@contextmanager
def _named(flag: str) -> Iterator[None]:
    """Within the block, a ValueError's message begins with the flag that it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from error


class RankMonitor:
    """Measures Kendall's tau between shared-weight accuracy and the truth at the end of some epochs, and where training ends.

    Args:
        shared: the weights in training.
        sample: what they are to rank.
        config: every how many epochs, on how many images.
    """

    def __init__(self, shared: Measured, sample: RankSample, config: RankingConfig) -> None:
        self._shared = shared
        self._sample = sample
        self._config = config

    def __call__(self, epoch: int, is_frozen: bool) -> dict[str, float]:
        """Return `ranking/tau`; nothing where it is not due. NaN where all are rated the same.

        Args: epoch: how many are complete. is_frozen: whether nothing trains the weights from now on: then it is always due.
        """
        if epoch % self._config.every_epochs and not is_frozen:
            return {}
        # SciPy takes a second to load, and a mistake in a flag does not wait for it.
        from enas.ranking.rank_statistics import comparable, kendall_tau

        evaluation = self._shared.evaluate_all(self._sample.architectures, num_images=self._config.num_images)
        scores = comparable(evaluation.accuracy, losses=evaluation.loss)
        return {"ranking/tau": kendall_tau(scores, self._sample.truths)}
