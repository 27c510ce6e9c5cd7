from __future__ import annotations

import numpy as np
import pytest
import torch

from enas.configs import SharedConfig
from enas.datasets.augment import Augmentation
from enas.hard_coded import HardCoded, hard_coded
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.spaces.sampling import sample_uniform
from enas.types import PathBatch

CHILD = MacroConfig(num_layers=3, filters=4, keep_prob=0.8)
AUGMENTATION = Augmentation(pad=1, flip=True)


def one_path(shared: SharedWeights, seed: int) -> PathBatch:
    return PathBatch(tokens=sample_uniform(shared.space, 1, np.random.default_rng(seed)), loss_weights=np.ones(1))


@pytest.fixture
def shared(images):
    trained = SharedWeights(CHILD, images, SharedConfig(batch_size=8, valid_batch_size=8), augmentation=AUGMENTATION, seed=3)
    for step in range(6):
        trained.train_step(one_path(trained, step))
    return trained


@pytest.fixture
def pair(shared, images):
    paths = one_path(shared, 50)
    return paths, hard_coded(shared, shared.space.decode(paths.tokens[0]), images, augmentation=AUGMENTATION)


def test_hard_coded_network_takes_the_same_steps_bit_for_bit(shared, pair):
    paths, alone = pair
    before = {name: value.clone() for name, value in alone.child.state_dict().items()}
    for _ in range(3):
        there, here = shared.train_step(paths), alone.train_step(paths)
        assert torch.equal(there.accuracy, here.accuracy)
        assert torch.equal(there.loss, here.loss)
        torch.testing.assert_close(there.grad_norm, here.grad_norm)  # its sum has other neighbours in it
    supernet = shared.child.state_dict()
    for name, value in alone.child.state_dict().items():
        torch.testing.assert_close(value, supernet[name], rtol=1e-5, atol=1e-7)
        assert not torch.equal(value, before[name])


def test_momentum_comes_along(shared, pair):
    _, alone = pair
    weights = dict(shared.child.named_parameters())
    moments = {
        name: (alone.optimizer.state[weight]["momentum_buffer"], shared.optimizer.state[weights[name]]["momentum_buffer"])
        for name, weight in alone.child.named_parameters()
    }
    assert all(torch.equal(here, there) for here, there in moments.values())
    assert all(here.data_ptr() != there.data_ptr() for here, there in moments.values())
    assert sum(float(here.abs().sum()) for here, _ in moments.values()) > 0


def test_hard_coded_network_has_its_own_weights_only(shared, pair):
    paths, alone = pair
    names = {name for name, _ in alone.child.named_parameters()}
    assert names < {name for name, _ in shared.child.named_parameters()}
    shared.optimizer.zero_grad(set_to_none=True)
    shared.train_step(paths)
    assert names == {name for name, weight in shared.child.named_parameters() if weight.grad is not None}


def test_training_it_leaves_the_shared_weights_alone(shared, pair):
    paths, alone = pair
    before = {name: value.clone() for name, value in shared.child.state_dict().items()}
    alone.train_step(paths)
    assert all(torch.equal(value, before[name]) for name, value in shared.child.state_dict().items())
    assert shared.num_train_steps == 6


def test_configuration_refuses_other_architectures(images):
    space = CHILD.make_space()
    config = HardCoded(config=CHILD, architecture=space.smallest())
    child = config.make_child(input_shape=images.input_shape, num_classes=3)
    with pytest.raises(ValueError, match="own architecture"):
        child(torch.zeros(2, 1, 8, 8), space.largest(), generator=torch.Generator())
    assert config.make_space().decisions == space.decisions
