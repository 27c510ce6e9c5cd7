"""The ENAS macro space (Pham et al. 2018, section 2.3): every layer picks an operation and any set of earlier outputs to add.

Source i of a skip connection is the stem for i = 0 and the output of layer i - 1 otherwise, as `prev_layers[i]` in the authors'
`src/cifar10/general_child.py`; layer k decides about sources 0..k-1, and the output of the layer before (source k) is always its
input. Token order: op_0; op_1, skip_1,0; op_2, skip_2,0, skip_2,1; ... as in `general_controller.py`.

The authors' policy asks the anchor of layer j (its second LSTM step) about source j, although source j is the output of layer
j - 1; that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from enas.spaces.base import ChildConfig, Decision, SearchSpace, Step
from enas.spaces.graph import Graph, GraphNode
from enas.types import IntArray

if TYPE_CHECKING:
    from enas.children.base import Child

Operation = Literal["conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3"]
OPERATIONS: tuple[Operation, ...] = ("conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3")
"""In the authors' order: the digit of an operation in an arc string is its index here."""

# Order by FLOPs, then parameters; the two poolings cost the same. Holds for 4 filters and more.
_COST_RANK: dict[Operation, int] = {"avg3x3": 0, "max3x3": 0, "sep3x3": 1, "sep5x5": 2, "conv3x3": 3, "conv5x5": 4}


