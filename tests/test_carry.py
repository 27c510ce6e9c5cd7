from __future__ import annotations

import torch

from enas.carry import carry_unless, fitting

FAILED, PASSED = torch.tensor(True), torch.tensor(False)


def test_each_path_goes_on_from_the_one_in_its_place():
    carries = [torch.ones(2), None, torch.zeros(2)]
    assert fitting(carries, 2) == carries[:2]
    assert fitting(carries, 3) == carries
    assert fitting(carries, 5) == [*carries, None, None]
    assert fitting([], 1) == [None]


def test_step_hands_on_what_came_out_of_it_or_where_it_failed_zeros():
    carry = torch.tensor([3.0, torch.inf])
    assert carry_unless(PASSED, carry).tolist() == [3.0, torch.inf]
    assert carry_unless(FAILED, carry).tolist() == [0.0, 0.0]
    assert carry_unless(FAILED, torch.tensor([torch.nan])).tolist() == [0.0]


def test_path_that_carries_nothing_hands_on_nothing():
    assert carry_unless(PASSED, None) is None
    assert carry_unless(FAILED, None) is None
