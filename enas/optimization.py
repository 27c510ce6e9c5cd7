"""SGD whose cost follows the active weights, not the size of the supernet."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def make_sgd(
    parameters: Iterable[nn.Parameter], *, learning_rate: float, momentum: float, weight_decay: float
) -> torch.optim.SGD:
    """Return fused SGD with Nesterov momentum; weights without a gradient are left alone.

    Momentum buffers start as zeros for every weight: fused SGD refuses a step in which only some have one.
    """
    parameters = list(parameters)
    optimizer = torch.optim.SGD(
        parameters, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, weight_decay=weight_decay, fused=True
    )
    if momentum > 0:
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float | None) -> Tensor:
    """Scale the gradients that exist to a joint L2 norm of at most `largest`; return the norm before, on the device."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if largest is not None and gradients:
        scale = (largest / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, scale)
    return norm


def guarded_step(
    optimizer: torch.optim.Optimizer,
    weights: Iterable[nn.Parameter],
    losses: Tensor,
    *,
    learning_rate: float,
    grad_clip: float | None,
    undo: Callable[[Tensor], None],
) -> tuple[Tensor, Tensor]:
    """Clip the gradients and take a step, unless a loss or the gradient's norm is not finite: then nothing moves.

    Args:
        losses: that the gradients are of, any shape.
        learning_rate: of this step.
        grad_clip: see `clip_gradients`.
        undo: told whether the step failed, a boolean scalar on the device; puts back what the forward pass has changed.

    Returns: the gradient's norm before clipping, and whether the step failed, scalars on the device.
    """
    norm = clip_gradients(weights, grad_clip).to(losses.device)  # without a gradient, PyTorch's norm is on the CPU
    failed = ~(losses.isfinite().all() & norm.isfinite())
    set_learning_rate(optimizer, learning_rate)
    step_unless(failed, optimizer)
    undo(failed)
    return norm, failed


def step_unless(failed: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take the optimizer's step, or leave weights and moments exactly as they are; decided on the device, without a transfer.

    Args: failed: a boolean scalar on the weights' device. optimizer: a fused one, of `make_sgd`.
    """
    # The attribute that GradScaler sets: a fused kernel does nothing where it is 1.
    optimizer.found_inf = failed.float()  # type: ignore[attr-defined]
    optimizer.step()
