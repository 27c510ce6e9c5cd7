"""Search an architecture, then train it from scratch beside random ones."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

from rich.console import Console

from scripts.configuration import exit_on_value_error, parse_search
from scripts.presets import SearchConfig


def main() -> None:
    """Run the command line in `sys.argv`."""
    config = parse_search(sys.argv[1:])
    exit_on_value_error(lambda: run_search(config, Console(stderr=True)))


def run_search(config: SearchConfig, console: Console) -> None:
    """Search, derive, retrain, report; the answer goes to standard output."""
    from enas.console import ProgressBar  # PyTorch and what needs it: `--help` and mistakes in flags do not wait for them
    from enas.search import Search
    from scripts.build import build_search, derive_answer
    from scripts.finish import print_answer, retrain_and_report

    folder = config.run_dir or new_folder(config.preset)
    console.print(f"Run folder: [bold]{folder}[/]   watch it: tensorboard --logdir {folder.parent}", soft_wrap=True)
    with ProgressBar(console, unit="steps") as bar:

        def show(search: Search) -> None:
            position = search.position
            best = "" if position.best_reward is None else f", best reward {position.best_reward:.3f}"
            text = f"epoch {min(position.epoch + 1, config.epochs)}/{config.epochs}, {position.num_measured} measured{best}"
            bar.show(search.steps_done, search.num_steps, text=text)

        with build_search(config, folder, on_step=show) as run:
            run.search.run()
            answer = derive_answer(run)
            print_answer(run, answer)
            retrain_and_report(run, answer, console)


def new_folder(preset: str) -> Path:
    """Return a folder under runs/ that does not exist yet, named for the preset and the time."""
    base = Path("runs") / f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    folder = base
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


if __name__ == "__main__":
    main()
