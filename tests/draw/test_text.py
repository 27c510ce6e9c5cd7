from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from enas.draw import draw_figure, to_ansi, to_dot, to_mermaid
from enas.spaces.graph import Block, Cell, CellGraph, Chip, Graph, GraphNode


def chain_graph(num_nodes: int, *, num_skips: int = 0) -> Graph:
    rng = np.random.default_rng(0)
    nodes = [GraphNode(label=f"{index}\n{group}", group=group) for index, group in enumerate(rng.choice(["a", "b"], num_nodes))]
    possible = [(source, target) for source, target in combinations(range(num_nodes), 2) if target > source + 1]
    skips = [possible[index] for index in rng.permutation(len(possible))[:num_skips]]
    return Graph(nodes=tuple(nodes), edges=tuple((index, index + 1) for index in range(num_nodes - 1)) + tuple(sorted(skips)))


GRAPHS = {
    "one node": Graph(nodes=(GraphNode(label="x", group="x"),), edges=()),
    "macro": chain_graph(16, num_skips=20),
    "no chain": Graph(nodes=tuple(GraphNode(label=name, group=name) for name in "abcd"), edges=((0, 2), (0, 2), (0, 3), (1, 3))),
    "signs": Graph(
        nodes=(GraphNode(label="größer", group="a"), GraphNode(label='back\\slash\n$x$ & <y> "z" |w|', group="b & c")),
        edges=((0, 1),),
    ),
}
each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
CELLS = CellGraph(
    cells=(
        Cell(
            name="normal cell",
            inputs=("c(k-2)", "c(k-1)"),
            blocks=(
                Block(label="node 0", chips=(Chip(operation="avg3x3", source=0), Chip(operation="sep3x3", source=0))),
                Block(label="node 1", chips=(Chip(operation="none", source=2),)),
                Block(label="node 2", chips=(Chip(operation="sep3x3", source=3), Chip(operation="avg3x3", source=1))),
            ),
            outputs=(2, 4),
        ),
        Cell(
            name='a "b" & c',
            inputs=("x",),
            blocks=(Block(label="y", chips=(Chip(operation="none", source=0),)),),
            outputs=(0, 1),
        ),
    )
)
DOT = r"""digraph architecture {
  rankdir=LR;
  node [shape=box, style="rounded,filled", fontname="sans-serif"];
  graph [fontname="sans-serif"];
  subgraph cluster_c0 {
    label="normal cell";
    c0_i0 [label="c(k-2)", fillcolor="#DDDDDD", fontcolor="#000000"];
    c0_i1 [label="c(k-1)", fillcolor="#DDDDDD", fontcolor="#000000"];
    subgraph cluster_c0_n0 {
      label="node 0";
      c0_n0_0 [label="avg3x3\nc(k-2)", fillcolor="#009E73", fontcolor="#FFFFFF"];
      c0_n0_1 [label="sep3x3\nc(k-2)", fillcolor="#56B4E9", fontcolor="#000000"];
      c0_n0 [label="+", fillcolor="#FFFFFF", fontcolor="#000000", shape=circle];
      c0_n0_0 -> c0_n0;
      c0_n0_1 -> c0_n0;
    }
    subgraph cluster_c0_n1 {
      label="node 1";
      c0_n1_0 [label="none\nnode 0", fillcolor="#FFFFFF", fontcolor="#000000", style="rounded,filled,dashed"];
    }
    subgraph cluster_c0_n2 {
      label="node 2";
      c0_n2_0 [label="sep3x3\nnode 1", fillcolor="#56B4E9", fontcolor="#000000"];
      c0_n2_1 [label="avg3x3\nc(k-1)", fillcolor="#009E73", fontcolor="#FFFFFF"];
      c0_n2 [label="+", fillcolor="#FFFFFF", fontcolor="#000000", shape=circle];
      c0_n2_0 -> c0_n2;
      c0_n2_1 -> c0_n2;
    }
    c0_out [label="output", fillcolor="#555555", fontcolor="#FFFFFF"];
    c0_i0 -> c0_n0_0 [color="#0072B2"];
    c0_i0 -> c0_n0_1 [color="#0072B2"];
    c0_n0 -> c0_n1_0 [color="#009E73"];
    c0_n1_0 -> c0_n2_0 [color="#CC79A7"];
    c0_i1 -> c0_n2_1 [color="#D55E00"];
    c0_n0 -> c0_out [color="#009E73"];
    c0_n2 -> c0_out [color="#E69F00"];
  }
  subgraph cluster_c1 {
    label="a \"b\" & c";
    c1_i0 [label="x", fillcolor="#DDDDDD", fontcolor="#000000"];
    subgraph cluster_c1_n0 {
      label="y";
      c1_n0_0 [label="none\nx", fillcolor="#FFFFFF", fontcolor="#000000", style="rounded,filled,dashed"];
    }
    c1_out [label="output", fillcolor="#555555", fontcolor="#FFFFFF"];
    c1_i0 -> c1_n0_0 [color="#0072B2"];
    c1_i0 -> c1_out [color="#0072B2"];
    c1_n0_0 -> c1_out [color="#D55E00"];
  }
}
"""
MERMAID = """flowchart LR
  subgraph c0["normal cell"]
    c0_i0(["c(k-2)"])
    c0_i1(["c(k-1)"])
    subgraph c0_n0_block["node 0"]
      c0_n0_0["avg3x3<br/>c(k-2)"]:::group0
      c0_n0_1["sep3x3<br/>c(k-2)"]:::group1
      c0_n0(("add"))
      c0_n0_0 --> c0_n0
      c0_n0_1 --> c0_n0
    end
    subgraph c0_n1_block["node 1"]
      c0_n1_0["none<br/>node 0"]:::group2
    end
    subgraph c0_n2_block["node 2"]
      c0_n2_0["sep3x3<br/>node 1"]:::group1
      c0_n2_1["avg3x3<br/>c(k-1)"]:::group0
      c0_n2(("add"))
      c0_n2_0 --> c0_n2
      c0_n2_1 --> c0_n2
    end
    c0_out(["output"])
    c0_i0 --> c0_n0_0
    c0_i0 --> c0_n0_1
    c0_n0 --> c0_n1_0
    c0_n1_0 --> c0_n2_0
    c0_i1 --> c0_n2_1
    c0_n0 --> c0_out
    c0_n2 --> c0_out
  end
  subgraph c1["a #quot;b#quot; #amp; c"]
    c1_i0(["x"])
    subgraph c1_n0_block["y"]
      c1_n0_0["none<br/>x"]:::group2
    end
    c1_out(["output"])
    c1_i0 --> c1_n0_0
    c1_i0 --> c1_out
    c1_n0_0 --> c1_out
  end
  classDef group0 fill:#009E73,color:#FFFFFF
  classDef group1 fill:#56B4E9,color:#000000
  classDef group2 fill:#FFFFFF,color:#000000,stroke-dasharray:4
"""
ANSI = """normal cell
  node 0  avg3x3(c(k-2)) + sep3x3(c(k-2))
  node 1  none(node 0)
  node 2  sep3x3(node 1) + avg3x3(c(k-1))
  output  node 0, node 2
a "b" & c
  y       none(x)
  output  x, y
"""


