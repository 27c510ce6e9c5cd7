from __future__ import annotations

import numpy as np
import pytest

from enas.compare.fronts import cost_names, front_bands
from enas.compare.outcomes import front_of
from enas.metrics import METRICS


def test_front_is_the_best_accuracy_at_each_cost_or_below():
    costs = np.array([30.0, 10.0, 20.0, 20.0, 1.0, np.inf, 40.0])
    accuracies = np.array([0.7, 0.5, 0.6, 0.4, np.nan, 0.9, 0.65])
    found = front_of(costs, accuracies)
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([10, 20, 30], [0.5, 0.6, 0.7])
    for cost in (10.0, 15.0, 20.0, 39.0, 40.0):
        expected = max(one for one, at in zip(accuracies, costs, strict=True) if at <= cost and np.isfinite(one))
        assert found[1][np.searchsorted(found[0], cost, side="right") - 1] == expected
    assert front_of(np.array([1.0, np.nan]), np.array([np.nan, 0.5])) is None


def test_front_of_perplexities_falls():
    costs, perplexities = np.array([30.0, 10.0, 20.0, 40.0]), np.array([70.0, 90.0, 95.0, np.inf])
    found = front_of(costs, perplexities, METRICS["perplexity"])
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([10, 30], [90, 70])


def test_strategys_front_is_the_interquartile_mean_of_its_runs_not_their_luck(make_outcome):
    def run(seed, costs, accuracies):
        return make_outcome("enas", seed, 0.5, fronts={"flops": (np.array(costs), np.array(accuracies))})

    runs = [
        run(0, [10.0, 30.0], [0.5, 0.7]),
        run(1, [20.0], [0.6]),
        run(2, [5.0, 30.0], [0.2, 0.8]),
        run(3, [10.0, 25.0], [0.1, 0.9]),  # of four runs the lowest and the highest do not count
    ]
    assert cost_names(runs) == ["flops"]
    found = front_bands({"enas": runs, "none": []}, "flops")
    assert list(found) == ["enas"]
    assert found["enas"].x.tolist() == [20, 25, 30]  # from where all runs have something
    assert found["enas"].iqm.tolist() == pytest.approx([(0.5 + 0.2) / 2, (0.5 + 0.6) / 2, (0.7 + 0.8) / 2])
    assert cost_names([*runs, make_outcome("enas", 4, 0.5)]) == []  # one run does not know it
    assert cost_names([]) == []
    assert front_bands({"none": []}, "flops") == {}
