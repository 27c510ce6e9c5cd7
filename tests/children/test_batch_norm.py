from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enas.children import batch_norm
from enas.children.base import copy_inherited
from enas.children.batch_norm import BatchNorm, batch_norms, batch_statistics, fresh_statistics, fused_pays, set_accumulating
from enas.spaces.macro import MacroConfig
from enas.spaces.sampling import sample_uniform

CHANNELS = 20
LARGE = (64, CHANNELS, 32, 32)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["native", "fused"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(batch_norm, "fused_pays", lambda x: request.param == "fused")
    return str(request.param)


def images(*shape: int, mean: float = 0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) + mean).contiguous(memory_format=torch.channels_last)


def norm_pair(*, relu: bool = False, seed: int = 1) -> tuple[BatchNorm, nn.BatchNorm2d]:
    """Return a layer with random weights and statistics, and PyTorch's own with the same, in double precision."""
    norm, native = BatchNorm(CHANNELS, eps=1e-3, relu=relu), nn.BatchNorm2d(CHANNELS, eps=1e-3)
    generator = torch.Generator().manual_seed(seed)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
    native.load_state_dict(norm.state_dict())
    return norm, native.double()


def plain(native: nn.BatchNorm2d, x: Tensor, *, relu: bool) -> Tensor:
    out: Tensor = native(x.double().contiguous())
    return out.relu() if relu else out


def assert_same_state(norm: nn.Module, native: nn.Module) -> None:
    expected = native.state_dict()
    assert norm.state_dict().keys() == expected.keys()
    for name, tensor in norm.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name].double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize("relu", [True, False])
def test_training_equals_pytorch_in_double_precision(kernel: str, relu: bool, momentum: float | None) -> None:
    norm, native = norm_pair(relu=relu)
    norm.momentum = native.momentum = momentum
    for seed in range(3):
        x = images(7, CHANNELS, 5, 3, mean=2, seed=seed)
        torch.testing.assert_close(norm(x).double(), plain(native, x, relu=relu), rtol=1e-5, atol=1e-5)
        assert_same_state(norm, native)
    assert norm.state_dict()["num_batches_tracked"] == 3


@pytest.mark.parametrize("relu", [True, False])
def test_evaluation_equals_pytorch_and_records_nothing(kernel: str, relu: bool) -> None:
    norm, native = norm_pair(relu=relu)
    norm.eval()
    native.eval()
    before = copy.deepcopy(norm.state_dict())
    x = images(7, CHANNELS, 5, 3, mean=2)
    torch.testing.assert_close(norm(x).double(), plain(native, x, relu=relu), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())


