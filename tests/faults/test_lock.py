"""The lock of a run folder: held by one process, and gone with it however it ends."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_lock_ends_with_the_process_that_held_it(commands: Any, count_lines: Any):
    run = commands.folder / "run"
    process = commands.start("search", *commands.flags, "--epochs", "50", "--run-dir", "run")
    assert commands.wait_for(process, lambda: count_lines(run / "architectures.jsonl") > 5)
    refused = commands.run("search", "--resume", "run")
    assert refused.returncode == 2
    assert f"got run, in use by process {process.pid}" in refused.stderr
    process.kill()
    process.communicate()
    resumed = commands.start("search", "--resume", "run")
    rows = count_lines(run / "architectures.jsonl")
    assert commands.wait_for(resumed, lambda: count_lines(run / "architectures.jsonl") > rows)
