import itertools

import pytest
import torch

from enas.seeding import derive_generator, derive_seed


def test_equal_arguments_give_equal_seeds_anywhere():
    assert derive_seed(7, "dropout", 3) == derive_seed(7, "dropout", 3)
    assert derive_seed(7, "dropout", 3) == 8629359456685447896  # a resumed run on another machine depends on it


def test_different_paths_give_different_seeds():
    parts = ["a", "b", 0, 1, 2]
    paths = [path for length in range(4) for path in itertools.product(parts, repeat=length)]
    seeds = {derive_seed(seed, *path) for seed in (0, 1, 2**32, 2**40) for path in paths}
    assert len(seeds) == 4 * len(paths)


def test_steps_of_a_purpose_give_different_seeds():
    assert len({derive_seed(0, "dropout", step) for step in range(10_000)}) == 10_000


def test_derived_seeds_can_be_derived_from_again():
    seeds = [derive_seed(seed, "x") for seed in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len({derive_seed(seed, "y") for seed in seeds}) == 1000


@pytest.mark.parametrize("arguments", [(-1,), (0, -1), (0, "dropout", -1)])
def test_negative_numbers_are_refused(arguments):
    with pytest.raises(ValueError, match="non-negative"):
        derive_seed(*arguments)


def test_generators_of_equal_paths_draw_the_same_numbers():
    def draw(*path):
        return torch.rand(8, generator=derive_generator(3, *path))

    assert torch.equal(draw("dropout", 1), draw("dropout", 1))
    assert not torch.equal(draw("dropout", 1), draw("dropout", 2))
    assert derive_generator(3, "dropout", 1).device == torch.device("cpu")


def test_deriving_leaves_the_global_generators_alone():
    before = torch.get_rng_state()
    derive_generator(3, "dropout", 1)
    assert torch.equal(torch.get_rng_state(), before)
