"""How well several runs' shared weights rank, side by side: a table, choices that they over- and under-rate, JSON, a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from enas.metrics import ACCURACY, Metric
from enas.ranking.bias import ChoiceBias, choice_bias
from enas.ranking.picture import RankPanel, Score
from enas.ranking.rank_statistics import TOP, RankAgreement, agreement, comparable
from enas.report import markdown_table
from enas.spaces.base import SearchSpace
from enas.types import Evaluation, FloatArray, IntArray

HEADINGS = (
    "run",
    "path rule",
    "n",
    "tau (95 % interval)",
    "tau by {other}",
    "Spearman",
    *(f"regret@{k}" for k in TOP),
    "precision@10%",
    "truth of best 10",
)
_NOTE = (
    "tau: Kendall's tau-b between {score} under the shared weights and {truth}; the interval is over architectures. Regret@k: "
    "{regret} the best of all n. Precision@10%: share of the tenth that is scored best that is in the tenth that is best. Truth "
    "of best 10: mean {truth} of the 10 best-scored."
)
NUM_DECISIONS = 20
"""Choices of single decisions that the report lists; `rank.json` has all."""
BIAS_NOTE = (
    "Mean, over the architectures that hold a choice, of what the rank by truth does not explain of their rank by score "
    "(the residual of the least-squares line over all n), divided by n, with its 95 % interval: above 0 sharing over-rates them. "
    "+.10 means that they stand a tenth of the ranking higher than other architectures as good as they are. Noise alone gives "
    "0. Two cautions: choices stand together, so that a bias of one shows in others; and one interval in twenty excludes 0 by "
    "chance."
)


@dataclass(frozen=True, kw_only=True)
class RankedRun:
    """A run's scores beside the truth.

    Attributes:
        name, paths, data: the run's folder, its path rule, and its data set.
        epoch: completed when the weights were saved.
        scores: over all n architectures.
        truths: (n,), of the metric; NaN where there is none, and the architecture is left out.
        score: which of accuracy and loss ranks.
        metric: how the truth is told.
        seed: of the bootstrap.
    """

    name: str
    paths: str
    data: str
    epoch: int
    space: SearchSpace[Any]
    tokens: IntArray
    scores: Evaluation
    truths: FloatArray
    score: Score
    metric: Metric = ACCURACY
    seed: int = 0
    by_accuracy: RankAgreement = field(init=False)
    by_loss: RankAgreement = field(init=False)
    bias: Sequence[ChoiceBias] = field(init=False)

    def __post_init__(self) -> None:
        """Measure the agreement. Raises ValueError where no architecture has a truth."""
        known = np.isfinite(self.truths)
        if not known.any():
            raise ValueError(f"{self.name}: expected the truth about at least one architecture, got none")
        truths = self.metric.scores(self.truths[known])  # higher is better
        for score in ("accuracy", "loss"):
            found = agreement(self._values(score)[known], truths, seed=self.seed)
            found = replace(found, mean_truth=self.metric.score(found.mean_truth))
            object.__setattr__(self, f"by_{score}", found)
        bias = choice_bias(self.space, self.tokens[known], self._values(self.score)[known], truths)
        object.__setattr__(self, "bias", bias)

    def _values(self, score: str) -> FloatArray:
        """Return scores, higher is better; minus infinity for what could not be measured, which its loss tells."""
        values = self.scores.accuracy if score == "accuracy" else -self.scores.loss
        return comparable(values, losses=self.scores.loss)

    @property
    def agreement(self) -> RankAgreement:
        """Of the score that ranks."""
        return self.by_accuracy if self.score == "accuracy" else self.by_loss

    def cells(self) -> tuple[str, ...]:
        """Return the line of the table under `HEADINGS`; regrets and truths as the metric's figures."""
        own, other = self.agreement, self.by_loss if self.score == "accuracy" else self.by_accuracy
        return (
            self.name,
            self.paths,
            str(own.num_architectures),
            own.tau_in_words(),
            _coefficient(other.tau),
            _coefficient(own.spearman),
            *(self.metric.figure(abs(own.regrets[k])) for k in TOP),  # at least 0, but for rounding
            f"{own.precision:.0%}",
            self.metric.text(own.mean_truth),
        )

    def panel(self) -> RankPanel:
        """Return the column of the picture."""
        known = np.isfinite(self.truths)
        return RankPanel(
            title=f"{self.name}, paths: {self.paths}",
            scores=self._values(self.score)[known],
            truths=self.truths[known],
            agreement=self.agreement,
            metric=self.metric,
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything that was found, without NaN, which JSON does not know."""
        record = {
            "run": self.name,
            "paths": self.paths,
            "data": self.data,
            "epoch": self.epoch,
            "metric": self.metric.name,
            f"{self.metric.example}s": self.scores.num_examples,
            "by_accuracy": asdict(self.by_accuracy),
            "by_loss": asdict(self.by_loss),
            "choice_bias": [{**asdict(one), "verdict": one.verdict} for one in self.bias],
        }
        plain: dict[str, Any] = _plain(record)
        return plain


def _coefficient(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def note(score: Score, truth: str, metric: Metric) -> str:
    """Return how to read the table. Args: truth: what it is, in words. metric: how it is told."""
    best = "the best of the k best-scored lies"
    regret = f"points that {best} below" if metric == ACCURACY else f"{metric.name} by which {best} above"
    return _NOTE.format(score=score, truth=truth, regret=regret)


def headings(score: Score) -> tuple[str, ...]:
    """Return the table's headings, with the score that does not rank."""
    return tuple(heading.format(other="loss" if score == "accuracy" else "accuracy") for heading in HEADINGS)


def architectures_json(runs: Sequence[RankedRun]) -> list[dict[str, Any]]:
    """Return a record an architecture: its tokens and, run by run, its scores and its truth."""
    first = runs[0]
    columns = {
        "truth": [run.truths for run in runs],
        "accuracy": [run.scores.accuracy for run in runs],
        "loss": [run.scores.loss for run in runs],
    }
    return [
        {
            "tokens": row.tolist(),
            "text": first.space.to_text(first.space.decode(row)),
            **{name: _plain([float(values[index]) for values in arrays]) for name, arrays in columns.items()},
        }
        for index, row in enumerate(first.tokens)
    ]


def report_text(runs: Sequence[RankedRun], *, truth: str, picture: str) -> str:
    """Return `report.md`: the table, the picture, over- and under-rated choices.

    Args: truth: what it is, in words. picture: name of its file.
    """
    score = runs[0].score
    lines = ["# How well shared weights rank", "", *markdown_table(headings(score), [run.cells() for run in runs]), ""]
    lines += [note(score, truth, runs[0].metric), "", f"![score against truth]({picture})", ""]
    overall, single = _bias_rows(runs, is_overall=True), _bias_rows(runs, is_overall=False)
    lines += ["## Which choices does sharing over- or under-rate?", "", BIAS_NOTE, ""]
    names = [f"{run.name} ({run.paths})" for run in runs]
    if overall:
        lines += ["In any decision of the vocabulary:", ""]
        lines += [*markdown_table(("vocabulary", "choice", "architectures", *names), overall), ""]
    shown = f"the {NUM_DECISIONS} of {len(single)} with the largest bias" if len(single) > NUM_DECISIONS else "all"
    lines += [f"In single decisions ({shown}):", ""]
    lines += [*markdown_table(("decision", "choice", "architectures", *names), single[:NUM_DECISIONS]), ""]
    return "\n".join(lines)


def _bias_rows(runs: Sequence[RankedRun], *, is_overall: bool) -> list[tuple[str, ...]]:
    """Return a row a choice, a column a run; overall ones in the space's order, others by their largest bias in any run."""
    found: dict[tuple[str, str], dict[str, ChoiceBias]] = {}
    for number, run in enumerate(runs):
        for one in run.bias:
            if one.is_overall == is_overall:
                found.setdefault((one.place, one.choice), {})[str(number)] = one
    rows = list(found.items())
    if not is_overall:
        rows.sort(key=lambda item: -max(abs(one.bias) for one in item[1].values()))
    return [
        (*key, str(max(one.num_architectures for one in row.values())), *(_bias_cell(row.get(str(n))) for n in range(len(runs))))
        for key, row in rows
    ]


def _bias_cell(bias: ChoiceBias | None) -> str:
    if bias is None:
        return ""
    verdict = "" if bias.verdict == "-" else f", {bias.verdict}"
    return f"{bias.bias:+.2f} ({bias.interval[0]:+.2f} to {bias.interval[1]:+.2f}){verdict}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
