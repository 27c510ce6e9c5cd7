from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from enas.types import PathBatch
from envs.shared_weight import SharedWeightEnv

PHASES = ("shared", "controller", "both")


def actions_of(env: SharedWeightEnv, count: int, seed: int = 0) -> list[Any]:
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(count)]


def rewards_of(env: SharedWeightEnv, actions: list[Any]) -> list[float]:
    return [env.step(action)[1] for action in actions]


def weights_of(env: SharedWeightEnv) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in env.runner.shared.child.state_dict().items()}


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("phase", PHASES)
def test_step_is_a_whole_episode(phase, weights):
    env = SharedWeightEnv(weights(), phase=phase)
    observation, info = env.reset()
    assert env.observation_space.contains(observation)
    assert info == {}
    observation, reward, terminated, truncated, info = env.step(actions_of(env, 1)[0])
    assert env.observation_space.contains(observation)
    assert type(reward) is float
    assert (terminated, truncated) == (True, False)
    assert {type(value) for value in info.values()} == {float}


@pytest.mark.parametrize("phase", PHASES)
def test_seeded_reset_starts_anew_and_a_plain_one_goes_on(phase, weights):
    env, undisturbed = SharedWeightEnv(weights(), phase=phase), SharedWeightEnv(weights(), phase=phase)
    actions = actions_of(env, 6)
    for each in (env, undisturbed):
        each.reset(seed=3)
    expected = rewards_of(undisturbed, actions)
    first = rewards_of(env, actions[:3])
    env.reset()
    assert first + rewards_of(env, actions[3:]) == expected
    env.reset(seed=3)
    assert rewards_of(env, actions) == expected
    env.reset(seed=4)
    assert rewards_of(env, actions) != expected


def test_shared_phase_trains_and_validates_nothing(weights):
    env = SharedWeightEnv(weights(), phase="shared")
    reference = weights()
    for action in actions_of(env, 3):
        before = weights_of(env)
        _, reward, _, _, info = env.step(action)
        metrics = reference.train_step(PathBatch(tokens=action[None], loss_weights=np.ones(1)))
        assert set(info) == {"train_accuracy", "train_loss", "grad_norm", "learning_rate"}
        assert reward == info["train_accuracy"] == float(metrics.accuracy[0])
        assert info["train_loss"] == float(metrics.loss)
        assert info["grad_norm"] == float(metrics.grad_norm)
        assert info["learning_rate"] == metrics.learning_rate
        assert not are_equal(before, weights_of(env))
    assert env.runner.shared.num_evaluations == 0
    assert env.runner.shared.num_train_steps == 3


def test_controller_phase_measures_and_trains_nothing(weights):
    env = SharedWeightEnv(weights(), phase="controller")
    reference = weights()
    before = weights_of(env)
    for action in actions_of(env, 3):
        _, reward, _, _, info = env.step(action)
        evaluation = reference.evaluate([reference.space.decode(action)])
        assert info == {"accuracy": evaluation.accuracy[0], "loss": evaluation.loss[0]}
        assert reward == info["accuracy"]
    assert are_equal(before, weights_of(env))
    assert all(parameter.grad is None for parameter in env.runner.shared.child.parameters())
    assert env.runner.shared.num_train_steps == 0
    assert env.runner.shared.num_evaluations == 3


def test_both_is_a_training_step_and_then_a_measurement(weights):
    both, apart = SharedWeightEnv(weights(), phase="both"), SharedWeightEnv(weights())
    for action in actions_of(both, 3):
        _, reward, _, _, info = both.step(action)
        apart.reset(options={"phase": "shared"})
        trained = apart.step(action)[4]
        apart.reset(options={"phase": "controller"})
        _, expected, _, _, measured = apart.step(action)
        assert reward == expected
        assert info == {**trained, **measured}


def test_reward_function_sees_the_measurement(weights):
    env = SharedWeightEnv(weights(), phase="controller", reward=lambda evaluation: -evaluation.loss)
    _, reward, _, _, info = env.step(actions_of(env, 1)[0])
    assert reward == -info["loss"]


def test_phase_lasts_until_a_reset_names_another(weights):
    env = SharedWeightEnv(weights(), phase="both")
    phases = []
    options: list[dict[str, Any] | None] = [None, {"phase": "shared"}, None, {}, {"loss_weights": [1.0]}, {"phase": "controller"}]
    for option in options:
        env.reset(options=option)
        env.step(actions_of(env, 1)[0])
        phases.append(env.runner.phase)
    assert phases == ["both", "shared", "shared", "shared", "shared", "controller"]


def test_seeded_reset_restores_the_phase_and_loss_weights_of_the_start(weights):
    env, fresh = SharedWeightEnv(weights(), phase="shared"), SharedWeightEnv(weights(), phase="shared")
    action = actions_of(env, 1)[0]
    env.reset(options={"phase": "controller", "loss_weights": [0.5]})
    env.reset(seed=0)
    assert env.runner.phase == "shared"
    assert env.step(action)[4] == fresh.step(action)[4]
    env.reset(seed=0, options={"phase": "controller"})
    assert env.runner.phase == "controller"


