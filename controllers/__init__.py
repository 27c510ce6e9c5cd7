"""Who proposes architectures: one file a strategy."""

from __future__ import annotations

from controllers.base import ControllerConfig
from controllers.configs import CategoricalConfig, DartsStrategyConfig, EnasConfig, GdasConfig, PpoConfig
from controllers.evolution import EvolutionConfig
from controllers.gaea import GaeaConfig
from controllers.uniform import UniformConfig

CONTROLLERS: dict[str, type[ControllerConfig]] = {
    "categorical": CategoricalConfig,
    "darts": DartsStrategyConfig,
    "enas": EnasConfig,
    "evolution": EvolutionConfig,
    "gaea": GaeaConfig,
    "gdas": GdasConfig,
    "ppo": PpoConfig,
    "uniform": UniformConfig,
}
"""Every strategy by its name: its settings, which build it."""
