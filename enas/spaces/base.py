"""A search space is a list of decisions; everything else about it follows from that list.

The action space, the LSTM policy, uniform sampling, mutation, crossover and the default drawing read `decisions` and `steps` and
need nothing else. A new space subclasses `SearchSpace`, fills the two tuples and writes `decode` and `encode`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np

from enas.configs import InputKind, require
from enas.spaces.graph import Drawing, Graph, GraphNode
from enas.types import Architecture, FloatArray, IntArray

if TYPE_CHECKING:
    from enas.children.base import Child

ArchitectureT = TypeVar("ArchitectureT", bound=Architecture)

Kind = Literal["op", "skip", "input", "pair"]
InputRule = Literal["none", "start", "choice", "anchors_mean", "anchor", "anchor_by_distance"]
AnchorRule = Literal["none", "value", "zero"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One token of an architecture.

    Attributes:
        name: unique in its space, such as `layer_3/op`.
        kind: `op` picks from a vocabulary; `skip` answers no (0) or yes (1) about one earlier layer; `input` points at one
            earlier node; `pair` at an unordered pair of them.
        choices: a label for each choice; a decision with a single choice is allowed.
        vocabulary: decisions with the same one share an embedding and a head (`op`) or an attention (the other kinds).
        step: index into the space's steps of the LSTM step that answers this decision.
        anchors: `anchors[c]` lists the earlier steps that choice c points at; empty for `op`, `((), (s,))` for a skip.
        bias: added to the logits after the tanh, one per choice; empty means none.
        learned_bias: initial values of a bias that the vocabulary's head learns, before the tanh; empty means that it has none.
            All decisions of a vocabulary have the same one. Only for `op`.
        tanh_reduce: the policy's tanh constant is divided by it for this decision.
        tied: whether the vocabulary's head is its embedding, transposed; then the same for all its decisions. Only for `op`.
    """

    name: str
    kind: Kind
    choices: tuple[str, ...]
    vocabulary: str
    step: int
    anchors: tuple[tuple[int, ...], ...] = ()
    bias: tuple[float, ...] = ()
    learned_bias: tuple[float, ...] = ()
    tanh_reduce: float = 1.0
    tied: bool = False

    def __post_init__(self) -> None:
        """Refuse a decision whose parts do not fit each other."""
        if not self.choices:
            raise ValueError(f"{self.name}: expected at least one choice, got none")
        for biases in (self.bias, self.learned_bias):
            if biases and len(biases) != len(self.choices):
                raise ValueError(f"{self.name}: expected {len(self.choices)} biases, got {len(biases)}")
        if self.learned_bias and self.kind != "op":
            raise ValueError(f"{self.name}: only an op decision has a learned bias, got {self.learned_bias} for {self.kind}")
        if self.tied and (self.kind != "op" or self.learned_bias):
            got = f"{self.kind} with {self.learned_bias}" if self.learned_bias else self.kind
            raise ValueError(f"{self.name}: expected tied=False for all but an op decision without learned bias, got {got}")
        if not self.tanh_reduce > 0:
            raise ValueError(f"{self.name}: expected a tanh_reduce above 0, got {self.tanh_reduce}")
        if self.kind == "op":
            if self.anchors:
                raise ValueError(f"{self.name}: an op decision has no anchors, got {self.anchors}")
            return
        if len(self.anchors) != len(self.choices):
            raise ValueError(f"{self.name}: expected anchors for {len(self.choices)} choices, got {len(self.anchors)}")
        expected = {"skip": (0, 1), "input": (1,) * len(self.choices), "pair": (2,) * len(self.choices)}[self.kind]
        if tuple(len(steps) for steps in self.anchors) != expected:
            raise ValueError(f"{self.name}: a {self.kind} decision needs {expected} anchors per choice, got {self.anchors}")
        if any(step >= self.step for steps in self.anchors for step in steps):
            raise ValueError(f"{self.name}: anchors must be steps before {self.step}, got {self.anchors}")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One LSTM step of a policy over the space: where its input comes from, and what it leaves behind.

    Attributes:
        input: `start`: a learned vector. `none`: the LSTM does not run; only for first steps, whose output is its initial state,
            zeros. The other rules read the choices of the step before: `choice`: the embedding of its last op choice;
            `anchors_mean`: sum of the n chosen anchors / (1 + n); `anchor`: that sum as it is; `anchor_by_distance`: each chosen
            anchor / (.1 + its distance in recorded anchors), summed.
        anchor: whether later decisions may point at this step: `value` records its output, `zero` records a zero vector as
            value (its output still answers attention), `none` records nothing.
    """

    input: InputRule
    anchor: AnchorRule = "none"


@dataclass(frozen=True, kw_only=True)
class MixedOperation:
    """A place in a network where one operation out of several stands; a mixture puts a weighted sum of all of them there.

    Attributes:
        name: unique in its space, such as `edge_0_1`.
        choices: the operations' labels; all mixed operations of a space have as many.
    """

    name: str
    choices: tuple[str, ...]


class SearchSpace(ABC, Generic[ArchitectureT]):
    """The set of architectures that a list of decisions spans.

    Attributes:
        name: the key of the space, such as `macro`.
        decisions: in token order.
        steps: the LSTM steps that answer them.
        idle_choices: labels of the `op` choices that have no weights, such as `identity`; by default none is known.
        mixed_operations: R places for mixtures of K operations, for strategies that learn by gradients; empty where networks of
            the space have no mixtures.
        why_no_mixture: the reason then, as the end of "expected a space with mixtures, but ...".
    """

    name: str
    decisions: tuple[Decision, ...]
    steps: tuple[Step, ...]
    idle_choices: frozenset[str] = frozenset()
    mixed_operations: tuple[MixedOperation, ...] = ()
    why_no_mixture: str = "its network runs one architecture at a time"

    @abstractmethod
    def decode(self, tokens: Sequence[int] | IntArray) -> ArchitectureT:
        """Turn D tokens into an architecture. Raises ValueError for a wrong count or range."""

    @abstractmethod
    def encode(self, architecture: ArchitectureT) -> tuple[int, ...]:
        """Turn an architecture into its D tokens; the inverse of `decode`."""

    @abstractmethod
    def from_json(self, data: dict[str, Any]) -> ArchitectureT:
        """Read what the architecture's `to_json` wrote. Raises ValueError for anything else."""

    def smallest(self) -> ArchitectureT:
        """Return the cheapest architecture that uses all its connections (no `none`): the fewest FLOPs, then parameters.

        Where several are left, a space says which: one that skips costs less than one that pools, say, and then tokens decide.

        Raises: ValueError unless a space overrides this: only the sandwich rule needs it.
        """
        raise ValueError(f"{self.name} names no smallest architecture")

    def largest(self) -> ArchitectureT:
        """Return the architecture with the most FLOPs (ties: parameters, then tokens).

        Raises: ValueError unless a space overrides this: only the sandwich rule needs it.
        """
        raise ValueError(f"{self.name} names no largest architecture")

    def discretize(self, weights: FloatArray) -> ArchitectureT:
        """Return the architecture that a mixture stands for: of each sum the operation with the largest weight, by and large.

        Args: weights: (R, K), finite, rows and columns as in `mixed_operations`.
        Raises: ValueError for weights that do not fit, or for a space without mixtures.
        """
        del weights
        raise ValueError(f"{self.name}: expected a space with mixtures, but {self.why_no_mixture}")

    @property
    def num_choices(self) -> IntArray:
        """int64 (D,): the number of choices of each decision."""
        return np.array([len(decision.choices) for decision in self.decisions], dtype=np.int64)

    @property
    def log10_size(self) -> float:
        """Decimal logarithm of the number of architectures."""
        return float(np.log10(self.num_choices).sum())

    def validate(self, tokens: Sequence[int] | IntArray) -> tuple[int, ...]:
        """Return the tokens as ints. Raises ValueError naming the first decision that a token does not fit."""
        values = tuple(int(token) for token in tokens)
        if len(values) != len(self.decisions):
            raise ValueError(f"{self.name}: expected {len(self.decisions)} tokens, got {len(values)}")
        for value, decision in zip(values, self.decisions, strict=True):
            if not 0 <= value < len(decision.choices):
                raise ValueError(f"{decision.name}: expected a token in 0..{len(decision.choices) - 1}, got {value}")
        return values

    def degeneracy(self, architecture: ArchitectureT) -> str | None:
        """Return why an architecture is hardly a network, in a few words; None for one that is.

        By default: no operation has weights, or it is the smallest of the space.
        """
        tokens = zip(self.encode(architecture), self.decisions, strict=True)
        operations = [decision.choices[token] for token, decision in tokens if decision.kind == "op"]
        if operations and self.idle_choices.issuperset(operations):
            return "no operation has weights"
        try:
            is_smallest = architecture == self.smallest()
        except (ValueError, NotImplementedError):  # a space may know of none
            return None
        return "the smallest of the space" if is_smallest else None

    def to_text(self, architecture: ArchitectureT) -> str:
        """Return the architecture in the format others use for this space; by default its tokens, separated by blanks."""
        return " ".join(str(token) for token in self.encode(architecture))

    def from_text(self, text: str) -> ArchitectureT:
        """Read `to_text`'s format. Raises ValueError naming what does not fit."""
        words = text.split()
        if not is_tokens(text):
            unknown = [word for word in words if not word.isdecimal()]
            raise ValueError(f"{self.name}: expected whole numbers separated by blanks, got {unknown[0]!r}")
        return self.decode([int(word) for word in words])

    def graph(self, architecture: ArchitectureT) -> Drawing:
        """Return the drawing of an architecture.

        By default a node for each step that records an anchor (plus one for the output), labelled with the op choices since the
        anchor before it, with an edge from each anchor that was pointed at.
        """
        tokens = self.encode(architecture)
        anchor_steps = [index for index, step in enumerate(self.steps) if step.anchor != "none"] or [len(self.steps) - 1]
        index_of = {step: index for index, step in enumerate(anchor_steps)}
        labels: list[list[str]] = [[] for _ in range(len(anchor_steps) + 1)]
        edges = {(index - 1, index) for index in range(1, len(anchor_steps))}
        for token, decision in zip(tokens, self.decisions, strict=True):
            node = next((i for i, step in enumerate(anchor_steps) if step >= decision.step), len(anchor_steps))
            if decision.kind == "op":
                labels[node].append(decision.choices[token])
            else:
                edges |= {(index_of[step], node) for step in decision.anchors[token]}
        if labels[-1] or any(target == len(anchor_steps) for _, target in edges):
            edges.add((len(anchor_steps) - 1, len(anchor_steps)))
        else:
            labels.pop()
        nodes = tuple(GraphNode(label="\n".join(label) or "input", group=label[0] if label else "input") for label in labels)
        return Graph(nodes=nodes, edges=tuple(sorted(edges)))


