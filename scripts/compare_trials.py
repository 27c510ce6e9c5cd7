"""The work of `compare --table`: trials on a benchmark's table, each in its folder, and what the table says of their answers."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from enas.compare.budget import Budget
from enas.compare.outcomes import Outcome, Study
from enas.compare.table_outcomes import BEST_REWARD, look_up_trial, meaning, table_costs, table_measures
from enas.compare.trials import TRIAL_FILE, Trial, load_trial, run_trial, save_trial
from enas.configs import ObjectiveConfig
from enas.console import ProgressBar
from enas.errors import SearchFailed, Stopped
from enas.rewards import limit_excess, make_reward
from enas.seeding import derive_seed
from enas.tables import BenchmarkTable, Epochs, load_table
from enas.types import Controller, GradientController, TrainingLearner
from envs.tabular import COST_EPOCHS, TabularVectorEnv
from scripts.compare_settings import Request, reward_facts
from scripts.compare_strategies import REFERENCE, Strategy, run_folder
from scripts.processes import num_cores, run_all
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest

_SEEDS_A_TASK = 10
"""Seeds of a strategy that a worker takes at once."""


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """Some trials of a strategy. Attributes: seeds: that have no trial yet."""

    label: str
    config: SearchConfig
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class TrialWork:
    """What all trials have in common; called, it makes those of a task and returns how many.

    Attributes: table: file. digest: of its content. data, epochs: what rewards are of. out: folder of the comparison.
    """

    table: Path
    digest: str
    data: str
    epochs: Epochs
    budget: Budget
    out: Path

    def __call__(self, task: TrialTask, stop: StopRequest) -> int:
        """Make and save a task's trials. Raises: Stopped between two of them where it is asked to."""
        table = _table(self.table, self.digest)
        num_envs = task.config.schedule.architectures_per_step
        reward = make_reward(task.config.reward, task.config.objective)
        with stop.deferred():
            for seed in task.seeds:
                if stop():
                    raise Stopped("stopped, what is finished is kept")
                controller = make_controller(task.config, seed=seed)
                envs = TabularVectorEnv(table, num_envs=num_envs, data=self.data, epochs=self.epochs, reward=reward)
                save_trial(run_trial(controller, envs, self.budget), run_folder(self.out, task.label, seed))
        return len(task.seeds)


@lru_cache(maxsize=1)
def _table(file: Path, digest: str) -> BenchmarkTable:
    """Read a table once in a process. Args: digest: of the content, so that another one in its place is read anew."""
    del digest
    return load_table(file)


def make_controller(config: SearchConfig, *, seed: int) -> Controller:
    """Build the strategy of a configuration, on one thread where it needs PyTorch: its networks are tiny."""
    settings: Any = getattr(config.controller, config.strategy)
    controller: Controller = settings.make(config.child.make_space(), seed=derive_seed(seed, "controller"))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(config.threads or 1)
    return controller


def check_table(table: BenchmarkTable, request: Request) -> None:
    """Raise ValueError naming the flag where a table cannot serve, or no trial can begin, or one would never end."""
    data, epochs, budget = request.config.table_data, request.config.table_epochs, request.budget
    try:
        table.accuracy(data, "test")
        TabularVectorEnv(table, num_envs=1, data=data, epochs=epochs)
    except ValueError as error:
        raise ValueError(f"--table, --table-data: {error}") from error
    seconds = table.train_seconds(data, epochs=COST_EPOCHS)
    if budget.kind == "simulated-seconds":
        if seconds.min() <= 0:
            raise ValueError(f"--table: expected trainings of more than 0 seconds, got {seconds.min():g}")
        if budget.amount < seconds.max():
            expected = f"at least {seconds.max():,.1f}, the seconds of the table's longest training"
            raise ValueError(f"--budget.amount: expected {expected}, got {budget.amount:g}")
    objective = request.config.objective
    if "latency" in objective.costs:
        raise ValueError("--objective: expected flops or parameters with --table, since a table holds no latencies, got latency")
    if not _within(table, objective).any():
        raise ValueError("--objective: expected hard limits that some cell of the table keeps, got limits that none does")


def _within(table: BenchmarkTable, objective: ObjectiveConfig) -> npt.NDArray[np.bool_]:
    """Return which cells keep the hard limits, (R,)."""
    if not objective.limits:
        return np.ones(len(table.codes), dtype=np.bool_)
    return limit_excess(table_costs(table), objective.limits) <= 1


def check_strategies(strategies: Mapping[str, Strategy]) -> None:
    """Raise ValueError for a strategy that rewards teach nothing: on a table there is nothing else to learn from."""
    for label, strategy in strategies.items():
        controller = make_controller(strategy.config, seed=0)
        reason = ""
        if isinstance(controller, GradientController):
            reason = "learns from the gradient of a network's loss, and a table has no network"
        elif isinstance(controller, TrainingLearner) and controller.learns_in_training:
            reason = "learns while shared weights are trained, and a table has none"
        if reason:
            raise ValueError(
                f"--strategies: expected strategies that learn from rewards with --table, got {label}, which {reason}"
            )


