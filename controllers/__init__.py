"""Who proposes architectures: one file a strategy."""

from __future__ import annotations

from typing import Any, Protocol

from controllers.configs import EnasConfig
from controllers.evolution import EvolutionConfig
from controllers.uniform import UniformConfig
from enas.spaces.base import SearchSpace
from enas.types import Controller


class ControllerConfig(Protocol):
    """The settings of a strategy, which build it."""

    def make(self, space: SearchSpace[Any], *, seed: int) -> Controller:
        """Build the controller for a space."""
        ...


CONTROLLERS: dict[str, type[ControllerConfig]] = {
    "enas": EnasConfig,
    "evolution": EvolutionConfig,
    "uniform": UniformConfig,
}
"""Every strategy by its name: its settings, which build it."""
