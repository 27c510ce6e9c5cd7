"""The recurrent network of ENAS: the supernet over all cells of a space, or the network of one cell.

See `enas.children.rnn_loop` for what a cell computes and `enas.children.language` for what is around it. Node 0 has one matrix
for the token and the state; every other node has one for each pair of a function and an earlier node, so that what a cell does
not use has no gradient (authors: `_build_params` of `enas_lm/src/child.py`).

Departures: the authors' search penalises fourth powers of the sampled matrices alone, without the first sampled node's and the
embedding; weight decay here is that of the optimizer, on all weights of a step alike. Their DropConnect (`drop_w`), whose
published rate is 0, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from enas.children.language import LanguageChild
from enas.children.rnn_loop import Wiring, run_cell
from enas.spaces.rnn import Function, RnnArchitecture, RnnConfig, RnnNode


class NodeMatrices(nn.ParameterDict):
    """The matrices of a node, (H, 2H): one for each earlier node and function that it may pick."""

    def __init__(self, picks: Iterable[RnnNode], *, units: int) -> None:
        super().__init__({self.name_of(pick): nn.Parameter(torch.empty(units, 2 * units)) for pick in picks})

    @staticmethod
    def name_of(pick: RnnNode) -> str:
        """Return the key of a matrix, such as `tanh_0`."""
        return f"{pick.function}_{pick.previous}"

    def of(self, pick: RnnNode) -> Tensor:
        """Return one of the matrices."""
        matrix: Tensor = self[self.name_of(pick)]
        return matrix


def all_picks(node: int, functions: Iterable[Function]) -> list[RnnNode]:
    """Return what node 1, 2, ... may be."""
    return [RnnNode(previous, function) for previous in range(node) for function in functions]


class RnnChild(LanguageChild):
    """The recurrent supernet, or the network of one cell.

    Args:
        config: nodes, units, functions, dropout, penalties.
        vocabulary: V.
        architecture: None for the supernet.
    """

    def __init__(self, config: RnnConfig, *, vocabulary: int, architecture: RnnArchitecture | None = None) -> None:
        super().__init__(config, vocabulary=vocabulary, units=config.hidden)
        space, units = config.make_space(), config.hidden
        if architecture is not None:
            space.encode(architecture)  # raises for an architecture of another space
        self.architecture = architecture
        self.first = nn.Parameter(torch.empty(2 * units, 2 * units))
        picks = (
            [all_picks(node, space.functions) for node in range(1, space.num_nodes + 1)]
            if architecture is None
            else [[pick] for pick in architecture.nodes]
        )
        self.nodes = nn.ModuleList(NodeMatrices(node_picks, units=units) for node_picks in picks)

    def run(
        self, inputs: Tensor, architecture: RnnArchitecture, carry: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return states (T, B, H) and the last of them; see `LanguageChild.run`."""
        units = inputs.shape[-1]
        of_token, of_state = torch.split(self.first, units)
        matrices = [node.of(pick) for node, pick in zip(self.nodes, architecture.nodes, strict=True)]  # type: ignore[operator]
        arrived = torch.matmul(inputs, of_token)  # (T, B, 2H): of all tokens at once
        start = inputs.new_zeros(inputs.shape[1:]) if carry is None else carry
        states = run_cell(Wiring.of(architecture), arrived, start, mask, [of_state, *matrices])
        return states, states[-1].detach().clone()  # a view would keep all of them alive
