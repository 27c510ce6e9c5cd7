import itertools
import math

import numpy as np
import pytest

from controllers.product import (
    choice_mask,
    likely_architectures,
    log_prob,
    sample_product,
    softmax,
    table_entropy,
    uniform_table,
)

TABLE = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.9, 0.1, 0.0]])


def test_mask_and_uniform_table_follow_the_choices(chain_space):
    space = chain_space(3, 1, 2)
    assert choice_mask(space).tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert uniform_table(space) == pytest.approx(np.array([[1 / 3] * 3, [1, 0, 0], [0.5, 0.5, 0]]))


def test_softmax_is_that_of_the_choices_alone_however_large(chain_space):
    logits = np.array([[0.0, math.log(2), 5.0], [700.0, 0.0, 1e6], [-1000.0, -1000.0 + math.log(3), 0.0]])
    table = softmax(logits, choice_mask(chain_space(2, 1, 2, 3))[[0, 1, 2]])
    assert table == pytest.approx(np.array([[1 / 3, 2 / 3, 0], [1, 0, 0], [0.25, 0.75, 0]]))


def test_samples_follow_the_product_of_the_table():
    rollout = sample_product(TABLE, 20_000, np.random.default_rng(0))
    for row in itertools.product(range(3), range(1), range(2)):
        share = (rollout.tokens == row).all(axis=1).mean()
        assert share == pytest.approx(math.prod(TABLE[d, c] for d, c in enumerate(row)), abs=0.015)
    assert rollout.tokens.max(axis=0).tolist() == [2, 0, 1]
    assert rollout.log_prob == pytest.approx(log_prob(TABLE, rollout.tokens))
    assert rollout.entropy == pytest.approx([table_entropy(TABLE).sum()] * 20_000)


def test_rounding_leads_to_no_choice_without_probability():
    class Highest:
        def random(self, shape):
            return np.full(shape, 1 - 2**-53)

    table = np.array([[0.1, 0.2, 0.7 - 1e-12, 0.0], [1.0 - 1e-9, 0.0, 0.0, 0.0]])
    assert sample_product(table, 1, Highest()).tokens.tolist() == [[2, 0]]


def test_log_probability_and_entropy_are_those_counted_by_hand():
    assert log_prob(TABLE, np.array([[1, 0, 1], [2, 0, 0]])) == pytest.approx([math.log(0.05), math.log(0.27)])
    expected = [
        -(0.2 * math.log(0.2) + 0.5 * math.log(0.5) + 0.3 * math.log(0.3)),
        0,
        -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)),
    ]
    assert table_entropy(TABLE) == pytest.approx(expected)


def test_likely_architectures_begin_with_the_likeliest_and_never_repeat():
    rows = likely_architectures(TABLE, 4, seed=np.random.SeedSequence(0))
    assert rows[0].tolist() == [1, 0, 0]
    assert len(np.unique(rows, axis=0)) == len(rows) == 4
    assert len(likely_architectures(TABLE, 100, seed=np.random.SeedSequence(0))) == 6  # all that are possible
