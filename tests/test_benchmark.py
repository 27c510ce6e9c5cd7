from __future__ import annotations

import json

import pytest

from enas.benchmark import HEADINGS, BenchmarkResult
from enas.measure import Pairs


def result(ratios: list[float], *, limit: float | None = 1.05, unit: str = "ms") -> BenchmarkResult:
    pairs = Pairs(first=tuple(0.5 * ratio for ratio in ratios), second=(0.5,) * len(ratios))
    return BenchmarkResult(name="x", what="x / y", unit=unit, limit=limit, pairs=pairs)


def around(lowest: float, count: int = 6) -> list[float]:
    """Ratios whose interval starts at `lowest`: with six values it reaches from the smallest to the largest."""
    return [lowest + 0.01 * step for step in range(count)]


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        (around(0.9), "met"),
        (around(1.049), "met"),  # the median is above the limit, but the interval is not
        (around(1.05), "met"),
        (around(1.051), "MISSED"),
        (around(2.0, count=5), "open"),
    ],
)
def test_limit_is_missed_where_the_whole_interval_is_above_it(ratios, verdict):
    assert result(ratios).verdict == verdict


def test_median_is_of_the_ratios_not_the_ratio_of_medians():
    outcome = BenchmarkResult(
        name="x", what="x / y", unit="ms", limit=1, pairs=Pairs(first=(1.0, 20.0, 300.0), second=(1.0, 10.0, 400.0))
    )
    assert outcome.median == 1.0  # of 1, 2, .75; the medians' ratio is 2


def test_row_shows_medians_in_its_unit_and_the_interval():
    row = result(around(1.0)).cells()
    assert row == ("x", "512.5 / 500.0 ms", "1.025", "1.000 to 1.050", "<= 1.05", "met")
    assert len(row) == len(HEADINGS)


def test_row_shows_bytes_as_mib_and_small_ratios_with_three_figures():
    pairs = Pairs(first=(3 * 2.0**20,), second=(450 * 2.0**20,))
    outcome = BenchmarkResult(name="peak", what="x / y", unit="MiB", limit=0.03, pairs=pairs)
    assert outcome.cells() == ("peak", "3.0 / 450.0 MiB", "0.00667", "n<6: none", "<= 0.03", "open")


def test_json_holds_every_measurement():
    values = json.loads(json.dumps(result(around(1.0)).to_json()))
    assert values["pairs"]["first"] == [0.5 * ratio for ratio in around(1.0)]
    assert values["interval"] == [1.0, pytest.approx(1.05)]
    assert (values["verdict"], values["limit"], values["unit"]) == ("met", 1.05, "ms")


def test_without_a_limit_the_ratio_is_only_reported():
    assert result(around(9.0), limit=None).cells()[-2:] == ("-", "reported")
    assert result([1.0], limit=None).verdict == "reported"


def test_row_shows_seconds():
    pairs = Pairs(first=(1.5,), second=(100.0,))
    outcome = BenchmarkResult(name="x", what="x / y", unit="s", limit=None, pairs=pairs)
    assert outcome.cells()[1:3] == ("1.5 / 100.0 s", "0.0150")


@pytest.mark.parametrize("limit", [None, 1.05])
def test_json_gives_back_the_benchmark(limit):
    outcome = result(around(1.0), limit=limit)
    assert BenchmarkResult.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": None}, "expected a benchmark with name, what, unit, note, limit and pairs of numbers"),
        ({"pairs": {"first": ["a"], "second": [1]}}, "pairs of numbers"),
        ({"pairs": {"first": [1.0], "second": [0.0]}}, "x: expected measurements above 0"),
        ({"pairs": {"first": [1.0], "second": [1.0, 2.0]}}, "expected as many first as second values"),
        ({"limit": "low"}, "pairs of numbers"),
        ({"unit": "miles"}, "one of the units ms, s, MiB"),
        ({"name": 3}, "expected texts as name, what, unit, note"),
    ],
)
def test_json_of_something_else_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkResult.from_json({**result([1.0]).to_json(), **changes})
