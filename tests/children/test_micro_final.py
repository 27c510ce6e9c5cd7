from dataclasses import replace

import numpy as np
import pytest
import torch

from enas.children.cost import count_auxiliary, count_parameters, measure_cost
from enas.children.rounds import run_alone
from enas.spaces.micro import OPERATIONS, MicroArchitecture, MicroConfig, Node
from enas.spaces.sampling import sample_uniform

SMALL = MicroConfig(num_layers=3, num_nodes=2, filters=4, keep_prob=0.8, final="authors")
# authors: scripts/cifar10_micro_final.sh
PUBLISHED = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1 1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"


def sampled(config, num_architectures=3, seed=0):
    space = config.make_space()
    return [space.decode(row) for row in sample_uniform(space, num_architectures, np.random.default_rng(seed))]


def images(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(child, x, *, seed=3):
    return child(x, child.architecture, generator=torch.Generator().manual_seed(seed))


def final_output(layers, architecture, x, *, config, masks):
    """The authors' final network, written without the child; what is calibrated or reduced follows from the images' shapes."""

    def operate(name, operation, y, cell, stride):
        if operation == "identity":
            return y if stride == 1 else layers.reduce(name, y)
        sep = operation.startswith("sep")
        out = layers.separable(name, y, stride=stride) if sep else layers.pool(operation, y, stride=stride)
        return masks.drop_path(out, cell) if layers.training else out

    def run_cell(name, cell, nodes, older, newer, channels, stride):
        items = [layers.calibrate(f"{name}.calibrate_{side}", y, newer, channels) for side, y in enumerate((older, newer))]
        items[1] = layers.rectified_conv1x1(f"{name}.base", items[1])
        for index, node in enumerate(nodes):
            sides = []
            for side, (item, op) in enumerate(zip(node.inputs, node.operations, strict=True)):
                step = stride if item < 2 else 1
                sides.append(operate(f"{name}.nodes.{index}.{side}.{op}_{item}", op, items[item], cell, step))
            items.append(sides[0] + sides[1])
        used = {item for node in nodes for item in node.inputs}
        size = items[-1].shape
        return torch.cat(
            [
                items[item] if items[item].shape == size else layers.reduce(f"{name}.reductions.{item}", items[item])
                for item in range(len(items))
                if item not in used
            ],
            dim=1,
        )

    third = config.num_layers // 3
    older = newer = layers.norm("stem.1", layers.conv("stem.0", x))
    channels, aux_logits = config.filters, None
    for cell in range(config.num_layers + 2):
        is_reduction = cell in (third, 2 * third + 1)
        channels *= 1 + is_reduction
        nodes = architecture.reduce if is_reduction else architecture.normal
        older, newer = newer, run_cell(f"cells.{cell}", cell, nodes, older, newer, channels, 1 + is_reduction)
        if cell == 2 * third + 2 and config.aux_head and layers.training:
            aux_logits = layers.auxiliary_logits(newer)
    features = newer.relu().mean((2, 3))
    if layers.training and config.keep_prob < 1:
        features = masks.dropout(features, config.keep_prob)
    return features @ layers.weights["classifier.weight"].T, aux_logits


def assert_described(child, x, *, config, layers_of, masks):
    noise = masks(3, path_keep_prob=child.drop_path_keep_prob, num_cells=config.num_layers + 2)
    logits, aux_logits = final_output(layers_of(child), child.architecture, x, config=config, masks=noise)
    output = run(child, x)
    torch.testing.assert_close(output.logits, logits, rtol=1e-8, atol=1e-8)
    if aux_logits is None:
        assert output.aux_logits is None
    else:
        torch.testing.assert_close(output.aux_logits, aux_logits, rtol=1e-8, atol=1e-8)


def test_published_cells_have_the_parameters_of_the_authors_shapes():
    def conv1x1(inputs, outputs):  # with its BatchNorm; a factorized reduction has as many weights
        return inputs * outputs + 2 * outputs

    def separable(size, channels):
        return 2 * (size**2 * channels + conv1x1(channels, channels))

    def normal_cell(older, newer, channels):  # 2 sep3x3, 4 sep5x5; the 5 nodes are loose
        return (
            sum(conv1x1(inputs, channels) for inputs in (older, newer) if inputs != channels)
            + conv1x1(channels, channels)
            + 2 * separable(3, channels)
            + 4 * separable(5, channels)
        )

    def reduction_cell(older, newer, channels):  # 3 sep3x3, 3 sep5x5, an identity on an input; 4 nodes are loose
        return (
            sum(conv1x1(inputs, channels) for inputs in (older, newer))
            + conv1x1(channels, channels)
            + 3 * separable(3, channels)
            + 3 * separable(5, channels)
            + conv1x1(channels, channels)
        )

    stem = 9 * 3 * 108 + 2 * 108
    first = normal_cell(108, 108, 36) + normal_cell(108, 180, 36) + 3 * normal_cell(180, 180, 36)
    halved = reduction_cell(180, 180, 72)
    second = normal_cell(180, 288, 72) + normal_cell(288, 360, 72) + 3 * normal_cell(360, 360, 72)
    halved_again = reduction_cell(360, 360, 144)
    third = normal_cell(360, 576, 144) + normal_cell(576, 720, 144) + 3 * normal_cell(720, 720, 144)
    classifier = 720 * 10
    assert stem + first + halved + second + halved_again + third + classifier == 3_894_372
    auxiliary = (720 * 128 + 2 * 128) + (2 * 2 * 128 * 768 + 2 * 768) + 768 * 10
    assert auxiliary == 494_848
    config = MicroConfig(num_layers=15, filters=36, final="authors")
    architecture = config.make_space().from_text(PUBLISHED)
    with torch.device("meta"):
        child = config.make_child(input_shape=(3, 32, 32), num_classes=10, architecture=architecture)
    assert count_parameters(child) == 3_894_372
    assert count_auxiliary(child) == auxiliary


@pytest.mark.parametrize("num_layers", [1, 2, 3, 6])
@pytest.mark.parametrize("training", [False, True])
def test_logits_are_those_of_the_described_network(num_layers, training, make_child, layers_of, masks):
    config = MicroConfig(num_layers=num_layers, num_nodes=1 + num_layers % 3, filters=3, keep_prob=0.7, final="authors")
    for architecture in (*sampled(config), config.make_space().largest()):
        child = make_child(config, architecture=architecture, input_shape=(3, 9, 7)).double().train(training)
        child.drop_path_keep_prob = 0.6
        assert_described(child, images(4, 3, 9, 7).double(), config=config, layers_of=layers_of, masks=masks)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("picks", [(0, 0), (1, 0), (1, 1)])
def test_every_operation_is_that_of_the_described_network(operation, training, picks, make_child, layers_of, masks):
    config = MicroConfig(num_layers=1, num_nodes=1, filters=4, keep_prob=1.0, final="authors")
    nodes = (Node(inputs=picks, operations=(operation, operation)),)
    child = make_child(config, architecture=MicroArchitecture(normal=nodes, reduce=nodes)).double().train(training)
    assert_described(child, images(3, 3, 8, 8).double(), config=config, layers_of=layers_of, masks=masks)


@pytest.mark.parametrize("architecture", sampled(SMALL))
def test_every_weight_is_trained(architecture, make_child):
    child = make_child(SMALL, architecture=architecture).train()
    output = run(child, images(4, 3, 8, 8))
    (output.logits.square().sum() + output.aux_logits.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in child.parameters())


def test_loose_items_are_concatenated_as_they_are(make_child):
    nodes = (Node(inputs=(1, 1), operations=("max3x3", "identity")),)
    config = MicroConfig(num_layers=1, num_nodes=1, filters=4, final="authors")
    child = make_child(config, architecture=MicroArchitecture(normal=nodes, reduce=nodes)).eval()
    assert child.classifier.in_features == 2 * 16  # items 0 and 2, of 4 channels doubled twice
    given = []
    child.cells[-1].register_forward_pre_hook(lambda _module, inputs: given.extend(inputs))
    child(images(2, 3, 8, 8), child.architecture)
    older = given[0]
    _, out = run_alone(child.cells[-1](*given))
    assert torch.equal(out[:, :16], child.cells[-1].calibrate_0(older))


def test_same_architecture_costs_another_amount_than_the_searched_network():
    architecture = sampled(SMALL)[0]
    costs = [
        measure_cost(config, architecture, input_shape=(3, 8, 8), num_classes=10)
        for config in (SMALL, replace(SMALL, final="searched"))
    ]
    assert costs[0] != costs[1]


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (28, 28), (1, 1)])
def test_any_image_size_runs(size, make_child):
    child = make_child(SMALL, architecture=sampled(SMALL)[0], input_shape=(1, *size), num_classes=3).train()
    output = run(child, images(2, 1, *size))
    assert output.logits.shape == output.aux_logits.shape == (2, 3)
    assert output.logits.isfinite().all()


def test_supernet_of_final_networks_is_refused():
    with pytest.raises(
        ValueError, match="final: expected searched, since the authors' final network is that of one architecture"
    ):
        SMALL.make_child(input_shape=(3, 8, 8), num_classes=10)


def test_another_architecture_is_refused(make_child):
    first, second, _ = sampled(SMALL)
    with pytest.raises(ValueError, match="expected the standalone network's own architecture"):
        make_child(SMALL, architecture=first).eval()(images(2, 3, 8, 8), second)
    with pytest.raises(ValueError, match="normal: expected 2 nodes, got 5"):
        make_child(SMALL, architecture=sampled(MicroConfig())[0])
