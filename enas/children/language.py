"""What language models have in common, whatever cell runs between them: tied embedding, variational dropout, penalties.

The embedding's matrix is the softmax' (Press and Wolf 2017, arXiv 1608.05859), which has no bias. A dropped word's row is zero
wherever it is read, not in the softmax; all other masks drop units of a sequence, the same at all of its tokens (Gal and
Ghahramani 2016, arXiv 1512.05287). Penalties are those of Merity et al. 2017 (arXiv 1708.01009), on states before dropout
(authors: `_forward` of `enas_lm/src/child.py`; values and rates are those of `enas.spaces.rnn.RnnConfig`).

Departure: states and what they are computed from stay in float32 where the precision is bfloat16, which the softmax alone uses:
hundreds of steps add up in a state.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from enas.children.base import Child, Output
from enas.children.ops import dropout_mask
from enas.devices import without_autocast
from enas.spaces.rnn import RnnConfig


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Factors of a training step, 0 or 1 / share that is kept; None where nothing is dropped.

    Attributes:
        words: (V, 1), of the embedding's rows where they are read.
        inputs: (B, H), where a token enters the cell: embedding and input dropout.
        states: (B, H), where states enter a matrix product.
        outputs: (B, H), before the softmax.
    """

    words: Tensor | None = None
    inputs: Tensor | None = None
    states: Tensor | None = None
    outputs: Tensor | None = None


class LanguageChild(Child):
    """A recurrent network that predicts the next token.

    Args:
        config: rates, penalties, range of the initial weights.
        vocabulary: V.
        units: H, of the embedding and the states.
    """

    def __init__(self, config: RnnConfig, *, vocabulary: int, units: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(vocabulary, units))

    @abstractmethod
    def run(self, inputs: Tensor, architecture: Any, carry: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the states after each token, (T, B, H), and what the next sequence starts from, without a graph.

        Args:
            inputs: (T, B, H), embedded tokens after dropout.
            architecture: a member of the space.
            carry: what this returned for the sequence before; None at the start.
            mask: `Masks.states`.
        """

    def forward(
        self, x: Tensor, architecture: Any, *, carry: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Output:
        """Predict next tokens; see `Child.forward`. Tokens int64 (B, T) give logits (B * T, V), row after row."""
        self.require_own(architecture)
        masks = self._draw_masks(len(x), generator) if self.training else Masks()
        with without_autocast(x.device):
            states, carried = self.run(self._embed(x.t(), masks), architecture, carry, masks.states)
            penalty = self._penalty(states) if self.training else None
            outputs = states if masks.outputs is None else states * masks.outputs
        logits = F.linear(outputs.transpose(0, 1).reshape(-1, outputs.shape[-1]), self.embedding)  # (B * T, V)
        return Output(logits=logits, penalty=penalty, carry=carried)

    def _draw_masks(self, num_rows: int, generator: torch.Generator | None) -> Masks:
        """Draw the masks of a step on B rows, in the order of the words, embedding, inputs, states, outputs."""
        config, (vocabulary, units) = self.config, self.embedding.shape

        def draw(rate: float, *shape: int) -> Tensor | None:
            return None if rate == 0 else dropout_mask(shape, keep_prob=1 - rate, generator=generator, like=self.embedding)

        words = draw(config.word_dropout, vocabulary, 1)
        embedded = draw(config.embedding_dropout, num_rows, units)
        entering = draw(config.input_dropout, num_rows, units)
        both = embedded * entering if embedded is not None and entering is not None else embedded
        return Masks(
            words=words,
            inputs=entering if both is None else both,
            states=draw(config.state_dropout, num_rows, units),
            outputs=draw(config.output_dropout, num_rows, units),
        )

    def _embed(self, tokens: Tensor, masks: Masks) -> Tensor:
        """Return embedded tokens after dropout, (T, B, H). Args: tokens: int64 (T, B)."""
        embedded = F.embedding(tokens, self.embedding)
        if masks.words is not None:
            embedded = embedded * F.embedding(tokens, masks.words)  # (T, B, 1)
        return embedded if masks.inputs is None else embedded * masks.inputs

    def _penalty(self, states: Tensor) -> Tensor | None:
        """Return alpha * mean(s^2) + beta * mean((s_t+1 - s_t)^2), a scalar; None where both weights are 0.

        Args: states: (T, B, H). A sequence of one token has no change.
        """
        alpha, beta = self.config.activation_penalty, self.config.slowness_penalty
        terms = [alpha * states.square().mean()] if alpha > 0 else []
        if beta > 0 and len(states) > 1:
            terms.append(beta * (states[1:] - states[:-1]).square().mean())
        return sum(terms[1:], terms[0]) if terms else None

    def example(self, count: int, *, input_shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Return random tokens, int64 (count, 1); see `Child.example`."""
        return torch.randint(len(self.embedding), (count, 1, *input_shape), generator=generator)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw all weights anew, uniform within the configured range."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -self.config.init_range, self.config.init_range, generator=generator)
