"""Where everything of a cell stands: boxes, and the way of each line. Inches from the cell's upper left corner, downwards."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

from enas.draw.canvas import text_width
from enas.draw.layers import Layers, Stop, arrange
from enas.draw.tracks import tracks
from enas.spaces.graph import Cell, CellGraph

SMALL_SIZE, HEADING_SIZE = 8.0, 11.0  # points
_CHIP_HEIGHT, _CHIP_PITCH = 0.38, 0.46
PAD = 0.1
LABEL_HEIGHT = 0.26  # of the line with a box's label
_PLUS_WIDTH = 0.36  # of the part of a block right of its chips
_INPUT_HEIGHT = 0.3
_ROW_PITCH = 0.2  # of the names in the output box
_HEADING_HEIGHT = 0.32
_BEFORE_TRACKS, _TRACK, _BEHIND_TRACKS = 0.14, 0.12, 0.28

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Widths that are the same in all cells of a picture."""

    chip: float
    input: float
    output: float

    @property
    def block(self) -> float:
        """Width of a block: chips, and room for the plus."""
        return self.chip + 2 * PAD + _PLUS_WIDTH


@dataclass(frozen=True, kw_only=True)
class Box:
    """An input, a block or the output box.

    Attributes:
        out: the height at which its own line leaves.
        entries: the heights at which lines arrive: at a block's chips, at the output box's names.
    """

    left: float
    top: float
    width: float
    height: float
    out: float
    entries: tuple[float, ...] = ()

    @property
    def chips(self) -> tuple[Box, ...]:
        """The chips of a block."""
        left, width = self.left + PAD, self.width - 2 * PAD - _PLUS_WIDTH
        return tuple(
            Box(left=left, top=entry - _CHIP_HEIGHT / 2, width=width, height=_CHIP_HEIGHT, out=entry) for entry in self.entries
        )


@dataclass(frozen=True, kw_only=True)
class Line:
    """The way of a line in level and vertical pieces. Source and target count boxes, `entry` counts the target's entries."""

    source: int
    target: int
    entry: int
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A cell on paper. Boxes: the cell's items, and after them the output box."""

    cell: Cell
    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def sizes_of(graph: CellGraph) -> Sizes:
    """Return widths that all labels of all cells fit in."""
    chips = [(chip.operation, cell.items[chip.source]) for cell in graph.cells for block in cell.blocks for chip in block.chips]
    labels = [block.label for cell in graph.cells for block in cell.blocks]
    outputs = [cell.items[item] for cell in graph.cells for item in cell.outputs]
    return Sizes(
        chip=max(
            *(text_width(operation) + 0.16 for operation, _ in chips),
            *(text_width(source, size=SMALL_SIZE) + 0.16 for _, source in chips),
            *(text_width(label) - _PLUS_WIDTH for label in labels),
        ),
        input=max(text_width(label) for cell in graph.cells for label in cell.inputs) + 0.2,
        output=max(text_width("output"), *(text_width(name, size=SMALL_SIZE) for name in outputs)) + 2 * PAD,
    )


def plan_cell(cell: Cell, sizes: Sizes) -> Plan:
    """Find a place for everything in a cell."""
    stops = _stops(cell)
    grid = _fit(stops, sizes)
    return Plan(
        cell=cell,
        width=max(grid.lefts[-1] + grid.widths[-1], text_width(cell.name, size=HEADING_SIZE)),
        height=grid.shift + max(height + stop.below for stop, height in _standing(grid.layers)),
        boxes=tuple(_box(stop, grid) for stop in stops),
        lines=tuple(_line(stop, entry, grid) for stop in stops for entry in range(len(stop.entries))),
    )


def _stops(cell: Cell) -> tuple[Stop, ...]:
    inputs = [Stop(item=item, above=_INPUT_HEIGHT / 2, below=_INPUT_HEIGHT / 2) for item in range(len(cell.inputs))]
    blocks = [
        _stop(item, tuple(chip.source for chip in block.chips), pitch=_CHIP_PITCH, size=_CHIP_HEIGHT)
        for item, block in enumerate(cell.blocks, start=len(inputs))
    ]
    return (*inputs, *blocks, _stop(len(cell.items), cell.outputs, pitch=_ROW_PITCH, size=_ROW_PITCH))


def _stop(item: int, sources: tuple[int, ...], *, pitch: float, size: float) -> Stop:
    """Return a box with a label and a row for each source; its own line leaves from the middle of the rows."""
    half = (len(sources) - 1) / 2
    return Stop(
        item=item,
        above=half * pitch + size / 2 + LABEL_HEIGHT,
        below=half * pitch + size / 2 + PAD,
        entries=tuple((source, (row - half) * pitch) for row, source in enumerate(sources)),
    )


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Columns on paper: their left edges and widths, the tracks in the gap behind each, and what to add to their heights."""

    layers: Layers
    tracks: tuple[tuple[int, ...], ...]
    lefts: tuple[float, ...]
    widths: tuple[float, ...]
    shift: float


def _fit(stops: tuple[Stop, ...], sizes: Sizes) -> _Grid:
    """Put the columns side by side, and what is highest below the heading."""
    layers = arrange(stops)
    gaps = tuple(tracks(layers, gap) for gap in range(len(layers.columns) - 1))
    widths = (sizes.input, *[sizes.block] * (len(gaps) - 1), sizes.output)
    spaces = [_BEFORE_TRACKS + _TRACK * max(0, len(gap) - 1) + _BEHIND_TRACKS for gap in gaps]
    lefts = accumulate((width + space for width, space in zip(widths[:-1], spaces, strict=True)), initial=0.0)
    top = min(height - stop.above for stop, height in _standing(layers))
    return _Grid(layers=layers, tracks=gaps, lefts=tuple(lefts), widths=widths, shift=_HEADING_HEIGHT - top)


def _standing(layers: Layers) -> list[tuple[Stop, float]]:
    return [(stop, layers.heights[column, stop.item]) for column, stops in enumerate(layers.columns) for stop in stops]


def _box(stop: Stop, grid: _Grid) -> Box:
    column = grid.layers.depths[stop.item]
    out = grid.layers.heights[column, stop.item] + grid.shift
    return Box(
        left=grid.lefts[column],
        top=out - stop.above,
        width=grid.widths[column],
        height=stop.above + stop.below,
        out=out,
        entries=tuple(height + grid.shift for height in grid.layers.arrivals(column, stop)),
    )


def _line(target: Stop, entry: int, grid: _Grid) -> Line:
    """Return the way from the source's right edge through its lanes to a chip, or to the edge of the output box."""
    source, layers = target.entries[entry][0], grid.layers
    first, last = layers.depths[source], layers.depths[target.item]
    heights = [layers.heights[column, source] for column in range(first, last)]
    points = [(grid.lefts[first] + grid.widths[first], heights[0])]
    for gap, (before, behind) in enumerate(pairwise([*heights, layers.arrivals(last, target)[entry]]), start=first):
        if before != behind:
            x = grid.lefts[gap] + grid.widths[gap] + _BEFORE_TRACKS + _TRACK * grid.tracks[gap].index(source)
            points += [(x, before), (x, behind)]
    is_output = last == len(layers.columns) - 1
    points.append((grid.lefts[last] + (0.0 if is_output else PAD), layers.arrivals(last, target)[entry]))
    return Line(source=source, target=target.item, entry=entry, points=tuple((x, y + grid.shift) for x, y in points))
