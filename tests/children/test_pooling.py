from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from enas.children import pooling
from enas.children.pooling import average3x3, maximum3x3
from enas.seeding import derive_generator
from tests.children.kernels import Kernels

CHANNELS = 5
Pool = Callable[..., Tensor]
KERNELS: dict[Pool, tuple[str, Pool]] = {
    average3x3: ("avg_pool", lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
    maximum3x3: ("max_pool", lambda x: F.max_pool2d(x, 3, 1, 1)),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "LEAST_ELEMENTS", 1)
    monkeypatch.setattr(pooling, "LEAST_PIXELS", 1)


def images(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=derive_generator(seed, "images"))
    return x.contiguous(memory_format=torch.channels_last)


def uses_pytorch(pool: Pool, x: Tensor) -> bool:
    with Kernels() as kernels:
        pool(x)
    return kernels.count(KERNELS[pool][0]) > 0


@pytest.mark.parametrize("pool", KERNELS, ids=lambda pool: pool.__name__)
@pytest.mark.parametrize("size", [(2, 2), (2, 3), (3, 2), (4, 7), (9, 8)])
def test_values_are_those_of_pytorchs_pooling(pool: Pool, size: tuple[int, int]) -> None:
    x = images(3, CHANNELS, *size)
    assert not uses_pytorch(pool, x)
    actual, expected = pool(x), KERNELS[pool][1](x)
    if pool is maximum3x3:
        assert torch.equal(actual, expected)
    else:
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, images(3, CHANNELS, *size))


@pytest.mark.parametrize("size", [(2, 2), (2, 3), (9, 8)])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_gradient_of_the_average_is_that_of_pytorchs(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    grad = images(3, CHANNELS, *size, seed=1).contiguous(memory_format=memory_format)
    gradients, kernels = [], Kernels()
    for pool in (average3x3, KERNELS[average3x3][1]):
        x = images(3, CHANNELS, *size).requires_grad_()
        with kernels if pool is average3x3 else nullcontext():
            pool(x).backward(grad)
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)
    assert torch.equal(grad, images(3, CHANNELS, *size, seed=1))
    assert kernels.count("convolution.default") == 2
    assert kernels.count("avg_pool") == kernels.count("convolution_backward") == 0


def test_second_derivative_of_the_average_is_that_of_pytorchs() -> None:
    found = []
    for pool in (average3x3, KERNELS[average3x3][1]):
        x = images(2, 3, 4, 5).requires_grad_()
        [grad] = torch.autograd.grad(pool(x).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad((grad * images(2, 3, 4, 5, seed=1)).sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


def test_a_gradient_of_the_maximum_is_left_to_pytorch() -> None:
    x = images(2, CHANNELS, 6, 6).requires_grad_()
    assert uses_pytorch(maximum3x3, x)
    with torch.no_grad():
        assert not uses_pytorch(maximum3x3, x)


@pytest.mark.parametrize("pool", KERNELS, ids=lambda pool: pool.__name__)
def test_pytorch_serves_what_was_not_measured(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(2, CHANNELS, 6, 6)
    assert not uses_pytorch(pool, x)
    assert uses_pytorch(pool, x.contiguous())
    assert uses_pytorch(pool, x.double())
    assert uses_pytorch(pool, x.to("meta"))
    assert uses_pytorch(pool, images(2, CHANNELS, 1, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert uses_pytorch(pool, x)
    monkeypatch.setattr(pooling, "has_onednn", lambda: False)
    assert uses_pytorch(pool, x)


@pytest.mark.parametrize("pool", KERNELS, ids=lambda pool: pool.__name__)
def test_small_inputs_are_left_to_pytorch(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(2, CHANNELS, 6, 6)
    monkeypatch.setattr(pooling, "LEAST_PIXELS", 37)
    assert uses_pytorch(pool, x)
    monkeypatch.setattr(pooling, "LEAST_PIXELS", 36)
    monkeypatch.setattr(pooling, "LEAST_ELEMENTS", x.numel() + 1)
    assert uses_pytorch(pool, x)


@pytest.mark.parametrize("pool", KERNELS, ids=lambda pool: pool.__name__)
def test_a_stride_halves_the_image(pool: Pool) -> None:
    x = images(2, CHANNELS, 6, 5)
    torch.testing.assert_close(pool(x, 2), KERNELS[pool][1](x)[:, :, ::2, ::2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pool", KERNELS, ids=lambda pool: pool.__name__)
def test_what_is_not_a_number_reaches_its_neighbours_alone(pool: Pool) -> None:
    x = images(1, CHANNELS, 6, 6)
    x[0, 2, 1, 4] = torch.nan
    assert torch.equal(pool(x).isnan(), KERNELS[pool][1](x).isnan())
