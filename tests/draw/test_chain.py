from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from enas.draw import GROUP_COLOURS, draw_figure, drawing_array, group_colours, save_drawing
from enas.spaces.graph import Graph, GraphNode

SVG = "{http://www.w3.org/2000/svg}"
OPERATIONS = ("conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3")


def chain_graph(num_nodes: int, *, num_skips: int = 0, seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    nodes = [GraphNode(label=f"{index}\n{group}", group=group) for index, group in enumerate(rng.choice(OPERATIONS, num_nodes))]
    nodes[0] = GraphNode(label="stem", group="stem")
    possible = [(source, target) for source, target in combinations(range(num_nodes), 2) if target > source + 1]
    skips = [possible[index] for index in rng.permutation(len(possible))[:num_skips]]
    return Graph(nodes=tuple(nodes), edges=tuple((index, index + 1) for index in range(num_nodes - 1)) + tuple(sorted(skips)))


LONG_LABELS = Graph(
    nodes=(
        GraphNode(label="input", group="input"),
        GraphNode(
            label='skip_connect\ndil_conv_5x5\n$x$ & <y> "z" |w|', group="a group with a very long name, longer than the nodes"
        ),
        GraphNode(label="größer", group="another group whose name is long"),
    ),
    edges=((0, 1), (0, 2)),
)
GRAPHS = {
    "one node": Graph(nodes=(GraphNode(label="x", group="x"),), edges=()),
    "no skips": chain_graph(16),
    "macro": chain_graph(16, num_skips=20),
    "every skip": chain_graph(14, num_skips=100),
    "26 nodes": chain_graph(26, num_skips=40),
    "long labels": LONG_LABELS,
    "no chain": Graph(nodes=tuple(GraphNode(label=name, group=name) for name in "abcd"), edges=((0, 2), (0, 2), (0, 3), (1, 3))),
}
each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def label_lines(graph: Graph) -> list[str]:
    return sorted(line for node in graph.nodes for line in node.label.split("\n"))


def svg_texts(path: Path) -> list[str]:
    return [element.text or "" for element in ElementTree.parse(path).iter(f"{SVG}text")]


class Curve(NamedTuple):
    """An arc as the SVG draws it, in points from the upper left corner."""

    edge: tuple[int, int]
    colour: str
    start: tuple[float, float]
    top: float
    end: tuple[float, float]


def arc_curves(graph: Graph, folder: Path) -> list[Curve]:
    save_drawing(graph, folder / "arcs.svg")
    curves = []
    for element in ElementTree.parse(folder / "arcs.svg").iter(f"{SVG}g"):
        if match := re.fullmatch(r"arc_(\d+)_(\d+)", element.get("id", "")):
            line, head = element.findall(f"{SVG}path")
            numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", line.get("d", ""))]
            tip = [float(number) for number in re.findall(r"-?\d+\.?\d*", head.get("d", ""))][:2]
            colour = re.search(r"stroke: (#\w+)", line.get("style", ""))
            assert colour is not None
            # M start, C 3 points, L 1 point, C 3 points: the third and fourth point are the ends of the level middle.
            assert numbers[7] == pytest.approx(numbers[9])
            edge = (int(match[1]), int(match[2]))
            curves.append(Curve(edge, colour[1], (numbers[0], numbers[1]), numbers[7], (numbers[-2], tip[1])))
    return curves


def test_importing_the_module_does_not_load_matplotlib() -> None:
    code = "import sys, enas.draw; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


@each_graph
def test_the_same_graph_gives_the_same_svg(graph: Graph, tmp_path: Path) -> None:
    save_drawing(graph, tmp_path / "a.svg", title="first")
    save_drawing(chain_graph(5, num_skips=2), tmp_path / "between.svg")
    save_drawing(graph, tmp_path / "b.svg", title="first")
    save_drawing(graph, tmp_path / "c.svg", title="second")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "c.svg").read_bytes()


@each_graph
def test_a_drawing_holds_every_label_group_and_arc(graph: Graph, tmp_path: Path) -> None:
    save_drawing(graph, tmp_path / "drawing.svg", title="best of\nepoch 12")
    groups = {node.group for node in graph.nodes}
    assert sorted(svg_texts(tmp_path / "drawing.svg")) == sorted([*label_lines(graph), *groups, "best of", "epoch 12"])
    figure = draw_figure(graph)
    patches = figure.axes[0].patches
    arcs = sorted(gid for patch in patches if isinstance(patch, FancyArrowPatch) and (gid := patch.get_gid()))
    assert arcs == sorted(f"arc_{source}_{target}" for source, target in graph.edges if target > source + 1)
    assert sum(isinstance(patch, FancyArrowPatch) for patch in patches) == len(graph.edges)
    assert sum(isinstance(patch, FancyBboxPatch) for patch in patches) == len(graph.nodes)
    assert sum(isinstance(patch, Rectangle) for patch in patches) == len(groups)


