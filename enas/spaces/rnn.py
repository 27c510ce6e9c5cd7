"""The recurrent space of ENAS (Pham et al. 2018, section 2.1): what a cell computes at each token of a text.

A cell has L nodes. Node l picks an earlier node, 0 to l - 1, and a function. Node 0 is fixed: it reads the token and the cell's
state before it, through tanh. The cell's new state is the mean of the nodes 1 to L (`enas.children.rnn`).

Decisions in token order: the previous node of node 1 (there is only one), its function, the previous node of node 2, ... That is
the authors' arc string, with their numbers of functions: 0 tanh, 1 relu, 2 sigmoid, 3 identity. DARTS writes the same cells as
`Genotype(recurrent=[('tanh', 0), ...], concat=range(1, L + 1))`, which is read, too. In the policy, previous nodes have a prior
that falls with the square of their distance, and the functions' softmax is tied to their embedding (authors: `_build_sampler` of
`enas_lm/src/controller.py` in google-research).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, cast, get_args

from enas.configs import InputKind, require
from enas.spaces.base import ChildConfig, Decision, SearchSpace, Step, is_tokens, whole_number
from enas.spaces.genotypes import read_arguments, read_concat, read_edges
from enas.spaces.graph import Graph, GraphNode
from enas.types import IntArray

if TYPE_CHECKING:
    from enas.children.base import Child

Function = Literal["tanh", "relu", "sigmoid", "identity"]
FUNCTIONS: tuple[Function, ...] = get_args(Function)
"""In the authors' order: the number of a function in an arc string is its index here."""
TOKENS_PER_NODE = 2
DISTANCE_PRIOR = 6.0
"""A previous node at distance d gets -d^2 / 6 added to its logit."""


@dataclass(frozen=True)
class RnnNode:
    """A node of the cell: the earlier node that it reads, and its function."""

    previous: int
    function: Function


@dataclass(frozen=True)
class RnnArchitecture:
    """One member of the recurrent space.

    Attributes:
        nodes: nodes 1 to L; the n-th of them reads one of the nodes 0 to n - 1.
    """

    nodes: tuple[RnnNode, ...]

    def to_json(self) -> dict[str, Any]:
        """Return `{"nodes": [{"previous": 0, "function": "tanh"}, ...]}`."""
        return {"nodes": [{"previous": node.previous, "function": node.function} for node in self.nodes]}

    def to_genotype(self) -> str:
        """Return the cell as DARTS writes it."""
        pairs = [(node.function, node.previous) for node in self.nodes]
        return f"Genotype(recurrent={pairs}, concat=range(1, {len(pairs) + 1}))"


