from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from enas.children.cost import measure_cost
from enas.spaces.nasbench201 import EDGES, OPERATIONS, NasBench201Config, NasBench201Space, live_nodes
from enas.spaces.sampling import sample_uniform

SPACE = NasBench201Space()
TABLE = Path(__file__).parents[2] / "../shared/data/nasbench201.npz"


def sampled(num_architectures, seed=0):
    return [SPACE.decode(row) for row in sample_uniform(SPACE, num_architectures, np.random.default_rng(seed))]


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def described_logits(layers, architecture, x, *, cells_per_stage, weights=None):
    """The benchmark's network, written without the child.

    Args: layers: of the supernet's weights. weights: of a mixture of all operations, which the architecture gives way to.
    """

    def conv_norm(name, y, stride=1):
        return layers.norm(f"{name}.1", layers.conv(f"{name}.0", y, stride=stride))

    def operate(name, operation, y):
        if operation == "none":
            return 0 * y
        if operation == "skip_connect":
            return y
        return layers.pool("avg3x3", y) if operation.startswith("avg") else conv_norm(f"{name}.{operation}", y.relu())

    y = conv_norm("stem", x)
    for index in range(3 * cells_per_stage + 2):
        name = f"layers.{index}"
        if index % (cells_per_stage + 1) == cells_per_stage:
            body = conv_norm(f"{name}.conv_b", conv_norm(f"{name}.conv_a", y.relu(), 2).relu())
            height, width = y.shape[2:]
            cut = [y[:, :, row : row + 2, :] for row in range(0, height, 2)]
            means = [[band[:, :, :, column : column + 2].mean((2, 3)) for column in range(0, width, 2)] for band in cut]
            pooled = torch.stack([torch.stack(row, dim=-1) for row in means], dim=-2)
            y = layers.conv(f"{name}.shortcut", pooled) + body
            continue
        nodes = [y]
        for node in (1, 2, 3) if weights is not None else ():
            nodes.append(
                sum(
                    weights[edge, choice] * operate(f"{name}.{edge}", operation, nodes[source])
                    for edge, (source, target) in enumerate(EDGES)
                    if target == node
                    for choice, operation in enumerate(OPERATIONS)
                )
            )
        for node in (1, 2, 3) if weights is None else ():
            edges = [
                (edge, source, operation)
                for edge, ((source, target), operation) in enumerate(zip(EDGES, architecture.operations, strict=True))
                if target == node
            ]
            nodes.append(sum(operate(f"{name}.{edge}", operation, nodes[source]) for edge, source, operation in edges))
        y = nodes[3]
    features = layers.norm("norm", y).relu().mean((2, 3))
    return features @ layers.weights["classifier.weight"].T + layers.weights["classifier.bias"]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_logits_are_those_of_the_described_network(training, size, make_child, layers_of):
    config = NasBench201Config(filters=3, cells_per_stage=2)
    child = make_child(config, input_shape=(3, *size)).double().train(training)
    x = images(4, 3, *size).double()
    cells = [SPACE.decode(tokens) for tokens in ([0] * 6, [0, 3, 0, 0, 2, 1], [4, 0, 3, 1, 0, 2])]
    for architecture in (*sampled(4), SPACE.smallest(), SPACE.largest(), *cells):
        expected = described_logits(layers_of(child), architecture, x, cells_per_stage=2)
        torch.testing.assert_close(child(x, architecture).logits, expected, rtol=1e-9, atol=1e-9)


def test_batch_norm_without_weights_normalises_alike(make_child):
    x = images(8, 3, 8, 8)
    architecture = SPACE.decode([3, 2, 1, 4, 3, 2])
    plain = make_child(NasBench201Config(filters=4, cells_per_stage=1, affine=False)).train()
    affine = NasBench201Config(filters=4, cells_per_stage=1).make_child(input_shape=(3, 8, 8), num_classes=10).train()
    affine.load_state_dict(plain.state_dict(), strict=False)  # leaves BatchNorm's weights at one and zero
    assert torch.equal(plain(x, architecture).logits, affine(x, architecture).logits)
    norms = sum(module.num_features for module in affine.modules() if isinstance(module, torch.nn.BatchNorm2d))
    count = [sum(weight.numel() for weight in child.parameters()) for child in (plain, affine)]
    assert count[1] - count[0] == 2 * norms


def test_benchmark_network_has_the_parameters_of_its_description():
    """All 3x3 convolutions at C = 16, N = 5: as the benchmark records it, 1.531546 M, term by term."""
    stages = sum(5 * 6 * (9 * c * c + 2 * c) for c in (16, 32, 64))
    reductions = sum(9 * c * 2 * c + 9 * 4 * c * c + 2 * 2 * 2 * c + 2 * c * c for c in (16, 32))
    rest = (27 * 16 + 2 * 16) + 2 * 64 + (64 * 10 + 10)
    cost = measure_cost(NasBench201Config(), SPACE.largest(), input_shape=(3, 32, 32), num_classes=10)
    assert cost.parameters == stages + reductions + rest == 1_531_546


