"""Which architectures share a training step of the shared weights.

`controller`: the strategy's own proposals (ENAS). `uniform`: each decision uniformly, whatever the controller has learned
(random search with weight sharing, Li and Talwalkar 2019; single-path one-shot, Guo et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from enas.seeding import derive_seed
from enas.spaces.base import SearchSpace
from enas.spaces.sampling import sample_uniform
from enas.types import Controller, IntArray, PathBatch, State


class PathRule(Protocol):
    """Draws the paths of each shared step."""

    def draw(self, num_paths: int) -> PathBatch:
        """Return the paths of one step."""
        ...

    def state_dict(self) -> State:
        """Return the rule's mutable state."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


def _averaged(tokens: IntArray) -> PathBatch:
    return PathBatch(tokens=tokens, loss_weights=np.full(len(tokens), 1 / len(tokens)))


class ControllerPaths:
    """The controller's own proposals, losses averaged (Pham et al. 2018, eq. 2). Its state is the controller's."""

    def __init__(self, space: SearchSpace[Any], controller: Controller, *, seed: int) -> None:
        del space, seed
        self._controller = controller

    def draw(self, num_paths: int) -> PathBatch:
        """Return the paths of one step."""
        return _averaged(self._controller.propose(num_paths).tokens)

    def state_dict(self) -> State:
        """Return nothing: the controller saves its own generator."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""


class UniformPaths:
    """Uniform paths, losses averaged."""

    def __init__(self, space: SearchSpace[Any], controller: Controller, *, seed: int) -> None:
        del controller
        self._space = space
        self._rng = np.random.default_rng(derive_seed(seed, "uniform paths"))

    def draw(self, num_paths: int) -> PathBatch:
        """Return the paths of one step."""
        return _averaged(sample_uniform(self._space, num_paths, self._rng))

    def state_dict(self) -> State:
        """Return the generator's state."""
        return {"rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the generator's state."""
        self._rng.bit_generator.state = state["rng"]


PATHS: dict[str, Callable[..., PathRule]] = {
    "controller": ControllerPaths,
    "uniform": UniformPaths,
}
"""Every path rule by its name; called with (space, controller, seed=...)."""
