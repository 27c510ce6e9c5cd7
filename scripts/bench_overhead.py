"""What of a search's epoch is not the network's own work: sampling, updates of the controller, environments, data.

The parts are timed where they run, inside complete steps, not by themselves: caches are as cold as a network leaves them,
numerator and denominator are of the same steps, and no difference of two long times drowns them in noise. On an accelerator each
part is waited for, which forbids the overlap that a search has. The garbage collector runs as in a search. Not covered: what the
search writes down.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from enas.measure import NUM_WARMUP_PAIRS, Pairs, seconds, timed_calls
from enas.paths import ControllerPaths
from enas.trainers import PathTrainer
from envs.vector import SharedWeightVectorEnv
from scripts.bench_settings import SpaceName
from scripts.workbench import Measured, Workbench

Spent = dict[str, float]


def overhead(bench: Workbench, space: SpaceName) -> Measured:
    """Time a shared step and a controller step of a search, and within them all that is not the network's own work.

    Each counts as often as an epoch of the space's own search has it. Metrics are fetched after every step, which a search does
    not, so that what they cost is not understated.
    """
    shared, controller, schedule = bench.weights(space), bench.controller(space), bench.spaces[space].schedule
    rule = ControllerPaths(shared.space, controller, seed=bench.seed)
    trainer = PathTrainer(shared, rule)
    envs = SharedWeightVectorEnv(shared, num_envs=schedule.architectures_per_step, phase="controller")

    def train() -> None:
        trainer.step(progress=0.0, learns=True)
        trainer.fetch()

    def control() -> None:
        rollout = controller.propose(envs.num_envs)
        controller.update(rollout, envs.step(rollout.tokens)[1])

    rows: list[Spent] = []
    with ExitStack() as stack:
        calls = {
            name: stack.enter_context(timed_calls(owner, method, bench.device))
            for name, owner, method in (
                ("draw", rule, "draw"),
                ("train", shared, "train_step"),
                ("train data", shared.train_stream, "batch"),
                ("propose", controller, "propose"),
                ("env", envs, "step"),
                ("measure", shared, "evaluate"),
                ("valid data", shared.valid_stream, "batch"),
                ("update", controller, "update"),
            )
        }

        def spent_by(work: Callable[[], None]) -> Spent:
            for name in calls:
                calls[name].clear()
            whole = seconds(work, bench.device)
            return {"whole": whole, **{name: sum(times) for name, times in calls.items()}}

        for index in range(-NUM_WARMUP_PAIRS, bench.num_pairs):
            steps = (shared.steps_per_epoch, schedule.controller_steps)
            rows.append(epoch_seconds(spent_by(train), spent_by(control), steps=steps))
            bench.on_pair(max(0, index + 1))
    return _as_pairs(rows[NUM_WARMUP_PAIRS:])


def epoch_seconds(train: Spent, control: Spent, *, steps: tuple[int, int]) -> Spent:
    """Return the seconds of an epoch and of its parts beside the network, from those of one step of each phase.

    Args: train, control: seconds by call. steps: how many of both an epoch has.
    """
    num_train, num_control = steps
    return {
        "whole": num_train * train["whole"] + num_control * control["whole"],
        "sampling": num_train * train["draw"] + num_control * control["propose"],
        "update": num_control * control["update"],
        "env": num_train * (train["whole"] - train["draw"] - train["train"])
        + num_control * (control["env"] - control["measure"]),
        "data": num_train * train["train data"] + num_control * control["valid data"],
    }


def _as_pairs(rows: list[Spent]) -> Measured:
    wholes = tuple(row.pop("whole") for row in rows)
    note = ", ".join(f"{part} {np.median([row[part] for row in rows]):.3g} s" for part in rows[0])
    return Pairs(first=tuple(sum(row.values()) for row in rows), second=wholes), f"of an epoch {note}"
