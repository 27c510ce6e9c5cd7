"""The picture of a `Graph`: a chain of boxes from left to right, coloured by group.

Every edge that skips a node is an arc: all arcs of one source have one colour and lie on one side of the chain, and a longer arc
passes over the shorter ones beneath it. Not covered: edges that lead backwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enas.draw.canvas import LINE_HEIGHT, MARGIN, TITLE_SIZE, new_page, text_height, text_width, write
from enas.draw.palette import INK, LINE_COLOURS, group_colours, ink_on
from enas.spaces.graph import Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Lengths are inches.
_GAP = 0.32
_LANE, _TALLEST_SIDE = 0.26, 3.4
_SWATCH = 0.16
_ROUND = 0.5523  # where a cubic curve's control points lie to draw a quarter of an ellipse


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


def draw_chain(graph: Graph, *, title: str) -> Figure:
    """Draw a chain; the figure grows with the number of nodes. The graph is one that `check_drawing` accepts."""
    arcs = _arcs(graph)
    page = _lay_out(graph, arcs, title=title)
    figure, axes = new_page(page.width, page.height)
    colours = group_colours(graph)
    _draw_arcs(axes, arcs, page)
    _draw_boxes(axes, graph, colours, page)
    _draw_legend(axes, colours, page)
    if title:
        write(axes, MARGIN, page.title_y, title, size=TITLE_SIZE, align="left")
    return figure


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
        colour = turn_of[source] // 2 + (0 if side == 1 else len(LINE_COLOURS) // 2)
        arcs.append(
            _Arc(
                source=source,
                target=target,
                colour=LINE_COLOURS[colour % len(LINE_COLOURS)],
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
    box_width = max(0.6, max(text_width(node.label) for node in graph.nodes) + 0.2)
    box_height = 0.2 + LINE_HEIGHT * max(node.label.count("\n") + 1 for node in graph.nodes)
    chain_width = len(graph.nodes) * (box_width + _GAP) - _GAP
    groups = tuple(dict.fromkeys(node.group for node in graph.nodes))
    title_width = text_width(title, size=TITLE_SIZE)
    inner = max(chain_width, title_width, min(4.0, _legend_row_width(groups)), *(_legend_row_width((g,)) for g in groups))
    legend = _legend_places(groups, width=inner)
    legend_height = legend[0][1] - legend[-1][1] + LINE_HEIGHT
    lanes = {side: max((arc.lane for arc in arcs if arc.side == side), default=0) for side in (1, -1)}
    lane = min(_LANE, _TALLEST_SIDE / max(1, *lanes.values()))
    above, below = (0.25 + lane * lanes[side] if lanes[side] else 0.05 for side in (1, -1))
    chain_y = MARGIN + legend_height + 0.2 + below + box_height / 2
    title_height = text_height(title, size=TITLE_SIZE)
    title_y = chain_y + box_height / 2 + above + 0.15 + title_height / 2
    return _Page(
        width=inner + 2 * MARGIN,
        height=title_y + title_height / 2 + MARGIN,
        box_width=box_width,
        box_height=box_height,
        chain_left=MARGIN + (inner - chain_width) / 2,
        chain_y=chain_y,
        lane=lane,
        title_y=title_y,
        legend=tuple((x, MARGIN + legend_height - LINE_HEIGHT / 2 + y, group) for x, y, group in legend),
    )


def _legend_row_width(groups: Iterable[str]) -> float:
    return sum(_SWATCH + 0.1 + text_width(group) + 0.25 for group in groups) - 0.25


def _legend_places(groups: Iterable[str], *, width: float) -> list[tuple[float, float, str]]:
    """Return (x of the swatch, y relative to the first row, group), in rows of at most `width` inches."""
    places: list[tuple[float, float, str]] = []
    x, y = 0.0, 0.0
    for group in groups:
        item = _legend_row_width((group,))
        if x > 0.0 and x + item > width + 1e-6:
            x, y = 0.0, y - 1.4 * LINE_HEIGHT
        places.append((MARGIN + x, y, group))
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


def _draw_boxes(axes: Axes, graph: Graph, colours: Mapping[str, str], page: _Page) -> None:
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    for source, target in sorted(graph.edges):
        if target == source + 1:
            ends = ((page.left(source) + page.box_width, page.chain_y), (page.left(target), page.chain_y))
            arrow = FancyArrowPatch(
                *ends, arrowstyle="-|>", mutation_scale=10.0, linewidth=1.6, color=INK, shrinkA=0.0, shrinkB=0.0
            )
            axes.add_patch(arrow)
    for index, node in enumerate(graph.nodes):
        fill, corner = colours[node.group], (page.left(index), page.chain_y - page.box_height / 2)
        style = "round,pad=0,rounding_size=0.08"
        box = FancyBboxPatch(
            corner, page.box_width, page.box_height, boxstyle=style, facecolor=fill, edgecolor=INK, linewidth=0.8
        )
        axes.add_patch(box)
        write(axes, corner[0] + page.box_width / 2, page.chain_y, node.label, colour=ink_on(fill))


def _draw_legend(axes: Axes, colours: Mapping[str, str], page: _Page) -> None:
    from matplotlib.patches import Rectangle

    for x, y, group in page.legend:
        corner = (x, y - _SWATCH / 2)
        axes.add_patch(Rectangle(corner, _SWATCH, _SWATCH, facecolor=colours[group], edgecolor=INK, linewidth=0.6))
        write(axes, x + _SWATCH + 0.1, y, group, align="left")
