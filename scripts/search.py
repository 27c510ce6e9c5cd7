"""Search an architecture, then train it from scratch beside random ones."""

from __future__ import annotations

import sys

from rich.console import Console

from scripts.configuration import parse_search
from scripts.ending import run_command
from scripts.folders import check_folder, new_folder
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest


def main() -> None:
    """Run the command line in `sys.argv`."""
    run_command(lambda stop: run_search(parse_search(sys.argv[1:]), Console(stderr=True), stop))


def run_search(config: SearchConfig, console: Console, stop: StopRequest | None = None) -> None:
    """Search, derive, retrain, report; the answer goes to standard output. Raises: Stopped where `stop` asks for it."""
    stop = stop or StopRequest()
    folder = config.run_dir or new_folder(config.preset)
    check_folder(config, folder)
    from enas.console import ProgressBar  # PyTorch and what needs it: `--help` and mistakes in flags do not wait for them
    from enas.search import Search
    from scripts.build import build_search, derive_answer
    from scripts.finish import print_answer, retrain_and_report

    bar = ProgressBar(console, unit="steps")

    def show(search: Search) -> None:
        position = search.position
        best = "" if position.best_reward is None else f", best reward {position.best_reward:.3f}"
        text = f"epoch {min(position.epoch + 1, config.epochs)}/{config.epochs}, {position.num_measured} measured{best}"
        bar.show(search.steps_done, search.num_steps, text=text)

    with build_search(config, folder, on_step=show, should_stop=stop) as run:
        stop.hint = f"go on with --resume {folder}"
        note = f"Run folder: {folder}   watch it: .venv/bin/tensorboard --logdir {folder.parent}"
        console.print(note, soft_wrap=True, markup=False, highlight=False)
        if config.resume is not None and not run.resumed:
            console.print("No checkpoint yet: starting over")
        if config.warm_start is not None and not run.resumed:
            fresh = f", but for {', '.join(run.fresh_tensors)}, which follow from the data" if run.fresh_tensors else ""
            note = f"Shared weights: those of {config.warm_start}{fresh}"
            console.print(note, soft_wrap=True, markup=False, highlight=False)
        with bar, stop.deferred():
            run.search.run()
        answer = derive_answer(run)
        print_answer(run, answer)
        retrain_and_report(run, answer, console, stop)


if __name__ == "__main__":
    main()
