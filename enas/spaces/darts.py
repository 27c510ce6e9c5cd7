"""The DARTS space (Liu et al. 2019, section 2.1 and 3.1): a normal and a reduction cell, which the network repeats.

A cell has two inputs, the outputs of the two cells before it (0 the older one, 1 the newer one), and B nodes, 2 to B + 1. A node
picks two distinct items before it and an operation for each, and adds the two results; the nodes, concatenated, are the cell's
output. `none` is a zero: part of the authors' search, never of the cells that they derive.

In a mixture, which the authors search by gradients, a node adds all operations on all items before it. Tokens are, for each node,
the pair of items, the lower item's operation and the higher one's; the normal cell comes first. A policy answers in the order of
the micro space's: two warm-up steps a cell, whose anchors stand for the inputs and have the value zero; a node's pair, then both
operations, then a step that makes the node's anchor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from enas.spaces.base import ChildConfig, Decision, MixedOperation, SearchSpace, Step, is_tokens
from enas.spaces.genotypes import Edge, Genotype, read_genotype
from enas.spaces.graph import CellGraph
from enas.spaces.mixture import check_weights
from enas.spaces.two_cells import CELLS, NUM_INPUTS, SIDES, CellNode, TwoCells, draw_cell, read_cells
from enas.types import FloatArray, IntArray

if TYPE_CHECKING:
    from enas.children.base import Child

Operation = Literal[
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"
]
OPERATIONS: tuple[Operation, ...] = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""In the authors' order (`PRIMITIVES` of `cnn/genotypes.py`)."""

TOKENS_PER_NODE = 3

Node = CellNode[Operation]
Nodes = tuple[Node, ...]


class DartsArchitecture(TwoCells[Operation]):
    """One member of the DARTS space: the nodes of both cells."""


def reduction_cells(num_layers: int) -> tuple[int, int]:
    """Return the ids of the reduction cells among L: L//3 and 2L//3 (authors: `cnn/model.py`)."""
    return num_layers // 3, 2 * num_layers // 3


def multiply_adds(operation: Operation, channels: int, *, stride: int) -> int:
    """Return an operation's multiply-adds for one pixel of its output, which is the number of its convolutions' weights."""
    if operation.startswith(("sep", "dil")):
        depthwise, pointwise = int(operation[-1]) ** 2 * channels, channels**2
        return (depthwise + pointwise) * _num_norms(operation, stride=stride)
    return channels**2 if operation == "skip_connect" and stride > 1 else 0  # a factorized reduction


def _num_norms(operation: Operation, *, stride: int) -> int:
    if operation.startswith("sep"):
        return 2
    return int(operation.startswith("dil") or (operation == "skip_connect" and stride > 1))


class _Pick(Protocol):
    """`min` or `max`."""

    def __call__(self, values: Iterable[Any], /, *, key: Any) -> Any: ...


