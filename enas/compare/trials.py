"""A strategy on a benchmark's table: what a search on real networks costs in GPU days takes milliseconds (Dong and Yang 2020).

The protocol is the benchmark's multi-trial one: a reward is the validation accuracy after a short training, each measurement
costs the seconds of that training, and the answer is the architecture with the highest reward. The strategy is told rewards
alone; what a long training reaches is looked up after the trial (`table_outcomes`). Departure: an architecture counts if its
training ends within the budget; the benchmark's code lets the last one overrun it. Rewards are means over the benchmark's seeds
and carry no noise, where its code draws one seed's; and only the seconds of training are charged, none of validation.

Written against protocols: the environment answers tokens with rewards and `final_info["seconds"]`, the controller is any strategy
that learns from rewards.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from enas.atomic_file import write_atomically
from enas.compare.budget import Budget
from enas.types import Controller, FloatArray, IntArray, SearchEnv

TRIAL_FILE = "trial.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """What a strategy measured within a budget, in order.

    Attributes:
        tokens: int64 (n, D).
        rewards: (n,).
        accuracies: (n,), fractions that the rewards come from.
        seconds: (n,), simulated seconds spent when each was measured.
    """

    tokens: IntArray
    rewards: FloatArray
    accuracies: FloatArray
    seconds: FloatArray

    @property
    def answer(self) -> int:
        """Which architecture has the highest reward, the first of equal ones."""
        return int(np.argmax(self.rewards))


def run_trial(controller: Controller, envs: SearchEnv, budget: Budget) -> Trial:
    """Let a strategy search until the budget is spent; the last batch is cut there.

    Args: envs: N slots over a table, each of which costs more than 0 seconds.
    Raises: ValueError where not even the first architecture fits into the budget.
    """
    batches: list[tuple[IntArray, FloatArray, FloatArray, FloatArray]] = []
    num_measured, spent = 0, 0.0
    envs.reset(options={"phase": "controller"})
    while True:
        rollout = controller.propose(envs.num_envs)
        _, rewards, _, _, infos = envs.step(rollout.tokens)
        known = infos["final_info"]
        seconds = spent + np.cumsum(known["seconds"])
        counts = num_measured + np.arange(1, len(rewards) + 1)
        used = seconds if budget.kind == "simulated-seconds" else counts
        fits = int(np.count_nonzero(used <= budget.amount))
        batches.append((rollout.tokens[:fits], rewards[:fits], known["accuracy"][:fits], seconds[:fits]))
        if fits < len(rewards) or used[-1] == budget.amount:
            break
        controller.update(rollout, rewards)
        num_measured, spent = int(counts[-1]), float(seconds[-1])
    tokens, all_rewards, accuracies, ends = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if not len(all_rewards):
        raise ValueError(f"budget.amount: expected enough for an architecture, got {budget.in_words()}")
    return Trial(tokens=tokens, rewards=all_rewards, accuracies=accuracies, seconds=ends)


def save_trial(trial: Trial, folder: Path) -> None:
    """Write a trial into its folder, which is made; accuracies only where rewards are something else."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"tokens": trial.tokens.tolist(), "rewards": trial.rewards.tolist(), "seconds": trial.seconds.tolist()}
    if not np.array_equal(trial.rewards, trial.accuracies):
        record["accuracies"] = trial.accuracies.tolist()
    write_atomically(folder / TRIAL_FILE, json.dumps(record) + "\n")


def load_trial(folder: Path) -> Trial:
    """Read a trial. Raises ValueError naming the file where it is damaged."""
    file = folder / TRIAL_FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        tokens = np.array(record["tokens"], dtype=np.int64)
        record.setdefault("accuracies", record["rewards"])
        names = ("rewards", "accuracies", "seconds")
        rewards, accuracies, seconds = (np.array(record[name], dtype=np.float64) for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: expected a trial, got {error!r}; delete the file to run it again") from error
    numbers = (rewards, accuracies, seconds)
    if tokens.ndim != 2 or not len(tokens) or any(one.shape != tokens.shape[:1] for one in numbers):
        shapes = f"shapes {tokens.shape}, {', '.join(str(one.shape) for one in numbers)}"
        expected = "tokens (n, D), rewards, accuracies and seconds (n,)"
        raise ValueError(f"{file}: expected {expected}, got {shapes}; delete it to run it again")
    if not all(np.isfinite(one).all() for one in numbers):
        raise ValueError(f"{file}: expected finite numbers, got others; delete it to run it again")
    return Trial(tokens=tokens, rewards=rewards, accuracies=accuracies, seconds=seconds)
