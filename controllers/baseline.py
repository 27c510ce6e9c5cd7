"""What a learner from rewards does to them first: check them, and subtract their moving average."""

from __future__ import annotations

from typing import Literal

import numpy as np

from enas.types import FloatArray, Rollout

BaselineStart = Literal["zero", "first", "corrected"]


class MovingBaseline:
    """An exponential moving average of the reward.

    Args:
        decay: per evaluated architecture, in [0, 1).
        start: `zero` starts at zero and rises slowly; `first` at the first batch's mean reward; `corrected` divides the average
            from zero by the weight that rewards have in it (as Adam's averages, Kingma and Ba 2015), so that it is a weighted
            mean of the rewards from the first batch on.
        update: whether a batch's rewards are taken in `before` or `after` the average is subtracted from them.

    Attributes:
        value: the average; None before the first batch where there is none yet.
        weight: that the rewards have in it, in [0, 1]; only `corrected` reads it.
    """

    def __init__(self, *, decay: float, start: BaselineStart, update: Literal["before", "after"] = "before") -> None:
        self.value: float | None = 0.0 if start == "zero" else None
        self.weight = 0.0
        self._decay = decay
        self._is_corrected = start == "corrected"
        self._is_first = update == "before"

    def move(self, reward: float, count: int) -> float:
        """Move towards a batch's mean reward as `count` single rewards would; return the value to subtract from it."""
        old = reward if self.value is None else self.value
        decay = self._decay**count
        if self._is_corrected:
            kept, self.weight = decay * self.weight, 1 - decay * (1 - self.weight)
            self.value = (kept * old + (1 - decay) * reward) / self.weight
        else:
            self.value = decay * old + (1 - decay) * reward
        return self.value if self._is_first else old


def check_rewards(rollout: Rollout, rewards: FloatArray) -> None:
    """Refuse rewards that a learner can't learn from. Raises ValueError unless they are finite, one each, and at least one."""
    if not len(rewards) or rewards.shape != (len(rollout.tokens),):
        raise ValueError(f"rewards: expected {len(rollout.tokens)} of them, at least 1, got shape {rewards.shape}")
    if not np.isfinite(rewards).all():
        raise ValueError(f"rewards: expected finite numbers, got {rewards[~np.isfinite(rewards)][0]}")
