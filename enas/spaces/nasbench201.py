"""The NAS-Bench-201 space (Dong and Yang 2020), the topology space of NATS-Bench (Dong et al. 2021): one cell of six edges.

A cell has its input, node 0, and three nodes; node j adds one operation on each of the nodes before it, and node 3 is the output.
The six edges come in the benchmark's order 0-1, 0-2, 1-2, 0-3, 1-3, 2-3, each with one of five operations: 15,625 cells. Cells
that compute the same function under other names are different members, as in the benchmark. A cell may be disconnected.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from enas.spaces.base import ChildConfig, Decision, MixedOperation, SearchSpace, Step, is_tokens
from enas.spaces.graph import Block, Cell, CellGraph, Chip
from enas.spaces.mixture import check_weights
from enas.types import FloatArray, IntArray

if TYPE_CHECKING:
    from enas.children.base import Child

Operation = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
SKIP: Operation = "skip_connect"
CONV3X3: Operation = "nor_conv_3x3"
OPERATIONS: tuple[Operation, ...] = ("none", SKIP, "nor_conv_1x1", CONV3X3, "avg_pool_3x3")
"""In the benchmark's order (authors: `NAS_BENCH_201` of `cell_operations.py`); `none` is a zero."""

NUM_NODES = 3
"""Nodes of a cell beside its input."""
EDGES: tuple[tuple[int, int], ...] = tuple((source, node) for node in range(1, NUM_NODES + 1) for source in range(node))
"""(source, target) of each edge, in token order."""

_OFFICIAL_SEED = 88  # authors: `generate_meta_info` of exps/NAS-Bench-201/main.py shuffles all cells with it
_EDGE = re.compile(r"\|(?P<operation>[^|~]+)~(?P<source>\d+)(?=\|)")


@dataclass(frozen=True, kw_only=True)
class NasBench201Architecture:
    """One cell: an operation for each of `EDGES`."""

    operations: tuple[Operation, ...]

    def to_json(self) -> dict[str, Any]:
        """Return `{"operations": ["nor_conv_3x3", ...]}`, six names."""
        return {"operations": list(self.operations)}


def live_nodes(operations: Sequence[Operation]) -> tuple[bool, ...]:
    """Return for nodes 0 to 3 whether the output depends on the node's value, `none` apart; node 3 is the output itself."""
    live = [False] * NUM_NODES + [True]
    for (source, node), operation in reversed(list(zip(EDGES, operations, strict=True))):
        live[source] |= live[node] and operation != "none"
    return tuple(live)


