"""What a user may get wrong: exit status 2 within two seconds, flag or file named, expected and actual, nothing touched."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.folders import locked
from scripts.presets import PRESETS

KNOWN_PRESETS = ", ".join(PRESETS)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="read-only folders are POSIX")]

MISTAKES = {
    "unknown flag": ("--bogus 3", "Unrecognized options: --bogus"),
    "wrong type": ("--epochs three", "--epochs: invalid literal for int() with base 10: 'three'"),
    "out of range": ("--epochs 0", "epochs: expected at least 1, got 0"),
    "out of range, of a section": ("--shared.momentum 1.5", "momentum: expected a number in [0, 1), got 1.5"),
    "empty config": ("--config empty.yaml", "empty.yaml: expected a mapping of settings, got nothing"),
    "missing config": ("--config missing.yaml", "missing.yaml: expected a readable configuration file, got"),
    "list for mapping": ("--config list.yaml", "list.yaml: child: expected a mapping, got list"),
    "unknown preset": (
        "--preset mine",
        f"--preset: expected one of {KNOWN_PRESETS}, got 'mine'",
    ),
    "missing data": ("--data npz:missing.npz", "missing.npz: expected an .npz file, found nothing there"),
    "missing folder of data": ("--data folder:missing", "missing: expected a folder with a subfolder for each class"),
    "malformed data": ("--data npz:text.npz", "text.npz: expected an .npz file with x_train, y_train, x_test, y_test, got one"),
    "malformed image": ("--data folder:photos", "photos/b/1.png: expected a whole image (PNG, by its suffix), got"),
    "too small data": ("--data npz:small.npz", "shared.batch_size: expected at most 18, the number of images, got 64"),
    "too small before a download": (
        "--data cifar10 --data-dir downloads --shared.batch-size 60000",
        "shared.batch_size: expected at most 45000, the number of images, got 60000",
    ),
    "resume of another configuration": (
        "--resume run --seed 1",
        "--seed: a resumed run may change only --epochs, --device and --ranking.table; expected 0, got 1",
    ),
    "run folder taken": ("--run-dir run", "--run-dir: expected a new folder, got run, which holds a run; use --resume run"),
    "run folder in use": (
        "--resume used",
        f"--resume: expected a folder that nothing else uses, got used, in use by process {os.getpid()}",
    ),
    "read-only folder": ("--run-dir READ_ONLY/run", "--run-dir: expected a place that can be written, got READ_ONLY/run"),
}


@contextmanager
def read_only_folder(folder: Path) -> Iterator[str]:
    """A folder in which nobody may write, not even root."""
    if os.geteuid() == 0:
        yield "/proc"
        return
    folder.mkdir(mode=0o555)
    yield str(folder)
    folder.chmod(0o755)


@pytest.fixture
def laid_out(commands: Any, calm_run: Path) -> Path:
    """A folder with a finished run and data of several kinds."""
    folder: Path = commands.folder
    (folder / "empty.yaml").touch()
    (folder / "list.yaml").write_text("child: [3]\n")
    (folder / "text.npz").write_text("no archive")
    images, labels = np.zeros((20, 8, 8), dtype=np.uint8), np.arange(20) % 2
    np.savez(folder / "small.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    from PIL import Image

    for name in ("a", "b"):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(folder / "photos" / name / f"{number}.png")
    (folder / "photos" / "b" / "1.png").write_text("no picture")
    for name in ("run", "used"):
        shutil.copytree(calm_run, folder / name)
    return folder


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_every_mistake_is_named_in_time(laid_out: Path, commands: Any):
    run = plain_runner(commands)
    right = {}
    with locked(laid_out / "used", flag="--resume"), read_only_folder(commands.folder / "read-only") as read_only:
        before = contents(laid_out)
        folders = set(laid_out.rglob("*"))
        for name, (line, message) in MISTAKES.items():
            status, errors, seconds = run(line.replace("READ_ONLY", read_only))
            expected = message.replace("READ_ONLY", read_only)
            right[name] = (status == 2, expected in errors, "Traceback" not in errors, seconds < 2) == (True,) * 4
            assert right[name], f"{name}: exit {status} after {seconds:.2f} s\n{errors}"
        assert contents(laid_out) == before
        assert set(laid_out.rglob("*")) == folders
    assert sum(right.values()) == len(MISTAKES) == 18


def plain_runner(commands: Any) -> Callable[[str], tuple[int, str, float]]:
    """Return a runner of `search` that returns status, message without frame and line breaks, and seconds."""

    def run(line: str) -> tuple[int, str, float]:
        start = time.monotonic()
        done = commands.run("search", *line.split())
        text = re.sub(r"\x1b\[[0-9;]*m|[╭╮╰╯│─]", " ", done.stderr)
        return done.returncode, " ".join(text.split()), time.monotonic() - start

    return run
