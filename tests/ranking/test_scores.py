from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from enas.errors import Stopped, TrainingFailed
from enas.ranking.scores import digest_of, score_all, train_truths
from enas.spaces.sampling import sample_distinct
from enas.types import Evaluation, IntArray

SOURCE = {"run": "runs/a", "epoch": 3}


class Weights:
    """Rates an architecture by its tokens; counts what it is asked."""

    def __init__(self, space: Any) -> None:
        self.space = space
        self.asked: list[tuple[int, ...]] = []

    def evaluate_all(self, architectures: Sequence[Any], *, num_images: int | None = None) -> Evaluation:
        (one,) = architectures
        self.asked.append(one.tokens)
        first = float(one.tokens[0])
        accuracy, loss = (np.nan, np.nan) if first == 2 else (0.1 * first, 1.0 / 3 + first)
        return Evaluation(accuracy=np.array([accuracy]), loss=np.array([loss]), num_examples=num_images or 50)


@pytest.fixture
def weights(chain_space) -> Any:
    return Weights(chain_space(3, 4))


@pytest.fixture
def tokens(weights) -> IntArray:
    return sample_distinct(weights.space, 8, np.random.default_rng(0))


def score(weights: Any, tokens: IntArray, file: Path, *, source: Any = SOURCE, **options: Any) -> Evaluation:
    return score_all(weights, tokens, file, source=source, num_images=None, **options)


def test_scores_are_those_of_the_weights_read_back_or_not(weights, tokens, tmp_path):
    first = score(weights, tokens, tmp_path / "s.jsonl")
    again = score(weights, tokens, tmp_path / "s.jsonl")
    assert weights.asked == [tuple(row) for row in tokens]
    expected = np.where(tokens[:, 0] == 2, np.nan, 0.1 * tokens[:, 0])
    for found in (first, again):
        np.testing.assert_array_equal(found.accuracy, expected)
        np.testing.assert_array_equal(found.loss, np.where(tokens[:, 0] == 2, np.nan, 1.0 / 3 + tokens[:, 0]))
        assert found.num_examples == 50


@pytest.mark.parametrize("left", ["", '{"tokens": [1', "nonsense"])
def test_stopped_measurement_goes_on_where_it_was(left, weights, tokens, tmp_path):
    file = tmp_path / "s.jsonl"
    with pytest.raises(Stopped, match=r"stopped after 3 of 8 architectures of runs/a, which are kept"):
        score(weights, tokens, file, should_stop=lambda: len(weights.asked) == 3)
    with file.open("a") as lines:
        lines.write(left)  # what a killed process had not finished
    shown: list[int] = []
    resumed = score(weights, tokens, file, on_score=shown.append)
    assert shown == [3, 4, 5, 6, 7]
    assert weights.asked == [tuple(row) for row in tokens]
    undisturbed = score(weights, tokens, tmp_path / "other.jsonl")
    np.testing.assert_array_equal(resumed.loss, undisturbed.loss)
    assert file.read_bytes() == (tmp_path / "other.jsonl").read_bytes()


def test_file_that_ends_in_its_first_line_starts_over(weights, tokens, tmp_path):
    (tmp_path / "s.jsonl").write_text('{"run": "ru')
    score(weights, tokens, tmp_path / "s.jsonl")
    assert json.loads((tmp_path / "s.jsonl").read_text().splitlines()[0]) == SOURCE
    assert len(weights.asked) == 8


@pytest.mark.parametrize("source", [{"run": "runs/b", "epoch": 3}, {"run": "runs/a", "epoch": 4}])
def test_scores_of_other_weights_are_refused(source, weights, tokens, tmp_path):
    score(weights, tokens, tmp_path / "s.jsonl")
    with pytest.raises(ValueError, match=r"s.jsonl: expected scores of \{.*\}, got \{.*\}; choose another --out"):
        score(weights, tokens, tmp_path / "s.jsonl", source=source)


