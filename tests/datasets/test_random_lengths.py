from __future__ import annotations

from math import erf, exp, pi, sqrt

import pytest
import torch

from enas.datasets.random_lengths import RandomLengths


def draw(lengths: RandomLengths, bptt: int, count: int = 20_000) -> torch.Tensor:
    return lengths.draw(count, bptt=bptt, generator=torch.Generator().manual_seed(1))


def test_lengths_are_normal_around_bptt_and_cut_off_at_two_deviations():
    lengths = draw(RandomLengths(usual=1.0), 35).double()
    assert (int(lengths.min()), int(lengths.max())) == (25, 44)  # rounded down
    # a normal variable cut off at 2 has variance 1 - 4 phi(2) / erf(sqrt 2); rounding down takes a half and adds 1/12
    deviation = 5 * sqrt(1 - 4 * exp(-2) / sqrt(2 * pi) / erf(sqrt(2)))
    assert float(lengths.mean()) == pytest.approx(34.5, abs=0.1)
    assert float(lengths.std()) == pytest.approx(sqrt(deviation**2 + 1 / 12), rel=0.02)


def test_one_in_twenty_is_around_half_of_it():
    lengths = draw(RandomLengths(deviation=0.0), 35)
    values, counts = lengths.unique(return_counts=True)
    assert values.tolist() == [17, 35]
    assert float(counts[0]) / len(lengths) == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize(("bptt", "least"), [(8, 5), (5, 5), (3, 3), (1, 1)])
def test_short_sequences_have_at_least_five_tokens_or_bptt(bptt, least):
    assert int(draw(RandomLengths(), bptt).min()) == least


@pytest.mark.parametrize("bptt", [1, 8, 35])
def test_mean_is_that_of_many_draws(bptt):
    lengths = draw(RandomLengths(), bptt, count=200_000).double()
    assert RandomLengths().mean(bptt) == pytest.approx(float(lengths.mean()), rel=2e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"deviation": -1.0}, "deviation: expected at least 0"), ({"usual": 1.1}, r"usual: expected a probability in \[0, 1\]")],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RandomLengths(**changes)
