from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from enas.configs import ObjectiveConfig
from enas.derive import Candidate
from enas.metrics import METRICS
from enas.pareto import Front, Measured, front_lines, make_front, pareto_front, read_measured, save_front, worth_measuring
from enas.pareto_picture import draw_front, save_front_picture
from enas.spaces.macro import MacroConfig

PARAMETERS = ObjectiveConfig(cost="parameters", target=20)


def brute_force(accuracy: Any, cost: Any) -> set[int]:
    """Indices that no other is at least as good as in everything and better than in something."""
    rows = np.column_stack([-np.asarray(accuracy), np.asarray(cost).reshape(len(accuracy), -1)])
    return {
        i for i in range(len(rows)) if not any((rows[j] <= rows[i]).all() and (rows[j] < rows[i]).any() for j in range(len(rows)))
    }


def test_front_is_worked_by_hand():
    accuracy = np.array([0.5, 0.9, 0.7, 0.9, 0.6])
    cost = np.array([10.0, 40.0, 20.0, 30.0, 25.0])
    assert pareto_front(accuracy, cost).tolist() == [0, 2, 3]


@pytest.mark.parametrize("num_costs", [1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_front_is_that_of_brute_force_also_with_ties(num_costs, seed):
    rng = np.random.default_rng(seed)
    accuracy, cost = rng.integers(6, size=40) / 6, rng.integers(6, size=(40, num_costs)).astype(float)
    front = pareto_front(accuracy, cost)
    assert set(front.tolist()) == brute_force(accuracy, cost)
    assert len(set(front.tolist())) == len(front)
    assert (np.diff(cost[front, 0]) >= 0).all()


def test_one_cost_may_be_a_vector_or_a_column():
    rng = np.random.default_rng(0)
    accuracy, cost = rng.random(50), rng.random(50)
    assert pareto_front(accuracy, cost).tolist() == pareto_front(accuracy, cost[:, None]).tolist()
    assert (np.diff(accuracy[pareto_front(accuracy, cost)]) > 0).all()


def test_equal_architectures_stand_beside_each_other():
    assert pareto_front(np.array([0.5, 0.5, 0.4]), np.array([3.0, 3.0, 3.0])).tolist() == [0, 1]


def test_what_is_not_finite_is_on_no_front():
    accuracy, cost = np.array([np.nan, 0.2, 0.9, 0.1]), np.array([1.0, 2.0, np.inf, 1.5])
    assert pareto_front(accuracy, cost).tolist() == [3, 1]
    assert pareto_front(np.array([]), np.array([])).tolist() == []


# What a search measured.


def lines_of(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_last_measurement_of_each_architecture_counts(tmp_path):
    file = tmp_path / "architectures.jsonl"
    row = {"phase": "controller", "tokens": [0, 1], "accuracy": 0.1, "costs": {"parameters": 5.0}}
    file.write_text(
        lines_of(
            [
                row,
                {**row, "phase": "shared", "tokens": [7, 7]},
                {**row, "tokens": [2, 2], "accuracy": None, "costs": {"parameters": None}},
                {**row, "tokens": [3, 3], "accuracy": 0.9, "failure": "loss not finite"},
                {**row, "accuracy": 0.6},
                {"phase": "derive", "tokens": [8, 8], "accuracy": 0.6, "costs": {"parameters": 5.0}},
            ]
        )
    )
    measured = read_measured(file, PARAMETERS)
    assert measured.tokens.tolist() == [[0, 1], [2, 2], [3, 3]]
    assert np.array_equal(measured.values, [0.6, np.nan, np.nan], equal_nan=True)
    assert measured.costs["parameters"].tolist() == [5.0, np.inf, 5.0]


def test_perplexities_are_read_where_results_are_told_by_them(tmp_path):
    file = tmp_path / "architectures.jsonl"
    row = {"phase": "controller", "tokens": [0], "accuracy": 0.1, "costs": {"parameters": 5.0}}
    rows = [{**row, "perplexity": 90.0}, {**row, "tokens": [1], "perplexity": None}, {**row, "tokens": [2], "perplexity": 80.0}]
    file.write_text(lines_of(rows))
    measured = read_measured(file, PARAMETERS, METRICS["perplexity"])
    assert np.array_equal(measured.values, [90.0, np.nan, 80.0], equal_nan=True)
    assert worth_measuring(measured, PARAMETERS, 1).tolist() == [[2]]


def measured_of(accuracy: Any, parameters: Any) -> Measured:
    tokens = np.arange(len(accuracy))[:, None]
    return Measured(
        tokens=tokens,
        values=np.array(accuracy, dtype=float),
        costs={"parameters": np.array(parameters, dtype=float)},
    )


def chosen(measured: Measured, objective: ObjectiveConfig, count: int) -> list[int]:
    return [row[0] for row in worth_measuring(measured, objective, count).tolist()]


def test_fronts_are_chosen_one_behind_the_other():
    measured = measured_of([0.9, 0.8, 0.7, 0.6, 0.5], [30, 40, 10, 20, 20])
    assert chosen(measured, PARAMETERS, 2) == [2, 0]
    assert chosen(measured, PARAMETERS, 4) == [2, 0, 3, 1]
    assert chosen(measured, PARAMETERS, 99) == [2, 0, 3, 1, 4]


def test_front_with_too_many_keeps_its_ends():
    measured = measured_of(np.arange(50) / 50, np.arange(50))
    some = chosen(measured, PARAMETERS, 5)
    assert (some[0], some[-1], len(some)) == (0, 49, 5)
    assert len(chosen(measured, PARAMETERS, 30)) == 30


def test_only_what_is_within_the_limits_is_chosen_unless_nothing_is():
    measured = measured_of([0.1, 0.2, 0.3], [10, 20, 30])
    assert chosen(measured, ObjectiveConfig(max_parameters=20), 9) == [0, 1]
    assert chosen(measured, ObjectiveConfig(max_parameters=5), 9) == [0, 1, 2]
    failed = measured_of([np.nan, 0.2, 0.3], [10, 20, 30])  # the only one within a limit of 15
    assert chosen(failed, ObjectiveConfig(max_parameters=15), 9) == [1, 2]


def test_nothing_is_chosen_of_nothing(tmp_path):
    (tmp_path / "architectures.jsonl").write_text("")
    assert worth_measuring(read_measured(tmp_path / "architectures.jsonl", PARAMETERS), PARAMETERS).tolist() == []


# The front of candidates, its file, lines and picture.

SPACE = MacroConfig(num_layers=2).make_space()


def candidate(tokens: tuple[int, ...], accuracy: float, parameters: float, **changes: Any) -> Candidate:
    return Candidate(
        tokens=tokens, valid_accuracy=accuracy, valid_loss=1.0, reward=accuracy / 2, costs={"parameters": parameters}, **changes
    )


@pytest.fixture
def front() -> Front:
    candidates = [
        candidate((1, 0, 0), 0.75, 3000.0),
        candidate((0, 0, 0), 0.5, 1000.0),
        candidate((2, 0, 0), 0.25, 2000.0),
        candidate((3, 0, 0), 0.99, 10.0, failure="loss not finite"),
        candidate((4, 1, 0), 0.8, 5000.0, excess=1.25),
    ]
    objective = ObjectiveConfig(cost="parameters", target=1500, max_parameters=4000)
    return make_front(candidates, objective, answer=(1, 0, 0))


def test_front_of_candidates_leaves_out_failures(front):
    assert [front.candidates[index].tokens for index in front.members] == [(0, 0, 0), (1, 0, 0), (4, 1, 0)]


def test_file_and_report_say_what_is_on_the_front(front, tmp_path):
    save_front(front, tmp_path, SPACE)
    record = json.loads((tmp_path / "pareto.json").read_text())
    assert (record["cost"], record["target"], record["limits"]) == ("parameters", 1500, {"parameters": 4000})
    assert [row["tokens"] for row in record["front"]] == [[0, 0, 0], [1, 0, 0], [4, 1, 0]]
    assert [SPACE.from_text(row["text"]) for row in record["front"]] == [SPACE.decode(row["tokens"]) for row in record["front"]]
    lines = front_lines(record)
    assert lines[-4:-1] == [
        "| 1,000 | 50.00% | 0.2500 |  | `0 / 0 0` |",
        "| 3,000 | 75.00% | 0.3750 | answer | `1 / 0 0` |",
        "| 5,000 | 80.00% | 0.4000 | over the limit | `4 / 1 0` |",
    ]
    assert any("none of 4 measured" in line and "target 1,500; limit 4,000 parameters" in line for line in lines)
    header, ruler, row = lines[-6], lines[-5], lines[-4]
    assert header.count("|") == ruler.count("|") == row.count("|")


def test_front_of_perplexities_has_the_lowest_ones(front, tmp_path):
    metric = METRICS["perplexity"]
    candidates = [replace(one, valid_loss=math.log(100 * one.valid_accuracy)) for one in front.candidates]
    found = make_front(candidates, front.objective, answer=(2, 0, 0), metric=metric)
    assert [found.candidates[index].tokens for index in found.members] == [(0, 0, 0), (2, 0, 0)]
    lines = front_lines(found.to_json(SPACE))
    assert lines[0] == "## Perplexity against parameters"
    assert lines[-3:-1] == ["| 1,000 | 50.00 | 0.2500 |  | `0 / 0 0` |", "| 2,000 | 25.00 | 0.1250 | answer | `2 / 0 0` |"]
    axes = draw_front(found, replace(measured_of([90.0], [1000]), metric=metric)).axes[0]
    assert axes.get_ylabel() == "shared-weight validation perplexity"
    offsets = {collection.get_label(): np.asarray(collection.get_offsets()) for collection in axes.collections}
    np.testing.assert_allclose(offsets["Pareto front"], [[1000.0, 50.0], [2000.0, 25.0]])
    assert offsets["in the search, minibatches"].tolist() == [[1000.0, 90.0]]


def test_bars_in_texts_do_not_split_cells():
    row = {"tokens": [1], "text": "|a~0|+|b~0|", "valid_accuracy": 0.5, "reward": 0.5, "costs": {"latency": 1.5}}
    record = {"cost": "latency", "target": 2.0, "limits": {}, "num_measured": 1, "answer": [1]}
    lines = front_lines({**record, "front": [{**row, "within_limits": True}]})
    assert lines[-2] == r"| 1.500 | 50.00% | 0.5000 | answer | `\|a~0\|+\|b~0\|` |"


def test_picture_shows_front_answer_target_and_limit(front):
    measured = measured_of([0.1, 0.2, np.nan], [1000, 50_000, 7])
    axes = draw_front(front, measured).axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == [
        "in the search, minibatches",
        "again, whole validation set",
        "Pareto front",
        "answer",
        "target",
        "limit",
    ]
    assert axes.get_xscale() == "log"
    offsets = {collection.get_label(): np.asarray(collection.get_offsets()).tolist() for collection in axes.collections}
    assert offsets["answer"] == [[3000.0, 75.0]]
    assert offsets["Pareto front"] == [[1000.0, 50.0], [3000.0, 75.0], [5000.0, 80.0]]
    assert len(offsets["in the search, minibatches"]) == 2
    lines = {line.get_label(): float(np.asarray(line.get_xdata())[0]) for line in axes.lines}
    assert (lines["target"], lines["limit"]) == (1500.0, 4000.0)


def test_same_front_gives_the_same_picture(front, tmp_path):
    measured = measured_of([0.1, 0.2], [1000, 2000])
    pixels = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pixels.append(save_front_picture(front, measured, tmp_path / name))
    assert (tmp_path / "a" / "pareto.svg").read_bytes() == (tmp_path / "b" / "pareto.svg").read_bytes()
    assert pixels[0].dtype == np.uint8
    assert pixels[0].ndim == 3
    assert pixels[0].shape[2] == 3
    assert pixels[0].std() > 5
    assert (tmp_path / "a" / "pareto.png").stat().st_size > 1000
