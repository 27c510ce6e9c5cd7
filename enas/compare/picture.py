"""A comparison as pictures: outcomes of all runs, anytime curves, what a good result costs. matplotlib loads with the first."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from enas.atomic_file import write_atomically
from enas.compare.curves import Band
from enas.compare.outcome_statistics import Summary
from enas.draw.palette import INK, line_colour
from enas.metrics import ACCURACY, Metric
from enas.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "#999999"
_MANY = 60
"""Runs from which on a strategy's points are drawn small and faint."""
_STYLE = {"svg.hashsalt": "enas", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9.0}
_DPI = 150


def picture_bytes(draw: Callable[[], Figure], suffix: str) -> bytes:
    """Return a figure as the bytes of a .svg or .png file; the same figure gives the same SVG."""
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        draw().savefig(file, format=suffix, metadata={"Date": None} if suffix == "svg" else None)
    return file.getvalue()


def save_picture(draw: Callable[[], Figure], stem: Path) -> bytes:
    """Write a figure beside a report as .svg and .png; return the PNG's bytes."""
    for suffix in ("svg", "png"):
        content = picture_bytes(draw, suffix)
        write_atomically(stem.with_name(f"{stem.name}.{suffix}"), content)
    return content


def draw_outcomes(
    values: Mapping[str, FloatArray],
    summaries: Mapping[str, Summary],
    *,
    axis: str,
    best: float | None,
    order: Sequence[str],
    metric: Metric = ACCURACY,
) -> Figure:
    """Draw every run's outcome as a point, a row a strategy, with the IQM and its interval.

    Args: values: (n,) by strategy. summaries: of these. axis: name of the measure. best: a line where it is known.
        order: of the strategies, which their colours follow. metric: of the values.
    """
    scale = metric.scale
    figure, (axes,) = _panels(1, width=7.2, height=0.9 + 0.62 * len(values))
    has_bar = False
    rng = np.random.default_rng(0)  # of the jitter, so that the same outcomes are the same picture
    for row, (name, runs) in enumerate(values.items()):
        many = len(runs) > _MANY
        shift = (rng.random(len(runs)) - 0.5) * 0.5 if len(runs) > 3 else np.zeros(len(runs))
        size, alpha = (5, 0.35) if many else (18, 0.6)
        axes.scatter(
            scale * runs, row + shift, s=size, color=line_colour(order.index(name)), alpha=alpha, linewidths=0, rasterized=many
        )
        summary = summaries[name]
        if summary.interval is not None:
            has_bar = True
            low, high = (scale * bound for bound in summary.interval)
            axes.plot([low, high], [row, row], color=INK, linewidth=2.2, solid_capstyle="butt")
        axes.plot([scale * summary.iqm], [row], marker="|", markersize=17, markeredgewidth=2.2, color=INK)
    if best is not None:
        axes.axvline(scale * best, color=_GREY, linestyle=":", linewidth=1)
        axes.annotate("best there is", (scale * best, -0.62), color=_GREY, ha="right", va="center", fontsize=8)
    axes.set_yticks(range(len(values)), [f"{name} (n={len(runs)})" for name, runs in values.items()])
    axes.set_ylim(len(values) - 0.4, -0.8)
    axes.set_xlabel(f"{axis}{metric.heading_unit}; mark: IQM{', bar: its 95 % interval' if has_bar else ''}")
    return figure


def draw_curves(panels: Sequence[tuple[Mapping[str, Band], str, str]], *, order: Sequence[str], scale: float = 100.0) -> Figure:
    """Draw bands side by side, with the same axis of what is shown.

    Args: panels: bands by strategy, the name of what is spent, the name of what is shown; a regret's axis is logarithmic.
        order: of the strategies, which their colours follow. scale: of bands to the figures that are shown.
    """
    figure, all_axes = _panels(len(panels), width=1.2 + 4.3 * len(panels), height=3.9)
    everything = [one for bands, _, _ in panels for one in bands.values()]
    is_logarithmic = "regret" in panels[0][2] and all((one.iqm > 0).all() for one in everything)
    for axes, (bands, spent, shown) in zip(all_axes, panels, strict=True):
        _draw_bands(axes, bands, order, scale)
        if is_logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        else:
            _leave_out_start(axes, everything, scale)
        axes.set_xlabel(spent)
        axes.set_ylabel(shown)
    if is_logarithmic:
        limits = [limit for axes in all_axes for limit in axes.get_ylim()]
        for axes in all_axes:
            axes.set_ylim(min(limits), max(limits))
    _add_legend(all_axes[0], everything)
    return figure


def _draw_bands(axes: Axes, bands: Mapping[str, Band], order: Sequence[str], scale: float) -> None:
    """Draw the curves of strategies: steps, for a curve holds its value until something better is measured."""
    for name, one in bands.items():
        colour = line_colour(order.index(name))
        axes.plot(one.x, scale * one.iqm, color=colour, linewidth=1.8, label=name, drawstyle="steps-post")
        if one.low is not None and one.high is not None:
            alpha = 0.2 if one.has_interval else 0.08
            axes.fill_between(one.x, scale * one.low, scale * one.high, color=colour, alpha=alpha, linewidth=0, step="post")


def _add_legend(axes: Axes, bands: Sequence[Band], *, loc: Literal["best", "lower right", "upper right"] = "best") -> None:
    """Name the strategies, and say what light bands are."""
    is_range = any(one.low is not None and not one.has_interval for one in bands)
    title = "light bands: lowest to highest run" if is_range else None
    axes.legend(frameon=False, fontsize=8, title=title, title_fontsize=8, alignment="left", loc=loc)


def _leave_out_start(axes: Axes, bands: Sequence[Band], scale: float) -> None:
    """Show the part of the curves from a tenth of the way on as large as it goes: the first architectures are far worse."""
    late = scale * np.concatenate([one.iqm[int(0.1 * len(one.iqm)) :] for one in bands])
    late = late[np.isfinite(late)]
    room = 0.08 * np.ptp(late) if late.size else 0.0
    if room > 0:
        axes.set_ylim(late.min() - room, late.max() + room)


def draw_fronts(fronts: Mapping[str, Band], *, cost: str, shown: str, order: Sequence[str], metric: Metric = ACCURACY) -> Figure:
    """Draw what a good result costs, a line of steps a strategy: the best value found at each cost or below.

    Args: fronts: by strategy. cost, shown: names of the axes. order: of the strategies, which their colours follow.
        metric: of the values.
    """
    figure, (axes,) = _panels(1, width=7.2, height=4.2)
    _draw_bands(axes, fronts, order, metric.scale)
    axes.set_xscale("log")
    axes.set_xlabel(cost)
    axes.set_ylabel(shown)
    _add_legend(axes, list(fronts.values()), loc="lower right" if metric.higher_is_better else "upper right")
    return figure


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(1, count, index + 1) for index in range(count)]
    for axes in panels:
        axes.tick_params(labelsize=8, color=_GREY)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, panels
