from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from enas.configs import ObjectiveConfig
from enas.rewards import FLOOR, REWARDS, limit_excess, make_objective, make_reward
from enas.types import Evaluation

OBJECTIVES = {
    "accuracy": ObjectiveConfig(),
    "cost_product": ObjectiveConfig(cost="parameters", target=1000, exponent=-0.5),
    "perplexity": ObjectiveConfig(perplexity_scale=0.3 * np.e),  # .3 for a loss of 1 nat
}


def measured(accuracy, loss, parameters=None):
    costs = {"parameters": np.array([1000.0] * len(accuracy) if parameters is None else parameters)}
    return Evaluation(accuracy=np.array(accuracy), loss=np.array(loss), num_examples=100, costs=costs)


def product(parameters, accuracy=0.8, **changes):
    """The reward of one architecture against a target of 1,000 parameters."""
    values = {"cost": "parameters", "target": 1000, "exponent": -0.5, **changes}
    return float(make_reward("cost_product", ObjectiveConfig(**values))(measured([accuracy], [1.0], [parameters]))[0])


def test_accuracy_is_the_fraction_right():
    rewards = make_reward("accuracy")(measured([0.25, 1.0, 0.0], [1.2, 0.01, 9.0]))
    assert rewards.tolist() == [0.25, 1.0, 0.0]
    assert rewards.dtype == np.float64


@pytest.mark.parametrize("name", REWARDS)
@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_architecture_whose_loss_is_not_finite_gets_the_floor(name, loss):
    rewards = make_reward(name, OBJECTIVES[name])(measured([0.25, 0.3], [loss, 1.0]))
    assert rewards.tolist() == [FLOOR, pytest.approx(0.3)]


@pytest.mark.parametrize("name", REWARDS)
def test_reward_is_one_finite_number_an_architecture_and_leaves_the_measurement_alone(name):
    evaluation = measured([0.1, 0.2, 0.3], [2.0, np.nan, 1.0])
    rewards = make_reward(name, OBJECTIVES[name])(evaluation)
    assert rewards.shape == (3,)
    assert np.isfinite(rewards).all()
    rewards[:] = 7
    assert evaluation.accuracy.tolist() == [0.1, 0.2, 0.3]
    assert evaluation.costs["parameters"].tolist() == [1000.0] * 3


@pytest.mark.parametrize("name", REWARDS)
def test_reward_of_one_architecture_does_not_depend_on_the_others(name):
    reward = make_reward(name, OBJECTIVES[name])
    together = reward(measured([0.1, 0.9], [2.0, 0.2], [50.0, 1500.0]))
    assert together[1] == reward(measured([0.9], [0.2], [1500.0]))[0]


# c / perplexity, by hand with the authors' c of 80.


def test_perplexity_reward_is_the_scale_over_the_perplexity():
    rewards = make_reward("perplexity")(measured([0.1, 0.2, 0.3], np.log([80.0, 160.0, 1.0])))
    np.testing.assert_allclose(rewards, [1.0, 0.5, 80.0])
    assert make_reward("perplexity", ObjectiveConfig(perplexity_scale=60))(measured([0.0], [np.log(120)])) == pytest.approx(0.5)


def test_perplexity_reward_knows_nothing_of_accuracy_and_ranks_as_the_loss_does():
    losses = np.array([4.0, 2.0, 3.0, 700.0, 1e6])
    with np.errstate(all="raise", under="ignore"):
        rewards = make_reward("perplexity")(measured([0.1, 0.2, 0.3, 0.4, 0.9], losses))
    assert rewards.argsort().tolist() == [4, 3, 0, 2, 1]
    assert rewards[4] == FLOOR  # a perplexity that is no float64


def test_limits_hold_beside_the_perplexity_reward():
    reward = make_reward("perplexity", ObjectiveConfig(max_parameters=1000))
    assert reward(measured([0.1, 0.1], [np.log(40)] * 2, [1000.0, 1001.0])).tolist() == [pytest.approx(2.0), FLOOR]


@pytest.mark.parametrize("name", ["accuracy", "cost_product"])
def test_perplexity_scale_is_refused_where_nothing_is_scaled(name):
    objective = replace(OBJECTIVES[name], perplexity_scale=40.0)
    with pytest.raises(ValueError, match=r"objective.perplexity_scale: expected 80.0 without the reward perplexity, got 40.0"):
        make_reward(name, objective)


def test_perplexity_reward_weighs_no_cost():
    with pytest.raises(ValueError, match=r"objective.cost: expected none with the reward perplexity; .* got flops"):
        make_reward("perplexity", ObjectiveConfig(cost="flops", target=10))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_perplexity_scale_is_above_zero(scale):
    with pytest.raises(ValueError, match="perplexity_scale: expected a number above 0"):
        ObjectiveConfig(perplexity_scale=scale)


# accuracy * (cost / target)^w, by hand with w = -1/2: a fourth of the cost doubles it.


@pytest.mark.parametrize(
    ("parameters", "soft", "hard"), [(1000, 0.8, 0.8), (4000, 0.4, 0.4), (100_000, 0.08, 0.08), (250, 1.6, 0.8)]
)
def test_cost_product_is_worked_by_hand(parameters, soft, hard):
    assert product(parameters) == pytest.approx(soft)
    assert product(parameters, soft=False) == pytest.approx(hard)


