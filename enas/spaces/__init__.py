"""Search spaces, one file each; a space is a list of decisions."""

from __future__ import annotations

from enas.spaces.base import ChildConfig
from enas.spaces.macro import MacroConfig

SPACES: dict[str, type[ChildConfig]] = {
    "macro": MacroConfig,
}
"""Every space by its name: the configuration that makes the space and its network."""
