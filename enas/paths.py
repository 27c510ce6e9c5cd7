"""Which architectures share a training step of the shared weights.

`controller`: the strategy's own proposals (ENAS). `uniform`: each decision uniformly, whatever the controller has learned
(random search with weight sharing, Li and Talwalkar 2019; single-path one-shot, Guo et al. 2020). `fair`: a step trains
all choices of a decision equally often, to one (strict fairness of FairNAS, Chu et al. 2021, algorithm 1). `sandwich`: the
smallest, the largest and a few uniform architectures (Yu and Huang 2019, section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from enas.seeding import derive_seed
from enas.spaces.base import SearchSpace
from enas.spaces.sampling import sample_uniform
from enas.types import Controller, IntArray, PathBatch, State

SANDWICH_PATHS = 4
"""Paths of a sandwich step unless a number is asked for: the smallest, the largest, two uniform ones (Yu and Huang 2019)."""


class PathRule(Protocol):
    """Draws the paths of each shared step.

    Attributes:
        num_paths: M, the number of paths of every step.
    """

    num_paths: int

    def draw(self) -> PathBatch:
        """Return the M paths of one step."""
        ...

    def state_dict(self) -> State:
        """Return the rule's mutable state."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class PathRuleMaker(Protocol):
    """A class of path rules, as `PATHS` holds it."""

    def __call__(self, space: SearchSpace[Any], controller: Controller, *, num_paths: int | None = None, seed: int) -> PathRule:
        """Build the rule. Raises ValueError where the space or the number of paths does not serve it."""
        ...

    def count(self, space: SearchSpace[Any], num_paths: int | None) -> int:
        """Return how many paths a step has where `num_paths` are asked for, None for the rule's own number. Raises as above."""
        ...


def _at_least(least: int, num_paths: int | None, *, otherwise: int) -> int:
    """Return how many paths are asked for, or `otherwise` for None. Raises ValueError for fewer than `least`."""
    if num_paths is not None and num_paths < least:
        raise ValueError(f"paths_per_step: expected at least {least} or None, got {num_paths}")
    return otherwise if num_paths is None else num_paths


def _averaged(tokens: IntArray) -> PathBatch:
    return PathBatch(tokens=tokens, loss_weights=np.full(len(tokens), 1 / len(tokens)))


class ControllerPaths:
    """The controller's own proposals, losses averaged (Pham et al. 2018, eq. 2). Its state is the controller's."""

    def __init__(self, space: SearchSpace[Any], controller: Controller, *, num_paths: int | None = None, seed: int) -> None:
        del seed
        self.num_paths = self.count(space, num_paths)
        self._controller = controller

    @staticmethod
    def count(space: SearchSpace[Any], num_paths: int | None) -> int:
        """Return the number asked for; 1 by default. Raises ValueError below 1."""
        del space
        return _at_least(1, num_paths, otherwise=1)

    def draw(self) -> PathBatch:
        """Return the paths of one step."""
        return _averaged(self._controller.propose(self.num_paths).tokens)

    def state_dict(self) -> State:
        """Return nothing: the controller saves its own generator."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""


class _DrawnPaths:
    """Paths from a generator of their own, which is the rule's state."""

    def __init__(self, space: SearchSpace[Any], *, num_paths: int, seed: int) -> None:
        self.num_paths = num_paths
        self._space = space
        self._rng = np.random.default_rng(seed)

    def state_dict(self) -> State:
        """Return the generator's state."""
        return {"rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the generator's state."""
        self._rng.bit_generator.state = state["rng"]


class UniformPaths(_DrawnPaths):
    """Uniform paths, losses averaged."""

    def __init__(self, space: SearchSpace[Any], controller: Controller, *, num_paths: int | None = None, seed: int) -> None:
        del controller
        super().__init__(space, num_paths=self.count(space, num_paths), seed=derive_seed(seed, "uniform paths"))

    @staticmethod
    def count(space: SearchSpace[Any], num_paths: int | None) -> int:
        """Return the number asked for; 1 by default. Raises ValueError below 1."""
        del space
        return _at_least(1, num_paths, otherwise=1)

    def draw(self) -> PathBatch:
        """Return the paths of one step."""
        return _averaged(sample_uniform(self._space, self.num_paths, self._rng))


class FairPaths(_DrawnPaths):
    """K paths in which all choices of a decision occur equally often, to one; losses summed. K is the largest number of choices.

    A decision with K choices has each of them once (FairNAS, algorithm 1). One with fewer has random permutations of its choices
    one after the other, cut to K: their numbers differ by at most 1.
    """

    def __init__(self, space: SearchSpace[Any], controller: Controller, *, num_paths: int | None = None, seed: int) -> None:
        del controller
        super().__init__(space, num_paths=self.count(space, num_paths), seed=derive_seed(seed, "fair paths"))

    @staticmethod
    def count(space: SearchSpace[Any], num_paths: int | None) -> int:
        """Return K. Raises ValueError where another number is asked for."""
        most = int(space.num_choices.max())
        if num_paths not in (None, most):
            expected = f"{most}, the most choices of a decision, or None with fair"
            raise ValueError(f"paths_per_step: expected {expected}, got {num_paths}")
        return most

    def draw(self) -> PathBatch:
        """Return the paths of one step."""
        columns = [self._column(int(count)) for count in self._space.num_choices]
        return PathBatch(tokens=np.stack(columns, axis=1), loss_weights=np.ones(self.num_paths))

    def _column(self, num_choices: int) -> IntArray:
        """Return one decision's tokens, (K,)."""
        rounds = -(-self.num_paths // num_choices)
        choices = np.tile(np.arange(num_choices, dtype=np.int64), (rounds, 1))
        return self._rng.permuted(choices, axis=1).ravel()[: self.num_paths]


class SandwichPaths(_DrawnPaths):
    """The smallest and the largest architecture and M - 2 uniform ones, losses averaged.

    Not covered: the paper's distillation from the largest network.
    """

    def __init__(self, space: SearchSpace[Any], controller: Controller, *, num_paths: int | None = None, seed: int) -> None:
        del controller
        super().__init__(space, num_paths=self.count(space, num_paths), seed=derive_seed(seed, "sandwich paths"))
        self._ends = np.array([space.encode(space.smallest()), space.encode(space.largest())], dtype=np.int64)  # (2, D)

    @staticmethod
    def count(space: SearchSpace[Any], num_paths: int | None) -> int:
        """Return the number asked for; `SANDWICH_PATHS` by default. Raises ValueError below 3, or for a space without sizes."""
        if num_paths is not None and num_paths < 3:
            raise ValueError(
                f"paths_per_step: expected at least 3 (smallest, largest, uniform ones) or None with sandwich, got {num_paths}"
            )
        try:
            smallest, largest = space.encode(space.smallest()), space.encode(space.largest())
        except ValueError as error:
            raise ValueError(f"paths: sandwich needs a smallest and a largest architecture, but {error}") from error
        if smallest == largest:
            raise ValueError(f"paths: sandwich needs architectures of several sizes, but {space.name} has one")
        return SANDWICH_PATHS if num_paths is None else num_paths

    def draw(self) -> PathBatch:
        """Return the paths of one step."""
        inside = sample_uniform(self._space, self.num_paths - len(self._ends), self._rng)
        return _averaged(np.concatenate([self._ends, inside]))


PATHS: dict[str, PathRuleMaker] = {
    "controller": ControllerPaths,
    "fair": FairPaths,
    "sandwich": SandwichPaths,
    "uniform": UniformPaths,
}
"""Every path rule by its name."""
