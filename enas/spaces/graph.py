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
    """A node of a cell: the sum of its chips. The label is such as `node 0`; chips that read it repeat it."""

    label: str
    chips: tuple[Chip, ...]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: inputs, blocks in order of computation, and which of them are concatenated to its output.

    Attributes:
        name: the picture's heading, such as `normal cell`.
        inputs: a label for each. Labels, names and operations are single lines.
        blocks: chips of a block point at inputs and earlier blocks only.
        outputs: ascending indices among inputs and, after them, blocks.
    """

    name: str
    inputs: tuple[str, ...]
    blocks: tuple[Block, ...]
    outputs: tuple[int, ...]

    @property
    def items(self) -> tuple[str, ...]:
        """Labels of the inputs and, after them, the blocks: what a chip's source and an output count in."""
        return (*self.inputs, *(block.label for block in self.blocks))


@dataclass(frozen=True, kw_only=True)
class CellGraph:
    """An architecture as one or more cells, which its network repeats."""

    cells: tuple[Cell, ...]


Drawing = Graph | CellGraph
"""What `SearchSpace.graph` returns."""
