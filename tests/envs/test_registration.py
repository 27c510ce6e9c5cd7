"""What holds of every registered environment, as Gymnasium's users meet it."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

import envs
from enas.assemble import DEFAULTS
from enas.rewards import make_reward
from enas.spaces import SPACES
from enas.spaces.nasbench201 import OPERATIONS
from enas.spaces.sampling import sample_uniform
from envs.shared_weight import SharedWeightEnv
from envs.tabular import TabularEnv

TINY_CHILD = {
    "darts": {"num_layers": 3, "num_nodes": 2, "filters": 4},
    "macro": {"num_layers": 3, "filters": 4},
    "micro": {"num_layers": 1, "num_nodes": 2, "filters": 4},
    "nasbench201": {"filters": 4, "cells_per_stage": 1},
    "rnn": {"num_nodes": 2, "hidden": 4},
}
TOO_SMALL = {space: {name: 0} for space, child in TINY_CHILD.items() for name in ("filters", "hidden") if name in child}
PHASES = ("shared", "controller", "both")
TOKEN_IDS = [env_id for env_id, entry in envs.ENVS.items() if entry.form == envs.TOKENS]
WEIGHT_IDS = [env_id for env_id, entry in envs.ENVS.items() if entry.form != envs.TABLE]
over_weights = pytest.mark.parametrize("env_id", WEIGHT_IDS)
TABLE_VALUES: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def table(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Write the file that the environments over a table read: random numbers for all cells."""
    file, codes = tmp_path_factory.mktemp("tables") / "table.npz", np.array(list(product(range(5), repeat=6)))
    names = ("cifar10_valid", "cifar10_test", "cifar10valid_train_s", "params_m", "flops_m")
    columns = np.random.default_rng(0).uniform(10, 90, size=(len(names), len(codes)))
    np.savez(file, ops=np.array(OPERATIONS), codes=codes, **dict(zip(names, columns, strict=True)))
    TABLE_VALUES["table"] = str(file)


def tiny(env_id: str) -> dict[str, Any]:
    """Return plain values that make any of the environments small."""
    space = envs.ENVS[env_id.removeprefix("envs:")].space
    if space is None:
        return dict(TABLE_VALUES)
    shared, text = {"batch_size": 16, "valid_batch_size": 16}, {"bptt": 5, "vocabulary": 50}
    return {"child": TINY_CHILD[space], "shared": shared, "text": text, "device": "cpu"}


def make(env_id: str, **changes: Any) -> Any:
    return gym.make(env_id, **tiny(env_id), **changes)


def make_vector(env_id: str, num_envs: int, **changes: Any) -> Any:
    return gym.make_vec(env_id, num_envs=num_envs, **tiny(env_id), **changes)


def one_shot(env: Any) -> Any:
    """Return the environment that runs whole architectures: an environment itself, or the one below it."""
    return getattr(env.unwrapped, "env", env.unwrapped)


def runner_of(env: Any) -> Any:
    return env.unwrapped.runner if hasattr(env, "num_envs") else one_shot(env).runner


def weights_of(env: Any) -> dict[str, torch.Tensor]:
    """Return a copy of the shared weights, none where a table answers."""
    if isinstance(one_shot(env), TabularEnv):
        return {}
    return {name: value.clone() for name, value in runner_of(env).shared.child.state_dict().items()}


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def episode_actions(env: Any, seed: int) -> list[Any]:
    """Return the actions of one uniform episode."""
    tokens = sample_uniform(one_shot(env).runner.space, 1, np.random.default_rng(seed))[0]
    return list(tokens) if isinstance(env.action_space, gym.spaces.Discrete) else [tokens]


def rewards_of(env: Any, seeds: Sequence[int]) -> list[float]:
    """Return the rewards of all steps of one episode for each seed."""
    rewards = []
    for seed in seeds:
        env.reset()
        rewards += [env.step(action)[1] for action in episode_actions(env, seed)]
    return rewards


def vector_rewards_of(env: Any, single: Any, seeds: Sequence[int]) -> list[list[float]]:
    """Return the rewards of the steps of an episode in every slot, those of `rewards_of` with these seeds."""
    actions = np.stack([episode_actions(single, seed) for seed in seeds], axis=1)  # (steps, N, ...)
    return [env.step(action)[1].tolist() for action in actions]


