"""Does the controller learn? Its rewards in the last epoch beside uniform sampling on the same shared weights and minibatches.

    python -m scripts.versus_uniform --seeds 5 [any flags of scripts.search]

The weights do not move during an epoch's controller phase, so after the search uniform architectures can be measured on exactly
the weights and validation minibatches that the last proposals were. One search a seed, each in its own folder; a finished one is
read back, an interrupted one goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from scripts.configuration import CONFIG_FILE, first_flag, load_saved, parse_search
from scripts.ending import run_command
from scripts.folders import check_folder
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest

if TYPE_CHECKING:
    from enas.search import Search
    from scripts.build import Run


def main() -> None:
    """Run the command line in `sys.argv`."""
    run_command(lambda stop: run_seeds(sys.argv[1:], stop))


def run_seeds(arguments: Sequence[str], stop: StopRequest) -> None:
    """Search with each seed, print a row each and the mean difference with its interval."""
    given = first_flag("--seeds", arguments) or "5"
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"--seeds: expected a whole number of at least 1, got {given}")
    if any(first_flag(flag, arguments) is not None for flag in ("--seed", "--resume")):
        raise ValueError(
            "--seeds: expected no --seed or --resume beside it; seeds are 0, 1, ..., and searches go on by themselves"
        )
    config = parse_search(without_flag("--seeds", arguments))
    folder = config.run_dir or Path("runs") / f"versus-uniform-{config.preset}-{config.strategy}"
    stop.hint = "go on with the same command"
    rows = [measure_seed(replace(config, seed=seed), folder / f"seed-{seed}", stop) for seed in range(int(given))]
    print_result(rows)


def without_flag(flag: str, arguments: Sequence[str]) -> list[str]:
    """Return the arguments without a flag and its value."""
    kept = [argument for argument in arguments if not argument.startswith(f"{flag}=")]
    if flag in kept:
        index = kept.index(flag)
        del kept[index : index + 2]
    return kept


def measure_seed(config: SearchConfig, folder: Path, stop: StopRequest) -> tuple[float, float]:
    """Return the mean reward of the last epoch's proposals and of as many uniform architectures, fractions."""
    finished = folder / "versus_uniform.json"
    if (folder / CONFIG_FILE).exists():
        config = replace(config, resume=folder, threads=config.threads or load_saved(folder).threads)
        check_folder(config, folder)
        if finished.exists():
            searched, uniform = json.loads(finished.read_text())
            return float(searched), float(uniform)
    from enas.atomic_file import write_atomically
    from enas.console import ProgressBar
    from scripts.build import build_search

    bar = ProgressBar(Console(stderr=True), unit="steps")

    def show(search: Search) -> None:
        bar.show(search.steps_done, search.num_steps, text=f"seed {config.seed}")

    with build_search(config, folder, on_step=show, should_stop=stop) as run:
        with bar, stop.deferred():
            run.search.run()
        result = _last_rewards(folder, config.epochs - 1), uniform_rewards(run)
    write_atomically(finished, json.dumps(result))
    return result


def uniform_rewards(run: Run) -> float:
    """Return the mean reward of uniform architectures on the minibatches that the last epoch's proposals were measured on."""
    import numpy as np

    from enas.seeding import derive_seed
    from enas.spaces.sampling import sample_uniform

    steps, envs = run.config.schedule.controller_steps, run.search.controller_envs
    run.shared.num_evaluations -= steps * (envs.num_envs if run.config.shared.reward_batch == "own" else 1)
    rng = np.random.default_rng(derive_seed(run.config.seed, "versus uniform"))
    envs.reset(options={"phase": "controller"})
    return float(np.mean([envs.step(sample_uniform(run.shared.space, envs.num_envs, rng))[1] for _ in range(steps)]))


def _last_rewards(folder: Path, epoch: int) -> float:
    lines = (folder / "architectures.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    rewards = [row["reward"] for row in rows if row["epoch"] == epoch and row["phase"] == "controller"]
    return float(sum(rewards) / len(rewards))


def print_result(rows: Sequence[tuple[float, float]]) -> None:
    """Print a row a seed, and the mean difference with its 95 % interval."""
    from enas.comparison import mean_interval

    table = Table(title="Mean reward in the last epoch, same shared weights and minibatches", title_justify="left")
    for heading in ("seed", "controller", "uniform", "difference"):
        table.add_column(heading, justify="right")
    differences = [searched - uniform for searched, uniform in rows]
    for seed, ((searched, uniform), difference) in enumerate(zip(rows, differences, strict=True)):
        table.add_row(str(seed), f"{searched:.4f}", f"{uniform:.4f}", f"{difference:+.4f}")
    console = Console()
    console.print(table)
    interval = mean_interval(differences)
    mean = sum(differences) / len(differences)
    tail = "n=1: no interval" if interval is None else f"95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}"
    console.print(f"Mean difference {mean:+.4f}, {tail} (n={len(differences)} seeds)", highlight=False)


if __name__ == "__main__":
    main()
