"""How the lines of a cell get from one column to the next: level, but for one vertical track a source.

All lines of a source share its track, so lines of different sources cross at right angles and do not lie on each other. The
order of the tracks is chosen for few crossings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from enas.draw.layers import Layers

_NEAR = 0.06  # inches: level lines that are closer look like one
_OVERLAP = 100  # how many crossings are better than two lines on each other


@dataclass(frozen=True, kw_only=True)
class Net:
    """The lines of one source in a gap: from a height on the left to heights on the right, which grow downwards."""

    item: int
    start: float
    ends: tuple[float, ...]

    @property
    def is_straight(self) -> bool:
        """Whether it needs no track."""
        return all(end == self.start for end in self.ends)

    def is_crossed_at(self, height: float) -> bool:
        """Whether a level line over the whole gap would cross or touch the track."""
        return min(self.start, *self.ends) - _NEAR < height < max(self.start, *self.ends) + _NEAR


def nets(layers: Layers, gap: int) -> tuple[Net, ...]:
    """Return the lines in the gap behind column `gap`, by source."""
    ends: dict[int, list[float]] = {}
    for stop in layers.columns[gap + 1]:
        for (source, _), height in zip(stop.entries, layers.arrivals(gap + 1, stop), strict=True):
            ends.setdefault(source, []).append(height)
    return tuple(Net(item=item, start=layers.heights[gap, item], ends=tuple(ends[item])) for item in sorted(ends))


def tracks(layers: Layers, gap: int) -> tuple[int, ...]:
    """Return the sources that have a track in the gap behind column `gap`, from left to right."""
    order = sorted((net for net in nets(layers, gap) if not net.is_straight), key=lambda net: (net.start, net.item))
    cost = {(left.item, right.item): _crossings(left, right) for left in order for right in order}
    is_better = True
    while is_better:  # move single tracks as long as that helps
        moved = [_moved(order, place, target) for place in range(len(order)) for target in range(len(order))]
        best = min(moved, key=lambda trial: _total(trial, cost), default=order)
        is_better = _total(best, cost) < _total(order, cost)
        order = best if is_better else order
    return tuple(net.item for net in order)


def _moved(order: Sequence[Net], place: int, target: int) -> list[Net]:
    rest = [*order[:place], *order[place + 1 :]]
    return [*rest[:target], order[place], *rest[target:]]


def _total(order: Sequence[Net], cost: Mapping[tuple[int, int], int]) -> int:
    return sum(cost[left.item, right.item] for left, right in combinations(order, 2))


def _crossings(left: Net, right: Net) -> int:
    """Count the crossings of two nets if the first one's track is left of the second one's."""
    overlaps = sum(abs(right.start - end) < _NEAR for end in left.ends)
    return sum(right.is_crossed_at(end) for end in left.ends) + left.is_crossed_at(right.start) + _OVERLAP * overlaps
