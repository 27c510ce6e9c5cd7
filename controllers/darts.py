"""DARTS (Liu et al. 2019, arXiv 1806.09055): every operation of a mixture weighs softmax(alpha), and alpha is learned by Adam.

With `bilevel` alpha descends the validation loss before each step of the shared weights, at the present weights (`order` 1) or
behind one step of theirs (`order` 2, eq. 7); with `single` the training loss, in the same backward pass as the weights.
(Authors: `cnn/train_search.py`, `cnn/architect.py`.)

Departure: validation minibatches are not augmented. Not covered: the authors' four searches with the best one kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from controllers.alphas import AlphaController
from controllers.configs import DartsStrategyConfig
from enas.spaces.base import SearchSpace
from enas.types import BoolArray


class DartsController(AlphaController):
    """Softmax over logits.

    Args:
        space: with mixtures.
        config: see `DartsStrategyConfig`.
        seed: of the initial logits and the proposals.
    """

    def __init__(self, space: SearchSpace[Any], config: DartsStrategyConfig, *, seed: int) -> None:
        super().__init__(space, config, seed=seed, level=config.level, order=config.order)

    def _mix(self, progress: float) -> tuple[Tensor, BoolArray]:
        del progress
        return self.alpha.softmax(dim=1), np.ones(self.shape, dtype=np.bool_)
