"""An architecture as DOT, Mermaid and plain text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from enas.draw.checks import check_drawing
from enas.draw.palette import GROUP_COLOURS, WHITE, group_colours, ink_on, line_colour
from enas.spaces.graph import Block, Cell, CellGraph, Drawing, Graph


def to_dot(graph: Drawing) -> str:
    """Return the architecture in Graphviz' DOT language. Raises ValueError as `draw_figure`."""
    check_drawing(graph)
    lines = ["digraph architecture {", "  rankdir=LR;", '  node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    if isinstance(graph, Graph):
        lines += _dot_chain(graph)
    else:
        lines.append('  graph [fontname="sans-serif"];')
        for number, cell in enumerate(graph.cells):
            lines += _dot_cell(cell, f"c{number}", group_colours(graph))
    return "\n".join([*lines, "}"]) + "\n"


def _dot_chain(graph: Graph) -> Iterator[str]:
    colours = group_colours(graph)
    for index, node in enumerate(graph.nodes):
        yield f"  n{index} [{_dot_look(node.label, colours[node.group])}];"
    for source, target in graph.edges:
        style = "[weight=100]" if target == source + 1 else "[constraint=false, style=dashed]"
        yield f"  n{source} -> n{target} {style};"


def _dot_cell(cell: Cell, prefix: str, colours: Mapping[str, str]) -> Iterator[str]:
    yield f"  subgraph cluster_{prefix} {{"
    yield f"    label={_dot_text(cell.name)};"
    for index, label in enumerate(cell.inputs):
        yield f"    {prefix}_i{index} [{_dot_look(label, GROUP_COLOURS['input'])}];"
    for index, block in enumerate(cell.blocks):
        yield from _dot_block(cell, block, f"{prefix}_n{index}", colours)
    yield f"    {prefix}_out [{_dot_look('output', GROUP_COLOURS['output'])}];"
    for source, target, item in _cell_edges(cell, prefix):
        yield f'    {source} -> {target} [color="{line_colour(item)}"];'
    yield "  }"


def _dot_block(cell: Cell, block: Block, name: str, colours: Mapping[str, str]) -> Iterator[str]:
    yield f"    subgraph cluster_{name} {{"
    yield f"      label={_dot_text(block.label)};"
    for position, chip in enumerate(block.chips):
        look = _dot_look(f"{chip.operation}\n{cell.items[chip.source]}", colours[chip.operation])
        border = ', style="rounded,filled,dashed"' if chip.operation == "none" else ""
        yield f"      {name}_{position} [{look}{border}];"
    if len(block.chips) > 1:
        yield f"      {name} [{_dot_look('+', WHITE)}, shape=circle];"
        yield from (f"      {name}_{position} -> {name};" for position in range(len(block.chips)))
    yield "    }"


def _dot_look(label: str, fill: str) -> str:
    return f'label={_dot_text(label)}, fillcolor="{fill}", fontcolor="{ink_on(fill)}"'


def _dot_text(label: str) -> str:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def to_mermaid(graph: Drawing) -> str:
    """Return the architecture as a Mermaid flow chart, which Markdown viewers draw. Raises ValueError as `draw_figure`."""
    check_drawing(graph)
    colours = group_colours(graph)
    class_of = {group: f"group{rank}" for rank, group in enumerate(colours)}
    lines = ["flowchart LR"]
    if isinstance(graph, Graph):
        lines += _mermaid_chain(graph, class_of)
    else:
        for number, cell in enumerate(graph.cells):
            lines += _mermaid_cell(cell, f"c{number}", class_of)
    for group, fill in colours.items():
        border = ",stroke-dasharray:4" if group == "none" else ""
        lines.append(f"  classDef {class_of[group]} fill:{fill},color:{ink_on(fill)}{border}")
    return "\n".join(lines) + "\n"


def _mermaid_chain(graph: Graph, class_of: Mapping[str, str]) -> Iterator[str]:
    for index, node in enumerate(graph.nodes):
        yield f"  n{index}[{_mermaid_text(node.label)}]:::{class_of[node.group]}"
    for source, target in graph.edges:
        yield f"  n{source} {'-->' if target == source + 1 else '-.->'} n{target}"


def _mermaid_cell(cell: Cell, prefix: str, class_of: Mapping[str, str]) -> Iterator[str]:
    yield f"  subgraph {prefix}[{_mermaid_text(cell.name)}]"
    for index, label in enumerate(cell.inputs):
        yield f"    {prefix}_i{index}([{_mermaid_text(label)}])"
    for index, block in enumerate(cell.blocks):
        yield from _mermaid_block(cell, block, f"{prefix}_n{index}", class_of)
    yield f"    {prefix}_out([{_mermaid_text('output')}])"
    for source, target, _ in _cell_edges(cell, prefix):
        yield f"    {source} --> {target}"
    yield "  end"


def _mermaid_block(cell: Cell, block: Block, name: str, class_of: Mapping[str, str]) -> Iterator[str]:
    yield f"    subgraph {name}_block[{_mermaid_text(block.label)}]"
    for position, chip in enumerate(block.chips):
        label = f"{chip.operation}\n{cell.items[chip.source]}"
        yield f"      {name}_{position}[{_mermaid_text(label)}]:::{class_of[chip.operation]}"
    if len(block.chips) > 1:
        yield f"      {name}(({_mermaid_text('add')}))"  # a plus alone would be a list in Mermaid's Markdown
        yield from (f"      {name}_{position} --> {name}" for position in range(len(block.chips)))
    yield "    end"


def _mermaid_text(label: str) -> str:
    escaped = label.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return f'"{escaped.replace(chr(10), "<br/>")}"'


def _cell_edges(cell: Cell, prefix: str) -> Iterator[tuple[str, str, int]]:
    """Yield (name of the source, name of what reads it, index of the source): chips first, then the output."""
    names = [f"{prefix}_i{index}" for index in range(len(cell.inputs))]
    names += [f"{prefix}_n{index}" if len(block.chips) > 1 else f"{prefix}_n{index}_0" for index, block in enumerate(cell.blocks)]
    for index, block in enumerate(cell.blocks):
        for position, chip in enumerate(block.chips):
            yield names[chip.source], f"{prefix}_n{index}_{position}", chip.source
    for item in cell.outputs:
        yield names[item], f"{prefix}_out", item


def to_ansi(graph: Drawing) -> str:
    """Return the architecture as text for a terminal, a line a node.

    A chain's line is: index, label, `<-` the nodes it reads. A cell's are its name, `operation(source) + ...` for each block, and
    what makes its output.

    Raises: ValueError as `draw_figure`.
    """
    check_drawing(graph)
    return "\n".join(_ansi_chain(graph) if isinstance(graph, Graph) else _ansi_cells(graph)) + "\n"


def _ansi_chain(graph: Graph) -> Iterator[str]:
    labels = [" / ".join(node.label.split("\n")) for node in graph.nodes]
    index_width, label_width = len(str(len(labels) - 1)), max(map(len, labels))
    for index, label in enumerate(labels):
        sources = ", ".join(str(source) for source, target in sorted(graph.edges) if target == index)
        line = f"{index:>{index_width}}  {label:<{label_width}}"
        yield f"{line}  <- {sources}" if sources else line.rstrip()


def _ansi_cells(graph: CellGraph) -> Iterator[str]:
    for cell in graph.cells:
        width = max(len("output"), *(len(block.label) for block in cell.blocks))
        yield cell.name
        for block in cell.blocks:
            total = " + ".join(f"{chip.operation}({cell.items[chip.source]})" for chip in block.chips)
            yield f"  {block.label:<{width}}  {total}"
        yield f"  {'output':<{width}}  {', '.join(cell.items[item] for item in cell.outputs)}"