class DartsSpace(SearchSpace[DartsArchitecture]):
    """All pairs of cells with a number of nodes and a set of operations.

    Args:
        num_nodes: of a cell, B, at least 1.
        operations: the vocabulary, a subset of `OPERATIONS` without repetition, not `none` alone; tokens count within it.
        num_layers, filters, affine: of the network whose costs `smallest` and `largest` compare, see `DartsConfig`. With 8
            channels or more all networks agree; below, a 3x3 separable convolution may cost less than a 5x5 dilated one.
    """

    idle_choices = frozenset({"none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"})  # a skip of stride 2 has weights, few

    def __init__(
        self,
        num_nodes: int,
        *,
        operations: Sequence[Operation] = OPERATIONS,
        num_layers: int = 8,
        filters: int = 16,
        affine: bool = True,
    ) -> None:
        if num_nodes < 1:
            raise ValueError(f"num_nodes: expected at least 1, got {num_nodes}")
        unknown = [name for name in operations if name not in OPERATIONS]
        if unknown or set(operations) <= {"none"} or len(set(operations)) != len(operations):
            expected = f"distinct names out of {', '.join(OPERATIONS)}, not none alone"
            raise ValueError(f"operations: expected {expected}, got {list(operations)}")
        self.name = "darts"
        self.num_nodes = num_nodes
        self.operations = tuple(operations)
        self._network = (num_layers, filters, affine)
        decisions: list[Decision] = []
        steps: list[Step] = []
        for cell in CELLS:
            self._add_cell(cell, decisions, steps)
        self.decisions, self.steps = tuple(decisions), tuple(steps)
        self.mixed_operations = tuple(
            MixedOperation(name=f"{CELLS[cell]}/node_{node}/item_{item}", choices=self.operations)
            for cell, node, item in mixed_edges(num_nodes)
        )

    def _add_cell(self, cell: str, decisions: list[Decision], steps: list[Step]) -> None:
        anchors = [len(steps), len(steps) + 1]
        steps += [Step(input="start", anchor="zero")] * NUM_INPUTS
        labels = ["c_k-2", "c_k-1"]
        for node in range(self.num_nodes):
            pair, *op_steps, anchor = range(len(steps), len(steps) + 4)
            prefix = f"{cell}/node_{node}"
            decisions.append(
                Decision(
                    name=f"{prefix}/pair",
                    kind="pair",
                    choices=tuple("+".join(names) for names in combinations(labels, SIDES)),
                    vocabulary="pair",
                    step=pair,
                    anchors=tuple(combinations(anchors, SIDES)),
                )
            )
            decisions += [
                Decision(name=f"{prefix}/op_{side}", kind="op", choices=self.operations, vocabulary="op", step=step)
                for side, step in enumerate(op_steps)
            ]
            steps += [Step(input="start"), Step(input="anchor"), Step(input="choice"), Step(input="choice", anchor="value")]
            anchors.append(anchor)
            labels.append(f"node_{node}")

    def decode(self, tokens: Sequence[int] | IntArray) -> DartsArchitecture:
        """Turn 6B tokens into an architecture. Raises ValueError for a wrong count or range."""
        values = iter(self.validate(tokens))

        def next_node(index: int) -> Node:
            pair, first, second = (next(values) for _ in range(TOKENS_PER_NODE))
            return Node(inputs=_pairs(index)[pair], operations=(self.operations[first], self.operations[second]))

        normal, reduce = (tuple(map(next_node, range(self.num_nodes))) for _ in CELLS)
        return DartsArchitecture(normal=normal, reduce=reduce)

    def encode(self, architecture: DartsArchitecture) -> tuple[int, ...]:
        """Turn an architecture into its tokens. Raises ValueError if it is not a member of this space."""
        self._check(architecture)
        return tuple(
            token
            for nodes in architecture.cells
            for index, node in enumerate(nodes)
            for token in (_pairs(index).index(node.inputs), *map(self.operations.index, node.operations))
        )

    def _check(self, architecture: DartsArchitecture) -> None:
        given = [name for nodes in architecture.cells for node in nodes for name in node.operations]
        unknown = dict.fromkeys(str(name) for name in given if name not in self.operations)
        if unknown:
            raise ValueError(f"darts: expected operations out of {', '.join(self.operations)}, got {', '.join(unknown)}")
        for cell, nodes in zip(CELLS, architecture.cells, strict=True):
            if len(nodes) != self.num_nodes:
                raise ValueError(f"{cell}: expected {self.num_nodes} nodes, got {len(nodes)}")
            for index, node in enumerate(nodes):
                if node.inputs not in _pairs(index):
                    expected = f"two distinct items in 0..{NUM_INPUTS + index - 1}, ascending"
                    raise ValueError(f"{cell}/node_{index}: expected {expected}, got {list(node.inputs)}")

    def discretize(self, weights: FloatArray) -> DartsArchitecture:
        """Return of each node the two edges with the largest weight of an operation other than `none`, and these operations.

        Weights are compared between edges as they are; ties go to the lower item and the first operation (authors: `genotype` of
        `cnn/model_search.py`).

        Args: weights: (R, K), in the order of `mixed_edges`. Raises: ValueError for weights that do not fit or are not finite.
        """
        values = check_weights(self.name, self.mixed_operations, weights)
        choices = [index for index, operation in enumerate(self.operations) if operation != "none"]
        strength, best = values[:, choices].max(axis=1).tolist(), values[:, choices].argmax(axis=1).tolist()
        cells: list[list[Node]] = [[] for _ in CELLS]
        first = 0  # row of the node's first edge
        for nodes in cells:
            for index in range(self.num_nodes):
                rows = range(first, first + NUM_INPUTS + index)
                low, high = sorted(sorted(rows, key=lambda row: -strength[row])[:SIDES])
                operations = (self.operations[choices[best[low]]], self.operations[choices[best[high]]])
                nodes.append(Node(inputs=(low - first, high - first), operations=operations))
                first = rows.stop
        normal, reduce = map(tuple, cells)
        return DartsArchitecture(normal=normal, reduce=reduce)

    def from_json(self, data: dict[str, Any]) -> DartsArchitecture:
        """Read `DartsArchitecture.to_json`. Raises ValueError naming what does not fit."""
        architecture = DartsArchitecture(**read_cells(data, space=self.name))
        self._check(architecture)
        return architecture

    def to_text(self, architecture: DartsArchitecture) -> str:
        """Return the genotype in one line; of a node's two entries, the lower item's is first."""
        self._check(architecture)
        normal, reduce = (
            [edge for node in nodes for edge in zip(node.operations, node.inputs, strict=True)] for nodes in architecture.cells
        )
        nodes = range(NUM_INPUTS, NUM_INPUTS + self.num_nodes)
        return Genotype(normal=normal, normal_concat=nodes, reduce=reduce, reduce_concat=nodes).to_text()

    def from_text(self, text: str) -> DartsArchitecture:
        """Read a genotype, or tokens separated by blanks. Raises ValueError naming what does not fit."""
        if is_tokens(text):
            return super().from_text(text)
        genotype = read_genotype(text)
        architecture = DartsArchitecture(normal=_nodes_of("normal", genotype.normal), reduce=_nodes_of("reduce", genotype.reduce))
        self._check(architecture)
        everything = list(range(NUM_INPUTS, NUM_INPUTS + self.num_nodes))
        for name, items in (("normal_concat", genotype.normal_concat), ("reduce_concat", genotype.reduce_concat)):
            if sorted(items[: self.num_nodes + 1]) != everything:  # a slice, since a range may be of any length
                raise ValueError(f"{name}: expected every node, {everything}, got {items}")
        return architecture

    def smallest(self) -> DartsArchitecture:
        """Return the cheapest connected member: no `none`, fewest multiply-adds, then parameters, poolings, tokens.

        A pooling has neither but adds or compares. In a reduction cell, skip connections of the inputs are factorized reductions.
        """
        normal, reduce = (self._extreme_cell(cell, min) for cell in CELLS)
        return DartsArchitecture(normal=normal, reduce=reduce)

    def largest(self) -> DartsArchitecture:
        """Return the member without `none` with the most multiply-adds, then parameters, poolings, and the last tokens."""
        normal, reduce = (self._extreme_cell(cell, max) for cell in CELLS)
        return DartsArchitecture(normal=normal, reduce=reduce)

    def _extreme_cell(self, cell: str, pick: _Pick) -> Nodes:
        connected = [operation for operation in self.operations if operation != "none"]
        best: list[tuple[Operation, tuple[int, int, int]]] = []  # of each item, with its cost
        for item in range(NUM_INPUTS + self.num_nodes - 1):
            costs = {operation: self._cost(cell, item, operation) for operation in connected}
            operation = pick(connected, key=lambda name, costs=costs: (costs[name], connected.index(name)))
            best.append((operation, costs[operation]))

        def pair_cost(pair: tuple[int, int]) -> tuple[Any, ...]:
            return *(sum(costs) for costs in zip(*(best[item][1] for item in pair), strict=True)), pair

        pairs = [pick(_pairs(index), key=pair_cost) for index in range(self.num_nodes)]
        return tuple(Node(inputs=(i, j), operations=(best[i][0], best[j][0])) for i, j in pairs)

    def _cost(self, cell: str, item: int, operation: Operation) -> tuple[int, int, int]:
        """Return multiply-adds for 16 pixels of the image, parameters, whether it is a pooling; over all copies of the cell."""
        num_layers, filters, affine = self._network
        reductions = reduction_cells(num_layers)
        stride = 2 if cell == "reduce" and item < NUM_INPUTS else 1
        flops = parameters = 0
        for index in range(num_layers):
            if (index in reductions) == (cell == "reduce"):
                level = sum(index >= reduction for reduction in reductions)  # how often the cell's output was halved
                channels = filters * 2**level
                weights = multiply_adds(operation, channels, stride=stride)
                flops += weights * 4 ** (2 - level)
                parameters += weights + 2 * channels * _num_norms(operation, stride=stride) * affine
        return flops, parameters, int("pool" in operation)

    def graph(self, architecture: DartsArchitecture) -> CellGraph:
        """Return the drawing: both cells, a block a node."""
        self._check(architecture)
        names, nodes = ("normal cell", "reduction cell"), tuple(range(NUM_INPUTS, NUM_INPUTS + self.num_nodes))
        drawn = (draw_cell(name, cell, outputs=nodes) for name, cell in zip(names, architecture.cells, strict=True))
        return CellGraph(cells=tuple(drawn))


