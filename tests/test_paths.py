import io

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from controllers.uniform import UniformConfig
from enas.paths import PATHS


class NoController:
    def propose(self, num_architectures):
        raise AssertionError("this rule asks no controller")


def make(name, space, *, seed=0):
    controller = NoController() if name == "uniform" else UniformConfig().make(space, seed=seed)
    return PATHS[name](space, controller, seed=seed), controller


@pytest.mark.parametrize("name", ["controller", "uniform"])
@pytest.mark.parametrize("num_paths", [1, 3])
def test_losses_of_the_paths_are_averaged(name, num_paths, planted_space):
    paths = make(name, planted_space)[0].draw(num_paths)
    assert paths.loss_weights.tolist() == [1 / num_paths] * num_paths
    assert paths.tokens.shape == (num_paths, 78)
    assert paths.tokens.dtype == np.int64
    for row in paths.tokens:
        planted_space.validate(row)


def test_controller_paths_are_the_controller_proposals(planted_space):
    rule, _ = make("controller", planted_space, seed=3)
    twin = UniformConfig().make(planted_space, seed=3)
    for _ in range(2):
        assert np.array_equal(rule.draw(4).tokens, twin.propose(4).tokens)


def test_controller_paths_leave_their_state_to_the_controller(planted_space):
    rule, controller = make("controller", planted_space)
    saved = controller.state_dict()
    expected = rule.draw(4).tokens
    assert rule.state_dict() == {}
    rule.load_state_dict({})
    controller.load_state_dict(saved)
    assert np.array_equal(rule.draw(4).tokens, expected)


def test_uniform_paths_take_every_choice_alike_whatever_the_controller(chain_space):
    tokens = make("uniform", chain_space(2, 1, 6))[0].draw(6000).tokens
    counts = np.bincount(tokens @ [6, 1, 1], minlength=12)
    assert ((counts - 500) ** 2 / 500).sum() < chi2.ppf(1 - 1e-4, 11)


def test_uniform_paths_go_on_after_a_restart(planted_space):
    rule = make("uniform", planted_space, seed=5)[0]
    rule.draw(7)
    file = io.BytesIO()
    torch.save(rule.state_dict(), file)
    expected = rule.draw(4).tokens
    file.seek(0)
    restored = make("uniform", planted_space, seed=6)[0]
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert np.array_equal(restored.draw(4).tokens, expected)


def test_seed_decides_the_uniform_paths(planted_space):
    draws = [make("uniform", planted_space, seed=seed)[0].draw(4).tokens for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
