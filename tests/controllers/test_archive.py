import io

import numpy as np
import pytest
import torch

from controllers.archive import Archive, distinct_samples, nominate


def rows(*tokens):
    return np.array(tokens, dtype=np.int64)


def filled(capacity=3):
    archive = Archive(capacity=capacity, num_decisions=2)
    archive.add(rows([0, 0], [0, 1], [1, 0]), np.array([0.2, 0.9, 0.5]))
    return archive


def test_best_are_ordered_by_reward():
    archive = filled()
    assert archive.best().tolist() == [[0, 1], [1, 0], [0, 0]]
    assert archive.best(2).tolist() == [[0, 1], [1, 0]]
    assert archive.rewards().tolist() == [0.9, 0.5, 0.2]


def test_architecture_measured_again_keeps_its_latest_reward_even_if_lower():
    archive = filled()
    archive.add(rows([0, 1]), np.array([0.3]))
    assert len(archive) == 3
    assert archive.best().tolist() == [[1, 0], [0, 1], [0, 0]]
    assert archive.rewards().tolist() == [0.5, 0.3, 0.2]


def test_repeat_within_one_batch_counts_once_with_the_last_reward():
    archive = Archive(capacity=3, num_decisions=2)
    archive.add(rows([1, 1], [1, 1]), np.array([0.9, 0.1]))
    assert archive.best().tolist() == [[1, 1]]
    assert archive.rewards().tolist() == [0.1]


def test_worst_is_forgotten_beyond_capacity():
    archive = filled(capacity=3)
    archive.add(rows([1, 1]), np.array([0.4]))
    assert archive.best().tolist() == [[0, 1], [1, 0], [1, 1]]


def test_of_equal_rewards_the_one_seen_first_ranks_first_and_stays():
    archive = Archive(capacity=2, num_decisions=1)
    archive.add(rows([5], [3], [4]), np.array([0.5, 0.5, 0.5]))
    assert archive.best().tolist() == [[5], [3]]
    archive.add(rows([5]), np.array([0.5]))
    assert archive.best().tolist() == [[5], [3]]


def test_empty_archive_has_no_rows_of_the_right_width():
    archive = Archive(capacity=2, num_decisions=7)
    assert archive.best().shape == (0, 7)
    assert archive.best().dtype == np.int64
    assert archive.rewards().shape == (0,)


@pytest.mark.parametrize(
    ("tokens", "rewards", "message"),
    [
        (rows([0, 1]), np.array([0.1, 0.2]), r"got \(1, 2\) and \(2,\)"),
        (rows([0, 1, 0]), np.array([0.1]), r"expected tokens \(N, 2\)"),
        (rows([0, 1]), np.array([[0.1]]), r"got \(1, 2\) and \(1, 1\)"),
        (np.empty((0, 2), dtype=np.int64), np.empty(0), "N >= 1 rewards"),
        (rows([0, 1]), np.array([np.nan]), "rewards: expected finite numbers, got nan"),
    ],
)
def test_refused_rewards_leave_the_archive_as_it_was(tokens, rewards, message):
    archive = filled()
    with pytest.raises(ValueError, match=message):
        archive.add(tokens, rewards)
    assert archive.rewards().tolist() == [0.9, 0.5, 0.2]


def test_state_survives_a_weights_only_file_with_its_ties():
    archive = Archive(capacity=3, num_decisions=1)
    archive.add(rows([5], [3], [4]), np.array([0.5, 0.5, 0.7]))
    file = io.BytesIO()
    torch.save(archive.state_dict(), file)
    file.seek(0)
    restored = Archive(capacity=3, num_decisions=1)
    restored.load_state_dict(torch.load(file, weights_only=True))
    for each in (archive, restored):
        each.add(rows([6]), np.array([0.6]))
        assert each.best().tolist() == [[4], [6], [5]]
    assert restored.state_dict() == archive.state_dict()


def test_state_of_another_space_is_refused():
    with pytest.raises(ValueError, match="expected rows of 5 tokens, got an array of shape"):
        Archive(capacity=3, num_decisions=5).load_state_dict(filled().state_dict())


def test_smaller_archive_restores_the_best():
    small = Archive(capacity=1, num_decisions=2)
    small.load_state_dict(filled().state_dict())
    assert small.best().tolist() == [[0, 1]]


def test_nominated_are_distinct_ranked_first_then_fresh(planted_space):
    ranked = np.stack([planted_space.num_choices - 1] * 2 + [planted_space.num_choices * 0])
    chosen = nominate(planted_space, ranked, 5, seed=0, num_updates=3)
    assert chosen.shape == (5, 78)
    assert len(np.unique(chosen, axis=0)) == 5
    assert (chosen[:2] == ranked[1:]).all()
    assert not np.array_equal(chosen[2:], nominate(planted_space, ranked, 5, seed=0, num_updates=4)[2:])


def test_nominated_exhaust_a_tiny_space_and_no_more(chain_space):
    space = chain_space(2, 1, 2)
    chosen = nominate(space, np.array([[1, 0, 1]]), 10, seed=0, num_updates=0)
    assert chosen[0].tolist() == [1, 0, 1]
    assert sorted(chosen.tolist()) == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]


def test_distinct_samples_follow_the_likeliest_until_there_are_enough_or_no_more():
    asked = []

    def draw(count):
        asked.append(count)
        return np.array([[len(asked) // 2, 7]] * count)

    chosen = distinct_samples(np.array([0, 7]), draw, 3)
    assert chosen.tolist() == [[0, 7], [1, 7], [2, 7]]
    assert chosen.dtype == np.int64
    assert asked == [3, 3, 3, 3]
    assert distinct_samples(np.array([5]), lambda count: np.full((count, 1), 5), 4).tolist() == [[5]]  # a settled distribution
