"""Who proposes architectures: one file a strategy."""

from __future__ import annotations

from controllers.base import ControllerConfig
from controllers.configs import EnasConfig
from controllers.evolution import EvolutionConfig
from controllers.uniform import UniformConfig

CONTROLLERS: dict[str, type[ControllerConfig]] = {
    "enas": EnasConfig,
    "evolution": EvolutionConfig,
    "uniform": UniformConfig,
}
"""Every strategy by its name: its settings, which build it."""
