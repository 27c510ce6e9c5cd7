"""The end of a run in words: the searched architecture, its test result from scratch, and random architectures beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from enas.answers import ANSWER
from enas.atomic_file import write_atomically
from enas.comparison import Comparison, compare, deviation
from enas.costs import cost_text
from enas.export import Answer
from enas.metrics import ACCURACY, METRICS, Metric
from enas.retrain_result import RetrainResult


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table of networks trained from scratch.

    Attributes:
        name: what was trained.
        results: one a training, at least one.
    """

    name: str
    results: Sequence[RetrainResult]

    @property
    def metric(self) -> Metric:
        """How the results are told."""
        return METRICS[self.results[0].metric]

    def cells(self) -> dict[str, str]:
        """Return a table's row by its headings; results as mean and deviation over trainings."""
        parameters = [result.parameters for result in self.results]
        size = f"{parameters[0]:,}" if min(parameters) == max(parameters) else f"{min(parameters):,} to {max(parameters):,}"
        results = self._accuracies() if self.metric == ACCURACY else self._values()
        return {"architecture": self.name, "trainings": str(len(parameters)), **results, "parameters": size}

    def _accuracies(self) -> dict[str, str]:
        accuracies = [result.test_value for result in self.results]
        errors = [1 - accuracy for accuracy in accuracies]
        best_errors = [1 - result.best_test_value for result in self.results]
        return {"test accuracy": spread(accuracies), "test error": spread(errors), "best test error": spread(best_errors)}

    def _values(self) -> dict[str, str]:
        metric, valid = self.metric, [result.valid_value for result in self.results if result.valid_value is not None]
        return {
            f"test {metric.name}": spread([result.test_value for result in self.results], metric),
            **({f"validation {metric.name}": spread(valid, metric)} if valid else {}),
            f"best test {metric.name}": spread([result.best_test_value for result in self.results], metric),
        }


def training_table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and lines of the table of trainings. Args: rows: at least one, all told by the same metric."""
    cells = [row.cells() for row in rows]
    headings = max(cells, key=len)
    return tuple(headings), [tuple(one.get(heading, "-") for heading in headings) for one in cells]


def best_note(metric: Metric) -> str:
    """Return how to read the best result on the way."""
    error = "error" if metric == ACCURACY else metric.name
    shown = f"Test accuracy and test {error} are those" if metric == ACCURACY else f"Test {error} is that"
    return (
        f"{shown} after the last epoch. The best test {error} is the lowest on the way: "
        "chosen on the test split, so never a result by itself."
    )


def spread(values: Sequence[float], metric: Metric = ACCURACY) -> str:
    """Return values of a metric as `mean +- deviation`, of accuracies in %; a single value without a deviation."""
    return metric.spread(float(np.mean(values)), deviation(values))


def retrain_comparison(searched: Sequence[RetrainResult], random: Sequence[RetrainResult]) -> Comparison:
    """Compare trainings by their result on the test split after the last epoch."""
    metric = METRICS[searched[0].metric]
    return compare([result.test_value for result in searched], [result.test_value for result in random], metric=metric)


def write_report(
    folder: Path,
    *,
    heading: str,
    answer: Answer,
    rows: Sequence[Row],
    verdict: str | None,
    looked_up: Sequence[str] = (),
    warning: str | None = None,
    front: Sequence[str] = (),
    data_files: Collection[str] = (),
) -> None:
    """Write `report.md` of a run folder: drawing, answer, tables, verdict, and what each file is.

    Args:
        looked_up: lines of Markdown on what a benchmark's table says of the answer.
        warning: that the search ended with.
        front: lines of Markdown on the Pareto front of results and a cost, where the search had an objective.
        data_files: names of what the data keep beside the network.
    """
    lines = [f"# {heading}", "", f"![the searched architecture]({ANSWER}.svg)", ""]
    metric = answer.metric
    size = f"{answer.cost.parameters:,} parameters, {answer.cost.flops:,} multiply-adds for one {metric.example}"
    lines += [
        f"Shared-weight {metric.name} on the whole validation set: {metric.text(answer.valid)}; {size}{latency_of(answer)}.",
        "",
        "```",
        answer.text,
        "```",
        "",
    ]
    lines += looked_up
    if rows:
        table = markdown_table(*training_table(rows))
        lines += ["Trained from scratch on equal terms:", "", *table, "", best_note(metric), ""]
    if verdict is not None:
        lines += [f"**{verdict}**", ""]
    lines += front
    if warning is not None:
        lines += [f"Warning: {warning}", ""]
    lines += [
        "| file | what |",
        "|:--|:--|",
        f"| `{ANSWER}.json` | the architecture: operations, tokens, size, how to build it |",
        f"| `{ANSWER}.safetensors` | its part of the shared weights |",
        *(f"| `{name}` | what its inputs and outputs stand for |" for name in data_files),
        "| `architectures.jsonl` | every architecture that was run: tokens, reward, phase |",
        "| `metrics.jsonl`, `tb/` | the curves, as lines of JSON and for TensorBoard |",
        *(["| `pareto.json`, `pareto.svg`, `pareto.png` | the Pareto front |"] if front else []),
        *(["| `retrain/*/` | each training from scratch: `result.json`, and `tb/` with its curves |"] if rows else []),
        "| `config.yaml` | every setting; `--config` replays it |",
        "",
    ]
    write_atomically(folder / "report.md", "\n".join(lines))


def latency_of(answer: Answer) -> str:
    """Return the latency of an answer as the end of a list, empty where it was not measured."""
    latency = answer.candidate.costs.get("latency")
    return "" if latency is None else f", {cost_text('latency', latency)} ms"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, first column left, the others right."""
    lines = ["| " + " | ".join(headings) + " |", "|:--" + "|--:" * (len(headings) - 1) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
