"""The recurrent cell of ENAS over a sequence: the loop over tokens and nodes, and back-propagation through it, written by hand.

Node 0 reads the token x and the state s of the token before; node n reads an earlier node. With a mask m for all tokens (Gal and
Ghahramani 2016, arXiv 1512.05287), (h, t) = (s[read] * m) W_n, and s_n = s[read] + sigmoid(t) * (f_n(h) - s[read]); node 0 adds
what x contributes to h and t, and its f is tanh. The new state is the mean of the nodes 1 to L (authors: `_rnn_fn` of
`enas_lm/src/child.py`).

What reads one item shares one product. Backwards, a node takes seven small kernels, and weights' gradients add up inside their
products. Measured on one thread (35 tokens, 64 sequences, 200 units, 8 nodes; medians of pairs): forward and backward take .89 of
the time of a plain loop with the same products, while PyTorch's own differentiation of this loop gained nothing (1.03).
Not covered: second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from enas.devices import without_autocast
from enas.spaces.rnn import Function, RnnArchitecture

_aten = torch.ops.aten

ACTIVATIONS: dict[Function, Callable[[Tensor], Tensor]] = {
    "identity": lambda h: h,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
_SLOPES: dict[Function, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda gradient, _: gradient,
    "relu": lambda gradient, value: _aten.threshold_backward(gradient, value, 0),
    "sigmoid": _aten.sigmoid_backward,
    "tanh": _aten.tanh_backward,
}
"""The gradient of h from that of f(h) and from f(h)."""


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """Which node reads what. Items are the state of the token before (0) and the nodes, the n-th of them (from 0) as n + 1.

    Attributes:
        reads: of each node, an item before it.
        functions: of each node.
    """

    reads: tuple[int, ...]
    functions: tuple[Function, ...]

    @classmethod
    def of(cls, architecture: RnnArchitecture) -> Wiring:
        """Return an architecture's wiring, with node 0 first."""
        nodes = architecture.nodes
        return cls(reads=(0, *(node.previous + 1 for node in nodes)), functions=("tanh", *(node.function for node in nodes)))

    @cached_property
    def readers(self) -> dict[int, tuple[int, ...]]:
        """The nodes that read an item, for each that is read, in order."""
        return {item: tuple(node for node, read in enumerate(self.reads) if read == item) for item in sorted(set(self.reads))}

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Of each node the item that it reads, and where its h is among the halves of that item's product; t comes next."""
        return tuple((read, 2 * self.readers[read].index(node)) for node, read in enumerate(self.reads))


def run_cell(wiring: Wiring, inputs: Tensor, state: Tensor, mask: Tensor | None, weights: Sequence[Tensor]) -> Tensor:
    """Return the states after each token, (T, B, H); all tensors are of one floating type.

    Args:
        wiring: of the cell.
        inputs: (T, B, 2H), what each token contributes to h and t of node 0.
        state: (B, H), the state before the first token; no gradient flows into it.
        mask: (B, H), factors of the states that enter products; None for ones.
        weights: of each node (H, 2H), for h and t; node 0 first.
    """
    joined = [_join([weights[node] for node in nodes]) for nodes in wiring.readers.values()]
    states: Tensor = _Loop.apply(wiring, inputs, state, mask, torch.is_grad_enabled(), *joined)
    return states


def _join(matrices: Sequence[Tensor]) -> Tensor:
    return matrices[0] if len(matrices) == 1 else torch.cat(list(matrices), dim=1)


def _masked(state: Tensor, mask: Tensor | None) -> Tensor:
    return state if mask is None else state * mask


class _Step:
    """What one token leaves behind.

    Attributes:
        items: L + 2 tensors (B, H), see `Wiring`.
        values, gates: of each node f(h) and sigmoid(t), (B, H).
    """

    def __init__(self, items: Sequence[Tensor], values: Sequence[Tensor], gates: Sequence[Tensor]) -> None:
        self.items, self.values, self.gates = items, values, gates

    def tensors(self) -> list[Tensor]:
        """Return all of them in a row, for `of`."""
        return [*self.items, *self.values, *self.gates]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> _Step:
        """Undo `tensors`."""
        count = len(tensors) // 3  # of nodes; there is one item more
        return cls(tensors[: count + 1], tensors[count + 1 : 2 * count + 1], tensors[2 * count + 1 :])


