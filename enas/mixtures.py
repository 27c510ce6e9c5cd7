"""The loss's gradient with respect to a mixture's weights (Liu et al. 2019, DARTS, section 2.3).

First order: the gradient at the present weights w of the network. Second order (eq. 7 and 8): the gradient of
L_valid(w'(a), a), where w'(a) is what one step of SGD on L_train(w, a) makes of w. It is exact but for the mixed second
derivative, for which a central difference over .01 / ||v|| to either side stands, as in the authors' `cnn/architect.py`.

Departure: the step that is looked through is the one that the shared weights really take: clipped, with Nesterov momentum, weight
decay on weights that have a gradient. The authors look through plain momentum, without clipping. Its minibatch is the next one's,
without dropout, drop-path and auxiliary head.

Not covered: a shorter difference. In a network of ReLUs some switch along it, which the exact derivative does not see; on a
NAS-Bench-201 network of 4 channels with 16 images a minibatch, .01 was off by .1 to 2 times the gradient's norm, 1e-6 by .003.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from enas.children.base import Output
from enas.children.loss import minibatch_accuracy, training_loss
from enas.datasets.batches import Batch
from enas.train_metrics import MixtureGradient
from enas.types import Relaxation

DIFFERENCE = 0.01
"""Length of the step to either side in the finite difference (authors: `_hessian_vector_product`)."""
CLIP_EPS = 1e-6
"""What `clip_gradients` adds to a norm before it divides by it."""

Run = Callable[[Tensor, Tensor], Output]
"""A forward pass of images (B, C, H, W) and a mixture's weights (R, K), at the present weights of the network."""


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


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through the network's weights. Attributes: moved: weights. old: their values. direction: of theirs."""

    moved: Sequence[nn.Parameter]
    old: Sequence[Tensor]
    direction: Sequence[Tensor]


def mixture_weights(relaxation: Relaxation, like: Tensor) -> Tensor:
    """Return a mixture's weights as a leaf that gradients are taken of. Args: like: tensor of their device and dtype."""
    return torch.tensor(relaxation.weights, device=like.device, dtype=like.dtype, requires_grad=True)


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


@contextmanager
def restored(weights: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Within the block, weights may be moved; afterwards they are as before, bit for bit. Yields copies of them."""
    before = [weight.detach().clone() for weight in weights]
    try:
        yield before
    finally:
        _put(weights, before)


def first_order(run: Run, mixture: Tensor, weights: Sequence[nn.Parameter], batch: Batch) -> MixtureGradient:
    """Return the gradient at the present weights. Those get none, and what only they would need is not kept."""
    with without_gradients(weights):
        output = run(batch.images, mixture)
        loss = _loss(output, batch)
        gradient = torch.autograd.grad(loss, mixture, allow_unused=True)[0] if loss.requires_grad else None
    return _result(gradient, mixture, loss, output, batch)


def second_order(
    run: Run, mixture: Tensor, weights: Sequence[nn.Parameter], batch: Batch, *, ahead: Batch, step: SgdStep
) -> MixtureGradient:
    """Return the gradient of the loss behind one training step on the minibatch `ahead`.

    With g the gradient of the training loss and v that of the validation loss at w', it is

        dL_valid(w', a)/da - slope * d(u . g)/da,

    where u is v brought back through the clipping: s v - s (v . g) g / (n (n + 1e-6)) for a norm n that s g is clipped from.
    Weights and their momentum are left as they were.
    """
    with restored(weights) as before:
        loss = _loss(run(ahead.images, mixture.detach()), ahead)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        used = [index for index, gradient in enumerate(gradients) if gradient is not None]
        moved, old = [weights[index] for index in used], [before[index] for index in used]
        slopes = [gradient for gradient in gradients if gradient is not None]
        scale, norm = _clipping(slopes, step.grad_clip)
        _put(moved, _stepped(old, [scale * slope for slope in slopes], step, used))
        output = run(batch.images, mixture)
        loss = _loss(output, batch)
        direct, *onward = torch.autograd.grad(loss, [mixture, *moved], allow_unused=True)
        direction = _through_clipping([_or_zeros(v, w) for v, w in zip(onward, moved, strict=True)], slopes, scale, norm)
        curvature = _mixed_derivative(run, mixture, weights, ahead, line=Line(moved=moved, old=old, direction=direction))
    return _result(_or_zeros(direct, mixture) - step.slope * curvature, mixture, loss, output, batch)


def _clipping(gradients: Sequence[Tensor], largest: float | None) -> tuple[Tensor, Tensor]:
    """Return what `clip_gradients` multiplies gradients with, and their norm."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return torch.ones_like(norm) if largest is None else (largest / (norm + CLIP_EPS)).clamp(max=1.0), norm


def _stepped(weights: Sequence[Tensor], gradients: Sequence[Tensor], step: SgdStep, used: Sequence[int]) -> list[Tensor]:
    """Return the weights after the step; they are not moved. Args: gradients: clipped. used: where their buffers are."""
    results = []
    for weight, gradient, index in zip(weights, gradients, used, strict=True):
        change = gradient + step.weight_decay * weight
        if step.momentum > 0:  # d + m (m b + d)
            change = (1 + step.momentum) * change + step.momentum**2 * step.buffers[index]
        results.append(weight - step.learning_rate * change)
    return results


def _through_clipping(onward: Sequence[Tensor], gradients: Sequence[Tensor], scale: Tensor, norm: Tensor) -> list[Tensor]:
    """Return u of `second_order`: the derivative of (v . s g) with respect to g."""
    if scale >= 1:
        return list(onward)
    along = sum((v * g).sum() for v, g in zip(onward, gradients, strict=True)) / (norm * (norm + CLIP_EPS))
    return [scale * (v - along * g) for v, g in zip(onward, gradients, strict=True)]


def _mixed_derivative(run: Run, mixture: Tensor, weights: Sequence[nn.Parameter], batch: Batch, *, line: Line) -> Tensor:
    """Return d(u . dL/dw)/da, (R, K), by a central difference along u; weights end somewhere on the line."""
    norm = torch.nn.utils.get_total_norm(line.direction)
    if not norm > 0:
        return torch.zeros_like(mixture) * norm  # NaN where the direction is
    distance = DIFFERENCE / norm
    sides = []
    for sign in (1, -1):
        _put(line.moved, [value + sign * distance * u for value, u in zip(line.old, line.direction, strict=True)])
        sides.append(first_order(run, mixture, weights, batch).gradient)
    return (sides[0] - sides[1]) / (2 * distance)


def _loss(output: Output, batch: Batch) -> Tensor:
    """Return the loss without that of an auxiliary head, which runs in training mode only."""
    return training_loss(output, batch.labels, aux_weight=0.0)


def _result(gradient: Tensor | None, mixture: Tensor, loss: Tensor, output: Output, batch: Batch) -> MixtureGradient:
    accuracy = minibatch_accuracy(output, batch.labels)
    return MixtureGradient(gradient=_or_zeros(gradient, mixture).detach(), loss=loss.detach(), accuracy=accuracy)


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


@torch.no_grad()
def _put(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    if weights:
        torch._foreach_copy_(list(weights), list(values))
