import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from enas.children.base import Output, copy_inherited
from enas.children.batch_norm import batch_norms
from enas.children.cell_child import AuxiliaryHead
from enas.children.cost import count_auxiliary, count_parameters
from enas.children.micro import MicroChild
from enas.spaces.micro import OPERATIONS, MicroArchitecture, MicroConfig, Node, loose_items, reduction_cells
from enas.spaces.sampling import sample_uniform

SMALL = MicroConfig(num_layers=3, num_nodes=2, filters=4, keep_prob=0.8)


def sampled(config, num_architectures=3, seed=0):
    space = config.make_space()
    return [space.decode(row) for row in sample_uniform(space, num_architectures, np.random.default_rng(seed))]


def images(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(child, x, architecture, *, seed=3):
    return child(x, architecture, generator=torch.Generator().manual_seed(seed))


def loss_of(output):
    labels = torch.arange(len(output.logits)) % output.logits.shape[1]
    return F.cross_entropy(output.logits, labels) + 0.4 * F.cross_entropy(output.aux_logits, labels)


def micro_output(layers, architecture, x, *, config, masks):
    """The network as ENAS' authors describe it, written without the child; what is calibrated follows from the images' shapes.

    Args: layers: of the supernet's weights.
    """

    def operate(name, operation, y, cell):
        if operation == "identity":
            return y
        out = layers.separable(name, y) if operation.startswith("sep") else layers.pool(operation, y)
        return masks.drop_path(out, cell) if layers.training else out

    def run_cell(name, cell, nodes, older, newer, channels):
        items = [layers.calibrate(f"{name}.calibrate_{side}", y, newer, channels) for side, y in enumerate((older, newer))]
        for index, node in enumerate(nodes):
            picks = enumerate(zip(node.inputs, node.operations, strict=True))
            items.append(
                sum(operate(f"{name}.nodes.{index}.{side}.{op}_{item}", op, items[item], cell) for side, (item, op) in picks)
            )
        used = {item for node in nodes for item in node.inputs}
        loose = [item for item in range(len(items)) if item not in used]
        return layers.norm(f"{name}.output.norm", sum(layers.conv(f"{name}.output.{i}", items[i].relu()) for i in loose))

    third = config.num_layers // 3
    older = newer = layers.norm("stem.1", layers.conv("stem.0", x))
    channels, aux_logits = config.filters, None
    for cell in range(config.num_layers + 2):
        name, nodes = f"cells.{cell}", architecture.normal
        if cell in (third, 2 * third + 1):
            channels, nodes = 2 * channels, architecture.reduce
            older, newer = newer, layers.reduce(f"{name}.reduction", newer)
            older, newer = newer, run_cell(name, cell, nodes, older, newer, channels)
        else:
            older, newer = newer, run_cell(name, cell, nodes, older, newer, channels)
        if cell == 2 * third + 2 and config.aux_head and layers.training:
            aux_logits = layers.auxiliary_logits(newer)
    features = newer.relu().mean((2, 3))
    if layers.training and config.keep_prob < 1:
        features = masks.dropout(features, config.keep_prob)
    return features @ layers.weights["classifier.weight"].T, aux_logits


def assert_described(child, architecture, x, *, config, layers_of, masks):
    noise = masks(3, path_keep_prob=child.drop_path_keep_prob, num_cells=config.num_layers + 2)
    logits, aux_logits = micro_output(layers_of(child), architecture, x, config=config, masks=noise)
    output = run(child, x, architecture)
    torch.testing.assert_close(output.logits, logits, rtol=1e-8, atol=1e-8)
    if aux_logits is None:
        assert output.aux_logits is None
    else:
        torch.testing.assert_close(output.aux_logits, aux_logits, rtol=1e-8, atol=1e-8)


def test_supernet_of_the_authors_size_has_the_parameters_of_their_shapes():
    def separable(channels):  # of one cell: 2 sides, 2 to 6 items, 3x3 and 5x5, two stacked convolutions each
        per_item = 2 * (9 * channels + channels**2 + 2 * channels) + 2 * (25 * channels + channels**2 + 2 * channels)
        return 2 * (2 + 3 + 4 + 5 + 6) * per_item

    def output(channels):
        return 7 * channels**2 + 2 * channels

    cells = sum(count * (separable(channels) + output(channels)) for count, channels in ((2, 20), (3, 40), (3, 80)))
    stem = 9 * 3 * 60 + 2 * 60
    from_stem = 3 * (60 * 20 + 2 * 20)  # both inputs of cell 0, the older one of cell 1
    reductions = 2 * (20 * 40 + 2 * 40) + 2 * (40 * 80 + 2 * 80)  # both inputs of either reduction cell
    classifier = 80 * 10
    assert stem + from_stem + reductions + cells + classifier == 5_373_140
    child = MicroConfig().make_child(input_shape=(3, 32, 32), num_classes=10)
    assert count_parameters(child) == 5_373_140
    auxiliary = (80 * 128 + 2 * 128) + (2 * 2 * 128 * 768 + 2 * 768) + 768 * 10
    assert count_auxiliary(child) == auxiliary == 412_928
    assert sum(weight.numel() for weight in child.parameters()) == 5_373_140 + 412_928


@pytest.mark.parametrize("num_layers", [1, 2, 3, 5])
@pytest.mark.parametrize("training", [False, True])
def test_logits_are_those_of_the_described_network(num_layers, training, make_child, layers_of, masks):
    num_nodes = 1 + num_layers % 3
    config = MicroConfig(num_layers=num_layers, num_nodes=num_nodes, filters=3, keep_prob=0.7)
    child = make_child(config, input_shape=(3, 9, 7)).double().train(training)
    child.drop_path_keep_prob = 0.6
    x = images(4, 3, 9, 7).double()
    for architecture in (*sampled(config, 2), config.make_space().largest()):
        assert_described(child, architecture, x, config=config, layers_of=layers_of, masks=masks)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("training", [False, True])
def test_every_operation_is_that_of_the_described_network(operation, training, make_child, layers_of, masks):
    config = MicroConfig(num_layers=1, num_nodes=1, filters=4, operations=(operation,), keep_prob=1.0)
    child = make_child(config).double().train(training)
    for picks in itertools.product(range(2), repeat=2):
        nodes = (Node(inputs=picks, operations=(operation, operation)),)
        architecture = MicroArchitecture(normal=nodes, reduce=nodes)
        assert_described(child, architecture, images(3, 3, 8, 8).double(), config=config, layers_of=layers_of, masks=masks)


@pytest.mark.parametrize("size", [(29, 20), (17, 18), (8, 8)])
def test_auxiliary_logits_are_those_of_the_described_head(size, make_child, layers_of):
    height, width = ((length + 3) // 4 for length in size)
    config = MicroConfig(num_layers=1, num_nodes=1, filters=2)
    child = make_child(config, input_shape=(1, *size)).double().train()
    x = images(3, 8, height, width).double()
    torch.testing.assert_close(child.auxiliary_head(x), layers_of(child).auxiliary_logits(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("architecture", sampled(SMALL))
@pytest.mark.parametrize("training", [False, True])
def test_supernet_equals_the_standalone_network_bit_for_bit(architecture, training, make_child):
    supernet = make_child(SMALL).train(training)
    standalone = make_child(SMALL, architecture=architecture).train(training)
    copy_inherited(supernet, standalone)
    outputs = []
    for child in (supernet, standalone):
        child.drop_path_keep_prob = 0.6
        output = run(child, images(6, 3, 8, 8), architecture)
        (loss_of(output) if training else output.logits.square().sum()).backward()
        outputs.append(output)
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert not training or torch.equal(outputs[0].aux_logits, outputs[1].aux_logits)
    shared = dict(supernet.named_parameters())
    for name, parameter in standalone.named_parameters():
        if training or not name.startswith("auxiliary"):
            assert torch.equal(parameter.grad, shared[name].grad), name
    for name, buffer in standalone.named_buffers():
        assert torch.equal(buffer, supernet.get_buffer(name)), name


@pytest.mark.parametrize("architecture", sampled(SMALL, seed=1))
def test_only_the_sampled_path_gets_gradients_and_updates_its_statistics(architecture, make_child):
    supernet = make_child(SMALL).train()
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    loss_of(run(supernet, images(4, 3, 8, 8), architecture)).backward()
    with_gradient = {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    changed = {name for name, buffer in supernet.named_buffers() if not torch.equal(buffer, before[name])}
    standalone = make_child(SMALL, architecture=architecture)
    assert with_gradient == {name for name, _ in standalone.named_parameters()}
    assert with_gradient < {name for name, _ in supernet.named_parameters()}
    assert changed == {name for name, _ in standalone.named_buffers()}


def test_auxiliary_loss_trains_the_head_and_the_cells_before_it(make_child):
    child = make_child(SMALL).train()
    run(child, images(4, 3, 8, 8), sampled(SMALL)[0]).aux_logits.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in child.auxiliary_head.parameters())
    assert child.stem[0].weight.grad.abs().sum() > 0
    assert child.classifier.weight.grad is None


def test_auxiliary_head_does_not_run_in_evaluation_mode(make_child):
    child = make_child(SMALL).eval()
    child.auxiliary_head.register_forward_hook(lambda *_: pytest.fail("the auxiliary head ran"))
    assert child(images(2, 3, 8, 8), sampled(SMALL)[0]).aux_logits is None


def test_network_without_an_auxiliary_head_has_none():
    config = MicroConfig(num_layers=1, num_nodes=1, filters=2, aux_head=False)
    child = config.make_child(input_shape=(1, 8, 8), num_classes=3).train()
    assert child.auxiliary_head is None
    assert run(child, images(2, 1, 8, 8), config.make_space().largest()).aux_logits is None
    assert count_auxiliary(child) == 0
    assert not any("aux" in name for name in child.state_dict())


@pytest.mark.parametrize(("size", "kernel"), [((8, 8), (2, 2)), ((2, 3), (1, 1)), ((5, 10), (1, 2)), ((7, 12), (1, 3))])
def test_auxiliary_convolution_is_as_large_as_its_pooled_image(size, kernel):
    head = AuxiliaryHead(4, size=size, num_classes=3)
    assert head.full[0].kernel_size == kernel
    assert head(images(2, 4, *size)).shape == (2, 3)


def test_drop_path_keeps_identity_and_evaluation_whole(make_child):
    config = MicroConfig(num_layers=1, num_nodes=2, filters=2, operations=("identity",), keep_prob=1.0)
    x, architecture = images(6, 3, 8, 8), config.make_space().smallest()
    child = make_child(config).train()
    whole = run(child, x, architecture).logits
    child.drop_path_keep_prob = 0.01
    assert torch.equal(run(child, x, architecture).logits, whole)
    child = make_child(SMALL).eval()
    whole = run(child, x, sampled(SMALL)[0]).logits
    child.drop_path_keep_prob = 0.01
    assert torch.equal(child(x, sampled(SMALL)[0]).logits, whole)


def test_drop_path_follows_its_generator_and_needs_one(make_child):
    config = MicroConfig(num_layers=1, num_nodes=1, filters=2, operations=("max3x3",), keep_prob=1.0)
    child, architecture, x = make_child(config).train(), config.make_space().smallest(), images(8, 3, 8, 8)
    assert child(x, architecture).logits.isfinite().all()  # without drop-path and dropout no generator is needed
    assert child.has_drop_path
    child.drop_path_keep_prob = 0.5
    first, same, other = (run(child, x, architecture, seed=seed).logits for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="drop-path in training mode: expected a generator"):
        child(x, architecture)


@pytest.mark.parametrize(("num_layers", "size"), [(1, (8, 8)), (2, (9, 7)), (4, (28, 28)), (7, (5, 4))])
def test_any_depth_and_image_size_runs(num_layers, size, make_child):
    config = MicroConfig(num_layers=num_layers, num_nodes=2, filters=2 + num_layers % 2, operations=("sep3x3", "identity"))
    channels, classes = (1, 2) if num_layers % 2 else (3, 100)
    child = make_child(config, input_shape=(channels, *size), num_classes=classes).train()
    for architecture in (config.make_space().smallest(), config.make_space().largest()):
        output = run(child, images(2, channels, *size), architecture)
        assert output.logits.shape == output.aux_logits.shape == (2, classes)
        assert output.logits.isfinite().all()


@pytest.mark.parametrize(
    ("num_layers", "cells"), [(1, (0, 1)), (2, (0, 1)), (3, (1, 3)), (5, (1, 3)), (6, (2, 5)), (15, (5, 11))]
)
def test_reduction_cells_follow_a_third_and_two_thirds_of_the_layers(num_layers, cells):
    assert reduction_cells(num_layers) == cells


def test_loose_inputs_of_a_cell_are_part_of_its_output(make_child):
    nodes = (Node(inputs=(1, 1), operations=("identity", "identity")),)
    config = MicroConfig(num_layers=1, num_nodes=1, filters=2, operations=("identity",))
    child = make_child(config, architecture=MicroArchitecture(normal=nodes, reduce=nodes))
    assert [set(cell.output) for cell in child.cells] == [{"0", "2", "norm"}] * 3


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_does_not_change_the_result(memory_format, make_child):
    plain = run(make_child(SMALL).double(), images(4, 3, 8, 8).double(), sampled(SMALL)[0])
    child = make_child(SMALL).double().to(memory_format=memory_format)
    output = run(child, images(4, 3, 8, 8).double().to(memory_format=memory_format), sampled(SMALL)[0])
    torch.testing.assert_close(output.logits, plain.logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.aux_logits, plain.aux_logits, rtol=1e-9, atol=1e-9)


def test_activations_are_freed_at_once(make_child):
    child = make_child(SMALL).train()
    seen = []
    for norm in batch_norms(child):
        norm.register_forward_hook(lambda _module, _inputs, output: seen.append(weakref.ref(output)))
    gc.collect()
    gc.disable()
    try:
        output = run(child, images(2, 3, 8, 8), sampled(SMALL)[0])
        assert len(seen) > len(child.cells)
        del output
        assert [reference() for reference in seen] == [None] * len(seen)
    finally:
        gc.enable()


def test_forward_leaves_no_path_on_the_module(make_child):
    config = MicroConfig(num_layers=1, num_nodes=2, filters=2)
    child = make_child(config).eval()

    def attributes():
        return {
            name: {key: list(value) if isinstance(value, dict) else repr(value) for key, value in vars(module).items()}
            for name, module in child.named_modules()
        }

    before, (first, second, _) = attributes(), sampled(config)
    x = images(2, 3, 8, 8)
    alone = child(x, first).logits
    many = list(child.evaluate_many([x, x], [second, first]))
    assert isinstance(many[0], Output)
    assert torch.equal(many[1].logits, alone)
    assert attributes() == before


def test_reset_draws_he_normal_weights_from_the_generator():
    config = MicroConfig(num_layers=1, num_nodes=1, filters=32)
    first, second = (config.make_child(input_shape=(3, 8, 8), num_classes=10) for _ in range(2))
    for child in (first, second):
        child.reset_parameters(torch.Generator().manual_seed(7))
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    weights = first.state_dict()
    for name, fan_in in (("output.0", 128), ("nodes.0.1.sep5x5_1.depthwise_0", 25), ("nodes.0.0.sep3x3_0.pointwise_1", 128)):
        assert weights[f"cells.2.{name}.weight"].std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)


def test_standalone_network_refuses_another_architecture(make_child):
    first, second, _ = sampled(SMALL)
    with pytest.raises(ValueError, match="expected the standalone network's own architecture"):
        make_child(SMALL, architecture=first).eval()(images(2, 3, 8, 8), second)


def test_architecture_of_another_space_is_refused():
    other = sampled(MicroConfig())[0]
    with pytest.raises(ValueError, match="normal: expected 2 nodes, got 5"):
        SMALL.make_child(input_shape=(3, 8, 8), num_classes=10, architecture=other)


def multiply_adds(supernet, architecture, image):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        supernet(image, architecture)
    return counter.get_total_flops() // 2


def rank(config, architecture):
    """Return parameters, number of poolings, tokens."""
    child = config.make_child(input_shape=(1, 4, 4), num_classes=2, architecture=architecture)
    num_poolings = sum(operation in ("avg3x3", "max3x3") for node in architecture.normal for operation in node.operations)
    return count_parameters(child), num_poolings, config.make_space().encode(architecture)


@pytest.mark.parametrize(
    ("num_nodes", "operations"),
    [
        (1, OPERATIONS),
        pytest.param(2, ("sep5x5",), marks=pytest.mark.slow),
        (2, ("identity",)),
        pytest.param(2, ("sep3x3", "max3x3"), marks=[pytest.mark.slow, pytest.mark.thorough]),
        pytest.param(2, ("avg3x3", "identity"), marks=pytest.mark.slow),
    ],
)
def test_smallest_and_largest_are_those_of_brute_force(num_nodes, operations):
    config = MicroConfig(num_layers=1, num_nodes=num_nodes, filters=2, operations=operations, aux_head=False)
    pairs = list(itertools.product(operations, repeat=2))
    per_node = [
        [Node(inputs=picks, operations=pair) for picks in itertools.product(range(2 + index), repeat=2) for pair in pairs]
        for index in range(num_nodes)
    ]
    supernet, image = config.make_child(input_shape=(1, 4, 4), num_classes=2).eval(), images(1, 1, 4, 4)
    members = [MicroArchitecture(normal=nodes, reduce=nodes) for nodes in itertools.product(*per_node)]
    costs = [multiply_adds(supernet, member, image) for member in members]
    cheapest, dearest = (
        [member for member, cost in zip(members, costs, strict=True) if cost == extreme] for extreme in (min(costs), max(costs))
    )
    space = config.make_space()
    assert space.smallest() == min(cheapest, key=lambda member: rank(config, member))
    assert space.largest() == max(dearest, key=lambda member: rank(config, member))


def test_standalone_network_has_the_blocks_of_its_loose_items_only(make_child):
    architecture = sampled(SMALL)[0]
    child = make_child(SMALL, architecture=architecture)
    assert isinstance(child, MicroChild)
    assert set(child.cells[0].output) == {*map(str, loose_items(architecture.normal)), "norm"}