def test_loss_weight_scales_the_training_loss(weights):
    full, half = SharedWeightEnv(weights(), phase="shared"), SharedWeightEnv(weights(), phase="shared")
    half.reset(options={"loss_weights": [0.5]})
    action = actions_of(full, 1)[0]
    assert half.step(action)[4]["train_loss"] == pytest.approx(0.5 * full.step(action)[4]["train_loss"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phase": "train"}, "phase: expected one of shared, controller, both, got 'train'"),
        ({"phase": None}, "phase: expected one of shared, controller, both, got None"),
        ({"phases": "shared"}, "options: expected 'phase' and 'loss_weights', got 'phases'"),
        ({"a": 1, "phase": "shared", "b": 2}, "options: expected 'phase' and 'loss_weights', got 'a', 'b'"),
        ({"loss_weights": "many"}, "loss_weights: expected numbers, got 'many'"),
    ],
)
def test_wrong_options_are_refused_and_change_nothing(options, message, weights):
    env = SharedWeightEnv(weights(), phase="shared")
    env.step(actions_of(env, 1)[0])
    before = weights_of(env)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=5, options=options)
    assert env.runner.phase == "shared"
    assert are_equal(before, weights_of(env))
    assert env.runner.shared.num_train_steps == 1


def test_loss_weights_of_another_number_are_refused(weights):
    env = SharedWeightEnv(weights(), phase="shared")
    env.reset(options={"loss_weights": [0.5, 0.5]})
    with pytest.raises(ValueError, match=r"loss_weights: expected one for each of 1 architectures, got shape \(2,\)"):
        env.step(actions_of(env, 1)[0])
    assert env.runner.shared.num_train_steps == 0


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(5, dtype=np.int64), r"action: expected whole numbers of shape \(N, 6\), got int64 of shape \(1, 5\)"),
        (np.zeros((1, 6), dtype=np.int64), r"action: expected whole numbers of shape \(N, 6\), got int64 of shape \(1, 1, 6\)"),
        (3, r"action: expected whole numbers of shape \(N, 6\), got int64 of shape \(1,\)"),
        (np.zeros(6), r"action: expected whole numbers of shape \(N, 6\), got float64 of shape \(1, 6\)"),
        (np.zeros(6, dtype=bool), r"action: expected whole numbers of shape \(N, 6\), got bool of shape \(1, 6\)"),
        ([0, 0, 0, 0, 2, 0], r"layer_2/skip_0: expected a token in 0\.\.1, got 2"),
        ([6, 0, 0, 0, 0, 0], r"layer_0/op: expected a token in 0\.\.5, got 6"),
        ([0, 0, -1, 0, 0, 0], r"layer_1/skip_0: expected a token in 0\.\.1, got -1"),
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(phase, action, message, weights):
    env = SharedWeightEnv(weights(), phase=phase)
    before = weights_of(env)
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert are_equal(before, weights_of(env))
    assert (env.runner.shared.num_train_steps, env.runner.shared.num_evaluations) == (0, 0)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_whole_numbers_of_any_width_are_actions(dtype, weights):
    env = SharedWeightEnv(weights(), phase="controller")
    assert (
        env.step(np.array([5, 0, 1, 3, 1, 1], dtype=dtype))[1]
        == weights().evaluate([env.runner.shared.space.decode([5, 0, 1, 3, 1, 1])]).accuracy.item()
    )


def test_text_shows_the_architecture_and_its_reward(weights):
    env = SharedWeightEnv(weights(), render_mode="ansi")
    assert "not run yet" in env.render()
    reward = env.step([0, 1, 1, 4, 0, 1])[1]
    text = env.render()
    assert text.startswith(f"reward {reward:.4f}\n")
    assert all(operation in text for operation in ("conv3x3", "sep3x3", "avg3x3"))
    env.reset(seed=1)
    assert "not run yet" in env.render()


def test_picture_is_an_rgb_array_of_the_last_architecture(weights):
    env = SharedWeightEnv(weights(), phase="controller", render_mode="rgb_array")
    pictures = [env.render()]
    for action in ([0, 0, 0, 0, 0, 0], [5, 5, 1, 5, 1, 1]):
        env.step(action)
        pictures.append(env.render())
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3 for picture in pictures)
    assert not np.array_equal(pictures[1], pictures[2])


def test_nothing_is_rendered_without_a_mode(weights):
    assert SharedWeightEnv(weights()).render() is None


@pytest.mark.parametrize("mode", ["human", "svg", 3])
def test_unknown_render_mode_is_refused(mode, weights):
    with pytest.raises(ValueError, match=f"render_mode: expected one of ansi, rgb_array or None, got {mode!r}"):
        SharedWeightEnv(weights(), render_mode=mode)


def test_environment_closes_more_than_once(weights):
    with SharedWeightEnv(weights()) as env:
        env.step(actions_of(env, 1)[0])
        env.close()
