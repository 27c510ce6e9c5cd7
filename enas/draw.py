"""Pictures and texts of one architecture, from the `Graph` that its space gives: SVG, PNG, array, DOT, Mermaid, plain text.

The picture is a chain of boxes from left to right, coloured by group. Every edge that skips a node is an arc: all arcs of one
source have one colour and lie on one side of the chain, and a longer arc passes over the shorter ones beneath it.

Figures are matplotlib objects without pyplot: no window, no global figure list, and matplotlib loads with the first drawing.
Not covered: edges that lead backwards, and the inside of a cell's node.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from enas.atomic_file import write_atomically
from enas.spaces.graph import Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): told apart with every common colour blindness.
_BLUE, _SKY, _GREEN, _YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
_ORANGE, _VERMILION, _PURPLE = "#E69F00", "#D55E00", "#CC79A7"
_LIGHT_GREY, _DARK_GREY, _INK = "#DDDDDD", "#555555", "#222222"

GROUP_COLOURS: Mapping[str, str] = {
    "avg3x3": _GREEN,
    "conv3x3": _BLUE,
    "conv5x5": _VERMILION,
    "input": _LIGHT_GREY,
    "max3x3": _YELLOW,
    "output": _DARK_GREY,
    "reduction": _PURPLE,
    "sep3x3": _SKY,
    "sep5x5": _ORANGE,
    "stem": _LIGHT_GREY,
}
"""Groups whose colour is the same in every picture; a graph's other groups share out what is left, in sorted order."""

_FREE_COLOURS = (
    _BLUE,
    _ORANGE,
    _GREEN,
    _YELLOW,
    _SKY,
    _VERMILION,
    _PURPLE,
    "#999999",
    "#8C6D31",
    "#882255",
    "#44AA99",
    "#DDCC77",
)
_ARC_COLOURS = (_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, "#882255", _SKY, "#8C6D31")

# Lengths are inches: the axes of a drawing are laid over the whole figure with one unit an inch.
_FONT_SIZE, _TITLE_SIZE = 10.0, 12.0  # points
_LINE_HEIGHT = 0.18
_MARGIN = 0.2
_GAP = 0.32
_LANE, _TALLEST_SIDE = 0.26, 3.4
_SWATCH = 0.16
_DOTS_PER_INCH = 100
_ROUND = 0.5523  # where a cubic curve's control points lie to draw a quarter of an ellipse
_FONT = "DejaVu Sans"  # comes with matplotlib


@dataclass(frozen=True, kw_only=True)
class _Arc:
    """A skip edge: `side` is 1 above the chain and -1 below; `lane` 1 is next to the chain; `ends` are positions in (0, 1)
    along the edges of the source's and the target's box.
    """

    source: int
    target: int
    colour: str
    side: int
    lane: int
    ends: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class _Page:
    """Where things stand, in inches from the lower left corner."""

    width: float
    height: float
    box_width: float
    box_height: float
    chain_left: float
    chain_y: float
    lane: float
    title_y: float
    legend: tuple[tuple[float, float, str], ...]

    def left(self, node: int) -> float:
        return self.chain_left + node * (self.box_width + _GAP)


