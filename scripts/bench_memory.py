"""Whether a search's memory grows with its length: the peaks of a long and of a short one, each in a process of its own.

    python -m scripts.bench_memory STEPS DEVICE THREADS

prints the peak of one such process, in bytes.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
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
    for index in range(bench.num_pairs):
        order = STEPS if index % 2 == 0 else STEPS[::-1]
        peaks = {steps: peak_in_process(steps, device=bench.device.type) for steps in order}
        rows.append((peaks[STEPS[0]], peaks[STEPS[1]]))
        bench.on_pair(len(rows))
    pairs = Pairs(first=tuple(long for long, _ in rows), second=tuple(short for _, short in rows))
    growth = (np.array(pairs.first) - np.array(pairs.second)) / (STEPS[0] - STEPS[1])
    return pairs, f"{float(np.median(growth)) / 1024:.2f} KiB a step"


def peak_in_process(steps: int, *, device: str) -> int:
    """Return the peak of a search in a fresh process. Raises subprocess.CalledProcessError where that fails."""
    import torch

    command = [sys.executable, "-m", "scripts.bench_memory", str(steps), device, str(torch.get_num_threads())]
    # A session of its own, so that Ctrl-C reaches this process alone, which ends the other one.
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, start_new_session=True)
    return int(done.stdout.split()[-1])


def run_search(steps: int, *, device: DeviceName, threads: int) -> None:
    """Run a small macro search of so many training steps on digits, with controller steps and checkpoints."""
    from scripts.build import build_search
    from scripts.presets import quickstart

    config = quickstart()
    config = replace(
        config,
        epochs=max(1, steps // STEPS_OF_EPOCH),
        device=device,
        threads=threads,
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
    run_search(int(sys.argv[1]), device=cast(DeviceName, sys.argv[2]), threads=int(sys.argv[3]))
    print(peak_resident_bytes())
