from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enas.children import batch_norm, chain
from enas.children.batch_norm import BatchNorm, batch_norms, batch_statistics
from enas.children.chain import Chain, normalise_sum
from enas.children.ops import ConvBranch, FactorizedReduction, conv1x1
from enas.seeding import derive_generator
from enas.spaces.base import ChildConfig
from enas.spaces.darts import DartsConfig
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.sampling import sample_uniform
from tests.children.kernels import Kernels

CHANNELS = 6
BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "conv1x1": lambda: conv1x1(CHANNELS, 4),
    "convolution": lambda: ConvBranch(CHANNELS, kernel_size=3, separable=False),
    "separable": lambda: ConvBranch(CHANNELS, kernel_size=5, separable=True),
    "strided": lambda: Chain(nn.ReLU(), nn.Conv2d(CHANNELS, 4, 3, stride=2, padding=1, bias=False), BatchNorm(4)),
    "dilated": lambda: Chain(nn.Conv2d(CHANNELS, 4, 3, dilation=2, padding=2, groups=2, bias=False), BatchNorm(4, relu=True)),
    "without weights": lambda: Chain(nn.Conv2d(CHANNELS, 4, 1, bias=False), BatchNorm(4, affine=False), nn.ReLU()),
    "reduction": lambda: FactorizedReduction(CHANNELS, 7),
}
NETWORKS = (
    MacroConfig(num_layers=6, filters=4),
    MicroConfig(num_layers=1, num_nodes=2, filters=4),
    NasBench201Config(filters=4, cells_per_stage=1),
    DartsConfig(num_layers=3, filters=4, num_nodes=2),
)


def with_statistics(network: nn.Module) -> nn.Module:
    """Give BatchNorm's averages and weights values that matter; return the network in evaluation mode, in channels_last."""
    generator = derive_generator(0, "statistics")
    with torch.no_grad():
        for norm in batch_norms(network):
            for tensor in (norm.running_mean, norm.running_var, *norm.parameters()):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = derive_generator(1, "images")
    return torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)


def run(work: Callable[[], Tensor]) -> tuple[Tensor, int]:
    with Kernels() as kernels, torch.no_grad():
        return work(), kernels.count("batch_norm")


@pytest.fixture
def fold(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    return lambda folds: monkeypatch.setattr(batch_norm, "FOLDED_ELEMENTS", 1 if folds else 2**60)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_gives_the_same_without_a_pass_of_its_batch_norm(
    name: str, dtype: torch.dtype, fold: Callable[[bool], None]
) -> None:
    block, x = with_statistics(BLOCKS[name]()).to(dtype), images(3, CHANNELS, 9, 8, dtype=dtype)
    fold(False)
    expected, before = run(lambda: block(x))
    fold(True)
    actual, after = run(lambda: block(x))
    assert before > 0
    assert after == 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)
    assert actual.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: config.make_space().name)
def test_a_network_gives_the_same_logits(config: ChildConfig, make_child: Any, fold: Callable[[bool], None]) -> None:
    network = make_child(config, input_shape=(3, 9, 8)).double().to(memory_format=torch.channels_last).eval()
    space, x = config.make_space(), images(4, 3, 9, 8, dtype=torch.float64)
    for row in sample_uniform(space, 12, np.random.default_rng(0)):
        architecture = space.decode(row)
        fold(False)
        expected, before = run(lambda: network(x, architecture).logits)  # noqa: B023  # called at once
        fold(True)
        actual, after = run(lambda: network(x, architecture).logits)  # noqa: B023
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
        assert after < before


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: config.make_space().name)
def test_architectures_of_one_measurement_share_what_is_made_of_the_weights(
    config: ChildConfig, make_child: Any, fold: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold(True)
    asked: list[BatchNorm] = []
    factors = BatchNorm.factors
    monkeypatch.setattr(BatchNorm, "factors", lambda norm: (asked.append(norm), factors(norm))[1])
    network = make_child(config, input_shape=(3, 9, 8)).to(memory_format=torch.channels_last).eval()
    space = config.make_space()
    architectures = [space.decode(row) for row in sample_uniform(space, 8, np.random.default_rng(0))]
    batches = [images(2, 3, 9, 8) + index for index in range(8)]

    def together() -> Tensor:
        return torch.stack([output.logits for output in network.evaluate_many(batches, architectures)])

    def apart() -> Tensor:
        return torch.stack([network(x, one).logits for x, one in zip(batches, architectures, strict=True)])

    with torch.no_grad():
        first = together()
        asked_together = asked.copy()
        asked.clear()
        assert torch.equal(first, apart())
        assert len(asked_together) == len(set(asked_together)) < len(asked)
        assert set(asked_together) == set(asked)
        for parameter in network.parameters():  # without a new version, as what trains the network may do
            parameter.data.mul_(1.5)
        second = together()
        assert not torch.equal(first, second)
        assert torch.equal(second, apart())


@pytest.mark.parametrize("num_tensors", [1, 2, 4])
def test_a_normalised_sum_is_the_batch_norm_of_the_sum(num_tensors: int) -> None:
    norm = with_statistics(BatchNorm(CHANNELS))
    tensors = [images(5, CHANNELS, 7, 8) + index for index in range(num_tensors)]
    with torch.no_grad():
        torch.testing.assert_close(normalise_sum(*tensors, norm), norm(sum(tensors)), rtol=1e-5, atol=1e-5)
    assert torch.equal(tensors[0], images(5, CHANNELS, 7, 8))


def test_layers_stay_apart_where_their_batch_norm_is_not_a_known_factor(fold: Callable[[bool], None]) -> None:
    fold(True)
    block, x = with_statistics(conv1x1(CHANNELS, CHANNELS)), images(3, CHANNELS, 8, 8)
    norm = block[1]  # type: ignore[index]
    assert not norm.folds(x)  # a gradient may be asked for
    with torch.no_grad():
        assert norm.folds(x)
        assert not norm.folds(x.contiguous())
        assert not norm.folds(x.to("meta"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not norm.folds(x)
        with batch_statistics([norm]):
            assert not norm.folds(x)
        assert not norm.train().folds(x)
    fold(False)
    with torch.no_grad():
        assert not norm.eval().folds(x)


def test_a_convolution_with_a_bias_and_another_batch_norm_run_as_they_are(fold: Callable[[bool], None]) -> None:
    fold(True)
    x = images(3, CHANNELS, 8, 8)
    for layers in ([nn.Conv2d(CHANNELS, 4, 1), BatchNorm(4)], [nn.Conv2d(CHANNELS, 4, 1, bias=False), nn.BatchNorm2d(4)]):
        block = with_statistics(Chain(*layers))
        actual, count = run(lambda: block(x))  # noqa: B023  # called at once
        assert count > 0
        with torch.no_grad():
            assert torch.equal(actual, layers[1](layers[0](x)))


def test_a_block_runs_without_onednn(fold: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch) -> None:
    block, x = with_statistics(BLOCKS["convolution"]()), images(3, CHANNELS, 9, 8)
    fold(True)
    expected, _ = run(lambda: block(x))
    monkeypatch.setattr(chain, "has_onednn", lambda: False)
    actual, count = run(lambda: block(x))
    assert count == 0
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_factors_need_running_averages() -> None:
    norm = BatchNorm(3)
    norm.running_mean = None
    with pytest.raises(ValueError, match="running averages"):
        norm.factors()
