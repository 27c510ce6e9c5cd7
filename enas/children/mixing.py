"""What networks share that run mixtures (Liu et al. 2019, eq. 2): weighted sums, and items that are pooled once.

Per step a mixture adds dozens of outputs; written as `w * x + ...`, each of them is copied, and so is each gradient. A pooling
has no weights, so that of an item serves all edges that leave it. Together this takes .88 of the time of a step of the preset
`nasbench201` without either (1 thread, medians of 12 pairs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from enas.children.base import Child
from enas.children.cell_parts import Items
from enas.spaces.base import SearchSpace
from enas.types import BoolArray


@dataclass(frozen=True, kw_only=True)
class MixedNode:
    """A node that adds several operations on items before it, each times a weight.

    Attributes:
        terms: (item, operation) of each.
        weights: float (number of terms,).
    """

    terms: tuple[tuple[int, Any], ...]
    weights: Tensor


class MixedItems(Items):
    """Items of a cell whose poolings, too, are computed once an item."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__(tensors)
        self._pooled: dict[tuple[int, str], Tensor] = {}

    def pooled(self, item: int, operation: str, pool: Callable[[Tensor], Tensor]) -> Tensor:
        """Return a pooling of an item. Args: operation: its name. pool: what computes it."""
        if (item, operation) not in self._pooled:
            self._pooled[item, operation] = pool(self[item])
        return self._pooled[item, operation]


def require_supernet(network: Child) -> None:
    """Refuse a mixture on a network that holds one architecture only. Raises ValueError."""
    if network.architecture is not None:
        raise ValueError(f"expected a supernet for a mixture, got the network of {network.architecture}")


def check_mixture(space: SearchSpace[Any], weights: Tensor, active: BoolArray) -> None:
    """Refuse what is no mixture of a space. Raises ValueError.

    Args: weights: (R, K). active: (R, K).
    """
    expected = (len(space.mixed_operations), len(space.mixed_operations[0].choices))
    if tuple(weights.shape) != expected or active.shape != expected:
        raise ValueError(f"{space.name}: expected weights and active {expected}, got {tuple(weights.shape)} and {active.shape}")
    if not active.any(axis=1).all():
        place = space.mixed_operations[int((~active.any(axis=1)).argmax())].name
        raise ValueError(f"{place}: expected at least one active operation, got none")


def weighted_sum(tensors: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return sum_k weights[k] * tensors[k], added from the first to the last.

    Weights of one give the bits of the plain sum. Of different dtypes the widest is taken, as a plain sum would.

    Args:
        tensors: at least one, all of one shape (B, C, H, W).
        weights: (number of tensors,), on their device.
    """
    total: Tensor = _WeightedSum.apply(weights, *tensors)
    return total


class _WeightedSum(torch.autograd.Function):
    """`weighted_sum`; backward reads each tensor once for its weight, where a product's would write another of its size."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(weights, *tensors)
        first, *others = tensors
        total = first.to(reduce(torch.promote_types, (tensor.dtype for tensor in tensors))) * weights[0]
        for tensor, weight in zip(others, weights[1:], strict=True):
            total.addcmul_(tensor, weight)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, *tensors = ctx.saved_tensors
        to_weights, *to_tensors = ctx.needs_input_grad
        grads = [
            (grad * weight).to(tensor.dtype) if needed else None
            for tensor, weight, needed in zip(tensors, weights, to_tensors, strict=True)
        ]
        if not to_weights:
            return None, *grads
        products = [_dot(grad, tensor) for tensor in tensors]
        return torch.stack(products).to(weights.dtype), *grads


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of the products of two tensors (B, C, H, W), without a copy where both lie in memory alike."""
    if first.dtype != second.dtype:
        second = second.to(first.dtype)
    if first.dim() == 4 and not first.is_contiguous():
        first, second = first.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)
    return torch.dot(first.reshape(-1), second.reshape(-1))
