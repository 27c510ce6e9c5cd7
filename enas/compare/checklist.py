"""The best practices for research on neural architecture search (Lindauer and Hutter 2020, JMLR 21(243)) as a checklist.

The 14 practices, in words of our own, filled in from the runs of a comparison. What the runs do not know is left to the user:
`you must answer`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from enas.compare.outcomes import Study

Answer = Literal["yes", "no", "partly", "you must answer"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """A practice and whether the comparison follows it.

    Attributes:
        number: in the paper.
        practice: what it asks for.
        answer: from the runs.
        fact: what the answer rests on.
    """

    number: int
    practice: str
    answer: Answer
    fact: str


def fill_in(study: Study) -> list[Item]:
    """Return all 14 items."""
    return [*_code(study), *_comparing(study), *_reporting(study)]


def _code(study: Study) -> list[Item]:
    pipeline = study.facts.get("trained alone", "by this package, with the settings in `compare.yaml`")
    return [
        _item(
            1, "Code of the training pipeline is released", "you must answer", f"Final accuracies: {pipeline}. Say where it is."
        ),
        _item(
            2, "Code of the NAS method is released", "you must answer", "The strategies are this package's. Say which commit ran."
        ),
        _item(3, "Code is released now, not when it is tidy", "you must answer", "The runs do not know."),
    ]


def _comparing(study: Study) -> list[Item]:
    num_each = {name: len(study.of(name)) for name in study.strategies}
    seeds = f"seeds {study.seeds[0]} to {study.seeds[-1]}" if len(study.seeds) > 1 else f"seed {study.seeds[0]} alone"
    runs = ", ".join(f"{name} {num}" for name, num in num_each.items())
    failed = f"; {len(study.failures)} runs failed and are left out" if study.failures else ""
    variants = {name: count for name, count in Counter(study.names.values()).items() if count > 1}
    ablations = ", ".join(f"{count} variants of {name}" for name, count in variants.items())
    is_table = study.simulates
    axes = "simulated seconds" if is_table else "seconds"
    return [
        _item(4, "The same benchmark, not just the same data", "yes", study.facts["benchmark"]),
        _item(
            5,
            "Ablation studies",
            "partly" if variants else "no",
            f"{ablations}; whether they cover what matters, you must answer."
            if variants
            else "No strategy ran in more than one variant.",
        ),
        _item(
            6,
            "The same evaluation protocol for all methods",
            "no" if study.is_proxy else "yes",
            f"Judged: {study.measures[study.judged]}.{' A proxy: no answer was trained alone.' if study.is_proxy else ''}",
        ),
        _item(
            7,
            "Performance as a function of compute",
            "yes",
            f"Curves against architectures and {axes}; the budget of a run: {study.budget.in_words()}.",
        ),
        _item(
            8,
            "Random sampling and random search as baselines",
            "yes" if study.sampling is not None else "partly",
            f"Random search: {study.reference}, {num_each[study.reference]} runs, the same budget. Random sampling: "
            + (f"{study.sampling:.2%} on average." if study.sampling is not None else "what it reaches is not known here."),
        ),
        _item(
            9, "Multiple runs with different seeds", "yes" if min(num_each.values()) > 1 else "no", f"{runs}; {seeds}{failed}."
        ),
        _item(
            10,
            "Tabular or surrogate benchmarks where possible",
            "yes" if study.best_truth is not None else "no",
            study.facts.get("table", "No table was given (`--table`, `--ranking.table`)."),
        ),
        _confounders(study),
    ]


def _confounders(study: Study) -> Item:
    practice = "Confounding factors are controlled"
    common = "Settings that strategies share are the same; they differ as the section Settings says."
    if study.simulates:
        return _item(11, practice, "yes", f"{common} Nothing is trained: machine and versions play no part.")
    one = len(study.machines) == 1
    where = f"One machine: {study.machines[0]}." if one else f"{len(study.machines)} machines: {'; '.join(study.machines)}."
    return _item(11, practice, "yes" if one else "no", f"{common} {where}")


def _reporting(study: Study) -> list[Item]:
    total = "not taken" if study.total_seconds is None else f"{study.total_seconds:,.0f} s"
    spent = "Simulated seconds of each run are in the section Budgets." if study.simulates else f"All runs together: {total}."
    machine = "; ".join(study.machines) or "not recorded"
    return [
        _item(
            12,
            "How hyperparameters were tuned",
            "you must answer",
            "Every setting is in `compare.yaml`. How, on what and for how long they were tuned, the runs do not know.",
        ),
        _item(
            13,
            "Resources of the whole method, end to end",
            "partly",
            f"{spent} Choosing the answer is part of it; tuning is not: you must answer.",
        ),
        _item(14, "All details of the set-up", "yes", f"Machine and versions: {machine}. Settings: `compare.yaml`."),
    ]


def _item(number: int, practice: str, answer: Answer, fact: str) -> Item:
    return Item(number=number, practice=practice, answer=answer, fact=fact)
