"""Measure what weight sharing, layouts, number formats, strategies and environments cost, against their limits, on this machine.

    python -m scripts.bench [--pairs 100] [--only macro-shared-step] [--markdown FILE] [--json FILE]
    python -m scripts.bench --compare OLD.json NEW.json
    python -m scripts.bench --growth FILE.svg
    python -m scripts.bench --norms FILE.md
    python -m scripts.bench --profile FILE.md

Each figure is the median of the ratios within interleaved pairs, with the exact 95 % interval of a median. A limit counts as
missed where the interval's lower bound is above it. Exit status: 0; 1 where a limit is missed or, of two files, the new one is
slower; 2 for a mistake in the flags or a file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from scripts.bench_settings import BenchCommand
from scripts.configuration import parse_flags
from scripts.ending import fail

if TYPE_CHECKING:
    import torch

    from enas.benchmark import BenchmarkResult


def main() -> int:
    """Run the command line in `sys.argv`. Returns the exit status."""
    try:
        return run_bench(parse_flags(BenchCommand, BenchCommand(), sys.argv[1:]), Console())
    except ValueError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; of benchmarks, --json and --markdown have those that were complete\n")
        return 130


def run_bench(command: BenchCommand, console: Console) -> int:
    """Do what a command asks for, print the table, write the files. Returns the exit status."""
    from enas.devices import select_device  # PyTorch: not for `--help` and mistakes in flags
    from enas.processor import prepare_processor

    if command.compare is not None:
        from scripts.bench_compare import compare_files

        return compare_files(*command.compare, console)
    prepare_processor(threads=command.threads)
    device = select_device(command.device)
    for name, run_instead in (("norms", _run_norms), ("growth", _run_growth), ("profile", _run_profile)):
        if (file := getattr(command, name)) is not None:
            run_instead(file, command, device, console)
            return 0
    results = _run_benchmarks(command, device, console)
    return 1 if any(result.verdict == "MISSED" for result in results) else 0


def _run_benchmarks(command: BenchCommand, device: torch.device, console: Console) -> Sequence[BenchmarkResult]:
    """Run the benchmarks; after each the files hold those that are complete."""
    from enas.benchmark import BenchmarkResult
    from enas.console import ProgressBar
    from enas.machine import machine_in_words
    from scripts.bench_report import Measurements, print_results, versions, write_markdown
    from scripts.benchmarks import BENCHMARKS
    from scripts.workbench import make_workbench

    machine = machine_in_words(device)
    names = list(dict.fromkeys(command.only or BENCHMARKS))
    results: list[BenchmarkResult] = []
    with ProgressBar(Console(stderr=True), unit="pairs") as bar:

        def show(done: int) -> None:
            complete = len(results) * command.pairs + done
            bar.show(complete, len(names) * command.pairs, text=names[len(results)])

        bench = make_workbench(command, device, on_pair=show)
        for name in names:
            benchmark = BENCHMARKS[name]
            pairs, note = benchmark.measure(bench)
            results.append(
                BenchmarkResult(
                    name=name, what=benchmark.what, unit=benchmark.unit, limit=benchmark.limit, pairs=pairs, note=note
                )
            )
            if command.markdown is not None:
                write_markdown(command.markdown, results, machine)
            if command.json is not None:
                found = Measurements(machine=machine, versions=versions(), settings=command.settings(), results=results)
                found.write(command.json)
    print_results(results, machine, console)
    return results


def _run_norms(norms: Path, command: BenchCommand, device: torch.device, console: Console) -> None:
    """Time BatchNorm on images of several shapes."""
    from enas.machine import machine_in_words
    from scripts.bench_norms import measure_norms, report_norms

    total = len(command.shapes.channels) * len(command.shapes.image_sizes)
    with _progress("BatchNorm", total, unit="shapes") as show:
        results = measure_norms(command.shapes, num_pairs=command.pairs, seed=command.seed, device=device, on_shape=show)
    report_norms(results, machine_in_words(device), norms, console)


def _run_growth(growth: Path, command: BenchCommand, device: torch.device, console: Console) -> None:
    """Time the macro search at several sizes."""
    from enas.machine import machine_in_words
    from scripts.bench_growth import measure_growth, report_growth
    from scripts.workbench import make_workbench

    with _progress("growth", command.points.rounds, unit="rounds") as show:
        curves = measure_growth(make_workbench(command, device), command.points, on_round=show)
    report_growth(curves, machine_in_words(device), growth, console)


def _run_profile(file: Path, command: BenchCommand, device: torch.device, console: Console) -> None:
    """Look where the time of every space's work goes."""
    from enas.machine import machine_in_words
    from enas.profiling import require_profiler
    from scripts.bench_profile import NUM_PROFILED, profile_spaces, report_profile
    from scripts.workbench import make_workbench

    require_profiler(device)
    with _progress("profile", NUM_PROFILED, unit="profiles") as show:
        found = profile_spaces(make_workbench(command, device), on_profile=show)
    report_profile(found, machine_in_words(device), device, file, console)


@contextmanager
def _progress(text: str, total: int, *, unit: str) -> Iterator[Callable[[int], None]]:
    """Within the block, what it gives shows how many units are complete."""
    from enas.console import ProgressBar

    with ProgressBar(Console(stderr=True), unit=unit) as bar:
        yield lambda done: bar.show(done, total, text=text)


if __name__ == "__main__":
    sys.exit(main())
