"""The picture of a `CellGraph`: each cell with its name as heading, cells beside or above each other, whichever fits a page best.

Lines run from left to right: inputs, blocks in columns by depth, the output. A block holds a chip for each of its operations, in
the operation's colour, with the name of what it reads; a plus adds them up. A line has the colour of the box where it starts.
Not covered: what the network does between chips and output, such as the 1x1 convolutions of ENAS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enas.draw.canvas import FONT_SIZE, MARGIN, TITLE_SIZE, new_page, text_height, text_width, write
from enas.draw.palette import GROUP_COLOURS, INK, WHITE, group_colours, ink_on, line_colour
from enas.draw.plan import HEADING_SIZE, LABEL_HEIGHT, PAD, SMALL_SIZE, Box, Plan, Point, plan_cell, sizes_of
from enas.spaces.graph import Block, CellGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

_PAGE_WIDTH, _PAGE_HEIGHT = 16.0, 11.0  # inches: cells are put beside or above each other to stay within
_CELL_GAP = 0.45
_BELOW_TITLE = 0.2
_BLOCK_FILL = "#F7F7F7"
_PLUS_RADIUS, _PLUS_ARM, _PLUS_FROM_RIGHT = 0.085, 0.045, 0.2
_LINE_WIDTH = 1.4  # points
_CORNER = 0.07  # radius of a line's turns


def draw_cells(graph: CellGraph, *, title: str) -> Figure:
    """Draw cells; the figure grows with their blocks. The graph is one that `check_drawing` accepts."""
    sizes = sizes_of(graph)
    rows = _rows([plan_cell(cell, sizes) for cell in graph.cells])
    width, height = _extent(rows)
    head = text_height(title, size=TITLE_SIZE) + (_BELOW_TITLE if title else 0.0)
    page_height = height + head + 2 * MARGIN
    figure, axes = new_page(max(width, text_width(title, size=TITLE_SIZE)) + 2 * MARGIN, page_height)
    if title:
        write(axes, MARGIN, page_height - MARGIN - (head - _BELOW_TITLE) / 2, title, size=TITLE_SIZE, align="left")
    colours = group_colours(graph)
    top, number = page_height - MARGIN - head, 0
    for row in rows:
        left = MARGIN
        for plan in row:
            _draw_cell(_Sheet(axes=axes, left=left, top=top, prefix=f"cell{number}"), plan, colours)
            left, number = left + plan.width + _CELL_GAP, number + 1
        top -= max(plan.height for plan in row) + _CELL_GAP
    return figure


def _rows(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Return the cells in rows, in order, with as many in a row as fit the page best."""
    choices = [
        [list(plans[start : start + length]) for start in range(0, len(plans), length)] for length in range(1, len(plans) + 1)
    ]

    def fill(rows: Sequence[Sequence[Plan]]) -> float:
        width, height = _extent(rows)
        return max(width / _PAGE_WIDTH, height / _PAGE_HEIGHT)

    return min(choices, key=fill)


def _extent(rows: Sequence[Sequence[Plan]]) -> tuple[float, float]:
    width = max(sum(plan.width + _CELL_GAP for plan in row) - _CELL_GAP for row in rows)
    return width, sum(max(plan.height for plan in row) + _CELL_GAP for row in rows) - _CELL_GAP


@dataclass(frozen=True, kw_only=True)
class _Sheet:
    """The part of a page where one cell is drawn, from its upper left corner, downwards."""

    axes: Axes
    left: float
    top: float
    prefix: str

    def at(self, point: Point) -> Point:
        return self.left + point[0], self.top - point[1]

    def write(self, x: float, y: float, text: str, *, size: float = FONT_SIZE, colour: str = INK, align: str = "center") -> None:
        write(self.axes, *self.at((x, y)), text, size=size, colour=colour, align=align)

    def stroke(self, points: Iterable[Point], *, colour: str = INK, level: int = 2) -> None:
        from matplotlib.lines import Line2D

        x, y = zip(*(self.at(point) for point in points), strict=True)
        width = 1.0 if colour == INK else _LINE_WIDTH
        self.axes.add_artist(Line2D(x, y, color=colour, linewidth=width, solid_capstyle="butt", zorder=level))

    def box(self, name: str, box: Box, *, fill: str, edge: str = INK, dashed: bool = False, corner: float = 0.07) -> None:
        from matplotlib.patches import FancyBboxPatch

        patch = FancyBboxPatch(
            self.at((box.left, box.top + box.height)),
            box.width,
            box.height,
            boxstyle=f"round,pad=0,rounding_size={corner}",
            facecolor=fill,
            edgecolor=edge,
            linewidth=0.8 if edge == INK else 1.6,
            linestyle="--" if dashed else "-",
        )
        patch.set_gid(f"{self.prefix}_{name}")
        self.axes.add_patch(patch)


