"""A page measured in inches, and texts whose width is known before they are written.

Figures are matplotlib objects without pyplot: no window, no global figure list, and matplotlib loads with the first drawing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enas.draw.palette import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT_SIZE, TITLE_SIZE = 10.0, 12.0  # points
LINE_HEIGHT = 0.18  # of a text in FONT_SIZE
MARGIN = 0.2
_DOTS_PER_INCH = 100
_FONT = "DejaVu Sans"  # comes with matplotlib


def new_page(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure, and axes over all of it with one unit an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0.0, width)
    axes.set_ylim(0.0, height)
    return figure, axes


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float = FONT_SIZE,
    colour: str = INK,
    align: str = "center",
) -> None:
    """Write lines whose block is centred vertically on y; the baselines do not depend on which letters the lines hold."""
    lines = text.split("\n")
    height = LINE_HEIGHT * size / FONT_SIZE
    first = y + height * (len(lines) - 1) / 2 - 0.36 * size / 72
    for index, line in enumerate(lines):
        # parse_math off: a dollar sign in a label is a dollar sign.
        axes.text(x, first - index * height, line, fontsize=size, family=_FONT, color=colour, ha=align, parse_math=False)


def text_width(text: str, *, size: float = FONT_SIZE) -> float:
    """Return the width of the longest line in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=_FONT, size=size)
    widths = [text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in text.split("\n")]
    return float(max(widths)) / 72


def text_height(text: str, *, size: float = FONT_SIZE) -> float:
    """Return the height of all lines in inches; nothing for an empty text."""
    return (text.count("\n") + 1) * LINE_HEIGHT * size / FONT_SIZE if text else 0.0
