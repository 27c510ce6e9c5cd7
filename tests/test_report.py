from __future__ import annotations

import math
from dataclasses import replace

import pytest

from enas.children.cost import Cost
from enas.derive import Candidate
from enas.export import Answer
from enas.metrics import ACCURACY, METRICS
from enas.report import Row, best_note, markdown_table, retrain_comparison, spread, training_table, write_report
from enas.retrain_result import RetrainResult


def result(accuracy: float, *, parameters: int = 1234, best: float = 1.0) -> RetrainResult:
    return RetrainResult(test_accuracy=accuracy, best_test_accuracy=best, train_loss=0.1, parameters=parameters, seed=0)


ANSWER = Answer(
    architecture=None,
    candidate=Candidate(tokens=(0, 1), valid_accuracy=0.98765, valid_loss=0.1),
    cost=Cost(parameters=12345, flops=6789012),
    text="0\n1 0",
)


def test_spread_is_mean_and_sample_deviation_in_percent():
    assert spread([0.9, 0.92, 0.94]) == "92.00 +- 2.00 %"
    assert spread([0.9]) == "90.00 %"


def test_row_counts_trainings_and_their_sizes():
    row = Row(name="searched", results=[result(0.9), result(0.92)]).cells()
    assert (row["architecture"], row["trainings"], row["parameters"]) == ("searched", "2", "1,234")
    random = Row(name="random", results=[result(0.8, parameters=5000), result(0.8, parameters=999)])
    assert random.cells()["parameters"] == "999 to 5,000"


def test_row_tells_the_last_error_from_the_best():
    named = Row(name="searched", results=[result(0.9, best=0.91), result(0.92, best=0.95)]).cells()
    assert list(named) == ["architecture", "trainings", "test accuracy", "test error", "best test error", "parameters"]
    assert named["test accuracy"] == "91.00 +- 1.41 %"
    assert named["test error"] == "9.00 +- 1.41 %"
    assert named["best test error"] == "7.00 +- 2.83 %"
    (*_, last, best, _) = Row(name="searched", results=[result(0.9, best=0.91)]).cells().values()
    assert (last, best) == ("10.00 %", "9.00 %")


def test_table_has_a_line_a_row():
    assert markdown_table(("a", "b", "c"), [("x", "1", "2"), ("y", "3", "4")]) == [
        "| a | b | c |",
        "|:--|--:|--:|",
        "| x | 1 | 2 |",
        "| y | 3 | 4 |",
    ]


def test_comparison_reads_the_last_measurement_and_not_the_best():
    comparison = retrain_comparison([result(0.9, best=0.99), result(0.92)], [result(0.8, best=0.99), result(0.84)])
    assert (comparison.searched_mean, comparison.random_mean) == (0.91, 0.8200000000000001)


# Of a text.

TEXT_ANSWER = replace(ANSWER, candidate=replace(ANSWER.candidate, valid_loss=math.log(123.456)), metric=METRICS["perplexity"])


def text_result(perplexity: float, *, valid: float | None = None, best: float = 50.0) -> RetrainResult:
    """A training's result; its accuracies are there to be told nowhere."""
    told = {} if valid is None else {"valid_loss": math.log(valid), "valid_accuracy": 0.3}
    losses = {"test_loss": math.log(perplexity), "best_test_loss": math.log(best)}
    return replace(result(0.25, best=0.26), metric="perplexity", **losses, **told)


def test_row_of_a_text_tells_perplexities():
    named = Row(name="searched", results=[text_result(80.0, best=70.0), text_result(84.0, best=74.0)]).cells()
    assert named == {
        "architecture": "searched",
        "trainings": "2",
        "test perplexity": "82.00 +- 2.83",
        "best test perplexity": "72.00 +- 2.83",
        "parameters": "1,234",
    }


def test_validation_perplexity_has_a_column_where_one_was_measured():
    rows = [Row(name="searched", results=[text_result(80.0, valid=90.0)]), Row(name="random", results=[text_result(85.0)])]
    headings, lines = training_table(rows)
    assert headings == (
        "architecture",
        "trainings",
        "test perplexity",
        "validation perplexity",
        "best test perplexity",
        "parameters",
    )
    assert lines == [("searched", "1", "80.00", "90.00", "50.00", "1,234"), ("random", "1", "85.00", "-", "50.00", "1,234")]