@each_graph
def test_nothing_touches_the_border(graph: Graph) -> None:
    pixels = drawing_array(graph, title="a title that is much longer than the drawing of a single node")
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    for edge in (pixels[:5], pixels[-5:], pixels[:, :5], pixels[:, -5:]):
        assert (edge == 255).all()
    assert (pixels < 128).any()


@each_graph
def test_texts_fit_their_boxes_and_overlap_no_other(graph: Graph) -> None:
    figure = draw_figure(graph, title="epoch 12")
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert not any(first.overlaps(second) for first, second in combinations(texts, 2))
    boxes = [patch.get_window_extent(renderer) for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))
    labels = texts[: sum(node.label.count("\n") + 1 for node in graph.nodes)]
    inside = [
        any(box.x0 < label.x0 and label.x1 < box.x1 and box.y0 < label.y0 and label.y1 < box.y1 for box in boxes)
        for label in labels
    ]
    assert all(inside)


@each_graph
def test_no_two_arcs_lie_on_each_other(graph: Graph, tmp_path: Path) -> None:
    curves = arc_curves(graph, tmp_path)
    ends = [curve.end for curve in curves] + [curve.start for curve in curves]
    assert all(abs(x - other_x) > 2 or y != other_y for (x, y), (other_x, other_y) in combinations(ends, 2))
    for one, other in combinations(curves, 2):
        if one.start[0] < other.end[0] and other.start[0] < one.end[0]:
            assert abs(one.top - other.top) > 5


def test_a_longer_arc_passes_over_the_shorter_ones_beneath(tmp_path: Path) -> None:
    graph = Graph(nodes=chain_graph(8).nodes, edges=((0, 2), (0, 5), (0, 7), (1, 3), (1, 7)))
    height = {curve.edge: curve.start[1] - curve.top for curve in arc_curves(graph, tmp_path)}  # an SVG's y points down
    assert 0 < height[0, 2] < height[0, 5] < height[0, 7]
    assert 0 > height[1, 3] > height[1, 7]


def test_arcs_of_one_source_share_colour_and_side_and_neighbours_differ(tmp_path: Path) -> None:
    looks: dict[int, set[tuple[str, bool]]] = {}
    for curve in arc_curves(GRAPHS["every skip"], tmp_path):
        looks.setdefault(curve.edge[0], set()).add((curve.colour, curve.top < curve.start[1]))
    assert all(len(look) == 1 for look in looks.values())
    order = [next(iter(looks[source])) for source in sorted(looks)]
    assert [above for _, above in order] == [index % 2 == 0 for index in range(len(order))]
    assert all(len({colour for colour, _ in order[start : start + 5]}) == 5 for start in range(len(order) - 4))


def test_width_grows_with_the_nodes_and_a_12_layer_network_stays_within_2000_pixels() -> None:
    widths = [drawing_array(chain_graph(num_nodes)).shape[1] for num_nodes in (1, 4, 16, 26)]
    assert widths == sorted(set(widths))
    assert widths[2] < 2000


def test_a_group_has_the_same_colour_in_every_macro_drawing() -> None:
    for seed in range(5):
        graph = chain_graph(6, seed=seed)
        assert group_colours(graph) == {node.group: GROUP_COLOURS[node.group] for node in graph.nodes}
    assert len({GROUP_COLOURS[name] for name in (*OPERATIONS, "reduction", "stem", "output")}) == 9


def test_other_groups_get_distinct_colours_by_name_not_by_place() -> None:
    nodes = [GraphNode(label=name, group=name) for name in ("conv3x3", "tanh", "relu", "sigmoid", "identity")]
    colours = group_colours(Graph(nodes=tuple(nodes), edges=()))
    assert colours == group_colours(Graph(nodes=tuple(reversed(nodes)), edges=()))
    assert len(set(colours.values())) == 5
    assert colours["conv3x3"] == GROUP_COLOURS["conv3x3"]


def test_png_and_array_hold_the_same_pixels(tmp_path: Path) -> None:
    from PIL import Image

    save_drawing(GRAPHS["macro"], tmp_path / "drawing.png", title="epoch 12")
    written = np.asarray(Image.open(tmp_path / "drawing.png").convert("RGB"))
    np.testing.assert_array_equal(written, drawing_array(GRAPHS["macro"], title="epoch 12"))


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected the suffix .svg or .png, got '.pdf'"):
        save_drawing(GRAPHS["one node"], tmp_path / "drawing.pdf")
