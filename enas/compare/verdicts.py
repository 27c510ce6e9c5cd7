"""What a comparison found, in sentences and tables: whether a strategy beats random search, and the figures that say so."""

from __future__ import annotations

from collections.abc import Mapping

from enas.compare.document import Block, Paragraph, Table
from enas.compare.figures import difference_interval, iqm_interval, p_value
from enas.compare.outcome_statistics import LEAST_RUNS, Judgement, Versus
from enas.compare.outcomes import Study
from enas.metrics import ACCURACY, Metric


def verdicts(study: Study, judged: Judgement) -> list[Block]:
    """Return a sentence a strategy: whether it beats random search, by how much, and how many of its runs ended."""
    num = len(study.seeds)
    lines: list[Block] = []
    for name in (label for label in study.strategies if label != study.reference):
        versus = judged.versus.get(name)
        if versus is None:
            text = f"**{name} beats random: not shown: {num} of {num} runs failed**."
        else:
            told = ": ".join(filter(None, [versus.verdict, versus.obstacle]))
            text = f"**{name} beats random: {told}** ({_figures(versus, study.metric)})."
        lines.append(Paragraph(text=text))
    return lines or [Paragraph(text="Nothing was compared with random search.")]


def _figures(versus: Versus, metric: Metric) -> str:
    figures = f"difference {metric.difference(versus.difference)}"
    if versus.interval is not None:
        figures += f", 95 % interval {metric.signed_range(versus.interval)}, {p_value(versus.p_value)}"
    figures += f"; {versus.num_ended} of {versus.num_runs} runs ended"
    if versus.adjusted is not None and versus.num_compared > 1:
        figures += f"; {p_value(versus.adjusted)} after the correction for {versus.num_compared} comparisons (Holm)"
    return figures


def outcome_table(study: Study, judged: Judgement) -> Table:
    """Return the table of all strategies by the judged measure."""
    metric, rows = study.metric, []
    of_values = (f"mean{metric.heading_unit}", "deviation", f"IQM{metric.heading_unit}", "95 % interval")
    headings = ("strategy", "n", *of_values, "P(improvement)", "p (U)", "beats random")
    for name in study.strategies:
        one, versus = judged.summaries.get(name), judged.versus.get(name)
        if one is None:
            rows.append([name, "0", *[""] * 6, "not shown"])
            continue
        row = [name, str(one.num), *map(metric.figure, (one.mean, one.deviation, one.iqm)), iqm_interval(one, metric)]
        if versus is None:
            rows.append([*row, "", "", "reference"])
            continue
        better = versus.improvement
        bounds = "" if better.interval is None else f" ({better.interval[0]:.2f} to {better.interval[1]:.2f})"
        rows.append([*row, f"{better.probability:.2f}{bounds}", p_value(better.p_value, name=""), versus.verdict])
    return Table(headings=headings, rows=rows)


def difference_blocks(study: Study, judged: Judgement) -> list[Block]:
    """Return the table of differences from random search; nothing where nothing was compared."""
    if not judged.versus:
        return []
    headings = ["strategy", "difference", "95 % interval (Welch)", "p", "p (Holm)"]
    headings += ["pairs", "paired 95 % interval", "p (Wilcoxon)"]
    metric = study.metric
    rows = [[name, *_difference(versus, metric), *_pairs(versus, metric)] for name, versus in judged.versus.items()]
    unit = "points" if metric == ACCURACY else f"{metric.name} (below zero is better)"
    return [Paragraph(text=f"Differences from {study.reference}, in {unit}:"), Table(headings=headings, rows=rows)]


def _difference(versus: Versus, metric: Metric) -> list[str]:
    interval = difference_interval(versus.interval, metric, num=min(versus.num_ended, versus.num_reference_ended))
    p_values = [p_value(value, name="") for value in (versus.p_value, versus.adjusted)]
    return [metric.signed(versus.difference), interval, *p_values]


def _pairs(versus: Versus, metric: Metric) -> list[str]:
    pairs = versus.pairs
    if pairs is None:
        return ["0", "", ""]
    return [str(pairs.num), difference_interval(pairs.interval, metric, num=pairs.num), p_value(pairs.p_value, name="")]


def other_measures(study: Study, comparisons: Mapping[str, Judgement]) -> list[Block]:
    """Return what the answers reach by the measures that are not judged; nothing where there is one alone."""
    others = [measure for measure in comparisons if measure != study.judged]
    if not others:
        return []
    metric, rows = study.metric, []
    for measure in others:
        for name, one in comparisons[measure].summaries.items():
            mean = metric.figure(one.mean) if one.num < 2 else f"{metric.figure(one.mean)} +- {metric.figure(one.deviation)}"
            versus = comparisons[measure].versus.get(name)
            found = ["", "", "", "", "reference"] if versus is None else [*_difference(versus, metric), versus.verdict]
            rows.append([measure, name, str(one.num), mean, *found])
    explained = ", ".join(f"{measure}: {study.measures[measure]}" for measure in others)
    mean = f"mean{metric.heading_unit}"
    headings = ("measure", "strategy", "n", mean, "difference", "95 % interval (Welch)", "p", "p (Holm)", "beats random")
    text = f"Of the same answers, measured otherwise ({explained}):"
    return [Paragraph(text=text), Table(headings=headings, rows=rows, num_left=2)]


def notes(count: int, metric: Metric = ACCURACY) -> str:
    """Return how to read verdicts and tables. Args: count: of strategies compared with random search. metric: of values."""
    several = "; with several strategies Holm's adjusted p has to be below .05, too" if count > 1 else ""
    gain, loss = ("above", "below") if metric.higher_is_better else ("below", "above")
    return (
        f"Beats random: whether Welch's 95 % interval of the difference of means from random search lies {gain} zero (yes), "
        f"{loss} it (no) or holds it (not shown){several}. A failed run counts as worse than any that ended: a strategy with "
        "failed runs is never said to beat random search. IQM: mean of the middle half of the runs, with a 95 % bootstrap "
        f"interval from n={LEAST_RUNS} on; of fewer runs such an interval is too narrow. P(improvement): how often a run is "
        "better than one of random search (Mann and Whitney's U / nm), with Newcombe's 95 % interval. Pairs: runs of the same "
        "seed, Student's interval of the mean difference and Wilcoxon's test."
    )
