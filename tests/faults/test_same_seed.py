"""The same command twice writes the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_same_seed_writes_the_same_architectures(commands: Any, calm_run: Path):
    assert commands.search("--run-dir", "again").returncode == 0
    assert commands.search(*commands.one_checkpoint, "--run-dir", "other", "--seed", "1").returncode == 0
    again, other = ((commands.folder / name / "architectures.jsonl").read_bytes() for name in ("again", "other"))
    assert again == (calm_run / "architectures.jsonl").read_bytes()
    assert other != again
