"""What a piece of work spends its time on, by kind of operator: PyTorch's profiler, summed up.

On a CPU an operator's time is its own, without that of operators that it calls; the rest of the work's time is Python's and
autograd's. On an accelerator it is that of the kernels that it started, and the rest of the time the device waits for more.

Kinds are told by names. Where no gradient is asked for, the project's own BatchNorm and poolings have none: what they are made of
counts, for the most part as arithmetic, an average as a convolution.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record

from enas.measure import Side, no_collection, seconds

ARITHMETIC, REST = "arithmetic", "rest"
KINDS: Mapping[str, re.Pattern[str]] = {
    "optimizer": re.compile(r"^Optimizer\.|_foreach_"),
    "convolution": re.compile(r"conv|_ByColumns", re.IGNORECASE),
    "BatchNorm": re.compile(r"batch_?norm", re.IGNORECASE),
    "pooling": re.compile(r"pool|_Average", re.IGNORECASE),
    "matrix product": re.compile(r"mm$|linear|matmul|lstm", re.IGNORECASE),
    "copy": re.compile(r"copy|clone|cat$|stack|fill|zero|gather|index|pad|embedding"),
}
"""Names of operators by kind. The outermost one that is of a kind counts for all within: a BatchNorm's products are BatchNorm."""
NUM_RECORDINGS = 3
_OPERATOR = "aten::"
_ACTIVITIES = {"cpu": ProfilerActivity.CPU, "cuda": ProfilerActivity.CUDA}
_NO_KERNEL = ("Memcpy", "Memset")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time of a piece of work goes.

    Attributes:
        seconds: of the work, without the profiler.
        kinds: seconds by kind, those of `KINDS` and ARITHMETIC (all other operators), and REST: what is left of `seconds`, 0 or
            more, which on an accelerator is the time that it was idle. On a CPU the others hold what the profiler costs, and may
            be more than `seconds` together.
        num_calls: kernels that an accelerator ran; on a CPU, operators that Python or autograd called, not those that they call.
    """

    seconds: float
    kinds: Mapping[str, float]
    num_calls: int


def profile(work: Side, device: torch.device) -> Profile:
    """Run something several times: to warm up, for its time, and for where the time goes.

    The least of some recordings counts: what the profiler writes down takes room from memory that the work would use again, so
    that now and then a recording is mostly page faults.

    Raises: ValueError where PyTorch's profiler does not see what the device does (MPS).
    """
    activities = {ProfilerActivity.CPU, require_profiler(device)}
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else each recording's start and end are told on stderr
    seconds(work, device)
    with no_collection():
        spent = seconds(work, device)
    recordings: list[Profile] = []
    for _ in range(NUM_RECORDINGS):
        with no_collection(), record(activities=sorted(activities, key=str)) as recorded:
            seconds(work, device)
        recordings.append(summarise(recorded.events() or (), spent, device))
        del recorded  # it is in cycles, and holds the memory until they are collected
    return min(recordings, key=lambda one: sum(one.kinds.values()))


def require_profiler(device: torch.device) -> ProfilerActivity:
    """Return what the profiler calls the device's work. Raises ValueError where it does not see it."""
    activity = _ACTIVITIES.get(device.type)
    if activity is None:
        raise ValueError(f"device: expected one that PyTorch's profiler sees ({', '.join(_ACTIVITIES)}), got {device.type}")
    return activity


def summarise(events: Iterable[Any], spent: float, device: torch.device) -> Profile:
    """Sum up what the profiler recorded.

    Args: events: `torch.autograd.profiler_util.FunctionEvent`. spent: seconds of the work, without the profiler.
    """
    on_cpu = device.type == "cpu"
    kinds = dict.fromkeys((*KINDS, ARITHMETIC), 0.0)
    spans: list[tuple[float, float]] = []
    num_operators = num_kernels = 0
    for event in events:
        if event.device_type.name != "CPU":
            if event.is_user_annotation:
                continue  # a named range, which is no work of the device's
            spans.append((event.time_range.start, event.time_range.end))
            num_kernels += not event.name.startswith(_NO_KERNEL)
        elif (kind := _kind_of(event)) is not None:
            kinds[kind] += 1e-6 * (event.self_cpu_time_total if on_cpu else event.self_device_time_total)
            num_operators += _is_operator(event) and not (event.cpu_parent and _is_operator(event.cpu_parent))
    busy = sum(kinds.values()) if on_cpu else 1e-6 * covered(spans)
    kinds[REST] = max(0.0, spent - busy)
    return Profile(seconds=spent, kinds=kinds, num_calls=num_operators if on_cpu else num_kernels)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return how much of a line its pieces, given by start and end, cover together."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _is_operator(event: Any) -> bool:
    return bool(event.name.startswith(_OPERATOR))


def _kind_of(event: Any) -> str | None:
    """Return the kind of the outermost event around this one that is of any; None for what is no operator and within none."""
    kind = ARITHMETIC if _is_operator(event) else None
    while event is not None:
        kind = next((name for name, pattern in KINDS.items() if pattern.search(event.name)), kind)
        event = event.cpu_parent
    return kind