def _advance(wiring: Wiring, arrived: Tensor, state: Tensor, mask: Tensor | None, weights: dict[int, Tensor]) -> _Step:
    """Run the cell for one token. Args: arrived: (B, 2H), what the token contributes. weights: of each item's readers, joined."""
    items, values, gates = [state], [], []
    halves: dict[int, Sequence[Tensor]] = {}
    for (item, place), function in zip(wiring.places, wiring.functions, strict=True):
        if item not in halves:
            masked, matrix = _masked(items[item], mask), weights[item]
            product = torch.mm(masked, matrix) if item else torch.addmm(arrived, masked, matrix)  # (B, 2H * readers)
            halves[item] = torch.split(product, state.shape[1], dim=1)
        values.append(ACTIVATIONS[function](halves[item][place]))
        gates.append(torch.sigmoid(halves[item][place + 1]))
        items.append(torch.lerp(items[item], values[-1], gates[-1]))
    return _Step(items, values, gates)


class _Loop(torch.autograd.Function):
    """The loop over tokens; see `run_cell`. Its weights are those of each read item's readers, joined."""

    @staticmethod
    def forward(
        ctx: Any, wiring: Wiring, inputs: Tensor, state: Tensor, mask: Tensor | None, remembers: bool, *joined: Tensor
    ) -> Tensor:
        weights = dict(zip(wiring.readers, joined, strict=True))
        states, tape = [], []
        for arrived in inputs.unbind():
            step = _advance(wiring, arrived, state, mask, weights)
            nodes = step.items[2:]
            state = sum(nodes[1:], nodes[0]) / len(nodes)
            states.append(state)
            if remembers:
                tape += step.tensors()
        ctx.wiring = wiring
        ctx.num_steps = len(states)
        ctx.save_for_backward(mask, *joined, *tape)
        return torch.stack(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        num_weights = len(ctx.wiring.readers)
        mask, *saved = ctx.saved_tensors
        joined, tape = saved[:num_weights], saved[num_weights:]
        length = len(tape) // ctx.num_steps
        steps = [_Step.of(tape[start : start + length]) for start in range(0, len(tape), length)]
        with without_autocast(gradients.device):
            inputs, weights = _Backward(ctx.wiring, mask, dict(zip(ctx.wiring.readers, joined, strict=True))).run(
                steps, gradients
            )
        return None, inputs, None, None, None, *weights


class _Backward:
    """Back-propagation through the loop.

    Args:
        wiring, mask: as in `run_cell`.
        weights: of each item's readers, joined.
    """

    def __init__(self, wiring: Wiring, mask: Tensor | None, weights: dict[int, Tensor]) -> None:
        self.wiring, self.mask, self.weights = wiring, mask, weights
        self.totals = {item: torch.zeros_like(matrix) for item, matrix in weights.items()}

    def run(self, steps: Sequence[_Step], gradients: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the gradients of the inputs, (T, B, 2H), and of the joined weights.

        Args: steps: of all tokens. gradients: of the states, (T, B, H).
        """
        num_tokens, num_rows, width = gradients.shape
        inputs = gradients.new_empty(num_tokens, num_rows, 2 * width)
        products = {item: gradients.new_empty(num_rows, matrix.shape[1]) for item, matrix in self.weights.items()}
        later = torch.zeros_like(gradients[0])
        for step, gradient, arrived in zip(reversed(steps), reversed(gradients.unbind()), reversed(inputs.unbind()), strict=True):
            products[0] = arrived
            later = self._step_back(step, gradient + later, products)
        return inputs, list(self.totals.values())

    def _step_back(self, step: _Step, gradient: Tensor, products: dict[int, Tensor]) -> Tensor:
        """Return the gradient of the state before a token from that of its new state; fill `products` with those of products."""
        num_nodes = len(step.gates)
        share, nothing = gradient / (num_nodes - 1), torch.zeros_like(gradient)
        items = [nothing, nothing, *[share] * (num_nodes - 1)]  # of each item; complete once its last reader is behind
        halves = {item: torch.split(product, gradient.shape[1], dim=1) for item, product in products.items()}
        for node in range(num_nodes - 1, -1, -1):
            whole = self._through_product(node + 1, items[node + 1], step, products)
            (item, place), value, gate = self.wiring.places[node], step.values[node], step.gates[node]
            through = whole * gate
            halves[item][place].copy_(_SLOPES[self.wiring.functions[node]](through, value))
            halves[item][place + 1].copy_(_aten.sigmoid_backward((value - step.items[item]).mul_(whole), gate))
            items[item] = items[item] + whole.sub(through)
        return self._through_product(0, items[0], step, products)

    def _through_product(self, item: int, gradient: Tensor, step: _Step, products: dict[int, Tensor]) -> Tensor:
        """Return an item's gradient with what comes through its readers' product, and add up that of their weights."""
        if item not in self.weights:
            return gradient
        product = products[item]
        self.totals[item].addmm_(_masked(step.items[item], self.mask).t(), product)
        back = torch.mm(product, self.weights[item].t())
        return gradient + back if self.mask is None else torch.addcmul(gradient, back, self.mask)
