"""A measured ratio beside its limit: met or missed, as a row of a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from enas.measure import Pairs, median_interval

MIN_PAIRS = 30
"""Fewer pairs are for trying out."""
HEADINGS = ("benchmark", "medians", "ratio", "95 % interval", "limit", "verdict")
SCALES = {"ms": 1e3, "MiB": 2**-20}
"""Units of the table, and how many of them a second or a byte is."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """One benchmark's outcome.

    Attributes:
        name: in a word.
        what: what the first and the second of a pair are, in a line.
        unit: `ms` for pairs of seconds, `MiB` for pairs of bytes.
        limit: the largest ratio that is asked for.
        pairs: the measurements.
        note: what else was seen; empty for nothing.
    """

    name: str
    what: str
    unit: str
    limit: float
    pairs: Pairs
    note: str = ""

    @property
    def median(self) -> float:
        """The median of the pairs' ratios."""
        return float(np.median(self.pairs.ratios))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the median; None for fewer than 6 pairs."""
        return median_interval(self.pairs.ratios)

    @property
    def verdict(self) -> str:
        """`MISSED` where the whole interval is above the limit, `met` otherwise, `open` without an interval."""
        if self.interval is None:
            return "open"
        return "MISSED" if self.interval[0] > self.limit else "met"

    def cells(self) -> tuple[str, ...]:
        """Return a table's row under `HEADINGS`."""
        medians = (f"{SCALES[self.unit] * float(np.median(side)):.1f}" for side in (self.pairs.first, self.pairs.second))
        bounds = "n<6: none" if self.interval is None else " to ".join(map(_ratio, self.interval))
        sides = f"{' / '.join(medians)} {self.unit}"
        return (self.name, sides, _ratio(self.median), bounds, f"<= {self.limit:g}", self.verdict)

    def to_json(self) -> dict[str, Any]:
        """Return every measurement, in seconds or bytes, and what follows from them."""
        return {**asdict(self), "median": self.median, "interval": self.interval, "verdict": self.verdict}


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value >= 0.1 else f"{value:#.3g}"