def test_training_without_tracking_records_nothing(kernel: str) -> None:
    norm, _ = norm_pair()
    norm.track_running_stats = False
    before = copy.deepcopy(norm.state_dict())
    norm(images(4, CHANNELS, 4, 4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())


def test_layer_without_statistics_uses_those_of_the_batch_in_evaluation(kernel: str) -> None:
    norm, _ = norm_pair()
    x = images(4, CHANNELS, 4, 4)
    expected = norm(x)
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    assert torch.equal(norm(x), expected)
    assert torch.equal(norm.eval()(x), expected)


def test_layer_without_weight_and_bias_trains_its_input(kernel: str) -> None:
    norm, native = norm_pair(relu=True)
    norm.weight = norm.bias = native.weight = native.bias = None  # type: ignore[assignment]
    x = images(4, CHANNELS, 4, 4).requires_grad_()
    factor = images(4, CHANNELS, 4, 4, seed=5)
    (gradient,) = torch.autograd.grad((norm(x) * factor).sum(), x)
    (expected,) = torch.autograd.grad((plain(native, x, relu=True) * factor).sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_state_dict_is_that_of_pytorch() -> None:
    norm, native = norm_pair()
    fresh = BatchNorm(CHANNELS, eps=1e-3)
    fresh.load_state_dict(native.state_dict())
    assert_same_state(fresh, native)
    back = nn.BatchNorm2d(CHANNELS)
    back.load_state_dict(norm.state_dict())
    assert_same_state(back, native)


@pytest.mark.usefixtures("two_threads")
def test_fused_function_is_chosen_for_large_channels_last_images_of_odd_width_alone() -> None:
    x = images(*LARGE)
    assert fused_pays(x)
    assert fused_pays(x.double())
    assert not fused_pays(x.contiguous())
    assert fused_pays(x.bfloat16())
    assert not fused_pays(x.half())
    assert not fused_pays(x[:1])
    assert not fused_pays(images(64, 16, 32, 32))
    assert not fused_pays(x.to("meta"))
    assert fused_pays(images(64, 40, 32, 32))
    assert not fused_pays(images(64, 40, 32, 32).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fused_pays(x.bfloat16())
    torch.set_num_threads(1)
    assert not fused_pays(x)


@pytest.mark.usefixtures("two_threads")
def test_chosen_kernel_does_not_depend_on_gradients_or_mode() -> None:
    norm, _ = norm_pair(relu=True)
    x = images(*LARGE)
    norm.track_running_stats = False
    with torch.no_grad():
        without = norm(x)
    assert torch.equal(norm(x), without)


def test_layer_in_bfloat16_gives_and_records_what_pytorch_does_in_single_precision(kernel: str) -> None:
    norm, native = norm_pair(relu=True)
    x = images(8, CHANNELS, 8, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = norm(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), plain(native, x, relu=True), rtol=2**-7, atol=1e-2)
    assert_same_state(norm, native)


@pytest.mark.parametrize("relu", [True, False])
def test_contiguous_gradient_reaches_a_channels_last_layer_in_its_layout(relu: bool) -> None:
    norm, native = norm_pair(relu=relu)
    x = images(4, CHANNELS, 8, 8).requires_grad_()
    factor = images(4, CHANNELS, 8, 8, seed=5).contiguous()
    (gradient,) = torch.autograd.grad(norm(x), x, factor)
    (expected,) = torch.autograd.grad(plain(native, x, relu=relu), x, factor.double())
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_one_value_a_channel_is_refused_as_in_pytorch() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        BatchNorm(CHANNELS)(images(1, CHANNELS, 1, 1))


def test_wrong_number_of_channels_is_refused_as_in_pytorch(kernel: str) -> None:
    with pytest.raises(RuntimeError, match="running_mean should contain 4 elements not 20"):
        BatchNorm(CHANNELS)(images(2, 4, 3, 3))


def test_batch_statistics_normalise_by_the_batch_and_record_nothing(kernel: str) -> None:
    norm, _ = norm_pair()
    x = images(6, CHANNELS, 4, 4, mean=3)
    expected = copy.deepcopy(norm)(x)
    norm.eval()
    before = copy.deepcopy(norm.state_dict())
    with batch_statistics([norm]):
        out = norm(x)
    assert torch.equal(out, expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())
    assert not norm.training
    assert norm.track_running_stats


def test_fresh_statistics_are_the_plain_average_over_batches_and_the_old_ones_return(kernel: str) -> None:
    norm, _ = norm_pair()
    norm.eval()
    before = copy.deepcopy(norm.state_dict())
    batches = [images(8, CHANNELS, 4, 4, mean=mean, seed=seed) for seed, mean in enumerate((0, 3, -1))]
    with fresh_statistics([norm]):
        set_accumulating([norm], True)
        for batch in batches:
            norm(batch)
        set_accumulating([norm], False)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        whole = torch.cat(batches)  # batches of one size: the mean of their means is that of all their pixels
        torch.testing.assert_close(norm.running_mean, whole.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-6)
        variances = torch.stack([batch.var(dim=(0, 2, 3), correction=1) for batch in batches])
        torch.testing.assert_close(norm.running_var, variances.mean(dim=0), rtol=1e-5, atol=1e-6)
        recalibrated = norm(batches[0])
    expected = nn.functional.batch_norm(
        batches[0], whole.mean(dim=(0, 2, 3)), variances.mean(dim=0), norm.weight, norm.bias, eps=norm.eps
    )
    torch.testing.assert_close(recalibrated, expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())
    assert norm.momentum == 0.1


def test_fresh_statistics_return_the_old_ones_after_an_error(kernel: str) -> None:
    norm, _ = norm_pair()
    before = copy.deepcopy(norm.state_dict())

    def interrupted() -> None:
        norm(images(4, CHANNELS, 2, 2))
        raise KeyError

    with pytest.raises(KeyError), fresh_statistics([norm]):
        interrupted()
    assert all(torch.equal(tensor, before[name]) for name, tensor in norm.state_dict().items())


@pytest.mark.usefixtures("two_threads")
def test_supernet_and_standalone_network_agree_bit_for_bit_in_channels_last() -> None:
    config = MacroConfig(num_layers=3, filters=20, keep_prob=1.0)
    space = config.make_space()
    architecture = space.decode(sample_uniform(space, 1, np.random.default_rng(0))[0])
    supernet = config.make_child(input_shape=(3, 24, 24), num_classes=10)
    standalone = config.make_child(input_shape=(3, 24, 24), num_classes=10, architecture=architecture)
    copy_inherited(supernet, standalone)
    x = images(64, 3, 24, 24)
    assert fused_pays(supernet.to(memory_format=torch.channels_last).stem[0](x))  # the contract holds where kernels differ
    results = []
    for child in (supernet, standalone.to(memory_format=torch.channels_last)):
        logits = child(x, architecture).logits
        logits.square().sum().backward()
        results.append((logits, child.stem[0].weight.grad, batch_norms(child)[0].running_var))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
