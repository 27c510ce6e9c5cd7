import pytest
import torch
from torch import nn

from enas.children.ops import (
    ConvBranch,
    FactorizedReduction,
    PoolBranch,
    conv1x1,
    drop_path,
    dropout,
    rectified_channels,
)

X = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).reshape(2, 3, 5, 4)


def identity_weights(module):
    """Make every 1x1 convolution pass its channels on, and BatchNorm (in evaluation mode) nearly so."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            nn.init.dirac_(layer.weight)
    return module.eval()


def test_conv1x1_normalises_then_rectifies():
    block = conv1x1(3, 4).train()
    out = block(X - 30)
    raw = nn.functional.conv2d(X - 30, block[0].weight)
    expected = (raw - raw.mean((0, 2, 3), keepdim=True)) / (raw.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(out, expected.relu(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel_size", "separable", "num_weights"),
    [(3, False, 9 * 36), (5, False, 25 * 36), (3, True, 9 * 6 + 36), (5, True, 25 * 6 + 36)],
)
def test_conv_branch_keeps_the_size_and_has_the_weights_of_its_kind(kernel_size, separable, num_weights):
    branch = ConvBranch(6, kernel_size=kernel_size, separable=separable)
    assert sum(weight.numel() for weight in branch.parameters()) == (36 + 2 * 6) + num_weights + 2 * 6
    assert branch(torch.randn(2, 6, 9, 7)).shape == (2, 6, 9, 7)
    assert branch.norm.eps == 1e-3
    assert branch.enter[1].eps == 1e-5


def test_separable_convolution_is_depthwise_then_pointwise():
    branch = ConvBranch(3, kernel_size=3, separable=True)
    depthwise, pointwise = branch.conv[0].weight, branch.conv[1].weight
    full = pointwise[:, :, 0, 0, None, None] * depthwise[None, :, 0]  # (C_out, C_in, 3, 3)
    torch.testing.assert_close(branch.conv(X), nn.functional.conv2d(X, full, padding=1), rtol=1e-4, atol=1e-3)


def test_average_pooling_leaves_padding_out():
    branch = identity_weights(PoolBranch(1, average=True))
    image = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    expected = torch.tensor([[[[3.0, 3.5, 4.0], [4.5, 5.0, 5.5], [6.0, 6.5, 7.0]]]])
    torch.testing.assert_close(branch(image), expected, rtol=1e-4, atol=1e-5)


def test_max_pooling_takes_the_largest_neighbour():
    branch = identity_weights(PoolBranch(1, average=False))
    image = torch.tensor([[[[1.0, 9.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 2.0]]]])
    expected = torch.tensor([[[[9.0, 9.0, 9.0], [9.0, 9.0, 9.0], [8.0, 8.0, 8.0]]]])
    torch.testing.assert_close(branch(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (5, 7), (1, 1)])
def test_factorized_reduction_concatenates_two_grids_offset_by_one_pixel(size):
    x = torch.randn(2, 2, *size)
    reduction = identity_weights(FactorizedReduction(2, 4))
    height, width = (size[0] + 1) // 2, (size[1] + 1) // 2
    expected = torch.zeros(2, 4, height, width)
    for row in range(height):
        for column in range(width):
            expected[:, :2, row, column] = x[:, :, 2 * row, 2 * column]
            if 2 * row + 1 < size[0] and 2 * column + 1 < size[1]:  # past the edge the shifted grid reads zeros
                expected[:, 2:, row, column] = x[:, :, 2 * row + 1, 2 * column + 1]
    torch.testing.assert_close(reduction(x), expected, rtol=1e-4, atol=1e-5)


def test_factorized_reduction_splits_an_odd_number_of_channels():
    reduction = FactorizedReduction(3, 5)
    assert (reduction.even.out_channels, reduction.odd.out_channels) == (2, 3)
    assert reduction(X).shape == (2, 5, 3, 2)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_reduction_with_a_relu_is_one_behind_a_relu(size, training, memory_format):
    reduction = FactorizedReduction(4, 6, rectify=True).train(training)
    plain = FactorizedReduction(4, 6).train(training)
    plain.load_state_dict(reduction.state_dict())
    x = torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(0)).to(memory_format=memory_format).requires_grad_()
    outputs = reduction(x), plain(x.relu())
    assert torch.equal(*outputs)
    assert torch.equal(*(torch.autograd.grad(out.square().sum(), x)[0] for out in outputs))
    with torch.no_grad():
        torch.testing.assert_close(reduction(x), plain(x.relu()), rtol=1e-5, atol=1e-6)  # grids may lie otherwise in memory


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("num_tensors", [1, 3])
def test_rectified_channels_are_a_relu_of_the_joined_ones_and_leave_them_alone(num_tensors, memory_format):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 5, 6, 3, generator=generator).to(memory_format=memory_format) for _ in range(num_tensors)]
    tensors[0][0, 0, 0] = torch.tensor([float("nan"), -0.0, float("inf")])
    before = [tensor.clone() for tensor in tensors]
    expected = torch.cat(tensors, dim=1).relu()
    with torch.no_grad():
        without = rectified_channels(*tensors)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    with_gradient = rectified_channels(*leaves)
    for found in (without, with_gradient):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        assert found.is_contiguous(memory_format=memory_format)
    with_gradient.nansum().backward()
    for leaf, tensor in zip(leaves, before, strict=True):
        assert torch.equal(leaf.grad, (tensor > 0).float())
    for tensor, kept in zip(tensors, before, strict=True):
        torch.testing.assert_close(tensor, kept, rtol=0, atol=0, equal_nan=True)


def test_dropout_mask_is_a_function_of_the_generator():
    x = torch.ones(50, 40)
    first, same, other = (dropout(x, keep_prob=0.7, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_dropout_keeps_the_expectation():
    out = dropout(torch.full((400, 500), 3.0), keep_prob=0.9, generator=torch.Generator().manual_seed(0))
    assert out.unique().tolist() == pytest.approx([0, 3 / 0.9])
    assert (out > 0).float().mean().item() == pytest.approx(0.9, abs=0.003)  # 4.5 standard errors
    assert out.mean().item() == pytest.approx(3.0, abs=0.01)


def test_dropout_scales_the_gradient_by_the_same_mask():
    x = torch.randn(6, 7, requires_grad=True)
    out = dropout(x, keep_prob=0.5, generator=torch.Generator().manual_seed(0))
    out.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), out.detach())


def test_dropout_without_a_generator_is_refused():
    with pytest.raises(ValueError, match="dropout in training mode: expected a generator for its mask, got None"):
        dropout(torch.ones(2), keep_prob=0.5, generator=None)


def test_drop_path_keeps_or_drops_whole_images_and_keeps_the_expectation():
    out = drop_path(torch.full((100_000, 2, 1, 2), 3.0), keep_prob=0.7, generator=torch.Generator().manual_seed(0))
    assert out.unique().tolist() == pytest.approx([0, 3 / 0.7])
    assert torch.equal(out, out[:, :1, :, :1].expand_as(out))
    assert (out > 0).float().mean().item() == pytest.approx(0.7, abs=0.007)  # 4.8 standard errors
    assert out.mean().item() == pytest.approx(3.0, abs=0.03)


def test_drop_path_is_a_function_of_the_generator_and_scales_the_gradient_alike():
    x = torch.randn(50, 2, 3, 4, requires_grad=True)
    first, same, other = (drop_path(x, keep_prob=0.5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    first.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), first.detach())


def test_drop_path_keeps_the_memory_format():
    x = torch.randn(4, 5, 3, 3).to(memory_format=torch.channels_last)
    out = drop_path(x, keep_prob=0.5, generator=torch.Generator().manual_seed(0))
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_drop_path_without_a_generator_is_refused():
    with pytest.raises(ValueError, match="drop-path in training mode: expected a generator for its mask, got None"):
        drop_path(torch.ones(2, 1, 1, 1), keep_prob=0.5, generator=None)
