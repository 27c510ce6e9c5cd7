"""The loss's gradient with respect to a mixture's weights (Liu et al. 2019, DARTS, section 2.3).

First order: the gradient at the present weights w of the network. Second order (eq. 7): the exact gradient of L_valid(w'(a), a),
where w'(a) is what one step of SGD on L_train(w, a) makes of w; its mixed second derivative is a gradient of a gradient.

Departures: the step that is looked through is the one that the shared weights really take: clipped, with Nesterov momentum,
weight decay on weights that have a gradient. The authors (`cnn/architect.py`) look through plain momentum, without clipping. Its
minibatch is the next one's, without dropout, drop-path and auxiliary head. For the mixed derivative they take a central
difference (eq. 8), over .01 / ||v|| to either side. In a network of ReLUs some switch along it, which the derivative does not
see: on a NAS-Bench-201 network of 16 channels, digits in minibatches of 64, it was off by .14 to .78 of the gradient's norm
after 30 and 60 training steps, where the first order is by .16 to .83; after 200 by .02 to .03, and the first order by .07 to
.16. What is computed here is off by .01 at most, for half as much time again as the difference.

Not covered: layers without a second derivative.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from enas.children.base import Child, Output
from enas.children.loss import minibatch_accuracy, training_loss
from enas.configs import Precision
from enas.datasets.data import Batch
from enas.devices import autocast
from enas.train_metrics import MixtureGradient
from enas.transfer import to_device
from enas.types import BoolArray, Relaxation

CLIP_EPS = 1e-6
"""What `clip_gradients` adds to a norm before it divides by it."""


class MixedNetwork(nn.Module):
    """A network as a function of images and a mixture's weights.

    Args:
        child: whose weights it has.
        active: (R, K), operations that run.
        precision: of the forward pass.
    """

    def __init__(self, child: Child, active: BoolArray, *, precision: Precision = "fp32") -> None:
        super().__init__()
        self.child = child
        self._active = active
        self._precision: Precision = precision

    def forward(self, images: Tensor, mixture: Tensor) -> Output:
        """Run the mixture. Args: images: (B, C, H, W). mixture: (R, K)."""
        with autocast(images.device, self._precision):
            return self.child.forward_mixture(images, mixture, self._active)


@dataclass(frozen=True, kw_only=True)
class SgdStep:
    """A step of SGD that is looked through: of `enas.optimization`, whose momentum is Nesterov's.

    Attributes: as in `SharedConfig`; `buffers` holds the momentum of each weight, empty without momentum.
    """

    learning_rate: float
    momentum: float
    weight_decay: float
    grad_clip: float | None
    buffers: Sequence[Tensor]

    @property
    def slope(self) -> float:
        """How far a weight moves against a unit of its clipped gradient."""
        return self.learning_rate * (1 + self.momentum)


def next_step(optimizer: torch.optim.SGD, *, learning_rate: float, grad_clip: float | None) -> SgdStep:
    """Return the step that an optimizer of `make_sgd` takes next; see `guarded_step` for the other arguments."""
    group = optimizer.param_groups[0]
    buffers = [optimizer.state[weight]["momentum_buffer"] for weight in group["params"]] if group["momentum"] > 0 else []
    return SgdStep(
        learning_rate=learning_rate,
        momentum=group["momentum"],
        weight_decay=group["weight_decay"],
        grad_clip=grad_clip,
        buffers=buffers,
    )


def mixture_weights(relaxation: Relaxation, like: Tensor) -> Tensor:
    """Return a mixture's weights as a leaf that gradients are taken of. Args: like: tensor of their device and dtype."""
    return to_device(torch.tensor(relaxation.weights, dtype=like.dtype), like.device).requires_grad_()


