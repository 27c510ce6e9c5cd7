"""What holds of the network of every registered search space."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from enas.children.base import copy_inherited
from enas.children.cost import measure_cost
from enas.spaces import SPACES, make_child_config
from enas.spaces.sampling import sample_uniform

TINY = {
    "darts": {"num_layers": 3, "num_nodes": 2, "filters": 4},
    "macro": {"num_layers": 3, "filters": 4},
    "micro": {"num_layers": 2, "num_nodes": 2, "filters": 4},
    "nasbench201": {"filters": 4, "cells_per_stage": 1},
}


@pytest.fixture(params=SPACES)
def config(request):
    return make_child_config(request.param, TINY[request.param])


def sampled(config, num_architectures, seed=0):
    space = config.make_space()
    return [space.decode(row) for row in sample_uniform(space, num_architectures, np.random.default_rng(seed))]


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def run(child, x, architecture):
    """Return the logits and, of the weights that got one, the gradients by name."""
    child.zero_grad(set_to_none=True)
    logits = child(x, architecture, generator=torch.Generator().manual_seed(3)).logits
    F.cross_entropy(logits, torch.arange(len(x)) % logits.shape[1]).backward()
    return logits, {name: weight.grad for name, weight in child.named_parameters() if weight.grad is not None}


def test_supernet_equals_the_standalone_network_bit_for_bit(config, make_child):
    x, supernet = images(4, 3, 8, 8), make_child(config).train()
    for architecture in (*sampled(config, 3), config.make_space().largest()):
        standalone = make_child(config, architecture=architecture).train()
        assert set(standalone.state_dict()) <= set(supernet.state_dict())
        copy_inherited(supernet, standalone)
        logits, gradients = run(supernet, x, architecture)
        own_logits, own_gradients = run(standalone, x, architecture)
        assert torch.equal(logits, own_logits)
        assert gradients.keys() == own_gradients.keys()
        assert all(torch.equal(gradients[name], own_gradients[name]) for name in gradients)


def test_weights_off_the_path_have_no_gradient(config, make_child):
    supernet = make_child(config).train()
    for architecture in sampled(config, 3, seed=1):
        names = set(run(supernet, images(4, 3, 8, 8), architecture)[1])
        own = {name for name, _ in make_child(config, architecture=architecture).named_parameters()}
        assert names <= own < {name for name, _ in supernet.named_parameters()}


def test_a_path_is_not_stored_on_the_network(config, make_child):
    x, supernet = images(2, 3, 8, 8), make_child(config).eval()
    first, second = sampled(config, 2, seed=2)
    before = supernet(x, first).logits
    supernet(x, second)
    assert torch.equal(supernet(x, first).logits, before)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (2, 5, 11)])
def test_any_image_size_and_number_of_channels_serves(config, shape, make_child):
    space = config.make_space()
    child = make_child(config, image_shape=shape, num_classes=4).train()
    for architecture in (*sampled(config, 2, seed=3), space.smallest(), space.largest()):
        assert run(child, images(3, *shape), architecture)[0].shape == (3, 4)


def test_smallest_costs_no_more_and_largest_no_less_than_any_sample(config):
    space = config.make_space()

    def cost(architecture):
        return measure_cost(config, architecture, image_shape=(3, 8, 8), num_classes=10).flops

    costs = [cost(architecture) for architecture in sampled(config, 10, seed=4)]
    assert cost(space.largest()) >= max(costs)
    assert cost(space.smallest()) <= min(costs)


def test_seed_decides_all_weights(config):
    def drawn(seed):
        child = config.make_child(image_shape=(3, 8, 8), num_classes=4)
        child.reset_parameters(torch.Generator().manual_seed(seed))
        return child.state_dict()

    first, same, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(first[name], same[name]) for name in first)
    drawn_names = [name for name, weight in first.items() if weight.dim() > 1]  # of convolutions and linear maps
    assert not any(torch.equal(first[name], other[name]) for name in drawn_names)


def test_network_of_one_architecture_refuses_another(config, make_child):
    first, second = sampled(config, 2, seed=5)
    with pytest.raises(ValueError, match="own architecture"):
        make_child(config, architecture=first).eval()(images(2, 3, 8, 8), second)
