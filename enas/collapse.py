"""Has the policy collapsed? What its latest proposals have in common, and when a search warns of it.

Weights that are hardly trained make operations without weights look good, and a policy that believes them proposes nothing else:
ENAS' first result on NAS-Bench-201 is the cell of skip connections alone, 54.30 % on CIFAR-10 (Dong and Yang 2020). A window of
the latest measured proposals, which slides across epochs, tells two things apart:

- settled: it is nearly one architecture. Searches should end so; it is a metric and no warning.
- an alarm: the policy has settled on a degenerate architecture (`SearchSpace.degeneracy`), or it leans there: operations without
  weights are halfway, or further, from their share under uniform choices to being the only ones; a quarter of the way is enough
  where the most frequent choices make a degenerate architecture already. The first needs a policy that is free to settle: a
  `tanh_constant` of 1.5 leaves six choices 46 % of their entropy, so the second is what tells in such searches.

Nothing here changes a search. Not covered: proposals that train without being measured; whether an architecture is a good one.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from enas.configs import BatchNormMode, CollapseConfig
from enas.failures import describe
from enas.spaces.base import SearchSpace
from enas.types import IntArray, State

LEANING, COLLAPSED = 1, 2
"""Levels of an alarm."""
RECOVERY = 1.25
"""While a warning is out all limits are laxer by this factor: a policy beside a limit is not warned of again and again."""


def advise(flags: Sequence[str] = (), *, batch_norm: BatchNormMode | None = None) -> str:
    """Return what may help against an alarm.

    Args:
        flags: of the strategy, that say how soon it settles.
        batch_norm: of the rewards that the strategy learns from; None for one that learns from none.
    """
    parts = ["weights that are trained longer first (--schedule.warmup-epochs)"]
    if flags:
        parts.append(f"a strategy that settles later ({', '.join(flags)})")
    if batch_norm == "running":
        parts.append("rewards by other statistics (--shared.batch-norm batch or recalibrated)")
    return f"What may help: {'; '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """What W proposals have in common. Decisions that have a single choice do not count.

    Attributes:
        entropies: of each decision by name: the entropy of its W choices, as a fraction of that of uniform choices.
        unique_fraction: different architectures / W.
        operations: of each operation its share of all `op` choices, cells and layers together.
        idle_share: share of `op` choices without weights; None in a space that names no `idle_choices`.
        uniform_idle_share: the same under uniform choices.
        skip_share: share of `skip` decisions that are answered yes; None in a space without any.
        modal: D tokens, the most frequent choice of each decision.
    """

    entropies: Mapping[str, float]
    unique_fraction: float
    operations: Mapping[str, float]
    idle_share: float | None
    uniform_idle_share: float
    skip_share: float | None
    modal: tuple[int, ...]

    @property
    def mean_entropy(self) -> float:
        """Mean of the entropies, a fraction in [0, 1]; 0 where there is nothing to decide."""
        return float(np.mean(list(self.entropies.values()))) if self.entropies else 0.0

    @property
    def idle_excess(self) -> float:
        """How far operations without weights have come from their share under uniform choices, 0, to being the only ones, 1."""
        if self.idle_share is None or self.uniform_idle_share == 1:
            return 0.0
        return (self.idle_share - self.uniform_idle_share) / (1 - self.uniform_idle_share)


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A policy to warn of: `LEANING` or `COLLAPSED`, and the sentence that says so."""

    level: int
    sentence: str


def choice_entropy(choices: IntArray) -> float:
    """Return the entropy, nats, of how often each choice was made, int64 (W,)."""
    frequencies = np.bincount(choices) / len(choices)
    frequencies = frequencies[frequencies > 0]
    return float(-(frequencies * np.log(frequencies)).sum())


def measure_proposals(space: SearchSpace[Any], tokens: IntArray) -> Proposals:
    """Return what proposals, int64 (W, D) with W at least 1, have in common."""
    columns = [(tokens[:, index], decision) for index, decision in enumerate(space.decisions) if len(decision.choices) > 1]
    ops = [(column, decision) for column, decision in columns if decision.kind == "op"]
    skips = [column for column, decision in columns if decision.kind == "skip"]
    labels = dict.fromkeys(label for _, decision in ops for label in decision.choices)
    counts = Counter(decision.choices[token] for column, decision in ops for token in column.tolist())
    shares = {label: counts[label] / (len(ops) * len(tokens)) for label in labels}
    idle = [label for label in labels if label in space.idle_choices]
    uniform = [sum(label in space.idle_choices for label in decision.choices) / len(decision.choices) for _, decision in ops]
    return Proposals(
        entropies={decision.name: choice_entropy(column) / math.log(len(decision.choices)) for column, decision in columns},
        unique_fraction=len(np.unique(tokens, axis=0)) / len(tokens),
        operations=shares,
        idle_share=sum(shares[label] for label in idle) if idle else None,
        uniform_idle_share=float(np.mean(uniform)) if uniform else 0.0,
        skip_share=float(np.mean(skips)) if skips else None,
        modal=tuple(int(np.bincount(column).argmax()) for column in tokens.T),
    )


