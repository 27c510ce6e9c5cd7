"""Colours of operations and lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from enas.spaces.graph import Drawing, Graph

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): told apart with every common colour blindness.
_BLUE, _SKY, _GREEN, _YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
_ORANGE, _VERMILION, _PURPLE = "#E69F00", "#D55E00", "#CC79A7"
_LIGHT_GREY, _DARK_GREY = "#DDDDDD", "#555555"
INK, WHITE = "#222222", "#FFFFFF"

GROUP_COLOURS: Mapping[str, str] = {
    "avg3x3": _GREEN,
    "avg_pool_3x3": _GREEN,
    "conv3x3": _BLUE,
    "conv5x5": _VERMILION,
    "dil_conv_3x3": _PURPLE,
    "dil_conv_5x5": _VERMILION,
    "identity": _LIGHT_GREY,
    "input": _LIGHT_GREY,
    "max3x3": _YELLOW,
    "max_pool_3x3": _YELLOW,
    "none": WHITE,
    "nor_conv_1x1": _SKY,
    "nor_conv_3x3": _BLUE,
    "output": _DARK_GREY,
    "reduction": _PURPLE,
    "sep3x3": _SKY,
    "sep5x5": _ORANGE,
    "sep_conv_3x3": _SKY,
    "sep_conv_5x5": _ORANGE,
    "skip_connect": _LIGHT_GREY,
    "stem": _LIGHT_GREY,
}
"""Groups whose colour is the same in every picture; a graph's other groups share out what is left, in sorted order.

A chain's groups are those of its nodes, a cell's groups are its operations. Names with underscores are those of DARTS (Liu et
al. 2019) and NAS-Bench-201 (Dong and Yang 2020).
"""

_FREE_COLOURS = (
    _BLUE,
    _ORANGE,
    _GREEN,
    _YELLOW,
    _SKY,
    _VERMILION,
    _PURPLE,
    "#999999",
    "#8C6D31",
    "#882255",
    "#44AA99",
    "#DDCC77",
)
LINE_COLOURS = (_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, "#882255", _SKY, "#8C6D31")
"""Of lines that start at different nodes."""
_ITEM_COLOURS = (*LINE_COLOURS, "#332288", "#44AA99", "#999933", "#777777", "#AA4499", "#117733")


def line_colour(item: int) -> str:
    """Return the colour of the lines that start at an input or a block of a cell, by its index."""
    return _ITEM_COLOURS[item % len(_ITEM_COLOURS)]


def group_colours(graph: Drawing) -> dict[str, str]:
    """Return the colour, `#RRGGBB`, of each group of the graph, in order of first appearance."""
    groups = tuple(dict.fromkeys(_groups(graph)))
    fixed = {group: GROUP_COLOURS[group] for group in groups if group in GROUP_COLOURS}
    free = [colour for colour in _FREE_COLOURS if colour not in fixed.values()] or list(_FREE_COLOURS)
    others = sorted(group for group in groups if group not in fixed)
    given = {group: free[rank % len(free)] for rank, group in enumerate(others)}
    return {group: fixed.get(group) or given[group] for group in groups}


def _groups(graph: Drawing) -> Iterable[str]:
    if isinstance(graph, Graph):
        return (node.group for node in graph.nodes)
    return (chip.operation for cell in graph.cells for block in cell.blocks for chip in block.chips)


def ink_on(fill: str) -> str:
    """Return black or white, whichever reads better on a colour."""
    red, green, blue = (int(fill[start : start + 2], 16) for start in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else WHITE
