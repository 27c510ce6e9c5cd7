"""What training steps and rewards of each space spend their time on, as a search takes them and in the plain way.

The plain way is PyTorch's default layout with its own BatchNorm, architecture by architecture. A look at where the time goes,
with no interval: what is held against limits are the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import get_args

import torch
from rich.console import Console

from enas.atomic_file import write_atomically
from enas.profiling import REST, Profile, profile
from enas.report import markdown_table
from scripts.bench_report import print_table
from scripts.bench_settings import SpaceName
from scripts.workbench import Workbench

NUM_STEPS = 3
"""Training steps that a profile is the mean of, since architectures differ in what they cost."""
NUM_REWARDS = 5
"""Architectures that rewards are profiled of, unless a controller step has fewer."""
NUM_PROFILED = 2 * len(get_args(SpaceName))
"""How many comparisons there are: of a training step and of a reward in each space."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The same work done in two ways.

    Attributes:
        what: the space and the work.
        plain, own: in the plain way, and as a search does it: all of `count` times.
        count: how often the work was done.
        num_examples: images, or tokens of a text, of one time.
    """

    what: str
    plain: Profile
    own: Profile
    count: int
    num_examples: int

    def rows(self, device: torch.device) -> list[tuple[str, str, str]]:
        """Return the lines of its table: name, in the plain way, as a search does it; times are of one time."""
        on_cpu = device.type == "cpu"
        both = (self.plain, self.own)

        def row(name: str, text: Callable[[Profile], str]) -> tuple[str, str, str]:
            return name, text(both[0]), text(both[1])

        def of_kind(kind: str) -> tuple[str, str, str]:
            name = kind if kind != REST else "between operators" if on_cpu else "device idle"
            return row(name, lambda one: f"{1e3 * one.kinds[kind] / self.count:.1f} ms ({one.kinds[kind] / one.seconds:.0%})")

        return [
            row("all", lambda one: f"{1e3 * one.seconds / self.count:.1f} ms"),
            *(of_kind(kind) for kind in self.own.kinds if any(one.kinds[kind] for one in both)),
            row("operators" if on_cpu else "kernels", lambda one: f"{one.num_calls / self.count:,.0f}"),
            row("examples a second", lambda one: f"{self.count * self.num_examples / one.seconds:,.0f}"),
        ]


def profile_spaces(bench: Workbench, *, on_profile: Callable[[int], None] = lambda _: None) -> list[Comparison]:
    """Profile every space. Args: on_profile: told how many comparisons are complete. Raises: see `enas.profiling.profile`."""
    found: list[Comparison] = []
    for space in get_args(SpaceName):
        for comparison in _of_space(bench, space):
            found.append(comparison)
            on_profile(len(found))
    return found


def _of_space(bench: Workbench, space: SpaceName) -> Iterator[Comparison]:
    own, plain = bench.weights(space), bench.weights(space, memory_format=torch.contiguous_format)
    config = bench.spaces[space].shared
    drawn = bench.paths(own.space)
    paths = list(islice(drawn, NUM_STEPS))
    architectures = [own.space.decode(path.tokens[0]) for path in islice(drawn, min(NUM_REWARDS, bench.num_architectures))]
    length = bench.text.train.bptt if own.child_config.reads == "text" else 1
    yield Comparison(
        what=f"{space}, training step",
        plain=profile(lambda: [plain.train_step(path) for path in paths], bench.device),
        own=profile(lambda: [own.train_step(path) for path in paths], bench.device),
        count=NUM_STEPS,
        num_examples=config.batch_size * length,
    )
    yield Comparison(
        what=f"{space}, an architecture's reward",
        plain=profile(lambda: [plain.evaluate([one]) for one in architectures], bench.device),
        own=profile(lambda: own.evaluate(architectures), bench.device),
        count=len(architectures),
        num_examples=config.valid_batch_size * length,
    )


def report_profile(found: Sequence[Comparison], machine: str, device: torch.device, file: Path, console: Console) -> None:
    """Print a table a comparison, write the same in Markdown."""
    text = []
    for one in found:
        headings = (one.what, "plain", "as a search does it")
        rows = one.rows(device)
        print_table(headings, rows, machine, console)
        text += [*markdown_table(headings, rows), ""]
    write_atomically(file, "\n".join([*text, f"{machine}. Plain: default layout, PyTorch's BatchNorm, one by one.", ""]))