def test_scores_of_other_architectures_are_refused(weights, tokens, tmp_path):
    score(weights, tokens, tmp_path / "s.jsonl")
    with pytest.raises(ValueError, match="choose another --out"):
        score(weights, tokens[::-1], tmp_path / "s.jsonl")


HEAD = json.dumps(SOURCE)
ROW = {"tokens": [0, 0], "accuracy": 0.5, "loss": 1.0, "images": 50}
LACKING = [json.dumps({key: value for key, value in ROW.items() if key != lost}) for lost in ROW]


@pytest.mark.parametrize("text", ["nonsense", f"{HEAD}\n[]", f"{HEAD}\n{{}}", *(f"{HEAD}\n{line}" for line in LACKING)])
def test_damaged_file_is_named(text, weights, tokens, tmp_path):
    (tmp_path / "s.jsonl").write_text(f"{text}\n")
    with pytest.raises(ValueError, match=r"s.jsonl: expected scores of architectures, got .*; choose another --out"):
        score(weights, tokens, tmp_path / "s.jsonl")


# Whose weights they are.


STATE = {"a": torch.tensor([1.0, 2.0]), "count": torch.tensor(3), "none": torch.zeros(0)}


def test_same_weights_have_the_same_digest_whatever_their_order_and_memory():
    strided = torch.tensor([[1.0, 9.0], [2.0, 9.0]])[:, 0]
    assert digest_of(STATE) == digest_of({**dict(reversed(STATE.items())), "a": strided})


@pytest.mark.parametrize(
    "change",
    [
        {"a": torch.tensor([1.0, 2.0000002])},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.0]).view(torch.int32)},
        {"count": torch.tensor(4)},
        {"b": torch.zeros(0)},
    ],
)
def test_other_weights_have_another_digest(change):
    assert digest_of({**STATE, **change}) != digest_of(STATE)


# The truth.


def recipe(space: Any, results: Sequence[float | None], metric: str = "accuracy") -> Any:
    """A recipe whose training number i gives a result, or fails where there is none."""

    def training(architecture: Any, number: int) -> Any:
        def run(folder: Path, **options: Any) -> Any:
            if results[number] is None:
                raise TrainingFailed(f"no finite loss: {architecture.tokens}")
            return SimpleNamespace(test_value=results[number], metric=metric)

        return SimpleNamespace(run=run)

    return SimpleNamespace(child=SimpleNamespace(make_space=lambda: space), retrain=SimpleNamespace(epochs=1), training=training)


def test_training_that_fails_leaves_its_architecture_without_a_truth(chain_space, tmp_path):
    tokens = np.array([[0, 0], [1, 2], [2, 1]])
    with pytest.warns(RuntimeWarning, match=r"architecture-1 is left out: no finite loss: \(1, 2\)"):
        truths = train_truths(recipe(chain_space(3, 4), [0.5, None, 0.25]), tokens, tmp_path, Console(quiet=True))
    np.testing.assert_array_equal(truths, [0.5, np.nan, 0.25])


def test_infinite_perplexity_leaves_its_architecture_without_a_truth(chain_space, tmp_path):
    made = recipe(chain_space(3, 4), [90.5, math.inf], "perplexity")
    with pytest.warns(RuntimeWarning, match="architecture-1 is left out: its perplexity is not finite"):
        truths = train_truths(made, np.array([[0, 0], [1, 2]]), tmp_path, Console(quiet=True))
    np.testing.assert_array_equal(truths, [90.5, np.nan])


@pytest.mark.filterwarnings("ignore:architecture-. is left out")
def test_trainings_that_all_fail_are_a_failure_of_the_work(chain_space, tmp_path):
    with pytest.raises(TrainingFailed, match="none of 2 architectures could be trained from scratch"):
        train_truths(recipe(chain_space(3, 4), [None, None]), np.array([[0, 0], [1, 2]]), tmp_path, Console(quiet=True))
