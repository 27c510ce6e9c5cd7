from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from enas.children import fused_norm
from enas.children.fused_norm import fused_batch_norm

EPS = 1e-3
SHAPES = [(8, 36, 16, 16), (7, 5, 3, 11), (64, 20, 8, 8), (3, 1, 4, 4), (1, 3, 5, 1), (13, 17, 1, 1), (5, 36, 13, 7)]


def images(shape: tuple[int, ...], *, mean: float = 0, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=dtype) + mean).contiguous(memory_format=torch.channels_last)


def affine(num_channels: int, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(2, num_channels, generator=generator, dtype=dtype).requires_grad_().unbind()
    return weight.detach().requires_grad_(), bias.detach().requires_grad_()


def oracle(x: Tensor, weight: Tensor | None, bias: Tensor | None, *, relu: bool) -> Tensor:
    """PyTorch's BatchNorm on contiguous images, in double precision."""
    out = nn.functional.batch_norm(x.double().contiguous(), None, None, weight, bias, True, 0.0, EPS)
    return out.relu() if relu else out


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return float(((actual.double() - expected).norm() / expected.norm()).detach())


def assert_matches_oracle(x: Tensor, *, relu: bool, with_affine: bool, tolerance: float = 1e-5) -> None:
    x = x.requires_grad_()
    parameters = affine(x.shape[1]) if with_affine else ()
    leaves = [tensor.detach().double().requires_grad_() for tensor in (x, *parameters)]
    weight, bias = parameters or (None, None)
    out, mean, var = fused_batch_norm(x, weight, bias, eps=EPS, relu=relu)
    expected = oracle(leaves[0], *(leaves[1:] or (None, None)), relu=relu)
    gradient = images(tuple(x.shape), seed=2).contiguous()  # the other layout: a gradient may come in any
    gradients = torch.autograd.grad(out, (x, *parameters), gradient)
    expected_gradients = torch.autograd.grad(expected, leaves, gradient.double())
    assert relative_error(out, expected) <= tolerance
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative_error(actual, wanted) <= tolerance
    torch.testing.assert_close(mean.double(), leaves[0].mean(dim=(0, 2, 3)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), leaves[0].var(dim=(0, 2, 3), correction=0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("with_affine", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_output_and_gradients_equal_double_precision(shape: tuple[int, ...], relu: bool, with_affine: bool) -> None:
    assert_matches_oracle(images(shape), relu=relu, with_affine=with_affine)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", [(8, 36, 16, 16), (7, 5, 3, 11), (3, 1, 4, 4)])
@pytest.mark.parametrize("mean", [fused_norm.FAR - 2, 1000])  # in deviations: the farthest that is not shifted, and one that is
def test_precision_holds_where_the_mean_is_far_from_zero(shape: tuple[int, ...], relu: bool, mean: float) -> None:
    assert_matches_oracle(images(shape, mean=mean), relu=relu, with_affine=True)


def test_precision_holds_where_the_first_images_are_of_another_mean() -> None:
    x = images((64, 4, 8, 8), mean=1000)
    x[:4] = 0
    assert_matches_oracle(x, relu=False, with_affine=True)


def test_precision_holds_where_one_channel_alone_is_far_from_zero() -> None:
    x = images((8, 36, 16, 16))
    x[:, 7] += 1e4
    assert_matches_oracle(x, relu=True, with_affine=True)


def test_many_chunks_give_the_result_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_norm, "CHUNK", 3000)
    monkeypatch.setattr(fused_norm, "ROW", 200)
    fused_norm._row_width.cache_clear()
    assert_matches_oracle(images((8, 36, 16, 16), mean=1000), relu=True, with_affine=True)
    fused_norm._row_width.cache_clear()


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("mean", [0, 100])  # the second one is shifted
@pytest.mark.parametrize("shape", [(16, 36, 32, 32), (7, 5, 3, 11)])  # several chunks, one
def test_bfloat16_is_rounded_at_the_end_alone(
    shape: tuple[int, ...], mean: float, relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_norm, "CHUNK", 30_000)
    x, gradient = images(shape, mean=mean).bfloat16().requires_grad_(), images(shape, seed=2).bfloat16()
    weight, bias = affine(shape[1])
    leaves = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    before = x.detach().clone()
    out, mean_found, _ = fused_batch_norm(x, weight, bias, eps=EPS, relu=relu)
    expected = oracle(*leaves, relu=relu)
    gradients = torch.autograd.grad(out, (x, weight, bias), gradient)
    expected_gradients = torch.autograd.grad(expected, leaves, gradient.double())
    assert out.dtype == gradients[0].dtype == torch.bfloat16
    assert torch.equal(x, before)
    rounding = 2**-8  # of a single value; that of many is smaller
    assert relative_error(out, expected) <= rounding / 2
    assert relative_error(gradients[0], expected_gradients[0]) <= rounding / 2
    for actual, wanted in zip(gradients[1:], expected_gradients[1:], strict=True):
        assert relative_error(actual, wanted) <= 1e-5
    torch.testing.assert_close(mean_found, leaves[0].mean(dim=(0, 2, 3)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 1, 3, 3), (3, 2, 1, 1)])
@pytest.mark.parametrize("relu", [True, False])
def test_gradients_pass_gradcheck(shape: tuple[int, ...], relu: bool) -> None:
    x = images(shape, dtype=torch.float64).requires_grad_()
    weight, bias = affine(shape[1], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *args: fused_batch_norm(*args, eps=EPS, relu=relu)[0], (x, weight, bias))


def test_output_without_a_graph_has_the_same_bits_and_leaves_the_input_alone() -> None:
    x, (weight, bias) = images((8, 20, 8, 8)), affine(20)
    before = x.clone()
    with_graph, *_ = fused_batch_norm(x, weight, bias, eps=EPS, relu=True)
    with torch.no_grad():
        without, *_ = fused_batch_norm(x, weight, bias, eps=EPS, relu=True)
    assert torch.equal(with_graph, without)
    assert not without.requires_grad
    assert torch.equal(x, before)


def test_repeated_runs_have_the_same_bits() -> None:
    weight, bias = affine(36)
    x = images((16, 36, 32, 32)).requires_grad_()  # more than one chunk
    gradient = images((16, 36, 32, 32), seed=3)

    def run() -> list[Tensor]:
        out, mean, var = fused_batch_norm(x, weight, bias, eps=EPS, relu=True)
        return [out, mean, var, *torch.autograd.grad(out, (x, weight, bias), gradient)]

    first = run()
    assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


def test_output_and_gradient_stay_in_channels_last_order() -> None:
    x = images((2, 5, 4, 3)).requires_grad_()
    out, *_ = fused_batch_norm(x, None, None, eps=EPS, relu=True)
    (gradient,) = torch.autograd.grad(out.sum(), x)  # the gradient of a sum is expanded: no layout of its own
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_statistics_carry_no_gradient() -> None:
    _, mean, var = fused_batch_norm(images((2, 3, 4, 4)).requires_grad_(), None, None, eps=EPS)
    assert not mean.requires_grad
    assert not var.requires_grad


def test_channel_of_one_value_gives_zero() -> None:
    x = torch.full((4, 2, 8, 8), 1234.567).contiguous(memory_format=torch.channels_last)
    out, mean, var = fused_batch_norm(x, None, None, eps=EPS)
    assert float(out.abs().max()) < 1e-2
    assert float(var.min()) >= 0
    torch.testing.assert_close(mean, torch.full((2,), 1234.567), check_dtype=False)


def test_not_a_number_reaches_output_of_its_channel_alone() -> None:
    x = images((2, 3, 4, 4))
    x[0, 1, 0, 0] = torch.nan
    out, *_ = fused_batch_norm(x, None, None, eps=EPS)
    assert out[:, 1].isnan().all()
    assert out[:, ::2].isfinite().all()


def test_contiguous_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected images dense in channels_last order, got shape \(2, 3, 4, 4\)"):
        fused_batch_norm(torch.zeros(2, 3, 4, 4), None, None, eps=EPS)


@pytest.mark.parametrize("where", ["input", "gradient"])
def test_infinite_values_give_nan_without_a_warning_as_in_pytorch(where: str) -> None:
    x, gradient = images((4, 5, 6, 6)), images((4, 5, 6, 6), seed=1)
    (x if where == "input" else gradient)[0, 1, 0, 0] = torch.inf
    weight, bias = affine(5)
    leaves = [x.requires_grad_(), weight, bias]
    found = torch.autograd.grad(fused_batch_norm(x, weight, bias, eps=EPS)[0], leaves, gradient)
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    expected = torch.autograd.grad(oracle(*doubles, relu=False), doubles, gradient.double())
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.isfinite(), other.isfinite())
    assert found[0][:, 1].isnan().any()
