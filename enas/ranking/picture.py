"""Score against truth as a picture: a column for each run, its values above, its ranks below.

Values show how far apart architectures are, ranks what the values hide where most of them crowd: of a benchmark's cells nine in
ten lie within a few points. Marked are the best-scored architectures, which a search would pick, and the truly best one.
matplotlib loads with the first picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from enas.atomic_file import write_atomically
from enas.draw.canvas import text_width
from enas.draw.palette import INK
from enas.metrics import ACCURACY, Metric
from enas.ranking.rank_statistics import RankAgreement, comparable, top_probabilities
from enas.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Score = Literal["accuracy", "loss"]
SCORE_NAMES: dict[Score, str] = {"accuracy": "shared-weight accuracy (%)", "loss": "minus shared-weight loss (nats)"}
NUM_MARKED = 10
"""Best-scored architectures that are marked."""
_PANEL = 3.1  # inches, a side
_MARGINS = (0.85, 0.3, 0.95, 0.6)  # inches left, right, above, below
_GAP = (0.45, 0.65)  # inches between columns, between rows
_TITLE_SIZE = 9.5  # points
_POINTS, _MARKS, _BEST, _LINES = "#56B4E9", "#D55E00", "#009E73", "#999999"  # Okabe and Ito, as in drawings


@dataclass(frozen=True, kw_only=True)
class RankPanel:
    """What a column shows.

    Attributes:
        title: of the run.
        scores: (n,), fractions or nats, higher is better; those that are not finite are shown in the ranks only.
        truths: (n,), of the metric.
        agreement: of both.
        metric: how the truth is told.
    """

    title: str
    scores: FloatArray
    truths: FloatArray
    agreement: RankAgreement
    metric: Metric = ACCURACY


def draw_ranks(panels: Sequence[RankPanel], *, score: Score, truth: str) -> Figure:
    """Draw panels side by side.

    Args: score: what the scores are. truth: name of its axis.
    Raises: ValueError without a panel.
    """
    if not panels:
        raise ValueError("expected at least one run to draw, got none")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    left, right, above, below = _MARGINS
    width = left + right + len(panels) * _PANEL + (len(panels) - 1) * _GAP[0]
    height = above + below + 2 * _PANEL + _GAP[1]
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    for column, panel in enumerate(panels):
        x = left + column * (_PANEL + _GAP[0])
        upper, lower = (
            figure.add_axes((x / width, y / height, _PANEL / width, _PANEL / height)) for y in (below + _PANEL + _GAP[1], below)
        )
        _draw_values(upper, panel, score=score, truth=truth if column == 0 else "")
        _draw_ranks(lower, panel, is_first=column == 0)
        upper.set_title(_heading(panel), fontsize=_TITLE_SIZE, color=INK, parse_math=False)
    handles, labels = figure.axes[1].get_legend_handles_labels()
    at = (left / width, 1 - 0.1 / height)
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=at,
        ncols=3,
        frameon=False,
        borderpad=0,
        handletextpad=0,
        columnspacing=0.8,
    )
    return figure


def save_ranks(panels: Sequence[RankPanel], path: Path, *, score: Score, truth: str) -> None:
    """Write the picture as SVG or PNG, by the path's suffix; the same panels give the same SVG. Raises ValueError."""
    if path.suffix not in {".svg", ".png"}:
        raise ValueError(f"{path}: expected the suffix .svg or .png, got {path.suffix!r}")
    import matplotlib

    picture = io.BytesIO()
    metadata = {"Date": None} if path.suffix == ".svg" else None
    style = {"svg.hashsalt": "enas", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9.0}
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        draw_ranks(panels, score=score, truth=truth).savefig(picture, format=path.suffix[1:], metadata=metadata)
    write_atomically(path, picture.getvalue())


def _heading(panel: RankPanel) -> str:
    return f"{_cut(panel.title)}\ntau {panel.agreement.tau_in_words()}, n={panel.agreement.num_architectures}"


def _cut(title: str) -> str:
    """Return the end of a title that is wider than a panel."""
    if text_width(title, size=_TITLE_SIZE) <= _PANEL:
        return title
    return next(cut for start in range(1, len(title) + 1) if text_width(cut := f"...{title[start:]}", size=_TITLE_SIZE) <= _PANEL)


def _draw_values(axes: Axes, panel: RankPanel, *, score: Score, truth: str) -> None:
    scale, truths = 100.0 if score == "accuracy" else 1.0, panel.metric.scale * panel.truths
    _draw_points(axes, scale * panel.scores, truths, panel)
    finite = panel.scores[np.isfinite(panel.scores)]
    if finite.size:
        axes.axvline(scale * float(np.median(finite)), color=_LINES, linewidth=0.8, linestyle=":", zorder=0)
    axes.axhline(float(np.median(truths)), color=_LINES, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlabel(SCORE_NAMES[score])
    axes.set_ylabel(truth)
    if not panel.metric.higher_is_better:
        axes.invert_yaxis()  # so that what is better stands higher, as in the ranks


def _draw_ranks(axes: Axes, panel: RankPanel, *, is_first: bool) -> None:
    by_score, by_truth = (100 * _shares(values) for values in (panel.scores, panel.metric.scores(panel.truths)))
    _draw_points(axes, by_score, by_truth, panel)
    axes.plot([0, 100], [0, 100], color=_LINES, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("rank by score (100: best)")
    axes.set_ylabel("rank by truth (100: best)" if is_first else "")


def _draw_points(axes: Axes, x: FloatArray, y: FloatArray, panel: RankPanel) -> None:
    scores = comparable(panel.scores)
    count = min(NUM_MARKED, len(scores))
    marked = top_probabilities(scores, count) > 0
    best = int(panel.metric.scores(panel.truths).argmax())
    axes.scatter(x[~marked], y[~marked], s=14, color=_POINTS, alpha=0.75, linewidths=0, label="architecture")
    axes.scatter(x[marked], y[marked], s=20, color=_MARKS, linewidths=0, label=f"{count} best-scored")
    label = "truly best"
    axes.scatter(x[[best]], y[[best]], s=90, facecolors="none", edgecolors=_BEST, linewidths=1.6, label=label)
    axes.tick_params(labelsize=8, color=_LINES)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _shares(values: FloatArray) -> FloatArray:
    """Return ranks as fractions, 0 for the lowest and 1 for the highest; values that are not finite are the lowest."""
    ranks = stats.rankdata(comparable(values)).astype(np.float64)
    return (ranks - 1) / max(1, len(values) - 1)
