"""What architectures cost, for rewards: parameters, FLOPs, and latency measured on this device.

Costs are those of an architecture's own network, at the width and depth of the search, without the auxiliary head. Parameters and
FLOPs are counted (see `enas.children.cost`) and the same everywhere. Latency is the median of repeated forward passes of a batch
of random images, in evaluation mode, in the run's precision and number of threads, the device waited for. It is not reproducible:
a second run measures anew, so with it the same seed gives other rewards. Within a run it is measured once for each architecture
and remembered, in the checkpoint too, so that a resumed run goes on in the same bits.

Not covered: latency on another device than the search's, energy, memory.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from enas.children.base import Child
from enas.children.cost import measure_cost, size_of
from enas.configs import CostName, ObjectiveConfig
from enas.devices import autocast
from enas.failures import describe, none_if_out_of_memory
from enas.seeding import derive_generator
from enas.shared_weights import SharedWeights
from enas.types import FloatArray, IntArray, State

WARM_UP = 3
"""Forward passes before those that are timed: the first ones choose kernels and fill caches."""
UNITS = {"flops": "multiply-adds", "latency": "latency (ms)", "parameters": "parameters"}
"""What the costs are called."""
MOST_COUNTED = 50_000
"""Architectures whose parameters and FLOPs are kept; what is forgotten can be counted again."""


def cost_text(name: CostName, value: float) -> str:
    """Return a cost without its unit: a whole number, or milliseconds to the microsecond."""
    return f"{value:,.3f}" if name == "latency" else f"{value:,.0f}"


class CostMeter:
    """Measures the costs that an objective needs, and no others; each architecture once.

    Args:
        shared: whose space, network, images, device and precision they are of; its weights play no part.
        objective: names the costs.
        clock: seconds; another one is for tests.
    """

    def __init__(
        self, shared: SharedWeights, objective: ObjectiveConfig, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.names: tuple[CostName, ...] = objective.costs
        self._shared = shared
        self._objective = objective
        self._clock = clock
        self._counted: dict[tuple[int, ...], dict[str, float]] = {}
        self._latency: dict[tuple[int, ...], float] = {}

    def measure(self, tokens: IntArray) -> dict[str, FloatArray]:
        """Return the costs of architectures.

        Args: tokens: int64 (N, D).
        Returns: arrays (N,) by name: weights, multiply-adds for one image, milliseconds; an infinite latency for a network that
            does not fit in memory.
        """
        rows = [self._costs_of(tuple(row)) for row in tokens.tolist()]
        return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in self.names}

    def _costs_of(self, row: tuple[int, ...]) -> dict[str, float]:
        architecture = None
        if row not in self._counted:
            architecture = self._shared.space.decode(row)
            self._counted[row] = self._count(architecture)
            if len(self._counted) > MOST_COUNTED:
                del self._counted[next(iter(self._counted))]
        if "latency" in self.names and row not in self._latency:
            self._latency[row] = self._time(architecture or self._shared.space.decode(row))
        costs = self._counted[row]
        return {**costs, "latency": self._latency[row]} if "latency" in self.names else costs

    def _count(self, architecture: Any) -> dict[str, float]:
        config, shape, classes = self._shared.child_config, self._shared.input_shape, self._shared.num_classes
        if "flops" in self.names:
            cost = measure_cost(config, architecture, input_shape=shape, num_classes=classes)
            return {"flops": float(cost.flops), "parameters": float(cost.parameters)}
        if "parameters" in self.names:  # counting FLOPs takes several times as long
            return {"parameters": float(size_of(config, architecture, input_shape=shape, num_classes=classes))}
        return {}

    def _time(self, architecture: Any) -> float:
        """Return the median latency in milliseconds."""
        seconds = none_if_out_of_memory(lambda: self._time_passes(architecture))
        if seconds is None:
            text = f"out of memory, latency is taken for infinite: {describe(self._shared.space, architecture)}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return float("inf")
        return 1000 * float(np.median(seconds))

    @torch.no_grad()
    def _time_passes(self, architecture: Any) -> list[float]:
        shared = self._shared
        network = self._network(architecture)
        generator = derive_generator(0, "latency images")
        examples = network.example(self._objective.latency_batch, input_shape=shared.input_shape, generator=generator)
        if examples.dim() == 4:
            examples = examples.to(memory_format=shared.memory_format)
        examples = examples.to(shared.device)
        seconds = []
        for repeat in range(-WARM_UP, self._objective.latency_repeats):
            wait_for(shared.device)
            start = self._clock()
            with autocast(shared.device, shared.precision):
                network(examples, architecture)
            wait_for(shared.device)
            if repeat >= 0:
                seconds.append(self._clock() - start)
        return seconds

    def _network(self, architecture: Any) -> Child:
        shared = self._shared
        network = shared.child_config.make_child(
            input_shape=shared.input_shape, num_classes=shared.num_classes, architecture=architecture
        )
        network.reset_parameters(derive_generator(0, "latency weights"))
        network.drop_auxiliary_head()
        return network.to(shared.device).to(memory_format=shared.memory_format).eval()

    def state_dict(self) -> State:
        """Return the latencies, which nobody could measure again; the rest is counted anew."""
        return {
            "device": self._shared.device.type,
            "tokens": torch.tensor(list(self._latency), dtype=torch.int32),
            "latency": torch.tensor(list(self._latency.values()), dtype=torch.float64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the latencies; those of another device are forgotten, with a warning."""
        self._latency = {}
        if state["device"] == self._shared.device.type:
            rows = map(tuple, state["tokens"].tolist())
            self._latency = dict(zip(rows, state["latency"].tolist(), strict=True))
        elif len(state["latency"]):
            text = f"latencies measured on {state['device']} are measured again on {self._shared.device.type}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)


def make_meter(shared: SharedWeights, objective: ObjectiveConfig) -> CostMeter | None:
    """Return the meter of an objective; None where it needs no cost."""
    return CostMeter(shared, objective) if objective.costs else None


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was asked for; the CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
