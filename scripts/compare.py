"""Compare strategies on equal budgets, several seeds each: which of them beat random search.

Each run has its own folder: an ordinary search with shared weights, or a trial on a benchmark's table. Called again with the same
arguments it goes on where it stopped; more seeds and strategies may be added. The report says, with statistics, which strategy
beats random search, and what of the checklist of NAS best practice the runs follow.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from scripts.compare_settings import Request, parse_compare
from scripts.compare_strategies import REFERENCE
from scripts.configuration import as_yaml, differences, read_config
from scripts.ending import run_command
from scripts.folders import LOCK_FILE, check_writable, claimed_results
from scripts.stopping import StopRequest

COMPARE_FILE = "compare.yaml"
_MAY_CHANGE = ("compare.command", "compare.seeds", "compare.table", "device", "ranking.table")
"""Settings that a second call for the same folder may have otherwise; a table that was moved is known by its content."""


def main() -> None:
    """Run the command line in `sys.argv`."""

    def run(stop: StopRequest) -> None:
        request = parse_compare(sys.argv[1:])
        check_out(request)
        run_compare(request, Console(stderr=True), stop)

    run_command(run)


def run_compare(request: Request, console: Console, stop: StopRequest | None = None) -> None:
    """Make the runs that are missing, judge all, write the files, print the table.

    Raises: Stopped where `stop` asks for it; SearchFailed where a process of its own was killed.
    """
    from scripts.compare_results import print_results, write_results  # `--help` and mistakes in flags do not wait for SciPy
    from scripts.compare_searches import compare_searches
    from scripts.compare_trials import check_strategies, compare_trials

    stop = stop or StopRequest()
    if request.is_reference_added:
        console.print(f"Random search ({REFERENCE}) is added: it is what the others are compared with", highlight=False)
    if request.config.table is not None:
        check_strategies(request.strategies)
    text = as_yaml(request.saved())
    with claimed_results(request.out, flag="--run-dir", check=lambda: check_out(request), file=COMPARE_FILE, text=text):
        stop.hint = "go on with the same command"
        study = (compare_searches if request.config.table is None else compare_trials)(request, console, stop)
        comparisons = write_results(study, request.out)
        print_results(study, comparisons, request.out)


def check_out(request: Request) -> None:
    """Raise ValueError where the results can't go: a file, the folder of something else, or of another comparison."""
    out, file = request.out, request.out / COMPARE_FILE
    nearest = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        raise ValueError(f"--run-dir: expected a folder, got {out}")
    check_writable(nearest, flag="--run-dir", folder=out)
    if file.exists():
        _check_saved(read_config(file), request.saved(), file)
    elif out.is_dir() and any(path.name != LOCK_FILE for path in out.iterdir()):
        raise ValueError(f"--run-dir: expected a new folder or that of the same comparison, got {out}, which holds other files")


def _check_saved(old: dict[str, Any], new: dict[str, Any], file: Path) -> None:
    """Raise ValueError for anything but more seeds and more strategies."""
    try:
        had, has = int(old["compare"]["seeds"]), int(new["compare"]["seeds"])
        labels = dict(old["strategies"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: expected the settings of a comparison, got {error!r}") from error
    if has < had:
        raise ValueError(f"--seeds: expected at least {had}, as in {file}, got {has}")
    for label in labels:
        if label not in new["strategies"]:
            raise ValueError(f"--strategies: expected {label} among them, as in {file}, got {', '.join(new['strategies'])}")
    for path, before, after in differences(old, new):
        if not path.endswith(_MAY_CHANGE):
            raise ValueError(f"--run-dir: expected {path} {before}, as in {file}, got {after}; choose another folder")


if __name__ == "__main__":
    main()
