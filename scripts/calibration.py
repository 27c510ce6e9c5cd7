"""How many steps of a search fit into a time: steps of each kind are timed, on searches that are thrown away.

All strategies are timed in turns, round after round, so that a machine whose speed drifts slows all alike, and in as many
processes at once as will search, since cores that share caches or threads slow each other. What counts is the median over rounds.
Training steps and controller updates of an epoch are scaled by the same factor: a strategy whose steps are dear takes fewer of
both. What is found is written down once for a strategy and holds for all its seeds.

Not covered: a machine that is busier later on, paths that become dearer as a strategy learns, the pictures of an epoch's end, and
choosing and retraining the answer, which come after the time. The report tells the seconds that searches took.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console

from enas.atomic_file import write_atomically
from enas.devices import select_device
from enas.errors import Stopped
from enas.machine import machine_in_words
from enas.ranking.monitor import RankMonitor, draw_sample
from scripts.build import Run, build_search
from scripts.compare_strategies import Strategy, with_changes
from scripts.processes import run_all
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest

STEPS_FILE = "steps.json"
_ROUNDS = 7
_PER_ROUND = {"warming": 6, "training": 6, "measuring": 1}
"""Steps of each kind in a round; each trains another architecture."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that the parts of a search take.

    Attributes:
        shared_steps: training steps of an epoch, as the settings have them.
        warming, training: of a training step in which the strategy does not learn, as in warm-up, and of one in which it may.
        measuring: of a controller update.
        watching: of one look at how the weights rank; 0 without a table.
    """

    shared_steps: int
    warming: float
    training: float
    measuring: float
    watching: float


def calibrate(
    strategies: Mapping[str, Strategy], out: Path, seconds: float, *, num_workers: int, console: Console, stop: StopRequest
) -> dict[str, Strategy]:
    """Return strategies whose searches take about so many seconds where `num_workers` run at once.

    The steps of each are read from `OUT/LABEL/steps.json`, or found and written there.

    Raises: ValueError naming a file that is damaged or was made under other conditions, or where not even one step of each kind
        fits; Stopped where `stop` asks for it.
    """
    missing = [label for label in strategies if not (out / label / STEPS_FILE).exists()]
    if missing:
        console.print(f"Timing steps of {', '.join(missing)}", highlight=False, soft_wrap=True)
        configs = [strategies[label].config for label in missing]
        found: list[list[Timing]] = []
        run_all(time_steps, [configs] * num_workers, num_workers=num_workers, stop=stop, on_done=found.append)
        for label, timings in zip(missing, zip(*found, strict=True), strict=True):
            config = strategies[label].config
            record = find_steps(config, timings, seconds, label=label) | conditions(config, num_workers)
            (out / label).mkdir(exist_ok=True)
            write_atomically(out / label / STEPS_FILE, json.dumps(record, indent=1) + "\n")
    return {label: _with_steps(one, out / label / STEPS_FILE, num_workers) for label, one in strategies.items()}


def conditions(config: SearchConfig, num_workers: int) -> dict[str, Any]:
    """Return what the seconds of a step depend on beside the strategy."""
    return {"workers": num_workers, "threads": config.threads, "machine": machine_in_words(select_device(config.device))}


def _with_steps(strategy: Strategy, file: Path, num_workers: int) -> Strategy:
    remedy = "delete the file, and the runs beside it, to time them again"
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        steps = {name: int(record[name]) for name in ("shared.steps_per_epoch", "schedule.controller_steps")}
        for name, value in conditions(strategy.config, num_workers).items():
            if record[name] != value:
                raise ValueError(f"{file}: expected steps that were timed with {name} {value}, got {record[name]}; {remedy}")
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: expected numbers of steps, got {error!r}; {remedy}") from error
    own = ", ".join(filter(None, [strategy.own, *(f"{name} {count}" for name, count in steps.items())]))
    return replace(strategy, config=with_changes(strategy.config, steps), own=own)


def find_steps(config: SearchConfig, timings: Sequence[Timing], seconds: float, *, label: str) -> dict[str, Any]:
    """Return the numbers of steps of an epoch that fill the seconds, and the mean seconds of each kind of step."""
    names = ("warming", "training", "measuring", "watching")
    warming, training, measuring, watching = (mean(getattr(one, name) for one in timings) for name in names)
    schedule = config.schedule
    trained = [epoch for epoch in range(config.epochs) if schedule.trains_in(epoch)]
    num_measuring = sum(map(schedule.measures_in, range(config.epochs)))
    epoch_step = sum(training if schedule.measures_in(epoch) else warming for epoch in trained)  # one step in each epoch
    left = seconds - watching * (len(trained) // config.ranking.every_epochs + (schedule.kind == "two-stage"))
    whole = timings[0].shared_steps * epoch_step + num_measuring * schedule.controller_steps * measuring
    controller_steps = max(1, round(schedule.controller_steps * left / whole))
    rest = left - num_measuring * controller_steps * measuring
    steps = round(rest / epoch_step) if trained else timings[0].shared_steps
    if steps < 1:
        raise ValueError(f"--budget.amount: expected enough seconds for a step of {label} in each epoch, got {seconds:g}")
    return {
        "shared.steps_per_epoch": steps,
        "schedule.controller_steps": controller_steps,
        "seconds_per_warming_step": warming,
        "seconds_per_training_step": training,
        "seconds_per_controller_step": measuring,
    }


def time_steps(configs: Sequence[SearchConfig], stop: StopRequest) -> list[Timing]:
    """Time steps of several searches in turns. Raises: Stopped where `stop` asks for it."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runs: list[Run] = []
        for index, config in enumerate(configs):
            data = runs[0].data if runs else None  # a comparison's searches share their data
            run = build_search(replace(config, run_dir=None), Path(folder) / str(index), data=data, should_stop=stop)
            runs.append(stack.enter_context(run))
        rounds = [[_round(run, stop) for run in runs] for _ in range(1 + _ROUNDS)][1:]  # the first one fills caches
        return [
            Timing(
                shared_steps=run.search.shared_steps,
                watching=_time_watching(run),
                **{name: median(one[index][name] for one in rounds) for name in _PER_ROUND},
            )
            for index, run in enumerate(runs)
        ]


