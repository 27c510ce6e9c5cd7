"""An architecture as a picture: what a space says of its members, and `enas.draw` puts on paper."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GraphNode:
    """A node of an architecture's drawing: `group` selects its colour, `label` is printed in it."""

    label: str
    group: str


@dataclass(frozen=True, kw_only=True)
class Graph:
    """An architecture as a chain: nodes in order of computation, and edges (source, target) between their indices.

    An edge from a node to the next one is part of the main chain; every other edge is drawn as an arc.
    """

    nodes: tuple[GraphNode, ...]
    edges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Chip:
    """An operation inside a cell's block, and what it reads.

    Attributes:
        operation: printed in the chip, and selects its colour.
        source: index among the cell's inputs and, after them, its blocks.
    """

    operation: str
    source: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """A node of a cell: the sum of its chips."""

    label: str
    chips: tuple[Chip, ...]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: inputs, blocks in order of computation, and which of them are concatenated to its output.

    Attributes:
        name: such as `normal`.
        inputs: a label for each.
        blocks: chips of a block point at inputs and earlier blocks only.
        outputs: ascending indices among inputs and, after them, blocks.
    """

    name: str
    inputs: tuple[str, ...]
    blocks: tuple[Block, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CellGraph:
    """An architecture as one or more cells, which its network repeats."""

    cells: tuple[Cell, ...]


Drawing = Graph | CellGraph
"""What `SearchSpace.graph` returns."""
