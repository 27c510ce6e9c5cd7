from __future__ import annotations

import math

import numpy as np
import pytest

from enas.datasets.images import ImageData
from enas.datasets.text import TextData
from enas.metrics import ACCURACY, METRICS, MOST_NATS

PERPLEXITY = METRICS["perplexity"]


def test_value_is_the_fraction_right_or_e_to_the_loss():
    assert ACCURACY.of(accuracy=0.25, loss=2.0) == 0.25
    assert PERPLEXITY.of(accuracy=0.25, loss=2.0) == math.exp(2.0)
    assert PERPLEXITY.of(accuracy=0.0, loss=math.log(10_000)) == pytest.approx(10_000)  # guessing among 10,000 words


@pytest.mark.parametrize("loss", [MOST_NATS + 1, 1e300, math.inf])
def test_perplexity_of_a_huge_loss_is_infinite(loss):
    assert PERPLEXITY.of(accuracy=0.0, loss=loss) == math.inf


def test_perplexity_of_no_loss_is_none():
    assert math.isnan(PERPLEXITY.of(accuracy=0.0, loss=math.nan))
    assert math.isfinite(PERPLEXITY.of(accuracy=0.0, loss=MOST_NATS))


def test_scores_are_higher_for_better_networks_and_undo_themselves():
    assert ACCURACY.score(0.9) > ACCURACY.score(0.8)
    assert PERPLEXITY.score(80.0) > PERPLEXITY.score(90.0) > PERPLEXITY.score(math.inf)
    values = np.array([1.0, 3.0, 2.0])
    for metric in METRICS.values():
        assert metric.score(metric.score(1.5)) == 1.5
        assert metric.scores(values).tolist() == [metric.score(value) for value in values.tolist()]


@pytest.mark.parametrize(
    ("name", "value", "text", "figure", "difference"),
    [
        ("accuracy", 0.98765, "98.77%", "98.77", "+98.77 points"),
        ("perplexity", 123.456, "123.46", "123.46", "+123.46 in perplexity"),
        ("perplexity", math.inf, "inf", "inf", "+inf in perplexity"),
        ("perplexity", math.nan, "nan", "-", "- in perplexity"),
    ],
)
def test_values_in_figures(name, value, text, figure, difference):
    metric = METRICS[name]
    assert (metric.text(value), metric.figure(value), metric.difference(value)) == (text, figure, difference)


def test_spreads_and_ranges_in_figures():
    assert ACCURACY.spread(0.9, 0.0123) == "90.00 +- 1.23 %"
    assert ACCURACY.spread(0.9, math.nan) == "90.00 %"
    assert PERPLEXITY.spread(90.5, 1.25) == "90.50 +- 1.25"
    assert PERPLEXITY.spread(math.inf, math.nan) == "inf"
    assert (ACCURACY.signed_range((-0.01, 0.02)), ACCURACY.figure_range((0.1, 0.2))) == ("-1.00 to +2.00", "10.00 to 20.00")
    assert PERPLEXITY.signed_range((-1.5, 2.0)) == "-1.50 to +2.00"
    assert (ACCURACY.heading_unit, PERPLEXITY.heading_unit) == (" (%)", "")


def test_data_are_told_by_a_metric_over_what_their_labels_are_of():
    assert METRICS[ImageData.metric].example == "image"
    assert METRICS[TextData.metric].example == "token"
