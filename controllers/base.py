"""What the settings of every strategy have in common: they say what they need of a search, and build the strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

from enas.configs import require
from enas.spaces.base import SearchSpace
from enas.types import Controller


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What a strategy may need of a search beside its space.

    Attributes:
        paths: name of the path rule.
        paths_per_step: how many architectures share a training step; None for the path rule's own number.
        kind: of the schedule.
        is_accuracy: whether the reward is accuracy alone, without limits.
    """

    paths: str
    paths_per_step: int | None
    kind: Literal["alternating", "two-stage"]
    is_accuracy: bool


class ControllerConfig(ABC):
    """The settings of a strategy; a frozen dataclass per strategy, shown as `--controller.NAME.*` on the command line."""

    def __post_init__(self) -> None:
        """Refuse words that a field does not know, and numbers that are not finite; a subclass adds its own ranges."""
        hints = get_type_hints(type(self))
        for field in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value, words = getattr(self, field.name), get_args(hints[field.name])
            if get_origin(hints[field.name]) is Literal:
                require(value in words, field.name, " or ".join(map(str, words)), repr(value))
            if isinstance(value, float):
                require(isfinite(value), field.name, "a finite number", value)

    def check_search(self, space: SearchSpace[Any], plan: SearchPlan) -> None:
        """Refuse a search that the strategy cannot serve; by default none.

        Raises: ValueError with what is expected and why.
        """
        del space, plan

    def settles_by(self, space: SearchSpace[Any]) -> tuple[str, ...]:
        """Return the names of the settings that say how soon its proposals for a space become alike; by default none."""
        del space
        return ()

    @abstractmethod
    def make(self, space: SearchSpace[Any], *, seed: int) -> Controller:
        """Build the controller for a space. Raises ValueError for a space that it cannot serve."""