def draw_figure(graph: Graph, *, title: str = "") -> Figure:
    """Draw an architecture; the figure grows with the number of nodes.

    Args: graph: at least one node; edges lead forward. title: printed on top, may have several lines.
    Raises: ValueError for a graph without nodes, or an edge that does not lead from a node to a later one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _check(graph)
    arcs = _arcs(graph)
    page = _lay_out(graph, arcs, title=title)
    figure = Figure(figsize=(page.width, page.height), dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0.0, page.width)
    axes.set_ylim(0.0, page.height)
    colours = group_colours(graph)
    _draw_arcs(axes, arcs, page)
    _draw_chain(axes, graph, colours, page)
    _draw_legend(axes, colours, page)
    if title:
        _write(axes, _MARGIN, page.title_y, title, size=_TITLE_SIZE, align="left")
    return figure


def save_drawing(graph: Graph, path: Path, *, title: str = "") -> None:
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


def drawing_array(graph: Graph, *, title: str = "") -> npt.NDArray[np.uint8]:
    """Return a drawing as pixels: uint8 (H, W, 3), red, green, blue, 100 dots an inch. Raises ValueError as `draw_figure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(draw_figure(graph, title=title))
    canvas.draw()  # type: ignore[no-untyped-call]  # two gaps in matplotlib's own types
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.array(pixels, dtype=np.uint8)[:, :, :3]  # (H, W, 4) -> (H, W, 3)


def group_colours(graph: Graph) -> dict[str, str]:
    """Return the colour, `#RRGGBB`, of each group of the graph, in order of first appearance."""
    groups = tuple(dict.fromkeys(node.group for node in graph.nodes))
    fixed = {group: GROUP_COLOURS[group] for group in groups if group in GROUP_COLOURS}
    free = [colour for colour in _FREE_COLOURS if colour not in fixed.values()] or list(_FREE_COLOURS)
    others = sorted(group for group in groups if group not in fixed)
    given = {group: free[rank % len(free)] for rank, group in enumerate(others)}
    return {group: fixed.get(group) or given[group] for group in groups}