def test_parameters_and_flops_are_those_of_the_published_table():
    if not TABLE.exists():
        pytest.skip("the benchmark's table is not here")
    with np.load(TABLE) as table:
        parameters, flops = table["params_m"], table["flops_m"]
    for architecture in sampled(12, seed=1):
        cost = measure_cost(NasBench201Config(), architecture, input_shape=(3, 32, 32), num_classes=10)
        index = SPACE.official_index(architecture)
        assert cost.parameters / 1e6 == pytest.approx(parameters[index], abs=6e-5)
        if all(live_nodes(architecture.operations)):  # the benchmark counts what the output does not depend on, too
            assert cost.flops / 1e6 == pytest.approx(flops[index], abs=6e-4)


def test_smallest_and_largest_by_brute_force():
    """Of all cells; an operation costs the same on every edge that the output depends on, which samples show."""
    config = NasBench201Config(filters=2, cells_per_stage=1)

    def cost(architecture):
        measured = measure_cost(config, architecture, input_shape=(3, 8, 8), num_classes=10)
        return np.array([measured.flops, measured.parameters])

    base = cost(SPACE.smallest())
    added = np.array([[0, 0], *((cost(SPACE.decode([token] * 6)) - base) / 6 for token in range(1, 5))])  # (5, 2)
    for architecture in sampled(8, seed=2):
        if all(live_nodes(architecture.operations)):
            tokens = SPACE.encode(architecture)
            assert cost(architecture).tolist() == (base + added[list(tokens)].sum(axis=0)).tolist()
    work = {"none": 0, "skip_connect": 0, "nor_conv_1x1": 1, "nor_conv_3x3": 1, "avg_pool_3x3": 1}

    def rank(tokens):
        flops, parameters = added[list(tokens)].sum(axis=0)
        return flops, parameters, sum(work[OPERATIONS[token]] for token in tokens), tokens

    cells = list(product(range(5), repeat=6))
    assert SPACE.decode(max(cells, key=rank)) == SPACE.largest()
    assert SPACE.decode(min((cell for cell in cells if 0 not in cell), key=rank)) == SPACE.smallest()


def test_edges_that_the_output_does_not_depend_on_are_left_out(make_child):
    child = make_child(NasBench201Config(filters=4, cells_per_stage=1)).train()
    architecture = SPACE.decode([3, 3, 3, 1, 0, 0])  # node 1 and node 2 lead nowhere
    F.cross_entropy(child(images(4, 3, 8, 8), architecture).logits, torch.arange(4)).backward()
    trained = {name for name, weight in child.named_parameters() if weight.grad is not None}
    assert not any("nor_conv" in name for name in trained)
    assert any("nor_conv" in name for name, _ in child.named_parameters())


def test_every_operation_with_weights_has_its_own_on_each_edge():
    child = NasBench201Config(filters=4, cells_per_stage=1).make_child(input_shape=(3, 8, 8), num_classes=10)
    names = {name for name, _ in child.named_parameters() if name.startswith("layers.0.") and name.endswith("0.weight")}
    assert names == {f"layers.0.{edge}.{operation}.0.weight" for edge in range(6) for operation in OPERATIONS[2:4]}


@pytest.mark.parametrize("training", [False, True])
def test_mixture_is_the_described_sum(training, make_child, layers_of):
    child = make_child(NasBench201Config(filters=3, cells_per_stage=2), input_shape=(3, 9, 7)).double().train(training)
    x = images(4, 3, 9, 7).double()
    weights = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(5), size=6))
    expected = described_logits(layers_of(child), None, x, cells_per_stage=2, weights=weights)
    logits = child.forward_mixture(x, weights, np.ones((6, 5), dtype=bool)).logits
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


def test_mixture_of_one_cell_is_that_cell_bit_for_bit(make_child):
    """Its output, its statistics and its gradients; also where the output does not depend on a node, or on the input."""
    config = NasBench201Config(filters=4, cells_per_stage=1)
    x = images(4, 3, 8, 8)
    disconnected = [SPACE.decode(tokens) for tokens in ([0] * 6, [3, 0, 0, 2, 0, 0], [3, 1, 2, 0, 0, 4], [2, 2, 2, 0, 0, 0])]
    for architecture in (*sampled(6), *disconnected, SPACE.largest()):
        active = np.eye(5, dtype=bool)[list(SPACE.encode(architecture))]
        ends = []
        for mixed in (False, True):
            child = make_child(config).train()
            weights = torch.from_numpy(active).float().requires_grad_()
            output = child.forward_mixture(x, weights, active) if mixed else child(x, architecture)
            F.cross_entropy(output.logits, torch.arange(4)).backward()
            gradients = {f"gradient {name}": weight.grad for name, weight in child.named_parameters() if weight.grad is not None}
            ends.append({"logits": output.logits, **gradients, **child.state_dict()})
        assert ends[0].keys() == ends[1].keys()
        for name, value in ends[0].items():
            assert torch.equal(value, ends[1][name]), name
