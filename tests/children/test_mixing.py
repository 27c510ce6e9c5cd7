import pytest
import torch

from enas.children.mixing import MixedItems, weighted_sum


def tensors(count, *, dtype=torch.float64, memory_format=torch.contiguous_format, shape=(1, 2, 2, 3)):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(count)]
    return [value.contiguous(memory_format=memory_format).requires_grad_() for value in drawn]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("count", [1, 3])
def test_weighted_sum_and_its_gradients_are_those_of_the_formula(memory_format, count):
    values = tensors(count, memory_format=memory_format)
    weights = torch.linspace(-0.5, 1.5, count, dtype=torch.float64, requires_grad=True)
    expected = sum(weight * value for weight, value in zip(weights, values, strict=True))
    torch.testing.assert_close(weighted_sum(values, weights), expected, rtol=1e-14, atol=1e-14)
    assert torch.autograd.gradcheck(lambda w, *v: weighted_sum(v, w), (weights, *values))
    assert torch.autograd.gradgradcheck(lambda w, *v: weighted_sum(v, w), (weights, *values))


def test_upstream_gradient_of_another_memory_format_serves():
    values = tensors(2, memory_format=torch.channels_last)
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weighted_sum(values, weights).backward(upstream)
    torch.testing.assert_close(weights.grad, torch.stack([(upstream * value).sum() for value in values]))


def test_weights_of_one_give_the_bits_of_the_plain_sum():
    first, second, third = tensors(3, dtype=torch.float32, shape=(8, 16, 9, 9))
    assert torch.equal(weighted_sum((first, second, third), torch.ones(3)), first + second + third)


def test_gradient_is_computed_only_where_it_is_needed():
    first, second = tensors(2)
    second = second.detach()
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    weighted_sum((first, second), weights).sum().backward()
    torch.testing.assert_close(first.grad, torch.full_like(first, 0.3))
    assert second.grad is None
    assert weights.grad is None


def test_sum_of_two_number_formats_is_in_the_wider_one():
    narrow, wide = tensors(1, dtype=torch.bfloat16)[0], tensors(1, dtype=torch.float32)[0]
    weights = torch.tensor([0.5, 0.25], requires_grad=True)
    total = weighted_sum((narrow, wide), weights)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, 0.5 * narrow.float() + 0.25 * wide)
    total.sum().backward()
    assert narrow.grad.dtype == torch.bfloat16
    torch.testing.assert_close(weights.grad, torch.stack([narrow.float().sum(), wide.sum()]))


def test_a_pooling_is_computed_once_an_item():
    calls = []

    def pool(x):
        calls.append(x)
        return 2 * x

    items = MixedItems(tensors(2))
    first = items.pooled(0, "double", pool)
    assert items.pooled(0, "double", pool) is first
    assert len(calls) == 1
    assert torch.equal(items.pooled(1, "double", pool), 2 * items[1])
    assert torch.equal(items.pooled(0, "half", lambda x: x / 2), items[0] / 2)
