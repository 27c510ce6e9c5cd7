"""How well a network does, as the number that people read: accuracy of images, perplexity of texts.

Values are fractions of what is right, or perplexities: e to the mean cross-entropy. How one is written in figures, and which of
two is the better, is said here, so that no table or sentence has to know what data it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, isnan
from typing import Literal

from enas.types import FloatArray

MetricName = Literal["accuracy", "perplexity"]
Interval = tuple[float, float]

MOST_NATS = 700.0
"""Losses above it are a perplexity of infinity: e to their power is no float64."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of merit, computed from what every measurement gives.

    Attributes:
        name: as people say it.
        plural: of its name.
        example: what it is a mean over, in the singular.
        higher_is_better: whether a larger value is a better network.
        scale: a value times it is the figure that is written: 100 for percent.
        unit: of that figure, empty where it has none.
        difference_unit: of a difference of figures, as the end of it.
    """

    name: MetricName
    plural: str
    example: str
    higher_is_better: bool
    scale: float
    unit: str
    difference_unit: str

    def of(self, *, accuracy: float, loss: float) -> float:
        """Return the value. Args: accuracy: fraction that is right. loss: mean cross-entropy, nats."""
        if self.name == "accuracy":
            return accuracy
        return inf if loss > MOST_NATS else exp(loss)

    def score(self, value: float) -> float:
        """Return a value for what ranks, where higher is better; a score's score is the value."""
        return value if self.higher_is_better else -value

    def scores(self, values: FloatArray) -> FloatArray:
        """Return `score` of each value."""
        return values if self.higher_is_better else -values

    @property
    def heading_unit(self) -> str:
        """The unit as the end of a column's heading or an axis' name: ` (%)`, or nothing."""
        return f" ({self.unit})" if self.unit else ""

    def text(self, value: float) -> str:
        """Return a value as it is printed: an accuracy in percent, a perplexity as it is."""
        return f"{value:.2%}" if self.unit == "%" else f"{value:.2f}"

    def figure(self, value: float) -> str:
        """Return a value for a column whose heading says the unit; a dash for NaN."""
        return "-" if isnan(value) else f"{self.scale * value:.2f}"

    def spread(self, mean: float, deviation: float) -> str:
        """Return `mean +- deviation` with the unit. Args: deviation: NaN where there is none, and then it is left out."""
        unit = f" {self.unit}" if self.unit else ""
        plus = "" if isnan(deviation) else f" +- {self.scale * deviation:.2f}"
        return f"{self.scale * mean:.2f}{plus}{unit}"

    def difference(self, value: float) -> str:
        """Return a difference of values with its sign and its unit: `+1.20 points`, or `-1.23`."""
        return f"{self.signed(value)}{self.difference_unit}"

    def signed(self, value: float) -> str:
        """Return a difference of values with its sign, without a unit; a dash for NaN."""
        return "-" if isnan(value) else f"{self.scale * value:+.2f}"

    def signed_range(self, interval: Interval) -> str:
        """Return an interval of differences: `+0.40 to +2.00`."""
        return f"{self.scale * interval[0]:+.2f} to {self.scale * interval[1]:+.2f}"

    def figure_range(self, interval: Interval) -> str:
        """Return an interval of values: `91.20 to 92.00`."""
        return f"{self.scale * interval[0]:.2f} to {self.scale * interval[1]:.2f}"


METRICS: Mapping[MetricName, Metric] = {
    "accuracy": Metric(
        name="accuracy",
        plural="accuracies",
        example="image",
        higher_is_better=True,
        scale=100.0,
        unit="%",
        difference_unit=" points",
    ),
    "perplexity": Metric(
        name="perplexity",
        plural="perplexities",
        example="token",
        higher_is_better=False,
        scale=1.0,
        unit="",
        difference_unit=" in perplexity",
    ),
}
"""Every metric by its name."""
ACCURACY = METRICS["accuracy"]
