import numpy as np
import pytest
from scipy.stats import chi2

from enas.spaces.sampling import crossover, mutate, mutate_one, sample_distinct, sample_uniform


def assert_uniform(counts):
    """Pearson's chi-square of equally likely counts, at a level of 1e-4; the seeds are fixed, so it cannot flicker."""
    expected = counts.sum() / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-4, len(counts) - 1)


def test_uniform_samples_are_uniform_in_each_decision(chain_space):
    space = chain_space(2, 1, 6, 3)
    tokens = sample_uniform(space, 6000, np.random.default_rng(0))
    assert tokens.shape == (6000, 4)
    assert tokens.dtype == np.int64
    assert not tokens[:, 1].any()
    for column in (0, 2, 3):
        assert_uniform(np.bincount(tokens[:, column], minlength=space.num_choices[column]))


def test_uniform_samples_are_uniform_over_architectures(chain_space):
    tokens = sample_uniform(chain_space(2, 3, 4), 6000, np.random.default_rng(0))
    assert_uniform(np.bincount(tokens @ [12, 4, 1], minlength=24))


def test_distinct_samples_are_uniform_over_architectures(chain_space):
    space = chain_space(2, 3, 4)
    drawn = [sample_distinct(space, 6, np.random.default_rng(seed)) for seed in range(1000)]
    assert all(len(np.unique(tokens, axis=0)) == 6 for tokens in drawn)
    assert_uniform(np.bincount(np.concatenate(drawn) @ [12, 4, 1], minlength=24))


def test_distinct_samples_are_the_beginning_of_larger_ones(chain_space):
    space = chain_space(5, 5, 5, 5)
    small, large, all_of_them = (sample_distinct(space, num, np.random.default_rng(0)) for num in (7, 300, 625))
    assert small.tolist() == large[:7].tolist()
    assert large.tolist() == all_of_them[:300].tolist()
    assert len(np.unique(all_of_them, axis=0)) == 625


def test_no_more_distinct_samples_than_the_space_has(chain_space):
    with pytest.raises(ValueError, match="planted: expected at most its 6 architectures, got 7"):
        sample_distinct(chain_space(2, 3), 7, np.random.default_rng(0))


def test_macro_like_samples_are_valid(planted_space):
    for row in sample_uniform(planted_space, 50, np.random.default_rng(0)):
        assert planted_space.validate(row) == tuple(row)


def test_mutate_one_changes_exactly_one_open_decision(chain_space):
    space = chain_space(2, 1, 6, 1)
    rng = np.random.default_rng(0)
    tokens = sample_uniform(space, 4000, rng)
    before = tokens.copy()
    mutants = mutate_one(space, tokens, rng)
    changed = mutants != tokens
    assert np.array_equal(tokens, before)
    assert (changed.sum(axis=1) == 1).all()
    assert not changed[:, [1, 3]].any()
    assert (mutants >= 0).all()
    assert (mutants < space.num_choices).all()
    assert_uniform(changed.sum(axis=0)[[0, 2]])


def test_mutate_one_takes_every_other_choice_alike(chain_space):
    mutants = mutate_one(chain_space(6), np.full((5000, 1), 2), np.random.default_rng(0))
    counts = np.bincount(mutants[:, 0], minlength=6)
    assert counts[2] == 0
    assert_uniform(np.delete(counts, 2))


def test_mutate_one_leaves_the_only_member_of_a_space(chain_space):
    tokens = np.zeros((3, 2), dtype=np.int64)
    mutants = mutate_one(chain_space(1, 1), tokens, np.random.default_rng(0))
    assert np.array_equal(mutants, tokens)
    assert mutants is not tokens


def test_mutate_with_probability_zero_changes_nothing(planted_space):
    rng = np.random.default_rng(0)
    tokens = sample_uniform(planted_space, 20, rng)
    assert np.array_equal(mutate(planted_space, tokens, rng, probability=0.0), tokens)


def test_mutate_with_probability_one_changes_every_open_decision(chain_space):
    space = chain_space(2, 1, 6, 3)
    rng = np.random.default_rng(0)
    tokens = sample_uniform(space, 500, rng)
    mutants = mutate(space, tokens, rng, probability=1.0)
    assert ((mutants != tokens) == [True, False, True, True]).all()
    assert (mutants < space.num_choices).all()
    assert (mutants >= 0).all()


def test_mutate_changes_the_given_share_to_every_other_choice_alike(chain_space):
    mutants = mutate(chain_space(6, 6), np.full((10_000, 2), 2), np.random.default_rng(0), probability=0.3)
    assert (mutants != 2).mean() == pytest.approx(0.3, abs=0.02)
    assert_uniform(np.delete(np.bincount(mutants.ravel(), minlength=6), 2))


def test_crossover_takes_each_decision_from_either_parent_alike():
    first, second = np.zeros((2000, 5), dtype=np.int64), np.ones((2000, 5), dtype=np.int64)
    children = crossover(first, second, np.random.default_rng(0))
    assert set(np.unique(children)) == {0, 1}
    assert_uniform(np.bincount(children @ [16, 8, 4, 2, 1], minlength=32))


def test_crossover_keeps_what_parents_share(planted_space):
    rng = np.random.default_rng(0)
    first, second = sample_uniform(planted_space, 40, rng), sample_uniform(planted_space, 40, rng)
    children = crossover(first, second, rng)
    assert ((children == first) | (children == second)).all()
    assert (children[first == second] == first[first == second]).all()


@pytest.mark.parametrize(
    "vary", [lambda s, t, r: mutate(s, t, r, probability=0.5), mutate_one, lambda s, t, r: crossover(t, t, r)]
)
def test_no_architectures_vary_to_none(vary, planted_space):
    empty = np.empty((0, 78), dtype=np.int64)
    varied = vary(planted_space, empty, np.random.default_rng(0))
    assert varied.shape == (0, 78)
    assert varied.dtype == np.int64
