"""A space's decisions as index tensors, so that the LSTM policy answers many of them at once. Computed once per space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from enas.spaces.base import AnchorRule, Decision, InputRule, SearchSpace


@dataclass(frozen=True, kw_only=True)
class Points:
    """The attention that a group needs: P pairs of an asking output and an anchor are scored, then summed to logits.

    Attributes:
        rows: int64 (P,), the asking LSTM output, out of those that the group is given; None where there is one only.
        anchors: int64 (P,), the anchor.
        terms: each int64 (G, C), the scores that are summed to each choice's logit; none for skips, where P is G and the logits
            are [-score, score].
    """

    rows: Tensor | None
    anchors: Tensor
    terms: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """G decisions that are answered at once: same kind, vocabulary, number of choices C and reduction of the tanh constant.

    Attributes:
        columns: int64 (G,), their token columns.
        rows: int64 (G,), the LSTM output that answers each, out of those that the group is given; None where there is one only.
        points: None for op decisions.
        bias: float64 (G, C), or None where all are zero.
        tanh_reduce: what the policy's tanh constant is divided by.
    """

    vocabulary: str
    num_choices: int
    tanh_reduce: float
    columns: Tensor
    rows: Tensor | None
    points: Points | None
    bias: Tensor | None


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """A step of the space.

    Attributes:
        input, anchor: see `enas.spaces.base.Step`.
        groups: its decisions, answered from its own output alone.
        columns: their D_s token columns, group after group.
        pointed: float (D_s * C, A), row d * C + c counts how often choice c of decision d points at each earlier anchor.
        first_rows: int64 (D_s,), the row d * C of each decision.
        last_op: position in `columns` and vocabulary of the op decision that comes last in token order.
    """

    input: InputRule
    anchor: AnchorRule
    groups: tuple[Group, ...]
    columns: tuple[int, ...]
    pointed: Tensor
    first_rows: Tensor
    last_op: tuple[int, str] | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A space, prepared.

    Attributes:
        steps: one by one, for the LSTM.
        walk_order: int64 (D,), token columns step after step, group after group; `token_order` leads back.
        step_sizes, group_sizes: number of decisions of each step, and of each group of each step, in that order.
        groups: all decisions of the space, answered from the outputs of all steps, for known tokens.
        anchor_steps: int64 (A,), the steps that record an anchor.
        vocabularies: number of choices of each op vocabulary, sorted by name.
        learned_biases: initial values of the bias of those heads that have one.
        tied: the vocabularies whose head is their embedding.
        attentions: the other vocabularies, sorted.
    """

    steps: tuple[PlannedStep, ...]
    walk_order: Tensor
    token_order: Tensor
    step_sizes: list[int]
    group_sizes: list[int]
    groups: tuple[Group, ...]
    anchor_steps: Tensor
    vocabularies: dict[str, int]
    learned_biases: dict[str, tuple[float, ...]]
    tied: frozenset[str]
    attentions: tuple[str, ...]


_Member = tuple[int, Decision]  # token column, decision


def make_plan(space: SearchSpace[Any]) -> Plan:
    """Prepare a space. Raises ValueError naming the decision or step that doesn't fit the others."""
    anchor_steps = [index for index, step in enumerate(space.steps) if step.anchor != "none"]
    anchor_index = {step: anchor for anchor, step in enumerate(anchor_steps)}
    vocabularies = _vocabulary_sizes(space)
    _check(space, anchor_index)
    steps = tuple(_make_step(space, index, anchor_index) for index in range(len(space.steps)))
    walk_order = torch.tensor([column for step in steps for column in step.columns])
    everything = _grouped(enumerate(space.decisions))
    return Plan(
        steps=steps,
        walk_order=walk_order,
        token_order=walk_order.argsort(),
        step_sizes=[len(step.columns) for step in steps],
        group_sizes=[len(group.columns) for step in steps for group in step.groups],
        groups=tuple(_make_group(group, anchor_index, rows=[decision.step for _, decision in group]) for group in everything),
        anchor_steps=torch.tensor(anchor_steps, dtype=torch.int64),
        vocabularies=vocabularies,
        learned_biases=_learned_biases(space),
        tied=_tied(space),
        attentions=tuple(sorted({decision.vocabulary for decision in space.decisions if decision.kind != "op"})),
    )


