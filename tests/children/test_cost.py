from dataclasses import replace

import pytest
import torch
from torch import nn

from enas.children.cost import Cost, count_auxiliary, count_parameters, measure_cost
from enas.spaces.macro import MacroArchitecture, MacroConfig
from enas.spaces.micro import MicroConfig

NO_SKIPS = MacroArchitecture(operations=("sep5x5",), skips=((),))


def test_parameters_and_multiply_adds_of_one_layer_are_those_counted_by_hand():
    config = MacroConfig(num_layers=1, filters=4)
    cost = measure_cost(config, NO_SKIPS, input_shape=(3, 8, 6), num_classes=10)
    stem, enter, depthwise, pointwise = 9 * 3 * 4, 4 * 4, 25 * 4, 4 * 4
    batch_norm = 2 * 4
    assert cost.flops == 8 * 6 * (stem + enter + depthwise + pointwise) + 4 * 10
    assert cost.parameters == stem + enter + depthwise + pointwise + 4 * 10 + 3 * batch_norm


def test_reductions_quarter_the_cost_of_what_follows():
    config = MacroConfig(num_layers=3, filters=4)
    architecture = MacroArchitecture(operations=("max3x3",) * 3, skips=((), (), ()))
    cost = measure_cost(config, architecture, input_shape=(1, 8, 8), num_classes=2)
    stem, enter, reduction = 9 * 4, 4 * 4, 2 * 4 * 2  # two 1x1 convolutions from 4 channels to 2
    at_8, at_4, at_2 = stem + enter, reduction + enter, reduction + enter
    assert cost.flops == 64 * at_8 + 16 * at_4 + 4 * at_2 + 4 * 2


def test_skip_across_a_reduction_costs_its_own_reduction():
    config = MacroConfig(num_layers=3, filters=4)
    plain = MacroArchitecture(operations=("max3x3",) * 3, skips=((), (), ()))
    skipped = MacroArchitecture(operations=("max3x3",) * 3, skips=((), (0,), ()))
    costs = [measure_cost(config, one, input_shape=(1, 8, 8), num_classes=2) for one in (plain, skipped)]
    assert costs[1].flops - costs[0].flops == 16 * 2 * 4 * 2
    assert costs[1].parameters - costs[0].parameters == 2 * 4 * 2 + 2 * 4


def test_cost_is_that_of_the_standalone_network():
    config = MacroConfig(num_layers=1, filters=4)
    child = config.make_child(input_shape=(3, 8, 6), num_classes=10, architecture=NO_SKIPS)
    cost = measure_cost(config, NO_SKIPS, input_shape=(3, 8, 6), num_classes=10)
    assert cost == Cost(parameters=count_parameters(child), flops=cost.flops)
    supernet = config.make_child(input_shape=(3, 8, 6), num_classes=10)
    assert count_parameters(supernet) > cost.parameters


def test_auxiliary_head_is_counted_apart():
    config = MicroConfig(num_layers=1, num_nodes=1, filters=4)
    architecture = config.make_space().smallest()
    plain = measure_cost(replace(config, aux_head=False), architecture, input_shape=(3, 8, 8), num_classes=10)
    cost = measure_cost(config, architecture, input_shape=(3, 8, 8), num_classes=10)
    auxiliary = 16 * 128 + 2 * 128 + 128 * 768 + 2 * 768 + 768 * 10  # its convolution is 1x1 on images of 2x2
    assert cost == Cost(parameters=plain.parameters, flops=plain.flops, auxiliary=auxiliary)
    assert plain.auxiliary == 0
    child = config.make_child(input_shape=(3, 8, 8), num_classes=10, architecture=architecture)
    assert count_auxiliary(child) == auxiliary
    assert count_parameters(child) + auxiliary == sum(weight.numel() for weight in child.parameters())


def test_network_that_is_no_child_has_no_auxiliary_head():
    assert (count_parameters(nn.Linear(3, 2)), count_auxiliary(nn.Linear(3, 2))) == (8, 0)


def test_cost_of_a_large_network_takes_no_memory_and_leaves_the_default_device():
    config = MacroConfig(num_layers=1, filters=20_000)  # one output of a layer would fill 1.3 TB
    cost = measure_cost(config, NO_SKIPS, input_shape=(3, 4000, 4000), num_classes=10)
    assert cost.flops > 4000 * 4000 * 2 * 20_000**2
    assert torch.empty(0).device == torch.device("cpu")


def test_gradients_are_recorded_again_after_counting():
    measure_cost(MacroConfig(num_layers=1, filters=4), NO_SKIPS, input_shape=(3, 8, 6), num_classes=10)
    weight = torch.ones(2, requires_grad=True)
    assert (2 * weight).requires_grad


def test_architecture_of_another_space_is_refused():
    with pytest.raises(ValueError, match="macro: expected 2 operations and skip lists, got 1 and 1"):
        measure_cost(MacroConfig(num_layers=2, filters=4), NO_SKIPS, input_shape=(3, 8, 8), num_classes=10)