def _round(run: Run, stop: StopRequest) -> dict[str, float]:
    """Return the mean seconds of a step of each kind; 0 for one that the search has not."""
    steps = {"warming": lambda: _train(run, learns=False), "training": lambda: _train(run, learns=True)}
    schedule, seconds = run.config.schedule, dict.fromkeys(_PER_ROUND, 0.0)
    if schedule.trains_in(0):
        for name in [*["warming"] * (schedule.warmup_epochs > 0), *["training"] * (schedule.kind == "alternating")]:
            seconds[name] = _seconds_of(steps[name], _PER_ROUND[name], stop, fetch=run.search.trainer.fetch)
    run.search.controller_envs.reset(options={"phase": "controller"})
    seconds["measuring"] = _seconds_of(lambda: _measure(run), _PER_ROUND["measuring"], stop)
    return seconds


def _train(run: Run, *, learns: bool) -> None:
    run.search.trainer.step(progress=0.0, learns=learns)


def _measure(run: Run) -> None:
    rollout = run.controller.propose(run.search.controller_envs.num_envs)
    run.controller.update(rollout, run.search.controller_envs.step(rollout.tokens)[1])


def _time_watching(run: Run) -> float:
    """Return the seconds of measuring how the weights rank, where a table is given."""
    if run.config.ranking.table is None:
        return 0.0
    monitor = RankMonitor(run.shared, draw_sample(run.shared.space, run.config.ranking), run.config.ranking)
    start = time.perf_counter()
    monitor(0, True)
    return time.perf_counter() - start


def _seconds_of(
    step: Callable[[], object], count: int, stop: StopRequest, *, fetch: Callable[[], object] = lambda: None
) -> float:
    """Return the mean seconds of so many steps and of fetching what they gave, which waits until they are done."""
    start = time.perf_counter()
    for _ in range(count):
        if stop():
            raise Stopped("stopped while steps were timed, nothing is lost")
        step()
    fetch()
    return (time.perf_counter() - start) / count
