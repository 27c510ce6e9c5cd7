"""A child with distinct weights, and its layers computed from those weights by plain formulas, without the modules under test."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

INPUT_SHAPES = {"images": (3, 8, 8), "text": ()}
"""What networks are built for unless a test says otherwise, by the kind of their inputs."""


class Layers:
    """Layers over the weights of a state dict, named as there; BatchNorm by the batch in training mode."""

    def __init__(self, child):
        self.weights = {name: tensor.detach().clone() for name, tensor in child.state_dict().items()}
        self.training = child.training

    def norm(self, name, y, eps=1e-5):
        mean, variance = self.weights[f"{name}.running_mean"], self.weights[f"{name}.running_var"]
        if self.training:
            mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)
        scaled = (y - mean[:, None, None]) / (variance[:, None, None] + eps).sqrt()
        return scaled * self.weights[f"{name}.weight"][:, None, None] + self.weights[f"{name}.bias"][:, None, None]

    def conv(self, name, y, *, stride=1):
        """Convolve with padding k // 2; a weight of a single input channel is a depthwise one where y has more."""
        weight = self.weights[f"{name}.weight"]
        groups = y.shape[1] // weight.shape[1]
        return F.conv2d(y, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    def rectified_conv1x1(self, name, y):
        return self.norm(f"{name}.2", self.conv(f"{name}.1", y.relu()))

    def separable(self, name, y, *, stride=1):
        for index in (0, 1):
            y = self.conv(f"{name}.depthwise_{index}", y.relu(), stride=stride if index == 0 else 1)
            y = self.norm(f"{name}.norm_{index}", self.conv(f"{name}.pointwise_{index}", y))
        return y

    def reduce(self, name, y):
        shifted = F.pad(y, (0, 1, 0, 1))[:, :, 1:, 1:]
        halves = [self.conv(f"{name}.{which}", z[:, :, ::2, ::2]) for which, z in (("even", y), ("odd", shifted))]
        return self.norm(f"{name}.norm", torch.cat(halves, dim=1))

    def pool(self, operation, y, *, stride=1):
        def windows(z, value):
            return F.pad(z, (1, 1, 1, 1), value=value).unfold(2, 3, stride).unfold(3, 3, stride)

        if operation == "max3x3":
            return windows(y, -torch.inf).amax((-1, -2))
        return windows(y, 0.0).sum((-1, -2)) / windows(torch.ones_like(y), 0.0).sum((-1, -2))

    def calibrate(self, name, y, other, channels):
        """Bring a cell's input to the size of another image and a number of channels, as its own shape calls for it."""
        if y.shape[2:] != other.shape[2:]:
            return self.reduce(f"{name}.1", y.relu())
        return y if y.shape[1] == channels else self.rectified_conv1x1(name, y)

    def auxiliary_logits(self, y):
        height, width = y.shape[2:]
        y = F.avg_pool2d(y.relu(), (min(5, height), min(5, width)), 3)
        y = self.norm("auxiliary.project.1", self.conv("auxiliary.project.0", y)).relu()
        kernel = self.weights["auxiliary.full.0.weight"]
        assert kernel.shape[2:] == y.shape[2:]
        before = [(size - 1) // 2 for size in y.shape[2:]]  # TensorFlow's SAME
        rows, columns = ((first, size - 1 - first) for first, size in zip(before, y.shape[2:], strict=True))
        y = self.norm("auxiliary.full.1", F.conv2d(F.pad(y, (*columns, *rows)), kernel)).relu()
        return y.mean((2, 3)) @ self.weights["auxiliary.classifier.weight"].T


class Masks:
    """The masks of drop-path and dropout, in the order in which a child draws them."""

    def __init__(self, seed, *, path_keep_prob, num_cells):
        self.generator = torch.Generator().manual_seed(seed)
        self.path_keep_prob, self.num_cells = path_keep_prob, num_cells

    def drop_path(self, y, cell):
        keep = 1 - (cell + 1) / self.num_cells * (1 - self.path_keep_prob)
        if keep == 1:
            return y
        kept = [float(torch.rand(1, generator=self.generator)) < keep for _ in range(len(y))]
        return torch.stack([image / keep if is_kept else 0 * image for image, is_kept in zip(y, kept, strict=True)])

    def dropout(self, features, keep):
        return features * (torch.rand(features.shape, generator=self.generator) < keep) / keep


@pytest.fixture
def layers_of():
    return Layers


@pytest.fixture
def masks():
    return Masks


@pytest.fixture
def make_child():
    """Return a builder of children; BatchNorm weights and statistics are random too, so that each can be told apart."""

    def build(config, *, architecture=None, input_shape=None, num_classes=10):
        input_shape = INPUT_SHAPES[config.reads] if input_shape is None else input_shape
        child = config.make_child(input_shape=input_shape, num_classes=num_classes, architecture=architecture)
        child.reset_parameters(torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        for name, tensor in (*child.named_parameters(), *child.named_buffers()):
            if tensor.dim() == 1:
                torch.nn.init.uniform_(tensor.data, 0.5, 1.5, generator=generator)
                if name.endswith(("bias", "mean")):
                    tensor.data -= 1
        return child

    return build
