"""Damaged checkpoints, and code in the place of one: what is found, what is used instead, and how the command ends."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size * 2 // 3),
    "emptied": lambda file: os.truncate(file, 0),
    "one byte flipped": flip_a_byte,
    "text": lambda file: file.write_text("not a checkpoint\n"),
}
CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def test_damaged_newest_checkpoint_is_found_and_the_one_before_used(commands: Any, calm_run: Path, assert_equal_runs: Any):
    found = 0
    for name, damage in DAMAGES.items():
        run = Path(shutil.copytree(calm_run, commands.folder / name))
        damage(run / CURRENT)
        done = commands.run("search", "--resume", name)
        warnings = [line for line in done.stderr.splitlines() if line.startswith("warning")]
        expected = f"warning: {name}/{CURRENT} is damaged; going on from {name}/{PREVIOUS}"
        found += done.returncode == 0 and warnings == [expected]
        assert_equal_runs(calm_run, run)  # the step between the two checkpoints was done again
    assert found == len(DAMAGES) == 4


def test_run_without_an_intact_checkpoint_ends_with_3(commands: Any, calm_run: Path):
    for name, damage in DAMAGES.items():
        run = Path(shutil.copytree(calm_run, commands.folder / name))
        for file in (CURRENT, PREVIOUS):
            damage(run / file)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}
        done = commands.run("search", "--resume", name)
        assert done.returncode == 3
        assert f"error: {name}: no checkpoint is intact; {CURRENT} is damaged, {PREVIOUS} is damaged" in done.stderr
        assert "Traceback" not in done.stderr
        assert {path: path.read_bytes() for path in before} == before


def test_checkpoints_that_are_listed_but_gone_are_missed(commands: Any, calm_run: Path):
    run = Path(shutil.copytree(calm_run, commands.folder / "run"))
    for file in (CURRENT, PREVIOUS):
        (run / file).unlink()
    record = (run / "architectures.jsonl").read_bytes()
    done = commands.run("search", "--resume", "run")
    assert done.returncode == 3
    assert "run: no checkpoint is intact; checkpoint.sha256 lists what is not there" in done.stderr
    assert (run / "architectures.jsonl").read_bytes() == record


def test_checkpoint_of_another_run_is_refused_before_anything_is_cut(commands: Any, calm_run: Path):
    run = Path(shutil.copytree(calm_run, commands.folder / "run"))
    assert commands.search("--child.filters", "6", "--epochs", "1", "--retrain.epochs", "0", "--run-dir", "other").returncode == 0
    for file in (commands.folder / "other").glob("checkpoint*"):
        shutil.copy(file, run / file.name)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}
    done = commands.run("search", "--resume", "run")
    assert done.returncode == 2
    assert "run/config.yaml: expected child.filters 6 as in the run's checkpoint, got 4" in done.stderr
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("state", [[1, 2], {"a": 1}], ids=str)
def test_file_that_is_no_checkpoint_of_a_search_ends_with_3(state: Any, commands: Any, calm_run: Path):
    run = Path(shutil.copytree(calm_run, commands.folder / "run"))
    (run / PREVIOUS).unlink()
    torch.save(state, run / CURRENT)
    (run / "checkpoint.sha256").write_text(f"{hashlib.sha256((run / CURRENT).read_bytes()).hexdigest()}  {CURRENT}\n")
    done = commands.run("search", "--resume", "run")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


class Malicious:
    """Makes a file where it is unpickled without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_malicious_pickle_as_checkpoint_is_refused_and_does_not_run(commands: Any, calm_run: Path):
    run = Path(shutil.copytree(calm_run, commands.folder / "run"))
    marker = commands.folder / "executed"
    for file in (CURRENT, PREVIOUS):
        (run / file).write_bytes(pickle.dumps({"parts": Malicious(marker)}, protocol=2))
    digests = [f"{hashlib.sha256((run / file).read_bytes()).hexdigest()}  {file}\n" for file in (CURRENT, PREVIOUS)]
    (run / "checkpoint.sha256").write_text("".join(digests))  # whoever plants one plants its hash
    for command, flags in (
        ("search", ["--resume", "run"]),
        ("search", [*commands.flags, "--run-dir", "new", "--warm-start", "run"]),
        ("evaluate", ["--run", "run", "--architecture", "run"]),
    ):
        done = commands.run(command, *flags)
        assert done.returncode == 3, done.stderr
        assert "is refused: it holds more than tensors" in done.stderr
        assert "Traceback" not in done.stderr
    assert not marker.exists()
    pickle.loads((run / CURRENT).read_bytes())
    assert marker.exists()  # the trap is a trap
