"""Pictures and texts of one architecture, from the drawing that its space gives: SVG, PNG, array, DOT, Mermaid, plain text.

A `Graph` is drawn as a chain (`chain`), a `CellGraph` cell by cell (`cell`). matplotlib loads with the first drawing.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from enas.atomic_file import write_atomically
from enas.draw.cell import draw_cells
from enas.draw.chain import draw_chain
from enas.draw.checks import check_drawing
from enas.draw.palette import GROUP_COLOURS, group_colours
from enas.draw.text import to_ansi, to_dot, to_mermaid
from enas.spaces.graph import Drawing, Graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "GROUP_COLOURS",
    "draw_figure",
    "drawing_array",
    "group_colours",
    "save_drawing",
    "to_ansi",
    "to_dot",
    "to_mermaid",
]


def draw_figure(graph: Drawing, *, title: str = "") -> Figure:
    """Draw an architecture; the figure grows with the number of nodes.

    Args: graph: what `SearchSpace.graph` returns. title: printed on top, may have several lines.
    Raises: ValueError for what cannot be drawn: no nodes, or something that reads itself, a later node or nothing that is there.
    """
    check_drawing(graph)
    return draw_chain(graph, title=title) if isinstance(graph, Graph) else draw_cells(graph, title=title)


def save_drawing(graph: Drawing, path: Path, *, title: str = "") -> None:
    """Write a drawing as SVG or PNG, by the path's suffix. The same graph and title give the same SVG, byte for byte.

    Raises: ValueError for another suffix, and as `draw_figure`.
    """
    if path.suffix not in {".svg", ".png"}:
        raise ValueError(f"{path}: expected the suffix .svg or .png, got {path.suffix!r}")
    import matplotlib

    picture = io.BytesIO()
    metadata = {"Date": None} if path.suffix == ".svg" else None
    # A fixed salt makes element ids reproducible; text stays text, so that it can be searched and selected.
    with matplotlib.rc_context({"svg.hashsalt": "enas", "svg.fonttype": "none"}):
        draw_figure(graph, title=title).savefig(picture, format=path.suffix[1:], metadata=metadata)
    write_atomically(path, picture.getvalue())


def drawing_array(graph: Drawing, *, title: str = "") -> npt.NDArray[np.uint8]:
    """Return a drawing as pixels: uint8 (H, W, 3), red, green, blue, 100 dots an inch. Raises ValueError as `draw_figure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(draw_figure(graph, title=title))
    canvas.draw()  # type: ignore[no-untyped-call]  # two gaps in matplotlib's own types
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.array(pixels, dtype=np.uint8)[:, :, :3]  # (H, W, 4) -> (H, W, 3)
