"""Where the boxes of a cell stand: in columns by depth, so that every line leads from a column to the next one.

A layered drawing (Sugiyama, Tagawa and Toda 1981): a box stands in the column behind the last box that it reads; a line that is
read further right passes the columns between in a lane, which no box covers; boxes and lanes of a column are ordered for few
crossings, and their heights make lines straight (a linear programme: Gansner, Koutsofios, North and Vo 1993, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from enas.types import FloatArray

_ROUNDS = 8  # of sweeps over the columns, forward and backward in turn; the best order of all of them is taken
_BLOCK_GAP, _GAP = 0.24, 0.16  # inches between two blocks of a column, and between other neighbours
_BETWEEN_LANES, _TO_LANE, _BETWEEN_BOXES = 4.0, 2.0, 1.0  # how much a line's way up or down costs: long lines bend last
_FROM_MIDDLE = 0.01  # what it costs to stand off the middle, for what no line holds


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A box in a column, or a lane: a place where a line passes a column.

    Attributes:
        item: index among inputs, blocks and the output box; a lane has that of the box whose line it is.
        above: how far it reaches up from its height, inches. Its own line leaves at its height.
        below: how far it reaches down.
        entries: (item that it reads, how far below its height that line arrives), from top to bottom.
    """

    item: int
    above: float = 0.0
    below: float = 0.0
    entries: tuple[tuple[int, float], ...] = ()
    is_lane: bool = False