def _draw_cell(sheet: _Sheet, plan: Plan, colours: Mapping[str, str]) -> None:
    cell = plan.cell
    sheet.write(0.0, 0.09, cell.name, size=HEADING_SIZE, align="left")
    inputs, blocks, output = plan.boxes[: len(cell.inputs)], plan.boxes[len(cell.inputs) : -1], plan.boxes[-1]
    for item, (box, label) in enumerate(zip(inputs, cell.inputs, strict=True)):
        sheet.box(f"item{item}", box, fill=WHITE, edge=line_colour(item), corner=0.12)
        sheet.write(box.left + box.width / 2, box.out, label)
    for item, box in enumerate(blocks, start=len(inputs)):
        sheet.box(f"item{item}", box, fill=_BLOCK_FILL, edge=line_colour(item))
    _draw_output(sheet, output, [cell.items[item] for item in cell.outputs])
    _draw_lines(sheet, plan)
    for item, (box, block) in enumerate(zip(blocks, cell.blocks, strict=True), start=len(inputs)):
        _draw_block(sheet, item, box, block, cell.items, colours)


def _draw_output(sheet: _Sheet, box: Box, names: Sequence[str]) -> None:
    fill = GROUP_COLOURS["output"]
    sheet.box("output", box, fill=fill)
    sheet.write(box.left + box.width / 2, box.top + LABEL_HEIGHT / 2, "output", colour=ink_on(fill))
    for name, height in zip(names, box.entries, strict=True):
        sheet.write(box.left + PAD, height, name, size=SMALL_SIZE, colour=ink_on(fill), align="left")


def _draw_block(sheet: _Sheet, item: int, box: Box, block: Block, items: Sequence[str], colours: Mapping[str, str]) -> None:
    sheet.write(box.left + PAD, box.top + LABEL_HEIGHT / 2, block.label, align="left")
    right, is_sum = box.left + box.width, len(block.chips) > 1
    end = right - _PLUS_FROM_RIGHT if is_sum else right
    for position, (chip, place) in enumerate(zip(block.chips, box.chips, strict=True)):
        fill, middle = colours[chip.operation], place.left + place.width / 2
        sheet.stroke([(place.left + place.width, place.out), (end, box.out)], colour=INK if is_sum else line_colour(item))
        sheet.box(f"item{item}_chip{position}", place, fill=fill, dashed=chip.operation == "none")
        sheet.write(middle, place.out - 0.08, chip.operation, colour=ink_on(fill))
        sheet.write(middle, place.out + 0.09, items[chip.source], size=SMALL_SIZE, colour=ink_on(fill))
    if is_sum:
        sheet.stroke([(end, box.out), (right, box.out)], colour=line_colour(item))
        _draw_plus(sheet, (end, box.out))


def _draw_plus(sheet: _Sheet, middle: Point) -> None:
    from matplotlib.patches import Circle

    (x, y), arm = middle, _PLUS_ARM
    sheet.axes.add_patch(Circle(sheet.at(middle), _PLUS_RADIUS, facecolor=WHITE, edgecolor=INK, linewidth=0.9, zorder=3))
    sheet.stroke([(x - arm, y), (x + arm, y)], level=4)
    sheet.stroke([(x, y - arm), (x, y + arm)], level=4)


def _draw_lines(sheet: _Sheet, plan: Plan) -> None:
    from matplotlib.patches import FancyArrowPatch

    for line in plan.lines:
        path = _rounded([sheet.at(point) for point in line.points])
        colour = line_colour(line.source)
        arrow = FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=8.0, linewidth=_LINE_WIDTH, color=colour)
        arrow.set_gid(f"{sheet.prefix}_line_{line.source}_{line.target}_{line.entry}")
        sheet.axes.add_patch(arrow)


def _rounded(points: Sequence[Point]) -> Path:
    """Return a path of level and vertical pieces whose turns are rounded, less where a piece is short."""
    from matplotlib.path import Path

    vertices, codes = [points[0]], [Path.MOVETO]
    for before, turn, behind in zip(points, points[1:], points[2:], strict=False):
        radius = min(_CORNER, _length(before, turn) / 2, _length(turn, behind) / 2)
        vertices += [_towards(turn, before, radius), turn, _towards(turn, behind, radius)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])


def _length(start: Point, end: Point) -> float:
    return abs(end[0] - start[0]) + abs(end[1] - start[1])  # one of the two is 0


def _towards(start: Point, end: Point, way: float) -> Point:
    share = way / _length(start, end)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
