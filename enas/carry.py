"""What a recurrent network hands from one training step to the next, kept by whoever trains it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fitting(carries: Sequence[Tensor | None], count: int) -> list[Tensor | None]:
    """Return what a step's paths start from, a place each; those that had no place in the step before start from nothing."""
    return [carries[place] if place < len(carries) else None for place in range(count)]


def carry_unless(failed: Tensor, *, before: Tensor | None, after: Tensor | None) -> Tensor | None:
    """Return what a step hands on: what came out of it or, where it failed, what went in; decided on the device.

    Args:
        failed: a boolean scalar.
        before: what went in; None for zeros, as at the start.
        after: what came out; None where the network carries nothing, or did not run to its end.
    """
    if after is None:
        return before
    return torch.where(failed, torch.zeros_like(after) if before is None else before, after)
