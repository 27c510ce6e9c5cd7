"""Searches of a few seconds as processes of their own, so that they can be killed, starved and lied to."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
FLAGS = shlex.split(
    "--epochs 5 --threads 1 --device cpu --child.num-layers 3 --child.filters 4 --shared.batch-size 256 "
    "--shared.valid-batch-size 64 --schedule.controller-steps 6 --schedule.architectures-per-step 4 --schedule.candidates 3 "
    "--schedule.checkpoint-minutes 0 --retrain.epochs 2 --retrain.seeds 1 --retrain.random 1 --retrain.batch-size 256"
)


class Commands:
    """Starts commands of this project in a folder of their own."""

    flags = FLAGS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, command: str, *flags: str, wrapped: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
        """Start `python -m scripts.COMMAND` with flags; `wrapped`: the command in front of it."""
        line = [*wrapped, sys.executable, "-P", "-m", f"scripts.{command}", *flags]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(line, cwd=self.folder, text=True, env=environment, **{**pipes, **options})
        self.started.append(process)
        return process

    def run(self, command: str, *flags: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, which must come within two minutes."""
        process = self.start(command, *flags, **options)
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def search(self, *flags: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a small search to its end; later flags override its own."""
        return self.run("search", *FLAGS, *flags, **options)

    @staticmethod
    def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool], *, seconds: float = 60) -> bool:
        """Poll a condition while a process runs; return whether it came true before the process ended."""
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.001)
        return False

    def kill_all(self) -> None:
        """End what still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            if process.stdout is not None and not process.stdout.closed:
                process.communicate()


@pytest.fixture
def commands(tmp_path: Path) -> Any:
    commands = Commands(tmp_path)
    yield commands
    commands.kill_all()


@pytest.fixture(scope="session")
def calm_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small search that nobody disturbed; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("calm")
    done = Commands(folder).search("--run-dir", "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def num_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.fixture
def count_lines() -> Callable[[Path], int]:
    return num_lines


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


@pytest.fixture
def assert_equal_runs() -> Callable[[Path, Path], None]:
    """Return a check that two runs wrote the same answer, architectures, trainings and final state, bit for bit."""
    from enas.checkpoint import load_checkpoint

    def check(first: Path, second: Path) -> None:
        for name in ("architectures.jsonl", "best_architecture.json", "best_architecture.safetensors", "best_architecture.svg"):
            assert (first / name).read_bytes() == (second / name).read_bytes(), name
        results = sorted((first / "retrain").glob("*/result.json"))
        assert results
        for result in results:
            assert (second / result.relative_to(first)).read_bytes() == result.read_bytes()
        states = load_checkpoint(first), load_checkpoint(second)
        assert states[0] is not None
        assert states[1] is not None
        for part in ("position", "parts"):
            assert_equal_states(states[0][part], states[1][part])

    return check
