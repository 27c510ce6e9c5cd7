"""Whether a search's memory grows with its length: the peaks of a long and of a short one, each in a process of its own.

    python -m scripts.bench_memory STEPS DEVICE

prints the peak of one such process, in bytes. The two of a pair run side by side, on a thread each: they are not timed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from enas.configs import DeviceName
from enas.spaces.macro import MacroConfig

if TYPE_CHECKING:
    from scripts.workbench import Measured, Workbench

ROOT = Path(__file__).resolve().parents[1]
STEPS = (500, 50)
"""Training steps of the long and of the short search."""
STEPS_OF_EPOCH = 50
STATUS = Path("/proc/self/status")


def search_memory(bench: Workbench) -> Measured:
    """Return the most bytes that a search of 500 training steps held at once, and one of 50."""
    from enas.measure import Pairs

    rows: list[tuple[int, int]] = []
    for _ in range(bench.num_pairs):
        long, short = peaks_in_processes(STEPS, device=bench.device.type)
        rows.append((long, short))
        bench.on_pair(len(rows))
    pairs = Pairs(first=tuple(long for long, _ in rows), second=tuple(short for _, short in rows))
    growth = (np.array(pairs.first) - np.array(pairs.second)) / (STEPS[0] - STEPS[1])
    return pairs, f"{float(np.median(growth)) / 1024:.2f} KiB a step"


def peaks_in_processes(searches: Iterable[int], *, device: str) -> list[int]:
    """Return the peaks of searches of so many steps, each in a fresh process.

    Raises: subprocess.CalledProcessError where one fails.
    """
    commands = [[sys.executable, "-m", "scripts.bench_memory", str(steps), device] for steps in searches]
    # Sessions of their own, so that Ctrl-C reaches this process alone, which ends the others.
    processes: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
            processes.append(process)
        outputs = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            with process:  # at the end of which its pipe is closed, and it is waited for
                process.kill()
    for process, command in zip(processes, commands, strict=True):
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, command)
    return [int(output.split()[-1]) for output in outputs]


def run_search(steps: int, *, device: DeviceName) -> None:
    """Run a small macro search of so many training steps on digits, with controller steps and checkpoints."""
    from scripts.build import build_search
    from scripts.presets import quickstart

    config = quickstart()
    config = replace(
        config,
        epochs=max(1, steps // STEPS_OF_EPOCH),
        device=device,
        threads=1,
        child=MacroConfig(num_layers=4, filters=8),
        shared=replace(config.shared, batch_size=32, steps_per_epoch=min(steps, STEPS_OF_EPOCH)),
        schedule=replace(config.schedule, controller_steps=2, architectures_per_step=5),
    )
    with tempfile.TemporaryDirectory() as folder, build_search(config, Path(folder) / "run") as run:
        run.search.run()


def peak_resident_bytes() -> int:
    """Return the most bytes that this process has had in memory.

    Linux's own count is taken where there is one: what `getrusage` calls a process's peak begins with that of the process which
    started it, and so would hide whatever is smaller.
    """
    if STATUS.exists() and (found := re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), flags=re.MULTILINE)):
        return 1024 * int(found[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    run_search(int(sys.argv[1]), device=cast(DeviceName, sys.argv[2]))
    print(peak_resident_bytes())
