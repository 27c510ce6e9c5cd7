"""The ENAS micro space (Pham et al. 2018, section 2.4): a normal and a reduction cell, which the network repeats.

A cell has two inputs, the outputs of the two cells before it (0 the older one, 1 the newer one), and B nodes, 2 to B + 1. A node
picks two of the items before it and an operation for each, and adds the two results. What no node picks, an input of the cell
included, is loose, and the loose items make the cell's output.

Token order is that of the authors' arc strings: index, operation, index, operation of each node of the normal cell, then of the
reduction cell. The policy answers in another order, both indices of a node before both operations
(authors: `src/cifar10/micro_controller.py`): two warm-up steps a cell, whose anchors stand for the inputs and have the value
zero; four steps a node, then one that makes the node's anchor. The reduction cell goes on from the normal cell's LSTM state but
points at its own anchors only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from enas.spaces.base import ChildConfig, Decision, SearchSpace, Step
from enas.spaces.graph import CellGraph
from enas.spaces.two_cells import CELLS, NUM_INPUTS, SIDES, CellNode, TwoCells, draw_cell, read_cells
from enas.types import IntArray

if TYPE_CHECKING:
    from enas.children.base import Child

Operation = Literal["sep3x3", "sep5x5", "avg3x3", "max3x3", "identity"]
OPERATIONS: tuple[Operation, ...] = ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity")
"""In the authors' order: the number of an operation in an arc string is its index here."""

# Order by multiply-adds, then parameters, then additions and comparisons. Holds for every width.
_COST_RANK: dict[Operation, int] = {"identity": 0, "avg3x3": 1, "max3x3": 1, "sep3x3": 2, "sep5x5": 3}

Node = CellNode[Operation]
Nodes = tuple[Node, ...]


class MicroArchitecture(TwoCells[Operation]):
    """One member of the micro space: the nodes of both cells."""


def loose_items(nodes: Nodes) -> tuple[int, ...]:
    """Return the items of a cell that no node picks, ascending: they make its output."""
    used = {item for node in nodes for item in node.inputs}
    return tuple(item for item in range(NUM_INPUTS + len(nodes)) if item not in used)


def reduction_cells(num_layers: int) -> tuple[int, int]:
    """Return the ids of the reduction cells among L + 2: L//3 and 2*(L//3) + 1."""
    third = num_layers // 3
    return third, 2 * third + 1


