from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from enas.compare.curves import NUM_POINTS, band, bands_of, curve_of, incumbents, step_values
from enas.compare.outcomes import History, Outcome


def history(rewards: list[float], *, seconds: list[float] | None = None, truths: list[float] | None = None) -> History:
    ends = seconds or [10.0 * (index + 1) for index in range(len(rewards))]
    known = None if truths is None else np.array(truths)
    return History(rewards=np.array(rewards), values=np.array(rewards), seconds=np.array(ends), truths=known)


def outcome(seed: int, past: History) -> Outcome:
    return Outcome(strategy="enas", seed=seed, measures={}, history=past, spent={})


def test_incumbent_is_the_first_of_the_best_so_far():
    assert incumbents(np.array([3.0, 1.0, 3.0, 4.0, 4.0, 2.0])).tolist() == [0, 0, 0, 3, 3, 3]
    rewards = np.random.default_rng(0).integers(5, size=50).astype(float)
    assert incumbents(rewards).tolist() == [int(np.argmax(rewards[: end + 1])) for end in range(50)]


def test_regret_is_that_of_the_architecture_with_the_best_reward_not_the_best_regret():
    past = history([0.5, 0.7, 0.6, 0.8], truths=[0.9, 0.85, 0.95, 0.8], seconds=[1, 2, 4, 8])
    x, y = curve_of(past, axis="seconds", quantity="regret", best_truth=0.95)
    assert x.tolist() == [1, 2, 4, 8]
    np.testing.assert_allclose(y, [0.05, 0.1, 0.1, 0.15])
    x, y = curve_of(past, axis="architectures", quantity="reward")
    assert (x.tolist(), y.tolist()) == ([1, 2, 3, 4], [0.5, 0.7, 0.7, 0.8])
    with pytest.raises(ValueError, match="expected truths for a regret, got none"):
        curve_of(history([0.5]), axis="seconds", quantity="regret", best_truth=1.0)


def test_value_is_that_of_the_architecture_with_the_best_reward():
    past = replace(history([0.5, 0.7, 0.6, 0.8]), values=np.array([160.0, np.inf, 110.0, 100.0]))
    x, y = curve_of(past, axis="architectures", quantity="value")
    assert x.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(y, [160.0, np.nan, np.nan, 100.0])


def test_step_function_holds_its_value_until_the_next_step():
    x, y = np.array([1.0, 2.0, 2.0, 5.0]), np.array([10.0, 20.0, 30.0, 40.0])
    values = step_values(x, y, np.array([0.5, 1.0, 1.9, 2.0, 4.9, 5.0, 99.0]))
    assert np.isnan(values[0])
    assert values[1:].tolist() == [10, 10, 30, 30, 40, 40]


def test_band_is_the_interquartile_mean_at_each_point():
    values = np.random.default_rng(0).random((9, 4))
    found = band(np.arange(4.0), values)
    np.testing.assert_allclose(found.iqm, stats.trim_mean(values, 0.25, axis=0))
    assert found.low is not None
    assert found.high is not None
    assert (found.low < found.iqm).all()
    assert (found.iqm < found.high).all()
    few = band(np.arange(4.0), values[:7])
    assert (found.has_interval, few.has_interval) == (True, False)
    assert few.low is not None
    assert few.high is not None
    assert (few.low.tolist(), few.high.tolist()) == (values[:7].min(axis=0).tolist(), values[:7].max(axis=0).tolist())
    single = band(np.arange(4.0), values[:1])
    assert (single.low, single.high, single.iqm.tolist()) == (None, None, values[0].tolist())


def test_curve_begins_where_all_runs_have_measured_and_ends_where_fewer_than_half_go_on():
    runs = {
        "enas": [outcome(0, history([0.1, 0.3], seconds=[5, 20])), outcome(1, history([0.2, 0.2, 0.5], seconds=[8, 9, 31]))],
        "none": [],
    }
    by_seconds = bands_of(runs, axis="seconds", quantity="reward")
    assert list(by_seconds) == ["enas"]
    found = by_seconds["enas"]
    assert (found.x[0], found.x[-1], found.num_runs) == (8, 31, 2)
    assert (found.iqm[0], found.iqm[-1]) == (pytest.approx(0.15), pytest.approx(0.4))
    assert np.isfinite(found.iqm).all()
    by_number = bands_of(runs, axis="architectures", quantity="reward")["enas"]
    assert by_number.x.tolist() == [1, 2, 3]
    np.testing.assert_allclose(by_number.iqm, [0.15, 0.25, 0.4])
    assert bands_of({"none": []}, axis="seconds", quantity="reward") == {}
    lengths = (3, 9, 5, 40, 4)  # three of five have 5, two have 9; those that are over keep their value
    many = {"enas": [outcome(seed, history([float(length)] * length)) for seed, length in enumerate(lengths)]}
    found = bands_of(many, axis="architectures", quantity="reward")["enas"]
    assert found.x.tolist() == [1, 2, 3, 4, 5]
    assert found.iqm.tolist() == [stats.trim_mean(lengths, 0.25)] * 5


def test_strategies_share_the_grid_where_both_have_runs():
    runs = {name: [outcome(0, history(list(np.linspace(0, 1, num))))] for name, num in (("short", 300), ("long", 500))}
    bands = bands_of(runs, axis="architectures", quantity="reward")
    short, long = set(bands["short"].x), set(bands["long"].x)
    assert len(long) <= NUM_POINTS + 2
    assert short - long <= {300.0}
