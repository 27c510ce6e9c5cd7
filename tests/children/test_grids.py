import pytest
import torch
from torch.nn import functional as F

from enas.children.grids import even_and_odd


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 7, 5), (1, 4, 6, 9), (2, 1, 1, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_grids_and_gradient_are_those_of_slices(shape, memory_format):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(memory_format=memory_format)
    results = []
    for cut in (even_and_odd, slices):
        image = x.clone(memory_format=torch.preserve_format).requires_grad_()
        even, odd = cut(image)
        weights = torch.randn(2, *even.shape, generator=torch.Generator().manual_seed(1))
        (even * weights[0] + odd * weights[1]).sum().backward()
        results.append((even.detach(), odd.detach(), image.grad))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*results, strict=True))
    assert results[0][2].is_contiguous(memory_format=memory_format)


def slices(x):
    height, width = x.shape[-2:]
    return x[:, :, ::2, ::2], F.pad(x, (0, 1, 0, 1))[:, :, 1::2, 1::2][:, :, : -(-height // 2), : -(-width // 2)]


def test_without_a_gradient_nothing_is_recorded():
    even, odd = even_and_odd(torch.zeros(1, 2, 4, 4))
    assert even.grad_fn is None
    assert odd.grad_fn is None


def test_second_derivative_is_there():
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: tuple(grid.square() for grid in even_and_odd(x)), (x,))