def test_lower_perplexity_wins():
    comparison = retrain_comparison([text_result(80.0), text_result(82.0)], [text_result(90.0), text_result(92.0)])
    assert comparison.difference == pytest.approx(-10)
    assert comparison.verdict == "yes"


def test_infinite_perplexities_are_told_as_they_are():
    infinite = replace(text_result(80.0), test_loss=800.0, best_test_loss=math.inf)
    row = Row(name="searched", results=[infinite, text_result(80.0)])
    assert row.cells()["test perplexity"] == "inf"
    words = retrain_comparison(row.results, [text_result(90.0), text_result(92.0)]).in_words()
    assert words == (
        "Not shown that the search beat random architectures: +inf in perplexity, but an infinite perplexity gives no interval."
    )
    assert retrain_comparison([infinite] * 2, [infinite] * 2).verdict == "not shown"


def test_report_of_a_text_is_in_its_words(tmp_path):
    rows = [Row(name="searched", results=[text_result(80.0)])]
    write_report(tmp_path, heading="x", answer=TEXT_ANSWER, rows=rows, verdict=None)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    size = "12,345 parameters, 6,789,012 multiply-adds for one token."
    assert f"Shared-weight perplexity on the whole validation set: 123.46; {size}" in text
    assert "Test perplexity is that after the last epoch. The best test perplexity is the lowest on the way" in text
    assert "accuracy" not in text
    assert "error" not in text


def test_report_names_the_files_of_the_data_where_there_are_some(tmp_path):
    for files in ((), ("vocabulary.json",)):
        write_report(tmp_path, heading="x", answer=TEXT_ANSWER, rows=[], verdict=None, data_files=files)
        text = (tmp_path / "report.md").read_text(encoding="utf-8")
        assert text.count("| `vocabulary.json` | what its inputs and outputs stand for |\n") == len(files)


def test_report_holds_answer_table_verdict_and_files(tmp_path):
    rows = [Row(name="searched", results=[result(0.9)]), Row(name="random", results=[result(0.8), result(0.84)])]
    write_report(tmp_path, heading="enas on digits", answer=ANSWER, rows=rows, verdict="Not shown.")
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# enas on digits"
    assert "![the searched architecture](best_architecture.svg)" in lines
    assert (
        "Shared-weight accuracy on the whole validation set: 98.77%; 12,345 parameters, 6,789,012 multiply-adds for one image."
        in lines
    )
    assert lines[lines.index("```") : lines.index("```") + 4] == ["```", "0", "1 0", "```"]
    table = markdown_table(*training_table(rows))
    assert lines[lines.index(table[0]) :][: len(table)] == table
    assert (
        "Test accuracy and test error are those after the last epoch. The best test error is the lowest on the way: chosen on "
        "the test split, so never a result by itself."
    ) in lines
    assert "**Not shown.**" in lines
    assert any("`config.yaml`" in line for line in lines)


def test_report_holds_what_was_looked_up_before_the_trainings(tmp_path):
    rows = [Row(name="searched", results=[result(0.9)])]
    write_report(tmp_path, heading="x", answer=ANSWER, rows=rows, verdict=None, looked_up=["Looked up:", "", "a table", ""])
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert lines.index("```") < lines.index("Looked up:") < lines.index("a table") < lines.index(best_note(ACCURACY))


def test_report_of_a_search_without_retraining_has_no_table_and_no_verdict(tmp_path):
    write_report(tmp_path, heading="enas on digits", answer=ANSWER, rows=[], verdict=None)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "from scratch" not in text
    assert "test error" not in text
    assert "**" not in text
    assert "12,345 parameters" in text


def test_report_of_an_objective_has_the_front_and_the_latency(tmp_path):
    candidate = replace(ANSWER.candidate, costs={"latency": 1.23456})
    answer = replace(ANSWER, candidate=candidate)
    write_report(tmp_path, heading="x", answer=answer, rows=[], verdict=None, front=["## A front", ""], warning="Too slow.")
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert any(line.endswith("6,789,012 multiply-adds for one image, 1.235 ms.") for line in lines)
    assert lines.index("## A front") < lines.index("Warning: Too slow.")
    assert any("`pareto.json`" in line for line in lines)
    write_report(tmp_path, heading="x", answer=ANSWER, rows=[], verdict=None)
    assert "pareto" not in (tmp_path / "report.md").read_text(encoding="utf-8")
