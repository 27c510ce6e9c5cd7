import numpy as np
import pytest
import torch
from torch.nn import functional as F

from enas.children.base import Output, copy_inherited
from enas.children.cost import count_parameters
from enas.children.macro import reduction_layers
from enas.spaces.macro import MacroArchitecture, MacroConfig
from enas.spaces.sampling import sample_uniform

FIVE_LAYERS = MacroConfig(num_layers=5, filters=6, keep_prob=0.8)


def sampled(config, num_architectures=5, seed=0):
    space = config.make_space()
    tokens = sample_uniform(space, num_architectures, np.random.default_rng(seed))
    return [space.decode(row) for row in tokens]


def images(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def standalone_of(make_child, supernet, config, architecture):
    child = make_child(config, architecture=architecture)
    copy_inherited(supernet, child)
    return child


def macro_logits(weights, architecture, x, *, num_layers, training):
    """The network as ENAS' authors describe it, written without the child: every stored output is reduced where the size is.

    Args: weights: state dict of the supernet.
    """

    def norm(name, y, eps=1e-5):
        mean, variance = weights[f"{name}.running_mean"].clone(), weights[f"{name}.running_var"].clone()
        if training:
            mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)
        scaled = (y - mean[:, None, None]) / (variance[:, None, None] + eps).sqrt()
        return scaled * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]

    def branch(name, operation, y):
        y = norm(f"{name}.enter.1", F.conv2d(y, weights[f"{name}.enter.0.weight"])).relu()
        if operation == "max3x3":
            return F.max_pool2d(y, 3, 1, 1)
        if operation == "avg3x3":
            ones = torch.ones(y.shape[1], 1, 3, 3, dtype=y.dtype)
            return F.conv2d(y, ones, padding=1, groups=y.shape[1]) / F.conv2d(
                torch.ones_like(y), ones, padding=1, groups=y.shape[1]
            )
        padding = int(operation[-1]) // 2
        if operation.startswith("sep"):
            y = F.conv2d(y, weights[f"{name}.conv.0.weight"], padding=padding, groups=y.shape[1])
            y = F.conv2d(y, weights[f"{name}.conv.1.weight"])
        else:
            y = F.conv2d(y, weights[f"{name}.conv.weight"], padding=padding)
        return norm(f"{name}.norm", y, eps=1e-3).relu()

    def reduce(name, y):
        shifted = F.pad(y, (0, 1, 0, 1))[:, :, 1:, 1:]
        halves = (F.avg_pool2d(half, 1, 2) for half in (y, shifted))
        weighted = [
            F.conv2d(half, weights[f"{name}.{which}.weight"]) for which, half in zip(("even", "odd"), halves, strict=True)
        ]
        return norm(f"{name}.norm", torch.cat(weighted, dim=1))

    stored = [norm("stem.1", F.conv2d(x, weights["stem.0.weight"], padding=1))]
    level = 0
    for layer in range(num_layers):
        y = branch(f"layers.{layer}.branches.{architecture.operations[layer]}", architecture.operations[layer], stored[-1])
        if layer > 0:
            y = norm(f"layers.{layer}.norm", y + sum(stored[source] for source in architecture.skips[layer]))
        stored.append(y)
        if num_layers >= 3 and layer in (num_layers // 3 - 1, 2 * (num_layers // 3) - 1):
            stored = [reduce(f"reductions.{level}_{source}", old) for source, old in enumerate(stored)]
            level += 1
    return stored[-1].mean((2, 3)) @ weights["classifier.weight"].T


def test_twelve_layer_supernet_has_the_parameters_of_the_authors_shapes():
    filters = 36
    conv1x1, norm = filters * filters, 2 * filters
    enter = conv1x1 + norm
    full = (9 + 25) * filters * filters + 2 * norm
    separable = (9 + 25) * filters + 2 * conv1x1 + 2 * norm
    layers = 12 * (6 * enter + full + separable) + 11 * norm  # layer 0 has no skip sum to normalise
    stem = 9 * 3 * filters + norm
    first_reductions, second_reductions = 5, 9  # the stem and the outputs of 4, then of 8 layers
    reductions = (first_reductions + second_reductions) * (2 * filters * filters // 2 + norm)
    classifier = filters * 10
    assert stem + layers + reductions + classifier == 697_860
    child = MacroConfig().make_child(input_shape=(3, 32, 32), num_classes=10)
    assert count_parameters(child) == 697_860


@pytest.mark.parametrize("num_layers", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("training", [False, True])
def test_logits_are_those_of_the_described_network(num_layers, training, make_child):
    config = MacroConfig(num_layers=num_layers, filters=5, keep_prob=1.0)
    child = make_child(config, input_shape=(3, 9, 7)).double().train(training)
    x = images(4, 3, 9, 7).double()
    for architecture in (*sampled(config, 3), config.make_space().largest()):
        weights = {name: tensor.detach().clone() for name, tensor in child.state_dict().items()}
        expected = macro_logits(weights, architecture, x, num_layers=num_layers, training=training)
        torch.testing.assert_close(child(x, architecture).logits, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("operation", MacroConfig().operations)
def test_every_operation_is_that_of_the_described_network(operation, make_child):
    config = MacroConfig(num_layers=2, filters=4)
    child = make_child(config).double().eval()
    architecture = MacroArchitecture(operations=(operation,) * 2, skips=((), (0,)))
    x = images(2, 3, 8, 8).double()
    expected = macro_logits(child.state_dict(), architecture, x, num_layers=2, training=False)
    torch.testing.assert_close(child(x, architecture).logits, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("architecture", sampled(FIVE_LAYERS))
@pytest.mark.parametrize("training", [False, True])
def test_supernet_equals_the_standalone_network_bit_for_bit(architecture, training, make_child):
    supernet = make_child(FIVE_LAYERS).train(training)
    standalone = standalone_of(make_child, supernet, FIVE_LAYERS, architecture).train(training)
    x, labels = images(6, 3, 8, 8), torch.arange(6)
    logits = []
    for child in (supernet, standalone):
        output = child(x, architecture, generator=torch.Generator().manual_seed(3))
        F.cross_entropy(output.logits, labels).backward()
        logits.append(output.logits)
    assert torch.equal(logits[0], logits[1])
    shared = dict(supernet.named_parameters())
    for name, parameter in standalone.named_parameters():
        assert torch.equal(parameter.grad, shared[name].grad), name
    for name, buffer in standalone.named_buffers():
        assert torch.equal(buffer, supernet.get_buffer(name)), name


@pytest.mark.parametrize("architecture", sampled(FIVE_LAYERS, seed=1))
def test_only_the_sampled_path_gets_gradients(architecture, make_child):
    supernet = make_child(FIVE_LAYERS).train()
    supernet(images(4, 3, 8, 8), architecture, generator=torch.Generator()).logits.square().sum().backward()
    with_gradient = {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    standalone = FIVE_LAYERS.make_child(input_shape=(3, 8, 8), num_classes=10, architecture=architecture)
    assert with_gradient == {name for name, _ in standalone.named_parameters()}
    assert with_gradient < {name for name, _ in supernet.named_parameters()}


@pytest.mark.parametrize("num_layers", range(1, 14))
def test_any_depth_width_and_number_of_classes_runs(num_layers, make_child):
    config = MacroConfig(num_layers=num_layers, filters=2 + num_layers % 2, keep_prob=0.5)
    channels, classes = (1, 2) if num_layers % 2 else (3, 100)
    child = make_child(config, input_shape=(channels, 9, 7), num_classes=classes)
    for architecture in (config.make_space().smallest(), config.make_space().largest()):
        logits = child(images(2, channels, 9, 7), architecture, generator=torch.Generator()).logits
        assert logits.shape == (2, classes)
        assert logits.isfinite().all()


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (28, 28), (32, 32), (1, 1), pytest.param((224, 224), marks=pytest.mark.slow)])
def test_any_image_size_runs(size, make_child):
    config = MacroConfig(num_layers=3, filters=4)
    child = make_child(config, input_shape=(1, *size)).eval()
    logits = child(images(2, 1, *size), sampled(config, 1)[0]).logits
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("num_layers", "after"), [(1, ()), (2, ()), (3, (0, 1)), (5, (0, 1)), (6, (1, 3)), (12, (3, 7)), (13, (3, 7)), (24, (7, 15))]
)
def test_reductions_follow_a_third_and_two_thirds_of_the_layers(num_layers, after):
    assert reduction_layers(num_layers) == after


def test_network_below_three_layers_has_no_reductions(make_child):
    assert not any("reductions" in name for name in make_child(MacroConfig(num_layers=2, filters=4)).state_dict())


def test_channels_double_at_each_reduction_where_asked(make_child):
    config = MacroConfig(num_layers=3, filters=4, double_filters=True)
    child = make_child(config)
    assert [child.layers[layer].branches["max3x3"].enter[0].out_channels for layer in range(3)] == [4, 8, 16]
    assert child.classifier.in_features == 16
    assert child.eval()(images(2, 3, 8, 8), config.make_space().largest()).logits.shape == (2, 10)


def test_skip_bit_adds_its_source_to_the_output_of_the_operation(make_child):
    config = MacroConfig(num_layers=2, filters=4)
    child = make_child(config).eval()
    x = images(3, 3, 8, 8)
    with torch.no_grad():
        stem = child.stem(x)
        first = child.layers[0].branches["conv3x3"](stem)
        second = child.layers[1].branches["avg3x3"](first)
        for skips, total in ((((), ()), second), (((), (0,)), second + stem)):
            architecture = MacroArchitecture(operations=("conv3x3", "avg3x3"), skips=skips)
            expected = child.classifier(child.layers[1].norm(total).mean((2, 3)))
            assert torch.equal(child(x, architecture).logits, expected)


def test_dropout_applies_in_training_mode_only_and_follows_its_generator(make_child):
    child = make_child(FIVE_LAYERS)
    architecture, x = sampled(FIVE_LAYERS, 1)[0], images(6, 3, 8, 8)
    same = [child(x, architecture, generator=torch.Generator().manual_seed(5)).logits for _ in range(2)]
    other = child(x, architecture, generator=torch.Generator().manual_seed(6)).logits
    assert torch.equal(*same)
    assert not torch.equal(same[0], other)
    with pytest.raises(ValueError, match="expected a generator"):
        child(x, architecture)
    child.eval()
    assert torch.equal(child(x, architecture).logits, child(x, architecture, generator=torch.Generator()).logits)


def test_keeping_every_feature_needs_no_generator(make_child):
    config = MacroConfig(num_layers=2, filters=4, keep_prob=1.0)
    assert make_child(config).train()(images(2, 3, 8, 8), config.make_space().smallest()).logits.isfinite().all()


def test_forward_leaves_no_path_on_the_module(make_child):
    child = make_child(FIVE_LAYERS).eval()
    before = {name: {key: repr(value) for key, value in vars(module).items()} for name, module in child.named_modules()}
    weights = {name: tensor.clone() for name, tensor in child.state_dict().items()}
    for architecture in sampled(FIVE_LAYERS):
        child(images(2, 3, 8, 8), architecture)
    after = {name: {key: repr(value) for key, value in vars(module).items()} for name, module in child.named_modules()}
    assert after == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in child.state_dict().items())


def test_interleaved_architectures_give_what_each_gives_alone(make_child):
    child = make_child(FIVE_LAYERS).eval()
    first, second = sampled(FIVE_LAYERS, 2)
    x = images(2, 3, 8, 8)
    alone = child(x, first).logits
    child(x, second)
    assert torch.equal(child(x, first).logits, alone)
    many = list(child.evaluate_many([x, x], [second, first]))
    assert isinstance(many[0], Output)
    assert torch.equal(many[1].logits, alone)


def test_only_the_sampled_path_updates_its_running_statistics(make_child):
    child = make_child(FIVE_LAYERS).train()
    architecture = sampled(FIVE_LAYERS, 1)[0]
    before = {name: buffer.clone() for name, buffer in child.named_buffers()}
    child(images(4, 3, 8, 8), architecture, generator=torch.Generator())
    changed = {name for name, buffer in child.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed == {name for name, _ in standalone_of(make_child, child, FIVE_LAYERS, architecture).named_buffers()}


def test_reset_draws_he_normal_weights_from_the_generator():
    first, second = (MacroConfig(num_layers=2).make_child(input_shape=(3, 8, 8), num_classes=10) for _ in range(2))
    for child in (first, second):
        child.reset_parameters(torch.Generator().manual_seed(7))
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    weight = first.layers[0].branches["conv5x5"].conv.weight
    assert weight.std().item() == pytest.approx((2 / (25 * 36)) ** 0.5, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=0.002)


def test_standalone_network_refuses_another_architecture():
    first, second = sampled(FIVE_LAYERS, 2)
    standalone = FIVE_LAYERS.make_child(input_shape=(3, 8, 8), num_classes=10, architecture=first).eval()
    with pytest.raises(ValueError, match="expected the standalone network's own architecture"):
        standalone(images(2, 3, 8, 8), second)


def test_weights_that_a_supernet_lacks_are_named():
    architecture = MacroArchitecture(operations=("conv3x3",), skips=((),))
    config = MacroConfig(num_layers=1, filters=4)
    supernet = MacroConfig(num_layers=1, filters=4, operations=("max3x3",)).make_child(input_shape=(3, 8, 8), num_classes=10)
    standalone = config.make_child(input_shape=(3, 8, 8), num_classes=10, architecture=architecture)
    with pytest.raises(ValueError, match=r"it lacks layers\.0\.branches\.conv3x3\.conv\.weight, "):
        copy_inherited(supernet, standalone)
