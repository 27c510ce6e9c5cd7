"""The work of `compare` without a table: ordinary searches with shared weights, each in its own folder, and what came of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from enas.atomic_file import write_atomically
from enas.compare.outcomes import SEARCH_SECONDS, Front, History, Outcome, Study, front_of
from enas.compare.table_outcomes import meaning
from enas.console import ProgressBar
from enas.devices import select_device
from enas.errors import SearchFailed, TrainingFailed
from enas.export import Answer
from enas.looked_up import look_up
from enas.machine import machine_in_words
from enas.metrics import ACCURACY, METRICS, Metric
from enas.pareto import FRONT_FILE
from enas.retrain_result import RetrainResult
from enas.search import Search
from enas.tables import BenchmarkTable, load_table
from scripts.build import Run, build_search, derive_answer
from scripts.calibration import calibrate
from scripts.compare_settings import Request, reward_facts
from scripts.compare_strategies import REFERENCE, Strategy, run_folder
from scripts.configuration import CONFIG_FILE, load_saved
from scripts.finish import retrain_and_report
from scripts.folders import check_folder
from scripts.processes import num_cores, run_all
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest

OUTCOME_FILE = "outcome.json"


@dataclass(frozen=True, kw_only=True)
class SearchTask:
    """A run. Attributes: config: with the run's own seed. folder: of it."""

    config: SearchConfig
    folder: Path


@dataclass(frozen=True, kw_only=True)
class SearchWork:
    """Makes a run, or what is left of it.

    Attributes:
        on_step: told the search after each step; None in a process of its own.
        threads: of a new run whose settings leave them open; None for PyTorch's choice.
    """

    on_step: Callable[[SearchTask, Search], None] | None = None
    threads: int | None = None

    def __call__(self, task: SearchTask, stop: StopRequest) -> SearchTask:
        """Search, derive, retrain, report; write the outcome. Raises: Stopped where `stop` asks for it."""
        config, folder = task.config, task.folder
        if (folder / CONFIG_FILE).exists():
            config = replace(config, resume=folder, threads=config.threads or load_saved(folder).threads)
            check_folder(config, folder)
        else:
            config = replace(config, threads=config.threads or self.threads)

        def tell(search: Search) -> None:
            if self.on_step is not None:
                self.on_step(task, search)

        try:
            with build_search(config, folder, on_step=tell, should_stop=stop) as run:
                with stop.deferred():
                    run.search.run()
                searched = run.tracker.elapsed
                answer = derive_answer(run)
                with redirect_stdout(io.StringIO()):  # it is in the run's report.md
                    retrain_and_report(run, answer, Console(file=io.StringIO()), stop)
                record = _record(run, answer, searched=searched)
        except (SearchFailed, TrainingFailed) as error:
            record = {"failure": str(error)}
        write_atomically(folder / OUTCOME_FILE, json.dumps(record, indent=1) + "\n")
        return task


def scratch(metric: Metric) -> str:
    """Return the name of what answers reach when they are trained from scratch."""
    return f"test {metric.name} from scratch"


def with_shared_weights(metric: Metric) -> str:
    """Return the name of what answers reach with shared weights."""
    return f"shared-weight validation {metric.name}"


