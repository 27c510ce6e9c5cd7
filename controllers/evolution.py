"""Evolution: what scored well is varied and tried again. Two kinds.

`aging`: regularized evolution (Real et al. 2019, arXiv 1802.01548, algorithm 1). The best of a random sample of the population
has a child by one mutation; the child enters, the oldest member leaves. Departures: children come in batches, all of one
population; the paper's choice among three mutations (identity, hidden state, operation) is one decision changed, all alike; some
children may be crossovers of the winners of two tournaments instead (`aging_crossover`; none by default).

`generational`: the search of SPOS (Guo et al. 2020, arXiv 1904.00420, algorithm 1). The `parents` best of the earlier parents and
of the generation just measured give the next one: half by mutation of each decision with a small probability, half by uniform
crossover. Departures: the halves are drawn child by child, so they hold on average; a mutated decision always changes; parents
are measured again (below).

Weights that move. SPOS searches a finished supernet, where a reward stays true. Here a search may run while the shared weights
are trained, on one validation minibatch, and then a stored reward is stale (the supernet has improved since) and lucky (it was
the highest of many noisy ones). In `aging` a reward dies with its member. `generational` would keep a lucky parent for ever, so
with `reevaluate_parents` a generation spends some of its evaluations on its own parents, and selection compares rewards of one
generation only. Over frozen weights and a noiseless reward, turn it off for the algorithm as published.

Both kinds propose an architecture again that was measured before, more and more often as they converge. Where rewards stay true
that is waste, and `avoid_duplicates` varies such children again.

`propose` never moves the search on, for paths of shared-weight training are drawn by it too; only `update` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from controllers.archive import Archive, as_rows, nominate
from controllers.base import ControllerConfig
from controllers.novelty import Novelty
from enas.spaces.base import SearchSpace
from enas.spaces.sampling import crossover, mutate, mutate_one, sample_uniform
from enas.types import FloatArray, IntArray, Rollout, State


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig(ControllerConfig):
    """Options of both kinds of evolution; each names the kind that reads it, where only one does."""

    kind: Literal["aging", "generational"] = "aging"
    """Regularized evolution (Real et al. 2019), or SPOS' generations (Guo et al. 2020)."""

    population: int = 50
    """Members of the aging population; evaluations of one generation. So many uniform samples start the search."""

    sample: int = 10
    """Aging: members drawn, with replacement, for each tournament. More is greedier."""

    parents: int = 10
    """Generational: the best architectures that the next generation is made from; fewer than the population."""

    aging_crossover: float = 0.0
    """Aging: share of children made by crossover of the winners of two tournaments, in [0, 1]; the others are mutants."""

    crossover_fraction: float = 0.5
    """Generational: share of children made by crossover of two parents, in [0, 1]; the others are mutants."""

    mutation_probability: float = 0.1
    """Generational: probability with which each decision of a mutant changes, in [0, 1]."""

    reevaluate_parents: bool = True
    """Generational: measure the parents anew in each generation, for shared weights that move or noisy rewards."""

    avoid_duplicates: bool = False
    """Vary children until they are architectures that were never measured, as long as the space has any; the parents that
    `reevaluate_parents` measures anew are exempt."""

    archive_size: int = 100
    """How many of the best distinct architectures are remembered as candidates beyond the population."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        for name in ("population", "sample", "parents", "archive_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("aging_crossover", "crossover_fraction", "mutation_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")
        if self.kind == "generational" and self.parents >= self.population:
            raise ValueError(f"parents: expected fewer than the population of {self.population}, got {self.parents}")

    def settles_by(self, space: SearchSpace[Any]) -> tuple[str, ...]:
        """Return the size of the population, and how greedily its kind chooses or how much it varies."""
        del space
        return ("population", "sample") if self.kind == "aging" else ("population", "parents", "mutation_probability")

    def make(self, space: SearchSpace[Any], *, seed: int) -> EvolutionController:
        """Build the controller for a space."""
        return EvolutionController(space, self, seed=seed)


class EvolutionController:
    """Propose children of the architectures that scored well.

    Args:
        space: what is searched, D decisions.
        config: the kind of evolution and its sizes.
        seed: non-negative; of the whole search.
    """

    def __init__(self, space: SearchSpace[Any], config: EvolutionConfig, *, seed: int) -> None:
        self._space = space
        self._kind = config.kind
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._population = _Aging(space, config) if config.kind == "aging" else _Generations(space, config)
        self._archive = Archive(capacity=config.archive_size, num_decisions=len(space.decisions))
        self._novelty = Novelty(space) if config.avoid_duplicates else None
        self._num_updates = 0

    def propose(self, num_architectures: int) -> Rollout:
        """Make children of the population as it is; uniform samples until the first `population` were evaluated.

        Returns: a rollout without log_prob and entropy, for evolution has no distribution in closed form.
        """
        tokens = self._children(num_architectures)
        if self._novelty is not None:
            self._novelty.renew(tokens, self._children, self._rng)
        self._population.put_parents_among(tokens, self._rng)
        return Rollout(tokens=tokens)

    def _children(self, num_children: int) -> IntArray:
        return self._population.children(num_children, self._rng)

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Take evaluated architectures, in order, into the population; any will do, not only those proposed last.

        Args:
            rollout: tokens, int64 (N, D).
            rewards: float (N,), finite.

        Returns: `population_best` and `population_mean` of the rewards; `population_distinct`, the share of members that are
            distinct, near 0 where the search has converged; `generation`, how many were finished (aging: whole turnovers).

        Raises:
            ValueError: for rewards that are not finite or do not fit the rollout; nothing changes then.
        """
        self._archive.add(rollout.tokens, rewards)
        self._population.add(rollout.tokens, rewards)
        if self._novelty is not None:
            self._novelty.add(rollout.tokens)
        self._num_updates += 1
        tokens, values = self._population.members()
        return {
            "population_best": float(values.max()),
            "population_mean": float(values.mean()),
            "population_distinct": len(np.unique(tokens, axis=0)) / len(tokens),
            "generation": float(self._population.generation),
        }

    def candidates(self, num_candidates: int) -> IntArray:
        """Return the best of the population by latest reward, then of all seen, then fresh uniform samples.

        Returns: distinct tokens, int64 (<= num_candidates, D). Disturbs no later proposal.
        """
        tokens, rewards = self._population.members()
        ranked = self._archive.best()
        if len(tokens):
            members = Archive(capacity=num_candidates, num_decisions=len(self._space.decisions))
            members.add(tokens, rewards)
            ranked = np.concatenate([members.best(), ranked])
        return nominate(self._space, ranked, num_candidates, seed=self._seed, num_updates=self._num_updates)

    def state_dict(self) -> State:
        """Return kind, seed, generator, population, archive, number of updates and, to avoid duplicates, what was measured."""
        state: State = {
            "kind": self._kind,
            "seed": self._seed,
            "rng": self._rng.bit_generator.state,
            "num_updates": self._num_updates,
            "population": self._population.state_dict(),
            "archive": self._archive.state_dict(),
        }
        return state if self._novelty is None else {**state, "measured": self._novelty.rows()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError where another kind, or another space, saved it.

        A state that was saved without `avoid_duplicates` knows of measured architectures those in population and archive.
        """
        if state["kind"] != self._kind:
            raise ValueError(f"kind: expected the state of {self._kind} evolution, got {state['kind']}")
        self._archive.load_state_dict(state["archive"])
        self._population.load_state_dict(state["population"])
        if self._novelty is not None:
            known = np.concatenate([self._archive.best(), self._population.members()[0]])
            self._novelty.load_rows(state.get("measured", known))
        self._rng.bit_generator.state = state["rng"]
        self._seed = int(state["seed"])
        self._num_updates = int(state["num_updates"])


class _Evaluated:
    """Architectures with their rewards, in the order in which they were evaluated; repeats are kept.

    Attributes: tokens: int64 (P, D). rewards: float (P,).
    """

    def __init__(self, num_decisions: int) -> None:
        self._num_decisions = num_decisions
        self.clear()

    def __len__(self) -> int:
        return len(self.rewards)

    def clear(self) -> None:
        self.tokens: IntArray = np.empty((0, self._num_decisions), dtype=np.int64)
        self.rewards: FloatArray = np.empty(0)

    def append(self, tokens: IntArray, rewards: FloatArray) -> None:
        self.tokens = np.concatenate([self.tokens, tokens])
        self.rewards = np.concatenate([self.rewards, rewards])

    def keep_youngest(self, num_kept: int) -> None:
        self.tokens, self.rewards = self.tokens[-num_kept:], self.rewards[-num_kept:]

    def state_dict(self) -> State:
        return {"tokens": self.tokens.tolist(), "rewards": self.rewards.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.tokens = as_rows(state["tokens"], self._num_decisions)
        self.rewards = np.array(state["rewards"], dtype=np.float64)


class _Aging:
    """The `population` youngest evaluations; the best of a random few has a child."""

    def __init__(self, space: SearchSpace[Any], config: EvolutionConfig) -> None:
        self._space = space
        self._config = config
        self._alive = _Evaluated(len(space.decisions))
        self._num_evaluated = 0

    @property
    def generation(self) -> int:
        return self._num_evaluated // self._config.population

    def children(self, num_children: int, rng: np.random.Generator) -> IntArray:
        if len(self._alive) < self._config.population:
            return sample_uniform(self._space, num_children, rng)
        first = self._winners(num_children, rng)
        mutants = mutate_one(self._space, first, rng)
        if not self._config.aging_crossover:
            return mutants
        is_cross = rng.random((num_children, 1)) < self._config.aging_crossover
        return np.where(is_cross, crossover(first, self._winners(num_children, rng), rng), mutants)

    def put_parents_among(self, children: IntArray, rng: np.random.Generator) -> None:
        """Do nothing: a member that is measured once dies with its reward."""

    def _winners(self, num_tournaments: int, rng: np.random.Generator) -> IntArray:
        """Return the best of `sample` random members for each tournament, (num_tournaments, D)."""
        drawn = rng.integers(len(self._alive), size=(num_tournaments, self._config.sample))
        winners: IntArray = self._alive.tokens[drawn[np.arange(num_tournaments), self._alive.rewards[drawn].argmax(axis=1)]]
        return winners

    def add(self, tokens: IntArray, rewards: FloatArray) -> None:
        self._alive.append(tokens, rewards)
        self._alive.keep_youngest(self._config.population)
        self._num_evaluated += len(rewards)

    def members(self) -> tuple[IntArray, FloatArray]:
        return self._alive.tokens, self._alive.rewards

    def state_dict(self) -> State:
        return {"alive": self._alive.state_dict(), "num_evaluated": self._num_evaluated}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._alive.load_state_dict(state["alive"])
        self._num_evaluated = int(state["num_evaluated"])


class _Generations:
    """The parents, and what was measured so far of the generation that descends from them."""

    def __init__(self, space: SearchSpace[Any], config: EvolutionConfig) -> None:
        self._space = space
        self._config = config
        self._parents = Archive(capacity=config.parents, num_decisions=len(space.decisions))
        self._measured = _Evaluated(len(space.decisions))
        self.generation = 0

    def children(self, num_children: int, rng: np.random.Generator) -> IntArray:
        parents = self._parents.best()
        if not len(parents):
            return sample_uniform(self._space, num_children, rng)
        first, second = parents[rng.integers(len(parents), size=(2, num_children))]
        mutants = mutate(self._space, first, rng, probability=self._config.mutation_probability)
        is_cross = rng.random((num_children, 1)) < self._config.crossover_fraction
        return np.where(is_cross, crossover(first, second, rng), mutants)

    def add(self, tokens: IntArray, rewards: FloatArray) -> None:
        self._measured.append(tokens, rewards)
        if len(self._measured) >= self._config.population:
            self._parents.add(self._measured.tokens, self._measured.rewards)
            self._measured.clear()
            self.generation += 1

    def members(self) -> tuple[IntArray, FloatArray]:
        """Parents first: of an architecture measured again, the latest reward comes last."""
        tokens = np.concatenate([self._parents.best(), self._measured.tokens])
        return tokens, np.concatenate([self._parents.rewards(), self._measured.rewards])

    def state_dict(self) -> State:
        return {"parents": self._parents.state_dict(), "measured": self._measured.state_dict(), "generation": self.generation}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._parents.load_state_dict(state["parents"])
        self._measured.load_state_dict(state["measured"])
        self.generation = int(state["generation"])

    def put_parents_among(self, children: IntArray, rng: np.random.Generator) -> None:
        """Replace some children in place by the parents that this generation has not measured yet.

        The evaluations left in the generation are slots, one for each such parent, and a proposal draws slots at random. So a
        generation measures all of its parents, and a single proposed path, for training, is not always the same parent.
        """
        if not self._config.reevaluate_parents or not len(self._parents):
            return
        measured = set(map(tuple, self._measured.tokens.tolist()))
        pending = [row for row in self._parents.best().tolist() if tuple(row) not in measured]
        slots = rng.permutation(self._config.population - len(self._measured))[: len(children)]
        for index in np.flatnonzero(slots < len(pending)):
            children[index] = pending[slots[index]]
