"""The smallest and the largest member of the DARTS space, by brute force over the networks' costs."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from enas.children.cost import count_parameters, measure_cost
from enas.spaces.darts import OPERATIONS, DartsArchitecture, DartsConfig, Node


def counted_multiply_adds(config):
    """Return a function that runs an architecture and counts a layer's outputs times the weights that each of them reads."""
    supernet = config.make_child(input_shape=(1, 8, 8), num_classes=2).eval()
    image, counted = torch.randn(1, 1, 8, 8), []
    for module in supernet.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda layer, _, out: counted.append(out.numel() * layer.weight[0].numel()))

    def count(architecture):
        counted.clear()
        with torch.no_grad():
            supernet(image, architecture)
        return sum(counted)

    return count


def rank(config, architecture):
    """Return parameters, number of poolings, tokens."""
    with torch.device("meta"):
        child = config.make_child(input_shape=(1, 8, 8), num_classes=2, architecture=architecture)
    names = [name for nodes in architecture.cells for node in nodes for name in node.operations]
    return count_parameters(child), sum("pool" in name for name in names), config.make_space().encode(architecture)


def connected_cells(config):
    """Return every cell without `none`."""
    operations = [operation for operation in config.operations if operation != "none"]
    per_node = [
        [
            Node(inputs=inputs, operations=pair)
            for inputs in itertools.combinations(range(2 + index), 2)
            for pair in itertools.product(operations, repeat=2)
        ]
        for index in range(config.num_nodes)
    ]
    return list(itertools.product(*per_node))


def extremes(config, architectures, *, multiply_adds):
    """Return the cheapest and the dearest."""
    costs = {architecture: multiply_adds(architecture) for architecture in architectures}
    least, most = min(costs.values()), max(costs.values())
    return (
        min((member for member, cost in costs.items() if cost == least), key=lambda member: rank(config, member)),
        max((member for member, cost in costs.items() if cost == most), key=lambda member: rank(config, member)),
    )


@pytest.mark.parametrize("operations", [("none", "skip_connect", "avg_pool_3x3"), ("skip_connect", "dil_conv_3x3")])
def test_smallest_and_largest_are_those_of_brute_force_over_both_cells(operations):
    config = DartsConfig(num_layers=3, num_nodes=1, filters=2, operations=operations)
    cells, space = connected_cells(config), config.make_space()
    members = [DartsArchitecture(normal=normal, reduce=reduce) for normal, reduce in itertools.product(cells, repeat=2)]
    assert len(members) == (len(operations) - ("none" in operations)) ** 4

    def measured(architecture):
        return measure_cost(config, architecture, input_shape=(1, 8, 8), num_classes=2).flops

    assert (space.smallest(), space.largest()) == extremes(config, members, multiply_adds=measured)


@pytest.mark.parametrize(
    ("num_nodes", "operations"),
    [
        (1, OPERATIONS),
        (2, ("avg_pool_3x3", "skip_connect")),
        (2, ("sep_conv_3x3", "skip_connect", "none")),
        (2, ("dil_conv_5x5", "max_pool_3x3")),
        (3, ("skip_connect",)),
    ],
)
def test_each_cell_of_smallest_and_largest_is_that_of_brute_force(num_nodes, operations):
    """A cell's cost does not depend on the other cell's choices, so one is varied at a time."""
    config = DartsConfig(num_layers=3, num_nodes=num_nodes, filters=8, operations=operations)
    cells, space = connected_cells(config), config.make_space()
    smallest, largest = space.smallest(), space.largest()
    for cell in ("normal", "reduce"):
        members = [replace(smallest, **{cell: nodes}) for nodes in cells]
        cheapest, dearest = extremes(config, members, multiply_adds=counted_multiply_adds(config))
        assert (getattr(cheapest, cell), getattr(dearest, cell)) == (getattr(smallest, cell), getattr(largest, cell))


@pytest.mark.parametrize(
    ("num_layers", "filters", "affine", "cheaper"),
    [
        (3, 2, True, ("sep_conv_3x3", "sep_conv_3x3")),  # below 7 channels, the 25 pixels of a 5x5 kernel count more
        (3, 3, True, ("sep_conv_3x3", "dil_conv_5x5")),
        (3, 7, True, ("dil_conv_5x5", "dil_conv_5x5")),  # as many multiply-adds in the normal cell, fewer BatchNorms
        (3, 7, False, ("sep_conv_3x3", "dil_conv_5x5")),  # as many parameters, too
        (8, 4, True, ("sep_conv_3x3", "dil_conv_5x5")),
        (3, 8, False, ("dil_conv_5x5", "dil_conv_5x5")),
    ],
)
def test_cheaper_of_two_convolutions_follows_the_width(num_layers, filters, affine, cheaper):
    operations = ("sep_conv_3x3", "dil_conv_5x5")
    config = DartsConfig(num_layers=num_layers, num_nodes=1, filters=filters, affine=affine, operations=operations)
    members = [
        DartsArchitecture(
            normal=(Node(inputs=(0, 1), operations=(normal, normal)),),
            reduce=(Node(inputs=(0, 1), operations=(reduce, reduce)),),
        )
        for normal, reduce in itertools.product(operations, repeat=2)
    ]
    space = config.make_space()
    smallest = space.smallest()
    assert (smallest, space.largest()) == extremes(config, members, multiply_adds=counted_multiply_adds(config))
    assert tuple(nodes[0].operations[0] for nodes in smallest.cells) == cheaper
