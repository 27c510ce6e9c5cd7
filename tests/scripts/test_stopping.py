"""Signals where an exception would become something else."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

LOADED = """
import os, signal
class Descriptor:
    def __set_name__(self, owner, name):  # an exception here becomes a RuntimeError
        os.kill(os.getpid(), signal.{name})
class Owner:
    field = Descriptor()
"""
COMMAND = """
from scripts.ending import run_command
def main(stop):
    print("said before")
    stop.hint = "go on"
    import loaded
run_command(main)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_while_a_module_is_loaded_ends_the_process_at_once(name: str, tmp_path: Path):
    (tmp_path / "loaded.py").write_text(LOADED.format(name=name))
    (tmp_path / "command.py").write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n{COMMAND}")
    run = subprocess.run([sys.executable, tmp_path / "command.py"], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 128 + getattr(signal, name)
    assert run.stderr == f"{name}: interrupted; go on\n"
    assert run.stdout == "said before\n"
