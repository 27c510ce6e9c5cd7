from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys, time
from enas.errors import Stopped
from scripts.ending import run_command
from scripts.processes import run_all

def work(task, stop):
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "err":
        raise ValueError("a task's own mistake")
    if task == "wait":
        open(f"started-{os.getpid()}", "w").close()
        while not stop():
            time.sleep(0.01)
        open(f"saved-{os.getpid()}", "w").close()
        raise Stopped("stopped")
    return task, os.getpid()

def main(stop):
    stop.hint = "go on with the same command"
    done = []
    run_all(work, sys.argv[2:], num_workers=int(sys.argv[1]), stop=stop, on_done=done.append)
    print(sorted(task for task, _ in done), os.getpid() in {process for _, process in done})

if __name__ == "__main__":
    run_command(main)
"""


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Return a starter of the program, in a process group of its own."""
    (tmp_path / "program.py").write_text(PROGRAM)
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        line = [sys.executable, "program.py", *arguments]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(line, cwd=tmp_path, env=environment, text=True, start_new_session=True, **pipes))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def wait_until(is_so: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def exists(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about yet does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(("num_workers", "is_here"), [("1", True), ("2", False)])
def test_all_tasks_are_done_here_or_in_processes_of_their_own(start, num_workers, is_here):
    output, errors = start(num_workers, "a", "b", "c", "d").communicate(timeout=60)
    assert output.strip() == f"['a', 'b', 'c', 'd'] {is_here}", errors


def test_error_of_a_task_is_the_commands(start):
    process = start("2", "a", "err")
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (2, "error: a task's own mistake")


def test_killed_worker_is_a_message_and_no_hang(start):
    process = start("2", "a", "die", "b")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: a worker process was killed, perhaps for want of memory; what is finished or was saved is kept" in errors


def test_interrupt_of_the_whole_group_lets_workers_save(start, tmp_path):
    process = start("2", "wait", "wait", "wait")
    wait_until(lambda: len(list(tmp_path.glob("started-*"))) == 2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "parts to go, what is finished or saved is kept; go on with the same command" in errors
    assert len(list(tmp_path.glob("saved-*"))) == 2


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked up in /proc")
def test_workers_end_with_a_parent_that_is_killed(start, tmp_path):
    process = start("2", "wait", "wait")
    wait_until(lambda: len(list(tmp_path.glob("started-*"))) == 2)
    workers = [int(file.name.removeprefix("started-")) for file in tmp_path.glob("started-*")]
    assert all(map(exists, workers))
    process.kill()
    wait_until(lambda: not any(map(exists, workers)))
    assert not list(tmp_path.glob("saved-*"))
