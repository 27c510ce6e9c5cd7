"""How the time of an epoch of the macro search grows with layers, filters, minibatches and architectures of a controller step.

An epoch is so many shared steps and so many controller steps. A step of each is timed at every size, in rounds over all sizes, so
that a machine whose speed drifts slows all alike; medians over the rounds count. All sizes run the same architectures: the tokens
of those of fewer layers are the first tokens of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from enas.atomic_file import write_atomically
from enas.growth import Curve, save_growth
from enas.measure import no_collection, seconds
from enas.report import markdown_table
from enas.seeding import derive_seed
from enas.spaces.macro import MacroConfig
from enas.spaces.sampling import sample_uniform
from enas.types import IntArray, PathBatch
from scripts.bench_report import print_table
from scripts.bench_settings import GrowthPoints
from scripts.workbench import Workbench

NUM_PATHS = 3
"""Shared steps that a round takes the mean of, since architectures differ in what they cost."""
AXES = {
    "layers": "layers",
    "filters": "filters",
    "batch_size": "images of a minibatch",
    "architectures": "architectures of a step",
}
"""Names of the axes, by what is varied along them."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is varied, one at a time.

    Attributes:
        layers, filters: of the network.
        batch_size: of a training minibatch.
        architectures: of a controller step.
    """

    layers: int
    filters: int
    batch_size: int
    architectures: int


class _Network:
    """The macro search's network and controller at one size."""

    def __init__(self, bench: Workbench, size: Size) -> None:
        macro = bench.spaces["macro"]
        assert isinstance(macro.child, MacroConfig)
        child = replace(macro.child, num_layers=size.layers, filters=size.filters)
        sized = replace(macro, child=child, shared=replace(macro.shared, batch_size=size.batch_size))
        bench = replace(bench, spaces={**bench.spaces, "macro": sized})
        self._size, self._device = size, bench.device
        self._shared, self._controller = bench.weights("macro"), bench.controller("macro")

    def train(self, tokens: IntArray) -> float:
        """Return the mean seconds of a shared step. Args: tokens: (N, D) of a network of at least as many layers."""
        rows = self._own(tokens[:NUM_PATHS])
        paths = [PathBatch(tokens=row[None], loss_weights=np.ones(1)) for row in rows]
        with no_collection():
            return seconds(lambda: [self._shared.train_step(path) for path in paths], self._device) / len(paths)

    def control(self, tokens: IntArray) -> float:
        """Return the seconds of a controller step that proposes and learns as ever, but measures the given architectures."""
        rows = self._own(tokens[: self._size.architectures])

        def step() -> None:
            rollout = self._controller.propose(len(rows))
            measured = self._shared.evaluate([self._shared.space.decode(row) for row in rows])
            self._controller.update(rollout, measured.accuracy)

        with no_collection():
            return seconds(step, self._device)

    def _own(self, tokens: IntArray) -> IntArray:
        return tokens[:, : len(self._shared.space.decisions)]


class _Rounds:
    """The seconds of each step that a set of sizes needs, round after round.

    A shared step is timed once for all numbers of architectures, a controller step once for all sizes of the training minibatch.
    """

    def __init__(self, bench: Workbench, base: Size, sizes: Sequence[Size]) -> None:
        self._base = base
        self._trained: dict[Size, list[float]] = {self._of_training(size): [] for size in sizes}
        self._controlled: dict[Size, list[float]] = {self._of_control(size): [] for size in sizes}
        self._networks = {size: _Network(bench, size) for size in {**self._trained, **self._controlled}}
        self._space = MacroConfig(num_layers=max(size.layers for size in self._networks)).make_space()
        self._num_drawn = max(NUM_PATHS, *(size.architectures for size in self._networks))
        self._rng = np.random.default_rng(derive_seed(bench.seed, "growth"))

    def _of_training(self, size: Size) -> Size:
        return replace(size, architectures=self._base.architectures)

    def _of_control(self, size: Size) -> Size:
        return replace(size, batch_size=self._base.batch_size)

    def run(self) -> None:
        """Time every step once."""
        tokens = sample_uniform(self._space, self._num_drawn, self._rng)
        for size, network in self._networks.items():
            for spent, step in ((self._trained, network.train), (self._controlled, network.control)):
                if size in spent:
                    spent[size].append(step(tokens))

    def medians(self, size: Size) -> tuple[float, float]:
        """Return the seconds of a shared step and of a controller step; the first round warmed up, and does not count."""
        trained, controlled = self._trained[self._of_training(size)], self._controlled[self._of_control(size)]
        return float(np.median(trained[1:])), float(np.median(controlled[1:]))


def measure_growth(bench: Workbench, points: GrowthPoints, *, on_round: Callable[[int], None] = lambda _: None) -> list[Curve]:
    """Return a curve for each of `AXES`. Args: on_round: told how many rounds are complete."""
    macro = bench.spaces["macro"]
    assert isinstance(macro.child, MacroConfig)
    base = Size(
        layers=macro.child.num_layers,
        filters=macro.child.filters,
        batch_size=macro.shared.batch_size,
        architectures=bench.num_architectures,
    )
    lines = lines_of(base, points)
    rounds = _Rounds(bench, base, [size for line in lines.values() for size in line])
    for index in range(1 + points.rounds):
        rounds.run()
        on_round(index)
    controller_steps = macro.schedule.controller_steps
    curves = []
    for name, line in lines.items():
        steps = [(len(bench.data.train) // size.batch_size, controller_steps) for size in line]
        parts = [np.multiply(counts, rounds.medians(size)) for counts, size in zip(steps, line, strict=True)]
        training, controller = np.array(parts).T.tolist()
        seconds_of = {"epoch": np.sum(parts, axis=1).tolist(), "training": training, "controller": controller}
        curves.append(Curve(axis=AXES[name], sizes=[getattr(size, name) for size in line], seconds=seconds_of))
    return curves


def lines_of(base: Size, points: GrowthPoints) -> dict[str, list[Size]]:
    """Return the sizes along each axis, by what is varied; all the rest is the base's."""
    values = {
        "layers": points.layers,
        "filters": points.filters,
        "batch_size": points.batch_sizes,
        "architectures": points.architectures,
    }
    return {name: [replace(base, **{name: value}) for value in sorted(values[name])] for name in AXES}


def report_growth(curves: Sequence[Curve], machine: str, file: Path, console: Console) -> None:
    """Print the numbers and the exponents; write the picture, and beside it the same in Markdown."""
    parts = tuple(curves[0].seconds)
    headings = ("", *(f"{part}, s" for part in parts))
    rows = []
    for curve in curves:
        for index, size in enumerate(curve.sizes):
            rows.append((f"{size:,} {curve.axis}", *(_seconds_text(curve.seconds[part][index]) for part in parts)))
        rows.append((f"exponent, {curve.axis}", *(f"{curve.exponent(part):z.2f}" for part in parts)))
    print_table(headings, rows, machine, console)
    save_growth(curves, file)
    text = [f"![seconds an epoch]({file.name})", "", *markdown_table(headings, rows), "", f"{machine}.", ""]
    write_atomically(file.with_suffix(".md"), "\n".join(text))


def _seconds_text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