def _record(run: Run, answer: Answer, *, searched: float) -> dict[str, Any]:
    """Return what `outcome.json` holds: results of the answer, the best evidence first, and what the run took.

    An answer that the table lacks counts as a failure, as one over a hard limit and one of an infinite perplexity do.
    """
    config, position, metric = run.config, run.search.position, answer.metric
    measures: dict[str, float] = {}
    if config.ranking.table is not None:
        try:
            found = look_up(load_table(config.ranking.table), answer.architecture)
        except ValueError as error:
            return {"failure": f"the answer was not looked up: {error}; delete {run.folder / OUTCOME_FILE} to try again"}
        found.sort(key=lambda one: (one.split != "test", one.data != config.ranking.data))
        measures |= {f"{one.data} {one.split}": one.accuracy for one in found}
    if config.retrain.epochs > 0:
        files = [run.folder / "retrain" / f"searched-{index}" / "result.json" for index in range(config.retrain.seeds)]
        values = [RetrainResult(**json.loads(file.read_text(encoding="utf-8"))["result"]).test_value for file in files]
        measures[scratch(metric)] = float(np.mean(values))
    measures[with_shared_weights(metric)] = answer.valid
    for name, value in measures.items():
        if not np.isfinite(value):
            return {"failure": f"{name} is not finite"}
    training_epochs = sum(map(config.schedule.trains_in, range(config.epochs)))
    return {
        "measures": measures,
        "metric": metric.name,
        "parameters": answer.cost.parameters,
        "flops": answer.cost.flops,
        "spent": {
            "architectures": position.num_measured,
            "training steps": training_epochs * run.search.shared_steps,
            SEARCH_SECONDS: round(searched, 1),
            "seconds in all": round(run.tracker.elapsed, 1),
        },
        "machine": machine_in_words(select_device(config.device)),
    }


