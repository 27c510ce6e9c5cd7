"""What changes as training goes on, as pure functions of progress: a resumed or extended run needs no scheduler state."""

from __future__ import annotations

import math


def cosine(progress: float, *, maximum: float, minimum: float) -> float:
    """Return half a cosine from `maximum` at progress 0 to `minimum` at progress 1 (Loshchilov and Hutter 2017, eq. 5)."""
    return minimum + 0.5 * (maximum - minimum) * (1 + math.cos(math.pi * progress))


def cosine_restarts(epoch: int, *, maximum: float, minimum: float, first: int, factor: int) -> float:
    """Return the learning rate of an epoch under SGDR, constant within the epoch as in the authors' `get_train_ops`.

    Args:
        epoch: counted from 0.
        maximum, minimum: at the start and towards the end of each cycle.
        first: epochs of the first cycle, at least 1.
        factor: each cycle is this many times as long as the one before, at least 1.
    """
    start, length = 0, first
    while epoch >= start + length:
        start += length
        length *= factor
    return cosine((epoch - start) / length, maximum=maximum, minimum=minimum)


def falling_keep_prob(progress: float, *, last: float) -> float:
    """Return the probability of keeping a path: in proportion to progress, from 1 at 0 to `last` at progress 1.

    (Authors: `_apply_drop_path` of `src/cifar10/micro_child.py`, where the progress of step t is (t + 1) / T.)
    """
    return 1 - progress * (1 - last)
