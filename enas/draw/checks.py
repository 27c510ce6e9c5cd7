"""What every picture and text asks of an architecture before it starts."""

from __future__ import annotations

from enas.spaces.graph import Cell, Drawing, Graph


def check_drawing(graph: Drawing) -> None:
    """Refuse what cannot be drawn.

    Raises: ValueError for no nodes, cells, blocks, chips or outputs; for edges and chips that do not lead forward; for outputs
        that are not there or not ascending; for labels of a cell with more than one line.
    """
    if isinstance(graph, Graph):
        _check_chain(graph)
        return
    if not graph.cells:
        raise ValueError("graph: expected at least one cell, got none")
    for cell in graph.cells:
        _check_cell(cell)


def _check_chain(graph: Graph) -> None:
    if not graph.nodes:
        raise ValueError("graph: expected at least one node, got none")
    for source, target in graph.edges:
        if not 0 <= source < target < len(graph.nodes):
            raise ValueError(f"graph: expected edges forward between nodes 0..{len(graph.nodes) - 1}, got {(source, target)}")


def _check_cell(cell: Cell) -> None:
    if not cell.blocks:
        raise ValueError(f"{cell.name}: expected at least one block, got none")
    for index, block in enumerate(cell.blocks):
        where, most = f"{cell.name}, {block.label}", len(cell.inputs) + index - 1
        if not block.chips:
            raise ValueError(f"{where}: expected at least one chip, got none")
        for chip in block.chips:
            if not 0 <= chip.source <= most:
                raise ValueError(f"{where}: expected sources in 0..{most}, got {chip.source}")
    most = len(cell.inputs) + len(cell.blocks) - 1
    is_ascending = list(cell.outputs) == sorted(set(cell.outputs))
    if not cell.outputs or not is_ascending or cell.outputs[0] < 0 or cell.outputs[-1] > most:
        raise ValueError(f"{cell.name}: expected ascending outputs in 0..{most}, got {list(cell.outputs)}")
    for text in _texts(cell):
        if "\n" in text:
            raise ValueError(f"{cell.name}: expected labels of one line, got {text!r}")


def _texts(cell: Cell) -> list[str]:
    operations = [chip.operation for block in cell.blocks for chip in block.chips]
    return [cell.name, *cell.inputs, *(block.label for block in cell.blocks), *operations]