def compare_searches(request: Request, console: Console, stop: StopRequest) -> Study:
    """Make the runs that are missing and read all of them. Raises: Stopped where `stop` asks for it."""
    strategies, num_workers = request.strategies, request.config.workers or 1
    threads = request.config.threads
    if threads is None and num_workers > 1:
        threads = max(1, num_cores() // num_workers)
    if request.budget.kind == "seconds":
        seconds, timed = request.budget.amount, _on_threads(strategies, threads)
        found = calibrate(timed, request.out, seconds, num_workers=num_workers, console=console, stop=stop)
        strategies = _on_threads(found, request.config.threads)
    tasks = [
        SearchTask(config=replace(one.config, seed=seed, run_dir=None), folder=run_folder(request.out, label, seed))
        for seed in request.seeds
        for label, one in strategies.items()
    ]
    missing = [task for task in tasks if not (task.folder / OUTCOME_FILE).exists()]
    _run(missing, num_workers=num_workers, threads=threads, console=console, stop=stop)
    return _study(request, strategies)


def _on_threads(strategies: Mapping[str, Strategy], threads: int | None) -> dict[str, Strategy]:
    return {label: replace(one, config=replace(one.config, threads=threads)) for label, one in strategies.items()}


def _run(tasks: list[SearchTask], *, num_workers: int, threads: int | None, console: Console, stop: StopRequest) -> None:
    done = 0
    with ProgressBar(console, unit="runs") as bar:

        def show(task: SearchTask) -> None:
            nonlocal done
            done += 1
            bar.show(done, len(tasks), text=f"{task.folder.parent.name}, {task.folder.name} done")

        def tell(task: SearchTask, search: Search) -> None:
            text = f"{task.folder.parent.name}, {task.folder.name}: step {search.steps_done:,} of {search.num_steps:,}"
            bar.show(done, len(tasks), text=text)

        work = SearchWork(on_step=tell if num_workers == 1 else None, threads=threads)
        run_all(work, tasks, num_workers=num_workers, stop=stop, on_done=show)


def _study(request: Request, strategies: Mapping[str, Strategy]) -> Study:
    """Return what the runs gave."""
    config = request.config
    table = None if config.ranking.table is None else load_table(config.ranking.table)
    outcomes, failures = [], {}
    metric = ACCURACY
    for label, seed in ((label, seed) for label in strategies for seed in request.seeds):
        folder = run_folder(request.out, label, seed)
        record = _read_record(folder / OUTCOME_FILE)
        if "failure" in record:
            failures[f"{label}, seed {seed}"] = str(record["failure"])
            continue
        metric = METRICS[record.get("metric", "accuracy")]  # the same in all; outcomes of before texts do not say so
        outcomes.append(
            Outcome(
                strategy=label,
                seed=seed,
                measures=record["measures"],
                history=read_history(folder, table, data=config.ranking.data, metric=metric),
                fronts=read_fronts(folder, metric),
                spent=record["spent"],
                machine=record["machine"],
            )
        )
    if not any(one.strategy == REFERENCE for one in outcomes):
        raise SearchFailed(f"no run of {REFERENCE} gave an answer: {next(iter(failures.values()))}")
    measures = {name: _meaning(name, config, metric) for name in outcomes[0].measures}  # the same in all
    tests = None if table is None else table.accuracy(config.ranking.data, "test")
    network = f"the same space ({config.space}), network and data ({config.data}) for all"
    num_epochs, num_trainings = config.retrain.epochs, config.retrain.seeds
    training = f"{_counted(num_epochs, 'epoch')} by `retrain`, {_counted(num_trainings, 'training')} an answer"
    facts = {"benchmark": network, **({"trained alone": training} if config.retrain.epochs else {})}
    if table is not None:
        facts |= {"table": f"answers are looked up in {config.ranking.table} when a search is over"}
        facts.setdefault("trained alone", "the table's, by the benchmark's authors")
    facts |= reward_facts(config, metric)
    return Study(
        title=f"{len(strategies)} strategies on {config.data}, {config.space} space",
        facts=facts,
        strategies={label: one.own for label, one in strategies.items()},
        names={label: one.config.strategy for label, one in strategies.items()},
        reference=REFERENCE,
        seeds=list(request.seeds),
        budget=request.budget,
        measures=measures,
        outcomes=outcomes,
        metric=metric,
        is_proxy=next(iter(measures)) == with_shared_weights(metric),
        failures=failures,
        best_truth=None if tests is None else float(tests.max()),
        sampling=None if tests is None else float(tests.mean()),
        machines=sorted({one.machine for one in outcomes}),
        total_seconds=sum(one.spent["seconds in all"] for one in outcomes),
        tuned={label: one.tuned for label, one in strategies.items()},
        command=request.command,
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _meaning(measure: str, config: SearchConfig, metric: Metric) -> str:
    if measure == scratch(metric):
        return f"test {metric.name} on {config.data}, trained from scratch for {_counted(config.retrain.epochs, 'epoch')}"
    if measure == with_shared_weights(metric):
        return f"{metric.name} of the shared weights on the whole validation set, a proxy"
    data, split = measure.rsplit(" ", 1)
    return meaning(data, "test" if split == "test" else "valid")


def _read_record(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not ("failure" in record or {"measures", "spent", "machine"} <= set(record)):
            raise ValueError(f"only {', '.join(record)}")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file}: expected the outcome of a run, got {error}; delete the file to derive it again") from error
    return dict(record)


def read_history(folder: Path, table: BenchmarkTable | None, *, data: str, metric: Metric = ACCURACY) -> History:
    """Return what a run measured for rewards, in order, and when.

    Args: table: that says what each architecture reaches alone; None for a run without one. data: of the table. metric: of what
        was measured.
    Raises: ValueError naming a file that is damaged.
    """
    try:
        lines = (folder / "architectures.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["phase"] == "controller"]
        times = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        clock = np.interp([row["step"] for row in rows], [row["step"] for row in times], [row["time"] for row in times])
        known = [None if "failure" in row else row[metric.name] for row in rows]
        return History(
            rewards=np.array([row["reward"] for row in rows], dtype=np.float64),
            values=np.array(known, dtype=np.float64),  # None becomes NaN
            seconds=np.maximum.accumulate(clock),
            truths=None
            if table is None
            else table.accuracy(data, "test")[table.rows_of(np.array([row["tokens"] for row in rows]))],
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: expected the record of a search, got {error!r}") from error


def read_fronts(folder: Path, metric: Metric = ACCURACY) -> dict[str, Front]:
    """Return the front that a search measured on the whole validation set; none where it did not weigh or limit a cost.

    Raises: ValueError naming a file that is damaged.
    """
    file = folder / FRONT_FILE
    if not file.exists():
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        cost, rows = str(record["cost"]), record["front"]
        costs, values = ([row["costs"][cost] for row in rows], [row[f"valid_{metric.name}"] for row in rows])
        front = front_of(np.array(costs, dtype=np.float64), np.array(values, dtype=np.float64), metric)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: expected the front of a search, got {error!r}") from error
    return {} if front is None else {cost: front}
