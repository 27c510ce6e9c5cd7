from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from enas.types import PathBatch
from envs.shared_weight import SharedWeightEnv
from envs.tokens import TokenEnv, TokenVectorEnv
from envs.vector import SharedWeightVectorEnv

PHASES = ("shared", "controller", "both")
TOKENS = [3, 0, 1, 5, 0, 1]  # three macro layers: operation, operation, skip, operation, skip, skip
MASKED = 4  # a choice of an operation, but not of a skip


def weights_of(shared: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in shared.child.state_dict().items()}


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def counts_of(shared: Any) -> tuple[int, int]:
    return shared.num_train_steps, shared.num_evaluations


def make_envs(shared: Any, num_envs: int, *, on_masked: Any = "end", **settings: Any) -> TokenVectorEnv:
    return TokenVectorEnv(SharedWeightVectorEnv(shared, num_envs=num_envs, **settings), on_masked=on_masked)


def columns(*rows: list[int]) -> Any:
    """Return the actions of each step, from one list of tokens a slot."""
    return np.array(rows, dtype=np.int64).T


def layout(value: Any) -> Any:
    """Types, dtypes and shapes of nested infos, without their values; keys in no order."""
    if isinstance(value, dict):
        return {key: layout(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [layout(item) for item in value]
    return (type(value), value.dtype, value.shape) if isinstance(value, np.ndarray) else type(value)


def plain(value: Any, without: frozenset[str]) -> Any:
    """Nested infos as lists, without some keys."""
    if isinstance(value, dict):
        return {key: plain(item, without) for key, item in value.items() if key not in without}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [plain(item, without) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("masked_share", [0.0, 0.1])
@pytest.mark.parametrize("phase", PHASES)
def test_slots_go_as_in_gymnasiums_own_vector_environment(phase, masked_share, weights):
    def reward(evaluation: Any) -> Any:
        return np.ones(len(evaluation.loss))

    ours = make_envs(weights(), 3, phase=phase, reward=reward)
    makers = [lambda: TokenEnv(SharedWeightEnv(weights(), phase=phase, reward=reward))] * 3
    theirs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    (observation, infos), expected = ours.reset(), theirs.reset()
    assert layout((observation, infos)) == layout(expected)
    rng = np.random.default_rng(1)
    # Theirs has a child for each slot, with measurements and a schedule of its own.
    measured = frozenset({"accuracy", "loss", "train_accuracy", "train_loss", "grad_norm", "learning_rate"})
    num_ends = []
    for _ in range(40):
        actions = np.array([rng.choice(6 if rng.random() < masked_share else np.flatnonzero(m)) for m in ours.action_masks()])
        step, expected = ours.step(actions), theirs.step(actions)
        assert layout(step) == layout(expected)
        assert plain(step[4], measured) == plain(expected[4], measured)
        assert [plain(item, measured) for item in (step[0], *step[2:4])] == [
            plain(item, measured) for item in (expected[0], *expected[2:4])
        ]
        if phase != "shared":
            assert step[1].tolist() == expected[1].tolist()
        num_ends.append(int(step[2].sum()))
    assert set(num_ends) == {0, 3} if masked_share == 0 else set(num_ends) > {0, 1}


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


def test_nothing_that_a_step_returns_is_shared(weights):
    env, undisturbed = make_envs(weights(), 2, render_mode="ansi"), make_envs(weights(), 2, render_mode="ansi")
    steps = columns(TOKENS, [5, 4, 0, 3, 1, 1])
    everything = list(arrays_in(env.reset()))
    everything += [item for actions in steps for item in arrays_in(env.step(actions.copy()))]
    arrays = [item for item in everything if isinstance(item, np.ndarray)]
    assert not any(np.shares_memory(a, b) for index, a in enumerate(arrays) for b in arrays[:index] if a.dtype != object)
    for array in arrays:
        array.fill(0)
    for actions in steps:
        undisturbed.step(actions)
    assert env.render() == undisturbed.render()
    assert plain(env.step(steps[0])[0], frozenset()) == plain(undisturbed.step(steps[0])[0], frozenset())


def test_slots_that_complete_together_are_one_step_of_the_shared_weights(weights):
    shared, reference = weights(), weights()
    env = make_envs(shared, 3)
    rows = [TOKENS, [5, 4, 0, 3, 1, 1], [0, 0, 0, 0, 0, 0]]
    for actions in columns(*rows):
        assert counts_of(shared) == (0, 0)
        _, rewards, ends, _, infos = env.step(actions)
    reference.train_step(PathBatch(tokens=np.array(rows), loss_weights=np.full(3, 1 / 3)))
    evaluation = reference.evaluate([reference.space.decode(row) for row in rows])
    assert are_equal(weights_of(shared), weights_of(reference))
    assert rewards.tolist() == infos["final_info"]["accuracy"].tolist() == evaluation.accuracy.tolist()
    assert ends.all()
    assert counts_of(shared) == counts_of(reference) == (1, 3)


@pytest.mark.parametrize("given", [None, [0.5, 2.0, 0.25]])
def test_slot_that_a_masked_action_ended_is_run_apart(given, weights):
    shared, reference = weights(), weights()
    env = make_envs(shared, 3, phase="shared")
    env.reset(options=given and {"loss_weights": given})
    rows = [TOKENS, [5, 4, 0, 3, 1, 1], [0, 0, 0, 0, 0, 0]]
    steps = columns([*TOKENS, 0, 0, 0], [5, 4, MASKED, *rows[1]], [*rows[2], 0, 0, 0])
    ends = []
    for actions in steps:
        _, rewards, ended, _, infos = env.step(actions)
        ends.append(ended.tolist())
        if len(ends) == 3:
            assert infos["final_info"]["invalid_action"].tolist() == infos["_final_info"].tolist() == [False, True, False]
            assert rewards.tolist() == [0, 0, 0]
    nobody = [False] * 3
    assert ends == [
        nobody,
        nobody,
        [False, True, False],
        nobody,
        nobody,
        [True, False, True],
        nobody,
        nobody,
        [False, True, False],
    ]
    first, second = ([0.5, 0.5], [1.0]) if given is None else ([0.5, 0.25], [2.0])
    reference.train_step(PathBatch(tokens=np.array([rows[0], rows[2]]), loss_weights=np.array(first)))
    reference.train_step(PathBatch(tokens=np.array([rows[1]]), loss_weights=np.array(second)))
    assert are_equal(weights_of(shared), weights_of(reference))
    assert rewards[1] == infos["final_info"]["train_accuracy"][1]
    assert infos["final_info"]["_train_accuracy"].tolist() == [False, True, False]


def test_loss_weights_last_until_a_seeded_reset(weights):
    shared, reference = weights(), weights()
    env = make_envs(shared, 2, phase="shared")
    given = np.array([1.5, 0.0])
    env.reset(options={"loss_weights": given})
    given.fill(7)
    tokens = np.array([TOKENS, [0, 0, 0, 0, 0, 0]])
    env.reset()
    for actions in tokens.T:
        env.step(actions)
    reference.train_step(PathBatch(tokens=tokens, loss_weights=np.array([1.5, 0.0])))
    assert are_equal(weights_of(shared), weights_of(reference))
    env.reset(seed=[0, 1])
    reference.reset(0)
    for actions in tokens.T:
        env.step(actions)
    reference.train_step(PathBatch(tokens=tokens, loss_weights=np.array([0.5, 0.5])))
    assert are_equal(weights_of(shared), weights_of(reference))


def test_loss_weights_of_another_number_are_refused_and_change_nothing(weights):
    env = make_envs(weights(), 2, phase="shared")
    env.step(np.array([3, 3]))
    with pytest.raises(ValueError, match=r"loss_weights: expected one for each of 2 slots, got shape \(3,\)"):
        env.reset(seed=3, options={"loss_weights": [1, 1, 1], "phase": "controller"})
    assert (env.runner.phase, env.runner.shared.seed) == ("shared", 0)
    assert env.step(np.array([0, 0]))[0]["position"].tolist() == [2, 2]


def test_reset_brings_slots_back_into_step(weights):
    env = make_envs(weights(), 2, phase="controller")
    env.reset()
    for actions in columns([3, 0, MASKED], [3, 0, 1]):
        env.step(actions)
    assert env.step(np.array([0, 0]))[0]["position"].tolist() == [1, 4]
    assert env.reset()[0]["position"].tolist() == [0, 0]
    assert [env.step(actions)[2].tolist() for actions in columns(TOKENS, TOKENS)] == [[False] * 2] * 5 + [[True] * 2]


@pytest.mark.parametrize("phase", PHASES)
def test_seeded_reset_starts_anew_and_a_plain_one_goes_on(phase, weights):
    env = make_envs(weights(), 2, phase=phase)

    def rewards(seed: int | list[int | None], pause: int) -> list[list[float]]:
        env.reset(seed=seed)
        results = []
        for index in range(4):
            if index == pause:
                env.reset()
            results += [env.step(actions)[1].tolist() for actions in columns(TOKENS, [index, 4, 0, 3, 1, 1])]
        return results

    assert rewards(3, 1) == rewards(3, 3) == rewards([3, 4], 2) != rewards(4, 1)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(3, dtype=np.int64), r"action: expected whole numbers of shape \(2,\), got int64 of shape \(3,\)"),
        (0, r"action: expected whole numbers of shape \(2,\), got int64 of shape \(\)"),
        (np.zeros(2), r"action: expected whole numbers of shape \(2,\), got float64 of shape \(2,\)"),
        (np.zeros(2, dtype=bool), r"action: expected whole numbers of shape \(2,\), got bool of shape \(2,\)"),
        ([0, 6], r"action: expected a number in 0\.\.5, got 6"),
        ([-1, 0], r"action: expected a number in 0\.\.5, got -1"),
        ([1, MASKED], r"action: expected a choice of decision 2, in 0\.\.1, got 4"),
    ],
)
def test_wrong_actions_of_slots_are_refused_and_change_nothing(actions, message, weights):
    env = make_envs(weights(), 2, on_masked="raise")
    for given in columns([3, 0], [2, 1]):
        env.step(given)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert env.step(np.array([1, 0]))[0]["tokens"].tolist() == [[4, 1, 2, 0, 0, 0], [3, 2, 1, 0, 0, 0]]
    assert counts_of(env.runner.shared) == (0, 0)


