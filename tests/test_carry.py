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


def test_step_hands_on_what_came_out_of_it_or_where_it_failed_what_went_in():
    before, after = torch.tensor([1.0, 2.0]), torch.tensor([3.0, torch.inf])
    assert carry_unless(FAILED, before=before, after=after).tolist() == [1.0, 2.0]
    assert carry_unless(FAILED, before=None, after=after).tolist() == [0.0, 0.0]
    assert carry_unless(PASSED, before=before, after=after).tolist() == [3.0, torch.inf]


def test_path_that_carries_nothing_leaves_what_was_there():
    before = torch.ones(3)
    assert carry_unless(PASSED, before=before, after=None) is before
    assert carry_unless(FAILED, before=None, after=None) is None
