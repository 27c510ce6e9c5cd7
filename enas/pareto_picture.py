"""The Pareto front as a picture: what a search measured, what was measured again, the front, target, limit and answer.

Results that rewards go by come from minibatches and weights in training, those of the front from the whole validation set at the
end: the first say where the search was, the second what came out. matplotlib loads with the first picture.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from enas.atomic_file import write_atomically
from enas.costs import UNITS
from enas.draw.palette import INK
from enas.pareto import Front, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (7.2, 4.6)  # inches
_SEEN, _AGAIN, _FRONT, _ANSWER, _TARGET, _LIMIT = "#BBBBBB", "#56B4E9", "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_WIDE = 10.0  # times the least cost: from here on the axis is logarithmic


def draw_front(front: Front, measured: Measured) -> Figure:
    """Draw a front over what the search measured."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    seen = np.isfinite(measured.costs[front.cost]) & np.isfinite(measured.values)
    label, figures = "in the search, minibatches", front.metric.scale * measured.values[seen]
    axes.scatter(measured.costs[front.cost][seen], figures, s=8, color=_SEEN, alpha=0.6, linewidths=0, label=label)
    _draw_candidates(axes, front)
    _draw_lines(axes, front)
    costs = np.concatenate([measured.costs[front.cost][seen], front.points[0]])
    costs = costs[np.isfinite(costs) & (costs > 0)]
    if costs.size and costs.max() > _WIDE * costs.min():
        axes.set_xscale("log")
    axes.set_xlabel(UNITS[front.cost], color=INK)
    axes.set_ylabel(f"shared-weight validation {front.metric.name}{front.metric.heading_unit}", color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8.5)
    return figure


def _draw_candidates(axes: Axes, front: Front) -> None:
    costs, values = front.points
    figures = front.metric.scale * values
    axes.scatter(costs, figures, s=22, color=_AGAIN, linewidths=0, zorder=3, label="again, whole validation set")
    line_x, line_y = costs[front.members], figures[front.members]
    # Between two members the best that a budget buys is the cheaper one.
    axes.step(line_x, line_y, where="post", color=_FRONT, linewidth=1.4, zorder=2)
    axes.scatter(line_x, line_y, s=26, color=_FRONT, linewidths=0, zorder=4, label="Pareto front")
    answer = [index for index, candidate in enumerate(front.candidates) if candidate.tokens == front.answer]
    x, y = costs[answer], figures[answer]
    axes.scatter(x, y, s=120, facecolors="none", edgecolors=_ANSWER, linewidths=1.8, zorder=5, label="answer")


def _draw_lines(axes: Axes, front: Front) -> None:
    if front.cost == front.objective.cost and front.objective.target is not None:
        axes.axvline(front.objective.target, color=_TARGET, linewidth=1.2, linestyle="--", zorder=1, label="target")
    most = front.objective.limits.get(front.cost)
    if most is not None:
        axes.axvline(most, color=_LIMIT, linewidth=1.2, zorder=1, label="limit")


def save_front_picture(front: Front, measured: Measured, folder: Path) -> npt.NDArray[np.uint8]:
    """Write `pareto.svg` and `pareto.png` into a run folder; the same front gives the same SVG.

    Returns: the pixels, uint8 (H, W, 3).
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    style = {"svg.hashsalt": "enas", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9.0}
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        figure = draw_front(front, measured)
        for suffix in ("svg", "png"):
            picture = io.BytesIO()
            figure.savefig(picture, format=suffix, metadata={"Date": None} if suffix == "svg" else None)
            write_atomically(folder / f"pareto.{suffix}", picture.getvalue())
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.array(pixels, dtype=np.uint8)[:, :, :3]  # (H, W, 4) -> (H, W, 3)
