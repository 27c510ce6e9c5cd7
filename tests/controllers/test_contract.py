"""What every strategy promises to a search, whatever it does inside."""

import io
import itertools
from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from controllers import CONTROLLERS
from controllers.configs import CategoricalConfig, EnasConfig, PpoConfig
from controllers.gaea import GaeaConfig
from enas.spaces.macro import MacroSpace
from enas.spaces.nasbench201 import NasBench201Space
from enas.spaces.rnn import RnnSpace

SETTINGS = {
    "categorical": CategoricalConfig(learning_rate=0.1),
    "enas": EnasConfig(hidden=16, learning_rate=0.01, tanh_constant=2.5),
    "gaea": GaeaConfig(kind="sampled", learning_rate=0.3),
    "ppo": PpoConfig(hidden=16, learning_rate=0.01, epochs=2),
}
"""Settings under which a strategy solves the bandit in time; the defaults where none are given."""

ON_MIXTURES = ("darts", "gdas")
"""Strategies that serve spaces with mixtures only, and learn from gradients."""
LEARNERS = [name for name in CONTROLLERS if name not in ("uniform", *ON_MIXTURES)]
"""Strategies that learn from rewards."""
SPACES = {
    "bandit": (5, 5, 5),
    "single choices": (1, 3, 1, 2),
    "macro": MacroSpace(3),
    "cells": NasBench201Space(),
    "recurrent": RnnSpace(2),
}
SERVED = [(name, which) for name in CONTROLLERS for which in SPACES if name not in ON_MIXTURES or which == "cells"]
"""Every strategy on every space that it serves."""


def make(name, space, *, seed=0):
    return SETTINGS.get(name, CONTROLLERS[name]()).make(space, seed=seed)


def own_space(name):
    """A space that a strategy serves, with more members than a test draws."""
    return NasBench201Space() if name in ON_MIXTURES else MacroSpace(4)


def make_space(which, chain_space):
    return chain_space(*SPACES[which]) if isinstance(SPACES[which], tuple) else SPACES[which]


