import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from controllers.uniform import UniformConfig
from enas.paths import PATHS, SANDWICH_PATHS
from enas.spaces import SPACES, make_child_config

DRAWN = ["fair", "sandwich", "uniform"]
AVERAGED = ["controller", "sandwich", "uniform"]


class NoController:
    def propose(self, num_architectures):
        raise AssertionError("this rule asks no controller")


def make(name, space, *, num_paths=None, seed=0):
    controller = UniformConfig().make(space, seed=seed) if name == "controller" else NoController()
    return PATHS[name](space, controller, num_paths=num_paths, seed=seed), controller


@pytest.mark.parametrize("name", AVERAGED)
@pytest.mark.parametrize("num_paths", [3, 5])
def test_losses_of_the_paths_are_averaged(name, num_paths, planted_space):
    paths = make(name, planted_space, num_paths=num_paths)[0].draw()
    assert paths.loss_weights.tolist() == [1 / num_paths] * num_paths
    assert paths.tokens.shape == (num_paths, 78)


SERVED = [(space, name) for space in SPACES for name in PATHS if (space, name) != ("rnn", "sandwich")]


def test_sandwich_refuses_a_space_whose_architectures_all_cost_the_same():
    space = make_child_config("rnn", {}).make_space()
    with pytest.raises(
        ValueError, match="sandwich needs a smallest and a largest architecture, but all of the space rnn cost the same"
    ):
        make("sandwich", space)


@pytest.mark.parametrize(("space", "name"), SERVED)
def test_every_rule_serves_every_space_that_it_can(space, name):
    space = make_child_config(space, {}).make_space()
    rule = make(name, space)[0]
    for _ in range(3):
        paths = rule.draw()
        assert paths.tokens.dtype == np.int64
        assert len(paths.tokens) == len(paths.loss_weights) == rule.num_paths == PATHS[name].count(space, None)
        for row in paths.tokens:
            space.validate(row)


@pytest.mark.parametrize("name", DRAWN)
def test_seed_decides_the_paths(name, planted_space):
    draws = [make(name, planted_space, seed=seed)[0].draw().tokens for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_paths_go_on_after_a_restart(name, planted_space):
    rule = make(name, planted_space, seed=5)[0]
    rule.draw()
    file = io.BytesIO()
    torch.save(rule.state_dict(), file)
    expected = rule.draw().tokens
    file.seek(0)
    restored = make(name, planted_space, seed=6)[0]
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert np.array_equal(restored.draw().tokens, expected)


def test_controller_paths_are_the_controller_proposals(planted_space):
    rule, _ = make("controller", planted_space, num_paths=4, seed=3)
    twin = UniformConfig().make(planted_space, seed=3)
    for _ in range(2):
        assert np.array_equal(rule.draw().tokens, twin.propose(4).tokens)


def test_controller_paths_leave_their_state_to_the_controller(planted_space):
    rule, controller = make("controller", planted_space)
    saved = controller.state_dict()
    expected = rule.draw().tokens
    assert rule.state_dict() == {}
    rule.load_state_dict({})
    controller.load_state_dict(saved)
    assert np.array_equal(rule.draw().tokens, expected)


def test_uniform_paths_take_every_choice_alike_whatever_the_controller(chain_space):
    tokens = make("uniform", chain_space(2, 1, 6), num_paths=6000)[0].draw().tokens
    counts = np.bincount(tokens @ [6, 1, 1], minlength=12)
    assert ((counts - 500) ** 2 / 500).sum() < chi2.ppf(1 - 1e-4, 11)


def test_fair_step_has_every_choice_of_the_longest_decision_once_and_the_others_within_one(chain_space):
    sizes = (5, 1, 2, 3, 4, 5)
    rule = make("fair", chain_space(*sizes))[0]
    assert rule.num_paths == 5
    for _ in range(50):
        tokens = rule.draw().tokens
        for column, size in zip(tokens.T, sizes, strict=True):
            counts = np.bincount(column, minlength=size)
            assert counts.max() - counts.min() <= 1
            assert counts.sum() == 5
        assert sorted(tokens[:, 0]) == sorted(tokens[:, 5]) == list(range(5))


def test_fair_sums_the_losses(chain_space):
    assert make("fair", chain_space(4, 2))[0].draw().loss_weights.tolist() == [1.0] * 4


def test_fair_columns_are_independent_and_their_orders_alike(chain_space):
    """Over many steps each of the 6 x 6 pairs of permutations of two decisions of 3 choices is as frequent as the others."""
    rule = make("fair", chain_space(3, 3))[0]
    steps = 3600
    keys = [tuple(rule.draw().tokens.T.ravel()) for _ in range(steps)]
    counts = np.unique(keys, axis=0, return_counts=True)[1]
    assert len(counts) == 36
    assert ((counts - steps / 36) ** 2 / (steps / 36)).sum() < chi2.ppf(1 - 1e-4, 35)


def test_a_choice_too_many_for_a_fair_step_goes_round(chain_space):
    """Of three choices and five paths, two occur twice and one once: each of them alike."""
    rule = make("fair", chain_space(5, 3))[0]
    singles = [int(np.argmin(np.bincount(rule.draw().tokens[:, 1], minlength=3))) for _ in range(1500)]
    counts = np.bincount(singles, minlength=3)
    assert ((counts - 500) ** 2 / 500).sum() < chi2.ppf(1 - 1e-4, 2)


@pytest.mark.parametrize("num_paths", [None, 3, 6])
def test_sandwich_step_holds_the_smallest_the_largest_and_uniform_ones(num_paths, planted_space):
    rule = make("sandwich", planted_space, num_paths=num_paths)[0]
    steps = [rule.draw().tokens for _ in range(3)]
    for tokens in steps:
        assert len(tokens) == (num_paths or SANDWICH_PATHS)
        assert tuple(tokens[0]) == planted_space.encode(planted_space.smallest())
        assert tuple(tokens[1]) == planted_space.encode(planted_space.largest())
    assert all((first[2:] != second[2:]).any() for first, second in pairwise(steps))


def test_sandwich_middle_is_uniform(chain_space):
    tokens = make("sandwich", chain_space(2, 1, 6), num_paths=6002)[0].draw().tokens[2:]
    counts = np.bincount(tokens @ [6, 1, 1], minlength=12)
    assert ((counts - 500) ** 2 / 500).sum() < chi2.ppf(1 - 1e-4, 11)


def without_sizes(space):
    class Sizeless(type(space)):
        name = "sizeless"

        def smallest(self):
            return super(type(space), self).smallest()

    return Sizeless(space.decisions, space.steps)


@pytest.mark.parametrize(
    ("name", "num_paths", "message"),
    [
        ("fair", 3, "paths_per_step: expected 5, the most choices of a decision, or None with fair, got 3"),
        ("sandwich", 2, r"paths_per_step: expected at least 3 \(smallest, largest, uniform ones\) or None with sandwich, got 2"),
    ],
)
def test_a_number_of_paths_that_a_rule_can_not_have_is_refused(name, num_paths, message, chain_space):
    with pytest.raises(ValueError, match=message):
        make(name, chain_space(5, 2), num_paths=num_paths)


def test_sandwich_refuses_a_space_that_names_no_sizes(chain_space):
    with pytest.raises(ValueError, match=r"paths: sandwich needs .* but sizeless names no smallest architecture"):
        make("sandwich", without_sizes(chain_space(5, 2)))


def test_sandwich_refuses_a_space_of_one_size(chain_space):
    with pytest.raises(ValueError, match="paths: sandwich needs architectures of several sizes, but planted has one"):
        make("sandwich", chain_space(1, 1))
