from __future__ import annotations

import numpy as np
import pytest

from enas.datasets.source import ValidRule
from enas.datasets.splits import first_per_class, split_valid


@pytest.mark.parametrize("rule", ["last", "stratified"])
def test_every_image_trains_or_validates_but_never_both(rule: ValidRule) -> None:
    labels = np.random.default_rng(0).integers(5, size=100)
    train, valid = split_valid(labels, 23, rule=rule)
    assert len(valid) == 23
    assert sorted([*train, *valid]) == list(range(100))


def test_last_rule_takes_the_last_images() -> None:
    _, valid = split_valid(np.array([0, 1, 0, 1, 0, 1]), 2, rule="last")
    assert valid.tolist() == [4, 5]


def test_stratified_rule_takes_the_last_images_of_each_class_in_a_sorted_file() -> None:
    train, valid = split_valid(np.repeat([0, 1, 2], 4), 6, rule="stratified")
    assert valid.tolist() == [2, 3, 6, 7, 10, 11]
    assert train.tolist() == [0, 1, 4, 5, 8, 9]


def test_stratified_rule_follows_the_shares_of_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [2, 30, 62])
    train, valid = split_valid(labels, 33, rule="stratified")
    # one each, and 30 shared in proportion to what is left beside one training image: 0 : 28 : 60
    assert np.bincount(labels[valid]).tolist() == [1, 1 + 10, 1 + 20]
    assert np.bincount(labels[train]).min() >= 1


@pytest.mark.parametrize("num_valid", range(4, 17))
def test_stratified_rule_leaves_every_class_on_both_sides_at_any_size(num_valid: int) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 2, 3, 5], [2, 3, 5, 10]))
    train, valid = split_valid(labels, num_valid, rule="stratified")
    assert len(valid) == num_valid
    assert set(labels[train]) == set(labels[valid]) == {0, 2, 3, 5}


def test_default_is_a_tenth_but_one_of_each_class() -> None:
    assert len(split_valid(np.arange(200) % 4, None, rule="stratified")[1]) == 20
    assert len(split_valid(np.arange(20) % 4, None, rule="stratified")[1]) == 4


def test_subset_is_even_over_the_classes_and_comes_first() -> None:
    labels = np.array([0, 0, 0, 1, 0, 1, 1, 1, 2, 2, 2, 2])
    assert first_per_class(labels, 6).tolist() == [0, 1, 3, 5, 8, 9]


def test_subset_of_all_is_all() -> None:
    labels = np.array([3, 1, 1, 0, 1])
    assert first_per_class(labels, 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("labels", "num_valid", "rule", "message"),
    [
        ([0, 1, 0, 1], 0, "last", "num_valid: expected 1 to 3 of the 4 training images, got 0"),
        ([0, 1, 0, 1], 4, "last", "num_valid: expected 1 to 3 of the 4 training images, got 4"),
        ([0, 1, 0, 1], 1, "stratified", "num_valid: expected 2 to 2 of the 4 training images, got 1"),
        ([0, 1, 0, 1], 3, "stratified", "num_valid: expected 2 to 2 of the 4 training images, got 3"),
        ([0, 1, 0], None, "stratified", "expected at least 2 training images of each class to split, got 1 of class 1"),
    ],
)
def test_too_few_images_are_refused(labels: list[int], num_valid: int | None, rule: ValidRule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_valid(np.array(labels), num_valid, rule=rule)


@pytest.mark.parametrize("num_train", [-1, 0, 1, 5])
def test_subset_out_of_range_is_refused(num_train: int) -> None:
    with pytest.raises(ValueError, match=f"num_train: expected 2 to 4 of the 4 training images, got {num_train}"):
        first_per_class(np.array([0, 1, 0, 1]), num_train)