Column = tuple[Stop, ...]


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A cell's boxes and lanes in columns.

    Attributes:
        columns: from left to right, each from top to bottom.
        depths: for each item the column of its box.
        heights: inches, growing downwards, by column and item.
    """

    columns: tuple[Column, ...]
    depths: tuple[int, ...]
    heights: Mapping[tuple[int, int], float]

    def arrivals(self, column: int, stop: Stop) -> tuple[float, ...]:
        """Return the height at which each line arrives; equal to that of its source where the line is straight."""
        return tuple(round(self.heights[column, stop.item] + offset, 6) for _, offset in stop.entries)


def arrange(boxes: Sequence[Stop]) -> Layers:
    """Choose columns, order and heights. Args: boxes: inputs, blocks, output box, by `item`; they read earlier ones."""
    depths = _depths(boxes)
    columns = _ordered(_columns(boxes, depths))
    return Layers(columns=tuple(columns), depths=tuple(depths), heights=_heights(columns))


def _depths(boxes: Sequence[Stop]) -> list[int]:
    """Return the longest path from an input to each box; the output box comes last of all."""
    depths: list[int] = []
    for box in boxes[:-1]:
        depths.append(1 + max((depths[source] for source, _ in box.entries), default=-1))
    return [*depths, 1 + max(depths)]


def _columns(boxes: Sequence[Stop], depths: Sequence[int]) -> list[Column]:
    """Return the boxes by depth and, below them, the lanes of passing lines."""
    reach = list(depths)
    for box in boxes:
        for source, _ in box.entries:
            reach[source] = max(reach[source], depths[box.item])
    columns = []
    for column in range(depths[-1] + 1):
        passing = [item for item in range(len(boxes)) if depths[item] < column < reach[item]]
        lanes = [Stop(item=item, entries=((item, 0.0),), is_lane=True) for item in passing]
        columns.append((*(box for box in boxes if depths[box.item] == column), *lanes))
    return columns


def _ordered(columns: Sequence[Column]) -> list[Column]:
    """Return the columns in an order with few crossings; the inputs, column 0, keep theirs."""
    trial, best = list(columns), list(columns)
    for number in range(_ROUNDS):
        is_forward = number % 2 == 0
        for index in range(1, len(trial)) if is_forward else range(len(trial) - 2, 0, -1):
            places = (
                _places_of_read(trial[index - 1], trial[index]) if is_forward else _places_of_readers(*trial[index : index + 2])
            )
            trial[index] = tuple(sorted(trial[index], key=lambda stop: places[stop.item]))
        while _swap_neighbours(trial):
            pass
        if _all_crossings(trial) < _all_crossings(best):
            best = list(trial)
    return best


def _places_of_read(left: Column, column: Column) -> dict[int, float]:
    """Return for each item of a column the mean place of what it reads in the column before."""
    rank = {stop.item: place for place, stop in enumerate(left)}
    return {stop.item: float(np.mean([rank[source] for source, _ in stop.entries])) for stop in column}


def _places_of_readers(column: Column, right: Column) -> dict[int, float]:
    """Return for each item of a column the mean place of what reads it in the column behind; the middle for nothing."""
    places: dict[int, list[float]] = {stop.item: [] for stop in column}
    for place, stop in enumerate(right):
        for position, (source, _) in enumerate(stop.entries):
            places[source].append(place + position / len(stop.entries))
    return {item: float(np.mean(found or [len(right) / 2])) for item, found in places.items()}


def _swap_neighbours(columns: list[Column]) -> int:
    """Swap, one after the other, stops that are better off so. Returns: how many swaps that were."""
    places = [(index, place) for index in range(1, len(columns)) for place in range(len(columns[index]) - 1)]
    return sum(_swap_if_better(columns, index, place) for index, place in places)


def _swap_if_better(columns: list[Column], index: int, place: int) -> bool:
    """Swap a stop with the one below it if fewer lines cross then. Returns: whether they were swapped."""
    around, column = slice(index - 1, index + 2), columns[index]
    before = _all_crossings(columns[around])
    columns[index] = (*column[:place], column[place + 1], column[place], *column[place + 2 :])
    if _all_crossings(columns[around]) < before:
        return True
    columns[index] = column
    return False


def _all_crossings(columns: Sequence[Column]) -> int:
    """Count the pairs of lines that cross between neighbouring columns."""
    total = 0
    for left, right in pairwise(columns):
        rank = {stop.item: place for place, stop in enumerate(left)}
        starts = [rank[source] for stop in right for source, _ in stop.entries]
        total += sum(upper > lower for upper, lower in combinations(starts, 2))
    return total


def _heights(columns: Sequence[Column]) -> dict[tuple[int, int], float]:
    """Return the heights, around 0, for which all lines go up or down least, with every neighbour in order and apart."""
    from scipy.optimize import linprog  # takes half a second to import

    stops = [(column, stop.item) for column, members in enumerate(columns) for stop in members]
    number = {stop: row for row, stop in enumerate(stops)}
    climbs, arrivals, costs = _climbs(columns, number)  # (L, S), (L,), (L,)
    apart, least = _distances(columns, number)  # (D, S), (D,)
    # Unknowns: the S heights, then the sizes of L climbs and S ways from the middle: size >= difference, size >= -difference.
    differences = np.vstack([climbs, np.eye(len(stops))])
    offsets = np.concatenate([arrivals, np.zeros(len(stops))])
    sizes = np.eye(len(differences))
    solution = linprog(
        np.concatenate([np.zeros(len(stops)), costs, np.full(len(stops), _FROM_MIDDLE)]),
        A_ub=np.block([[differences, -sizes], [-differences, -sizes], [-apart, np.zeros((len(apart), len(sizes)))]]),
        b_ub=np.concatenate([offsets, -offsets, -least]),
        bounds=(None, None),
        method="highs",
    )
    assert solution.x is not None, solution.message  # far enough apart, there is always a place for everything
    return {stop: round(float(height), 6) for stop, height in zip(stops, solution.x, strict=False)}


def _climbs(columns: Sequence[Column], number: Mapping[tuple[int, int], int]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a row a line, height where it starts minus height of the stop where it ends; where it arrives there; its cost."""
    rows, arrivals, costs = [], [], []
    for column, (left, right) in enumerate(pairwise(columns)):
        lanes = {stop.item for stop in left if stop.is_lane}
        for stop in right:
            for source, arrival in stop.entries:
                row = np.zeros(len(number))
                row[number[column, source]], row[number[column + 1, stop.item]] = 1.0, -1.0
                rows.append(row)
                arrivals.append(arrival)
                costs.append((_BETWEEN_BOXES, _TO_LANE, _BETWEEN_LANES)[(source in lanes) + stop.is_lane])
    return np.array(rows), np.array(arrivals), np.array(costs)


def _distances(columns: Sequence[Column], number: Mapping[tuple[int, int], int]) -> tuple[FloatArray, FloatArray]:
    """Return a row for two neighbours of a column, height of the lower one minus height of the upper one; the least of it."""
    rows, least = [], []
    for column, stops in enumerate(columns):
        for upper, lower in pairwise(stops):
            row = np.zeros(len(number))
            row[number[column, lower.item]], row[number[column, upper.item]] = 1.0, -1.0
            rows.append(row)
            are_blocks = all(stop.entries and not stop.is_lane for stop in (upper, lower))
            least.append(upper.below + (_BLOCK_GAP if are_blocks else _GAP) + lower.above)
    return np.array(rows).reshape(-1, len(number)), np.array(least)
