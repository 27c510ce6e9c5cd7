"""Which images train and which validate: indices, without any randomness, so a split never depends on a run's seed."""

from __future__ import annotations

import numpy as np

from enas.datasets.source import ValidRule
from enas.types import IntArray


def split_train(labels: IntArray, *, num_valid: int | None, num_train: int | None, rule: ValidRule) -> tuple[IntArray, IntArray]:
    """Split training images as `split_valid` does, then keep `num_train` of those that train, as `first_per_class` does.

    Returns: (train, valid), disjoint ascending indices.

    Raises:
        ValueError: the images do not suffice.
    """
    train, valid = split_valid(labels, num_valid, rule=rule)
    return train if num_train is None else train[first_per_class(labels[train], num_train)], valid


def split_valid(labels: IntArray, num_valid: int | None, *, rule: ValidRule) -> tuple[IntArray, IntArray]:
    """Split training images into those that go on training and those that validate.

    Args:
        labels: int64 (N,), all of them at least 0.
        num_valid: how many validate; None: a tenth, and at least one of each class.
        rule: `last`: the last `num_valid` images. `stratified`: of each class its last images, as many as its share asks for,
            at least one validating and one training; for files that may be sorted by class.

    Returns: (train, valid), disjoint ascending indices, int64 (N - num_valid,) and (num_valid,).

    Raises:
        ValueError: the images do not suffice for such a split.
    """
    counts = _class_counts(labels)
    num_present = int(np.count_nonzero(counts))
    wanted = max(len(labels) // 10, num_present) if num_valid is None else num_valid
    if rule == "last":
        _check_count("num_valid", wanted, lowest=1, highest=len(labels) - 1, num_images=len(labels))
        indices = np.arange(len(labels))
        return indices[:-wanted], indices[-wanted:]
    if (rare := np.flatnonzero(counts == 1)).size:
        raise ValueError(f"num_valid: expected at least 2 training images of each class to split, got 1 of class {rare[0]}")
    _check_count("num_valid", wanted, lowest=num_present, highest=len(labels) - num_present, num_images=len(labels))
    validates = _rank_in_class(labels) >= (counts - _class_quotas(counts, wanted, leave=1))[labels]
    return np.flatnonzero(~validates), np.flatnonzero(validates)


def first_per_class(labels: IntArray, num_images: int) -> IntArray:
    """Choose a subset that keeps the shares of the classes: of each class its first images, at least one.

    Args:
        labels: int64 (N,), all of them at least 0.
        num_images: size of the subset, from the number of classes present to N.

    Returns: ascending indices, int64 (num_images,).

    Raises:
        ValueError: num_images is out of that range.
    """
    counts = _class_counts(labels)
    _check_count("num_train", num_images, lowest=int(np.count_nonzero(counts)), highest=len(labels), num_images=len(labels))
    return np.flatnonzero(_rank_in_class(labels) < _class_quotas(counts, num_images, leave=0)[labels])


def _check_count(what: str, count: int, *, lowest: int, highest: int, num_images: int) -> None:
    if not lowest <= count <= highest:
        raise ValueError(f"{what}: expected {lowest} to {highest} of the {num_images} training images, got {count}")


def _class_counts(labels: IntArray) -> IntArray:
    return np.bincount(labels).astype(np.int64)


def _rank_in_class(labels: IntArray) -> IntArray:
    """Return for each image how many of its class come before it, int64 (N,)."""
    counts = _class_counts(labels)
    order = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[order]]
    return rank


def _class_quotas(counts: IntArray, total: int, *, leave: int) -> IntArray:
    """Share `total` among the classes: one each, the rest in proportion to what a class can still give without its last `leave`.

    Largest remainders, ties to the lower class; with equal counts that is an even share.
    """
    present = (counts > 0).astype(np.int64)
    capacity = counts - present * (1 + leave)
    rest = total - int(present.sum())
    if rest == 0:
        return present
    share, remainder = np.divmod(capacity * rest, capacity.sum())
    largest = np.argsort(-remainder, kind="stable")[: rest - share.sum()]
    share[largest] += 1
    return np.asarray(present + share, dtype=np.int64)
