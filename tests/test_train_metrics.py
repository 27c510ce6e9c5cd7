from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import inf, nan

import enas.train_metrics
from enas.failures import NOT_FINITE, OUT_OF_MEMORY, STEEP
from enas.rewards import FLOOR
from enas.train_metrics import MixtureMetrics, TrainMetrics, fetch


def metrics_of(
    loss: Any, accuracy: Any, *, grad_norm: float = 0.5, learning_rate: float = 0.1, gradient: Any = None
) -> TrainMetrics:
    values = [torch.tensor(value) for value in (loss, accuracy, grad_norm)]
    failed = ~torch.stack([value.isfinite().all() for value in (values[0], values[2])]).all()
    names = {"loss": values[0], "accuracy": values[1], "grad_norm": values[2], "failed": failed, "learning_rate": learning_rate}
    return TrainMetrics(**names) if gradient is None else MixtureMetrics(**names, gradient=torch.tensor(gradient))


def test_steps_of_any_number_of_paths_are_fetched_by_one_transfer(monkeypatch):
    transfers = []
    to_host = enas.train_metrics.to_host
    monkeypatch.setattr(enas.train_metrics, "to_host", lambda tensors: transfers.append(len(tensors)) or to_host(tensors))
    one = metrics_of([1.5], [0.25], grad_norm=3.0, learning_rate=0.3)
    three = metrics_of([0.5, 0.25, 2.0], [0.0, 0.5, 1.0], grad_norm=4.0, learning_rate=0.2)
    mixture = metrics_of(2.5, 0.75, grad_norm=5.0, gradient=[[1.0, 2.0], [3.0, 4.0]])
    first, second, third = fetch([one, three, mixture])
    assert len(transfers) == 1
    assert (first.loss.tolist(), first.accuracy.tolist(), first.grad_norm, first.learning_rate) == ([1.5], [0.25], 3.0, 0.3)
    assert (second.loss.tolist(), second.accuracy.tolist()) == ([0.5, 0.25, 2.0], [0.0, 0.5, 1.0])
    assert (second.grad_norm, second.learning_rate, second.gradient) == (4.0, 0.2, None)
    assert (third.loss.tolist(), third.accuracy.tolist(), third.grad_norm) == ([2.5], [0.75], 5.0)
    assert third.gradient is not None
    assert third.gradient.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_no_steps_need_no_transfer():
    assert fetch([]) == []


@pytest.mark.parametrize(
    ("loss", "accuracy", "grad_norm", "failed"),
    [
        ([0.5, 0.25], [0.5, 0.25], 1.0, [None, None]),
        ([0.5, inf], [0.5, 0.25], 1.0, [None, NOT_FINITE]),
        ([0.5, nan], [0.5, 0.25], nan, [None, NOT_FINITE]),
        ([nan, nan], [nan, 0.25], 1.0, [OUT_OF_MEMORY, NOT_FINITE]),
        ([0.5, 0.25], [0.5, 0.25], inf, [STEEP, STEEP]),
    ],
)
def test_paths_that_failed_earn_the_floor(loss, accuracy, grad_norm, failed):
    (fetched,) = fetch([metrics_of(loss, accuracy, grad_norm=grad_norm)])
    assert fetched.failed == failed
    expected = [FLOOR if failure else value for failure, value in zip(failed, accuracy, strict=True)]
    assert fetched.rewards.tolist() == expected


def test_mixture_whose_own_gradient_is_not_finite_has_failed():
    metrics = metrics_of(0.5, 0.25, gradient=[[nan, 1.0]])
    metrics = MixtureMetrics(**{**vars(metrics), "failed": torch.tensor(True)})
    (fetched,) = fetch([metrics])
    assert fetched.failed == [STEEP]
    np.testing.assert_array_equal(fetched.gradient, [[nan, 1.0]])
