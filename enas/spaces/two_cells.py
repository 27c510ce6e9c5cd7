"""What spaces of a normal and a reduction cell have in common (micro, DARTS): nodes that add two operations on two earlier items.

A cell has two inputs, the outputs of the two cells before it (0 the older one, 1 the newer one), and B nodes, 2 to B + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from enas.spaces.base import whole_number
from enas.spaces.graph import Block, Cell, Chip

OperationT = TypeVar("OperationT", bound=str)

CELLS = ("normal", "reduce")
NUM_INPUTS = 2
"""Of a cell."""
SIDES = 2
"""Of a node: items that it picks, and operations."""


@dataclass(frozen=True, kw_only=True)
class CellNode(Generic[OperationT]):
    """A node of a cell: operations[0](item inputs[0]) + operations[1](item inputs[1]).

    Attributes:
        inputs: items, 0 and 1 the cell's inputs, then the nodes before this one.
        operations: one for each.
    """

    inputs: tuple[int, int]
    operations: tuple[OperationT, OperationT]


@dataclass(frozen=True, kw_only=True)
class TwoCells(Generic[OperationT]):
    """An architecture: the nodes of both cells."""

    normal: tuple[CellNode[OperationT], ...]
    reduce: tuple[CellNode[OperationT], ...]

    def to_json(self) -> dict[str, Any]:
        """Return `{"normal": [{"inputs": [0, 1], "operations": ["sep3x3", "identity"]}, ...], "reduce": [...]}`."""
        return {
            name: [{"inputs": list(node.inputs), "operations": list(node.operations)} for node in nodes]
            for name, nodes in zip(CELLS, self.cells, strict=True)
        }

    @property
    def cells(self) -> tuple[tuple[CellNode[OperationT], ...], tuple[CellNode[OperationT], ...]]:
        """The normal cell, the reduction cell."""
        return self.normal, self.reduce


def read_cells(data: dict[str, Any], *, space: str) -> dict[str, tuple[CellNode[Any], ...]]:
    """Read `TwoCells.to_json`: the nodes of each cell; the space checks that they are its own.

    Args: space: its name, for the message.
    Raises: ValueError for anything of another form.
    """
    try:
        return {cell: tuple(_read_node(record) for record in data[cell]) for cell in CELLS}
    except (KeyError, TypeError, ValueError) as error:
        expected = "'normal' and 'reduce', lists of nodes with 'inputs' and 'operations'"
        raise ValueError(f"{space}: expected {expected}, got {data!r}") from error


def _read_node(record: dict[str, Any]) -> CellNode[Any]:
    (first, second), (first_op, second_op) = record["inputs"], record["operations"]
    return CellNode(inputs=(whole_number(first), whole_number(second)), operations=(first_op, second_op))


def draw_cell(name: str, nodes: tuple[CellNode[Any], ...], *, outputs: tuple[int, ...]) -> Cell:
    """Return a cell's drawing: a block a node. Args: outputs: the items that make its output, ascending."""
    blocks = tuple(
        Block(
            label=f"node {index}",
            chips=tuple(
                Chip(operation=operation, source=item) for item, operation in zip(node.inputs, node.operations, strict=True)
            ),
        )
        for index, node in enumerate(nodes)
    )
    return Cell(name=name, inputs=("c(k-2)", "c(k-1)"), blocks=blocks, outputs=outputs)
