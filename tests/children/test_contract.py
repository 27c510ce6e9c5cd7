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
    "rnn": {"num_nodes": 3, "hidden": 4},
}
INPUTS = {"images": ((3, 8, 8), (1, 8, 8), (3, 9, 7), (2, 5, 11)), "text": ((4,), (1,), (2,), (7,))}
"""Shapes of one input, by kind: (C, H, W) of an image, (T,) of a text's tokens; networks are tried on the first."""


@pytest.fixture(params=SPACES)
def config(request):
    return make_child_config(request.param, TINY[request.param])


def sampled(config, num_architectures, seed=0):
    space = config.make_space()
    return [space.decode(row) for row in sample_uniform(space, num_architectures, np.random.default_rng(seed))]


def extremes(space):
    """Return the smallest and the largest architecture, where a space has them."""
    try:
        return [space.smallest(), space.largest()]
    except ValueError:
        return []


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def inputs(config, count, which=0, *, num_classes=10):
    """Return random inputs of the kind that a network reads."""
    shape = INPUTS[config.reads][which]
    if config.reads == "images":
        return images(count, *shape)
    return torch.randint(num_classes, (count, *shape), generator=torch.Generator().manual_seed(2))


def input_shape(config, which=0):
    """Return what a network is built for, for inputs of one of the shapes."""
    return INPUTS[config.reads][which] if config.reads == "images" else ()


def run(child, x, architecture):
    """Return the logits and, of the weights that got one, the gradients by name."""
    child.zero_grad(set_to_none=True)
    logits = child(x, architecture, generator=torch.Generator().manual_seed(3)).logits
    F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1]).backward()
    return logits, {name: weight.grad for name, weight in child.named_parameters() if weight.grad is not None}


def test_supernet_equals_the_standalone_network_bit_for_bit(config, make_child):
    x, supernet = inputs(config, 4), make_child(config).train()
    for architecture in (*sampled(config, 3), *extremes(config.make_space())[1:]):
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
        names = set(run(supernet, inputs(config, 4), architecture)[1])
        own = {name for name, _ in make_child(config, architecture=architecture).named_parameters()}
        assert names <= own < {name for name, _ in supernet.named_parameters()}


def test_a_path_is_not_stored_on_the_network(config, make_child):
    x, supernet = inputs(config, 2), make_child(config).eval()
    first, second = sampled(config, 2, seed=2)
    before = supernet(x, first).logits
    supernet(x, second)
    assert torch.equal(supernet(x, first).logits, before)


@pytest.mark.parametrize("which", [1, 2, 3])
def test_any_size_of_inputs_serves(config, which, make_child):
    space, x = config.make_space(), inputs(config, 3, which, num_classes=4)
    child = make_child(config, input_shape=input_shape(config, which), num_classes=4).train()
    num_labels = 3 if config.reads == "images" else x.numel()
    for architecture in (*sampled(config, 2, seed=3), *extremes(space)):
        assert run(child, x, architecture)[0].shape == (num_labels, 4)


def test_example_is_what_the_network_takes(config, make_child):
    child, (architecture,) = make_child(config).eval(), sampled(config, 1)
    example = child.example(5, input_shape=input_shape(config), generator=torch.Generator().manual_seed(1))
    assert child(example, architecture).logits.shape == (5, 10)


def test_smallest_costs_no_more_and_largest_no_less_than_any_sample(config):
    space = config.make_space()

    def cost(architecture):
        return measure_cost(config, architecture, input_shape=input_shape(config), num_classes=10).flops

    costs = [cost(architecture) for architecture in sampled(config, 10, seed=4)]
    smallest, largest = map(cost, extremes(space)) if extremes(space) else (costs[0], costs[0])  # all cost the same
    assert largest >= max(costs)
    assert smallest <= min(costs)


def test_seed_decides_all_weights(config):
    def drawn(seed):
        child = config.make_child(input_shape=input_shape(config), num_classes=4)
        child.reset_parameters(torch.Generator().manual_seed(seed))
        return child.state_dict()

    first, same, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(first[name], same[name]) for name in first)
    drawn_names = [name for name, weight in first.items() if weight.dim() > 1]  # of convolutions and linear maps
    assert not any(torch.equal(first[name], other[name]) for name in drawn_names)


def test_network_of_one_architecture_refuses_another(config, make_child):
    first, second = sampled(config, 2, seed=5)
    with pytest.raises(ValueError, match="own architecture"):
        make_child(config, architecture=first).eval()(inputs(config, 2), second)


