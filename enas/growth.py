"""How the time of a search's epoch grows with its sizes: power laws, and their curves as a picture.

matplotlib loads with the first picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from enas.atomic_file import write_atomically
from enas.compare.picture import picture_bytes
from enas.draw.palette import INK, line_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (3.6, 2.9)  # inches
_COLUMNS = 2
_ROOM = (0.85, 1.45)  # of the lowest and the highest value beyond the curves


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Seconds of an epoch along one size.

    Attributes:
        axis: name of the size.
        sizes: (n,), at least two different ones, above 0.
        seconds: (n,) each, above 0, by what takes them; the first is the whole epoch.
    """

    axis: str
    sizes: Sequence[int]
    seconds: Mapping[str, Sequence[float]]

    def exponent(self, name: str) -> float:
        """Return b of the power law a * size^b that fits best: the slope of a straight line through the logarithms."""
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds[name]), 1)[0])


def draw_growth(curves: Sequence[Curve]) -> Figure:
    """Draw a panel a curve, two in a row, all axes logarithmic, with the exponents in the legends. Args: curves: at least one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, rows = min(len(curves), _COLUMNS), -(-len(curves) // _COLUMNS)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    lowest, highest = (end(value for curve in curves for one in curve.seconds.values() for value in one) for end in (min, max))
    for index, curve in enumerate(curves):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw_curve(axes, curve)
        axes.set_ylim(_ROOM[0] * lowest, (highest / lowest) ** 0.4 * _ROOM[1] * highest)  # above: room for the legend
        if index % columns == 0:
            axes.set_ylabel("seconds an epoch", color=INK)
    return figure


def _draw_curve(axes: Axes, curve: Curve) -> None:
    for index, (name, seconds) in enumerate(curve.seconds.items()):
        label = f"{name}, exponent {curve.exponent(name):z.2f}"
        width = 1.1 if index else 2.0
        axes.plot(curve.sizes, seconds, color=line_colour(index), linewidth=width, marker="o", markersize=3.5, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(curve.sizes), [f"{size:,}" for size in curve.sizes])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.yaxis.set_minor_formatter(lambda _, __: "")
    axes.tick_params(labelsize=8)
    axes.set_xlabel(curve.axis, color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper left", frameon=False, fontsize=8, borderpad=0)


def save_growth(curves: Sequence[Curve], file: Path) -> None:
    """Write the picture as SVG; the same curves give the same file."""
    write_atomically(file, picture_bytes(lambda: draw_growth(curves), "svg"))
