from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded

from envs.shared_weight import SharedWeightEnv
from envs.tokens import TokenEnv

PHASES = ("shared", "controller", "both")
TOKENS = [3, 0, 1, 5, 0, 1]  # three macro layers: operation, operation, skip, operation, skip, skip
MASKED = 4  # a choice of an operation, but not of a skip


class Table(gym.Env[Any, Any]):
    """An environment of no search space: 3, 1 and 4 choices, and the reward is the tokens read as a number."""

    render_mode = None

    def __init__(self) -> None:
        self.action_space = gym.spaces.MultiDiscrete([3, 1, 4])
        self.observation_space = gym.spaces.Box(0, 1, (1,))
        self.calls: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.calls.append((seed, options))
        return np.zeros(1, dtype=np.float32), {"budget": 7}

    def step(self, action: Any) -> Any:
        self.calls.append(action.tolist())
        return np.zeros(1, dtype=np.float32), float(100 * action[0] + 10 * action[1] + action[2]), True, False, {"seconds": 2.5}

    def close(self) -> None:
        self.calls.append("closed")


def weights_of(shared: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in shared.child.state_dict().items()}


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def counts_of(shared: Any) -> tuple[int, int]:
    return shared.num_train_steps, shared.num_evaluations


def test_observation_and_mask_follow_the_construction_by_hand():
    env = TokenEnv(Table())
    observation, info = env.reset()
    steps = [(observation, 0.0, False, False, info), *(env.step(action) for action in (2, 0, 3))]
    assert [step[0]["position"] for step in steps] == [0, 1, 2, 3]
    assert [step[0]["tokens"].tolist() for step in steps] == [[0, 0, 0], [3, 0, 0], [3, 1, 0], [3, 1, 4]]
    masks = [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert [step[0]["action_mask"].tolist() for step in steps] == [step[4]["action_mask"].tolist() for step in steps] == masks
    assert all(env.observation_space.contains(step[0]) for step in steps)
    assert [step[1:4] for step in steps] == [(0.0, False, False)] * 3 + [(203.0, True, False)]


def test_environment_below_is_run_once_an_episode_and_its_infos_are_passed_on():
    below = Table()
    env = TokenEnv(below)
    info = env.reset(seed=4, options={"phase": "mine"})[1]
    assert info["budget"] == 7
    infos = [env.step(action)[4] for action in (1, 0, 2)]
    assert ["seconds" in info for info in infos] == [False, False, True]
    env.close()
    assert below.calls == [(4, {"phase": "mine"}), [1, 0, 2], "closed"]


def test_mask_is_a_new_array_each_time():
    env = TokenEnv(Table())
    observation, info = env.reset()
    masks = [observation["action_mask"], info["action_mask"]]
    for mask in masks:
        assert mask.dtype == np.int8
        mask.fill(0)
    observation["tokens"].fill(9)
    asked = env.action_masks()
    assert asked.dtype == np.bool_
    assert asked.tolist() == [True, True, True, False]
    asked.fill(False)
    assert env.action_masks().any()
    assert env.step(0)[0]["tokens"].tolist() == [1, 0, 0]


@pytest.mark.parametrize("phase", PHASES)
def test_last_token_gives_what_the_whole_architecture_gives(phase, weights):
    env, whole = TokenEnv(SharedWeightEnv(weights(), phase=phase)), SharedWeightEnv(weights(), phase=phase)
    for seed in (2, None):
        env.reset(seed=seed)
        whole.reset(seed=seed)
        before = weights_of(env.env.runner.shared)
        for token in TOKENS[:-1]:
            _, reward, terminated, truncated, info = env.step(token)
            assert (reward, terminated, truncated, list(info)) == (0.0, False, False, ["action_mask"])
        assert are_equal(before, weights_of(env.env.runner.shared))
        _, reward, terminated, truncated, info = env.step(TOKENS[-1])
        _, expected, _, _, measured = whole.step(TOKENS)
        assert type(reward) is float
        assert (reward, terminated, truncated) == (expected, True, False)
        assert info.pop("action_mask").all()
        assert info == measured
    assert are_equal(weights_of(env.env.runner.shared), weights_of(whole.runner.shared))


def test_masked_action_ends_the_episode_and_runs_nothing(weights):
    env = TokenEnv(SharedWeightEnv(weights()))
    env.reset()
    for token in TOKENS[:2]:
        kept = env.step(token)[0]
    observation, reward, terminated, truncated, info = env.step(MASKED)
    assert (reward, terminated, truncated, info["invalid_action"]) == (0.0, True, False, True)
    assert {name: value.tolist() for name, value in observation.items()} == {name: value.tolist() for name, value in kept.items()}
    assert counts_of(env.env.runner.shared) == (0, 0)
    env.reset()
    assert [env.step(token)[2] for token in TOKENS] == [False] * 5 + [True]
    assert counts_of(env.env.runner.shared) == (1, 1)


def test_masked_last_token_runs_nothing(weights):
    env = TokenEnv(SharedWeightEnv(weights()))
    env.reset()
    *_, (_, reward, terminated, _, info) = [env.step(token) for token in [*TOKENS[:-1], MASKED]]
    assert (reward, terminated, info["invalid_action"]) == (0.0, True, True)
    assert counts_of(env.env.runner.shared) == (0, 0)


def test_masked_action_is_refused_if_asked_and_the_episode_goes_on(weights):
    env = TokenEnv(SharedWeightEnv(weights()), on_masked="raise")
    env.reset()
    for token in TOKENS[:2]:
        env.step(token)
    with pytest.raises(ValueError, match=r"action: expected a choice of decision 2, in 0\.\.1, got 4"):
        env.step(MASKED)
    assert [env.step(token)[2] for token in TOKENS[2:]] == [False] * 3 + [True]
    assert env.env.runner.last[0].tolist() == [TOKENS]


@pytest.mark.parametrize("last", [TOKENS[-1], MASKED])
def test_step_after_the_end_is_refused(last, weights):
    env = TokenEnv(SharedWeightEnv(weights(), phase="shared"))
    env.reset()
    for token in [*TOKENS[:-1], last]:
        env.step(token)
    before = counts_of(env.env.runner.shared)
    with pytest.raises(ResetNeeded, match="step: expected a reset after the end of an episode, got another step"):
        env.step(0)
    assert counts_of(env.env.runner.shared) == before
    assert env.reset()[0]["position"] == 0
    assert env.step(0)[0]["position"] == 1


def test_reset_in_the_middle_starts_a_new_architecture():
    env = TokenEnv(Table())
    env.reset()
    env.step(2)
    env.reset()
    assert [env.step(action)[1] for action in (0, 0, 1)] == [0.0, 0.0, 1.0]


def test_refused_reset_leaves_the_architecture_under_construction(weights):
    env = TokenEnv(SharedWeightEnv(weights()))
    env.reset()
    env.step(3)
    with pytest.raises(ValueError, match="phase: expected one of shared, controller, both, got 'train'"):
        env.reset(options={"phase": "train"})
    assert env.step(0)[0]["tokens"].tolist() == [4, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("on_masked", ["end", "raise"])
@pytest.mark.parametrize(
    ("action", "message"),
    [
        (0.0, r"action: expected whole numbers of shape \(\), got float64 of shape \(\)"),
        (True, r"action: expected whole numbers of shape \(\), got bool of shape \(\)"),
        (None, r"action: expected whole numbers of shape \(\), got object of shape \(\)"),
        ([0], r"action: expected whole numbers of shape \(\), got int64 of shape \(1,\)"),
        (6, r"action: expected a number in 0\.\.5, got 6"),
        (-1, r"action: expected a number in 0\.\.5, got -1"),
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(action, message, on_masked, weights):
    env = TokenEnv(SharedWeightEnv(weights()), on_masked=on_masked)
    env.reset()
    env.step(3)
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert env.step(0)[0]["tokens"].tolist() == [4, 1, 0, 0, 0, 0]
    assert counts_of(env.env.runner.shared) == (0, 0)


@pytest.mark.parametrize("action", [1, np.int64(1), np.uint8(1), np.array(1, dtype=np.int32)])
def test_whole_numbers_of_any_width_are_actions(action):
    env = TokenEnv(Table())
    env.reset()
    assert env.step(action)[0]["tokens"].tolist() == [2, 0, 0]


def test_unknown_answer_to_masked_actions_is_refused():
    with pytest.raises(ValueError, match="on_masked: expected one of end, raise, got 'ignore'"):
        TokenEnv(Table(), on_masked="ignore")


def test_environment_of_other_actions_is_refused():
    for space in (gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([[2, 2], [2, 2]])):
        below = Table()
        below.action_space = space
        with pytest.raises(ValueError, match="env: expected an environment with one-dimensional MultiDiscrete actions, got"):
            TokenEnv(below)


def test_text_shows_the_tokens_so_far_and_the_last_architecture(weights):
    env = TokenEnv(SharedWeightEnv(weights(), render_mode="ansi"))
    env.reset()
    assert env.render().startswith("chosen 0 of 6: none\nnot run yet\n")
    for token in TOKENS:
        reward = env.step(token)[1]
    assert env.render().startswith(f"chosen 6 of 6: 3 0 1 5 0 1\nreward {reward:.4f}\n")
    env.reset()
    env.step(2)
    text = env.render()
    assert text.startswith(f"chosen 1 of 6: 2\nreward {reward:.4f}\n")
    assert all(operation in text for operation in ("sep5x5", "conv3x3", "max3x3"))


def test_picture_is_that_of_the_last_architecture(weights):
    env = TokenEnv(SharedWeightEnv(weights(), render_mode="rgb_array"))
    env.reset()
    first = env.render()
    assert first.dtype == np.uint8
    for token in TOKENS[:-1]:
        env.step(token)
    assert np.array_equal(env.render(), first)
    env.step(TOKENS[-1])
    assert not np.array_equal(env.render(), first)
    assert TokenEnv(SharedWeightEnv(weights())).render() is None
