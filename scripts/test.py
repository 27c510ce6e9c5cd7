"""Check the code: formatting, lint, types, tests.

Stops at the first check that fails, with its exit code. Further arguments go to pytest; paths among them are read from the
current folder, as everywhere, though the checks run in the repository root. Tests are shared out among the processor's
cores; `-n 0` runs them in this process, which a debugger needs.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from scripts.run import ROOT, wait_for

MOST_WORKERS = 4
"""Each loads PyTorch, which takes about .5 GB of memory."""

CHECKS = (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"])


def with_absolute_paths(arguments: list[str]) -> list[str]:
    """Make the paths in pytest's arguments (`tests/test_x.py::test_y`) absolute; the rest stays as it is."""
    changed = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        path, colons, test = argument.partition("::")
        names_file = path and previous not in ("-k", "-m") and Path(path).exists()
        changed.append(f"{Path(path).resolve()}{colons}{test}" if names_file else argument)
    return changed


def num_workers() -> int:
    """Return how many processes run tests."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, MOST_WORKERS)


def run_checks(checks: list[list[str]]) -> int:
    """Run the modules with their arguments in the repository root. Returns: the first exit code that is not 0."""
    for check in checks:
        print("$ python -m", shlex.join(check), flush=True)
        code = wait_for(subprocess.Popen([sys.executable, "-m", *check], cwd=ROOT))
        if code:
            return code if code > 0 else 128 - code  # killed by a signal: the number that a shell gives
    return 0


def main() -> int:
    """Run the checks that the command line asks for. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Check the code: formatting, lint, types, tests. Further arguments go to pytest.", allow_abbrev=False
    )
    parser.add_argument("--only-tests", action="store_true", help="skip formatting, lint and types")
    options, others = parser.parse_known_args()
    tests = ["pytest", "-n", str(num_workers()), "--dist", "worksteal", *with_absolute_paths(others)]
    return run_checks([tests] if options.only_tests else [*CHECKS, tests])


if __name__ == "__main__":
    sys.exit(main())