def is_tokens(text: str) -> bool:
    """Whether a text is whole numbers separated by blanks."""
    return all(word.isdecimal() for word in text.split())


def whole_number(value: object) -> int:
    """Return a number out of JSON. Raises TypeError for one that is none or not whole."""
    if type(value) is not int:
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


class ChildConfig(ABC):
    """The numbers that make a space and its network; a frozen dataclass per space, shown as `--child.*` on the command line.

    Attributes:
        text_mark: what every text of the space's architectures holds and no other space's does, so that it tells the space; empty
            where texts are numbers.
        reads: the kind of inputs that the network takes.
    """

    text_mark: ClassVar[str] = ""
    reads: ClassVar[InputKind] = "images"

    @property
    def stand_in(self) -> str | None:
        """Name of the network that is built in every architecture's place, to compare with; None where each has its own."""
        return None

    @abstractmethod
    def make_space(self) -> SearchSpace[Any]:
        """Return the search space."""

    @abstractmethod
    def make_child(self, *, input_shape: tuple[int, ...], num_classes: int, architecture: Any = None) -> Child:
        """Build the network, on PyTorch's default device.

        Args:
            input_shape: (channels, height, width) of an image; () of a token.
            num_classes: size of the logits; of a text, the size of its vocabulary.
            architecture: None for the supernet that holds every path; else the standalone network of that one architecture,
                whose state dict is a subset of the supernet's.
        """

    def require_inputs(self, kind: InputKind, *, data: str) -> None:
        """Refuse a data set of another kind than the network reads. Raises ValueError. Args: data: its name."""
        expected = f"a data set of {self.reads}, which networks of the space {self.make_space().name} read"
        require(kind == self.reads, "data", expected, f"{data}, of {kind}")

    def for_text(self, text: str) -> ChildConfig:
        """Return the configuration whose space a text is a member of, where the text tells (its depth, say); else this one."""
        del text
        return self

    def rescale(self, architecture: Any, target: Any) -> Any:
        """Translate an architecture of this configuration's space to the space of `target` (another depth).

        Raises ValueError where the space knows no such translation; the same space returns the architecture unchanged.
        """
        if target.make_space().decisions != self.make_space().decisions:
            raise ValueError(f"{self.make_space().name}: an architecture of this space can't be translated to another depth")
        return architecture