class NasBench201Space(SearchSpace[NasBench201Architecture]):
    """All 15,625 cells."""

    idle_choices = frozenset({"none", "skip_connect", "avg_pool_3x3"})

    def __init__(self) -> None:
        self.name = "nasbench201"
        self.decisions = tuple(
            Decision(name=f"edge_{source}_{node}", kind="op", choices=OPERATIONS, vocabulary="op", step=step)
            for step, (source, node) in enumerate(EDGES)
        )
        self.steps = tuple(Step(input="choice" if step else "start") for step in range(len(EDGES)))
        self.mixed_operations = tuple(MixedOperation(name=decision.name, choices=decision.choices) for decision in self.decisions)

    def decode(self, tokens: Sequence[int] | IntArray) -> NasBench201Architecture:
        """Turn six tokens into a cell. Raises ValueError for a wrong count or range."""
        return NasBench201Architecture(operations=tuple(OPERATIONS[token] for token in self.validate(tokens)))

    def encode(self, architecture: NasBench201Architecture) -> tuple[int, ...]:
        """Turn a cell into its tokens. Raises ValueError if it is not a member of this space."""
        self._check(architecture.operations)
        return tuple(OPERATIONS.index(operation) for operation in architecture.operations)

    def _check(self, operations: Sequence[str]) -> None:
        if len(operations) != len(EDGES):
            raise ValueError(f"{self.name}: expected {len(EDGES)} operations, got {len(operations)}")
        unknown = [operation for operation in operations if operation not in OPERATIONS]
        if unknown:
            raise ValueError(f"{self.name}: expected operations out of {', '.join(OPERATIONS)}, got {unknown[0]!r}")

    def from_json(self, data: dict[str, Any]) -> NasBench201Architecture:
        """Read `NasBench201Architecture.to_json`. Raises ValueError naming what does not fit."""
        operations = data.get("operations") if isinstance(data, dict) else None
        if not isinstance(operations, list):
            raise ValueError(f"{self.name}: expected 'operations', a list of {len(EDGES)} names, got {data!r}")
        self._check(operations)
        return NasBench201Architecture(operations=tuple(operations))

    def to_text(self, architecture: NasBench201Architecture) -> str:
        """Return the benchmark's string, such as `|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|`."""
        self._check(architecture.operations)
        nodes: list[list[str]] = [[] for _ in range(NUM_NODES)]
        for (source, node), operation in zip(EDGES, architecture.operations, strict=True):
            nodes[node - 1].append(f"{operation}~{source}")
        return "+".join(f"|{'|'.join(edges)}|" for edges in nodes)

    def from_text(self, text: str) -> NasBench201Architecture:
        """Read the benchmark's string, in which blanks do not count, or tokens. Raises ValueError naming what does not fit."""
        if is_tokens(text):
            return super().from_text(text)
        string = "".join(text.split())
        found = [(int(edge["source"]), edge["operation"]) for edge in _EDGE.finditer(string)]
        operations = [operation for _, operation in found]
        if [source for source, _ in found] != [source for source, _ in EDGES]:
            expected = "|operation~0|+|operation~0|operation~1|+|operation~0|operation~1|operation~2|"
            raise ValueError(f"{self.name}: expected a cell such as {expected}, got {text!r}")
        self._check(operations)
        architecture = NasBench201Architecture(operations=tuple(_known(operation) for operation in operations))
        if self.to_text(architecture) != string:
            raise ValueError(f"{self.name}: expected {self.to_text(architecture)}, got {text!r}")
        return architecture

    def discretize(self, weights: FloatArray) -> NasBench201Architecture:
        """Return of each edge the operation with the largest weight, `none` too; ties go to the first (authors: `genotype`).

        Args: weights: (6, 5). Raises: ValueError for weights that do not fit or are not finite.
        """
        return self.decode(check_weights(self.name, self.mixed_operations, weights).argmax(axis=1))

    def official_index(self, architecture: NasBench201Architecture) -> int:
        """Return the number that the benchmark gives a cell, 0 to 15,624."""
        return _official_indices()[self.encode(architecture)]

    def of_official_index(self, index: int) -> NasBench201Architecture:
        """Return the cell that the benchmark calls by a number. Raises ValueError for one that is out of range."""
        cells = _official_order()
        if not 0 <= index < len(cells):
            raise ValueError(f"{self.name}: expected an index in 0..{len(cells) - 1}, got {index}")
        return self.decode(cells[index])

    def smallest(self) -> NasBench201Architecture:
        """Return skip connections everywhere: no `none`, no weights, and less work than a pooling."""
        return NasBench201Architecture(operations=(SKIP,) * len(EDGES))

    def largest(self) -> NasBench201Architecture:
        """Return 3x3 convolutions everywhere."""
        return NasBench201Architecture(operations=(CONV3X3,) * len(EDGES))

    def degeneracy(self, architecture: NasBench201Architecture) -> str | None:
        """Return why a cell is hardly a network: no way from its input to its output, or none with weights; None for others."""
        live = live_nodes(architecture.operations)
        reached = [True] + [False] * NUM_NODES
        used: list[str] = []
        for (source, node), operation in zip(EDGES, architecture.operations, strict=True):
            if reached[source] and operation != "none":
                reached[node] = True
                used += [operation] if live[node] else []
        if not used:
            return "its output does not depend on its input"
        return "no operation has weights" if self.idle_choices.issuperset(used) else None

    def graph(self, architecture: NasBench201Architecture) -> CellGraph:
        """Return the drawing: a block a node; of edges that are `none` only those of a node that has no other."""
        self._check(architecture.operations)
        blocks = tuple(
            Block(label=f"node {index}", chips=_drawn_edges(architecture.operations, index)) for index in range(1, NUM_NODES + 1)
        )
        return CellGraph(cells=(Cell(name="cell", inputs=("node 0",), blocks=blocks, outputs=(NUM_NODES,)),))


def _drawn_edges(operations: tuple[Operation, ...], index: int) -> tuple[Chip, ...]:
    """Return the chips of a node, of which a drawing needs at least one."""
    edges = zip(EDGES, operations, strict=True)
    chips = tuple(Chip(operation=name, source=source) for (source, node), name in edges if node == index)
    return tuple(chip for chip in chips if chip.operation != "none") or chips


def _known(name: str) -> Operation:
    return next(operation for operation in OPERATIONS if operation == name)


@cache
def _official_order() -> tuple[tuple[int, ...], ...]:
    """Return the tokens of all cells in the benchmark's order: all products, shuffled once with a fixed seed."""
    cells = list(product(range(len(OPERATIONS)), repeat=len(EDGES)))
    random.Random(_OFFICIAL_SEED).shuffle(cells)
    return tuple(cells)


@cache
def _official_indices() -> dict[tuple[int, ...], int]:
    return {cell: index for index, cell in enumerate(_official_order())}


@dataclass(frozen=True, kw_only=True)
class NasBench201Config(ChildConfig):
    """The NAS-Bench-201 space and its network; defaults are the benchmark's."""

    text_mark: ClassVar[str] = "~"
    filters: int = 16
    """Channels C of the first stage, at least 2; the second and third have twice and four times as many."""
    cells_per_stage: int = 5
    """Cells N of each of the three stages, at least 1."""
    affine: bool = True
    """Whether BatchNorm has weights and biases. The benchmark's networks have; supernets rank better without."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, least in (("filters", 2), ("cells_per_stage", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")

    def make_space(self) -> NasBench201Space:
        """Return the search space."""
        return NasBench201Space()

    def make_child(
        self,
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        architecture: NasBench201Architecture | None = None,
    ) -> Child:
        """Build the supernet, or one cell's own network."""
        from enas.children.nasbench201 import NasBench201Child  # torch takes seconds to import; `--help` does not need it

        return NasBench201Child(self, input_shape=input_shape, num_classes=num_classes, architecture=architecture)