@pytest.fixture(params=sorted(envs.ENVS))
def env_id(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_space_has_an_environment_of_each_form():
    assert {envs.Registration(space, form) for space in SPACES for form in (envs.ONE_SHOT, envs.TOKENS)} <= set(
        envs.ENVS.values()
    )
    assert set(envs.ENVS) <= set(gym.registry)
    assert list(envs.ENVS) == sorted(envs.ENVS)


def test_checker_of_gymnasium_finds_nothing(env_id):
    check_env(make(env_id).unwrapped)  # every warning of it is an error here


@over_weights
def test_default_arguments_make_the_default_space(env_id):
    with gym.make(env_id, device="cpu") as env:
        expected = SPACES[envs.ENVS[env_id].space]().make_space()
        assert np.array_equal(one_shot(env).action_space.nvec, expected.num_choices)
        assert env.action_space == (gym.spaces.Discrete(expected.num_choices.max()) if env_id in TOKEN_IDS else env.action_space)
        assert runner_of(env).phase == "both"
        defaults = DEFAULTS[SPACES[envs.ENVS[env_id].space].reads]
        assert runner_of(env).reward == make_reward(defaults.reward)


@over_weights
def test_seed_decides_all_rewards(env_id):
    env = make(env_id)
    results = []
    for seed in (3, 3, 4):
        env.reset(seed=seed)
        results.append(rewards_of(env, range(4)))
    assert results[0] == results[1] != results[2]


@over_weights
@pytest.mark.parametrize("phase", PHASES)
def test_phase_decides_what_an_episode_does(env_id, phase):
    named, switched = make(env_id, phase=phase), make(env_id)
    switched.reset(options={"phase": phase})
    for env in (named, switched):
        shared, before = runner_of(env).shared, weights_of(env)
        rewards_of(env, [0, 1])
        assert are_equal(before, weights_of(env)) == (phase == "controller")
        assert shared.num_train_steps == (0 if phase == "controller" else 2)
        assert shared.num_evaluations == (0 if phase == "shared" else 2)
    assert rewards_of(named, [2, 3]) == rewards_of(switched, [2, 3])
    vector = make_vector(env_id, 2)
    vector.reset(options={"phase": phase})
    before = weights_of(vector)
    for seeds in ([0, 1], [2, 3]):
        vector_rewards_of(vector, named, seeds)
    assert are_equal(before, weights_of(vector)) == (phase == "controller")
    assert runner_of(vector).shared.num_evaluations == (0 if phase == "shared" else 4)


@over_weights
def test_unknown_options_are_refused_and_change_nothing(env_id):
    for env in (make(env_id, phase="shared"), make_vector(env_id, 2, phase="shared")):
        env.reset()
        with pytest.raises(ValueError, match="options: expected 'phase' and 'loss_weights', got 'phases'"):
            env.reset(seed=3, options={"phases": "controller"})
        assert (runner_of(env).phase, runner_of(env).shared.seed) == ("shared", 0)


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_rendering_shows_the_last_architecture(env_id, mode):
    env = make(env_id, render_mode=mode)
    assert mode in env.metadata["render_modes"]
    env.reset(seed=0)
    before = env.render()
    rewards = rewards_of(env, [5])
    after = env.render()
    if mode == "ansi":
        assert "not run yet" in before
        assert f"reward {rewards[-1]:.4f}\n" in after
    else:
        assert before.dtype == after.dtype == np.uint8
        assert after.ndim == 3
        assert not np.array_equal(before, after)


@pytest.mark.parametrize("env_id", TOKEN_IDS)
def test_mask_offers_exactly_the_choices_of_each_decision(env_id):
    env = make(env_id)
    observation, info = env.reset(seed=0)
    for decision, action in zip(runner_of(env).shared.space.decisions, episode_actions(env, 0), strict=True):
        expected = np.arange(env.action_space.n) < len(decision.choices)
        assert is_masking_supported(env)
        assert get_action_masks(env).tolist() == expected.tolist()
        for mask in (info["action_mask"], observation["action_mask"]):
            assert mask.dtype == np.int8
            assert mask.tolist() == expected.tolist()
        assert expected[env.action_space.sample(info["action_mask"])]
        observation, _, terminated, _, info = env.step(action)
    assert terminated


@pytest.mark.parametrize("env_id", TOKEN_IDS)
def test_masked_action_ends_the_episode_or_raises_if_asked(env_id):
    env, strict, vector = make(env_id), make(env_id, on_masked="raise"), make_vector(env_id, 1, on_masked="raise")
    num_choices = runner_of(env).shared.space.num_choices
    if len(set(num_choices.tolist())) == 1:
        pytest.skip("all decisions have the same choices, so that none is ever masked")
    position = int(np.argmin(num_choices))
    for each in (env, strict, vector):
        each.reset(seed=0)
        for action in episode_actions(env, 0)[:position]:
            each.step(np.array([action]) if each is vector else action)
    masked = num_choices[position]
    _, reward, terminated, _, info = env.step(masked)
    assert (reward, terminated, info["invalid_action"]) == (0.0, True, True)
    message = rf"action: expected a choice of decision {position}, in 0\.\.{masked - 1}, got {masked}"
    for each, action in ((strict, masked), (vector, np.array([masked]))):
        with pytest.raises(ValueError, match=message):
            each.step(action)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda action: np.asarray(action, dtype=np.float64),
        lambda action: np.asarray(action, dtype=bool),
        lambda action: np.asarray(action)[None],
        lambda action: np.asarray(action) + 1000,
        lambda action: -1 - np.asarray(action),
        lambda action: None,
        lambda action: "0",
    ],
    ids=["float", "bool", "shape", "above", "below", "none", "text"],
)
def test_wrong_actions_are_refused_and_change_nothing(env_id, spoil):
    env, undisturbed = make(env_id).unwrapped, make(env_id)
    for each in (env, undisturbed):
        each.reset(seed=1)
    before = weights_of(env)
    rewards = []
    for action in episode_actions(env, 0):
        with pytest.raises(ValueError, match=r"expected .*, got .+"):
            env.step(spoil(action))
        assert are_equal(before, weights_of(env))
        rewards.append(env.step(action)[1])
    assert rewards == rewards_of(undisturbed, [0])


