from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from enas.draw.canvas import text_width
from enas.metrics import METRICS
from enas.ranking.picture import NUM_MARKED, RankPanel, Score, draw_ranks, save_ranks
from enas.ranking.rank_statistics import agreement
from enas.types import FloatArray


def panel(scores: FloatArray | None = None, *, title: str = "uniform", num: int = 40) -> RankPanel:
    truths = np.random.default_rng(0).random(num)
    scores = np.random.default_rng(1).random(num) if scores is None else scores
    return RankPanel(title=title, scores=scores, truths=truths, agreement=agreement(scores, truths))


def draw(*panels: RankPanel, score: Score = "accuracy") -> Any:
    return draw_ranks(panels, score=score, truth="test accuracy (%)")


def points(axes: Any, label: str) -> FloatArray:
    (found,) = [one for one in axes.collections if one.get_label() == label]
    return np.asarray(found.get_offsets())


def test_values_stand_where_they_are_and_the_best_scored_are_marked():
    one = panel()
    values, _ = draw(one).axes
    order = np.argsort(one.scores)
    expected = 100 * np.column_stack([one.scores, one.truths])
    np.testing.assert_allclose(np.sort(points(values, "10 best-scored"), axis=0), np.sort(expected[order[-NUM_MARKED:]], axis=0))
    np.testing.assert_allclose(np.sort(points(values, "architecture"), axis=0), np.sort(expected[order[:-NUM_MARKED]], axis=0))
    np.testing.assert_allclose(points(values, "truly best"), expected[[one.truths.argmax()]])


def test_ranks_run_from_0_to_100():
    one = panel(np.array([0.5, 0.1, 0.5, 0.9, 0.3]), num=5)
    _, ranks = draw(one).axes
    by_score = dict(zip(np.argsort(np.argsort(one.truths)) * 25.0, [62.5, 0.0, 62.5, 100.0, 25.0], strict=True))
    assert {y: x for x, y in points(ranks, "5 best-scored")} == by_score


def test_losses_keep_their_unit():
    values, _ = draw(panel(-np.arange(40.0)), score="loss").axes
    assert points(values, "architecture")[:, 0].min() == -39
    assert values.get_xlabel() == "minus shared-weight loss (nats)"


def test_lower_perplexities_stand_higher():
    scores, perplexities = np.array([0.1, 0.3, 0.2, 0.4]), np.array([95.0, 80.0, 85.0, 90.0])
    metric = METRICS["perplexity"]
    one = RankPanel(title="x", scores=scores, truths=perplexities, agreement=agreement(scores, -perplexities), metric=metric)
    values, ranks = draw(one).axes
    bottom, top = values.get_ylim()
    assert bottom > top
    assert points(values, "truly best").tolist() == [[30.0, 80.0]]
    np.testing.assert_allclose(points(ranks, "truly best"), [[200 / 3, 100.0]])


def test_title_has_tau_with_its_interval():
    one = panel()
    title = draw(one).axes[0].get_title()
    assert title == f"uniform\ntau {one.agreement.tau_in_words()}, n=40"


def test_title_that_is_too_wide_keeps_its_end():
    title = draw(panel(title="a long name of a folder " * 4 + "paths: fair")).axes[0].get_title().split("\n")[0]
    assert title.startswith("...")
    assert title.endswith("paths: fair")
    assert text_width(title, size=9.5) <= 3.1


def test_runs_stand_side_by_side_without_touching():
    figure = draw(panel(title="a"), panel(title="b"), panel(title="c"))
    assert len(figure.axes) == 6
    boxes = [axes.get_position() for axes in figure.axes]
    for first, second in zip(boxes[:-2], boxes[2:], strict=True):
        assert first.x1 < second.x0
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["test accuracy (%)", "", ""]


@pytest.mark.parametrize("scores", [np.full(40, math.nan), np.full(40, 0.5), np.where(np.arange(40) % 3, 0.2, math.inf)])
def test_scores_that_failed_or_are_equal_are_drawn(scores, tmp_path):
    save_ranks([panel(scores)], tmp_path / "x.png", score="accuracy", truth="truth")
    assert matplotlib.image.imread(tmp_path / "x.png").std() > 0.01


def test_same_panels_give_the_same_svg_and_text_stays_text(tmp_path):
    for name in ("a.svg", "b.svg"):
        save_ranks([panel(title="runs/$1$")], tmp_path / name, score="accuracy", truth="truth")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert ">runs/$1$<" in text


def test_other_suffixes_and_no_runs_are_refused():
    with pytest.raises(ValueError, match=r"x.pdf: expected the suffix .svg or .png, got '.pdf'"):
        save_ranks([panel()], Path("x.pdf"), score="accuracy", truth="truth")
    with pytest.raises(ValueError, match="expected at least one run to draw, got none"):
        draw()
