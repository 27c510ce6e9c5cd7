"""The end of a run in words: the searched architecture, its test accuracy from scratch, and random architectures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enas.answers import ANSWER
from enas.atomic_file import write_atomically
from enas.comparison import Comparison, compare
from enas.costs import cost_text
from enas.export import Answer
from enas.retrain_result import RetrainResult


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table of networks trained from scratch.

    Attributes:
        name: what was trained.
        results: one a training.
    """

    name: str
    results: Sequence[RetrainResult]

    def cells(self) -> tuple[str, ...]:
        """Return a table's row under `HEADINGS`; accuracy and errors as mean and deviation over trainings."""
        accuracies = [result.test_accuracy for result in self.results]
        errors = [1 - accuracy for accuracy in accuracies]
        best_errors = [1 - result.best_test_accuracy for result in self.results]
        parameters = [result.parameters for result in self.results]
        size = f"{parameters[0]:,}" if min(parameters) == max(parameters) else f"{min(parameters):,} to {max(parameters):,}"
        return self.name, str(len(accuracies)), spread(accuracies), spread(errors), spread(best_errors), size


HEADINGS = ("architecture", "trainings", "test accuracy", "test error", "best test error", "parameters")
BEST_ERROR_NOTE = (
    "Test accuracy and test error are those after the last epoch. The best test error is the lowest on the way: "
    "chosen on the test split, so never a result by itself."
)


def spread(values: Sequence[float]) -> str:
    """Return fractions as `mean +- deviation %`; a single value without a deviation."""
    comparison = compare(values, values)
    mean = f"{100 * comparison.searched_mean:.2f}"
    return f"{mean} %" if len(values) == 1 else f"{mean} +- {100 * comparison.searched_deviation:.2f} %"


def retrain_comparison(searched: Sequence[RetrainResult], random: Sequence[RetrainResult]) -> Comparison:
    """Compare trainings by their test accuracy after the last epoch."""
    return compare([result.test_accuracy for result in searched], [result.test_accuracy for result in random])


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
) -> None:
    """Write `report.md` of a run folder: drawing, answer, tables, verdict, and what each file is.

    Args:
        looked_up: lines of Markdown on what a benchmark's table says of the answer.
        warning: that the search ended with.
        front: lines of Markdown on the Pareto front of accuracy and a cost, where the search had an objective.
    """
    lines = [f"# {heading}", "", f"![the searched architecture]({ANSWER}.svg)", ""]
    size = f"{answer.cost.parameters:,} parameters, {answer.cost.flops:,} multiply-adds for one image"
    lines += [
        f"Shared-weight accuracy on the whole validation set: {answer.candidate.valid_accuracy:.2%}; {size}{latency_of(answer)}.",
        "",
        "```",
        answer.text,
        "```",
        "",
    ]
    lines += looked_up
    if rows:
        table = markdown_table(HEADINGS, [row.cells() for row in rows])
        lines += ["Trained from scratch on equal terms:", "", *table, "", BEST_ERROR_NOTE, ""]
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
