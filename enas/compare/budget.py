"""What every strategy of a comparison may spend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from enas.configs import require

BudgetKind = Literal["architectures", "seconds", "simulated-seconds"]


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """What each run may spend, the same for every strategy and seed."""

    kind: BudgetKind = "architectures"
    """What is counted: architectures measured for a reward; seconds of the search by the clock, where each strategy takes as many
    steps as fit; or, with --table, simulated-seconds that training the measured architectures would have taken."""
    amount: float | None = None
    """How much of it; None for what the schedule says, in architectures."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(self.kind in get_args(BudgetKind), "budget.kind", f"one of {', '.join(get_args(BudgetKind))}", repr(self.kind))
        require(self.amount is None or 0 < self.amount < float("inf"), "budget.amount", "a number above 0", self.amount)
        needs = self.kind != "architectures" and self.amount is None
        require(not needs, "budget.amount", f"a number of {self.kind}", "none")
        is_whole = self.kind != "architectures" or self.amount is None or self.amount == int(self.amount)
        require(is_whole, "budget.amount", "a whole number of architectures", self.amount)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A budget whose amount is known.

    Attributes:
        kind: what is counted.
        amount: how much of it, above 0.
    """

    kind: BudgetKind
    amount: float

    def in_words(self) -> str:
        """Return `12,000 simulated seconds`."""
        return f"{self.amount:,.10g} {self.kind.replace('-', ' ')}"