def is_settled(proposals: Proposals, config: CollapseConfig, *, slack: float = 1.0) -> bool:
    """Whether proposals are nearly one architecture, with limits that are laxer by the factor `slack`."""
    has_little_entropy = proposals.mean_entropy < slack * config.max_entropy
    return bool(proposals.entropies) and has_little_entropy and proposals.unique_fraction < slack * config.max_unique


def find_alarm(space: SearchSpace[Any], proposals: Proposals, config: CollapseConfig, *, slack: float = 1.0) -> Alarm | None:
    """Return what a policy with these proposals is warned of, or None; limits are laxer by the factor `slack`."""
    architecture = space.decode(proposals.modal)
    reason = space.degeneracy(architecture)
    name = describe(space, architecture)
    if reason is not None and is_settled(proposals, config, slack=slack):
        return Alarm(level=COLLAPSED, sentence=f"the policy has collapsed onto a degenerate architecture ({reason}): {name}")
    if config.idle_excess is None or proposals.idle_share is None:
        return None
    limit = config.idle_excess if reason is None else config.idle_excess / 2
    if proposals.idle_excess < limit / slack:
        return None
    share = f"{proposals.idle_share:.0%} of the proposed operations have no weights, {proposals.uniform_idle_share:.0%}"
    tail = "" if reason is None else f" ({reason})"
    return Alarm(level=LEANING, sentence=f"{share} would under uniform choices; the most frequent choices: {name}{tail}")


class CollapseMonitor:
    """The latest proposals of a search, and how serious a warning is out.

    Args:
        space: of the proposals.
        config: see `CollapseConfig`.
        advice: what a warning ends with; None for what helps any strategy.
        skip_target: the share of skip connections that the controller is pulled to, to be shown beside the share proposed; None
            where it is not.
    """

    def __init__(
        self, space: SearchSpace[Any], config: CollapseConfig, *, advice: str | None = None, skip_target: float | None = None
    ) -> None:
        self._space = space
        self._config = config
        self._advice = advise() if advice is None else advice
        self._skip_target = skip_target
        self._window: deque[list[int]] = deque(maxlen=config.window)
        self._num_proposed = 0
        self._level = 0  # of the warning that is out; stays at its highest until the policy recovers

    def add(self, tokens: IntArray) -> None:
        """Take in proposals, int64 (N, D)."""
        self._window.extend(tokens.tolist())
        self._num_proposed += len(tokens)

    def metrics(self) -> dict[str, float]:
        """Return the window's `collapse/*` and, for each operation, `operation/NAME`: its share. Needs a proposal."""
        proposals = self._measure()
        entropies = list(proposals.entropies.values()) or [0.0]
        shares = {"idle_share": proposals.idle_share, "skip_share": proposals.skip_share}
        if proposals.skip_share is not None:
            shares["skip_target"] = self._skip_target
        return {
            "collapse/entropy_min": min(entropies),
            "collapse/entropy_mean": proposals.mean_entropy,
            "collapse/unique_fraction": proposals.unique_fraction,
            **{f"collapse/{name}": share for name, share in shares.items() if share is not None},
            "collapse/settled": float(self._is_full and is_settled(proposals, self._config)),
            "collapse/alarm": float(self._alarm(proposals) is not None),
            **{f"operation/{label}": share for label, share in proposals.operations.items()},
        }

    @property
    def warning(self) -> str | None:
        """What there is to warn of now; None before the window is full."""
        alarm = self._alarm(self._measure()) if self._window else None
        return None if alarm is None else self._in_words(alarm)

    def new_warning(self) -> str | None:
        """Return the warning unless it is out already: once when the policy leans, once when it collapses, until it recovers."""
        alarm = self._alarm(self._measure())
        level = 0 if alarm is None else alarm.level
        is_new = level > self._level
        self._level = max(level, self._level) if level else 0
        return self._in_words(alarm) if alarm is not None and is_new else None

    def _in_words(self, alarm: Alarm) -> str:
        return f"after {self._num_proposed:,} measured architectures {alarm.sentence}. {self._advice}"

    def _measure(self) -> Proposals:
        return measure_proposals(self._space, np.array(self._window, dtype=np.int64))

    @property
    def _is_full(self) -> bool:
        return len(self._window) == self._config.window

    def _alarm(self, proposals: Proposals) -> Alarm | None:
        if not (self._is_full and proposals.entropies):
            return None
        return find_alarm(self._space, proposals, self._config, slack=RECOVERY if self._level else 1.0)

    def state_dict(self) -> State:
        """Return the window, the number of proposals so far and the level of the warning that is out."""
        return {"window": [list(row) for row in self._window], "num_proposed": self._num_proposed, "level": self._level}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._window = deque(([int(token) for token in row] for row in state["window"]), maxlen=self._config.window)
        self._num_proposed, self._level = state["num_proposed"], state["level"]