def run(controller, num_updates, *, batch=10, target=(3, 0, 2)):
    """Search for `target` by the share of decisions that match; return all rewards."""
    rewards = [np.empty(0)]
    for _ in range(num_updates):
        rollout = controller.propose(batch)
        goal = np.resize(target, rollout.tokens.shape[1])
        rewards.append((rollout.tokens == goal).mean(axis=1))
        controller.update(rollout, rewards[-1])
    return np.concatenate(rewards)


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_equal(first, second):
    """Compare nested state."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


@pytest.mark.parametrize("name", LEARNERS)
def test_learner_solves_a_bandit_where_random_search_stays(name, chain_space):
    controller = make(name, chain_space(5, 5, 5))
    rewards = run(controller, 200)
    assert rewards[:20].mean() < 0.4
    assert rewards[-500:].mean() > 0.5  # uniform: .2; a strategy that always changes one decision of the best: 2/3
    assert [3, 0, 2] in controller.candidates(3).tolist()


def test_random_search_stays_at_chance(chain_space):
    rewards = run(make("uniform", chain_space(5, 5, 5)), 200)
    assert rewards[-500:].mean() == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize(("name", "which"), SERVED)
@pytest.mark.parametrize("num_updates", [0, 8])
def test_proposals_are_members_with_a_log_probability_each_or_none(name, which, num_updates, chain_space):
    space = make_space(which, chain_space)
    controller = make(name, space)
    run(controller, num_updates)
    rollout = controller.propose(7)
    assert rollout.tokens.shape == (7, len(space.decisions))
    assert rollout.tokens.dtype == np.int64
    for row in rollout.tokens:
        space.validate(row)
    for values, sign in ((rollout.log_prob, -1), (rollout.entropy, 1)):
        if values is not None:
            assert values.shape == (7,)
            assert values.dtype == np.float64
            assert (sign * values >= 0).all()


@pytest.mark.parametrize("name", CONTROLLERS)
def test_update_returns_plain_numbers(name):
    controller = make(name, own_space(name))
    metrics = controller.update(controller.propose(4), np.arange(4.0))
    assert metrics
    assert {type(value) for value in metrics.values()} == {float}
    assert np.isfinite(list(metrics.values())).all()


@pytest.mark.parametrize("name", CONTROLLERS)
def test_seed_decides_the_search(name):
    first, same, other = (make(name, own_space(name), seed=seed) for seed in (3, 3, 4))
    rewards = [run(controller, 12) for controller in (first, same, other)]
    assert np.array_equal(rewards[0], rewards[1])
    assert not np.array_equal(rewards[0], rewards[2])
    assert_equal(first.state_dict(), same.state_dict())


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("num_updates", [0, 12])
def test_restored_controller_goes_on_as_the_saved_one(name, num_updates):
    saved = make(name, own_space(name), seed=5)
    run(saved, num_updates)
    restored = make(name, own_space(name), seed=6)
    restored.load_state_dict(saved_and_loaded(saved.state_dict()))
    assert_equal(restored.state_dict(), saved.state_dict())
    assert np.array_equal(restored.candidates(6), saved.candidates(6))
    assert np.array_equal(restored.propose(5).tokens, saved.propose(5).tokens)
    assert np.array_equal(run(restored, 5), run(saved, 5))
    assert_equal(restored.state_dict(), saved.state_dict())


@pytest.mark.parametrize(("name", "which"), SERVED)
@pytest.mark.parametrize("num_updates", [0, 8])
def test_candidates_are_distinct_members(name, which, num_updates, chain_space):
    space = make_space(which, chain_space)
    controller = make(name, space)
    run(controller, num_updates)
    candidates = controller.candidates(5)
    assert candidates.dtype == np.int64
    assert 1 <= len(candidates) <= 5
    assert len(np.unique(candidates, axis=0)) == len(candidates)
    for row in candidates:
        space.validate(row)
    assert len(controller.candidates(1)) == 1


@pytest.mark.parametrize("name", CONTROLLERS)
def test_candidates_and_further_proposals_do_not_depend_on_each_other(name):
    asked, unasked = (make(name, own_space(name)) for _ in range(2))
    run(asked, 3)
    run(unasked, 3)
    assert np.array_equal(asked.candidates(20), asked.candidates(20))
    assert np.array_equal(asked.propose(9).tokens, unasked.propose(9).tokens)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_proposals_without_an_update_teach_nothing(name):
    idle, strict = (make(name, own_space(name)) for _ in range(2))
    run(idle, 3)
    run(strict, 3)
    before = saved_and_loaded(idle.state_dict())
    idle.propose(50)
    after = idle.state_dict()
    moved = {key for key in before if key in ("generator", "rng")}  # of proposals, which may move
    assert len(moved) == 1
    assert_equal(*({key: value for key, value in state.items() if key not in moved} for state in (before, after)))
    assert np.array_equal(idle.candidates(5), strict.candidates(5))


@pytest.mark.parametrize("name", CONTROLLERS)
def test_words_and_numbers_that_no_setting_can_mean_are_refused(name):
    """What the command line refuses before, a Python user is told here; ranges are each strategy's own matter."""
    kind = CONTROLLERS[name]
    hints = get_type_hints(kind)
    words = [one for one in hints if get_origin(hints[one]) is Literal]
    numbers = [one for one in hints if float in (hints[one], *get_args(hints[one]))]
    assert words or numbers or name == "uniform"
    for one in words:
        with pytest.raises(ValueError, match=f"{one}: expected .* or .*, got 'neither'"):
            kind(**{one: "neither"})
    for one, value in itertools.product(numbers, (np.nan, np.inf)):
        with pytest.raises(ValueError, match=f"{one}: expected a finite number, got {value}"):
            kind(**{one: value})


@pytest.mark.parametrize("name", CONTROLLERS)
def test_settings_that_say_how_soon_it_settles_are_its_own(name):
    settings = CONTROLLERS[name]()
    for space in SPACES.values():
        if not isinstance(space, tuple):
            names = settings.settles_by(space)
            assert bool(names) == (name != "uniform")
            assert set(names) <= {field.name for field in fields(settings)}


@pytest.mark.parametrize("name", CONTROLLERS)
@pytest.mark.parametrize("rewards", [[0.5, np.nan], [np.inf, 0.5], [0.5], []])
def test_rewards_that_are_not_finite_or_do_not_fit_are_refused_and_change_nothing(name, rewards):
    controller = make(name, own_space(name))
    run(controller, 3)
    rollout = controller.propose(2)
    before = saved_and_loaded(controller.state_dict())
    with pytest.raises(ValueError, match="expected"):
        controller.update(rollout, np.array(rewards))
    assert_equal(controller.state_dict(), before)
