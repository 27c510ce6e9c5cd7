from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from enas.spaces.sampling import sample_uniform
from enas.types import PathBatch
from envs.shared_weight import SharedWeightEnv
from envs.vector import SharedWeightVectorEnv

PHASES = ("shared", "controller", "both")


def tokens_of(env: SharedWeightVectorEnv, count: int | None = None, seed: int = 0) -> Any:
    return sample_uniform(env.runner.shared.space, count or env.num_envs, np.random.default_rng(seed))


def weights_of(shared: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in shared.child.state_dict().items()}


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def layout(value: Any) -> Any:
    """Types, dtypes and shapes of nested infos, without their values; keys in no order."""
    if isinstance(value, dict):
        return {key: layout(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [layout(item) for item in value]
    return (type(value), value.dtype, value.shape) if isinstance(value, np.ndarray) else type(value)


@pytest.mark.parametrize("phase", PHASES)
def test_infos_have_the_layout_of_gymnasiums_own_vector_environment(phase, weights):
    ours = SharedWeightVectorEnv(weights(), num_envs=3, phase=phase)
    makers = [lambda: SharedWeightEnv(weights(), phase=phase)] * 3
    theirs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert layout(ours.reset()) == layout(theirs.reset())
    actions = tokens_of(ours)
    for _ in range(2):
        observations, rewards, terminations, truncations, infos = ours.step(actions)
        expected = theirs.step(actions)
        assert layout((observations, rewards, terminations, truncations)) == layout(expected[:4])
        assert layout(infos) == layout(expected[4])
        assert terminations.all()
        assert not truncations.any()


def arrays_in(value: Any) -> Iterator[Any]:
    """Yield everything in nested infos that can be changed in place."""
    if isinstance(value, (dict, list, tuple)):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(item)
    elif isinstance(value, np.ndarray):
        yield value
        if value.dtype == object:
            yield from arrays_in(list(value))


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_that_a_step_returns_is_shared(phase, weights):
    env = SharedWeightVectorEnv(weights(), num_envs=2, phase=phase, render_mode="ansi")
    actions = tokens_of(env)
    returned = [list(arrays_in(env.step(actions))) for _ in range(2)]
    everything = [item for step in returned for item in step]
    assert len({id(item) for item in everything}) == len(everything)
    arrays = [item for item in everything if isinstance(item, np.ndarray)]
    assert not any(np.shares_memory(a, b) for index, a in enumerate(arrays) for b in arrays[:index] if a.dtype != object)
    shown = env.render()
    for array in arrays:
        array.fill(0)
    actions.fill(0)
    assert env.render() == shown


def test_paths_of_a_step_are_one_step_of_the_shared_weights(weights):
    shared, reference = weights(), weights()
    env = SharedWeightVectorEnv(shared, num_envs=3, phase="shared")
    tokens = tokens_of(env)
    rewards, infos = env.step(tokens)[1::3]
    metrics = reference.train_step(PathBatch(tokens=tokens, loss_weights=np.full(3, 1 / 3)))
    measured = infos["final_info"]
    assert rewards.tolist() == measured["train_accuracy"].tolist() == metrics.accuracy.tolist()
    assert measured["train_loss"].tolist() == metrics.loss.tolist()
    assert measured["grad_norm"].tolist() == [float(metrics.grad_norm)] * 3
    assert measured["learning_rate"].tolist() == [metrics.learning_rate] * 3
    assert are_equal(weights_of(shared), weights_of(reference))
    assert (shared.num_train_steps, shared.num_evaluations) == (1, 0)


def test_loss_weights_are_those_of_the_paths_until_others_are_given(weights):
    shared, reference = weights(), weights()
    env = SharedWeightVectorEnv(shared, num_envs=2, phase="shared")
    given = np.array([1.5, 0.0])
    env.reset(options={"loss_weights": given})
    given.fill(7)
    tokens = tokens_of(env)
    for _ in range(2):
        env.step(tokens)
        reference.train_step(PathBatch(tokens=tokens, loss_weights=np.array([1.5, 0.0])))
    assert are_equal(weights_of(shared), weights_of(reference))
    env.reset(options={"loss_weights": [0.0, 1.0]})
    env.step(tokens)
    reference.train_step(PathBatch(tokens=tokens, loss_weights=np.array([0.0, 1.0])))
    assert are_equal(weights_of(shared), weights_of(reference))


@pytest.mark.parametrize("reward_batch", ["own", "shared"])
def test_controller_phase_measures_all_architectures_of_a_step(reward_batch, weights):
    shared, reference = weights(reward_batch=reward_batch), weights(reward_batch=reward_batch)
    env = SharedWeightVectorEnv(shared, num_envs=3, phase="controller")
    before = weights_of(shared)
    for seed in range(2):
        tokens = tokens_of(env, seed=seed)
        rewards, infos = env.step(tokens)[1::3]
        evaluation = reference.evaluate([reference.space.decode(row) for row in tokens])
        assert rewards.tolist() == infos["final_info"]["accuracy"].tolist() == evaluation.accuracy.tolist()
        assert infos["final_info"]["loss"].tolist() == evaluation.loss.tolist()
    assert are_equal(before, weights_of(shared))
    assert shared.num_train_steps == 0


@pytest.mark.parametrize("phase", PHASES)
def test_seeded_reset_starts_anew_and_a_plain_one_goes_on(phase, weights):
    env = SharedWeightVectorEnv(weights(), num_envs=2, phase=phase)
    steps = [tokens_of(env, seed=seed) for seed in range(4)]

    def rewards(seed: int | list[int | None], pause: int) -> list[list[float]]:
        env.reset(seed=seed)
        first = [env.step(tokens)[1].tolist() for tokens in steps[:pause]]
        env.reset()
        return first + [env.step(tokens)[1].tolist() for tokens in steps[pause:]]

    assert rewards(3, 1) == rewards(3, 3) == rewards([3, 4], 2) != rewards(4, 1)


def test_two_environments_lie_over_the_same_weights(weights):
    shared = weights()
    training = SharedWeightVectorEnv(shared, num_envs=1, phase="shared")
    measuring = SharedWeightVectorEnv(shared, num_envs=4, phase="controller")
    tokens = tokens_of(measuring)
    loss = measuring.step(tokens)[4]["final_info"]["loss"]
    training.step(tokens[:1])
    shared.num_evaluations = 0
    assert measuring.runner.phase == "controller"
    assert not np.array_equal(measuring.step(tokens)[4]["final_info"]["loss"], loss)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((3, 6), dtype=np.int64), r"actions: expected 2 architectures, got an array of shape \(3, 6\)"),
        (np.zeros(6, dtype=np.int64), r"actions: expected 2 architectures, got an array of shape \(6,\)"),
        (0, r"actions: expected 2 architectures, got an array of shape \(\)"),
        (np.zeros((2, 5), dtype=np.int64), r"action: expected whole numbers of shape \(N, 6\), got int64 of shape \(2, 5\)"),
        (np.zeros((2, 6)), r"action: expected whole numbers of shape \(N, 6\), got float64 of shape \(2, 6\)"),
        ([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 9]], r"layer_2/skip_1: expected a token in 0\.\.1, got 9"),
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(actions, message, weights):
    shared = weights()
    env = SharedWeightVectorEnv(shared, num_envs=2)
    before = weights_of(shared)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert are_equal(before, weights_of(shared))
    assert (shared.num_train_steps, shared.num_evaluations) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs: expected at least 1, got 0"),
        ({"num_envs": 1, "phase": "train"}, "phase: expected one of shared, controller, both, got 'train'"),
        ({"num_envs": 1, "render_mode": "human"}, "render_mode: expected one of ansi, rgb_array or None, got 'human'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, weights):
    with pytest.raises(ValueError, match=message):
        SharedWeightVectorEnv(weights(), **arguments)


def test_texts_are_one_for_each_architecture(weights):
    env = SharedWeightVectorEnv(weights(), num_envs=2, render_mode="ansi")
    assert ["not run yet" in text for text in env.render()] == [True, True]
    rewards = env.step([[0, 0, 0, 0, 0, 0], [5, 5, 1, 5, 1, 1]])[1]
    first, second = env.render()
    assert first.startswith(f"reward {rewards[0]:.4f}\n")
    assert "conv3x3" in first
    assert "max3x3" not in first
    assert second.startswith(f"reward {rewards[1]:.4f}\n")
    assert "max3x3" in second


def test_pictures_are_rgb_arrays(weights):
    env = SharedWeightVectorEnv(weights(), num_envs=2, phase="controller", render_mode="rgb_array")
    env.step([[0, 0, 0, 0, 0, 0], [5, 5, 1, 5, 1, 1]])
    pictures = env.render()
    assert len(pictures) == 2
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 for picture in pictures)
    assert not np.array_equal(*pictures)
    assert SharedWeightVectorEnv(weights(), num_envs=2).render() is None


def test_statistics_wrapper_of_gymnasium_reads_the_rewards(weights):
    env = gym.wrappers.vector.RecordEpisodeStatistics(SharedWeightVectorEnv(weights(), num_envs=3, phase="controller"))
    env.reset(seed=0)
    rewards, infos = env.step(tokens_of(env.unwrapped))[1::3]
    assert infos["episode"]["r"].tolist() == pytest.approx(rewards.tolist())
    assert infos["episode"]["l"].tolist() == [1, 1, 1]


def test_environment_closes(weights):
    env = SharedWeightVectorEnv(weights(), num_envs=2)
    env.step(tokens_of(env))
    env.close()
    env.close()
    assert env.closed