@contextmanager
def without_gradients(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the block, no gradient of the network's weights is computed, nor what only that would need kept."""
    needed = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight, need in zip(weights, needed, strict=True):
            weight.requires_grad_(need)


def first_order(network: nn.Module, mixture: Tensor, batch: Batch) -> MixtureGradient:
    """Return the gradient at the present weights. Those get none, and what only they would need is not kept.

    Args: network: maps images and a mixture's weights (R, K) to an `Output`. mixture: a leaf.
    """
    with without_gradients(list(network.parameters())):
        output = network(batch.inputs, mixture)
        loss = _loss(output, batch)
        gradient = torch.autograd.grad(loss, mixture, allow_unused=True)[0] if loss.requires_grad else None
    return _result(gradient, mixture, loss, output, batch)


def second_order(network: nn.Module, mixture: Tensor, batch: Batch, *, ahead: Batch, step: SgdStep) -> MixtureGradient:
    """Return the gradient of the loss behind one training step on the minibatch `ahead`; no weight moves.

    With g the gradient of the training loss and v that of the validation loss at w', it is

        dL_valid(w', a)/da - slope * d(u . g)/da,

    where u is v brought back through the clipping: s v - s (v . g) g / (n (n + 1e-6)) for a norm n that s g is clipped from.

    Args: network, mixture: see `first_order`. step: with the buffers of the network's weights, in their order.
    """
    weights = dict(network.named_parameters())
    loss = _loss(network(ahead.inputs, mixture), ahead)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True, allow_unused=True)
    used = {name: gradient for name, gradient in zip(weights, gradients, strict=True) if gradient is not None}
    slopes = {name: gradient.detach() for name, gradient in used.items()}
    scale, norm = _clipping(list(slopes.values()), step.grad_clip)
    moved = _stepped(weights, {name: scale * slope for name, slope in slopes.items()}, step)
    output = functional_call(network, moved, (batch.inputs, mixture))
    loss = _loss(output, batch)
    direct, *onward = torch.autograd.grad(loss, [mixture, *moved.values()], allow_unused=True)
    values = [_or_zeros(v, weight) for v, weight in zip(onward, moved.values(), strict=True)]
    direction = _through_clipping(values, list(slopes.values()), scale, norm)
    curvature = _mixed_derivative(list(used.values()), direction, mixture)
    return _result(_or_zeros(direct, mixture) - step.slope * curvature, mixture, loss, output, batch)


def _clipping(gradients: Sequence[Tensor], largest: float | None) -> tuple[Tensor, Tensor]:
    """Return what `clip_gradients` multiplies gradients with, and their norm."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return torch.ones_like(norm) if largest is None else (largest / (norm + CLIP_EPS)).clamp(max=1.0), norm


@torch.no_grad()
def _stepped(weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], step: SgdStep) -> dict[str, Tensor]:
    """Return the weights that have a gradient after the step, as leaves. Args: gradients: clipped."""
    moved = {}
    for index, (name, weight) in enumerate(weights.items()):
        if name not in gradients:
            continue
        change = gradients[name] + step.weight_decay * weight
        if step.momentum > 0:  # d + m (m b + d)
            change = (1 + step.momentum) * change + step.momentum**2 * step.buffers[index]
        moved[name] = (weight - step.learning_rate * change).requires_grad_()
    return moved


def _through_clipping(onward: Sequence[Tensor], gradients: Sequence[Tensor], scale: Tensor, norm: Tensor) -> list[Tensor]:
    """Return u of `second_order`: the derivative of (v . s g) with respect to g."""
    if scale >= 1:
        return list(onward)
    along = sum((v * g).sum() for v, g in zip(onward, gradients, strict=True)) / (norm * (norm + CLIP_EPS))
    return [scale * (v - along * g) for v, g in zip(onward, gradients, strict=True)]


def _mixed_derivative(gradients: Sequence[Tensor], direction: Sequence[Tensor], mixture: Tensor) -> Tensor:
    """Return d(u . g)/da, (R, K), of gradients g with their graph along the direction u."""
    pairs = [(g, u) for g, u in zip(gradients, direction, strict=True) if g.requires_grad]
    if not pairs:
        return torch.zeros_like(mixture)
    outputs, along = zip(*pairs, strict=True)
    return _or_zeros(torch.autograd.grad(outputs, mixture, grad_outputs=along, allow_unused=True)[0], mixture)


def _loss(output: Output, batch: Batch) -> Tensor:
    """Return the loss without that of an auxiliary head, which runs in training mode only."""
    return training_loss(output, batch.labels, aux_weight=0.0)


def _result(gradient: Tensor | None, mixture: Tensor, loss: Tensor, output: Output, batch: Batch) -> MixtureGradient:
    accuracy = minibatch_accuracy(output, batch.labels)
    return MixtureGradient(gradient=_or_zeros(gradient, mixture).detach(), loss=loss.detach(), accuracy=accuracy)


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
