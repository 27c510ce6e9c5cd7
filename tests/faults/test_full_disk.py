"""A disk that is full while a search writes: it goes on, nothing that was there is lost, and nothing half-written stays."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enas.checkpoint import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="limits and mounts are POSIX")]


def test_checkpoint_that_grows_over_what_the_disk_takes_is_given_up(commands: Any, calm_run: Path, assert_equal_runs: Any):
    """The file-size limit of the process stands for the disk: everything but the checkpoints fits."""
    run = Path(shutil.copytree(calm_run, commands.folder / "run"))
    before = (run / "checkpoint.pt").read_bytes()
    limit = ["bash", "-c", f'ulimit -f {len(before) // 2048}; exec "$0" "$@"']
    done = commands.run("search", "--resume", "run", "--epochs", "8", wrapped=limit)
    assert done.returncode == 0, done.stderr
    assert "warning: no checkpoint could be saved ([Errno 27] File too large); going on, the one before stays" in done.stderr
    assert (run / "checkpoint.pt").read_bytes() == before
    assert not list(run.glob("*.tmp"))
    assert commands.run("search", "--resume", "run").returncode == 0  # with room again, from the old checkpoint
    assert commands.search("--epochs", "8", *commands.one_checkpoint, "--run-dir", "calm").returncode == 0
    assert_equal_runs(commands.folder / "calm", run)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_search_outlives_a_disk_without_a_byte_left(commands: Any, small_disk: Path, assert_equal_runs: Any, count_lines: Any):
    flags = [*commands.flags, "--epochs", "30", "--retrain.epochs", "0"]
    run, ballast = small_disk / "run", small_disk / "ballast"
    process = commands.start("search", *flags, "--run-dir", str(run))
    rows = run / "architectures.jsonl"
    assert commands.wait_for(process, lambda: count_lines(rows) > 40 and (run / "checkpoint.pt").exists())
    with ballast.open("wb", buffering=0) as file:
        end = time.monotonic() + 3
        while time.monotonic() < end:  # again and again: what the search gives up makes room
            with contextlib.suppress(OSError):
                file.write(bytes(4096))
    assert process.poll() is None
    assert commands.wait_for(process, lambda: not list(run.glob("*.tmp")))
    assert read_checkpoint(run) is not None
    ballast.unlink()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert len(errors.splitlines()) < 20
    assert len(list((run / "tb").iterdir())) <= 4
    assert not list(run.rglob("*.tmp"))
    assert "no checkpoint could be saved ([Errno 28] No space left on device)" in errors
    assert "architectures.jsonl: lines wait in memory, [Errno 28] No space left on device" in errors
    done = commands.search("--epochs", "30", "--retrain.epochs", "0", *commands.one_checkpoint, "--run-dir", "calm")
    assert done.returncode == 0
    for name in ("architectures.jsonl", "best_architecture.json", "best_architecture.safetensors"):
        assert (run / name).read_bytes() == (commands.folder / "calm" / name).read_bytes(), name


def test_search_stopped_on_a_full_disk_says_that_nothing_was_saved(commands: Any, small_disk: Path, count_lines: Any):
    flags = [*commands.flags, "--epochs", "60", "--schedule.checkpoint-minutes", "60"]
    process = commands.start("search", *flags, "--run-dir", str(small_disk / "run"))
    assert commands.wait_for(process, lambda: count_lines(small_disk / "run" / "architectures.jsonl") > 40)
    with (small_disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "SIGTERM: stopped in epoch" in errors
    assert "NOT saved, since the disk refuses" in errors
    assert not list((small_disk / "run").glob("checkpoint*"))


def test_full_disk_at_the_start_leaves_no_half_made_run(commands: Any, small_disk: Path):
    with (small_disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    done = commands.search("--run-dir", str(small_disk / "run"))
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    (small_disk / "ballast").unlink()
    assert commands.search("--run-dir", str(small_disk / "run"), "--retrain.epochs", "0").returncode == 0