class MicroSpace(SearchSpace[MicroArchitecture]):
    """All pairs of cells with a number of nodes and a set of operations.

    Args:
        num_nodes: of a cell, B, at least 1.
        operations: the vocabulary, a subset of `OPERATIONS` without repetition; arc strings count within it.
        op_tanh_reduce: what the policy's tanh constant is divided by for operations.
        soft_bias: where the learned bias of the separable convolutions starts, before the tanh; the others' starts at 0.
        fixed_bias: what is added to the logits of the separable convolutions after the tanh, and taken from the others', in the
            normal cell only.
    """

    idle_choices = frozenset({"avg3x3", "max3x3", "identity"})
    why_no_mixture = "its cell puts out the nodes that no other node picks, and in a mixture every node picks every item"

    def __init__(
        self,
        num_nodes: int,
        *,
        operations: Sequence[Operation] = OPERATIONS,
        op_tanh_reduce: float = 1.0,
        soft_bias: float = 0.0,
        fixed_bias: float = 0.0,
    ) -> None:
        if num_nodes < 1:
            raise ValueError(f"num_nodes: expected at least 1, got {num_nodes}")
        unknown = [name for name in operations if name not in OPERATIONS]
        if unknown or not operations or len(set(operations)) != len(operations):
            raise ValueError(f"operations: expected distinct names out of {', '.join(OPERATIONS)}, got {list(operations)}")
        if not (op_tanh_reduce > 0 and math.isfinite(op_tanh_reduce)):
            raise ValueError(f"op_tanh_reduce: expected a number above 0, got {op_tanh_reduce}")
        for name, value in (("soft_bias", soft_bias), ("fixed_bias", fixed_bias)):
            if not math.isfinite(value):
                raise ValueError(f"{name}: expected a finite number, got {value}")
        self.name = "micro"
        self.num_nodes = num_nodes
        self.operations = tuple(operations)
        self._op = _OpPrior(self.operations, op_tanh_reduce, soft_bias, fixed_bias)
        decisions: list[Decision] = []
        steps: list[Step] = []
        for cell in CELLS:
            self._add_cell(cell, decisions, steps)
        self.decisions, self.steps = tuple(decisions), tuple(steps)

    def _add_cell(self, cell: str, decisions: list[Decision], steps: list[Step]) -> None:
        anchors = [len(steps), len(steps) + 1]
        steps += [Step(input="start", anchor="zero")] * NUM_INPUTS
        labels = ["c_k-2", "c_k-1"]
        for node in range(self.num_nodes):
            first, second, first_op, second_op, anchor = range(len(steps), len(steps) + 5)
            prefix = f"{cell}/node_{node}"
            for side, (input_step, op_step) in enumerate(((first, first_op), (second, second_op))):
                decisions += [
                    Decision(
                        name=f"{prefix}/input_{side}",
                        kind="input",
                        choices=tuple(labels),
                        vocabulary="input",
                        step=input_step,
                        anchors=tuple((step,) for step in anchors),
                    ),
                    self._op.decision(f"{prefix}/op_{side}", op_step, biased=cell == "normal"),
                ]
            steps += [
                Step(input="start"),
                Step(input="anchor"),
                Step(input="anchor"),
                Step(input="choice"),
                Step(input="choice", anchor="value"),
            ]
            anchors.append(anchor)
            labels.append(f"node_{node}")

    def decode(self, tokens: Sequence[int] | IntArray) -> MicroArchitecture:
        """Turn 8B tokens into an architecture. Raises ValueError for a wrong count or range."""
        values = iter(self.validate(tokens))

        def next_cell() -> Nodes:
            return tuple(next_node() for _ in range(self.num_nodes))

        def next_node() -> Node:
            first, first_op, second, second_op = (next(values) for _ in range(2 * SIDES))
            return Node(inputs=(first, second), operations=(self.operations[first_op], self.operations[second_op]))

        return MicroArchitecture(normal=next_cell(), reduce=next_cell())

    def encode(self, architecture: MicroArchitecture) -> tuple[int, ...]:
        """Turn an architecture into its tokens. Raises ValueError if it is not a member of this space."""
        self._check(architecture)
        return tuple(
            token
            for nodes in architecture.cells
            for node in nodes
            for item, operation in zip(node.inputs, node.operations, strict=True)
            for token in (item, self.operations.index(operation))
        )

    def _check(self, architecture: MicroArchitecture) -> None:
        for cell, nodes in zip(CELLS, architecture.cells, strict=True):
            if len(nodes) != self.num_nodes:
                raise ValueError(f"{cell}: expected {self.num_nodes} nodes, got {len(nodes)}")
            for index, node in enumerate(nodes):
                where, most = f"{cell}/node_{index}", NUM_INPUTS + index - 1
                if len(node.inputs) != SIDES or any(not 0 <= item <= most for item in node.inputs):
                    raise ValueError(f"{where}: expected two inputs in 0..{most}, got {list(node.inputs)}")
                if len(node.operations) != SIDES or any(operation not in self.operations for operation in node.operations):
                    raise ValueError(
                        f"{where}: expected two operations out of {', '.join(self.operations)}, got {list(node.operations)}"
                    )

    def from_json(self, data: dict[str, Any]) -> MicroArchitecture:
        """Read `MicroArchitecture.to_json`. Raises ValueError naming what does not fit."""
        architecture = MicroArchitecture(**read_cells(data, space=self.name))
        self._check(architecture)
        return architecture

    def to_text(self, architecture: MicroArchitecture) -> str:
        """Return the authors' arc string, a line a cell, as in `scripts/cifar10_micro_final.sh`."""
        tokens = self.encode(architecture)
        half = len(tokens) // 2
        return "\n".join(" ".join(map(str, line)) for line in (tokens[:half], tokens[half:]))

    def smallest(self) -> MicroArchitecture:
        """Return the cheapest operation everywhere and a single loose item in each cell; the least tokens of those.

        Multiply-adds count first, then parameters; an identity is cheaper than a pooling, which has neither but adds or compares.
        """
        cheapest = min(self.operations, key=_COST_RANK.__getitem__)
        picks = _picks_that_leave_one(self.num_nodes)
        nodes = tuple(Node(inputs=pair, operations=(cheapest, cheapest)) for pair in picks)
        return MicroArchitecture(normal=nodes, reduce=nodes)

    def largest(self) -> MicroArchitecture:
        """Return the most expensive operation everywhere and as many loose items as can be: every node reads input 1."""
        dearest = max(reversed(self.operations), key=_COST_RANK.__getitem__)
        nodes = (Node(inputs=(1, 1), operations=(dearest, dearest)),) * self.num_nodes
        return MicroArchitecture(normal=nodes, reduce=nodes)

    def graph(self, architecture: MicroArchitecture) -> CellGraph:
        """Return the drawing: both cells, a block a node."""
        self._check(architecture)
        names = ("normal cell", "reduction cell")
        drawn = (
            draw_cell(name, nodes, outputs=loose_items(nodes)) for name, nodes in zip(names, architecture.cells, strict=True)
        )
        return CellGraph(cells=tuple(drawn))