@over_weights
def test_environment_is_rebuilt_from_the_json_of_its_spec(env_id):
    env = make(env_id, phase="controller")
    spec = EnvSpec.from_json(env.spec.to_json())
    assert spec.kwargs == env.spec.kwargs
    for copied in (spec, pickle.loads(pickle.dumps(env.spec))):
        rebuilt = gym.make(copied)
        assert runner_of(rebuilt).phase == "controller"
        assert rebuilt.action_space == env.action_space
        env.reset(seed=1)
        rebuilt.reset(seed=1)
        assert rewards_of(env, range(3)) == rewards_of(rebuilt, range(3))


def test_pickled_environment_goes_on_as_the_original(env_id):
    env = make(env_id)
    env.reset(seed=1)
    rewards_of(env, range(2))
    env.reset()
    first, *rest = episode_actions(env, 7)
    if rest:
        env.step(first)  # an architecture under construction
    copied = pickle.loads(pickle.dumps(env))
    for action in rest or [first]:
        assert env.step(action)[1] == copied.step(action)[1]
    assert rewards_of(env, range(3)) == rewards_of(copied, range(3))
    assert are_equal(weights_of(env), weights_of(copied))


def test_pickled_vector_environment_goes_on_as_the_original(env_id):
    single, vector = make(env_id), make_vector(env_id, 2)
    vector.reset(seed=1)
    vector_rewards_of(vector, single, [0, 1])
    copied = pickle.loads(pickle.dumps(vector))
    assert vector_rewards_of(vector, single, [2, 3]) == vector_rewards_of(copied, single, [2, 3])


@over_weights
@pytest.mark.parametrize("changes", [{}, {"vectorization_mode": "vector_entry_point"}])
def test_vector_environment_shares_one_child(env_id, changes):
    single, vector = make(env_id), make_vector(env_id, 3, **changes)
    assert runner_of(vector).shared.num_train_steps == 0
    assert (vector.num_envs, vector.single_action_space) == (3, single.action_space)
    assert vector.single_observation_space == single.observation_space
    vector.reset(seed=0)
    vector_rewards_of(vector, single, [0, 1, 2])
    assert (runner_of(vector).shared.num_train_steps, runner_of(vector).shared.num_evaluations) == (1, 3)


