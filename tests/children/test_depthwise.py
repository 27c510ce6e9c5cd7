from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from enas.children import depthwise
from enas.children.depthwise import COLUMNS, DepthwiseConv2d
from enas.children.layout import has_onednn
from enas.seeding import derive_generator
from tests.children.kernels import Kernels

CHANNELS = 6
pytestmark = pytest.mark.skipif(not has_onednn(), reason="PyTorch was built without oneDNN, whose gradient this is about")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "LEAST_ELEMENTS", 1)


def images(*shape: int, seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=derive_generator(seed, "images"))
    return x.contiguous(memory_format=torch.channels_last)


def gradients(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return output, gradients of images and weights, and how many parts the backward pass had."""
    x = x.detach().requires_grad_()
    with Kernels() as kernels:
        out = conv(x)
        grad_x, grad_weight = torch.autograd.grad(out, (x, conv.weight), torch.cos(3 * out.detach()))
    return out, grad_x, grad_weight, kernels.count("convolution_backward")


def native(conv: DepthwiseConv2d) -> nn.Conv2d:
    """Return PyTorch's own convolution of the same weights."""
    size = conv.kernel_size[0]
    result = nn.Conv2d(CHANNELS, CHANNELS, size, stride=conv.stride[0], padding=size // 2, groups=CHANNELS, bias=False)
    result.load_state_dict(conv.state_dict())
    return result


@pytest.mark.parametrize("kernel_size", [5, 7])
@pytest.mark.parametrize("size", [(1, 5), (2, 7), (8, 8), (9, 6), (3, 4)])
def test_gradients_are_those_of_one_convolution(kernel_size: int, size: tuple[int, int]) -> None:
    conv, x = DepthwiseConv2d(CHANNELS, kernel_size), images(3, CHANNELS, *size)
    out, grad_x, grad_weight, count = gradients(conv, x)
    expected_out, expected_x, expected_weight, expected_count = gradients(native(conv), x)
    assert torch.equal(out, expected_out)
    assert torch.equal(grad_x, expected_x)
    torch.testing.assert_close(grad_weight, expected_weight, rtol=1e-5, atol=1e-5)
    assert expected_count == 1
    assert count == (1 + -(-kernel_size // COLUMNS) if size[1] >= kernel_size else 1)


def test_weights_gradient_is_precise() -> None:
    conv, x = DepthwiseConv2d(CHANNELS, 5), images(16, CHANNELS, 32, 32)
    *_, grad_weight, _ = gradients(conv, x)
    *_, expected, _ = gradients(native(conv).double(), x.double())
    assert float(((grad_weight.double() - expected).norm() / expected.norm()).detach()) <= 1e-5


def test_second_derivatives_are_those_of_numbers() -> None:
    x, weight = images(2, 3, 5, 4).double().requires_grad_(), torch.randn(3, 1, 5, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(depthwise._ByColumns.apply, (x, weight))
    assert torch.autograd.gradgradcheck(depthwise._ByColumns.apply, (x, weight))


def test_images_that_need_no_gradient_have_none() -> None:
    conv, x = DepthwiseConv2d(CHANNELS, 5), images(2, CHANNELS, 6, 6)
    with Kernels() as kernels:
        conv(x).sum().backward()
    assert x.grad is None
    assert kernels.count("convolution_backward") == 2


def test_in_bfloat16_weights_keep_their_precision_and_gradients_are_near() -> None:
    conv, x = DepthwiseConv2d(CHANNELS, 5), images(4, CHANNELS, 8, 8)
    *_, expected, _ = gradients(conv, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, grad_x, grad_weight, count = gradients(conv, x.bfloat16())
    assert out.dtype == grad_x.dtype == torch.bfloat16
    assert grad_weight.dtype == torch.float32
    assert count == 1 + 2
    assert float((grad_weight - expected).norm() / expected.norm()) < 0.02


@pytest.mark.parametrize(
    ("kernel_size", "stride", "change"),
    [
        (3, 1, lambda x: x),
        (5, 2, lambda x: x),
        (5, 1, lambda x: x.contiguous()),
    ],
)
def test_pytorch_serves_what_gains_nothing(kernel_size, stride, change) -> None:
    conv = DepthwiseConv2d(CHANNELS, kernel_size, stride=stride)
    x = change(images(2, CHANNELS, 6, 6))
    out, *_, count = gradients(conv, x)
    assert count == 1
    assert out.shape == (2, CHANNELS, 6 // stride, 6 // stride)


def test_pytorch_serves_small_images_double_precision_and_other_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, x = DepthwiseConv2d(CHANNELS, 5), images(2, CHANNELS, 6, 6)
    assert gradients(conv, x)[-1] == 3
    monkeypatch.setattr(depthwise, "LEAST_ELEMENTS", x.numel() + 1)
    assert gradients(conv, x)[-1] == 1
    monkeypatch.setattr(depthwise, "LEAST_ELEMENTS", x.numel())
    monkeypatch.setattr(depthwise, "has_onednn", lambda: False)
    assert gradients(conv, x)[-1] == 1
    monkeypatch.undo()
    monkeypatch.setattr(depthwise, "LEAST_ELEMENTS", 1)
    assert gradients(conv.double(), x.double())[-1] == 1
    with pytest.raises(RuntimeError):  # as PyTorch's
        conv(x.bfloat16())


def test_weights_are_named_and_start_as_pytorchs() -> None:
    torch.manual_seed(0)
    own = DepthwiseConv2d(CHANNELS, 5, stride=2)
    torch.manual_seed(0)
    pytorchs = nn.Conv2d(CHANNELS, CHANNELS, 5, stride=2, padding=2, groups=CHANNELS, bias=False)
    assert own.state_dict().keys() == pytorchs.state_dict().keys()
    assert torch.equal(own.weight, pytorchs.weight)