def to_dot(graph: Graph) -> str:
    """Return the architecture in Graphviz' DOT language. Raises ValueError as `draw_figure`."""
    _check(graph)
    colours = group_colours(graph)
    lines = ["digraph architecture {", "  rankdir=LR;", '  node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    for index, node in enumerate(graph.nodes):
        label = node.label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        fill = colours[node.group]
        lines.append(f'  n{index} [label="{label}", fillcolor="{fill}", fontcolor="{_ink_on(fill)}"];')
    for source, target in graph.edges:
        style = "[weight=100]" if target == source + 1 else "[constraint=false, style=dashed]"
        lines.append(f"  n{source} -> n{target} {style};")
    return "\n".join([*lines, "}"]) + "\n"


def to_mermaid(graph: Graph) -> str:
    """Return the architecture as a Mermaid flow chart, which Markdown viewers draw. Raises ValueError as `draw_figure`."""
    _check(graph)
    colours = group_colours(graph)
    class_of = {group: f"group{rank}" for rank, group in enumerate(colours)}
    lines = ["flowchart LR"]
    for index, node in enumerate(graph.nodes):
        label = node.label.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
        lines.append(f'  n{index}["{label.replace(chr(10), "<br/>")}"]:::{class_of[node.group]}')
    lines += [f"  n{source} {'-->' if target == source + 1 else '-.->'} n{target}" for source, target in graph.edges]
    lines += [f"  classDef {class_of[group]} fill:{fill},color:{_ink_on(fill)}" for group, fill in colours.items()]
    return "\n".join(lines) + "\n"


def to_ansi(graph: Graph) -> str:
    """Return the architecture as text for a terminal, a line a node: index, label, `<-` the nodes it reads.

    Raises: ValueError as `draw_figure`.
    """
    _check(graph)
    labels = [" / ".join(node.label.split("\n")) for node in graph.nodes]
    index_width, label_width = len(str(len(labels) - 1)), max(map(len, labels))
    lines = []
    for index, label in enumerate(labels):
        sources = ", ".join(str(source) for source, target in sorted(graph.edges) if target == index)
        line = f"{index:>{index_width}}  {label:<{label_width}}"
        lines.append(f"{line}  <- {sources}" if sources else line.rstrip())
    return "\n".join(lines) + "\n"


def _check(graph: Graph) -> None:
    if not graph.nodes:
        raise ValueError("graph: expected at least one node, got none")
    for source, target in graph.edges:
        if not 0 <= source < target < len(graph.nodes):
            raise ValueError(f"graph: expected edges forward between nodes 0..{len(graph.nodes) - 1}, got {(source, target)}")


def _arcs(graph: Graph) -> tuple[_Arc, ...]:
    """Return the skip edges, shortest first, with the sources taking turns above and below the chain."""
    edges = sorted((edge for edge in graph.edges if edge[1] > edge[0] + 1), key=lambda edge: (edge[1] - edge[0], edge))
    turn_of = {source: turn for turn, source in enumerate(sorted({source for source, _ in edges}))}
    sides = [1 if turn_of[source] % 2 == 0 else -1 for source, _ in edges]
    arcs: list[_Arc] = []
    for number, ((source, target), side) in enumerate(zip(edges, sides, strict=True)):
        beneath = [arc.lane for arc in arcs if arc.side == side and arc.source < target and source < arc.target]
        same_side = [(other, edge) for other, edge in enumerate(edges) if sides[other] == side]
        # Neighbours on one side differ in colour, and so do the two sides.
        colour = turn_of[source] // 2 + (0 if side == 1 else len(_ARC_COLOURS) // 2)
        arcs.append(
            _Arc(
                source=source,
                target=target,
                colour=_ARC_COLOURS[colour % len(_ARC_COLOURS)],
                side=side,
                lane=1 + max(beneath, default=0),
                ends=(_port(source, number, same_side), _port(target, number, same_side)),
            )
        )
    return tuple(arcs)


def _port(node: int, number: int, edges: Sequence[tuple[int, tuple[int, int]]]) -> float:
    """Return where edge `number` meets the box of `node`, in (0, 1): arrivals, then departures, so that no two of them cross.

    Args: edges: (number, edge) of the arcs on one side of the chain, shortest first.
    """
    arrivals = [index for index, (_, target) in edges if target == node]
    departures = [index for index, (source, _) in edges if source == node]
    ports = [*arrivals, *reversed(departures)]
    return (ports.index(number) + 1) / (len(ports) + 1)


def _lay_out(graph: Graph, arcs: tuple[_Arc, ...], *, title: str) -> _Page:
    lines = [line for node in graph.nodes for line in node.label.split("\n")]
    box_width = max(0.6, max(_text_width(line) for line in lines) + 0.2)
    box_height = 0.2 + _LINE_HEIGHT * max(node.label.count("\n") + 1 for node in graph.nodes)
    chain_width = len(graph.nodes) * (box_width + _GAP) - _GAP
    groups = tuple(dict.fromkeys(node.group for node in graph.nodes))
    title_width = max(_text_width(line, size=_TITLE_SIZE) for line in title.split("\n"))
    inner = max(chain_width, title_width, min(4.0, _legend_row_width(groups)), *(_legend_row_width((g,)) for g in groups))
    legend = _legend_places(groups, width=inner)
    legend_height = legend[0][1] - legend[-1][1] + _LINE_HEIGHT
    lanes = {side: max((arc.lane for arc in arcs if arc.side == side), default=0) for side in (1, -1)}
    lane = min(_LANE, _TALLEST_SIDE / max(1, *lanes.values()))
    above, below = (0.25 + lane * lanes[side] if lanes[side] else 0.05 for side in (1, -1))
    chain_y = _MARGIN + legend_height + 0.2 + below + box_height / 2
    title_height = (title.count("\n") + 1) * _LINE_HEIGHT * _TITLE_SIZE / _FONT_SIZE if title else 0.0
    title_y = chain_y + box_height / 2 + above + 0.15 + title_height / 2
    return _Page(
        width=inner + 2 * _MARGIN,
        height=title_y + title_height / 2 + _MARGIN,
        box_width=box_width,
        box_height=box_height,
        chain_left=_MARGIN + (inner - chain_width) / 2,
        chain_y=chain_y,
        lane=lane,
        title_y=title_y,
        legend=tuple((x, _MARGIN + legend_height - _LINE_HEIGHT / 2 + y, group) for x, y, group in legend),
    )


def _legend_row_width(groups: Iterable[str]) -> float:
    return sum(_SWATCH + 0.1 + _text_width(group) + 0.25 for group in groups) - 0.25


def _legend_places(groups: Iterable[str], *, width: float) -> list[tuple[float, float, str]]:
    """Return (x of the swatch, y relative to the first row, group), in rows of at most `width` inches."""
    places: list[tuple[float, float, str]] = []
    x, y = 0.0, 0.0
    for group in groups:
        item = _legend_row_width((group,))
        if x > 0.0 and x + item > width + 1e-6:
            x, y = 0.0, y - 1.4 * _LINE_HEIGHT
        places.append((_MARGIN + x, y, group))
        x += item + 0.25
    return places


def _draw_arcs(axes: Axes, arcs: tuple[_Arc, ...], page: _Page) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    for arc in reversed(arcs):
        start, end = (
            page.left(node) + page.box_width * port for node, port in zip((arc.source, arc.target), arc.ends, strict=True)
        )
        foot = page.chain_y + arc.side * page.box_height / 2
        rise = 0.18 + page.lane * arc.lane
        top = foot + arc.side * rise
        # Quarters of ellipses joined by a line: unlike one curve from end to end, arcs that share a source never touch.
        reach = min((end - start) / 2, 1.4 * rise)
        bend, climb = reach * _ROUND, foot + arc.side * rise * _ROUND
        left = [(start, foot), (start, climb), (start + reach - bend, top), (start + reach, top)]
        right = [(end - reach, top), (end - reach + bend, top), (end, climb), (end, foot)]
        curve = Curve([*left, *right], [Curve.MOVETO, *[Curve.CURVE4] * 3, Curve.LINETO, *[Curve.CURVE4] * 3])
        arrow = FancyArrowPatch(path=curve, arrowstyle="-|>", mutation_scale=8.0, linewidth=1.4, color=arc.colour)
        arrow.set_gid(f"arc_{arc.source}_{arc.target}")
        axes.add_patch(arrow)


def _draw_chain(axes: Axes, graph: Graph, colours: Mapping[str, str], page: _Page) -> None:
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    for source, target in sorted(graph.edges):
        if target == source + 1:
            ends = ((page.left(source) + page.box_width, page.chain_y), (page.left(target), page.chain_y))
            arrow = FancyArrowPatch(
                *ends, arrowstyle="-|>", mutation_scale=10.0, linewidth=1.6, color=_INK, shrinkA=0.0, shrinkB=0.0
            )
            axes.add_patch(arrow)
    for index, node in enumerate(graph.nodes):
        fill, corner = colours[node.group], (page.left(index), page.chain_y - page.box_height / 2)
        style = "round,pad=0,rounding_size=0.08"
        box = FancyBboxPatch(
            corner, page.box_width, page.box_height, boxstyle=style, facecolor=fill, edgecolor=_INK, linewidth=0.8
        )
        axes.add_patch(box)
        _write(axes, corner[0] + page.box_width / 2, page.chain_y, node.label, colour=_ink_on(fill))


def _draw_legend(axes: Axes, colours: Mapping[str, str], page: _Page) -> None:
    from matplotlib.patches import Rectangle

    for x, y, group in page.legend:
        corner = (x, y - _SWATCH / 2)
        axes.add_patch(Rectangle(corner, _SWATCH, _SWATCH, facecolor=colours[group], edgecolor=_INK, linewidth=0.6))
        _write(axes, x + _SWATCH + 0.1, y, group, align="left")


def _write(
    axes: Axes, x: float, y: float, text: str, *, size: float = _FONT_SIZE, colour: str = _INK, align: str = "center"
) -> None:
    """Write lines whose block is centred vertically on y; the baselines do not depend on which letters the lines hold."""
    lines = text.split("\n")
    height = _LINE_HEIGHT * size / _FONT_SIZE
    first = y + height * (len(lines) - 1) / 2 - 0.36 * size / 72
    for index, line in enumerate(lines):
        # parse_math off: a dollar sign in a label is a dollar sign.
        axes.text(x, first - index * height, line, fontsize=size, family=_FONT, color=colour, ha=align, parse_math=False)


def _text_width(text: str, *, size: float = _FONT_SIZE) -> float:
    """Return the width of one line in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(family=_FONT, size=size), ismath=False)
    return float(width) / 72


def _ink_on(fill: str) -> str:
    """Return black or white, whichever reads better on a colour."""
    red, green, blue = (int(fill[start : start + 2], 16) for start in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else "#FFFFFF"