def test_masks_of_slots_are_those_of_their_decisions(weights):
    env = make_envs(weights(), 2)
    for actions in columns([3, 0, MASKED], [2, 1, 1]):
        observation, *_, infos = env.step(actions)
    operation, skip = [True] * 6, [True] * 2 + [False] * 4
    assert env.action_masks().tolist() == [operation, operation]
    env.step(np.array([0, 0]))
    assert env.action_masks().tolist() == [operation, skip]
    assert env.action_masks().dtype == np.bool_
    assert infos["final_info"]["action_mask"].tolist() == [skip, [False] * 6]
    assert observation["action_mask"].tolist() == infos["action_mask"].tolist() == [operation, operation]
    assert infos["action_mask"].dtype == np.int8


def test_texts_show_each_slot(weights):
    env = make_envs(weights(), 2, phase="controller", render_mode="ansi")
    for actions in columns([3, 0, MASKED, 2, 2, 1], TOKENS):
        rewards = env.step(actions)[1]
    first, second = env.render()
    assert first.startswith("chosen 3 of 6: 2 2 1\nnot run yet\n")
    assert second.startswith(f"chosen 0 of 6: none\nreward {rewards[1]:.4f}\n")
    assert all(operation in second for operation in ("sep5x5", "conv3x3", "max3x3"))
    env.reset(seed=0)
    assert all(text.startswith("chosen 0 of 6: none\nnot run yet\n") for text in env.render())