def mixed_edges(num_nodes: int) -> Iterator[tuple[int, int, int]]:
    """Yield (cell, node, item) of each edge of a mixture, in the order of its weights' rows: the normal cell first."""
    for cell in range(len(CELLS)):
        for node in range(num_nodes):
            for item in range(NUM_INPUTS + node):
                yield cell, node, item


def _pairs(index: int) -> list[tuple[int, int]]:
    """Return what a cell's node may pick, in token order."""
    return list(combinations(range(NUM_INPUTS + index), 2))


def _nodes_of(cell: str, edges: Sequence[Edge]) -> Nodes:
    """Return the nodes that a genotype's edges are of, two edges each, the lower item first."""
    if len(edges) % SIDES:
        raise ValueError(f"{cell}: expected {SIDES} entries for each node, got {len(edges)}")
    nodes = []
    for first, second in zip(edges[::SIDES], edges[1::SIDES], strict=True):
        (low_op, low), (high_op, high) = sorted((first, second), key=lambda edge: edge[1])
        nodes.append(Node(inputs=(low, high), operations=(low_op, high_op)))  # type: ignore[arg-type]  # the space checks names
    return tuple(nodes)


@dataclass(frozen=True, kw_only=True)
class DartsConfig(ChildConfig):
    """The DARTS space and its network; defaults are the authors' CIFAR-10 search."""

    text_mark: ClassVar[str] = "normal"
    num_layers: int = 8
    """Cells L, at least 3, so that both kinds are among them; cells L//3 and 2L//3 are reduction cells."""
    num_nodes: int = 4
    """Nodes B of a cell, at least 1."""
    filters: int = 16
    """Channels of the first cells' nodes, at least 2, doubled by each reduction; a cell's output has B times as many, the stem's
    three times."""
    keep_prob: float = 1.0
    """Probability of keeping a feature before the classifier (dropout), in (0, 1]."""
    aux_head: bool = False
    """Whether a second classifier behind the last reduction cell helps training; no measurement reads it."""
    operations: tuple[Operation, ...] = OPERATIONS
    """Operations that a node may pick."""
    affine: bool = True
    """Whether the cells' BatchNorm has weights; the authors' search does without, their final training has them."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        self.make_space()
        for name, least in (("num_layers", 3), ("filters", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0 < self.keep_prob <= 1:
            raise ValueError(f"keep_prob: expected a probability in (0, 1], got {self.keep_prob}")

    def make_space(self) -> DartsSpace:
        """Return the search space."""
        return DartsSpace(
            self.num_nodes,
            operations=self.operations,
            num_layers=self.num_layers,
            filters=self.filters,
            affine=self.affine,
        )

    def make_child(
        self, *, input_shape: tuple[int, ...], num_classes: int, architecture: DartsArchitecture | None = None
    ) -> Child:
        """Build the supernet, or one architecture's own network."""
        from enas.children.darts import DartsChild  # torch takes seconds to import; `--help` does not need it

        return DartsChild(self, input_shape=input_shape, num_classes=num_classes, architecture=architecture)

    def for_text(self, text: str) -> DartsConfig:
        """Return this configuration with the number of nodes of a genotype, or of tokens, 6B numbers. Raises ValueError."""
        if not is_tokens(text):
            return replace(self, num_nodes=len(_nodes_of("normal", read_genotype(text).normal)))
        count, per_node = len(text.split()), TOKENS_PER_NODE * len(CELLS)
        if count == 0 or count % per_node:
            raise ValueError(f"darts: expected {per_node} numbers for each node ({per_node}, {2 * per_node}, ...), got {count}")
        return replace(self, num_nodes=count // per_node)

    def rescale(self, architecture: DartsArchitecture, target: Any) -> DartsArchitecture:
        """Return the architecture itself, at any width and depth of `target`. Raises ValueError where it is no member there."""
        if not isinstance(target, DartsConfig):
            raise ValueError(f"darts: expected a darts configuration, got {type(target).__name__}")
        target.make_space().encode(architecture)
        return architecture
