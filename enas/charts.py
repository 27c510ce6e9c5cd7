"""How TensorBoard shows a run beyond plain curves: its page Custom Scalars, and tables of a policy's probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from enas.types import FloatArray

LAYOUT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Reward": {"reward": ("controller/reward", "controller/reward_best", "controller/baseline", "search/best_so_far")},
    "Shared weights": {
        "loss": ("shared/loss",),
        "accuracy": ("shared/accuracy",),
        "perplexity": ("shared/perplexity", "controller/perplexity"),
        "Kendall's tau with the truth": ("ranking/tau",),
    },
    "Exploration": {"entropy of choices": ("search/choice_entropy",), "unique architectures": ("search/unique_fraction",)},
    "Collapse": {
        "entropy of decisions, share of uniform": ("collapse/entropy_mean", "collapse/entropy_min"),
        "unique architectures among the latest": ("collapse/unique_fraction",),
        "operations": ("operation/.*",),
        "operations without weights": ("collapse/idle_share",),
        "skip connections and their target": ("collapse/skip_share", "collapse/skip_target"),
        "settled, alarm": ("collapse/settled", "collapse/alarm"),
        "entropy of each decision": ("entropy/.*",),
    },
    "Cost": {
        "parameters": ("controller/cost_parameters",),
        "multiply-adds": ("controller/cost_flops",),
        "latency, ms": ("controller/cost_latency",),
    },
    "Speed": {"architectures per second": ("time/architectures_per_s",), "shared steps per second": ("time/shared_steps_per_s",)},
}
"""TensorBoard's page Custom Scalars: category -> chart -> the tags in it, as regular expressions."""


def probability_tables(names: Sequence[str], choices: Sequence[Sequence[str]], probabilities: Sequence[FloatArray]) -> str:
    """Return the choice probabilities of decisions as Markdown tables, probabilities of the likeliest choice in bold.

    A row is a decision and a column a choice; decisions share a table where the labels of one begin with the labels of the other.
    Two-choice decisions of which several have the same name up to the last slash (the skips of a layer) take less room: a row
    for that part of the name, a column for the rest, and only the probability of the second choice.

    Args: names: of D decisions. choices: their labels. probabilities: D arrays (C_d,), each summing to 1.
    """
    tables: list[tuple[tuple[str, ...], dict[str, FloatArray]]] = []
    for name, labels, row in zip(names, choices, probabilities, strict=True):
        for index, (header, rows) in enumerate(tables):
            shared = min(len(header), len(labels))
            if header[:shared] == tuple(labels[:shared]):
                rows[name] = row
                tables[index] = (max(header, tuple(labels), key=len), rows)
                break
        else:
            tables.append((tuple(labels), {name: row}))
    return "\n\n".join(_second_choice_table(header, rows) or _choice_table(header, rows) for header, rows in tables)


def _choice_table(labels: tuple[str, ...], rows: Mapping[str, FloatArray]) -> str:
    lines = [_table_row("decision", labels), "|:--" + "|--:" * len(labels) + "|"]
    for name, row in rows.items():
        likeliest = int(np.argmax(row))
        lines.append(_table_row(name, [_cell(value, bold=choice == likeliest) for choice, value in enumerate(row)]))
    return "\n".join(lines)


def _second_choice_table(labels: tuple[str, ...], rows: Mapping[str, FloatArray]) -> str | None:
    """Return the compact table of two-choice decisions, or None where it would not be more compact."""
    if any(len(row) != 2 for row in rows.values()):
        return None
    cells: dict[str, dict[str, str]] = {}
    for name, row in rows.items():
        group, _, rest = name.rpartition("/")
        cells.setdefault(group, {})[rest] = _cell(row[1], bold=row[1] > row[0])
    if len(cells) == len(rows):
        return None
    columns = list(dict.fromkeys(rest for members in cells.values() for rest in members))
    lines = [_table_row(f"probability of {labels[1]}", columns), "|:--" + "|--:" * len(columns) + "|"]
    lines += [_table_row(group, [members.get(rest, "") for rest in columns]) for group, members in cells.items()]
    return "\n".join(lines)


def _cell(probability: float, *, bold: bool) -> str:
    return f"**{probability:.2f}**" if bold else f"{probability:.2f}"


def _table_row(first: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (first, *cells)) + " |"
