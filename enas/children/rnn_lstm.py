"""The network that a searched cell is compared with: PyTorch's LSTM of one layer, between the same embedding and softmax.

Dropout of words, embedding, inputs and outputs, penalties and initial weights are those of `enas.children.language`. State
dropout is left out: PyTorch's LSTM runs over a sequence in one call, and shows no state to drop. (Merity et al. 2018, arXiv
1708.02182, drop its weights instead.)
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn

from enas.children.language import LanguageChild
from enas.spaces.rnn import RnnArchitecture, RnnConfig


def num_weights(config: RnnConfig, *, vocabulary: int) -> int:
    """Return the weights of the network of one searched cell: embedding, node 0, one matrix a node."""
    return vocabulary * config.hidden + (4 + 2 * config.num_nodes) * config.hidden**2


def fitting_units(most: int, *, vocabulary: int) -> int:
    """Return the most units with which embedding and LSTM, V * h + 8 * h^2 + 8 * h weights, are at most so many; at least 1."""
    linear = vocabulary + 8
    return max(1, (isqrt(linear**2 + 32 * most) - linear) // 16)


class LstmChild(LanguageChild):
    """An LSTM in the place of one architecture's network.

    Args:
        config: rates, penalties; `lstm_units`, or what the searched cell's weights allow.
        vocabulary: V.
        architecture: the one it stands for, which changes nothing but that no other is taken.
    """

    def __init__(self, config: RnnConfig, *, vocabulary: int, architecture: RnnArchitecture) -> None:
        units = config.lstm_units or fitting_units(num_weights(config, vocabulary=vocabulary), vocabulary=vocabulary)
        super().__init__(config, vocabulary=vocabulary, units=units)
        config.make_space().encode(architecture)  # raises for an architecture of another space
        self.architecture = architecture
        self.lstm = nn.LSTM(units, units)

    def run(
        self, inputs: Tensor, architecture: RnnArchitecture, carry: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return outputs (T, B, H) and the last h and c, (B, 2, H); see `LanguageChild.run`, but that nothing is masked."""
        del architecture, mask
        start = None if carry is None else torch.split(carry.transpose(0, 1).contiguous(), 1)  # two of (1, B, H)
        states, (h, c) = self.lstm(inputs, start)
        return states, torch.cat([h, c]).detach().transpose(0, 1)  # (2, B, H) -> (B, 2, H)
