"""How many tokens back-propagation goes through in a training step on a text: not always the same number.

With sequences of one length, the same tokens would be the first of a sequence in every pass, and no gradient would ever reach
back from them (Merity et al. 2018, section 5, arXiv 1708.02182; authors: `enas_lm/src/data_utils.py` in google-research).
The authors' limit of bptt + 20 is left out: a normal number is cut off two deviations from its mean, which is nearer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from enas.configs import require

LEAST = 5
"""Tokens that a sequence has at least, if bptt is not below it and so many are left of the text."""
_CUT = 2.0  # deviations from the mean
_NUM_QUANTILES = 1_000  # that a mean is taken over


@dataclass(frozen=True, kw_only=True)
class RandomLengths:
    """Lengths are normal around bptt or, now and then, half of it, rounded down.

    Attributes:
        deviation: standard deviation before a normal number is cut off, in tokens.
        usual: probability of bptt rather than half of it, in [0, 1].
    """

    deviation: float = 5.0
    usual: float = 0.95

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(self.deviation >= 0, "deviation", "at least 0 tokens", self.deviation)
        require(0 <= self.usual <= 1, "usual", "a probability in [0, 1]", self.usual)

    def draw(self, count: int, *, bptt: int, generator: torch.Generator) -> Tensor:
        """Return so many lengths, int64 (count,). Args: generator: on the CPU."""
        chance, level = torch.rand(2, count, generator=generator, dtype=torch.float64)
        return self._at(level, base=torch.where(chance < self.usual, bptt, bptt / 2), bptt=bptt)

    def mean(self, bptt: int) -> float:
        """Return the mean length, the same in every run."""
        level = (torch.arange(_NUM_QUANTILES, dtype=torch.float64) + 0.5) / _NUM_QUANTILES
        whole, half = (self._at(level, base=torch.tensor(base), bptt=bptt).double().mean() for base in (bptt, bptt / 2))
        return float(self.usual * whole + (1 - self.usual) * half)

    def _at(self, level: Tensor, *, base: Tensor, bptt: int) -> Tensor:
        """Return lengths around `base` at levels in [0, 1) of their distribution, int64 of the levels' shape."""
        low, high = torch.special.ndtr(torch.tensor([-_CUT, _CUT], dtype=torch.float64))
        normal = torch.special.ndtri(low + level * (high - low))
        lengths: Tensor = (base + self.deviation * normal).floor().long()
        return lengths.clamp(min=min(LEAST, bptt))
