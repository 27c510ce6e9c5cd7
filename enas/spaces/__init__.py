"""Search spaces, one file each; a space is a list of decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enas.spaces.base import ChildConfig
from enas.spaces.darts import DartsConfig
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.rnn import RnnConfig

SPACES: dict[str, type[ChildConfig]] = {
    "darts": DartsConfig,
    "macro": MacroConfig,
    "micro": MicroConfig,
    "nasbench201": NasBench201Config,
    "rnn": RnnConfig,
}
"""Every space by its name: the configuration that makes the space and its network."""


def make_child_config(space: str, values: Mapping[str, Any]) -> ChildConfig:
    """Return the configuration of a named space. Raises ValueError for an unknown space or field."""
    if space not in SPACES:
        raise ValueError(f"space: expected one of {', '.join(SPACES)}, got {space!r}")
    try:
        return SPACES[space](**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except TypeError as error:
        raise ValueError(f"child: {error}") from error