class RnnSpace(SearchSpace[RnnArchitecture]):
    """All cells with a number of nodes and a set of functions.

    Args:
        num_nodes: L, at least 1.
        functions: the vocabulary, a subset of `FUNCTIONS` without repetition; tokens count within it.
    """

    def __init__(self, num_nodes: int, *, functions: Sequence[Function] = FUNCTIONS) -> None:
        require(num_nodes >= 1, "num_nodes", "at least 1", num_nodes)
        unknown = [name for name in functions if name not in FUNCTIONS]
        sound = functions and not unknown and len(set(functions)) == len(functions)
        require(bool(sound), "functions", f"distinct names out of {', '.join(FUNCTIONS)}, at least one", list(functions))
        self.name = "rnn"
        self.num_nodes = num_nodes
        self.functions = tuple(functions)
        self.decisions, self.steps = self._decisions()

    def _decisions(self) -> tuple[tuple[Decision, ...], tuple[Step, ...]]:
        decisions: list[Decision] = []
        steps = [Step(input="none", anchor="zero")]  # node 0, which nothing is asked about
        anchors = [0]
        for node in range(1, self.num_nodes + 1):
            pointing, choosing = len(steps), len(steps) + 1
            decisions += [
                Decision(
                    name=f"node_{node}/previous",
                    kind="input",
                    choices=tuple(f"node_{earlier}" for earlier in range(node)),
                    vocabulary="previous",
                    step=pointing,
                    anchors=tuple((anchor,) for anchor in anchors),
                    bias=tuple(-((node - earlier) ** 2) / DISTANCE_PRIOR for earlier in range(node)),
                ),
                Decision(
                    name=f"node_{node}/function",
                    kind="op",
                    choices=self.functions,
                    vocabulary="function",
                    step=choosing,
                    tied=True,
                ),
            ]
            steps += [Step(input="start" if node == 1 else "choice", anchor="value"), Step(input="anchor_by_distance")]
            anchors.append(pointing)
        return tuple(decisions), tuple(steps)

    def decode(self, tokens: Sequence[int] | IntArray) -> RnnArchitecture:
        """Turn 2L tokens into an architecture. Raises ValueError for a wrong count or range."""
        values = self.validate(tokens)
        pairs = zip(values[::TOKENS_PER_NODE], values[1::TOKENS_PER_NODE], strict=True)
        return RnnArchitecture(tuple(RnnNode(previous, self.functions[function]) for previous, function in pairs))

    def encode(self, architecture: RnnArchitecture) -> tuple[int, ...]:
        """Turn an architecture into its tokens. Raises ValueError if it is not a member of this space."""
        self._check(architecture)
        return tuple(token for node in architecture.nodes for token in (node.previous, self.functions.index(node.function)))

    def _check(self, architecture: RnnArchitecture) -> None:
        if len(architecture.nodes) != self.num_nodes:
            raise ValueError(f"rnn: expected {self.num_nodes} nodes, got {len(architecture.nodes)}")
        for index, node in enumerate(architecture.nodes, start=1):
            require(0 <= node.previous < index, f"node_{index}", f"a previous node in 0..{index - 1}", node.previous)
            known = node.function in self.functions
            require(known, f"node_{index}", f"a function out of {', '.join(self.functions)}", repr(node.function))

    def from_json(self, data: dict[str, Any]) -> RnnArchitecture:
        """Read what `to_json` wrote. Raises ValueError for anything else."""
        try:
            nodes = tuple(RnnNode(whole_number(node["previous"]), node["function"]) for node in data["nodes"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"rnn: expected nodes with a previous node and a function each, got {data!r}: {error}") from error
        architecture = RnnArchitecture(nodes)
        self._check(architecture)
        return architecture

    def from_text(self, text: str) -> RnnArchitecture:
        """Read the authors' arc string, or a DARTS genotype of a recurrent cell. Raises ValueError naming what does not fit."""
        if is_tokens(text):
            return super().from_text(text)
        architecture = RnnArchitecture(tuple(RnnNode(*pair) for pair in read_genotype(text)))
        self._check(architecture)
        return architecture

    def smallest(self) -> NoReturn:
        """Refuse: a cell costs the same whatever its nodes read and compute. Raises ValueError."""
        raise ValueError("all of the space rnn cost the same")

    largest = smallest

    def graph(self, architecture: RnnArchitecture) -> Graph:
        """Return node 0, the nodes with their functions, and their mean.

        That the mean is of all nodes is written in it: drawn, it would be the same arcs in every cell, over those that differ.
        """
        self._check(architecture)
        nodes = [GraphNode(label="node 0\ntanh", group="tanh")]
        nodes += [
            GraphNode(label=f"node {index}\n{node.function}", group=node.function)
            for index, node in enumerate(architecture.nodes, start=1)
        ]
        last = len(nodes)
        edges = {(node.previous, index) for index, node in enumerate(architecture.nodes, start=1)} | {(last - 1, last)}
        averaged = "node 1" if last == 2 else f"nodes 1-{last - 1}"
        return Graph(nodes=(*nodes, GraphNode(label=f"mean of\n{averaged}", group="output")), edges=tuple(sorted(edges)))


def read_genotype(text: str) -> list[tuple[int, Function]]:
    """Read the cell of a DARTS genotype such as `Genotype(recurrent=[('tanh', 0), ...], concat=range(1, 9))`.

    Returns: previous node and function of each node. Raises ValueError for another text, and for a cell whose output is not the
        mean of all its nodes.
    """
    expected = "numbers, or Genotype(recurrent=[('tanh', 0), ...], concat=range(1, L + 1))"
    arguments = read_arguments(text, ["recurrent", "concat"], expected=expected)
    nodes = [(item, cast(Function, operation)) for operation, item in read_edges("recurrent", arguments["recurrent"])]
    outputs = read_concat("concat", arguments["concat"])
    if len(outputs) != len(nodes) or list(outputs) != list(range(1, len(nodes) + 1)):
        raise ValueError(f"rnn: expected the mean of the nodes 1 to {len(nodes)} as output, got concat {outputs}")
    return nodes


@dataclass(frozen=True, kw_only=True)
class RnnConfig(ChildConfig):
    """The recurrent space and its language model; defaults are those of the authors' search (`enas_lm/src/child.py`)."""

    text_mark: ClassVar[str] = "recurrent"
    reads: ClassVar[InputKind] = "text"

    num_nodes: int = 8
    """Nodes L of the cell beside the fixed first one, at least 1 (the authors' published cell: 8)."""
    hidden: int = 200
    """Units of the cell and of the tied embedding."""
    functions: tuple[Function, ...] = FUNCTIONS
    """Functions that a node may pick."""
    word_dropout: float = 0.1
    """Share of the vocabulary's words whose embedding is dropped in a step (authors: drop_e)."""
    embedding_dropout: float = 0.2
    """Share of the embedding's units dropped, the same at all tokens of a sequence (drop_i)."""
    input_dropout: float = 0.75
    """Share of the units dropped once more where a token enters the cell, the same at all tokens (drop_x)."""
    state_dropout: float = 0.25
    """Share of the units dropped where states enter a matrix product, the same at all tokens and nodes (drop_l)."""
    output_dropout: float = 0.75
    """Share of the units dropped before the softmax, the same at all tokens (drop_o)."""
    activation_penalty: float = 0.0
    """Weight alpha of the mean square of the cell's states in the training loss."""
    slowness_penalty: float = 1.0
    """Weight beta of the mean square of the states' change from token to token."""
    init_range: float = 0.04
    """Initial weights are uniform within it, to either side of 0."""
    cell: Literal["searched", "lstm"] = "searched"
    """Which cell an architecture stands for: its own, or, to compare with, PyTorch's LSTM with at most as many weights. Only
    `searched` can be searched."""
    lstm_units: int | None = None
    """Units of that LSTM and of its embedding; None for as many as fit into the searched cell's number of weights."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        self.make_space()
        require(self.hidden >= 1, "hidden", "at least 1", self.hidden)
        for name in ("word_dropout", "embedding_dropout", "input_dropout", "state_dropout", "output_dropout"):
            require(0 <= getattr(self, name) < 1, name, "a share in [0, 1)", getattr(self, name))
        for name in ("activation_penalty", "slowness_penalty"):
            require(0 <= getattr(self, name) < inf, name, "a finite number of at least 0", getattr(self, name))
        require(0 < self.init_range < inf, "init_range", "a finite number above 0", self.init_range)
        require(self.cell in ("searched", "lstm"), "cell", "searched or lstm", repr(self.cell))
        units, is_lstm = self.lstm_units, self.cell == "lstm"
        require(units is None or (is_lstm and units >= 1), "lstm_units", "at least 1 or None, with --child.cell lstm", units)

    @property
    def stand_in(self) -> str | None:
        """See `ChildConfig.stand_in`."""
        return None if self.cell == "searched" else self.cell

    def make_space(self) -> RnnSpace:
        """Return the search space."""
        return RnnSpace(self.num_nodes, functions=self.functions)

    def make_child(self, *, input_shape: tuple[int, ...], num_classes: int, architecture: RnnArchitecture | None = None) -> Child:
        """Build the supernet, or one architecture's own network. Raises ValueError for a supernet of LSTMs, and for images."""
        require(input_shape == (), "data", "a text, which networks of the space rnn read", f"images of shape {input_shape}")
        if self.cell == "lstm":
            require(architecture is not None, "cell", "searched, since an LSTM stands for one architecture", self.cell)
            assert architecture is not None
            from enas.children.rnn_lstm import LstmChild  # torch takes seconds to import; `--help` does not need it

            return LstmChild(self, vocabulary=num_classes, architecture=architecture)
        from enas.children.rnn import RnnChild

        return RnnChild(self, vocabulary=num_classes, architecture=architecture)

    def for_text(self, text: str) -> RnnConfig:
        """Return this configuration with the number of nodes of an arc string or genotype. Raises ValueError."""
        if not is_tokens(text):
            return replace(self, num_nodes=len(read_genotype(text)))
        count = len(text.split())
        if count == 0 or count % TOKENS_PER_NODE:
            raise ValueError(f"rnn: expected {TOKENS_PER_NODE} numbers for each node, got {count}")
        return replace(self, num_nodes=count // TOKENS_PER_NODE)

    def rescale(self, architecture: RnnArchitecture, target: Any) -> RnnArchitecture:
        """Return the architecture itself, at any width of `target`. Raises ValueError where it is no member there."""
        if not isinstance(target, RnnConfig):
            raise ValueError(f"rnn: expected a recurrent configuration, got {type(target).__name__}")
        target.make_space().encode(architecture)
        return architecture
