"""What a good result costs: the architectures that no other beats in accuracy, or perplexity, without costing more.

Rewards of a search are measured on minibatches while the weights move, so a front of them is one of luck. `worth_measuring`
therefore chooses more than the first front, and the front is taken anew among what was measured on the whole validation set.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from enas.atomic_file import write_atomically
from enas.configs import CostName, ObjectiveConfig
from enas.costs import UNITS, cost_text
from enas.derive import Candidate
from enas.metrics import ACCURACY, METRICS, Metric
from enas.rewards import limit_excess
from enas.spaces.base import SearchSpace
from enas.types import FloatArray, IntArray

FRONT_FILE = "pareto.json"
NUM_MEASURED = 30
"""Most architectures of a search that are measured again for its front."""


def pareto_front(score: FloatArray, cost: FloatArray) -> IntArray:
    """Return which architectures are dominated by none: none is as good in everything and better in something.

    Args:
        score: (N,), higher is better.
        cost: (N,) or (N, C), lower is better. An architecture of which anything is not finite is on no front.

    Returns: indices (F,), the lowest (first) cost first; of architectures equal in everything all, in their order.
    """
    costs = cost[:, None] if cost.ndim == 1 else cost
    usable = np.flatnonzero(np.isfinite(score) & np.isfinite(costs).all(axis=1))
    # Sorted by costs, then by falling score, none is dominated by a later one.
    keys = (usable, -score[usable], *costs[usable].T[::-1])
    front: list[int] = []
    best = np.empty((0, costs.shape[1] + 1))
    for index in usable[np.lexsort(keys)].tolist():
        point = np.array([*costs[index], -score[index]])
        if not ((best <= point).all(axis=1) & (best < point).any(axis=1)).any():
            front.append(index)
            best = np.vstack([best, point])
    return np.array(front, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a search measured, each architecture once: the last time, for the weights were trained longest then.

    Attributes:
        tokens: int64 (N, D).
        values: (N,), of the metric on the minibatches of rewards; NaN where it failed.
        costs: (N,) by name; infinite for a latency of what did not fit in memory.
        metric: how results are told.
    """

    tokens: IntArray
    values: FloatArray
    costs: Mapping[str, FloatArray]
    metric: Metric = ACCURACY


def read_measured(file: Path, objective: ObjectiveConfig, metric: Metric = ACCURACY) -> Measured:
    """Read what a search measured from its `architectures.jsonl`, lines of phase `controller` with the objective's costs."""
    last: dict[tuple[int, ...], dict[str, Any]] = {}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["phase"] == "controller" and "costs" in row:
                last[tuple(row["tokens"])] = row
    values = [np.nan if "failure" in row or row[metric.name] is None else row[metric.name] for row in last.values()]
    costs: dict[str, FloatArray] = {
        name: np.array([np.inf if (cost := row["costs"][name]) is None else cost for row in last.values()], dtype=np.float64)
        for name in objective.costs
    }
    tokens = np.array(list(last), dtype=np.int64)
    return Measured(tokens=tokens, values=np.array(values, dtype=np.float64), costs=costs, metric=metric)


def worth_measuring(measured: Measured, objective: ObjectiveConfig, num_architectures: int = NUM_MEASURED) -> IntArray:
    """Choose architectures that may be on the front: the front, then that of the rest, and so on.

    Fronts are those of the metric and the objective's first cost. Only what is within all hard limits is chosen, unless none of
    it went well. Of a front with too many, those at even distances along it.

    Returns: tokens, int64 (<= num_architectures, D).
    """
    left = np.arange(len(measured.tokens))
    if objective.limits and len(left):
        within = (limit_excess(measured.costs, objective.limits) <= 1) & np.isfinite(measured.values)
        left = left[within] if within.any() else left
    scores, cost = measured.metric.scores(measured.values), measured.costs[objective.costs[0]]
    chosen: list[int] = []
    while len(chosen) < num_architectures:
        front = left[pareto_front(scores[left], cost[left])]
        if not front.size:
            break
        room = num_architectures - len(chosen)
        picked = front if len(front) <= room else front[np.unique(np.linspace(0, len(front) - 1, room).round().astype(np.int64))]
        chosen += picked.tolist()
        left = np.setdiff1d(left, front)
    return measured.tokens[chosen]