def test_pictures_are_rgb_arrays(weights):
    env = make_envs(weights(), 2, phase="controller", render_mode="rgb_array")
    for actions in columns([0, 0, 0, 0, 0, 0], [5, 5, 1, 5, 1, 1]):
        env.step(actions)
    first, second = env.render()
    assert first.dtype == second.dtype == np.uint8
    assert not np.array_equal(first, second)
    assert make_envs(weights(), 2).render() is None


def test_statistics_wrapper_of_gymnasium_reads_whole_episodes(weights):
    env = gym.wrappers.vector.RecordEpisodeStatistics(make_envs(weights(), 2, phase="controller"))
    env.reset(seed=0)
    for actions in columns(TOKENS, TOKENS):
        rewards, infos = env.step(actions)[1::3]
    assert infos["episode"]["r"].tolist() == pytest.approx(rewards.tolist())
    assert infos["episode"]["l"].tolist() == [6, 6]


def test_closing_closes_the_environment_below(weights):
    env = make_envs(weights(), 2)
    env.close()
    env.close()
    assert env.closed
    assert env.envs.closed


def test_unknown_answer_to_masked_actions_is_refused(weights):
    with pytest.raises(ValueError, match="on_masked: expected one of end, raise, got 'ignore'"):
        make_envs(weights(), 1, on_masked="ignore")
