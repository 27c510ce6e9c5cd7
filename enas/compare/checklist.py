"""The best practices for research on neural architecture search (Lindauer and Hutter 2020, JMLR 21(243)) as a checklist.

The 14 practices, in words of our own, filled in from the runs of a comparison. What the runs do not know is left to the user:
`you must answer`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
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
            1,
            "Code of the training pipeline is released",
            "you must answer",
            f"Final {study.metric.plural}: {pipeline}. Say where it is.",
        ),
        _item(
            2,
            "Code of the NAS method is released",
            "you must answer",
            f"The strategies are this package's, {_package()}; say which commit ran.",
        ),
        _item(3, "Code is released now, not when it is tidy", "you must answer", "The runs do not know."),
    ]


def _comparing(study: Study) -> list[Item]:
    num_each = {name: len(study.of(name)) for name in study.strategies}
    seeds = f"seeds {study.seeds[0]} to {study.seeds[-1]}" if len(study.seeds) > 1 else f"seed {study.seeds[0]} alone"
    runs = ", ".join(f"{name} {num}" for name, num in num_each.items())
    axes = "simulated seconds" if study.simulates else "seconds"
    return [
        _item(4, "The same benchmark, not just the same data", "yes", study.facts["benchmark"]),
        _ablations(study),
        _protocol(study),
        _item(
            7,
            "Performance as a function of compute",
            "yes",
            f"Curves against architectures and {axes}; the budget of a run: {study.budget.in_words()}.",
        ),
        _random(study),
        _item(
            9,
            "Multiple runs with different seeds",
            "yes" if min(num_each.values()) > 1 else "no",
            f"Runs that gave an answer: {runs}; {seeds}{_failed(study)}.",
        ),
        _item(
            10,
            "Tabular or surrogate benchmarks where possible",
            "yes" if study.best_truth is not None else "no",
            study.facts.get("table", "No table was given (`--table`, `--ranking.table`)."),
        ),
        _confounders(study),
    ]


def _failed(study: Study) -> str:
    count = len(study.failures)
    return "" if not count else f"; {count} {'run' if count == 1 else 'runs'} failed, of which the verdicts take account"


def _ablations(study: Study) -> Item:
    variants = {name: count for name, count in Counter(study.names.values()).items() if count > 1}
    fact = "No strategy ran in more than one variant."
    if variants:
        listed = ", ".join(f"{count} variants of {name}" for name, count in variants.items())
        fact = f"{listed}; whether they cover what matters, you must answer."
    return _item(5, "Ablation studies", "partly" if variants else "no", fact)


def _protocol(study: Study) -> Item:
    chosen = (
        "the architecture with the highest reward"
        if study.simulates
        else f"the best of the strategy's candidates on all validation {study.metric.example}s"
    )
    fact = f"Every run's answer is {chosen}, judged by {study.measures[study.judged]}{_failed(study)}."
    proxy = " A proxy: no answer was trained alone." if study.is_proxy else ""
    return _item(6, "The same evaluation protocol for all methods", "no" if study.is_proxy else "yes", fact + proxy)


def _random(study: Study) -> Item:
    num = len(study.of(study.reference))
    shared = "" if study.simulates else ", each with shared weights of its own"
    budget = "the same budget" if study.has_equal_budgets else "a budget that was to be the same and was not"
    search = f"Random search: {study.reference}, {num} {'run' if num == 1 else 'runs'} with {budget}{shared}."
    sampling = "Random sampling: no random architecture was trained alone, so what one reaches is not known here."
    if study.sampling is not None:
        sampling = f"Random sampling: {study.sampling:.2%}, the mean of all architectures in the table."
    answer: Answer = "partly" if study.sampling is None or not study.has_equal_budgets else "yes"
    return _item(8, "Random sampling and random search as baselines", answer, f"{search} {sampling}")


def _confounders(study: Study) -> Item:
    tuned = "; ".join(f"{name}: {text}" for name, text in study.tuned.items() if text)
    differ = f"Settings that differ from a strategy's defaults: {tuned}." if tuned else "All strategies have their defaults."
    where = "Nothing is trained: machine and versions play no part."
    if not study.simulates:
        machines = "; ".join(study.machines) or "not recorded"
        where = f"{'One machine' if len(study.machines) == 1 else 'Machines'}: {machines}."
    fact = f"Space, data and budget are the same. {differ} Whether all were tuned as much, you must answer. {where}"
    return _item(
        11, "Confounding factors are controlled", "partly" if study.simulates or len(study.machines) == 1 else "no", fact
    )


def _reporting(study: Study) -> list[Item]:
    if study.simulates:
        spent = "Simulated seconds of each run are in the section Budgets: those of short trainings, without their validation."
    else:
        total = "not taken" if study.total_seconds is None else f"{study.total_seconds:,.0f} s"
        spent = f"Search, choice of the answer and its training, of all runs that gave one: {total}."
        spent += " Failed runs come on top." if study.failures else ""
    machine = "; ".join(study.machines) or "not recorded"
    where = "The report was written on" if study.simulates else "Runs were made on"
    return [
        _item(
            12,
            "How hyperparameters were tuned",
            "you must answer",
            "Every setting is in `compare.yaml`. How, on what and for how long they were tuned, the runs do not know.",
        ),
        _item(
            13, "Resources of the whole method, end to end", "partly", f"{spent} What tuning took is not in it: you must answer."
        ),
        _item(
            14,
            "All details of the set-up",
            "partly",
            f"{where}: {machine}; package {_package()}. Command: section Settings; settings: `compare.yaml`. What else ran on "
            "the machine, and what was tried before, you must answer.",
        ),
    ]


def _package() -> str:
    """Return name and version of this package."""
    try:
        return f"enas {version('enas')}"
    except PackageNotFoundError:  # a checkout that was never installed
        return "enas, not installed"


def _item(number: int, practice: str, answer: Answer, fact: str) -> Item:
    return Item(number=number, practice=practice, answer=answer, fact=fact)
