from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from enas.compare.budget import Budget
from enas.compare.outcomes import History, Outcome, Study


@pytest.fixture
def make_outcome() -> Callable[..., Outcome]:
    """Return a builder of outcomes of two architectures."""

    def build(strategy: str, seed: int, value: float, **changes: Any) -> Outcome:
        history = History(
            rewards=np.array([0.5, value]),
            values=np.array([0.5, value]),
            seconds=np.array([10.0, 25.0]),
            truths=np.array([0.4, value]),
        )
        fronts = {"parameters": (np.array([100.0, 200.0]), np.array([0.5, value]))}
        values = {"history": history, "measures": {"digits test": value, "best reward": value / 2}, "machine": "a box"}
        spent = {"architectures": 2.0, "seconds": 25.0}
        return Outcome(**{"strategy": strategy, "seed": seed, "spent": spent, "fronts": fronts, **values, **changes})

    return build


@pytest.fixture
def make_study(make_outcome: Any) -> Callable[..., Study]:
    """Return a builder of studies of three strategies, values of four seeds each: one better than random, one like it."""

    def build(**changes: Any) -> Study:
        values = {
            "uniform": (0.90, 0.91, 0.92, 0.90),
            "better": (0.96, 0.97, 0.95, 0.96),
            "alike|": (0.90, 0.92, 0.91, 0.90),
        }
        outcomes = [make_outcome(name, seed, value) for name, runs in values.items() for seed, value in enumerate(runs)]
        settings = {
            "title": "three strategies",
            "facts": {"benchmark": "the same digits <for> all"},
            "strategies": dict.fromkeys(values, ""),
            "names": {"uniform": "uniform", "better": "enas", "alike|": "enas"},
            "reference": "uniform",
            "seeds": [0, 1, 2, 3],
            "budget": Budget(kind="architectures", amount=2),
            "measures": {"digits test": "test accuracy", "best reward": "the reward"},
            "outcomes": outcomes,
            "machines": ["a box"],
            "total_seconds": 100.0,
        }
        return Study(**{**settings, **changes})

    return build
