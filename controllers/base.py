"""What the settings of every strategy have in common: they say what they need of a search, and build the strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

from enas.spaces.base import SearchSpace
from enas.types import Controller


class ControllerConfig(ABC):
    """The settings of a strategy; a frozen dataclass per strategy, shown as `--controller.NAME.*` on the command line."""

    def check_search(self, space: SearchSpace[Any], *, paths: str, kind: Literal["alternating", "two-stage"]) -> None:
        """Refuse a search that the strategy cannot serve; by default none.

        Args: space: that is searched. paths: name of the path rule. kind: of the schedule.
        Raises: ValueError with what is expected and why.
        """
        del space, paths, kind

    @abstractmethod
    def make(self, space: SearchSpace[Any], *, seed: int) -> Controller:
        """Build the controller for a space. Raises ValueError for a space that it cannot serve."""
