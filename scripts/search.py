"""Search an architecture, then train it from scratch beside random ones."""

from __future__ import annotations

import sys

from rich.console import Console

from scripts.configuration import exit_on_value_error, parse_search
from scripts.folders import new_folder
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
    note = f"Run folder: {folder}   watch it: tensorboard --logdir {folder.parent}"
    console.print(note, soft_wrap=True, markup=False, highlight=False)
    bar = ProgressBar(console, unit="steps")

    def show(search: Search) -> None:
        position = search.position
        best = "" if position.best_reward is None else f", best reward {position.best_reward:.3f}"
        text = f"epoch {min(position.epoch + 1, config.epochs)}/{config.epochs}, {position.num_measured} measured{best}"
        bar.show(search.steps_done, search.num_steps, text=text)

    with build_search(config, folder, on_step=show) as run:
        with bar:
            run.search.run()
        answer = derive_answer(run)
        print_answer(run, answer)
        retrain_and_report(run, answer, console)


if __name__ == "__main__":
    main()
