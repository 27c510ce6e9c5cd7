"""What the recurrent cell's own forward and backward pass costs beside a plain loop."""

from __future__ import annotations

import torch
from torch import Tensor

from enas.children.ops import dropout_mask
from enas.children.rnn import NodeMatrices, RnnChild
from enas.children.rnn_loop import ACTIVATIONS
from enas.measure import Side
from enas.seeding import derive_generator
from enas.spaces.rnn import RnnArchitecture
from scripts.workbench import Measured, Workbench


def rnn_plain_loop(bench: Workbench) -> Measured:
    """Time a recurrent cell forwards and backwards, and a plain loop with the same products that PyTorch differentiates.

    Both start from embedded tokens and end at the states: embedding and softmax are left out.
    """
    shared = bench.weights("rnn")
    child, space = shared.child, shared.space
    assert isinstance(child, RnnChild)
    paths, generator = bench.paths(space), derive_generator(bench.seed, "sequences")
    shape = (bench.text.train.bptt, shared.config.batch_size, child.first.shape[0] // 2)  # (T, B, H)
    inputs, gradient = (torch.randn(shape, generator=generator).to(bench.device) for _ in range(2))
    mask = dropout_mask(shape[1:], keep_prob=0.75, generator=generator, like=inputs)
    inputs.requires_grad_()

    def descend(states: Tensor) -> None:
        child.zero_grad(set_to_none=True)
        states.backward(gradient)  # type: ignore[no-untyped-call]

    def sides() -> tuple[Side, Side]:
        cell = space.decode(next(paths).tokens[0])
        return (
            lambda: descend(child.run(inputs, cell, None, mask)[0]),
            lambda: descend(plain_states(child, inputs, cell, mask)),
        )

    return bench.time_pairs(sides), ""


def plain_states(child: RnnChild, inputs: Tensor, cell: RnnArchitecture, mask: Tensor) -> Tensor:
    """Return the states of `RnnChild.run`, node after node as the cell is described. Args: inputs: (T, B, H). mask: (B, H)."""
    states, state = [], torch.zeros_like(inputs[0])
    for x in inputs:
        h, t = (torch.cat([x, state * mask], dim=1) @ child.first).chunk(2, dim=1)
        nodes = [state + torch.sigmoid(t) * (torch.tanh(h) - state)]
        for matrices, node in zip(child.nodes, cell.nodes, strict=True):
            assert isinstance(matrices, NodeMatrices)
            read = nodes[node.previous]
            h, t = ((read * mask) @ matrices.of(node)).chunk(2, dim=1)
            nodes.append(read + torch.sigmoid(t) * (ACTIVATIONS[node.function](h) - read))
        state = torch.stack(nodes[1:]).mean(dim=0)
        states.append(state)
    return torch.stack(states)