@dataclass(frozen=True, kw_only=True)
class Front:
    """The front among candidates that were measured on the whole validation set.

    Attributes:
        objective: its first cost is the axis.
        candidates: all that were measured and did not fail.
        members: indices of the front among them, the lowest cost first.
        answer: tokens of the search's answer.
        metric: how results are told.
    """

    objective: ObjectiveConfig
    candidates: Sequence[Candidate]
    members: IntArray
    answer: tuple[int, ...]
    metric: Metric = ACCURACY

    @property
    def cost(self) -> CostName:
        """Name of the cost that is the axis."""
        return self.objective.costs[0]

    @property
    def points(self) -> tuple[FloatArray, FloatArray]:
        """Cost and result of all candidates, (K,) each."""
        costs = np.array([candidate.costs[self.cost] for candidate in self.candidates], dtype=np.float64)
        return costs, np.array([candidate.valid(self.metric) for candidate in self.candidates], dtype=np.float64)

    def to_json(self, space: SearchSpace[Any]) -> dict[str, Any]:
        """Return the front for JSON."""
        rows = [self.candidates[index] for index in self.members.tolist()]
        return {
            "metric": self.metric.name,
            "cost": self.cost,
            "target": self.objective.target if self.cost == self.objective.cost else None,
            "limits": dict(self.objective.limits),
            "num_measured": len(self.candidates),
            "answer": list(self.answer),
            "front": [
                {
                    "tokens": list(row.tokens),
                    "text": space.to_text(space.decode(row.tokens)),
                    f"valid_{self.metric.name}": row.valid(self.metric),
                    "reward": row.reward,
                    "costs": dict(row.costs),
                    "within_limits": row.within_limits,
                }
                for row in rows
            ],
        }


def make_front(
    candidates: Sequence[Candidate], objective: ObjectiveConfig, *, answer: tuple[int, ...], metric: Metric = ACCURACY
) -> Front:
    """Take the front among candidates of which costs were measured; those that failed are left out."""
    sound = [candidate for candidate in candidates if candidate.failure is None]
    front = Front(objective=objective, candidates=sound, members=np.arange(0), answer=answer, metric=metric)
    costs, values = front.points
    return replace(front, members=pareto_front(metric.scores(values), costs))


def save_front(front: Front, folder: Path, space: SearchSpace[Any]) -> None:
    """Write `pareto.json` into a run folder."""
    write_atomically(folder / FRONT_FILE, json.dumps(front.to_json(space), indent=2) + "\n")


def front_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of Markdown that show what `pareto.json` says."""
    metric = METRICS[record.get("metric", "accuracy")]
    names = list(record["front"][0]["costs"]) if record["front"] else []
    limits = ", ".join(f"{cost_text(name, most)} {UNITS[name]}" for name, most in record["limits"].items())
    aim = [] if record["target"] is None else [f"target {cost_text(record['cost'], record['target'])}"]
    aim += [f"limit {limits}"] if limits else []
    unit = UNITS[record["cost"]]
    text = (
        f"The architectures that none of {record['num_measured']} measured on the whole validation set, with shared weights, "
        f"beats in {metric.name} at no more {unit} ({'; '.join(aim)}):"
    )
    headings = [*(UNITS[name] for name in names), metric.name, "reward", "", "architecture"]
    lines = [f"## {metric.name.capitalize()} against {unit}", "", "![the Pareto front](pareto.svg)", "", text, ""]
    lines += [f"| {' | '.join(headings)} |", f"|{'--:|' * (len(names) + 2)}:--|:--|"]
    for row in record["front"]:
        mark = "answer" if row["tokens"] == record["answer"] else "" if row["within_limits"] else "over the limit"
        text = " / ".join(row["text"].splitlines()).replace("|", "\\|")  # a table's own sign, in texts of NAS-Bench-201
        cells = [
            *itertools.starmap(cost_text, row["costs"].items()),
            metric.text(row[f"valid_{metric.name}"]),
            f"{row['reward']:.4f}",
            mark,
            f"`{text}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]
