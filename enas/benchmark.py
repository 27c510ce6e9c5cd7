"""A measured ratio beside its limit: met or missed, as a row of a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Self

import numpy as np

from enas.measure import Pairs, median_interval

MIN_PAIRS = 30
"""Fewer pairs are for trying out."""
HEADINGS = ("benchmark", "medians", "ratio", "95 % interval", "limit", "verdict")
SCALES = {"ms": 1e3, "s": 1.0, "MiB": 2**-20}
"""Units of the table, and how many of them a second or a byte is."""
_WORDS = ("name", "what", "unit", "note")


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """One benchmark's outcome.

    Attributes:
        name: in a word.
        what: what the first and the second of a pair are, in a line.
        unit: `ms` or `s` for pairs of seconds, `MiB` for pairs of bytes.
        limit: the largest ratio that is asked for; None where it is only reported.
        pairs: the measurements.
        note: what else was seen; empty for nothing.
    """

    name: str
    what: str
    unit: str
    limit: float | None
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
        """`MISSED` where the whole interval is above the limit, `met` otherwise; `open` without an interval, `reported` without
        a limit.
        """
        if self.limit is None:
            return "reported"
        if self.interval is None:
            return "open"
        return "MISSED" if self.interval[0] > self.limit else "met"

    def cells(self) -> tuple[str, ...]:
        """Return a table's row under `HEADINGS`."""
        medians = (f"{SCALES[self.unit] * float(np.median(side)):.1f}" for side in (self.pairs.first, self.pairs.second))
        sides = f"{' / '.join(medians)} {self.unit}"
        limit = "-" if self.limit is None else f"<= {self.limit:g}"
        return (self.name, sides, ratio_text(self.median), interval_text(self.interval), limit, self.verdict)

    def to_json(self) -> dict[str, Any]:
        """Return every measurement, in seconds or bytes, and what follows from them."""
        return {**asdict(self), "median": self.median, "interval": self.interval, "verdict": self.verdict}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned. Raises ValueError for anything else."""
        try:
            words = {name: values[name] for name in _WORDS}
            limit = None if values["limit"] is None else float(values["limit"])
            sides = {side: tuple(map(float, values["pairs"][side])) for side in ("first", "second")}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected a benchmark with {', '.join(_WORDS)}, limit and pairs of numbers, got {error!r}"
            ) from error
        if not (all(isinstance(word, str) for word in words.values()) and words["unit"] in SCALES):
            raise ValueError(f"expected texts as {', '.join(_WORDS)}, with one of the units {', '.join(SCALES)}, got {words}")
        if not all(0 < value < inf for side in sides.values() for value in side):
            raise ValueError(f"{words['name']}: expected measurements above 0")
        return cls(**words, limit=limit, pairs=Pairs(**sides))


def ratio_text(value: float) -> str:
    """Return a ratio with three figures after the point, or three that count where it is small."""
    return f"{value:.3f}" if value >= 0.1 else f"{value:#.3g}"


def interval_text(interval: tuple[float, float] | None) -> str:
    """Return a ratio's interval in words."""
    return "n<6: none" if interval is None else " to ".join(map(ratio_text, interval))
