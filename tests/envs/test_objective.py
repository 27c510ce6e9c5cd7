"""Environments whose reward weighs or limits what an architecture costs."""

from __future__ import annotations

from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from enas.children.cost import measure_cost
from enas.configs import ObjectiveConfig
from enas.costs import CostMeter
from enas.rewards import FLOOR, make_reward
from enas.spaces.macro import MacroConfig
from enas.spaces.nasbench201 import OPERATIONS
from envs.phases import PhaseRunner
from envs.shared_weight import SharedWeightEnv
from envs.vector import SharedWeightVectorEnv

SMALL, LARGE = [4, 4, 0, 4, 0, 0], [1, 1, 1, 1, 1, 1]
PLAIN = {"child": {"num_layers": 3, "filters": 4}, "shared": {"batch_size": 16, "valid_batch_size": 16}, "device": "cpu"}
GOAL = {"cost": "parameters", "target": 500.0, "exponent": -0.5}


def parameters_of(tokens: list[int]) -> int:
    config = MacroConfig(num_layers=3, filters=4)
    return measure_cost(config, config.make_space().decode(tokens), input_shape=(1, 8, 8), num_classes=10).parameters


@pytest.mark.parametrize("phase", ["controller", "both"])
def test_reward_is_accuracy_times_the_ratio_of_costs(phase):
    env = gym.make("enas/Macro-v0", reward="cost_product", objective=GOAL, phase=phase, **PLAIN)
    env.reset(seed=0)
    for tokens in (SMALL, LARGE):
        _, reward, _, _, info = env.step(np.array(tokens))
        assert info["parameters"] == parameters_of(tokens)
        assert "flops" not in info
        assert reward == pytest.approx(info["accuracy"] * (info["parameters"] / 500) ** -0.5)


def test_vector_and_token_environments_give_the_same_rewards_and_costs():
    values = {**PLAIN, "reward": "cost_product", "objective": {**GOAL, "max_flops": 10**9}, "phase": "controller"}
    single = gym.make("enas/Macro-v0", **values)
    vector = gym.make_vec("enas/Macro-v0", num_envs=2, **values)
    tokens = gym.make("enas/MacroTokens-v0", **values)
    single.reset(seed=0)
    expected = [single.step(np.array(row)) for row in (SMALL, LARGE)]
    vector.reset(seed=0)
    _, rewards, _, _, infos = vector.step(np.array([SMALL, LARGE]))
    assert rewards.tolist() == [step[1] for step in expected]
    for name in ("parameters", "flops"):
        assert infos["final_info"][name].tolist() == [step[4][name] for step in expected]
    tokens.reset(seed=0)
    for token in SMALL:
        _, reward, _, _, info = tokens.step(token)
    assert (reward, info["parameters"], info["flops"]) == (expected[0][1], *(expected[0][4][n] for n in ("parameters", "flops")))


def test_architecture_over_a_limit_is_measured_and_gets_the_floor():
    limit = (parameters_of(SMALL) + parameters_of(LARGE)) // 2
    env = gym.make_vec("enas/Macro-v0", num_envs=2, objective={"max_parameters": limit}, phase="controller", **PLAIN)
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step(np.array([SMALL, LARGE]))
    accuracy = infos["final_info"]["accuracy"]
    assert rewards.tolist() == [accuracy[0], FLOOR]
    assert accuracy[1] > 0
    assert np.isfinite(infos["final_info"]["loss"]).all()
    assert env.unwrapped.runner.shared.num_evaluations == 2


def test_training_steps_measure_no_cost(weights, monkeypatch):
    shared = weights()
    meter = CostMeter(shared, ObjectiveConfig(max_latency=1.0))
    monkeypatch.setattr(meter, "measure", lambda _: pytest.fail("a training step needs no cost"))
    runner = PhaseRunner(shared, reward=make_reward("accuracy"), phase="shared", meter=meter)
    _, info = runner.step(np.array([SMALL]))
    assert set(info) == {"train_accuracy", "train_loss", "grad_norm", "learning_rate"}


def test_latency_reaches_reward_and_info(weights):
    shared, objective = weights(), ObjectiveConfig(cost="latency", target=2.0, exponent=-1.0)
    meter = CostMeter(shared, objective)
    env = SharedWeightVectorEnv(
        shared, num_envs=2, reward=make_reward("cost_product", objective), phase="controller", meter=meter
    )
    _, rewards, _, _, infos = env.step(np.array([SMALL, LARGE]))
    measured = infos["final_info"]
    assert rewards == pytest.approx(measured["accuracy"] * 2.0 / measured["latency"])
    measured["latency"][:] = -1  # the infos are the caller's
    assert (meter.measure(np.array([SMALL, LARGE]))["latency"] > 0).all()