@dataclass(frozen=True, kw_only=True)
class MacroArchitecture:
    """One member of the macro space.

    Attributes:
        operations: one a layer.
        skips: for each layer the sorted indices of the sources that are added to its operation's output.
    """

    operations: tuple[Operation, ...]
    skips: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return `{"operations": [...], "skips": [[...], ...]}`."""
        return {"operations": list(self.operations), "skips": [list(sources) for sources in self.skips]}


class MacroSpace(SearchSpace[MacroArchitecture]):
    """All macro architectures with a number of layers and a set of operations.

    Args:
        num_layers: at least 1.
        operations: the vocabulary, a subset of `OPERATIONS` without repetition; arc strings count within it. All have weights:
            poolings begin with a 1x1 convolution, too.
    """

    def __init__(self, num_layers: int, *, operations: Sequence[Operation] = OPERATIONS) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers: expected at least 1, got {num_layers}")
        unknown = [name for name in operations if name not in OPERATIONS]
        if unknown or not operations or len(set(operations)) != len(operations):
            raise ValueError(f"operations: expected distinct names out of {', '.join(OPERATIONS)}, got {list(operations)}")
        self.name = "macro"
        self.num_layers = num_layers
        self.operations = tuple(operations)
        self.decisions = tuple(decision for layer in range(num_layers) for decision in self._layer_decisions(layer))
        self.steps = tuple(step for layer in range(num_layers) for step in _layer_steps(layer))

    def _layer_decisions(self, layer: int) -> tuple[Decision, ...]:
        op = Decision(name=f"layer_{layer}/op", kind="op", choices=self.operations, vocabulary="op", step=2 * layer)
        skips = (
            Decision(
                name=f"layer_{layer}/skip_{source}",
                kind="skip",
                choices=("no", "yes"),
                vocabulary="skip",
                step=2 * layer + 1,
                anchors=((), (2 * source + 1,)),
            )
            for source in range(layer)
        )
        return (op, *skips)

    def decode(self, tokens: Sequence[int] | IntArray) -> MacroArchitecture:
        """Turn L + L(L-1)/2 tokens into an architecture. Raises ValueError for a wrong count or range."""
        values = iter(self.validate(tokens))
        operations, skips = [], []
        for layer in range(self.num_layers):
            operations.append(self.operations[next(values)])
            skips.append(tuple(source for source in range(layer) if next(values)))
        return MacroArchitecture(operations=tuple(operations), skips=tuple(skips))

    def encode(self, architecture: MacroArchitecture) -> tuple[int, ...]:
        """Turn an architecture into its tokens. Raises ValueError if it is not a member of this space."""
        self._check(architecture)
        tokens: list[int] = []
        for layer, (operation, sources) in enumerate(zip(architecture.operations, architecture.skips, strict=True)):
            tokens.append(self.operations.index(operation))
            tokens.extend(int(source in sources) for source in range(layer))
        return tuple(tokens)

    def _check(self, architecture: MacroArchitecture) -> None:
        if len(architecture.operations) != self.num_layers or len(architecture.skips) != self.num_layers:
            raise ValueError(
                f"macro: expected {self.num_layers} operations and skip lists, "
                f"got {len(architecture.operations)} and {len(architecture.skips)}"
            )
        for layer, (operation, sources) in enumerate(zip(architecture.operations, architecture.skips, strict=True)):
            if operation not in self.operations:
                raise ValueError(f"layer {layer}: expected an operation out of {', '.join(self.operations)}, got {operation!r}")
            if any(not 0 <= source < layer for source in sources) or list(sources) != sorted(set(sources)):
                raise ValueError(f"layer {layer}: expected distinct skip sources below {layer}, sorted, got {list(sources)}")

    def from_json(self, data: dict[str, Any]) -> MacroArchitecture:
        """Read `MacroArchitecture.to_json`. Raises ValueError naming what does not fit."""
        try:
            operations = tuple(data["operations"])
            skips = tuple(tuple(sorted({int(source) for source in sources})) for sources in data["skips"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"macro: expected 'operations' (names) and 'skips' (lists of sources), got {data!r}") from error
        architecture = MacroArchitecture(operations=operations, skips=skips)
        self._check(architecture)
        return architecture

    def to_text(self, architecture: MacroArchitecture) -> str:
        """Return the authors' arc string: a line a layer, `op` and its skip bits, as in `scripts/cifar10_macro_final.sh`."""
        tokens = iter(self.encode(architecture))
        return "\n".join(" ".join(str(next(tokens)) for _ in range(layer + 1)) for layer in range(self.num_layers))

    def smallest(self) -> MacroArchitecture:
        """Return the cheapest operation everywhere (of two poolings the first token), no skips."""
        cheapest = min(self.operations, key=_COST_RANK.__getitem__)
        return MacroArchitecture(operations=(cheapest,) * self.num_layers, skips=((),) * self.num_layers)

    def largest(self) -> MacroArchitecture:
        """Return the most expensive operation everywhere (of two poolings the last token), every skip."""
        dearest = max(reversed(self.operations), key=_COST_RANK.__getitem__)
        skips = tuple(tuple(range(layer)) for layer in range(self.num_layers))
        return MacroArchitecture(operations=(dearest,) * self.num_layers, skips=skips)

    def graph(self, architecture: MacroArchitecture) -> Graph:
        """Return the drawing: stem, layers (arcs are skip connections), classifier."""
        self._check(architecture)
        layers = [
            GraphNode(label=f"{layer}\n{operation}", group=operation) for layer, operation in enumerate(architecture.operations)
        ]
        nodes = (GraphNode(label="stem", group="stem"), *layers, GraphNode(label="classifier", group="output"))
        chain = {(index, index + 1) for index in range(len(nodes) - 1)}
        skips = {(source, layer + 1) for layer, sources in enumerate(architecture.skips) for source in sources}
        return Graph(nodes=nodes, edges=tuple(sorted(chain | skips)))


def _layer_steps(layer: int) -> tuple[Step, Step]:
    """Start layers 0 and 1 from the learned vector and later ones from the mean of the skips chosen before, as the authors do."""
    return (
        Step(input="start" if layer < 2 else "anchors_mean"),
        Step(input="choice", anchor="value"),
    )


