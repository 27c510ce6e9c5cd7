"""How well a network does, as the number that people read: accuracy of images, perplexity of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf
from typing import Literal

MetricName = Literal["accuracy", "perplexity"]

MOST_NATS = 700.0
"""Losses above it are a perplexity of infinity: e to their power is no float64."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of merit, computed from what every measurement gives.

    Attributes:
        name: as people say it.
        higher_is_better: whether a larger value is a better network.
    """

    name: MetricName
    higher_is_better: bool

    def of(self, *, accuracy: float, loss: float) -> float:
        """Return the value. Args: accuracy: fraction that is right. loss: mean cross-entropy, nats."""
        if self.name == "accuracy":
            return accuracy
        return inf if loss > MOST_NATS else exp(loss)

    def text(self, value: float) -> str:
        """Return a value as it is printed: an accuracy in percent, a perplexity as it is."""
        return f"{value:.2%}" if self.name == "accuracy" else f"{value:.2f}"


METRICS: Mapping[MetricName, Metric] = {
    "accuracy": Metric(name="accuracy", higher_is_better=True),
    "perplexity": Metric(name="perplexity", higher_is_better=False),
}
"""Every metric by its name."""
