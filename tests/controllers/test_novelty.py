import itertools

import numpy as np
import pytest

from controllers.novelty import Novelty
from enas.spaces.sampling import sample_uniform


def everything(space):
    return np.array(list(itertools.product(*map(range, space.num_choices.tolist()))), dtype=np.int64)


def renewed(novelty, children, vary):
    children = np.array(children, dtype=np.int64)
    novelty.renew(children, vary, np.random.default_rng(0))
    return children.tolist()


def test_new_children_stay_and_known_ones_are_varied(chain_space):
    novelty = Novelty(chain_space(10, 10))
    novelty.add(np.array([[1, 1], [2, 2]]))
    varied = iter([[[2, 2]], [[3, 3]], [[4, 4]]])  # the first is known, the second is in the batch
    assert renewed(novelty, [[3, 3], [1, 1]], lambda _: np.array(next(varied))) == [[3, 3], [4, 4]]
    assert next(varied, None) is None


def test_repeats_within_a_batch_are_varied_but_for_the_first(chain_space):
    asked = []

    def vary(count):
        asked.append(count)
        return np.array([[7, 7], [8, 8]])[:count]

    assert renewed(Novelty(chain_space(10, 10)), [[5, 5], [5, 5], [5, 5]], vary) == [[5, 5], [7, 7], [8, 8]]
    assert asked == [2]


def test_where_variation_finds_nothing_new_uniform_samples_do(chain_space):
    space = chain_space(3, 4, 5)
    novelty = Novelty(space)
    members = everything(space)
    novelty.add(np.delete(members, [17, 40], axis=0))
    found = renewed(novelty, members[[0, 1]], lambda count: members[:count])
    assert sorted(found) == members[[17, 40]].tolist()


def test_where_nothing_new_is_left_children_stay(chain_space):
    space = chain_space(3, 4, 5)
    novelty = Novelty(space)
    novelty.add(everything(space))

    def vary(count):
        raise AssertionError(f"{count} children were varied in vain")

    assert renewed(novelty, [[0, 1, 2], [0, 1, 2]], vary) == [[0, 1, 2], [0, 1, 2]]


def test_batch_larger_than_what_is_left_takes_all_of_it(chain_space):
    space = chain_space(2, 3)
    novelty, rng = Novelty(space), np.random.default_rng(1)
    found = renewed(novelty, [[0, 0]] * 9, lambda count: sample_uniform(space, count, rng))
    assert set(map(tuple, found)) == set(map(tuple, everything(space).tolist()))


def test_rows_of_another_width_are_refused(chain_space):
    with pytest.raises(ValueError, match="expected rows of 3 tokens"):
        Novelty(chain_space(2, 2, 2)).load_rows([[0, 1]])
