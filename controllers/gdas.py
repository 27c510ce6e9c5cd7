"""GDAS (Dong and Yang 2019, arXiv 1910.04465): one operation a place runs, drawn by Gumbel-softmax with a falling temperature.

For noise g, the soft weights are h = softmax((log softmax(alpha) + g) / tau); the largest one's operation runs with a weight of
one, and the gradient passes to h as it is (straight through, eq. 6). tau falls linearly from `tau_max` to `tau_min`.
(Authors: `search_model_gdas.py` of AutoDL-Projects.)

Departures: operations that do not run have no gradient; the authors' code adds their weights, zeros in value, to the sum of each
edge, so that the gradient of the whole output reaches them. tau falls with every step, theirs with every epoch; alpha learns
before the shared weights of a step, theirs behind them. Both take a sample of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from controllers.alphas import AlphaController
from controllers.configs import GdasConfig
from enas.seeding import derive_generator
from enas.spaces.base import SearchSpace
from enas.types import BoolArray, State


def straight_through(soft: Tensor) -> Tensor:
    """Return one for the largest entry of each row and zero for the others, exactly, with the gradient of `soft`.

    Args: soft: (R, K). Ties go to the first entry.
    """
    hard = torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


class GdasController(AlphaController):
    """Straight-through Gumbel-softmax over logits.

    Args:
        space: with mixtures.
        config: see `GdasConfig`.
        seed: of the initial logits, the proposals and the noise.
    """

    def __init__(self, space: SearchSpace[Any], config: GdasConfig, *, seed: int) -> None:
        super().__init__(space, config, seed=seed, level=config.level)
        self.config = config
        self._noise = derive_generator(seed, "gumbel")

    def temperature(self, progress: float) -> float:
        """Return tau. Args: progress: share of the steps in which alpha learns that are done, in [0, 1)."""
        return self.config.tau_max + progress * (self.config.tau_min - self.config.tau_max)

    def _mix(self, progress: float) -> tuple[Tensor, BoolArray]:
        exponential = torch.empty(self.shape, dtype=torch.float64).exponential_(generator=self._noise)
        noisy = (self.alpha.log_softmax(dim=1) - exponential.log()) / self.temperature(progress)
        weights = straight_through(noisy.softmax(dim=1))
        active: BoolArray = (weights.detach() == 1).numpy()
        return weights, active

    def state_dict(self) -> State:
        """Return the noise's generator beside what `AlphaController` has."""
        return {**super().state_dict(), "noise": self._noise.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError where another space saved it."""
        super().load_state_dict(state)
        self._noise.set_state(state["noise"])
