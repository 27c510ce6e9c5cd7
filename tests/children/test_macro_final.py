from dataclasses import replace

import numpy as np
import pytest
import torch

from enas.children.cost import count_parameters
from enas.published import PUBLISHED
from enas.spaces.macro import MacroArchitecture, MacroConfig
from enas.spaces.sampling import sample_uniform

FINALS = ("authors", "authors-separable")
WITHOUT_POOLING = ("conv3x3", "sep3x3", "conv5x5", "sep5x5")
ARC = PUBLISHED["enas-macro"].text


def sampled(config, num_architectures=3, seed=0):
    space = config.make_space()
    return [space.decode(row) for row in sample_uniform(space, num_architectures, np.random.default_rng(seed))]


def images(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def final_logits(layers, architecture, x, *, config):
    """The authors' final network, written without the child: every stored output is reduced where the size is."""

    def operate(name, y, operation):
        y = layers.norm(f"{name}.1.1", layers.conv(f"{name}.1.0", y.relu())).relu()
        if config.final == "authors-separable" and operation.startswith("sep"):
            y = layers.conv(f"{name}.2.1", layers.conv(f"{name}.2.0", y))
        else:
            assert layers.weights[f"{name}.2.weight"].shape[2:] == (int(operation[-1]), int(operation[-1]))
            y = layers.conv(f"{name}.2", y)
        return layers.norm(f"{name}.3", y)

    stored, level, third = [layers.norm("stem.1", layers.conv("stem.0", x))], 0, config.num_layers // 3
    for layer, (operation, skips) in enumerate(zip(architecture.operations, architecture.skips, strict=True)):
        y = operate(f"layers.{layer}.operation", stored[-1], operation)
        if layer > 0:
            y = layers.rectified_conv1x1(f"layers.{layer}.join", torch.cat([*(stored[source] for source in skips), y], dim=1))
        stored.append(y)
        if third and layer in (third - 1, 2 * third - 1):
            names = [f"reductions.{level}_{source}" for source in range(len(stored))]
            stored = [  # of those that no later layer reads there are no weights
                layers.reduce(name, old) if f"{name}.even.weight" in layers.weights else None
                for name, old in zip(names, stored, strict=True)
            ]
            level += 1
    return stored[-1].mean((2, 3)) @ layers.weights["classifier.weight"].T


@pytest.mark.parametrize(("final", "total"), [("authors", 42_559_392), ("authors-separable", 30_947_424)])
def test_published_network_has_the_parameters_of_the_authors_shapes(final, total):
    lines = [[int(word) for word in line.split()] for line in ARC.split("\n")]

    def layer(index, operation, *skips):
        channels = 96 * 2 ** (index // 8)
        area = 25 if operation in (2, 3) else 9
        conv = channels * (area + channels) if final == "authors-separable" and operation % 2 else area * channels**2
        join = (1 + sum(skips)) * channels**2 + 2 * channels if index else 0
        return (channels**2 + 2 * channels) + (conv + 2 * channels) + join

    stem = 9 * 3 * 96 + 2 * 96
    layers = sum(layer(index, *line) for index, line in enumerate(lines))
    reductions = 9 * (96 * 192 + 2 * 192) + 17 * (192 * 384 + 2 * 384)  # the stem and 8, then 16 layers
    classifier = 384 * 10
    assert stem + layers + reductions + classifier == total
    config = MacroConfig(num_layers=24, filters=96, final=final)
    architecture = config.make_space().from_text(ARC)
    with torch.device("meta"):
        child = config.make_child(input_shape=(3, 32, 32), num_classes=10, architecture=architecture)
    assert count_parameters(child) == total
    assert len(child.reductions) == 9 + 17  # the published skips need every reduction that the authors' code computes


@pytest.mark.parametrize("num_layers", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("final", FINALS)
def test_logits_are_those_of_the_described_network(num_layers, training, final, make_child, layers_of):
    config = MacroConfig(num_layers=num_layers, filters=3, keep_prob=1.0, operations=WITHOUT_POOLING, final=final)
    x = images(4, 3, 9, 7).double()
    for architecture in (*sampled(config), config.make_space().largest()):
        child = make_child(config, architecture=architecture, input_shape=(3, 9, 7)).double().train(training)
        expected = final_logits(layers_of(child), architecture, x, config=config)
        torch.testing.assert_close(child(x, architecture).logits, expected, rtol=1e-9, atol=1e-9)


def test_separable_convolutions_are_full_in_the_authors_network(make_child):
    config = MacroConfig(num_layers=1, filters=4, final="authors")
    architecture = MacroArchitecture(operations=("sep5x5",), skips=((),))
    shapes = [
        sorted(tuple(weight.shape) for weight in make_child(one, architecture=architecture).layers[0].operation[2].parameters())
        for one in (config, replace(config, final="authors-separable"))
    ]
    assert shapes == [[(4, 4, 5, 5)], [(4, 1, 5, 5), (4, 4, 1, 1)]]


def test_channels_double_at_each_reduction_whatever_the_configuration_says(make_child):
    for doubles in (False, True):
        config = MacroConfig(num_layers=3, filters=4, double_filters=doubles, operations=WITHOUT_POOLING, final="authors")
        child = make_child(config, architecture=config.make_space().largest())
        assert [layer.operation[1][0].out_channels for layer in child.layers] == [4, 8, 16]


def test_every_weight_is_trained(make_child):
    config = MacroConfig(num_layers=5, filters=4, operations=WITHOUT_POOLING, final="authors")
    for architecture in sampled(config):
        child = make_child(config, architecture=architecture).train()
        child(images(4, 3, 8, 8), architecture, generator=torch.Generator()).logits.square().sum().backward()
        assert all(parameter.grad is not None for parameter in child.parameters())


@pytest.mark.parametrize("final", FINALS)
def test_pooling_is_refused(final):
    config = MacroConfig(num_layers=2, filters=4, final=final)
    architecture = MacroArchitecture(operations=("conv3x3", "max3x3"), skips=((), ()))
    with pytest.raises(ValueError, match=r"layer 1: the authors' final network has no pooling; expected .*, got max3x3"):
        config.make_child(input_shape=(3, 8, 8), num_classes=10, architecture=architecture)


@pytest.mark.parametrize("final", FINALS)
def test_supernet_of_final_networks_is_refused(final):
    with pytest.raises(ValueError, match=f"final: expected searched, since .* of one architecture, got {final}"):
        MacroConfig(final=final).make_child(input_shape=(3, 8, 8), num_classes=10)


def test_unknown_final_network_is_refused():
    with pytest.raises(ValueError, match="final: expected searched, authors or authors-separable, got 'full'"):
        MacroConfig(final="full")


def test_another_architecture_is_refused(make_child):
    config = MacroConfig(num_layers=3, filters=4, operations=WITHOUT_POOLING, final="authors")
    first, second, _ = sampled(config)
    with pytest.raises(ValueError, match="expected the standalone network's own architecture"):
        make_child(config, architecture=first).eval()(images(2, 3, 8, 8), second)
    with pytest.raises(ValueError, match="macro: expected 3 operations and skip lists, got 1 and 1"):
        make_child(config, architecture=MacroArchitecture(operations=("conv3x3",), skips=((),)))