def deepen(architecture: MacroArchitecture, num_layers: int) -> MacroArchitecture:
    """Stretch an architecture to more layers: each layer becomes a run of copies of itself.

    The first copy of a layer keeps its skips, each from the last copy of its old source; further copies only follow the chain.
    ENAS' own 24-layer network was searched apart from the 12-layer one, so this rule is the project's.

    Args: num_layers: at least the architecture's own number.
    Raises: ValueError for fewer.
    """
    old = len(architecture.operations)
    if num_layers < old:
        raise ValueError(f"num_layers: expected at least the architecture's {old}, got {num_layers}")
    origin = [new * old // num_layers for new in range(num_layers)]
    last_copy = {layer: index for index, layer in enumerate(origin)}
    source_of = {0: 0} | {layer + 1: index + 1 for layer, index in last_copy.items()}
    skips = tuple(
        () if index and origin[index - 1] == layer else tuple(source_of[source] for source in architecture.skips[layer])
        for index, layer in enumerate(origin)
    )
    return MacroArchitecture(operations=tuple(architecture.operations[layer] for layer in origin), skips=skips)


@dataclass(frozen=True, kw_only=True)
class MacroConfig(ChildConfig):
    """The macro space and its network; defaults are the authors' CIFAR-10 search."""

    num_layers: int = 12
    """Layers of the network, at least 1; factorized reductions follow layers L//3 - 1 and 2*(L//3) - 1 (none below 3)."""
    filters: int = 36
    """Channels of every layer, at least 2."""
    keep_prob: float = 0.9
    """Probability of keeping a feature before the classifier (dropout), in (0, 1]."""
    double_filters: bool = False
    """Double the channels at each reduction, as the authors' final networks do."""
    operations: tuple[Operation, ...] = OPERATIONS
    """Operations a layer may pick."""
    final: Literal["searched", "authors", "authors-separable"] = "searched"
    """Which network an architecture stands for: the one that was searched, or what the authors' code trains at the end, which
    concatenates skips before a 1x1 convolution instead of adding them, doubles the channels at each reduction and has no pooling.
    Their code makes full convolutions of the separable ones, which `authors-separable` keeps. Only `searched` can be searched."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        MacroSpace(self.num_layers, operations=self.operations)
        if self.filters < 2:
            raise ValueError(f"filters: expected at least 2, got {self.filters}")
        if not 0 < self.keep_prob <= 1:
            raise ValueError(f"keep_prob: expected a probability in (0, 1], got {self.keep_prob}")
        if self.final not in ("searched", "authors", "authors-separable"):
            raise ValueError(f"final: expected searched, authors or authors-separable, got {self.final!r}")

    def make_space(self) -> MacroSpace:
        """Return the search space."""
        return MacroSpace(self.num_layers, operations=self.operations)

    def make_child(
        self, *, input_shape: tuple[int, ...], num_classes: int, architecture: MacroArchitecture | None = None
    ) -> Child:
        """Build the supernet, or the standalone network of one architecture. Raises ValueError for a final supernet."""
        if self.final == "searched":
            from enas.children.macro import MacroChild  # torch takes seconds to import; `--help` does not need it

            return MacroChild(self, input_shape=input_shape, num_classes=num_classes, architecture=architecture)
        if architecture is None:
            raise ValueError(
                f"final: expected searched, since the authors' final network is that of one architecture, got {self.final}"
            )
        from enas.children.macro_final import AuthorsMacroChild

        return AuthorsMacroChild(self, input_shape=input_shape, num_classes=num_classes, architecture=architecture)

    def for_text(self, text: str) -> MacroConfig:
        """Return this configuration with the number of layers of an arc string: L (L + 1) / 2 numbers. Raises ValueError."""
        count = len(text.split())
        layers = (math.isqrt(8 * count + 1) - 1) // 2
        if count == 0 or layers * (layers + 1) // 2 != count:
            raise ValueError(f"macro: expected L (L + 1) / 2 numbers for L layers (1, 3, 6, 10, ...), got {count}")
        return replace(self, num_layers=layers)

    def rescale(self, architecture: MacroArchitecture, target: Any) -> MacroArchitecture:
        """Translate an architecture to the depth of `target`; see `deepen`."""
        if not isinstance(target, MacroConfig):
            raise ValueError(f"macro: expected a macro configuration, got {type(target).__name__}")
        return deepen(architecture, target.num_layers)
