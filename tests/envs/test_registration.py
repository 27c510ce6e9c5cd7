"""What holds of every registered environment, as Gymnasium's users meet it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import envs
from enas.spaces import SPACES
from envs.shared_weight import SharedWeightEnv
from envs.vector import SharedWeightVectorEnv

TINY_CHILD = {"macro": {"num_layers": 3, "filters": 4}}


def tiny(env_id: str) -> dict[str, Any]:
    shared = {"batch_size": 16, "valid_batch_size": 16}
    return {"child": TINY_CHILD[envs.ENVS[env_id]], "shared": shared, "device": "cpu"}


@pytest.fixture(params=sorted(envs.ENVS))
def env_id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rewards_of(env: Any, actions: Any) -> list[Any]:
    return [np.asarray(env.step(action)[1]).tolist() for action in actions]


def test_every_space_has_an_environment():
    assert set(envs.ENVS.values()) == set(SPACES)
    assert set(envs.ENVS) <= set(gym.registry)


def test_checker_of_gymnasium_finds_nothing(env_id):
    check_env(gym.make(env_id, **tiny(env_id)).unwrapped)  # every warning of it is an error here


def test_default_arguments_make_the_default_space(env_id):
    with gym.make(env_id, device="cpu") as env:
        expected = SPACES[envs.ENVS[env_id]]().make_space()
        assert np.array_equal(env.action_space.nvec, expected.num_choices)
        assert env.unwrapped.runner.phase == "both"


def test_seed_decides_all_rewards(env_id):
    env = gym.make(env_id, **tiny(env_id))
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(4)]
    results = []
    for seed in (3, 3, 4):
        env.reset(seed=seed)
        results.append(rewards_of(env, actions))
    assert results[0] == results[1] != results[2]


def test_environment_is_rebuilt_from_the_json_of_its_spec(env_id):
    env = gym.make(env_id, **tiny(env_id), phase="controller")
    spec = EnvSpec.from_json(env.spec.to_json())
    assert spec.kwargs == env.spec.kwargs
    rebuilt = gym.make(spec)
    assert rebuilt.unwrapped.runner.phase == "controller"
    assert rebuilt.action_space == env.action_space
    env.reset(seed=1)
    rebuilt.reset(seed=1)
    actions = [env.action_space.sample() for _ in range(3)]
    assert rewards_of(env, actions) == rewards_of(rebuilt, actions)


def test_vector_entry_point_shares_one_child(env_id):
    vector = gym.make_vec(env_id, num_envs=3, vectorization_mode="vector_entry_point", **tiny(env_id))
    assert isinstance(vector.unwrapped, SharedWeightVectorEnv)
    assert vector.num_envs == 3
    assert vector.action_space.shape == (3, *gym.make(env_id, **tiny(env_id)).action_space.shape)
    vector.reset(seed=0)
    vector.step(vector.action_space.sample())
    assert vector.unwrapped.runner.shared.num_train_steps == 1


def test_vector_environment_of_one_gives_the_rewards_of_the_single_one(env_id):
    single = gym.make(env_id, **tiny(env_id))
    vector = gym.make_vec(env_id, num_envs=1, vectorization_mode="vector_entry_point", **tiny(env_id))
    actions = np.stack([single.action_space.sample() for _ in range(4)])
    single.reset(seed=2)
    vector.reset(seed=2)
    assert rewards_of(vector, actions[:, None]) == [[reward] for reward in rewards_of(single, actions)]


def test_module_in_the_id_registers_the_environment(env_id, monkeypatch):
    monkeypatch.delitem(gym.registry, env_id)
    monkeypatch.delitem(sys.modules, "envs")
    with gym.make(f"envs:{env_id}", **tiny(env_id)) as env:
        assert isinstance(env.unwrapped, SharedWeightEnv)


def test_import_registers_and_loads_nothing_else(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("envs", "enas")]:
        monkeypatch.delitem(sys.modules, name)
    for env_id in envs.ENVS:
        monkeypatch.delitem(gym.registry, env_id)
    importlib.import_module("envs")
    assert set(envs.ENVS) <= set(gym.registry)
    assert not [name for name in sys.modules if name.partition(".")[0] == "enas"]


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase": "train"}, "phase: expected one of shared, controller, both, got 'train'"),
        ({"reward": "speed"}, "reward: expected one of accuracy, got 'speed'"),
        ({"data": "imagenet"}, "data set: expected one of .*, got 'imagenet'"),
        ({"child": {"num_layer": 3}}, "child: .*num_layer"),
        ({"child": {"filters": 1}}, "filters: expected at least 2, got 1"),
        ({"shared": {"batch": 16}}, "shared: .*batch"),
        ({"shared": {"batch_norm": "none"}}, "batch_norm: expected one of batch, running, recalibrated, got 'none'"),
        ({"shared": {"batch_size": 10_000}}, r"shared\.batch_size: expected at most 1097, the number of images, got 10000"),
        ({"space": "micro"}, "space: expected one of .*, got 'micro'"),
        ({"device": "tpu"}, "device: expected one that this machine has .*cpu.*, got tpu"),
    ],
)
def test_argument_that_does_not_fit_is_refused(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make("enas/Macro-v0", **{**tiny("enas/Macro-v0"), **changes})