def test_reward_without_its_meter_is_refused(weights):
    reward = make_reward("accuracy", ObjectiveConfig(max_parameters=10))
    env = SharedWeightEnv(weights(), reward=reward, phase="controller")
    with pytest.raises(ValueError, match="expected an evaluation with parameters, which `enas"):
        env.step(np.array(SMALL))


def test_checker_of_gymnasium_finds_nothing():
    check_env(gym.make("enas/Macro-v0", reward="cost_product", objective=GOAL, **PLAIN).unwrapped)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reward": "speed"}, "reward: expected one of accuracy, cost_product, perplexity, got 'speed'"),
        ({"reward": "perplexity"}, "reward: expected accuracy or cost_product with images, which have no perplexity, got perpl"),
        ({"reward": "cost_product"}, "objective.cost: expected flops, latency, parameters with the reward cost_product"),
        ({"objective": {"cost": "flops", "target": 3}}, "objective.cost: expected none with the reward accuracy"),
        ({"objective": {"budget": 3}}, "objective: .*unexpected keyword argument 'budget'"),
    ],
)
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_wrong_values_are_refused(make, values, message):
    with pytest.raises(ValueError, match=message):
        make("enas/Macro-v0", **PLAIN, **values)


def test_cost_product_of_texts_is_refused():
    with pytest.raises(ValueError, match="reward: expected accuracy or perplexity with a text; cost_product weighs accuracy"):
        gym.make("enas/Rnn-v0", reward="cost_product", objective=GOAL, child={"hidden": 4}, device="cpu")


# The table.


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All cells: the more weights, the more accurate."""
    file, codes = tmp_path_factory.mktemp("tables") / "table.npz", np.array(list(product(range(5), repeat=6)), dtype=np.uint8)
    weighty = np.isin(codes, [OPERATIONS.index(name) for name in ("nor_conv_1x1", "nor_conv_3x3")]).sum(axis=1)
    columns = {"cifar10_valid": 60.0 + weighty, "cifar10_test": 50.0 + weighty, "params_m": 0.1 * (1 + weighty)}
    columns |= {"flops_m": 10.0 * (1 + weighty), "cifar10valid_train_s": 1000.0 + weighty}
    np.savez(file, ops=np.array(OPERATIONS), codes=codes, **columns)
    return str(file)


def best_by(table: str, **values: Any) -> float:
    """Parameters of the cell with the highest reward, out of one with each number of convolutions."""
    cells = np.array([[OPERATIONS.index("nor_conv_3x3")] * number + [1] * (6 - number) for number in range(7)])
    env = gym.make_vec("enas/NasBench201Table-v0", num_envs=len(cells), table=table, **values)
    env.reset()
    _, rewards, _, _, infos = env.step(cells)
    return float(infos["final_info"]["parameters"][rewards.argmax()])


def test_table_weighs_its_columns(table):
    goal = {"cost": "parameters", "target": 200_000.0}
    assert best_by(table) == pytest.approx(700_000)
    assert best_by(table, reward="cost_product", objective=goal) == pytest.approx(100_000)
    assert best_by(table, reward="cost_product", objective={**goal, "soft": False, "exponent": -1.0}) == pytest.approx(200_000)
    assert best_by(table, objective={"max_flops": 35_000_000}) == pytest.approx(300_000)


def test_single_and_vector_table_agree_and_the_info_stays_whole(table):
    values = {"table": table, "reward": "cost_product", "objective": {"cost": "flops", "target": 1e7, "max_parameters": 600_000}}
    single, vector = (
        gym.make("enas/NasBench201Table-v0", **values),
        gym.make_vec("enas/NasBench201Table-v0", num_envs=2, **values),
    )
    cells = np.array([[3] * 6, [3, 1, 1, 1, 1, 1]])
    single.reset()
    vector.reset()
    steps = [single.step(cell) for cell in cells]
    _, rewards, _, _, _ = vector.step(cells)
    assert rewards.tolist() == [step[1] for step in steps]
    assert rewards[0] == FLOOR
    assert steps[1][1] == pytest.approx(0.61 * 2**-0.07)
    assert set(steps[1][4]) == {"accuracy", "test_accuracy", "seconds", "parameters", "flops"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": {"max_latency": 3.0}}, "expected flops or parameters, since a table holds no latencies, got latency"),
        ({"reward": "cost_product"}, "objective.cost: expected flops, latency, parameters with the reward cost_product"),
        ({"reward": "loss"}, "reward: expected one of accuracy, cost_product, perplexity, got 'loss'"),
        ({"reward": "perplexity"}, "reward: expected accuracy or cost_product with images, which have no perplexity, got perpl"),
    ],
)
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_table_refuses_what_it_cannot_tell(make, values, message, table):
    with pytest.raises(ValueError, match=message):
        make("enas/NasBench201Table-v0", table=table, **values)
