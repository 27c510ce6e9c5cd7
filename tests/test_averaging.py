from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from enas.averaging import WeightAverage, has_stopped_falling

OK, FAILED = torch.tensor(False), torch.tensor(True)


def first_start(losses: list[float], n: int) -> int | None:
    """As both authors' codes have it: over a growing list, the number of the epoch, from 0, after which averaging starts."""
    earlier: list[float] = []
    for epoch, loss in enumerate(losses):
        if len(earlier) > n and loss > min(earlier[:-n]):
            return epoch
        earlier.append(loss)
    return None


@pytest.mark.parametrize(
    ("losses", "window", "expected"),
    [
        ([3.0, 4.0], 1, False),  # nothing lies far enough back
        ([3.0, 4.0, 3.5], 1, True),
        ([3.0, 4.0, 3.0], 1, False),  # not above
        ([4.0, 2.0, 3.0], 1, False),  # above the one before, which is too recent
        ([4.0, 2.0, 3.0, 2.5], 1, True),
        ([4.0, 2.0, 3.0, 2.5], 2, False),
        ([4.0, 2.0, math.nan], 1, True),
        ([2.0, math.nan, 2.5, 3.0], 1, True),
        ([math.nan, 2.0, 2.5, 1.9], 1, False),
        ([math.nan, 2.0, 1.9], 1, False),
        ([4.0], 5, False),
    ],
)
def test_trigger_compares_with_the_lowest_that_lies_far_enough_back(losses, window, expected):
    assert has_stopped_falling(losses, window=window) is expected


@pytest.mark.parametrize("window", [1, 2, 5])
def test_trigger_is_that_of_the_authors_on_random_losses(window):
    generator = torch.Generator().manual_seed(window)
    for _ in range(200):
        losses = (torch.rand(12, generator=generator) - 0.1 * torch.arange(12)).tolist()
        starts = [epoch for epoch in range(12) if has_stopped_falling(losses[: epoch + 1], window=window)]
        assert (starts[0] if starts else None) == first_start(losses, window)


class Counter(nn.Module):
    """One weight, and a running mean as BatchNorm has it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.norm = nn.BatchNorm1d(1)

    def put(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.norm.running_mean.fill_(10 * value)


def test_mean_is_that_of_the_weights_after_each_step_since_the_start():
    network = Counter()
    average = WeightAverage(network, window=1)
    for value in (100.0, 50.0):
        network.put(value)
        average.take_in(OK)
    average.watch([1.0, 3.0])
    assert not average.has_started
    average.watch([1.0, 3.0, 2.0])
    assert average.has_started
    assert average.network is network  # no step has been averaged yet
    for value in (1.0, 2.0, 6.0):
        network.put(value)
        average.take_in(OK)
    assert average.num_averaged == 3
    assert average.network.weight.tolist() == pytest.approx([3.0, 3.0])
    assert average.network.norm.running_mean.item() == pytest.approx(30.0)
    assert network.weight.tolist() == [6.0, 6.0]


def test_failed_step_averages_nothing():
    network = Counter()
    average = WeightAverage(network, window=1)
    average.watch([1.0, 3.0, 2.0])
    network.put(2.0)
    average.take_in(FAILED)
    assert (average.num_averaged, average.network) == (0, network)
    for value, failed in ((2.0, OK), (100.0, FAILED), (4.0, OK)):
        network.put(value)
        average.take_in(failed)
    assert average.num_averaged == 2
    assert average.network.weight.tolist() == [3.0, 3.0]


def test_once_started_it_goes_on_whatever_the_losses():
    network = Counter()
    average = WeightAverage(network, window=1)
    average.watch([1.0, 3.0, 2.0])
    network.put(2.0)
    average.take_in(OK)
    average.watch([1.0, 3.0, 2.0, 0.5])
    average.watch([1.0, 3.0, 2.0, 0.5, 0.9, 0.8])
    network.put(4.0)
    average.take_in(OK)
    assert average.network.weight.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("num_steps", [0, 2])
def test_state_goes_on_where_it_was(num_steps):
    networks = Counter(), Counter()
    first, second = (WeightAverage(network, window=1) for network in networks)
    second.load_state_dict(first.state_dict())
    assert not second.has_started
    first.watch([1.0, 3.0, 2.0])
    for step in range(num_steps):
        networks[0].put(step + 0.1)
        first.take_in(OK)
    second.load_state_dict(first.state_dict())
    assert (second.has_started, second.num_averaged) == (True, num_steps)
    for average, network in zip((first, second), networks, strict=True):
        network.put(0.7)
        average.take_in(OK)
    assert torch.equal(first.network.weight, second.network.weight)
    assert torch.equal(first.network.norm.running_mean, second.network.norm.running_mean)