@pytest.mark.parametrize("draw", [draw_figure, to_dot, to_mermaid, to_ansi])
@pytest.mark.parametrize("edge", [(1, 0), (1, 1), (0, 2), (-1, 1)])
def test_edges_must_lead_forward_between_nodes(draw: type, edge: tuple[int, int]) -> None:
    nodes = (GraphNode(label="a", group="a"), GraphNode(label="b", group="b"))
    with pytest.raises(ValueError, match=rf"between nodes 0\.\.1, got {re.escape(str(edge))}"):
        draw(Graph(nodes=nodes, edges=(edge,)))
    with pytest.raises(ValueError, match="expected at least one node, got none"):
        draw(Graph(nodes=(), edges=()))


@each_graph
def test_dot_holds_every_label_and_edge(graph: Graph) -> None:
    dot = to_dot(graph)
    quoted = re.findall(r'label="((?:[^"\\]|\\.)*)"', dot)
    assert [label.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\") for label in quoted] == [
        node.label for node in graph.nodes
    ]
    edges = re.findall(r"n(\d+) -> n(\d+) \[(constraint=false)?", dot)
    assert [(int(source), int(target)) for source, target, _ in edges] == list(graph.edges)
    assert [bool(loose) for *_, loose in edges] == [target > source + 1 for source, target in graph.edges]


@each_graph
def test_mermaid_holds_every_label_and_edge(graph: Graph) -> None:
    mermaid = to_mermaid(graph)
    assert mermaid.startswith("flowchart LR\n")
    labels = re.findall(r'n\d+\["([^"]*)"\]', mermaid)
    for entity, letter in (("<br/>", "\n"), ("#quot;", '"'), ("#lt;", "<"), ("#gt;", ">"), ("#amp;", "&")):
        labels = [label.replace(entity, letter) for label in labels]
    assert labels == [node.label for node in graph.nodes]
    edges = re.findall(r"n(\d+) (-->|-\.->) n(\d+)", mermaid)
    assert [(int(source), int(target)) for source, _, target in edges] == list(graph.edges)
    assert [arrow == "-.->" for _, arrow, _ in edges] == [target > source + 1 for source, target in graph.edges]
    assert len(re.findall(r"classDef", mermaid)) == len({node.group for node in graph.nodes})


def test_ansi_is_a_line_a_node_with_its_sources() -> None:
    nodes = [("stem", "stem"), ("0\nconv3x3", "conv3x3"), ("1\nmax3x3", "max3x3"), ("classifier", "output")]
    graph = Graph(nodes=tuple(GraphNode(label=label, group=group) for label, group in nodes), edges=((1, 2), (0, 1), (0, 2)))
    assert to_ansi(graph) == "0  stem\n1  0 / conv3x3  <- 0\n2  1 / max3x3   <- 0, 1\n3  classifier\n"


def test_ansi_lines_up_two_digit_indices() -> None:
    lines = to_ansi(chain_graph(12)).splitlines()
    assert [line[:4] for line in (lines[0], lines[9], lines[10])] == [" 0  ", " 9  ", "10  "]
    assert len({line.index("<-") for line in lines[1:]}) == 1


def test_dot_of_cells_is_a_cluster_a_cell_and_a_block() -> None:
    assert to_dot(CELLS) == DOT


def test_mermaid_of_cells_is_a_subgraph_a_cell_and_a_block() -> None:
    assert to_mermaid(CELLS) == MERMAID


def test_ansi_of_cells_is_a_line_a_block_and_one_for_the_output() -> None:
    assert to_ansi(CELLS) == ANSI


def test_ansi_lines_up_labels_of_cells() -> None:
    blocks = tuple(Block(label=f"block {index}", chips=(Chip(operation="conv", source=0),)) for index in (9, 10))
    graph = CellGraph(cells=(Cell(name="cell", inputs=("x",), blocks=blocks, outputs=(1, 2)),))
    lines = ["cell", "  block 9   conv(x)", "  block 10  conv(x)", "  output    block 9, block 10"]
    assert to_ansi(graph).splitlines() == lines