@dataclass(frozen=True)
class _OpPrior:
    """What a policy is told about operations before it learns; see `MicroSpace`."""

    operations: tuple[Operation, ...]
    tanh_reduce: float
    soft_bias: float
    fixed_bias: float

    def decision(self, name: str, step: int, *, biased: bool) -> Decision:
        """Return the decision about an operation."""
        return Decision(
            name=name,
            kind="op",
            choices=self.operations,
            vocabulary="op",
            step=step,
            bias=self._per_operation(self.fixed_bias, -self.fixed_bias) if biased and self.fixed_bias else (),
            learned_bias=self._per_operation(self.soft_bias, 0.0),
            tanh_reduce=self.tanh_reduce,
        )

    def _per_operation(self, separable: float, other: float) -> tuple[float, ...]:
        return tuple(separable if operation.startswith("sep") else other for operation in self.operations)


def _picks_that_leave_one(num_nodes: int) -> list[tuple[int, int]]:
    """Return the two items that each node picks so that only the last node stays loose, with the least tokens of all such picks.

    Each node takes the smallest item with which those below it and the nodes to come can still take everything that is left.
    """
    last = NUM_INPUTS + num_nodes - 1
    untaken = set(range(last))
    picks = []
    for node in range(num_nodes):
        chosen = []
        for side in range(SIDES):
            slots_after = SIDES * (num_nodes - node) - side - 1
            is_enough = len(untaken) <= slots_after
            known = NUM_INPUTS + node
            item = 0 if is_enough else min(item for item in untaken if item < known)
            untaken.discard(item)
            chosen.append(item)
        picks.append((chosen[0], chosen[1]))
    return picks


@dataclass(frozen=True, kw_only=True)
class MicroConfig(ChildConfig):
    """The micro space and its network; defaults are the authors' CIFAR-10 search."""

    num_layers: int = 6
    """Normal cells L, at least 1; two reduction cells come on top, as cells L//3 and 2*(L//3) + 1."""
    num_nodes: int = 5
    """Nodes B of a cell, at least 1."""
    filters: int = 20
    """Channels of the first cells, at least 2, doubled by each reduction; the stem has three times as many."""
    keep_prob: float = 0.9
    """Probability of keeping a feature before the classifier (dropout), in (0, 1]."""
    aux_head: bool = True
    """Whether a second classifier after the last reduction helps training; no measurement reads it."""
    operations: tuple[Operation, ...] = OPERATIONS
    """Operations that a node may pick."""
    final: Literal["searched", "authors"] = "searched"
    """Which network an architecture stands for: the one that was searched, or what the authors' code trains at the end: reduction
    cells with operations of stride 2, loose items concatenated without a 1x1 convolution behind them, and a 1x1 convolution on
    each cell's newer input. Only `searched` can be searched."""
    op_tanh_reduce: float = 2.5
    """What the policy's tanh constant is divided by for operations."""
    soft_bias: float = 10.0
    """Where the policy's learned bias of separable convolutions starts, before the tanh; the other operations' starts at 0."""
    fixed_bias: float = 0.25
    """Added to the policy's logits of separable convolutions in the normal cell, and taken from the other operations'."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        self.make_space()
        for name in ("num_layers", "filters"):
            least = 1 if name == "num_layers" else 2
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0 < self.keep_prob <= 1:
            raise ValueError(f"keep_prob: expected a probability in (0, 1], got {self.keep_prob}")
        if self.final not in ("searched", "authors"):
            raise ValueError(f"final: expected searched or authors, got {self.final!r}")

    def make_space(self) -> MicroSpace:
        """Return the search space."""
        return MicroSpace(
            self.num_nodes,
            operations=self.operations,
            op_tanh_reduce=self.op_tanh_reduce,
            soft_bias=self.soft_bias,
            fixed_bias=self.fixed_bias,
        )

    def make_child(
        self, *, input_shape: tuple[int, ...], num_classes: int, architecture: MicroArchitecture | None = None
    ) -> Child:
        """Build the supernet, or one architecture's own network. Raises ValueError for a supernet of final ones."""
        if self.final == "searched":
            from enas.children.micro import MicroChild  # torch takes seconds to import; `--help` does not need it

            return MicroChild(self, input_shape=input_shape, num_classes=num_classes, architecture=architecture)
        if architecture is None:
            raise ValueError(
                "final: expected searched, since the authors' final network is that of one architecture, got authors"
            )
        from enas.children.micro_final import AuthorsMicroChild

        return AuthorsMicroChild(self, input_shape=input_shape, num_classes=num_classes, architecture=architecture)

    def for_text(self, text: str) -> MicroConfig:
        """Return this configuration with the number of nodes of an arc string: 8B numbers. Raises ValueError."""
        count = len(text.split())
        per_node = 2 * SIDES * len(CELLS)
        if count == 0 or count % per_node:
            raise ValueError(f"micro: expected {per_node} numbers for each node (8, 16, 24, ...), got {count}")
        return replace(self, num_nodes=count // per_node)

    def rescale(self, architecture: MicroArchitecture, target: Any) -> MicroArchitecture:
        """Return the architecture itself, at any width and depth of `target`. Raises ValueError where it is no member there."""
        if not isinstance(target, MicroConfig):
            raise ValueError(f"micro: expected a micro configuration, got {type(target).__name__}")
        target.make_space().encode(architecture)
        return architecture
