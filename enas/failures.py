"""What can go wrong with one architecture in the middle of a search, and how it is told apart.

An architecture fails where its loss is not a finite number (`NOT_FINITE`), where its gradient is not (`STEEP`), or where its
network does not fit in memory (`OUT_OF_MEMORY`). A failed measurement has a loss that is not finite; one that did not fit has no
accuracy either: NaN. A training step in which any path failed moves no weight. Neither ends the search, until `LIMITS` says so.

Not covered: on Linux a process that takes more memory than there is may be killed instead of being told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from enas.spaces.base import SearchSpace
from enas.types import FloatArray

Failure = Literal["loss not finite", "gradient not finite", "out of memory"]
NOT_FINITE: Failure = "loss not finite"
STEEP: Failure = "gradient not finite"
OUT_OF_MEMORY: Failure = "out of memory"

LIMITS: dict[Failure, int] = {NOT_FINITE: 10, STEEP: 10, OUT_OF_MEMORY: 100}
"""Training steps, or measured architectures, that may fail one after another, counted for each kind of failure. Not fitting has
the larger number: a space of which only a part fits is searched all the same, and rewards lead the controller to that part."""

_MESSAGES = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")  # CUDA, MPS; CPU; libraries of CUDA

Value = TypeVar("Value")


def failures(loss: FloatArray, accuracy: FloatArray) -> list[Failure | None]:
    """Say of each architecture how it failed, if it did.

    Args: loss: (N,), nats. accuracy: (N,), fractions, NaN for what did not fit in memory.
    """
    finite, ran = np.isfinite(loss).tolist(), (~np.isnan(accuracy)).tolist()
    return [OUT_OF_MEMORY if not b else None if a else NOT_FINITE for a, b in zip(finite, ran, strict=True)]


def describe(space: SearchSpace[Any], architecture: Any) -> str:
    """Name an architecture in one line, for a message."""
    return f"{space.name} architecture {' / '.join(space.to_text(architecture).splitlines())}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice; PyTorch has a class for it on CUDA only, not on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


def none_if_out_of_memory(compute: Callable[[], Value]) -> Value | None:
    """Return what `compute` returns, or None where memory did not suffice for it; other errors pass."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if torch.cuda.is_available():  # here, for until the handler ends the error holds on to the frames and their tensors
        torch.cuda.empty_cache()
    return None
