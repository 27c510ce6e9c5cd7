"""SIGKILL at random instants, then --resume: the run must end in the same bits as one that nobody disturbed."""

from __future__ import annotations

import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from enas.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
FLAGS = shlex.split(
    "--epochs 5 --threads 1 --child.num-layers 3 --child.filters 4 --shared.batch-size 256 --shared.valid-batch-size 64 "
    "--schedule.controller-steps 6 --schedule.architectures-per-step 4 --schedule.candidates 3 --schedule.checkpoint-minutes 0 "
    "--retrain.epochs 2 --retrain.seeds 1 --retrain.random 1 --retrain.batch-size 256"
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")]


def start(*flags: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "scripts.search", *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after(process: subprocess.Popen[bytes], file: Path, *, num_lines: int, delay: float) -> bool:
    """Kill a search once a file holds some lines and a moment has passed; return whether it was still running."""
    while process.poll() is None:
        if file.exists() and file.read_bytes().count(b"\n") >= num_lines:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.002)
    return False


def assert_equal_states(first: Any, second: Any) -> None:
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal_states(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal_states(one, other)
    else:
        assert first == second


@pytest.mark.parametrize("strategy", ["enas", "evolution"])
def test_three_kills_at_random_instants_leave_no_trace(strategy: str, tmp_path: Path) -> None:
    flags = [*FLAGS, "--strategy", strategy]
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert start(*flags, "--run-dir", str(calm)).wait() == 0
    num_rows = (calm / "architectures.jsonl").read_bytes().count(b"\n")

    rng = random.Random(20261122)
    instants = sorted(rng.randrange(1, num_rows - 8) for _ in range(3))
    process = start(*flags, "--run-dir", str(killed))
    for num_lines in instants:
        assert kill_after(process, killed / "architectures.jsonl", num_lines=num_lines, delay=rng.uniform(0, 0.02))
        process = start("--resume", str(killed))
    assert process.wait() == 0

    for name in ("architectures.jsonl", "best_architecture.json", "best_architecture.safetensors", "best_architecture.svg"):
        assert (killed / name).read_bytes() == (calm / name).read_bytes(), name
    for result in sorted((calm / "retrain").glob("*/result.json")):
        assert (killed / "retrain" / result.parent.name / "result.json").read_bytes() == result.read_bytes()
    calm_state, killed_state = load_checkpoint(calm), load_checkpoint(killed)
    assert calm_state is not None
    assert killed_state is not None
    for part in ("position", "parts"):
        assert_equal_states(calm_state[part], killed_state[part])
