"""Measure architectures under the shared weights of a run, finished or under way, which is only read.

`--split valid` measures as the search's own ranking does. Results on `--split test` must not be used to choose between
architectures, runs or settings: what was chosen by them has no honest test result left.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from enas.configs import DeviceName, require
from enas.datasets import check_source
from enas.metrics import ACCURACY, METRICS, Metric
from scripts.architectures import read_written
from scripts.configuration import load_other, program
from scripts.ending import run_command
from scripts.folders import check_writable
from scripts.search_config import SearchConfig

if TYPE_CHECKING:
    from enas.shared_weights import SharedWeights


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Measure architectures under the shared weights of a run, which is only read.

    Results on the test split must not be used to choose between architectures, runs or settings.
    """

    run: Path
    """Folder of the run: its newest checkpoint's weights, its data and how it measures."""
    architecture: tuple[str, ...]
    """One or more of: a published one (darts-rnn, darts-v1, darts-v2, enas-macro, enas-micro, enas-rnn), a run folder, a
    best_architecture.json, a text file, an authors' arc string, a list of tokens or a .json file with one or several."""
    split: Literal["valid", "test"] = "valid"
    """What is measured on, as a whole; test only to report, never to choose."""
    json: Path | None = None
    """File that the numbers are also written to; None for none."""
    data_dir: Path | None = None
    """Folder that data sets are found in, or downloaded to; None for the run's."""
    device: DeviceName | None = None
    """Where networks run; None for the run's."""
    threads: int | None = None
    """CPU threads; None for the run's number, on which the bits depend."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(len(self.architecture) >= 1, "architecture", "at least one", "none")
        require(self.threads is None or self.threads >= 1, "threads", "at least 1", self.threads)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the shared weights say of one architecture.

    Attributes:
        name: how the user named it.
        tokens: of the run's space.
        accuracy: fraction of the images, or of a text's tokens, that is right.
        loss: mean cross-entropy, nats; not finite where the network's output is not.
        parameters, flops: of its standalone network; flops are multiply-adds for one image, or one token.
        num_examples: how many images, or tokens, it was measured on.
        metric: how results on the data are told.
    """

    name: str
    tokens: tuple[int, ...]
    accuracy: float
    loss: float
    parameters: int
    flops: int
    num_examples: int
    metric: Metric

    @property
    def value(self) -> float:
        """The metric."""
        return self.metric.of(accuracy=self.accuracy, loss=self.loss)

    def cells(self) -> dict[str, str]:
        """Return its numbers as the columns of a table, by their headings."""
        return {
            self.metric.name: self.metric.text(self.value),
            "loss (nats)": f"{self.loss:.4f}",
            "parameters": f"{self.parameters:,}",
            "multiply-adds": f"{self.flops:,}",
            f"{self.metric.example}s": f"{self.num_examples:,}",
        }

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON, which knows no NaN."""
        numbers = {
            "accuracy": self.accuracy,
            "loss": self.loss,
            self.metric.name: self.value,
            "parameters": self.parameters,
            "flops": self.flops,
            f"num_{self.metric.example}s": self.num_examples,
        }
        plain = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {"name": self.name, "tokens": list(self.tokens), **plain}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command line that was found to be in order.

    Attributes:
        config: the run's, with the device, data folder and threads of the command.
        architectures: name and member of the run's space, in the order given.
    """

    command: EvaluateCommand
    config: SearchConfig
    architectures: Sequence[tuple[str, Any]]


def main() -> None:
    """Run the command line in `sys.argv`."""
    run_command(lambda _: run_evaluate(parse_evaluate(sys.argv[1:])))


def parse_evaluate(arguments: Sequence[str]) -> Request:
    """Read a command line, the run's settings and the architectures, without PyTorch. Raises ValueError naming the mistake."""
    command = tyro.cli(EvaluateCommand, prog=program(), args=list(arguments), config=(tyro.conf.FlagConversionOff,))
    config = load_other("--run", command.run)
    config = replace(
        config,
        data_dir=config.data_dir if command.data_dir is None else command.data_dir,
        device=config.device if command.device is None else command.device,
        threads=config.threads if command.threads is None else command.threads,
    )
    space = config.child.make_space()
    written = [one for given in command.architecture for one in read_written(given)]
    architectures = [(one.name, one.member_of(space)) for one in written]
    check_source(config.data, config.data_dir, text=config.text, **asdict(config.split))
    if command.json is not None:
        _check_target(command.json, command.run)
    return Request(command=command, config=config, architectures=architectures)


def _check_target(file: Path, run: Path) -> None:
    if file.is_dir() or not file.parent.is_dir():
        raise ValueError(f"--json: expected a file in a folder that exists, got {file}")
    if file.resolve().is_relative_to(run.resolve()):
        raise ValueError(f"--json: expected a file outside the run's folder, which is only read, got {file}")
    check_writable(file.parent, flag="--json", folder=file)


def run_evaluate(request: Request) -> None:
    """Measure, print the table to standard output, write the file that was asked for."""
    from enas.atomic_file import write_atomically
    from enas.datasets import load_data
    from enas.processor import prepare_processor
    from scripts.weights import read_state, restore_shared_weights

    command, config = request.command, request.config
    data = load_data(config.data, data_dir=config.data_dir, text=config.text, **asdict(config.split))
    state = read_state("--run", command.run)
    try:
        prepare_processor(threads=config.threads, device=config.device, precision=config.precision)
        shared = restore_shared_weights(config, state, data, split=command.split)
    except ValueError as error:
        raise ValueError(f"--run {command.run}: {error}") from error
    rows = measure(shared, request.architectures, METRICS[data.metric])
    epoch = state["position"]["epoch"]
    _print_table(rows, title=f"{command.run} after {epoch} epochs, whole {command.split} split, in the order given")
    if command.json is not None:
        record = {
            "run": str(command.run),
            "epoch": epoch,
            "split": command.split,
            "architectures": [row.to_json() for row in rows],
        }
        write_atomically(command.json, json.dumps(record, indent=2) + "\n")


def measure(shared: SharedWeights, architectures: Sequence[tuple[str, Any]], metric: Metric = ACCURACY) -> list[Measurement]:
    """Measure named architectures on the whole validation split of shared weights, in their order; told by a metric."""
    from enas.children.cost import measure_cost

    evaluation = shared.evaluate_all([architecture for _, architecture in architectures])
    shape, classes = shared.input_shape, shared.num_classes
    costs = [measure_cost(shared.child_config, one, input_shape=shape, num_classes=classes) for _, one in architectures]
    return [
        Measurement(
            name=name,
            tokens=shared.space.encode(architecture),
            accuracy=accuracy,
            loss=loss,
            parameters=cost.parameters,
            flops=cost.flops,
            num_examples=evaluation.num_examples,
            metric=metric,
        )
        for (name, architecture), accuracy, loss, cost in zip(
            architectures, evaluation.accuracy.tolist(), evaluation.loss.tolist(), costs, strict=True
        )
    ]


def _print_table(rows: Sequence[Measurement], *, title: str) -> None:
    table = Table(title=Text(title), title_justify="left")
    table.add_column("architecture", overflow="fold")
    for heading in rows[0].cells():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(row.name), *row.cells().values())
    Console().print(table)


if __name__ == "__main__":
    main()
