from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enas.errors import Stopped
from enas.rank_scores import score_all
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


@pytest.mark.parametrize("text", ["nonsense\n", '{"run": "runs/a", "epoch": 3}\n[]\n', '{"run": "runs/a", "epoch": 3}\n{}\n'])
def test_damaged_file_is_named(text, weights, tokens, tmp_path):
    (tmp_path / "s.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"s.jsonl: expected scores of architectures, got .*; choose another --out"):
        score(weights, tokens, tmp_path / "s.jsonl")
