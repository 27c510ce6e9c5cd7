import io
import math

import numpy as np
import pytest
import torch

from controllers.uniform import UniformConfig, UniformController


def updated(space, *, seed=0, num_updates=5):
    controller = UniformController(space, UniformConfig(archive_size=20), seed=seed)
    for _ in range(num_updates):
        rollout = controller.propose(6)
        controller.update(rollout, rollout.tokens.mean(axis=1))
    return controller


def test_log_prob_and_entropy_are_those_of_the_uniform_distribution(chain_space):
    controller = UniformController(chain_space(3, 1, 4), UniformConfig(), seed=0)
    rollout = controller.propose(5)
    assert rollout.log_prob == pytest.approx([-math.log(12)] * 5)
    assert rollout.entropy == pytest.approx([math.log(12)] * 5)


def test_search_stays_at_the_expected_reward(planted_space, planted_search):
    rewards = planted_search(UniformController(planted_space, UniformConfig(), seed=0), num_samples=4000)
    expected = (1 / planted_space.num_choices).mean()
    assert rewards[-1000:].mean() == pytest.approx(expected, abs=0.01)  # five standard errors


def test_update_changes_no_proposal(planted_space):
    rewarded, idle = (UniformController(planted_space, UniformConfig(), seed=1) for _ in range(2))
    rewarded.update(rewarded.propose(4), np.arange(4.0))
    idle.propose(4)
    assert np.array_equal(rewarded.propose(4).tokens, idle.propose(4).tokens)


def test_candidates_are_the_best_seen(planted_space):
    controller = UniformController(planted_space, UniformConfig(), seed=0)
    rollout = controller.propose(30)
    metrics = controller.update(rollout, np.arange(30.0))
    assert np.array_equal(controller.candidates(10), rollout.tokens[:-11:-1])
    assert metrics == {"archive_best": 29.0, "archive_mean": 14.5}


def test_candidates_are_topped_up_with_fresh_samples(planted_space):
    controller = UniformController(planted_space, UniformConfig(), seed=0)
    untried = controller.candidates(8)
    assert len(np.unique(untried, axis=0)) == 8
    rollout = controller.propose(3)
    assert not (untried[:3] == rollout.tokens).all(axis=1).any()
    controller.update(rollout, np.arange(3.0))
    candidates = controller.candidates(8)
    assert np.array_equal(candidates[:3], rollout.tokens[::-1])
    assert len(np.unique(candidates, axis=0)) == 8


def test_candidates_disturb_no_later_proposal(planted_space):
    asked, unasked = updated(planted_space), updated(planted_space)
    first, again = asked.candidates(50), asked.candidates(50)
    assert np.array_equal(first, again)
    assert np.array_equal(asked.propose(9).tokens, unasked.propose(9).tokens)


def test_seed_decides_the_proposals(planted_space):
    proposals = [UniformController(planted_space, UniformConfig(), seed=s).propose(4).tokens for s in (3, 3, 4)]
    assert np.array_equal(proposals[0], proposals[1])
    assert not np.array_equal(proposals[0], proposals[2])


def test_restored_controller_goes_on_as_the_saved_one(planted_space):
    saved = updated(planted_space, seed=5)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    restored = UniformController(planted_space, UniformConfig(archive_size=20), seed=6)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert restored.state_dict() == saved.state_dict()
    assert np.array_equal(restored.candidates(40), saved.candidates(40))
    assert np.array_equal(restored.propose(7).tokens, saved.propose(7).tokens)


def test_archive_size_below_one_is_refused():
    with pytest.raises(ValueError, match="archive_size: expected at least 1, got 0"):
        UniformConfig(archive_size=0)