def test_vector_environment_of_one_gives_the_rewards_of_the_single_one(env_id):
    single, vector = make(env_id), make_vector(env_id, 1)
    single.reset(seed=2)
    vector.reset(seed=2)
    for seed in range(3):
        assert vector_rewards_of(vector, single, [seed]) == [[reward] for reward in rewards_of(single, [seed])]


def test_sync_vector_environment_is_single_ones_side_by_side(env_id):
    vector = make_vector(env_id, 2, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
    singles = [make(env_id) for _ in range(2)]
    vector.reset(seed=5)
    for seed, single in enumerate(singles, 5):
        single.reset(seed=seed)
    for seeds in ([0, 1], [2, 3]):
        expected = [rewards_of(single, [seed]) for single, seed in zip(singles, seeds, strict=True)]
        assert np.transpose(vector_rewards_of(vector, singles[0], seeds)).tolist() == expected
    vector.close()


def test_statistics_wrapper_of_gymnasium_reads_whole_episodes(env_id):
    env = gym.wrappers.RecordEpisodeStatistics(make(env_id))
    env.reset(seed=0)
    steps = [env.step(action) for action in episode_actions(env, 0)]
    assert steps[-1][4]["episode"]["r"] == pytest.approx(steps[-1][1])
    assert steps[-1][4]["episode"]["l"] == len(steps)


def test_environment_closes_more_than_once(env_id):
    with make(env_id) as env:
        rewards_of(env, [0])
        env.close()
    vector = make_vector(env_id, 2)
    vector.reset()
    vector.close()
    vector.close()
    assert vector.closed


def test_module_in_the_id_registers_the_environment(env_id, monkeypatch):
    for registered in envs.ENVS:
        monkeypatch.delitem(gym.registry, registered)
    monkeypatch.delitem(sys.modules, "envs")
    with make(f"envs:{env_id}") as env:
        assert isinstance(one_shot(env), SharedWeightEnv | TabularEnv)


def test_import_registers_and_loads_nothing_else(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("envs", "enas")]:
        monkeypatch.delitem(sys.modules, name)
    for env_id in envs.ENVS:
        monkeypatch.delitem(gym.registry, env_id)
    importlib.import_module("envs")
    assert set(envs.ENVS) <= set(gym.registry)
    assert not [name for name in sys.modules if name.partition(".")[0] == "enas"]


@over_weights
@pytest.mark.parametrize("build", [gym.make, gym.make_vec])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase": "train"}, "phase: expected one of shared, controller, both, got 'train'"),
        ({"reward": "speed"}, "reward: expected one of .*accuracy.*, got 'speed'"),
        ({"data": "imagenet"}, "data set: expected one of .*, got 'imagenet'"),
        ({"child": {"num_layer": 3}}, "child: .*num_layer"),
        ({"child": TOO_SMALL}, "(filters|hidden): expected at least [12], got 0"),
        ({"shared": {"batch": 16}}, "shared: .*batch"),
        ({"shared": {"batch_norm": "none"}}, "batch_norm: expected one of batch, running, recalibrated, got 'none'"),
        ({"shared": {"batch_size": 10**6}}, r"shared\.batch_size: expected at most \d+, the number of .*, got 1000000"),
        ({"text": {"level": "page"}}, "level: expected char or word, got 'page'"),
        ({"text": {"layer": "page"}}, "text: .*layer"),
        ({"space": "mine"}, "space: expected one of .*, got 'mine'"),
        ({"device": "tpu"}, "device: expected one that this machine has .*cpu.*, got tpu"),
    ],
)
def test_argument_that_does_not_fit_is_refused(env_id, build, changes, message):
    if changes.get("child") is TOO_SMALL:
        changes = {"child": TOO_SMALL[envs.ENVS[env_id].space]}
    with pytest.raises(ValueError, match=message):
        build(env_id, **{**tiny(env_id), **changes})
