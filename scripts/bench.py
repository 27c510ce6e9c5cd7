"""Measure what weight sharing, batched sampling, strategies and environments cost, against their limits, on this machine.

    python -m scripts.bench [--pairs 100] [--only shared-step] [--markdown FILE] [--json FILE]

Each figure is the median of the ratios within interleaved pairs, with the exact 95 % interval of a median. A limit counts as
missed where the interval's lower bound is above it. Exit status: 0, 1 where a limit is missed, 2 for a mistake in the flags.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from enas.configs import DeviceName, require
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.rnn import RnnConfig
from scripts.configuration import parse_flags
from scripts.ending import fail

Name = Literal[
    "activation-peak",
    "controller-batch",
    "loop-share",
    "micro-layout",
    "micro-shared-step",
    "rnn-activation-peak",
    "rnn-plain-loop",
    "rnn-shared-step",
    "shared-step",
    "update-categorical",
    "update-darts",
    "update-enas",
    "update-evolution",
    "update-gaea",
    "update-gdas",
    "update-ppo",
    "update-uniform",
]


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Measure what weight sharing, batched sampling, strategies and environments cost; minutes on two cores."""

    only: tuple[Name, ...] = ()
    """Benchmarks to run; none for all."""
    pairs: int = 30
    """Interleaved pairs of each; below 30 for trying out."""
    macro: MacroConfig = field(default_factory=MacroConfig)
    """Size of the macro network."""
    micro: MicroConfig = field(default_factory=MicroConfig)
    """Size of the micro network."""
    mixed: NasBench201Config = field(default_factory=NasBench201Config)
    """Size of the NAS-Bench-201 network, on which strategies train mixtures."""
    recurrent: RnnConfig = field(default_factory=RnnConfig)
    """Size of the recurrent network."""
    batch_size: int = 128
    """Images of a training minibatch of the macro and the NAS-Bench-201 network."""
    micro_batch_size: int = 160
    """Images of a training minibatch of the micro network."""
    recurrent_batch_size: int = 64
    """Sequences of a training minibatch of the recurrent network."""
    bptt: int = 35
    """Tokens of a sequence."""
    vocabulary: int = 10_000
    """Different tokens of the random text."""
    image_size: int = 32
    """Height and width of the random images, in pixels."""
    num_images: int = 45_000
    """How many there are to draw minibatches from."""
    architectures: int = 20
    """Architectures of a controller update."""
    seed: int = 0
    """Everything random follows from it."""
    device: DeviceName = "auto"
    """Where networks run."""
    threads: int | None = None
    """CPU threads; None for PyTorch's choice."""
    markdown: Path | None = None
    """File for the table in Markdown."""
    json: Path | None = None
    """File for every single measurement."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        positive = ("pairs", "batch_size", "micro_batch_size", "recurrent_batch_size", "bptt", "image_size", "architectures")
        for name in positive:
            require(getattr(self, name) >= 1, f"--{name.replace('_', '-')}", "at least 1", getattr(self, name))
        require(self.vocabulary >= 2, "--vocabulary", "at least 2", self.vocabulary)
        batch = max(self.batch_size, self.micro_batch_size)
        require(self.num_images >= batch, "--num-images", f"at least {batch}, a batch", self.num_images)
        require(self.seed >= 0, "--seed", "at least 0", self.seed)
        require(self.threads is None or self.threads >= 1, "--threads", "at least 1", self.threads)
        for name in ("markdown", "json"):
            file = getattr(self, name)
            require(
                file is None or (file.parent.is_dir() and not file.is_dir()), f"--{name}", "a file in an existing folder", file
            )


def main() -> int:
    """Run the command line in `sys.argv`. Returns the exit status."""
    try:
        return run_bench(parse_flags(BenchCommand, BenchCommand(), sys.argv[1:]), Console())
    except ValueError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing is written\n")
        return 130


def run_bench(command: BenchCommand, console: Console) -> int:
    """Run the benchmarks, print their table, write the files that are asked for. Returns the exit status."""
    import torch  # not for `--help` and mistakes in flags

    from enas.benchmark import BenchmarkResult
    from enas.console import ProgressBar
    from enas.devices import select_device
    from enas.machine import machine_in_words
    from scripts.bench_report import print_results, write_json, write_markdown
    from scripts.benchmarks import BENCHMARKS
    from scripts.workbench import Workbench, random_images, random_text

    if command.threads is not None:
        torch.set_num_threads(command.threads)
    device = select_device(command.device)
    names = list(dict.fromkeys(command.only or BENCHMARKS))
    results: list[BenchmarkResult] = []
    with ProgressBar(Console(stderr=True), unit="pairs") as bar:

        def show(done: int) -> None:
            complete = len(results) * command.pairs + done
            bar.show(complete, len(names) * command.pairs, text=names[len(results)])

        bench = Workbench(
            macro=command.macro,
            micro=command.micro,
            mixed=command.mixed,
            recurrent=command.recurrent,
            data=random_images(command.num_images, command.image_size, seed=command.seed, device=device),
            text=random_text(
                command.recurrent_batch_size, command.bptt, vocabulary=command.vocabulary, seed=command.seed, device=device
            ),
            batch_size=command.batch_size,
            micro_batch_size=command.micro_batch_size,
            recurrent_batch_size=command.recurrent_batch_size,
            num_architectures=command.architectures,
            num_pairs=command.pairs,
            seed=command.seed,
            device=device,
            on_pair=show,
        )
        for name in names:
            benchmark = BENCHMARKS[name]
            pairs, note = benchmark.measure(bench)
            outcome = BenchmarkResult(
                name=name, what=benchmark.what, unit=benchmark.unit, limit=benchmark.limit, pairs=pairs, note=note
            )
            results.append(outcome)
    machine = machine_in_words(device)
    print_results(results, machine, console)
    if command.markdown is not None:
        write_markdown(command.markdown, results, machine)
    if command.json is not None:
        settings = {name: value for name, value in asdict(command).items() if name not in ("markdown", "json")}
        write_json(command.json, results, machine, settings)
    return 1 if any(result.verdict == "MISSED" for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
