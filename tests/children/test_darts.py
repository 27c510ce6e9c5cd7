import gc
import itertools
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from enas.children.base import copy_inherited
from enas.children.batch_norm import batch_norms
from enas.children.cost import count_auxiliary, count_parameters
from enas.published import PUBLISHED
from enas.spaces.darts import OPERATIONS, DartsArchitecture, DartsConfig, Node
from enas.spaces.sampling import sample_uniform

SMALL = DartsConfig(num_layers=4, num_nodes=2, filters=4, keep_prob=0.8, aux_head=True, operations=OPERATIONS[1:])


SMALL_WITH_NONE = DartsConfig(num_layers=4, num_nodes=2, filters=4)


def sampled(config, num_architectures=3, seed=0):
    space = config.make_space()
    return [space.decode(row) for row in sample_uniform(space, num_architectures, np.random.default_rng(seed))]


def same_cells(*nodes):
    return DartsArchitecture(normal=nodes, reduce=nodes)


def images(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(child, x, architecture, *, seed=3):
    return child(x, architecture, generator=torch.Generator().manual_seed(seed))


def loss_of(output):
    labels = torch.arange(len(output.logits)) % output.logits.shape[1]
    return F.cross_entropy(output.logits, labels) + 0.4 * F.cross_entropy(output.aux_logits, labels)


def darts_output(layers, architecture, x, *, config, masks):
    """The network as DARTS' authors describe it, written without the child.

    Args: layers: of the supernet's weights.
    """

    def operate(name, operation, y, stride):
        if operation == "none":
            return torch.zeros_like(y[:, :, ::stride, ::stride])
        if operation.endswith("pool_3x3"):
            return layers.pool(operation[:3] + "3x3", y, stride=stride)
        if operation.startswith("sep"):
            return layers.separable(name, y, stride=stride)
        if operation.startswith("dil"):
            weight = layers.weights[f"{name}.0.weight"]
            y = F.conv2d(y.relu(), weight, stride=stride, padding=weight.shape[-1] - 1, dilation=2, groups=len(weight))
            return layers.norm(f"{name}.2", layers.conv(f"{name}.1", y))
        return y if stride == 1 else layers.reduce(name, y.relu())

    def edge(name, cell, operation, y, stride):
        out = operate(name, operation, y, stride)
        is_dropped = layers.training and operation != "none" and (operation, stride) != ("skip_connect", 1)
        return masks.drop_path(out, cell) if is_dropped else out

    def run_cell(cell, nodes, older, newer, *, is_reduction):
        name = f"cells.{cell}"
        is_larger = older.shape[2:] != newer.shape[2:]
        first = f"{name}.preprocess_0"
        items = [layers.reduce(f"{first}.1", older.relu()) if is_larger else layers.rectified_conv1x1(first, older)]
        items.append(layers.rectified_conv1x1(f"{name}.preprocess_1", newer))
        for index, node in enumerate(nodes):
            items.append(
                sum(
                    weight
                    * edge(f"{name}.nodes.{index}.{op}_{item}", cell, op, items[item], 2 if is_reduction and item < 2 else 1)
                    for item, op, weight in zip(node.inputs, node.operations, getattr(node, "weights", (1, 1)), strict=True)
                )
            )
        return torch.cat(items[2:], dim=1)

    reductions = config.num_layers // 3, 2 * config.num_layers // 3
    older = newer = layers.norm("stem.1", layers.conv("stem.0", x))
    aux_logits = None
    for cell in range(config.num_layers):
        nodes = architecture.reduce if cell in reductions else architecture.normal
        older, newer = newer, run_cell(cell, nodes, older, newer, is_reduction=cell in reductions)
        if cell == reductions[1] and config.aux_head and layers.training:
            aux_logits = layers.auxiliary_logits(newer)
    features = newer.mean((2, 3))
    if layers.training and config.keep_prob < 1:
        features = masks.dropout(features, config.keep_prob)
    return features @ layers.weights["classifier.weight"].T + layers.weights["classifier.bias"], aux_logits


def assert_described(child, architecture, x, *, config, layers_of, masks):
    noise = masks(3, path_keep_prob=child.drop_path_keep_prob, num_cells=config.num_layers)
    layers = layers_of(child)
    for name in [name for name in layers.weights if name.endswith("running_mean")]:  # of BatchNorm without weights
        layers.weights.setdefault(name.replace("running_mean", "weight"), torch.ones_like(layers.weights[name]))
        layers.weights.setdefault(name.replace("running_mean", "bias"), torch.zeros_like(layers.weights[name]))
    logits, aux_logits = darts_output(layers, architecture, x, config=config, masks=noise)
    output = run(child, x, architecture)
    torch.testing.assert_close(output.logits, logits, rtol=1e-8, atol=1e-8)
    if aux_logits is None:
        assert output.aux_logits is None
    else:
        torch.testing.assert_close(output.aux_logits, aux_logits, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("num_layers", [3, 4, 5, 6])
@pytest.mark.parametrize("training", [False, True])
def test_logits_are_those_of_the_described_network(num_layers, training, make_child, layers_of, masks):
    config = DartsConfig(
        num_layers=num_layers,
        num_nodes=1 + num_layers % 3,
        filters=3,
        keep_prob=0.7,
        aux_head=num_layers != 4,
        affine=num_layers != 5,
    )
    child = make_child(config, input_shape=(3, 9, 7)).double().train(training)
    child.drop_path_keep_prob = 0.6
    x = images(4, 3, 9, 7).double()
    for architecture in (*sampled(config, 2), config.make_space().smallest()):
        assert_described(child, architecture, x, config=config, layers_of=layers_of, masks=masks)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("training", [False, True])
def test_every_operation_is_that_of_the_described_network(operation, training, make_child, layers_of, masks):
    config = DartsConfig(num_layers=3, num_nodes=2, filters=2)
    child = make_child(config).double().train(training)
    other = Node(inputs=(0, 1), operations=("skip_connect", "max_pool_3x3"))
    for inputs in ((0, 1), (0, 2), (1, 2)):
        architecture = same_cells(other, Node(inputs=inputs, operations=(operation, operation)))
        assert_described(child, architecture, images(3, 3, 8, 8).double(), config=config, layers_of=layers_of, masks=masks)


def test_published_cells_have_the_parameters_of_the_authors_shapes():
    """Second order cells: five 3x3 separable and one 3x3 dilated convolution in a normal cell, no weights in a reduction cell."""

    def norm(channels):
        return 2 * channels

    def normal_cell(older, newer, channels):
        separable = 2 * (9 * channels + channels**2 + norm(channels))
        dilated = 9 * channels + channels**2 + norm(channels)
        return inputs(older, newer, channels) + 5 * separable + dilated

    def inputs(older, newer, channels):  # a factorized reduction has as many as the 1x1 convolution that it stands for
        return (older + newer) * channels + 2 * norm(channels)

    cells, older, newer, channels = 0, 108, 108, 36
    for index in range(20):
        channels *= 2 if index in (6, 13) else 1
        cells += inputs(older, newer, channels) if index in (6, 13) else normal_cell(older, newer, channels)
        older, newer = newer, 4 * channels
    total = (27 * 108 + norm(108)) + cells + (576 * 10 + 10)
    assert total == 3_349_342  # authors' README: 3.349 M
    config = DartsConfig(num_layers=20, filters=36, aux_head=True)
    architecture = config.make_space().from_text(PUBLISHED["darts-v2"].text)
    with torch.device("meta"):
        child = config.make_child(input_shape=(3, 32, 32), num_classes=10, architecture=architecture)
    assert count_parameters(child) == 3_349_342
    assert count_auxiliary(child) == (576 * 128 + 2 * 128) + (4 * 128 * 768 + 2 * 768) + 768 * 10


def test_supernet_of_the_authors_size_has_their_number_of_parameters():
    """Their log of a search says 1.930618 M, without weights in the cells' BatchNorm, and their poolings' has none either."""
    with torch.device("meta"):
        child = DartsConfig(affine=False).make_child(input_shape=(3, 32, 32), num_classes=10)
    assert count_parameters(child) == 1_930_618
    assert count_auxiliary(child) == 0


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_supernet_equals_the_standalone_network_bit_for_bit(training, affine, make_child):
    config = DartsConfig(num_layers=3, num_nodes=2, filters=4, keep_prob=0.8, aux_head=True, affine=affine)
    supernet = make_child(config).train(training)
    for architecture in sampled(config, 2):
        standalone = make_child(config, architecture=architecture).train(training)
        copy_inherited(supernet, standalone)
        outputs = []
        for child in (supernet, standalone):
            child.zero_grad(set_to_none=True)
            child.drop_path_keep_prob = 0.6
            output = run(child, images(6, 3, 8, 8), architecture)
            (loss_of(output) if training else output.logits.square().sum()).backward()
            outputs.append(output)
        assert torch.equal(outputs[0].logits, outputs[1].logits)
        assert not training or torch.equal(outputs[0].aux_logits, outputs[1].aux_logits)
        shared = {name: weight.grad for name, weight in supernet.named_parameters() if weight.grad is not None}
        own = {name: weight.grad for name, weight in standalone.named_parameters() if weight.grad is not None}
        assert shared.keys() == own.keys()
        assert all(torch.equal(grad, shared[name]) for name, grad in own.items())
        assert all(torch.equal(buffer, supernet.get_buffer(name)) for name, buffer in standalone.named_buffers())


@pytest.mark.parametrize("architecture", sampled(SMALL, seed=1))
def test_only_the_sampled_path_gets_gradients_and_updates_its_statistics(architecture, make_child):
    supernet = make_child(SMALL).train()
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    loss_of(run(supernet, images(4, 3, 8, 8), architecture)).backward()
    with_gradient = {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    changed = {name for name, buffer in supernet.named_buffers() if not torch.equal(buffer, before[name])}
    standalone = make_child(SMALL, architecture=architecture)
    assert with_gradient == {name for name, _ in standalone.named_parameters()} < set(dict(supernet.named_parameters()))
    assert changed == {name for name, _ in standalone.named_buffers()}


def test_an_edge_has_the_same_weights_in_every_pair(make_child):
    def edge_weights(inputs):
        first = Node(inputs=(0, 1), operations=("none", "max_pool_3x3"))
        operations = tuple("sep_conv_3x3" if item == 1 else "skip_connect" for item in inputs)
        child = make_child(SMALL_WITH_NONE, architecture=same_cells(first, Node(inputs=inputs, operations=operations)))
        return {name for name in child.state_dict() if "sep_conv_3x3" in name}

    names = edge_weights((0, 1))
    assert names == edge_weights((1, 2))
    assert all(".nodes.1.sep_conv_3x3_1." in name for name in names)
    assert len(names) == 4 * 14  # cells; two of depthwise, pointwise and BatchNorm's five


def test_cell_of_none_gives_zeros_of_its_size(make_child):
    nothing = (Node(inputs=(0, 1), operations=("none", "none")),)
    something = (Node(inputs=(0, 1), operations=("skip_connect", "max_pool_3x3")),)
    config = DartsConfig(num_layers=3, num_nodes=1, filters=2)
    child = make_child(config, input_shape=(3, 9, 7)).train()
    for architecture in (
        DartsArchitecture(normal=something, reduce=nothing),
        DartsArchitecture(normal=nothing, reduce=nothing),
    ):
        output = run(child, images(2, 3, 9, 7), architecture)
        assert torch.equal(output.logits, child.classifier.bias.expand(2, -1))
    output.logits.sum().backward()
    assert child.classifier.bias.grad.sum() == 20
    assert child.stem[0].weight.grad is None


def test_auxiliary_head_does_not_run_in_evaluation_mode_and_is_off_by_default(make_child):
    child = make_child(SMALL).eval()
    child.auxiliary_head.register_forward_hook(lambda *_: pytest.fail("the auxiliary head ran"))
    assert child(images(2, 3, 8, 8), sampled(SMALL)[0]).aux_logits is None
    assert make_child(DartsConfig(num_layers=3, num_nodes=1, filters=2)).auxiliary_head is None


def test_drop_path_keeps_identity_and_evaluation_whole(make_child):
    config = DartsConfig(num_layers=3, num_nodes=2, filters=2, operations=("max_pool_3x3", "skip_connect"))
    skips = (Node(inputs=(0, 1), operations=("skip_connect", "skip_connect")),) * 2
    pools = (Node(inputs=(0, 1), operations=("max_pool_3x3", "max_pool_3x3")),) * 2
    x, child = images(6, 3, 8, 8), make_child(config).double().train()
    seen = []
    child.cells[1].preprocess_1.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    for keep_prob, nodes in itertools.product((1.0, 0.01), (skips, pools)):
        child.drop_path_keep_prob = keep_prob
        run(child, x.double(), DartsArchitecture(normal=nodes, reduce=pools))
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[1], seen[3])
    child.eval()
    architecture = DartsArchitecture(normal=pools, reduce=pools)
    dropped = child(x.double(), architecture).logits
    child.drop_path_keep_prob = 1.0
    assert torch.equal(child(x.double(), architecture).logits, dropped)


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
    config = DartsConfig(num_layers=3, num_nodes=2, filters=2)
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
    assert torch.equal(many[1].logits, alone)
    assert attributes() == before


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (28, 28)])
def test_small_and_odd_images_run(size, make_child):
    config = DartsConfig(num_layers=3, num_nodes=2, filters=2, aux_head=True)
    child = make_child(config, input_shape=(1, *size), num_classes=2).train()
    for architecture in (config.make_space().smallest(), config.make_space().largest(), *sampled(config, 2)):
        output = run(child, images(3, 1, *size), architecture)
        assert output.logits.shape == output.aux_logits.shape == (3, 2)
        assert output.logits.isfinite().all()


