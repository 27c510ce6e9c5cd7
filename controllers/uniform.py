"""Random search: every architecture alike, whatever the rewards (Li and Talwalkar 2019, arXiv 1902.07638).

The yardstick for every other strategy: one that does not beat it at the same number of evaluations has learned nothing.
With paths drawn from it too it is their RS-WS, random search with weight sharing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from controllers.archive import Archive, nominate
from controllers.base import ControllerConfig
from enas.spaces.base import SearchSpace
from enas.spaces.sampling import sample_uniform
from enas.types import FloatArray, IntArray, Rollout, State


@dataclass(frozen=True, kw_only=True)
class UniformConfig(ControllerConfig):
    """Options of random search."""

    archive_size: int = 100
    """How many of the best distinct architectures are remembered as candidates for the final ranking."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        if self.archive_size < 1:
            raise ValueError(f"archive_size: expected at least 1, got {self.archive_size}")

    def make(self, space: SearchSpace[Any], *, seed: int) -> UniformController:
        """Build the controller for a space."""
        return UniformController(space, self, seed=seed)


class UniformController:
    """Propose uniform samples; remember the best by reward.

    Args:
        space: what is searched, D decisions.
        config: the size of the memory.
        seed: non-negative; of the proposals.
    """

    def __init__(self, space: SearchSpace[Any], config: UniformConfig, *, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._archive = Archive(capacity=config.archive_size, num_decisions=len(space.decisions))
        self._num_updates = 0
        self._entropy = float(np.log(space.num_choices).sum())

    def propose(self, num_architectures: int) -> Rollout:
        """Draw every decision uniformly; log_prob and entropy are those of that distribution, in nats."""
        tokens = sample_uniform(self._space, num_architectures, self._rng)
        entropy = np.full(num_architectures, self._entropy)
        return Rollout(tokens=tokens, log_prob=-entropy, entropy=entropy)

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Remember the best of the rollout; the distribution stays uniform.

        Args:
            rollout: tokens, int64 (N, D).
            rewards: float (N,), finite.

        Returns: `archive_best`, `archive_mean`: over the latest rewards of the architectures remembered.

        Raises:
            ValueError: for rewards that are not finite or do not fit the rollout.
        """
        self._archive.add(rollout.tokens, rewards)
        self._num_updates += 1
        remembered = self._archive.rewards()
        return {"archive_best": float(remembered[0]), "archive_mean": float(remembered.mean())}

    def candidates(self, num_candidates: int) -> IntArray:
        """Return the best seen, topped up with fresh uniform samples, int64 (<= num_candidates, D); disturbs no proposal."""
        best = self._archive.best(num_candidates)
        return nominate(self._space, best, num_candidates, seed=self._seed, num_updates=self._num_updates)

    def state_dict(self) -> State:
        """Return seed, generator, archive and the number of updates."""
        return {
            "seed": self._seed,
            "rng": self._rng.bit_generator.state,
            "num_updates": self._num_updates,
            "archive": self._archive.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError where another space saved it."""
        self._archive.load_state_dict(state["archive"])
        self._rng.bit_generator.state = state["rng"]
        self._seed = int(state["seed"])
        self._num_updates = int(state["num_updates"])