def test_default_exponent_takes_twice_the_cost_for_five_percent_more_accuracy():
    exponent = ObjectiveConfig().exponent
    assert product(2000, accuracy=0.8 * 1.05, exponent=exponent) == pytest.approx(product(1000, exponent=exponent), rel=1e-3)


def test_cost_product_falls_with_the_cost_and_rises_with_accuracy():
    costs = np.geomspace(10, 1e6, 30)
    assert (np.diff([product(cost) for cost in costs]) < 0).all()
    hard = np.array([product(cost, soft=False) for cost in costs])
    assert (np.diff(hard) <= 0).all()
    assert (hard[costs <= 1000] == 0.8).all()
    assert (np.diff([product(3000, accuracy=accuracy) for accuracy in np.linspace(0, 1, 9)]) > 0).all()


@pytest.mark.parametrize(("parameters", "least", "most"), [(0.0, 1.0, 1e6), (np.inf, FLOOR, FLOOR)])
def test_rewards_of_extreme_costs_are_finite_and_no_lower_than_the_floor(parameters, least, most):
    assert least <= product(parameters) <= most


# Hard limits.


@pytest.mark.parametrize("name", REWARDS)
def test_architecture_over_a_limit_gets_the_floor_and_one_at_it_does_not(name):
    values = {"cost": "parameters", "target": 1000} if name == "cost_product" else {}
    evaluation = measured([0.5, 0.5, 0.5], [1.0] * 3, [999.0, 1000.0, 1001.0])
    limited = make_reward(name, ObjectiveConfig(max_parameters=1000, **values))(evaluation)
    free = make_reward(name, ObjectiveConfig(**values))(evaluation)
    assert limited.tolist() == [*free[:2], FLOOR]


def test_excess_is_the_largest_ratio_over_all_limits():
    costs = {"parameters": np.array([50.0, 300.0]), "latency": np.array([4.0, np.inf])}
    limits = ObjectiveConfig(max_parameters=100, max_latency=2.0).limits
    assert limit_excess(costs, limits).tolist() == [2.0, np.inf]
    assert limit_excess(costs, {"parameters": 100}).tolist() == [0.5, 3.0]


@pytest.mark.parametrize("objective", [{"cost": "flops", "target": 5.0}, {"max_flops": 5}])
def test_cost_that_was_not_measured_is_named(objective):
    reward = make_reward("cost_product" if "cost" in objective else "accuracy", ObjectiveConfig(**objective))
    with pytest.raises(ValueError, match=r"expected an evaluation with flops, which .* measures, got costs parameters"):
        reward(measured([0.5], [1.0]))


# What an objective is.


def test_only_the_costs_that_count_are_named_the_weighed_one_first():
    assert ObjectiveConfig().costs == ()
    assert ObjectiveConfig(max_latency=3.0, max_flops=10).costs == ("flops", "latency")
    assert ObjectiveConfig(cost="parameters", target=10, max_flops=10, max_parameters=5).costs == ("parameters", "flops")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cost": "energy", "target": 1}, "cost: expected one of flops, latency, parameters or None, got 'energy'"),
        ({"cost": "flops"}, "target: expected a number above 0, the flops to aim at, got None"),
        ({"cost": "flops", "target": 0}, "target: expected a number above 0, the flops to aim at, got 0"),
        ({"cost": "flops", "target": float("nan")}, "target: expected a number above 0, the flops to aim at, got nan"),
        ({"target": 5.0}, "target: expected None without a cost, got 5.0"),
        ({"exponent": 0.07}, "exponent: expected a number below 0, got 0.07"),
        ({"exponent": float("-inf")}, "exponent: expected a number below 0, got -inf"),
        ({"exponent": -0.5}, "exponent: expected -0.07 without a cost, got -0.5"),
        ({"soft": False, "max_flops": 10}, "soft: expected True without a cost, got False"),
        (
            {"latency_batch": 8, "cost": "flops", "target": 1},
            "latency_batch: expected 1 where no latency is measured, got 8",
        ),
        ({"latency_repeats": 3}, "latency_repeats: expected 15 where no latency is measured, got 3"),
        ({"max_parameters": 0}, "max_parameters: expected a number above 0 or None, got 0"),
        ({"max_flops": -3}, "max_flops: expected a number above 0 or None, got -3"),
        ({"max_latency": float("inf")}, "max_latency: expected a number above 0 or None, got inf"),
        ({"latency_batch": 0}, "latency_batch: expected at least 1, got 0"),
        ({"latency_repeats": 0}, "latency_repeats: expected at least 1, got 0"),
        ({"price": 3}, "unexpected keyword argument 'price'"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(ValueError, match=f"objective: .*{message}"):
        make_objective(values)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("speed", {}, "reward: expected one of accuracy, cost_product, perplexity, got 'speed'"),
        ("cost_product", {}, "objective.cost: expected flops, latency, parameters with the reward cost_product, .* got None"),
        (
            "accuracy",
            {"cost": "flops", "target": 9},
            "objective.cost: expected none with the reward accuracy; cost_product .* got flops",
        ),
    ],
)
def test_reward_and_objective_have_to_fit(name, values, message):
    with pytest.raises(ValueError, match=message):
        make_reward(name, ObjectiveConfig(**values))


def test_rewards_can_be_pickled():
    reward = make_reward("cost_product", ObjectiveConfig(cost="parameters", target=500, max_parameters=2000))
    evaluation = measured([0.5, 0.6], [1.0, 1.0], [400.0, 3000.0])
    assert pickle.loads(pickle.dumps(reward))(evaluation).tolist() == reward(evaluation).tolist()
