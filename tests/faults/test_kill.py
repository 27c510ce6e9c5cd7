"""SIGKILL, at random instants and inside the write of a checkpoint: a resumed run ends in the bits of an undisturbed one."""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")]

FEW, MANY = pytest.param(3, 1, id="few"), pytest.param(10, 3, id="many", marks=pytest.mark.thorough)
"""Kills, and how many of them inside the write of a checkpoint."""


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of every curve that does not measure time or memory."""
    events = EventAccumulator(str(run / "tb"), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith(("time/", "system/"))]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("num_kills", "num_wanted_in_a_write"), [FEW, MANY])
@pytest.mark.parametrize("strategy", ["enas", pytest.param("evolution", marks=pytest.mark.thorough)])
def test_kills_leave_no_trace(
    strategy: str, num_kills: int, num_wanted_in_a_write: int, commands: Any, assert_equal_runs: Any, count_lines: Any
) -> None:
    flags = ["--strategy", strategy, "--epochs", "8", "--run-dir"]
    assert commands.search(*commands.one_checkpoint, *flags, "calm").returncode == 0
    calm, killed = commands.folder / "calm", commands.folder / "killed"
    rows, temporary = killed / "architectures.jsonl", killed / "checkpoint.pt.tmp"
    num_rows = count_lines(calm / "architectures.jsonl")
    rng = random.Random(20261124)
    instants = sorted(rng.sample(range(1, num_rows - 12), num_kills))
    in_a_write = set(rng.sample(range(num_kills), num_wanted_in_a_write))

    num_resumed, num_in_a_write = 0, 0
    process = commands.start("search", *commands.flags, *flags, "killed")
    for number, instant in enumerate(instants):
        while True:  # until the kill has met a write, where it was to
            assert commands.wait_for(process, lambda n=instant: count_lines(rows) >= n)
            if number in in_a_write:
                while not temporary.exists():
                    assert process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            has_met_a_write = temporary.exists()
            process = commands.start("search", "--resume", "killed")
            if has_met_a_write or number not in in_a_write:
                break
        num_in_a_write += has_met_a_write
        num_resumed += commands.wait_for(process, lambda n=instant: count_lines(rows) > n)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors

    assert num_resumed == num_kills
    assert num_in_a_write >= num_wanted_in_a_write
    assert_equal_runs(calm, killed)
    curves = scalars(killed)
    for tag, points in curves.items():
        assert len({step for step, _ in points}) == len(points), tag
    assert curves == scalars(calm)
