from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from enas.metrics import METRICS
from enas.ranking.rank_statistics import agreement
from enas.ranking.report import NUM_DECISIONS, RankedRun, architectures_json, headings, report_text
from enas.spaces.sampling import sample_distinct
from enas.types import Evaluation


@pytest.fixture
def ranked(planted_space) -> Any:
    tokens = sample_distinct(planted_space, 60, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    truths, accuracy, loss = rng.random(60), rng.random(60), rng.random(60)

    def make(**changes: Any) -> RankedRun:
        values: dict[str, Any] = {
            "name": "mine",
            "paths": "uniform",
            "data": "digits",
            "epoch": 4,
            "space": planted_space,
            "tokens": tokens,
            "scores": Evaluation(accuracy=accuracy, loss=loss, num_examples=50),
            "truths": truths,
            "score": "accuracy",
        }
        return RankedRun(**{**values, **changes})

    return make


def test_loss_ranks_the_lower_the_better(ranked):
    run = ranked()
    assert run.by_accuracy == agreement(run.scores.accuracy, run.truths)
    assert run.by_loss == agreement(-run.scores.loss, run.truths)
    assert (run.agreement, ranked(score="loss").agreement) == (run.by_accuracy, run.by_loss)


def test_row_has_a_cell_a_heading(ranked):
    for score, other in (("accuracy", "loss"), ("loss", "accuracy")):
        run = ranked(score=score)
        row = dict(zip(headings(score), run.cells(), strict=True))
        assert (row["run"], row["path rule"], row["n"]) == ("mine", "uniform", "60")
        assert row["tau (95 % interval)"] == run.agreement.tau_in_words()
        assert row[f"tau by {other}"] == f"{getattr(run, f'by_{other}').tau:.2f}"
        assert row["regret@5"] == f"{100 * run.agreement.regrets[5]:.2f}"
        assert row["truth of best 10"] == f"{run.agreement.mean_truth:.2%}"


def test_perplexities_rank_the_lower_the_better(ranked):
    plain = ranked()
    perplexities = 100 - 50 * plain.truths  # the same order, told the other way round
    run = ranked(truths=perplexities, metric=METRICS["perplexity"])
    assert run.agreement.tau == pytest.approx(plain.agreement.tau)
    assert run.agreement.precision == plain.agreement.precision
    assert [one.bias for one in run.bias] == pytest.approx([one.bias for one in plain.bias])
    row = dict(zip(headings("accuracy"), run.cells(), strict=True))
    assert row["regret@5"] == f"{50 * plain.agreement.regrets[5]:.2f}"
    assert row["truth of best 10"] == f"{100 - 50 * plain.agreement.mean_truth:.2f}"
    record = run.to_json()
    assert (record["metric"], record["tokens"]) == ("perplexity", 50)
    assert record["by_loss"]["mean_truth"] > 0
    assert np.array_equal(run.panel().truths, perplexities)
    text = report_text([run], truth="test perplexity when trained from scratch", picture="x.svg")
    assert "Regret@k: perplexity by which the best of the k best-scored lies above the best of all n." in text


def test_architecture_without_truth_is_left_out(ranked):
    truths = ranked().truths.copy()
    truths[[2, 9]] = math.nan
    run, keep = ranked(truths=truths), np.delete(np.arange(60), [2, 9])
    assert run.agreement == agreement(run.scores.accuracy[keep], truths[keep])
    assert len(run.panel().truths) == 58
    with pytest.raises(ValueError, match="mine: expected the truth about at least one architecture, got none"):
        ranked(truths=np.full(60, math.nan))


def test_architecture_whose_loss_is_not_finite_counts_as_the_worst_by_either_score(ranked):
    scores = ranked().scores
    loss = scores.loss.copy()
    loss[5] = math.nan
    run = ranked(scores=Evaluation(accuracy=scores.accuracy, loss=loss, num_examples=50))
    accuracy = scores.accuracy.copy()
    accuracy[5] = -1
    assert run.by_accuracy == agreement(accuracy, run.truths)


def test_tau_that_does_not_exist_is_a_dash(ranked):
    tied = ranked(score="loss", scores=Evaluation(accuracy=np.full(60, 0.5), loss=np.full(60, 1.0), num_examples=50))
    row = dict(zip(headings("loss"), tied.cells(), strict=True))
    assert (row["tau by accuracy"], row["Spearman"]) == ("-", "-")


def test_json_has_no_nan_and_every_architecture(ranked):
    run = ranked(truths=np.full(60, 0.5))
    record = json.loads(json.dumps(run.to_json(), allow_nan=False))
    assert record["by_accuracy"]["tau"] is None
    assert (record["run"], record["paths"], record["data"]) == ("mine", "uniform", "digits")
    assert record["by_accuracy"]["regrets"] == {"1": 0.0, "5": 0.0, "10": 0.0}
    assert len(record["choice_bias"]) == len(run.bias) > 150
    rows = json.loads(json.dumps(architectures_json([ranked(), run]), allow_nan=False))
    assert [row["tokens"] for row in rows] == run.tokens.tolist()
    assert rows[7]["truth"] == [ranked().truths[7], 0.5]
    assert rows[7]["accuracy"] == [run.scores.accuracy[7]] * 2


def test_report_lists_operations_in_order_and_decisions_by_their_bias(ranked):
    runs = [ranked(), ranked(name="other", paths="fair", score="accuracy")]
    text = report_text(runs, truth="test accuracy", picture="scatter.svg")
    lines = text.splitlines()
    assert "![score against truth](scatter.svg)" in lines
    assert "between accuracy under the shared weights and test accuracy" in text
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    start = cells.index(["vocabulary", "choice", "architectures", "mine (uniform)", "other (fair)"])
    assert [row[1] for row in cells[start + 1 : start + 7]] == [f"op_{c}" for c in range(6)]
    decisions = cells[start + 8 :]
    assert len(decisions) == NUM_DECISIONS
    biases = [abs(float(row[3].split()[0])) for row in decisions]
    assert biases == sorted(biases, reverse=True)
    strongest = max((one for one in runs[0].bias if not one.is_overall), key=lambda one: abs(one.bias))
    assert decisions[0][:3] == [strongest.place, strongest.choice, str(strongest.num_architectures)]
    assert decisions[0][3].startswith(f"{strongest.bias:+.2f} ({strongest.interval[0]:+.2f} to {strongest.interval[1]:+.2f})")