def _vocabulary_sizes(space: SearchSpace[Any]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for decision in space.decisions:
        if decision.kind == "op":
            size = sizes.setdefault(decision.vocabulary, len(decision.choices))
            if size != len(decision.choices):
                raise ValueError(
                    f"{decision.name}: expected {size} choices, as others of its vocabulary, got {len(decision.choices)}"
                )
    return dict(sorted(sizes.items()))


def _learned_biases(space: SearchSpace[Any]) -> dict[str, tuple[float, ...]]:
    biases: dict[str, tuple[float, ...]] = {}
    for decision in space.decisions:
        if decision.kind == "op":
            bias = biases.setdefault(decision.vocabulary, decision.learned_bias)
            if bias != decision.learned_bias:
                raise ValueError(
                    f"{decision.name}: expected the learned bias {bias}, as others of its vocabulary, got {decision.learned_bias}"
                )
    return {vocabulary: bias for vocabulary, bias in sorted(biases.items()) if bias}


def _tied(space: SearchSpace[Any]) -> frozenset[str]:
    tied: dict[str, bool] = {}
    for decision in space.decisions:
        if decision.kind == "op" and tied.setdefault(decision.vocabulary, decision.tied) != decision.tied:
            expected = "tied" if tied[decision.vocabulary] else "not tied"
            raise ValueError(f"{decision.name}: expected {expected}, as others of its vocabulary, got tied={decision.tied}")
    return frozenset(name for name, is_tied in tied.items() if is_tied)


def _check(space: SearchSpace[Any], anchor_index: dict[int, int]) -> None:
    for decision in space.decisions:
        if not 0 <= decision.step < len(space.steps):
            raise ValueError(f"{decision.name}: expected a step in 0..{len(space.steps) - 1}, got {decision.step}")
        for anchor in (anchor for anchors in decision.anchors for anchor in anchors):
            if anchor not in anchor_index:
                raise ValueError(f"{decision.name}: step {anchor} records no anchor before step {decision.step}")
    with_op = {decision.step for decision in space.decisions if decision.kind == "op"}
    for index, step in enumerate(space.steps):
        if step.input == "none" and (index in with_op or (index and space.steps[index - 1].input != "none")):
            raise ValueError(f"step {index}: the input rule 'none' is for first steps, which answer no decision")
        if step.input == "choice" and index and index - 1 not in with_op:
            raise ValueError(f"step {index}: the input rule 'choice' must follow a step with an op decision")


def _grouped(members: Iterable[_Member]) -> list[list[_Member]]:
    def key(member: _Member) -> tuple[str, str, int, float]:
        return member[1].vocabulary, member[1].kind, len(member[1].choices), member[1].tanh_reduce

    return [list(group) for _, group in groupby(sorted(members, key=key), key=key)]


def _make_group(members: list[_Member], anchor_index: dict[int, int], *, rows: list[int] | None) -> Group:
    decisions = [decision for _, decision in members]
    num_choices = len(decisions[0].choices)
    bias = torch.tensor([decision.bias or (0.0,) * num_choices for decision in decisions], dtype=torch.float64)
    return Group(
        vocabulary=decisions[0].vocabulary,
        num_choices=num_choices,
        tanh_reduce=decisions[0].tanh_reduce,
        columns=torch.tensor([column for column, _ in members]),
        rows=None if rows is None else torch.tensor(rows),
        points=None if decisions[0].kind == "op" else _make_points(decisions, anchor_index, rows=rows),
        bias=bias if bias.any() else None,
    )


def _make_points(decisions: list[Decision], anchor_index: dict[int, int], *, rows: list[int] | None) -> Points:
    is_skip = decisions[0].kind == "skip"
    scored: list[tuple[int, int]] = []  # (row, anchor) of each score
    terms = []
    for decision, row in zip(decisions, rows or [0] * len(decisions), strict=True):
        pointed = decision.anchors[1:] if is_skip else decision.anchors
        first = len(scored)
        points = sorted({(row, anchor_index[step]) for steps in pointed for step in steps})
        scored += points
        terms.append([[first + points.index((row, anchor_index[step])) for step in steps] for steps in pointed])
    asking, anchors = torch.tensor(scored).T.contiguous()
    return Points(
        rows=None if rows is None else asking,
        anchors=anchors,
        terms=() if is_skip else tuple(torch.tensor(terms).unbind(dim=-1)),  # (G, C, K) -> K of (G, C)
    )


def _make_step(space: SearchSpace[Any], index: int, anchor_index: dict[int, int]) -> PlannedStep:
    groups = _grouped(member for member in enumerate(space.decisions) if member[1].step == index)
    members = [member for group in groups for member in group]
    ops = [(column, position) for position, (column, decision) in enumerate(members) if decision.kind == "op"]
    most = max((len(decision.choices) for _, decision in members), default=1)
    pointed = torch.zeros(len(members) * most, sum(step < index for step in anchor_index))
    for position, (_, decision) in enumerate(members):
        for choice, steps in enumerate(decision.anchors):
            for step in steps:
                pointed[position * most + choice, anchor_index[step]] += 1
    return PlannedStep(
        input=space.steps[index].input,
        anchor=space.steps[index].anchor,
        groups=tuple(_make_group(group, anchor_index, rows=None) for group in groups),
        columns=tuple(column for column, _ in members),
        pointed=pointed,
        first_rows=torch.arange(len(members)) * most,
        last_op=(max(ops)[1], members[max(ops)[1]][1].vocabulary) if ops else None,
    )
