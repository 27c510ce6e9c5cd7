"""The benchmarks of `scripts.bench`: what each measures, and the limit that its ratio is held against.

A new one is a function from a `Workbench` to pairs and a note, in a file of its subject, and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from controllers import CONTROLLERS
from scripts.bench_controllers import MIXED, controller_batch, controller_step, strategy_update
from scripts.bench_memory import search_memory
from scripts.bench_overhead import overhead
from scripts.bench_recurrent import rnn_plain_loop
from scripts.bench_settings import SpaceName
from scripts.bench_steps import activation_peak, bf16_reward, bf16_step, layout, shared_step
from scripts.workbench import Measured, Workbench


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A comparison and its limit.

    Attributes:
        what: first over second, in a line.
        unit: `ms` or `s` for pairs of seconds, `MiB` for pairs of bytes.
        limit: the largest median ratio that is asked for; None where it is only reported.
        measure: returns the pairs, and a note or nothing.
    """

    what: str
    unit: str
    limit: float | None
    measure: Callable[[Workbench], Measured]


class _InSpace(Protocol):
    """What measures in any space."""

    def __call__(self, bench: Workbench, space: SpaceName) -> Measured: ...


def _of_spaces(
    name: str,
    measure: _InSpace,
    limits: Mapping[SpaceName, float | None],
    *,
    what: str,
    unit: str = "ms",
) -> dict[str, Benchmark]:
    """Return the same comparison in each space that there is a limit, or None, for."""
    return {
        f"{space}-{name}": Benchmark(what=what, unit=unit, limit=limit, measure=partial(measure, space=space))
        for space, limit in limits.items()
    }


def _of_strategy(name: str) -> Benchmark:
    learns_from = "a mixture drawn and a descent / the gradient's pass" if name in MIXED else "propose and update / the rewards"
    return Benchmark(what=learns_from, unit="ms", limit=0.02, measure=partial(strategy_update, name=name))


_REPORTED: Mapping[SpaceName, float | None] = {"macro": None, "micro": None, "nb201": None, "rnn": None}
_ALIKE: Mapping[SpaceName, float | None] = {"macro": 1.03, "micro": 1.03, "nb201": 1.03, "rnn": 1.03}

_IN_SPACES = {
    **_of_spaces(
        "activation-peak",
        activation_peak,
        _ALIKE,
        what="activation peak of a shared step / of the standalone network's",
        unit="MiB",
    ),
    **_of_spaces("bf16-reward", bf16_reward, _REPORTED, what="an architecture's reward in bf16 / in fp32"),
    **_of_spaces("bf16-step", bf16_step, _REPORTED, what="training step in bf16 / in fp32"),
    **_of_spaces(
        "controller-step",
        controller_step,
        {"macro": 0.45, "micro": 0.45, "nb201": 0.5, "rnn": None},
        what="controller step / the same architecture by architecture, in default layout",
    ),
    **_of_spaces(
        "layout",
        layout,
        {"macro": 0.62, "micro": 0.5, "nb201": 0.62},  # a text has no layout
        what="shared step / the same in default layout with PyTorch's BatchNorm",
    ),
    **_of_spaces(
        "overhead",
        overhead,
        {"macro": 0.015, "micro": 0.015, "nb201": 0.015, "rnn": 0.015},
        what="sampling, update, env and data / all of an epoch",
        unit="s",
    ),
    **_of_spaces(
        "shared-step",
        shared_step,
        {"macro": 1.04, "micro": 1.05, "nb201": 1.03, "rnn": 1.05},
        what="shared step / the standalone network's",
    ),
}

BENCHMARKS: dict[str, Benchmark] = dict(
    sorted(
        {
            **_IN_SPACES,
            "controller-batch": Benchmark(
                what="architectures sampled and updated as a batch / one by one",
                unit="ms",
                limit=0.1,
                measure=controller_batch,
            ),
            "rnn-plain-loop": Benchmark(
                what="the cell forwards and backwards / a plain loop", unit="ms", limit=1.0, measure=rnn_plain_loop
            ),
            "search-memory": Benchmark(
                what="peak memory of a search of 500 training steps / of 50", unit="MiB", limit=1.03, measure=search_memory
            ),
            **{f"update-{name}": _of_strategy(name) for name in CONTROLLERS},
        }.items()
    )
)
"""Every benchmark by its name."""
