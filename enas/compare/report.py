"""A comparison in words, tables and pictures: the blocks of `report.md` and `report.html`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from enas.compare.checklist import fill_in
from enas.compare.curves import Axis, Quantity, bands_of, step_values
from enas.compare.document import Block, Heading, Paragraph, Picture, Table
from enas.compare.figures import number, spread
from enas.compare.fronts import cost_names, front_bands
from enas.compare.outcome_statistics import LEAST_RUNS, Judgement, compare_strategies
from enas.compare.outcomes import Outcome, Study
from enas.compare.picture import draw_curves, draw_fronts, draw_outcomes, save_picture
from enas.compare.verdicts import difference_blocks, notes, other_measures, outcome_table, verdicts
from enas.costs import UNITS
from enas.metrics import ACCURACY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUM_SHOWN = 8  # costs of a front in its table


def judge(study: Study) -> dict[str, Judgement]:
    """Return the statistics of each measure that the reference has, by its name; the first is the judged one."""
    values = {measure: study.values(measure) for measure in study.measures}
    return {
        measure: compare_strategies(
            runs, reference=study.reference, num_runs=len(study.seeds), higher_is_better=study.metric.higher_is_better
        )
        for measure, runs in values.items()
        if runs[study.reference]
    }


def write_pictures(study: Study, judged: Judgement, folder: Path) -> list[Picture]:
    """Draw outcomes, curves and fronts into a folder, each as .svg and .png."""
    drawings: dict[str, tuple[str, Callable[[], Figure]]] = {
        "outcomes": ("every run's outcome by strategy, with the interquartile mean", lambda: _draw_outcomes(study, judged)),
        "curves": (f"{_shown(study)} against what was spent", lambda: _draw_curves(study, _quantity(study))),
    }
    if study.best_truth is not None and all(one.history.truths is not None for one in study.outcomes):
        alt = "simple regret of the best architecture so far against what was spent"
        drawings["regret"] = (alt, lambda: _draw_curves(study, "regret"))
    for cost in cost_names(study.outcomes):
        alt = f"the best {study.metric.name} found within {UNITS.get(cost, cost)}, by strategy"
        drawings[f"pareto-{cost}"] = (alt, partial(_draw_fronts, study, cost))
    return [Picture(name=name, alt=alt, png=save_picture(draw, folder / name)) for name, (alt, draw) in drawings.items()]


def report_blocks(study: Study, comparisons: Mapping[str, Judgement], pictures: Sequence[Picture]) -> list[Block]:
    """Return the report. Args: comparisons: as `judge` returns them. pictures: as `write_pictures` does."""
    judged = comparisons[study.judged]
    count = len(judged.versus)
    drawn = {picture.name: picture for picture in pictures}
    blocks: list[Block] = [Heading(text=study.title, level=1), *_introduction(study)]
    blocks += [Heading(text="Does it beat random search?"), *_warning_of_budgets(study), *verdicts(study, judged)]
    blocks += [Heading(text="Outcomes"), outcome_table(study, judged), *difference_blocks(study, judged), drawn["outcomes"]]
    blocks += other_measures(study, comparisons)
    blocks += [Heading(text="Anytime curves"), Paragraph(text=_curves_note(study)), drawn["curves"]]
    blocks += [drawn["regret"]] if "regret" in drawn else []
    blocks += [Heading(text="Budgets"), Paragraph(text=_budget_note(study)), _budget_table(study)]
    blocks += _front_blocks(study, drawn)
    blocks += [Heading(text="Checklist"), Paragraph(text=_CHECKLIST), _checklist_table(study)]
    blocks += [
        Heading(text="Settings"),
        *_settings(study),
        Heading(text="How to read this"),
        Paragraph(text=notes(count, study.metric)),
    ]
    return blocks


_CHECKLIST = (
    "Best practices of Lindauer and Hutter (2020, JMLR 21(243)), filled in from the runs; `you must answer` stands where they do "
    "not know."
)


def _curves_note(study: Study) -> str:
    bands = (
        "95 % bootstrap interval at each point"
        if len(study.seeds) >= LEAST_RUNS
        else f"from the lowest to the highest run, since an interval of fewer than {LEAST_RUNS} runs would be too narrow"
    )
    metric = study.metric
    noisy = f"Rewards are {metric.plural}" if metric == ACCURACY else f"{metric.plural.capitalize()} are those"
    rewards = (
        f" {noisy} of noisy minibatches, by weights that are still trained; the answer is not the architecture "
        f"with the best one, but the best of candidates that are measured again on all validation {metric.example}s."
    )
    regret = (
        ", and of the simple regret where truths are known: the best accuracy there is minus that of the architecture with the "
        "best reward so far"
    )
    return (
        f"Interquartile mean over seeds of the {_shown(study)}{regret if metric == ACCURACY else ''}. Bands: {bands}. A run that "
        "is over keeps its last value; a line ends where fewer than half of the strategy's runs still go on."
        f"{'' if study.simulates else rewards}"
    )


def _quantity(study: Study) -> Quantity:
    """Return what anytime curves are of: rewards, or, where these are no figures that people read, what they come from."""
    return "reward" if study.metric == ACCURACY else "value"


def _shown(study: Study) -> str:
    """Return that quantity in words."""
    return "best reward so far" if study.metric == ACCURACY else f"{study.metric.name} of the best reward so far"


def _introduction(study: Study) -> list[Block]:
    blocks: list[Block] = [Paragraph(text=f"{name[0].upper()}{name[1:]}: {text}") for name, text in study.facts.items()]
    proxy = f" **A proxy**: shared-weight {study.metric.name} is not what a network reaches alone." if study.is_proxy else ""
    blocks.append(Paragraph(text=f"Judged by {study.measures[study.judged]}.{proxy}"))
    if study.sampling is not None:
        best = "" if study.best_truth is None else f"; the best there is reaches {study.best_truth:.2%}"
        blocks.append(Paragraph(text=f"A single random architecture reaches {study.sampling:.2%} on average{best}."))
    if study.failures:
        failed = "; ".join(f"{run}: {reason}" for run, reason in study.failures.items())
        count = len(study.failures)
        told = "1 run failed and is" if count == 1 else f"{count} runs failed and are"
        blocks.append(Paragraph(text=f"**{told} left out of all figures below**: {failed}."))
    return blocks


def _warning_of_budgets(study: Study) -> list[Block]:
    if study.has_equal_budgets:
        return []
    taken = ", ".join(f"{name} {deviation:+.0%}" for name, deviation in study.deviations.items())
    text = (
        f"**Budgets were not equal**: beside the {study.budget.in_words()} searches took {taken}. The machine was busier, or "
        "less busy, than when their steps were timed."
    )
    return [Paragraph(text=text)]


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
        cells = [spread([one.spent[name] for one in runs if name in one.spent]) for name in names]
        rows.append([strategy, str(len(runs)), *cells])
    return Table(headings=("strategy", "runs", *(f"{name} a run" for name in names)), rows=rows)


def _front_blocks(study: Study, drawn: Mapping[str, Picture]) -> list[Block]:
    blocks: list[Block] = []
    metric = study.metric
    for cost in cost_names(study.outcomes):
        bands = front_bands(_runs(study), cost)
        last = max((one.x for one in bands.values()), key=len)
        shown = last[np.unique(np.linspace(0, len(last) - 1, _NUM_SHOWN).round().astype(int))]
        rows = [[name, *map(metric.figure, step_values(one.x, one.iqm, shown).tolist())] for name, one in bands.items()]
        headings = (f"{metric.name}{metric.heading_unit} within {UNITS.get(cost, cost)} of", *map(number, shown.tolist()))
        blocks += [Table(headings=headings, rows=rows), drawn[f"pareto-{cost}"]]
    if not blocks:
        return []
    source = "that rewards come from" if study.simulates else f"of the shared weights on all validation {metric.example}s"
    text = (
        f"Of each run the best {metric.name} at a cost or below, and of a strategy's runs the interquartile mean of these. A "
        f"line begins where all runs have found something. {metric.plural.capitalize()} are those {source}."
    )
    return [Heading(text=f"{metric.name.capitalize()} against cost"), Paragraph(text=text), *blocks]


def _checklist_table(study: Study) -> Table:
    rows = [(str(item.number), item.practice, item.answer, item.fact) for item in fill_in(study)]
    return Table(headings=("", "practice", "followed", "what the runs say"), rows=rows, num_left=4)


def _settings(study: Study) -> list[Block]:
    rows = [(name, study.names[name], text) for name, text in study.strategies.items()]
    table = Table(headings=("label", "strategy", "settings of its own"), rows=rows, num_left=3)
    command = f"The command: `{study.command}`. Given again it goes on where runs are missing, and writes this report anew. "
    text = "`compare.yaml` holds every setting that the runs follow from."
    return [Paragraph(text=f"{command if study.command else ''}{text}"), table]


def _draw_outcomes(study: Study, judged: Judgement) -> Figure:
    values = {name: np.array(list(runs.values())) for name, runs in study.values(study.judged).items() if runs}
    order = list(study.strategies)
    return draw_outcomes(values, judged.summaries, axis=study.judged, best=study.best_truth, order=order, metric=study.metric)


def _runs(study: Study) -> dict[str, list[Outcome]]:
    return {name: study.of(name) for name in study.strategies}


def _draw_curves(study: Study, quantity: Quantity) -> Figure:
    runs = _runs(study)
    shown = "simple regret (points)" if quantity == "regret" else f"{_shown(study)}{study.metric.heading_unit}"
    axes: tuple[tuple[Axis, str], ...] = (
        ("architectures", "architectures measured"),
        ("seconds", "simulated seconds" if study.simulates else "seconds"),
    )
    panels = [(bands_of(runs, axis=axis, quantity=quantity, best_truth=study.best_truth), spent, shown) for axis, spent in axes]
    return draw_curves(panels, order=list(study.strategies), scale=study.metric.scale)


def _draw_fronts(study: Study, cost: str) -> Figure:
    bands, order = front_bands(_runs(study), cost), list(study.strategies)
    shown = f"best {study.metric.name} at the cost or below{study.metric.heading_unit}"
    return draw_fronts(bands, cost=UNITS.get(cost, cost), shown=shown, order=order, metric=study.metric)