# Mixtures.

MIXED = [name for name in SPACES if SPACES[name]().make_space().mixed_operations]


def mixture(config, seed=0):
    """Return random weights, float64 (R, K), and the mask of all operations."""
    places = config.make_space().mixed_operations
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(places[0].choices)), size=len(places))
    return torch.from_numpy(weights).requires_grad_(), np.ones(weights.shape, dtype=bool)


def run_mixture(child, x, weights, active):
    """Return the logits and the gradients of weights that got one, by name; the mixture's own is left on it."""
    child.zero_grad(set_to_none=True)
    weights.grad = None
    logits = child.forward_mixture(x, weights, active, generator=torch.Generator().manual_seed(3)).logits
    F.cross_entropy(logits, torch.arange(len(x)) % logits.shape[1]).backward()
    return logits, {name: weight.grad for name, weight in child.named_parameters() if weight.grad is not None}


@pytest.fixture(params=MIXED)
def mixed_config(request):
    return make_child_config(request.param, TINY[request.param])


def test_spaces_with_mixtures_are_those_of_cells_with_one_kind_of_edge():
    assert MIXED == ["darts", "nasbench201"]


def test_gradient_of_the_weights_is_that_of_finite_differences(mixed_config, make_child):
    child, x = make_child(mixed_config).double().train(), images(4, 3, 8, 8).double()
    weights, active = mixture(mixed_config)

    def loss(w):
        return F.cross_entropy(child.forward_mixture(x, w, active).logits, torch.arange(4))

    run_mixture(child, x, weights, active)
    direction = torch.randn(weights.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    with torch.no_grad():
        slope = (loss(weights + 1e-6 * direction) - loss(weights - 1e-6 * direction)) / 2e-6
    assert float((weights.grad * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_operations_that_are_not_active_do_not_run_and_have_no_gradient(mixed_config, make_child):
    child, x = make_child(mixed_config).double().train(), images(4, 3, 8, 8).double()
    weights, everything = mixture(mixed_config)
    none = [choice == "none" for choice in mixed_config.make_space().mixed_operations[0].choices]
    active = everything & (np.random.default_rng(1).random(everything.shape) < 0.4)
    active[~active.any(axis=1), -1] = True
    logits, gradients = run_mixture(child, x, weights, active)
    assert (weights.grad.numpy()[~active] == 0).all()
    assert (weights.grad.numpy()[:, none] == 0).all()
    zeroed = torch.where(torch.from_numpy(active), weights.detach(), 0.0).requires_grad_()
    same, everyone = run_mixture(child, x, zeroed, everything)
    torch.testing.assert_close(logits, same, rtol=1e-12, atol=1e-12)
    assert set(gradients) < set(everyone)
    for name, gradient in everyone.items():
        expected = torch.zeros_like(gradient) if name not in gradients else gradients[name]
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_every_weight_of_a_supernet_is_reached_by_a_full_mixture(mixed_config, make_child):
    child = make_child(mixed_config).train()
    weights, active = mixture(mixed_config)
    _, gradients = run_mixture(child, images(4, 3, 8, 8), weights.detach().float().requires_grad_(), active)
    assert set(gradients) == {name for name, _ in child.named_parameters()}


def test_mixture_is_refused_on_a_standalone_network_and_elsewhere(mixed_config, make_child):
    weights, active = mixture(mixed_config)
    alone = make_child(mixed_config, architecture=mixed_config.make_space().largest())
    with pytest.raises(ValueError, match="expected a supernet for a mixture"):
        alone.forward_mixture(images(2, 3, 8, 8), weights.float(), active)
    supernet = make_child(mixed_config)
    with pytest.raises(ValueError, match="expected weights and active"):
        supernet.forward_mixture(images(2, 3, 8, 8), weights[1:].float(), active)
    active[1] = False
    place = mixed_config.make_space().mixed_operations[1].name
    with pytest.raises(ValueError, match=f"{place}: expected at least one active operation"):
        supernet.forward_mixture(images(2, 3, 8, 8), weights.float(), active)
    macro = make_child(make_child_config("macro", TINY["macro"]))
    with pytest.raises(ValueError, match="MacroChild: expected a network that runs mixtures"):
        macro.forward_mixture(images(2, 3, 8, 8), weights.float(), active)
