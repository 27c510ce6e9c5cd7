"""Searches of a few seconds as processes of their own, so that they can be killed, starved and lied to.

Most of them are forked from a process that has PyTorch loaded already, which takes longer than what such a search does. The
undisturbed run that others are compared with is a fresh `python -m`, and so is whatever a test wraps or starts as such.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.forkserver import ensure_running
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


LOADED = [
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "sklearn.datasets",
    "torch._dynamo",  # which the first optimizer loads
    "torch.utils.tensorboard",
    *(f"scripts.{name}" for name in ("build", "configuration", "ending", "finish", "presets", "weights")),
]
FORKED = """
import os, runpy, sys
os.chdir(folder)
for number, file in ((1, output), (2, errors)):
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
sys.argv = [command, *flags]
runpy.run_module(f"scripts.{command}", run_name="__main__", alter_sys=True)
"""


class Forked:
    """A command in a process that has PyTorch loaded; to be used like `subprocess.Popen`, with what it says in files."""

    def __init__(self, context: Any, command: str, flags: Sequence[str], folder: Path, files: tuple[Path, Path]) -> None:
        self.args = [command, *flags]
        self.files = files
        names = {"folder": str(folder), "command": command, "flags": flags, "output": str(files[0]), "errors": str(files[1])}
        self._process = context.Process(target=exec, args=(FORKED, names))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        output, errors = (file.read_text() if file.exists() else "" for file in self.files)
        return output, errors


ONE_CHECKPOINT = ("--schedule.checkpoint-minutes", "60")
"""Saves at the end alone, which takes half the time of a checkpoint after each step."""


class Commands:
    """Starts commands of this project in a folder of their own.

    Args: context: of `multiprocessing`, that forks them; None: each is a fresh process.
    """

    flags = FLAGS
    one_checkpoint = ONE_CHECKPOINT

    def __init__(self, folder: Path, context: Any = None, said: Path | None = None) -> None:
        self.folder = folder
        self.started: list[Any] = []
        self._context = context
        self._said = said

    def start(self, command: str, *flags: str, wrapped: Sequence[str] = (), fresh: bool = False, **options: Any) -> Any:
        """Start `python -m scripts.COMMAND` with flags; `wrapped`: the command in front of it, which makes it a fresh one."""
        if not (self._context is None or self._said is None or wrapped or fresh or options):
            files = [self._said / f"{len(self.started)}.{name}" for name in ("output", "errors")]
            self.started.append(Forked(self._context, command, flags, self.folder, (files[0], files[1])))
            return self.started[-1]
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
    def wait_for(process: Any, condition: Callable[[], bool], *, seconds: float = 60) -> bool:
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
            if isinstance(process, Forked) or (process.stdout is not None and not process.stdout.closed):
                process.communicate()


@pytest.fixture(scope="session")
def forking() -> Any:
    """Return what forks commands; None where the system cannot."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        ensure_running()
    return context


@pytest.fixture
def commands(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, forking: Any) -> Any:
    commands = Commands(tmp_path, forking, tmp_path_factory.mktemp("said"))
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
