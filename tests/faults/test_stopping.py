"""Ctrl-C and SIGTERM: the state is saved within a step and five seconds; a second signal ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")]

LONG = ["--schedule.checkpoint-minutes", "60", "--epochs", "8"]
"""No checkpoint but the one that a signal asks for."""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_in_a_search_saves_and_exits(number: int, status: int, commands: Any, assert_equal_runs: Any, count_lines: Any):
    assert commands.search(*LONG, "--run-dir", "calm").returncode == 0
    stopped = commands.folder / "stopped"
    process = commands.start("search", *commands.flags, *LONG, "--run-dir", "stopped")
    assert commands.wait_for(process, lambda: count_lines(stopped / "architectures.jsonl") >= 40)
    assert not (stopped / "checkpoint.pt").exists()
    start = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 5
    assert process.returncode == status
    assert f"{signal.Signals(number).name}: stopped in epoch" in errors
    assert "saved; go on with --resume stopped" in errors
    assert "Traceback" not in errors
    saved = count_lines(stopped / "architectures.jsonl")
    assert (stopped / "checkpoint.pt").exists()
    resumed = commands.run("search", "--resume", "stopped")
    assert resumed.returncode == 0, resumed.stderr
    assert saved < count_lines(stopped / "architectures.jsonl")
    assert_equal_runs(commands.folder / "calm", stopped)


def test_signal_in_a_training_saves_and_exits(commands: Any, assert_equal_runs: Any, calm_run: Path):
    long = ["--retrain.epochs", "400"]
    process = commands.start("search", *commands.flags, *long, "--run-dir", "stopped")
    training = commands.folder / "stopped" / "retrain" / "searched-0"
    assert commands.wait_for(process, training.exists)
    time.sleep(0.5)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 5
    assert process.returncode == 143, errors
    assert (training / "checkpoint.pt").exists()
    assert not (training / "result.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signal_saves_though_nobody_reads_what_is_said(number: int, commands: Any, count_lines: Any):
    """A closed terminal, a dead `| tee`: the note about saving cannot be written."""
    reader, writer = os.pipe()
    process = commands.start("search", *commands.flags, *LONG, "--epochs", "60", "--run-dir", "run", stderr=writer)
    os.close(writer)
    assert commands.wait_for(process, lambda: count_lines(commands.folder / "run" / "architectures.jsonl") >= 40)
    os.close(reader)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert (commands.folder / "run" / "checkpoint.pt").exists()


def test_signal_that_was_ignored_stays_ignored(commands: Any, count_lines: Any):
    process = commands.start("search", *commands.flags, *LONG, "--run-dir", "run", wrapped=["nohup"])
    assert commands.wait_for(process, lambda: count_lines(commands.folder / "run" / "architectures.jsonl") >= 40)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)  # a logout while the state is being saved
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert (commands.folder / "run" / "checkpoint.pt").exists()


def test_second_signal_ends_at_once(commands: Any, count_lines: Any):
    slow = ["--child.filters", "64", "--shared.paths-per-step", "200", "--shared.batch-size", "1000", "--data", "digits"]
    process = commands.start("search", *commands.flags, *slow, "--run-dir", "run")
    assert commands.wait_for(process, lambda: (commands.folder / "run" / "metrics.jsonl").exists())
    time.sleep(1)  # now within the first step, which takes a while
    process.send_signal(signal.SIGINT)
    time.sleep(2)  # Python hears of it between two operations, each of which takes a while where cores are shared
    assert process.poll() is None  # the step goes on
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 1
    assert process.returncode == -signal.SIGINT  # what a shell shows as 130
    assert "once more to end at once" in errors
    assert count_lines(commands.folder / "run" / "architectures.jsonl") == 0


def test_signal_before_anything_is_there_to_save_ends_with_its_status(commands: Any):
    process = commands.start("search", *commands.flags, "--run-dir", "run", fresh=True)
    assert commands.wait_for(process, lambda: "scripts.search" in Path(f"/proc/{process.pid}/cmdline").read_text())
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (143, -signal.SIGTERM)  # the latter where it came before the command had begun
    assert "Traceback" not in errors