def compare_trials(request: Request, console: Console, stop: StopRequest) -> Study:
    """Make the trials that are missing and look all of them up. Raises: Stopped where `stop` asks for it."""
    config = request.config
    assert config.table is not None
    assert request.digest is not None
    work = TrialWork(
        table=config.table,
        digest=request.digest,
        data=config.table_data,
        epochs=config.table_epochs,
        budget=request.budget,
        out=request.out,
    )
    num_workers = config.workers or num_cores()
    _run_trials(work, request.strategies, request.seeds, num_workers=num_workers, console=console, stop=stop)
    return _study(work, request)


def _run_trials(
    work: TrialWork, strategies: Mapping[str, Strategy], seeds: range, *, num_workers: int, console: Console, stop: StopRequest
) -> None:
    tasks = []
    for label, strategy in strategies.items():
        missing = [seed for seed in seeds if not (run_folder(work.out, label, seed) / TRIAL_FILE).exists()]
        parts = (tuple(missing[start : start + _SEEDS_A_TASK]) for start in range(0, len(missing), _SEEDS_A_TASK))
        tasks += [TrialTask(label=label, config=strategy.config, seeds=part) for part in parts]
    total, done = sum(len(task.seeds) for task in tasks), 0
    with ProgressBar(console, unit="trials") as bar:

        def show(count: int) -> None:
            nonlocal done
            done += count
            bar.show(done, total, text=f"{len(strategies)} strategies on {work.table.name}")

        run_all(work, tasks, num_workers=num_workers, stop=stop, on_done=show)


def _study(work: TrialWork, request: Request) -> Study:
    """Return what the trials gave, looked up now that all are over.

    Raises: ValueError naming a damaged file; SearchFailed where random search has no answer.
    """
    table = _table(work.table, work.digest)
    strategies = request.strategies
    within = _within(table, request.config.objective)
    outcomes: list[Outcome] = []
    failures = {}
    for label, seed in ((label, seed) for label in strategies for seed in request.seeds):
        trial = _load(work, table, label, seed)
        if within[table.rows_of(trial.tokens)[trial.answer]]:
            outcomes.append(look_up_trial(trial, table, data=work.data, strategy=label, seed=seed))
        else:
            failures[f"{label}, seed {seed}"] = "nothing within the hard limits was found"
    if not any(one.strategy == REFERENCE for one in outcomes):
        raise SearchFailed(f"no run of {REFERENCE} gave an answer: {next(iter(failures.values()))}")
    tests = table.accuracy(work.data, "test")
    benchmark = f"the same table, {work.table.name}, for all: {len(table.codes):,} cells, searched on {work.data}"
    return Study(
        title=f"{len(strategies)} strategies on the table {work.table.name}",
        facts={"benchmark": benchmark, **_table_facts(work), **reward_facts(request.config)},
        strategies={label: strategy.own for label, strategy in strategies.items()},
        names={label: strategy.config.strategy for label, strategy in strategies.items()},
        reference=REFERENCE,
        seeds=list(request.seeds),
        budget=work.budget,
        measures=_meanings(work, table, request),
        outcomes=outcomes,
        failures=failures,
        simulates=True,
        best_truth=float(tests[within].max()),
        sampling=float(np.mean(tests)),
        machines=[_versions()],
        tuned={label: strategy.tuned for label, strategy in strategies.items()},
        command=request.command,
    )


def _load(work: TrialWork, table: BenchmarkTable, label: str, seed: int) -> Trial:
    folder = run_folder(work.out, label, seed)
    trial = load_trial(folder)
    try:
        table.rows_of(trial.tokens)
    except ValueError as error:
        raise ValueError(f"{folder / TRIAL_FILE}: {error}; delete it to run it again") from error
    return trial


def _table_facts(work: TrialWork) -> dict[str, str]:
    short = "" if work.epochs == COST_EPOCHS else f", although rewards are of {work.epochs}"
    return {
        "table": f"rewards come from validation accuracies after {work.epochs} epochs, means over the benchmark's seeds and so "
        f"without noise; a measurement costs the seconds of training for {COST_EPOCHS} epochs{short}, none of validation; the "
        "architecture that overruns the budget is not counted; answers are looked up when a trial is over",
        "trained alone": "the table's, by the benchmark's authors",
    }


def _meanings(work: TrialWork, table: BenchmarkTable, request: Request) -> dict[str, str]:
    means = {name: meaning(*column) for name, column in table_measures(table, work.data).items()}
    best = f"validation accuracy on {work.data} after {work.epochs} epochs"
    means[BEST_REWARD] = f"highest {'reward' if reward_facts(request.config) else best}, which is what strategies maximise"
    return means


def _versions() -> str:
    from enas.machine import processor_name  # with PyTorch, which random search and evolution do without

    parts = (processor_name(), f"Python {platform.python_version()}", f"NumPy {np.__version__}", f"torch {version('torch')}")
    return ", ".join(parts)
