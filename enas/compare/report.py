"""A comparison in words, tables and pictures: the blocks of `report.md` and `report.html`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from enas.compare.checklist import fill_in
from enas.compare.curves import Axis, Quantity, bands_of
from enas.compare.document import Block, Heading, Paragraph, Picture, Table
from enas.compare.fronts import Front, cost_names, front_of
from enas.compare.outcome_statistics import Comparison, Interval, Versus, compare_strategies
from enas.compare.outcomes import Study
from enas.compare.picture import draw_curves, draw_fronts, draw_outcomes, save_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COSTS = {"parameters": "parameters", "flops": "multiply-adds", "latency": "latency (ms)"}
_NUM_SHOWN = 8  # members of a front in its table


def judge(study: Study) -> dict[str, Comparison]:
    """Return the statistics of each measure that the reference has, by its name; the first is the judged one."""
    values = {measure: study.values(measure) for measure in study.measures}
    return {
        measure: compare_strategies(runs, reference=study.reference) for measure, runs in values.items() if runs[study.reference]
    }


def write_pictures(study: Study, judged: Comparison, folder: Path) -> list[Picture]:
    """Draw outcomes, curves and fronts into a folder, each as .svg and .png."""
    drawings: dict[str, tuple[str, Callable[[], Figure]]] = {
        "outcomes": ("every run's outcome by strategy, with the interquartile mean", lambda: _draw_outcomes(study, judged)),
        "curves": ("best reward so far against what was spent", lambda: _draw_curves(study, "reward")),
    }
    if study.best_truth is not None and all(one.history.truths is not None for one in study.outcomes):
        alt = "simple regret of the best architecture so far against what was spent"
        drawings["regret"] = (alt, lambda: _draw_curves(study, "regret"))
    for cost in cost_names(study.outcomes):
        drawings[f"pareto-{cost}"] = (f"Pareto fronts of accuracy against {cost}", partial(_draw_fronts, study, cost))
    return [Picture(name=name, alt=alt, png=save_picture(draw, folder / name)) for name, (alt, draw) in drawings.items()]


def report_blocks(study: Study, comparisons: Mapping[str, Comparison], pictures: Sequence[Picture]) -> list[Block]:
    """Return the report. Args: comparisons: as `judge` returns them. pictures: as `write_pictures` does."""
    judged = comparisons[study.judged]
    drawn = {picture.name: picture for picture in pictures}
    blocks: list[Block] = [Heading(text=study.title, level=1), *_introduction(study)]
    blocks += [Heading(text="Does it beat random search?"), *verdicts(judged)]
    blocks += [Heading(text="Outcomes"), *_outcome_tables(study, judged), drawn["outcomes"]]
    blocks += _other_measures(study, comparisons)
    blocks += [Heading(text="Anytime curves"), Paragraph(text=_CURVES), drawn["curves"]]
    blocks += [drawn["regret"]] if "regret" in drawn else []
    blocks += [Heading(text="Budgets"), Paragraph(text=_budget_note(study)), _budget_table(study)]
    blocks += _front_blocks(study, drawn)
    blocks += [Heading(text="Checklist"), Paragraph(text=_CHECKLIST), _checklist_table(study)]
    blocks += [Heading(text="Settings"), *_settings(study), Heading(text="How to read this"), Paragraph(text=_NOTES)]
    return blocks


_CURVES = (
    "Interquartile mean over seeds of the best reward so far, and of the simple regret where truths are known: the best accuracy "
    "there is minus that of the architecture with the best reward so far. Bands: 95 % bootstrap interval at each point."
)
_CHECKLIST = (
    "Best practices of Lindauer and Hutter (2020, JMLR 21(243)), filled in from the runs; `you must answer` stands where they do "
    "not know."
)
_NOTES = (
    "Beats random: whether Welch's 95 % interval of the difference of means from random search lies above zero (yes), below it "
    "(no) or holds it (not shown). It is one of several comparisons; Holm's p holds for all together. IQM: mean of the middle "
    "half of the runs, with a 95 % bootstrap interval. P(improvement): how often a run is better than one of random search (Mann "
    "and Whitney's U / nm). Pairs: runs of the same seed, Student's interval of the mean difference and Wilcoxon's test."
)


def verdicts(judged: Comparison) -> list[Block]:
    """Return a sentence a strategy: whether it beats random search, and by how much."""
    count = len(judged.versus)
    rest = "" if count < 2 else f" It is one of {count} comparisons; adjusted for that (Holm): {{adjusted}}."
    lines: list[Block] = []
    for name, versus in judged.versus.items():
        figures = f"difference {points(versus.difference)}, n=1: no interval"
        if versus.interval is not None:
            interval, p_value = _range(versus.interval), _p_value(versus.p_value)
            figures = f"difference {points(versus.difference)}, 95 % interval {interval}, {p_value}"
        tail = rest.format(adjusted=_p_value(versus.adjusted)) if versus.adjusted is not None else ""
        lines.append(Paragraph(text=f"**{name} beats random: {versus.verdict}** ({figures}).{tail}"))
    return lines or [Paragraph(text="Nothing was compared with random search.")]


def outcome_table(judged: Comparison) -> Table:
    """Return the table of all strategies by the judged measure."""
    headings = ("strategy", "n", "mean (%)", "deviation", "IQM (%)", "95 % interval", "P(improvement)", "p (U)", "beats random")
    rows = []
    for name, one in judged.summaries.items():
        row = [name, str(one.num), _percent(one.mean), _percent(one.deviation), _percent(one.iqm), _interval(one.interval)]
        versus = judged.versus.get(name)
        if versus is None:
            rows.append([*row, "", "", "reference"])
        else:
            better = versus.improvement
            bounds = "" if better.interval is None else f" ({better.interval[0]:.2f} to {better.interval[1]:.2f})"
            rows.append([*row, f"{better.probability:.2f}{bounds}", _p_value(better.p_value, name=""), versus.verdict])
    return Table(headings=headings, rows=rows)


def _outcome_tables(study: Study, judged: Comparison) -> list[Block]:
    headings = (
        "strategy",
        "difference",
        "95 % interval (Welch)",
        "p",
        "p (Holm)",
        "pairs",
        "paired 95 % interval",
        "p (Wilcoxon)",
    )
    rows = [_versus_row(name, versus) for name, versus in judged.versus.items()]
    blocks: list[Block] = [outcome_table(judged)]
    if rows:
        blocks += [Paragraph(text=f"Differences from {study.reference}, in points:"), Table(headings=headings, rows=rows)]
    return blocks


def _versus_row(name: str, versus: Versus) -> list[str]:
    row = [name, points(versus.difference, unit=""), _differences(versus.interval)]
    row += [_p_value(versus.p_value, name=""), _p_value(versus.adjusted, name="")]
    if versus.pairs is None:
        return [*row, "0", "", ""]
    return [*row, str(versus.pairs.num), _differences(versus.pairs.interval), _p_value(versus.pairs.p_value, name="")]


def _introduction(study: Study) -> list[Block]:
    blocks: list[Block] = [Paragraph(text=f"{name[0].upper()}{name[1:]}: {text}") for name, text in study.facts.items()]
    proxy = " **A proxy**: shared-weight accuracy is not what a network reaches alone." if study.is_proxy else ""
    blocks.append(Paragraph(text=f"Judged by {study.measures[study.judged]}.{proxy}"))
    if study.sampling is not None:
        best = "" if study.best_truth is None else f"; the best there is reaches {study.best_truth:.2%}"
        blocks.append(Paragraph(text=f"A single random architecture reaches {study.sampling:.2%} on average{best}."))
    if study.failures:
        failed = "; ".join(f"{run}: {reason}" for run, reason in study.failures.items())
        blocks.append(Paragraph(text=f"**{len(study.failures)} runs failed and are left out of everything below**: {failed}."))
    return blocks


def _other_measures(study: Study, comparisons: Mapping[str, Comparison]) -> list[Block]:
    others = [measure for measure in comparisons if measure != study.judged]
    if not others:
        return []
    rows = []
    for measure in others:
        for name, one in comparisons[measure].summaries.items():
            row = [measure, name, str(one.num), f"{_percent(one.mean)} +- {_percent(one.deviation)}"]
            versus = comparisons[measure].versus.get(name)
            rows.append([*row, *_short(versus)])
    explained = ", ".join(f"{measure}: {study.measures[measure]}" for measure in others)
    headings = ("measure", "strategy", "n", "mean (%)", "difference", "95 % interval (Welch)", "p (Holm)", "beats random")
    text = f"Of the same answers, measured otherwise ({explained}):"
    return [Paragraph(text=text), Table(headings=headings, rows=rows, num_left=2)]


def _short(versus: Versus | None) -> list[str]:
    if versus is None:
        return ["", "", "", "reference"]
    interval, adjusted = _differences(versus.interval), _p_value(versus.adjusted, name="")
    return [points(versus.difference, unit=""), interval, adjusted, versus.verdict]


def _budget_note(study: Study) -> str:
    if study.budget.kind != "seconds":
        return f"Every run had {study.budget.in_words()}."
    budget = study.budget.in_words()
    return f"Steps were timed beforehand for each strategy, so that a search takes {budget}; what it took is in the table."


def _budget_table(study: Study) -> Table:
    names = list(dict.fromkeys(name for one in study.outcomes for name in one.spent))
    rows = []
    for strategy in study.strategies:
        runs = study.of(strategy)
        cells = [_spread([one.spent[name] for one in runs if name in one.spent]) for name in names]
        rows.append([strategy, str(len(runs)), *cells])
    return Table(headings=("strategy", "runs", *(f"{name} a run" for name in names)), rows=rows)


def _front_blocks(study: Study, drawn: Mapping[str, Picture]) -> list[Block]:
    blocks: list[Block] = []
    for cost in cost_names(study.outcomes):
        rows = []
        for name, (costs, accuracies) in _fronts(study, cost).items():
            shown = np.unique(np.linspace(0, len(costs) - 1, _NUM_SHOWN).round().astype(int))
            members = ", ".join(f"{_number(costs[index])}: {accuracies[index]:.2%}" for index in shown)
            rows.append([name, str(len(costs)), members])
        headings = ("strategy", "members", f"{_COSTS.get(cost, cost)}: accuracy ({_NUM_SHOWN} of them at most)")
        blocks += [Table(headings=headings, rows=rows), drawn[f"pareto-{cost}"]]
    if not blocks:
        return []
    text = (
        "Of the architectures that a strategy measured in all its runs, those that no other beats in accuracy and cost; accuracy "
        "as measured in the search."
    )
    return [Heading(text="Accuracy against cost"), Paragraph(text=text), *blocks]


def _checklist_table(study: Study) -> Table:
    rows = [(str(item.number), item.practice, item.answer, item.fact) for item in fill_in(study)]
    return Table(headings=("", "practice", "followed", "what the runs say"), rows=rows, num_left=4)


def _settings(study: Study) -> list[Block]:
    rows = [(name, study.names[name], text) for name, text in study.strategies.items()]
    table = Table(headings=("label", "strategy", "settings of its own"), rows=rows, num_left=3)
    return [Paragraph(text="All settings are in `compare.yaml`; the same command with `--run-dir` goes on or repeats."), table]


def _draw_outcomes(study: Study, judged: Comparison) -> Figure:
    values = {name: np.array(list(runs.values())) for name, runs in study.values(study.judged).items() if runs}
    return draw_outcomes(values, judged.summaries, axis=study.judged, best=study.best_truth)


def _draw_curves(study: Study, quantity: Quantity) -> Figure:
    runs = {name: study.of(name) for name in study.strategies}
    shown = "best reward so far (%)" if quantity == "reward" else "simple regret (points)"
    axes: tuple[tuple[Axis, str], ...] = (
        ("architectures", "architectures measured"),
        ("seconds", "simulated seconds" if study.simulates else "seconds"),
    )
    panels = [(bands_of(runs, axis=axis, quantity=quantity, best_truth=study.best_truth), spent, shown) for axis, spent in axes]
    return draw_curves(panels, order=list(study.strategies))


def _draw_fronts(study: Study, cost: str) -> Figure:
    fronts = _fronts(study, cost)
    return draw_fronts(fronts, cost=_COSTS.get(cost, cost), accuracy="accuracy in the search (%)", order=list(study.strategies))


def _fronts(study: Study, cost: str) -> dict[str, Front]:
    return {name: front_of(study.of(name), cost) for name in study.strategies if study.of(name)}


def points(difference: float, *, unit: str = " points") -> str:
    """Return a difference of fractions in percentage points, with its sign."""
    return f"{100 * difference:+.2f}{unit}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _interval(interval: Interval | None) -> str:
    return "n=1: no interval" if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"


def _differences(interval: Interval | None) -> str:
    return "n=1: no interval" if interval is None else _range(interval)


def _range(interval: Interval) -> str:
    return f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"


def _p_value(value: float | None, *, name: str = "p") -> str:
    if value is None:
        return "-"
    shown = "<.0001" if value < 1e-4 else f"{value:.4f}".lstrip("0") if value < 1 else "1"
    return shown if not name else f"{name}{shown}" if value < 1e-4 else f"{name}={shown}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, mean, high = (_number(value) for value in (min(values), float(np.mean(values)), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
