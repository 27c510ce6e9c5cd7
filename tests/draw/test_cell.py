from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import Bbox

from enas.draw import GROUP_COLOURS, draw_figure, drawing_array, group_colours, save_drawing, to_ansi, to_dot, to_mermaid
from enas.spaces.graph import Block, Cell, CellGraph, Chip

SVG = "{http://www.w3.org/2000/svg}"
ENAS = ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity")
PREVIOUS = ("c(k-2)", "c(k-1)")
TITLE = "most frequent choices, epoch 12\nreward 0.8123"


def cell(name: str, inputs: tuple[str, ...], blocks: Sequence[Sequence[tuple[str, int]]], outputs: Sequence[int]) -> Cell:
    made = (tuple(Chip(operation=operation, source=source) for operation, source in block) for block in blocks)
    labelled = tuple(Block(label=f"node {index}", chips=chips) for index, chips in enumerate(made))
    return Cell(name=name, inputs=inputs, blocks=labelled, outputs=tuple(outputs))


def enas_cell(name: str, arc: Sequence[int]) -> Cell:
    """Return the cell of half an arc string: index, operation, index, operation of each node."""
    chips = [(ENAS[operation], source) for source, operation in zip(arc[::2], arc[1::2], strict=True)]
    used = {source for _, source in chips}
    return cell(name, PREVIOUS, list(zip(chips[::2], chips[1::2], strict=True)), sorted({*range(2 + len(arc) // 4)} - used))


def enas_cells(normal: str, reduction: str) -> CellGraph:
    return CellGraph(cells=(enas_cell("normal cell", [*map(int, normal)]), enas_cell("reduction cell", [*map(int, reduction)])))


def random_cells(num_nodes: int, seed: int) -> CellGraph:
    rng = np.random.default_rng(seed)
    arcs = [[int(rng.integers(most)) for index in range(num_nodes) for most in (index + 2, len(ENAS)) * 2] for _ in range(2)]
    return CellGraph(cells=(enas_cell("normal cell", arcs[0]), enas_cell("reduction cell", arcs[1])))


PUBLISHED = enas_cells("02000401041110010211", "10100302113110040311")  # authors: scripts/cifar10_micro_final.sh
DARTS = cell(  # Liu et al. 2019, figure 4: the normal cell of the second order
    "normal cell",
    PREVIOUS,
    [
        [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
        [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
        [("sep_conv_3x3", 1), ("skip_connect", 0)],
        [("skip_connect", 0), ("dil_conv_3x3", 2)],
    ],
    (2, 3, 4, 5),
)
NAS_BENCH_201 = cell(
    "cell",
    ("input",),
    [
        [("nor_conv_3x3", 0)],
        [("none", 0), ("avg_pool_3x3", 1)],
        [("skip_connect", 0), ("nor_conv_3x3", 1), ("nor_conv_1x1", 2)],
    ],
    (3,),
)
STRANGE = cell(
    '$x$ & <y> "z"',
    ("an input with a long name", "b", "unused", "größer"),
    [[("an operation with a very long name", 1)], [("x", 0)] * 5, [("none", 0), ("y", 4)], [("x", 5)]],
    (1, 6),
)
GRAPHS = {
    "published": PUBLISHED,
    "loose input": enas_cells("1111" * 5, "1111" * 5),
    "chain": enas_cells("0010" + "1021" + "2031" + "3041" + "4051", "0414" + "0424" + "0434" + "0444" + "0454"),
    "8 nodes": random_cells(8, 4),
    "12 nodes": random_cells(12, 5),
    "darts": CellGraph(cells=(DARTS,)),
    "nas-bench-201": CellGraph(cells=(NAS_BENCH_201,)),
    "long label": CellGraph(
        cells=(
            Cell(
                name="a cell",
                inputs=("x",),
                blocks=(Block(label="a block with a long name", chips=(Chip(operation="x", source=0),)),),
                outputs=(1,),
            ),
        )
    ),
    "different cells": CellGraph(cells=(DARTS, STRANGE, NAS_BENCH_201)),
}
each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def boxes_of(figure: Figure) -> dict[str, Bbox]:
    """Return the places of a figure's boxes, in inches from the lower left corner."""
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return {str(patch.get_gid()): patch.get_bbox() for patch in patches}


def fills_of(figure: Figure) -> dict[str, str]:
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return {str(patch.get_gid()): to_hex(patch.get_facecolor()).upper() for patch in patches}


def texts_in(figure: Figure, box: Bbox) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if box.contains(*text.get_position())]


class Line(NamedTuple):
    """A line as the SVG draws it: from a box to an entry of another one, by corner points in inches, y upwards."""

    cell: int
    source: int
    target: int
    entry: int
    colour: str
    points: tuple[tuple[float, float], ...]

    @property
    def pieces(self) -> list[Bbox]:
        return [Bbox([np.minimum(*piece), np.maximum(*piece)]) for piece in pairwise(np.array(self.points))]


@cache
def drawn(graph: CellGraph) -> Figure:
    return draw_figure(graph, title=TITLE)


@cache
def lines_of(graph: CellGraph) -> list[Line]:
    with TemporaryDirectory() as folder:
        save_drawing(graph, Path(folder) / "lines.svg", title=TITLE)
        root = ElementTree.parse(Path(folder) / "lines.svg").getroot()
    height = float(root.get("viewBox", "").split()[3])
    lines = []
    for element in root.iter(f"{SVG}g"):
        if match := re.fullmatch(r"cell(\d+)_line_(\d+)_(\d+)_(\d+)", element.get("id", "")):
            shaft, head = element.findall(f"{SVG}path")
            # A turn is a curve, Q corner end; the tip of the arrow is the second point of its head.
            corners = re.findall(r"Q (\S+) (\S+)", shaft.get("d", ""))
            start, tip = re.findall(r"M (\S+) (\S+)", shaft.get("d", "")), re.findall(r"L (\S+) (\S+)", head.get("d", ""))
            points = [(float(x) / 72, (height - float(y)) / 72) for x, y in [*start, *corners, tip[0]]]
            colour = re.search(r"stroke: (#\w+)", shaft.get("style", ""))
            assert colour is not None
            lines.append(Line(*map(int, match.groups()), colour[1].upper(), tuple(points)))
    return lines


@pytest.mark.parametrize("graph", [GRAPHS[name] for name in ("published", "different cells")])
def test_the_same_cells_give_the_same_svg(graph: CellGraph, tmp_path: Path) -> None:
    save_drawing(graph, tmp_path / "a.svg", title=TITLE)
    save_drawing(GRAPHS["nas-bench-201"], tmp_path / "between.svg")
    save_drawing(graph, tmp_path / "b.svg", title=TITLE)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@each_graph
def test_a_chip_names_its_operation_and_what_it_reads_in_the_operation_s_colour(graph: CellGraph) -> None:
    figure = drawn(graph)
    boxes, fills, colours = boxes_of(figure), fills_of(figure), group_colours(graph)
    for number, member in enumerate(graph.cells):
        for item, block in enumerate(member.blocks, start=len(member.inputs)):
            for position, chip in enumerate(block.chips):
                name = f"cell{number}_item{item}_chip{position}"
                assert texts_in(figure, boxes[name]) == [chip.operation, member.items[chip.source]]
                assert fills[name] == colours[chip.operation]


@each_graph
def test_boxes_are_labelled_and_the_output_lists_what_makes_it(graph: CellGraph) -> None:
    figure = drawn(graph)
    boxes = boxes_of(figure)
    for number, member in enumerate(graph.cells):
        assert all(member.items[item] in texts_in(figure, boxes[f"cell{number}_item{item}"]) for item in range(len(member.items)))
        assert texts_in(figure, boxes[f"cell{number}_output"]) == ["output", *(member.items[item] for item in member.outputs)]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:2] == TITLE.split("\n")
    names = [member.name for member in graph.cells]
    assert [text for text in texts if text in names] == names


@each_graph
def test_boxes_stand_apart_and_chips_in_their_block(graph: CellGraph) -> None:
    boxes = boxes_of(drawn(graph))
    outer = {name: box for name, box in boxes.items() if "chip" not in name}
    assert not any(one.padded(0.05).overlaps(other) for one, other in combinations(outer.values(), 2))
    chips = {name: box for name, box in boxes.items() if "chip" in name}
    assert not any(one.overlaps(other) for one, other in combinations(chips.values(), 2))
    for name, chip in chips.items():
        block = outer[name.rpartition("_")[0]]
        assert block.x0 < chip.x0 < chip.x1 < block.x1
        assert block.y0 < chip.y0 < chip.y1 < block.y1


@each_graph
def test_no_text_leaves_its_box_or_meets_another(graph: CellGraph) -> None:
    figure = drawn(graph)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = {text: text.get_window_extent(renderer) for text in figure.axes[0].texts}
    assert not any(one.overlaps(other) for one, other in combinations(texts.values(), 2))
    for box in boxes_of(figure).values():
        for text, extent in texts.items():
            if box.contains(*text.get_position()):
                assert box.x0 < extent.x0 / 100 < extent.x1 / 100 < box.x1
                assert box.y0 < extent.y0 / 100 < extent.y1 / 100 < box.y1


@each_graph
def test_nothing_touches_the_border(graph: CellGraph) -> None:
    pixels = drawing_array(graph, title=TITLE)
    assert pixels.dtype == np.uint8
    for edge in (pixels[:8], pixels[-8:], pixels[:, :8], pixels[:, -8:]):
        assert (edge == 255).all()


@each_graph
def test_a_line_leads_from_each_source_to_what_reads_it(graph: CellGraph) -> None:
    boxes = boxes_of(drawn(graph))
    lines = lines_of(graph)
    read = [
        (number, source, item, position)
        for number, member in enumerate(graph.cells)
        for item, sources in enumerate(
            [*([chip.source for chip in block.chips] for block in member.blocks), member.outputs], start=len(member.inputs)
        )
        for position, source in enumerate(sources)
    ]
    assert [line[:4] for line in lines] == read
    for line in lines:
        source, (x, y) = boxes[f"cell{line.cell}_item{line.source}"], line.points[0]
        assert x == pytest.approx(source.x1)
        assert source.y0 < y < source.y1
        is_output = line.target == len(graph.cells[line.cell].items)
        target = boxes[f"cell{line.cell}_{'output' if is_output else f'item{line.target}_chip{line.entry}'}"]
        assert line.points[-1][0] == pytest.approx(target.x0, abs=0.03)
        assert target.y0 < line.points[-1][1] < target.y1
        if not is_output:
            assert line.points[-1][1] == pytest.approx((target.y0 + target.y1) / 2, abs=1e-4)


@each_graph
def test_lines_run_forward_and_through_no_box(graph: CellGraph) -> None:
    outer = {name: box for name, box in boxes_of(drawn(graph)).items() if "chip" not in name}
    for line in lines_of(graph):
        assert all(before[0] <= behind[0] + 1e-6 for before, behind in pairwise(line.points))
        assert all(min(piece.width, piece.height) < 1e-4 for piece in line.pieces)
        ends = {f"cell{line.cell}_item{line.source}", f"cell{line.cell}_item{line.target}"}
        for name, box in outer.items():
            if name not in ends:
                assert not any(piece.padded(0.02).overlaps(box) for piece in line.pieces[:-1])
                is_output = line.target == len(graph.cells[line.cell].items)
                assert is_output or not line.pieces[-1].padded(0.02).overlaps(box)


def meetings(graph: CellGraph) -> npt.NDArray[np.float64]:
    """Return the longer side, inches, of what pieces of lines of different sources have in common; each pair twice."""
    pieces = [(line.cell, line.source, *piece.padded(0.02).extents) for line in lines_of(graph) for piece in line.pieces]
    cells, sources, left, bottom, right, top = np.array(pieces).T[:, :, None]  # each (P, 1)
    width = np.minimum(right, right.T) - np.maximum(left, left.T)  # (P, P)
    height = np.minimum(top, top.T) - np.maximum(bottom, bottom.T)
    is_common = (width > 0) & (height > 0) & ((cells != cells.T) | (sources != sources.T))
    return np.maximum(width, height)[is_common]


@each_graph
def test_lines_of_different_sources_cross_but_never_lie_on_each_other(graph: CellGraph) -> None:
    assert meetings(graph).max(initial=0.0) < 0.05


def test_lines_cross_only_where_they_must() -> None:
    assert len(meetings(GRAPHS["loose input"])) == 0
    assert len(meetings(GRAPHS["nas-bench-201"])) == 2  # the input on its way to node 1, node 0 on its way past node 1


def test_lines_have_the_colour_of_the_box_where_they_start() -> None:
    figure = drawn(GRAPHS["12 nodes"])
    edges = {str(patch.get_gid()): to_hex(patch.get_edgecolor()).upper() for patch in figure.axes[0].patches}
    for line in lines_of(GRAPHS["12 nodes"]):
        assert line.colour == edges[f"cell{line.cell}_item{line.source}"]
    assert len({edges[f"cell0_item{item}"] for item in range(14)}) == 14


def test_a_line_is_straight_where_nothing_is_in_its_way() -> None:
    graph = CellGraph(cells=(cell("cell", ("a",), [[("x", 0)], [("x", 1)], [("x", 0), ("x", 2)]], (3,)),))
    bends = {(line.source, line.target): len(line.points) - 2 for line in lines_of(graph)}
    assert bends == {(0, 1): 2, (1, 2): 0, (0, 3): 0, (2, 3): 2, (3, 4): 0}  # 0 to 3 passes two blocks that stand in one line


def test_blocks_are_ordered_so_that_lines_do_not_cross() -> None:
    graph = CellGraph(cells=(cell("cell", ("a", "b"), [[("x", 1)], [("x", 0)], [("x", 3), ("x", 2)]], (4,)),))
    boxes = boxes_of(drawn(graph))
    height = [boxes[f"cell0_item{item}"].y0 for item in range(4)]
    assert height[0] > height[1]  # inputs keep their order
    assert height[3] > height[2]


def test_a_block_stands_right_of_what_it_reads_and_the_output_right_of_all() -> None:
    boxes = boxes_of(drawn(GRAPHS["8 nodes"]))
    for number, member in enumerate(GRAPHS["8 nodes"].cells):
        left = [boxes[f"cell{number}_item{item}"].x0 for item in range(len(member.items))]
        right = [boxes[f"cell{number}_item{item}"].x1 for item in range(len(member.items))]
        for item, block in enumerate(member.blocks, start=len(member.inputs)):
            assert all(right[chip.source] < left[item] for chip in block.chips)
        assert max(right) < boxes[f"cell{number}_output"].x0


@pytest.mark.parametrize("graph", [GRAPHS[name] for name in ("published", "loose input", "chain")])
def test_a_picture_of_two_cells_with_5_nodes_fits_a_screen(graph: CellGraph) -> None:
    height, width, _ = drawing_array(graph, title=TITLE).shape
    assert width <= 1600
    assert height <= 1100


def test_cells_stand_beside_each_other_where_they_are_high_and_above_where_they_are_wide() -> None:
    beside, above = (boxes_of(drawn(GRAPHS[name])) for name in ("loose input", "chain"))
    assert beside["cell0_output"].x1 < beside["cell1_item0"].x0
    assert above["cell0_item0"].x0 == above["cell1_item0"].x0
    assert above["cell0_output"].y0 > above["cell1_output"].y1


def test_only_none_is_dashed_and_white() -> None:
    figure = drawn(GRAPHS["nas-bench-201"])
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    dashed = {str(patch.get_gid()) for patch in patches if patch.get_linestyle() in {"--", "dashed"}}
    assert dashed == {name for name, box in boxes_of(figure).items() if "none" in texts_in(figure, box) and "chip" in name}
    assert len(dashed) == 1
    assert group_colours(GRAPHS["nas-bench-201"])["none"] == "#FFFFFF"


def test_an_operation_has_the_same_colour_in_every_drawing() -> None:
    for graph in (PUBLISHED, GRAPHS["darts"], GRAPHS["nas-bench-201"]):
        colours = group_colours(graph)
        assert colours == {operation: GROUP_COLOURS[operation] for operation in colours}
    for names in (ENAS, ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")):
        assert len({GROUP_COLOURS[name] for name in names}) == 5


def test_only_a_sum_has_a_plus() -> None:
    circles = [type(patch).__name__ for patch in drawn(GRAPHS["nas-bench-201"]).axes[0].patches]
    assert circles.count("Circle") == 2  # three nodes, one of them with a single chip


GOOD = cell("normal cell", ("a", "b"), [[("x", 0), ("x", 1)], [("x", 2), ("x", 0)]], (3,))


@pytest.mark.parametrize("draw", [draw_figure, to_dot, to_mermaid, to_ansi])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (cell("c", ("a",), [[("x", 1)]], (1,)), r"c, node 0: expected sources in 0\.\.0, got 1"),
        (cell("c", ("a",), [[("x", 0)], [("x", 0), ("x", 3)]], (1,)), r"c, node 1: expected sources in 0\.\.1, got 3"),
        (cell("c", ("a",), [[("x", -1)]], (1,)), r"c, node 0: expected sources in 0\.\.0, got -1"),
        (cell("c", ("a",), [[]], (1,)), "c, node 0: expected at least one chip, got none"),
        (cell("c", ("a",), [], (0,)), "c: expected at least one block, got none"),
        (replace(GOOD, outputs=(4,)), r"normal cell: expected ascending outputs in 0\.\.3, got \[4\]"),
        (replace(GOOD, outputs=(-1, 3)), r"expected ascending outputs in 0\.\.3, got \[-1, 3\]"),
        (replace(GOOD, outputs=(3, 2)), r"expected ascending outputs in 0\.\.3, got \[3, 2\]"),
        (replace(GOOD, outputs=(3, 3)), r"expected ascending outputs in 0\.\.3, got \[3, 3\]"),
        (replace(GOOD, outputs=()), r"expected ascending outputs in 0\.\.3, got \[\]"),
        (replace(GOOD, inputs=("a\nb", "c")), r"normal cell: expected labels of one line, got 'a\\nb'"),
    ],
)
def test_bad_cells_are_refused(draw: Callable[[CellGraph], object], bad: Cell, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(CellGraph(cells=(GOOD, bad)))


def test_at_least_one_cell_is_expected() -> None:
    with pytest.raises(ValueError, match="expected at least one cell, got none"):
        draw_figure(CellGraph(cells=()))
