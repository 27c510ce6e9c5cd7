"""What a recurrent network hands from one training step to the next, kept by whoever trains it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def fitting(carries: Sequence[Tensor | None], count: int) -> list[Tensor | None]:
    """Return what a step's paths start from, a place each; those that had no place in the step before start from nothing."""
    return [carries[place] if place < len(carries) else None for place in range(count)]


def carry_unless(failed: Tensor, carry: Tensor | None) -> Tensor | None:
    """Return what a step hands on: what came out of it or, where it failed, zeros, as at the start; decided on the device.

    What went into a step that failed may be why: handed on, it could make all steps to the end of the text fail.

    Args:
        failed: a boolean scalar.
        carry: what came out; None where the network carries nothing, or did not run to its end.
    """
    return None if carry is None else torch.where(failed, torch.zeros_like(carry), carry)
