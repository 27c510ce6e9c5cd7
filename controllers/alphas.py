"""What DARTS and GDAS have in common: logits alpha of a mixture's weights, from .001 * N(0, 1), learned by Adam.

Authors: `cnn/architect.py` and `_initialize_alphas` of `cnn/model_search.py` (DARTS); GDAS' search has the same settings.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from controllers.configs import AlphaConfig
from controllers.mixture import MixtureController
from controllers.product import require_shape
from enas.seeding import derive_generator
from enas.spaces.base import SearchSpace
from enas.types import BoolArray, FloatArray, Level, Order, Relaxation, State

INITIAL_DEVIATION = 1e-3


class AlphaController(MixtureController):
    """Logits and their optimizer; a subclass makes weights of them, through which the gradient flows back.

    Args:
        space: with mixtures.
        config: Adam's settings.
        seed: of the initial logits, the proposals and a subclass's noise.
        level, order: see `enas.types.GradientController`.
    """

    def __init__(self, space: SearchSpace[Any], config: AlphaConfig, *, seed: int, level: Level, order: Order = 1) -> None:
        super().__init__(space, seed=seed, level=level, order=order)
        initial = torch.randn(self.shape, generator=derive_generator(seed, "alpha"), dtype=torch.float64)
        self.alpha = nn.Parameter(INITIAL_DEVIATION * initial)
        betas = (config.adam_beta1, config.adam_beta2)
        self.optimizer = torch.optim.Adam([self.alpha], lr=config.learning_rate, betas=betas, weight_decay=config.weight_decay)
        self._latest: Tensor | None = None  # weights (R, K) of the latest mixture, with their graph; not part of the state

    @abstractmethod
    def _mix(self, progress: float) -> tuple[Tensor, BoolArray]:
        """Return the weights (R, K) of a mixture as a function of `alpha`, and which operations are active."""

    @property
    def probabilities(self) -> FloatArray:
        """The softmax of the logits, (R, K)."""
        weights: FloatArray = self.alpha.detach().softmax(dim=1).numpy()
        return weights

    def relax(self, progress: float) -> Relaxation:
        """Return the mixture of the next training step."""
        self._latest, active = self._mix(progress)
        return Relaxation(weights=self._latest.detach().numpy().copy(), active=active)

    def _learn(self, gradient: FloatArray) -> None:
        if self._latest is None:
            raise ValueError("expected a gradient for the mixture that relax returned last, got a second one, or one before it")
        latest, self._latest = self._latest, None
        self.optimizer.zero_grad(set_to_none=True)
        latest.backward(torch.from_numpy(np.asarray(gradient, dtype=np.float64)))  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def state_dict(self) -> State:
        """Return the logits and Adam's moments beside what `MixtureController` has."""
        state = super().state_dict()
        return {**state, "alpha": self.alpha.detach().clone(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError where another space saved it."""
        require_shape("alpha", state["alpha"], self.shape)
        super().load_state_dict(state)
        with torch.no_grad():
            self.alpha.copy_(state["alpha"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._latest = None
