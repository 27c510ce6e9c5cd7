"""How many steps of a search fit into a time: some of each kind are timed, on a search that is thrown away.

They are timed in as many processes at once as will search, since cores that share caches or threads slow each other. Training
steps and controller updates of an epoch are scaled by the same factor, so that a strategy whose steps are dear takes fewer of
both. What is found is written down once for a strategy and holds for all its seeds. Not covered: a machine that is busier later
on, paths that become dearer as a strategy learns, and choosing and retraining the answer, which come after the time.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from enas.atomic_file import write_atomically
from enas.errors import Stopped
from enas.ranking.monitor import RankMonitor, draw_sample
from scripts.build import Run, build_search
from scripts.compare_strategies import Strategy, with_changes
from scripts.presets import SearchConfig
from scripts.processes import run_all
from scripts.stopping import StopRequest

STEPS_FILE = "steps.json"
_WARM = 3
"""Steps before the clock starts: the first ones compile, allocate and fill caches."""
_TRAINING, _UPDATES = 25, 5
"""Steps with the clock: of training, each on another architecture, and of controller updates, each on many."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that the parts of a search take.

    Attributes:
        shared_steps: training steps of an epoch, as the settings have them.
        training, measuring: of a training step and of a controller update.
        watching: of one look at how the weights rank; 0 without a table.
    """

    shared_steps: int
    training: float
    measuring: float
    watching: float


def calibrate(
    strategies: Mapping[str, Strategy], out: Path, seconds: float, *, num_workers: int, console: Console, stop: StopRequest
) -> dict[str, Strategy]:
    """Return strategies whose searches take about so many seconds where `num_workers` run at once.

    The steps of each are read from `OUT/LABEL/steps.json`, or found and written there.

    Raises: ValueError naming a damaged file, or where not even one step of each kind fits; Stopped where `stop` asks for it.
    """
    for label, strategy in strategies.items():
        file = out / label / STEPS_FILE
        if file.exists():
            continue
        console.print(f"Timing steps of {label}", highlight=False)
        timings: list[Timing] = []
        run_all(time_steps, [strategy.config] * num_workers, num_workers=num_workers, stop=stop, on_done=timings.append)
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(find_steps(strategy.config, timings, seconds, label=label), indent=1) + "\n")
    return {label: _with_steps(strategy, out / label / STEPS_FILE) for label, strategy in strategies.items()}


def _with_steps(strategy: Strategy, file: Path) -> Strategy:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        steps = {name: int(record[name]) for name in ("shared.steps_per_epoch", "schedule.controller_steps")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected numbers of steps, got {error!r}; delete the file to time them again") from error
    own = ", ".join(filter(None, [strategy.own, *(f"{name} {count}" for name, count in steps.items())]))
    return replace(strategy, config=with_changes(strategy.config, steps), own=own)


def find_steps(config: SearchConfig, timings: Sequence[Timing], seconds: float, *, label: str) -> dict[str, Any]:
    """Return the numbers of steps of an epoch that fill the seconds, and the mean seconds of each kind of step."""
    shared_steps = timings[0].shared_steps
    training, measuring, watching = (
        sum(getattr(one, name) for one in timings) / len(timings) for name in ("training", "measuring", "watching")
    )
    epochs = range(config.epochs)
    num_training, num_measuring = (sum(map(is_in, epochs)) for is_in in (config.schedule.trains_in, config.schedule.measures_in))
    left = seconds - watching * (1 + num_training // config.ranking.every_epochs)
    whole = num_training * shared_steps * training + num_measuring * config.schedule.controller_steps * measuring
    controller_steps = max(1, round(config.schedule.controller_steps * left / whole))
    rest = left - num_measuring * controller_steps * measuring
    steps = round(rest / (num_training * training)) if num_training else shared_steps
    if steps < 1:
        raise ValueError(f"--budget.amount: expected enough seconds for a step of {label} in each epoch, got {seconds:g}")
    return {
        "shared.steps_per_epoch": steps,
        "schedule.controller_steps": controller_steps,
        "seconds_per_training_step": training,
        "seconds_per_controller_step": measuring,
    }


def time_steps(config: SearchConfig, stop: StopRequest) -> Timing:
    """Time some steps of each kind. Raises: Stopped where `stop` asks for it."""
    config = replace(config, run_dir=None)
    with tempfile.TemporaryDirectory() as folder, build_search(config, Path(folder) / "run", should_stop=stop) as run:
        shared_steps = run.search.shared_steps
        training, measuring, watching = _time_training(run, stop), _time_measuring(run, stop), _time_watching(run)
    return Timing(shared_steps=shared_steps, training=training, measuring=measuring, watching=watching)


def _time_training(run: Run, stop: StopRequest) -> float:
    """Return the seconds of a training step, gradients for a strategy that learns from them included."""
    if not run.config.schedule.trains_in(0):
        return 0.0
    learns = run.config.schedule.kind == "alternating"
    run.search.trainer.start()
    return _seconds_of(lambda: run.search.trainer.step(progress=0.0, learns=learns), _TRAINING, stop)


def _time_measuring(run: Run, stop: StopRequest) -> float:
    envs, controller = run.search.controller_envs, run.controller
    envs.reset(options={"phase": "controller"})

    def measure() -> None:
        rollout = controller.propose(envs.num_envs)
        controller.update(rollout, envs.step(rollout.tokens)[1])

    return _seconds_of(measure, _UPDATES, stop)


def _time_watching(run: Run) -> float:
    """Return the seconds of measuring how the weights rank, where a table is given."""
    if run.config.ranking.table is None:
        return 0.0
    monitor = RankMonitor(run.shared, draw_sample(run.shared.space, run.config.ranking), run.config.ranking)
    start = time.perf_counter()
    monitor(0, True)
    return time.perf_counter() - start


def _seconds_of(step: Callable[[], object], count: int, stop: StopRequest) -> float:
    start = 0.0
    for index in range(-_WARM, count):
        if stop():
            raise Stopped("stopped while steps were timed, nothing is lost")
        if index == 0:
            start = time.perf_counter()
        step()
    return (time.perf_counter() - start) / count