def test_architecture_of_another_space_is_refused():
    other = sampled(DartsConfig())[0]
    with pytest.raises(ValueError, match="normal: expected 1 nodes, got 4"):
        DartsConfig(num_nodes=1).make_child(input_shape=(3, 8, 8), num_classes=10, architecture=other)


def edges_of(config):
    """Return (cell, node, item) of each row of a mixture's weights."""
    return [(c, node, item) for c in range(2) for node in range(config.num_nodes) for item in range(2 + node)]


@pytest.mark.parametrize("operations", [OPERATIONS, OPERATIONS[1:], ("avg_pool_3x3", "dil_conv_3x3")])
@pytest.mark.parametrize("training", [False, True])
def test_mixture_is_the_described_sum(operations, training, make_child, layers_of, masks):
    config = DartsConfig(num_layers=4, num_nodes=2, filters=3, keep_prob=0.7, aux_head=True, operations=operations)
    child = make_child(config, input_shape=(3, 9, 7)).double().train(training)
    child.drop_path_keep_prob = 0.6
    x = images(4, 3, 9, 7).double()
    edges = edges_of(config)
    weights = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(len(operations)), size=len(edges)))

    def node(cell, index):
        rows = [row for row, edge in enumerate(edges) if edge[:2] == (cell, index)]
        terms = [(edges[row][2], operation, weights[row, k]) for row in rows for k, operation in enumerate(operations)]
        inputs, names, factors = zip(*terms, strict=True)
        return SimpleNamespace(inputs=inputs, operations=names, weights=factors)

    cells = SimpleNamespace(normal=[node(0, 0), node(0, 1)], reduce=[node(1, 0), node(1, 1)])
    noise = masks(3, path_keep_prob=0.6, num_cells=4)
    logits, aux_logits = darts_output(layers_of(child), cells, x, config=config, masks=noise)
    active = np.ones(weights.shape, dtype=bool)
    output = child.forward_mixture(x, weights, active, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(output.logits, logits, rtol=1e-8, atol=1e-8)
    assert (output.aux_logits is None) == (aux_logits is None)
    if aux_logits is not None:
        torch.testing.assert_close(output.aux_logits, aux_logits, rtol=1e-8, atol=1e-8)


def test_mixture_of_a_pair_an_operation_each_and_none_elsewhere_is_that_architecture_bit_for_bit(make_child):
    config = SMALL_WITH_NONE
    x = images(4, 3, 8, 8)
    with_none = same_cells(
        Node(inputs=(0, 1), operations=("none", "sep_conv_3x3")), Node(inputs=(1, 2), operations=("none", "none"))
    )
    for architecture in (*sampled(config, 4), with_none):
        active = np.zeros((len(edges_of(config)), len(OPERATIONS)), dtype=bool)
        for row, (cell, index, item) in enumerate(edges_of(config)):
            picked = architecture.cells[cell][index]
            active[row, OPERATIONS.index(dict(zip(picked.inputs, picked.operations, strict=True)).get(item, "none"))] = True
        logits = []
        for mixed in (False, True):
            child = make_child(config).train()
            weights = torch.from_numpy(active).float()
            logits.append((child.forward_mixture(x, weights, active) if mixed else child(x, architecture)).logits)
        assert torch.equal(*logits)
