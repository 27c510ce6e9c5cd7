from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import enas.costs
from enas.children.cost import measure_cost
from enas.configs import ObjectiveConfig, SharedConfig
from enas.costs import WARM_UP, CostMeter, cost_text, make_meter
from enas.datasets.images import ImageData
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.sampling import sample_uniform
from enas.types import IntArray

BOTH = ObjectiveConfig(max_parameters=10**9, max_flops=10**9)


@pytest.fixture
def shared(images: ImageData) -> SharedWeights:
    return SharedWeights(MacroConfig(num_layers=3, filters=4), images, SharedConfig(batch_size=16, valid_batch_size=8))


def draw(shared: SharedWeights, count: int, seed: int = 0) -> IntArray:
    return sample_uniform(shared.space, count, np.random.default_rng(seed))


def ticking(durations: Sequence[float]) -> Callable[[], float]:
    """A clock for one architecture after the other: warm-up passes, then one pass of so many seconds each."""

    def readings() -> Iterator[float]:
        while True:
            yield from [0.0] * WARM_UP
            for duration in durations:
                yield 100.0
                yield 100.0 + duration

    values = readings()
    return lambda: next(values)


def forbidden() -> float:
    raise AssertionError("nothing is to be timed")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which functions counted, in order."""
    calls: list[str] = []

    def record(name: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return function(*args, **kwargs)

    for name in ("measure_cost", "size_of"):
        monkeypatch.setattr(enas.costs, name, partial(record, name, getattr(enas.costs, name)))
    return calls


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        (BOTH, {"parameters", "flops"}),
        (ObjectiveConfig(cost="flops", target=1), {"flops"}),
        (ObjectiveConfig(max_parameters=1), {"parameters"}),
    ],
)
def test_counted_costs_are_those_of_the_network_alone(objective, names, shared):
    tokens = draw(shared, 4)
    costs = CostMeter(shared, objective, clock=forbidden).measure(tokens)
    assert set(costs) == names
    expected = [
        measure_cost(shared.child_config, shared.space.decode(row), input_shape=(1, 8, 8), num_classes=3) for row in tokens
    ]
    for name, values in costs.items():
        assert values.dtype == np.float64
        assert values.tolist() == [getattr(cost, name) for cost in expected]


def test_auxiliary_head_costs_nothing(images):
    config = MicroConfig(num_layers=1, num_nodes=2, filters=4, aux_head=True)
    shared = SharedWeights(config, images, SharedConfig(batch_size=16, valid_batch_size=8))
    plain = SharedWeights(MicroConfig(num_layers=1, num_nodes=2, filters=4, aux_head=False), images, shared.config)
    tokens = draw(shared, 2)
    both = [CostMeter(each, BOTH).measure(tokens)["parameters"].tolist() for each in (shared, plain)]
    assert both[0] == both[1]


def test_each_architecture_is_counted_once_and_only_as_far_as_needed(shared, counted):
    tokens = draw(shared, 3)
    meter = CostMeter(shared, ObjectiveConfig(max_parameters=10))
    first = meter.measure(np.concatenate([tokens, tokens]))
    assert counted == ["size_of"] * len({tuple(row) for row in tokens.tolist()})
    assert meter.measure(tokens)["parameters"].tolist() == first["parameters"][:3].tolist()
    assert len(counted) == 3
    CostMeter(shared, ObjectiveConfig(max_latency=1.0), clock=ticking([1.0] * 15)).measure(tokens)
    assert len(counted) == 3
    CostMeter(shared, BOTH).measure(tokens[:1])
    assert counted[3:] == ["measure_cost"]


def test_counts_that_were_forgotten_are_counted_again(shared, counted, monkeypatch):
    monkeypatch.setattr(enas.costs, "MOST_COUNTED", 2)
    meter = CostMeter(shared, ObjectiveConfig(max_parameters=10))
    tokens = np.array([[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]])
    first = meter.measure(tokens)["parameters"].tolist()
    assert meter.measure(tokens[1:])["parameters"].tolist() == first[1:]
    assert len(counted) == 3
    assert meter.measure(tokens[:1])["parameters"].tolist() == first[:1]
    assert len(counted) == 4


def test_no_meter_without_a_cost(shared):
    assert make_meter(shared, ObjectiveConfig()) is None
    meter = make_meter(shared, ObjectiveConfig(max_latency=1.0))
    assert meter is not None
    assert meter.names == ("latency",)


# Latency.


def test_latency_is_the_median_of_the_passes_after_warm_up_in_milliseconds(shared):
    meter = CostMeter(
        shared, ObjectiveConfig(max_latency=1.0, latency_repeats=5), clock=ticking([0.009, 0.001, 0.002, 5.0, 0.004])
    )
    assert meter.measure(draw(shared, 2))["latency"].tolist() == pytest.approx([4.0, 4.0])


def test_each_latency_is_measured_once(shared):
    clock = iter([0.0] * WARM_UP + [1.0, 1.5])
    meter = CostMeter(shared, ObjectiveConfig(max_latency=1.0, latency_repeats=1), clock=lambda: next(clock))
    tokens = draw(shared, 1)
    assert meter.measure(np.repeat(tokens, 3, axis=0))["latency"].tolist() == [500.0] * 3
    assert meter.measure(tokens)["latency"].tolist() == [500.0]


def test_networks_are_timed_in_evaluation_mode_on_a_batch_of_the_given_size(shared, monkeypatch):
    seen = []
    child = type(shared.child)
    forward = child.forward

    def spy(self: Any, x: torch.Tensor, architecture: Any, **kwargs: Any) -> Any:
        seen.append((x.shape, self.training, self.architecture == architecture, torch.is_grad_enabled()))
        return forward(self, x, architecture, **kwargs)

    monkeypatch.setattr(child, "forward", spy)
    meter = CostMeter(shared, ObjectiveConfig(max_latency=1.0, latency_batch=7, latency_repeats=2))
    (latency,) = meter.measure(draw(shared, 1))["latency"]
    assert 0 < latency < 10_000
    assert seen == [((7, 1, 8, 8), False, True, False)] * (WARM_UP + 2)


def test_measuring_leaves_the_shared_weights_alone(shared):
    before = {name: value.clone() for name, value in shared.child.state_dict().items()}
    CostMeter(shared, ObjectiveConfig(max_latency=1.0, max_flops=9)).measure(draw(shared, 2))
    assert all(torch.equal(value, before[name]) for name, value in shared.child.state_dict().items())
    assert (shared.num_train_steps, shared.num_evaluations) == (0, 0)
    assert not shared.child.training or all(parameter.grad is None for parameter in shared.child.parameters())


def test_network_that_does_not_fit_in_memory_has_an_infinite_latency(shared, monkeypatch):
    def refuse(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(type(shared.child), "forward", refuse)
    meter = CostMeter(shared, ObjectiveConfig(max_latency=1.0))
    with pytest.warns(RuntimeWarning, match="out of memory, latency is taken for infinite: macro architecture"):
        assert meter.measure(draw(shared, 1))["latency"].tolist() == [np.inf]


def test_state_brings_latencies_back(shared, tmp_path):
    objective = ObjectiveConfig(cost="latency", target=1.0, max_parameters=10**6, latency_repeats=1)
    meter = CostMeter(shared, objective, clock=ticking([0.25]))
    tokens = draw(shared, 3)
    costs = meter.measure(tokens)
    torch.save(meter.state_dict(), tmp_path / "state.pt")
    restored = CostMeter(shared, objective, clock=forbidden)
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    again = restored.measure(tokens)
    assert {name: values.tolist() for name, values in again.items()} == {name: values.tolist() for name, values in costs.items()}
    with pytest.raises(AssertionError, match="nothing is to be timed"):
        restored.measure(draw(shared, 1, seed=5))


def test_state_without_latencies_is_restored(shared):
    state = CostMeter(shared, BOTH).state_dict()
    meter = CostMeter(shared, BOTH)
    meter.load_state_dict(state)
    assert meter.measure(draw(shared, 1))["flops"] > 0


def test_latencies_of_another_device_are_forgotten(shared):
    objective = ObjectiveConfig(max_latency=1.0, latency_repeats=1)
    meter = CostMeter(shared, objective, clock=ticking([0.25]))
    tokens = draw(shared, 1)
    meter.measure(tokens)
    other = CostMeter(shared, objective, clock=ticking([0.5]))
    with pytest.warns(RuntimeWarning, match="latencies measured on cuda are measured again on cpu"):
        other.load_state_dict({**meter.state_dict(), "device": "cuda"})
    assert other.measure(tokens)["latency"].tolist() == [500.0]


def test_costs_are_written_with_all_their_digits():
    assert cost_text("parameters", 1_000_001) == cost_text("flops", 1_000_001.0) == "1,000,001"
    assert cost_text("latency", 1234.5678) == "1,234.568"
    assert cost_text("latency", float("inf")) == "inf"
