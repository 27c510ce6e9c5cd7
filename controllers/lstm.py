"""The ENAS policy (authors: `src/cifar10/general_controller.py`) for any list of decisions.

One LSTM without biases walks the steps of a space. A step answers its `op` decisions by a linear head per vocabulary and its
other decisions by additive attention over the recorded anchors, score_j = v . tanh(W1 h_j + W2 h): an `input` choice takes its
anchor's score, a `pair` the sum of two, a `skip` has the logits [-score, score]. Then logits / temperature,
tanh_constant * tanh(logits), and the decision's own bias.

N architectures are drawn as one batch: the number of kernels does not grow with N. The policy lives on the CPU, where a step this
small is faster than its launches on an accelerator and tokens need no transfer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from enas.spaces.base import Decision, SearchSpace

INIT_RANGE = 0.1  # authors: every controller weight from U(-.1, .1)


@dataclass(frozen=True, kw_only=True)
class PolicyOutput:
    """Distributions of N architectures' decisions, each given the tokens before it.

    Attributes:
        tokens: int64 (N, D).
        logits: float (N, D, C), C the largest number of choices; -inf where a decision has fewer.
    """

    tokens: Tensor
    logits: Tensor

    @property
    def log_probs(self) -> Tensor:
        """Float (N, D, C): log-probability of each choice; -inf where there is none."""
        return self.logits.log_softmax(dim=-1)

    @property
    def log_prob(self) -> Tensor:
        """Float (N,): log-probability of each architecture."""
        return self.log_probs.gather(-1, self.tokens[..., None])[..., 0].sum(dim=-1)

    @property
    def entropy(self) -> Tensor:
        """Float (N,), nats: sum over decisions of the entropy of the distribution it was drawn from."""
        log_probs = self.log_probs
        return -(log_probs.exp() * log_probs.masked_fill(log_probs.isneginf(), 0.0)).sum(dim=(-2, -1))


class _Attention(nn.Module):
    """Additive attention; `keys` are computed once per anchor."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, 1, bias=False)

    def forward(self, keys: Tensor, h: Tensor) -> Tensor:
        """Score (N, A, H) keys against (N, H): (N, A)."""
        scores: Tensor = self.value(torch.tanh(keys + self.query(h)[:, None]))[..., 0]
        return scores


@dataclass(frozen=True)
class _Group:
    """Decisions of one step that are answered at once: same kind of head, vocabulary and number of choices.

    Attributes:
        columns: their token columns, (G,).
        scores: (G, C, A) weights of the anchors' scores in each choice's logit; None for op decisions.
        bias: (G, C).
    """

    vocabulary: str
    is_op: bool
    columns: list[int]
    num_choices: int
    scores: Tensor | None
    bias: Tensor


@dataclass(frozen=True)
class _Step:
    """A step of the space, prepared: its groups, and `pointed` (D_s, C, A), which anchors a choice of its decisions points at."""

    input: str
    anchor: str
    groups: list[_Group]
    columns: list[int]
    pointed: Tensor
    last_op: tuple[int, str] | None  # (column, vocabulary) of the last op decision


def _incidence(decision: Decision, anchor_index: dict[int, int], num_choices: int) -> Tensor:
    """Return (C, A): 1 where choice c points at recorded anchor a."""
    matrix = torch.zeros(num_choices, len(anchor_index))
    for choice, steps in enumerate(decision.anchors):
        for step in steps:
            if step not in anchor_index:
                raise ValueError(f"{decision.name}: step {step} records no anchor before step {decision.step}")
            matrix[choice, anchor_index[step]] = 1
    return matrix


def _make_group(members: Sequence[tuple[int, Decision]], anchor_index: dict[int, int]) -> _Group:
    first = members[0][1]
    num_choices = len(first.choices)
    scores = None
    if first.kind != "op":
        scores = torch.stack([_incidence(decision, anchor_index, num_choices) for _, decision in members])
        if first.kind == "skip":
            scores[:, 0] = -scores[:, 1]
    bias = torch.tensor([decision.bias or (0.0,) * num_choices for _, decision in members])
    columns = [column for column, _ in members]
    return _Group(first.vocabulary, first.kind == "op", columns, num_choices, scores, bias)


def _prepare_steps(space: SearchSpace[Any]) -> list[_Step]:
    """Group a space's decisions by step, so that sampling handles each group at once."""
    steps, anchor_index = [], dict[int, int]()
    for index, step in enumerate(space.steps):
        members = [(column, decision) for column, decision in enumerate(space.decisions) if decision.step == index]
        keyed = sorted(members, key=lambda member: (member[1].vocabulary, member[1].kind, len(member[1].choices)))
        groups = [
            _make_group(list(group), anchor_index)
            for _, group in groupby(keyed, key=lambda member: (member[1].vocabulary, member[1].kind, len(member[1].choices)))
        ]
        most = max((len(decision.choices) for _, decision in members), default=1)
        pointed = [_incidence(decision, anchor_index, most) for _, decision in members]
        ops = [(column, decision.vocabulary) for column, decision in members if decision.kind == "op"]
        steps.append(
            _Step(
                input=step.input,
                anchor=step.anchor,
                groups=groups,
                columns=[column for column, _ in members],
                pointed=torch.stack(pointed) if pointed else torch.zeros(0, 1, len(anchor_index)),
                last_op=ops[-1] if ops else None,
            )
        )
        if step.anchor != "none":
            anchor_index[index] = len(anchor_index)
    return steps


class _Walk:
    """What one pass over the steps accumulates: LSTM state, anchors, tokens, logits."""

    def __init__(self, policy: LSTMPolicy, num_architectures: int) -> None:
        weight = policy.start
        self.h = self.c = weight.new_zeros(num_architectures, policy.hidden)
        self.anchors: list[Tensor] = []  # each (N, H)
        self.keys: dict[str, list[Tensor]] = {name: [] for name in policy.attentions}
        self.tokens = torch.zeros(num_architectures, policy.num_decisions, dtype=torch.int64)
        self.logits: list[Tensor | None] = [None] * policy.num_decisions  # each (N, C), padded with -inf


class LSTMPolicy(nn.Module):
    """An autoregressive distribution over the architectures of a space.

    Args:
        space: any search space.
        hidden: LSTM units.
        tanh_constant: logits become tanh_constant * tanh(logits); None leaves them.
        temperature: logits are divided by it before the tanh.
        seed: of the initial weights, U(-.1, .1).
    """

    def __init__(
        self,
        space: SearchSpace[Any],
        *,
        hidden: int = 64,
        tanh_constant: float | None = 1.5,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.tanh_constant = tanh_constant
        self.temperature = temperature
        self.num_decisions = len(space.decisions)
        self.max_choices = int(space.num_choices.max())
        self._steps = _prepare_steps(space)
        sizes = _vocabulary_sizes(space)
        self.start = nn.Parameter(torch.empty(1, hidden))
        self.cell = nn.LSTMCell(hidden, hidden, bias=False)
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, size, bias=False) for name, size in sizes.items()})
        self.embeddings = nn.ModuleDict({name: nn.Embedding(size, hidden) for name, size in sizes.items()})
        attended = sorted({decision.vocabulary for decision in space.decisions if decision.kind != "op"})
        self.attentions = nn.ModuleDict({name: _Attention(hidden) for name in attended})
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -INIT_RANGE, INIT_RANGE, generator=generator)

    @torch.no_grad()
    def sample(self, num_architectures: int, *, generator: torch.Generator) -> PolicyOutput:
        """Draw architectures; choices by the Gumbel-max trick from the generator's noise."""
        shape = (num_architectures, self.num_decisions, self.max_choices)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64).clamp_min(1e-300)
        return self._walk(num_architectures, tokens=None, noise=-torch.log(-torch.log(uniform)))

    @torch.no_grad()
    def most_likely(self) -> PolicyOutput:
        """Take the likeliest choice of each decision, given the ones before it; one architecture."""
        return self._walk(1, tokens=None, noise=torch.zeros(1, self.num_decisions, self.max_choices))

    def evaluate(self, tokens: Tensor) -> PolicyOutput:
        """Return the distributions that given tokens, int64 (N, D), were or could have been drawn from, with gradients."""
        return self._walk(len(tokens), tokens=tokens, noise=None)

    def _walk(self, num_architectures: int, *, tokens: Tensor | None, noise: Tensor | None) -> PolicyOutput:
        walk = _Walk(self, num_architectures)
        previous: _Step | None = None
        for step in self._steps:
            walk.h, walk.c = self.cell(self._input(walk, step, previous), (walk.h, walk.c))
            for group in step.groups:
                self._answer(walk, group, tokens, noise)
            if step.anchor != "none":
                walk.anchors.append(walk.h if step.anchor == "value" else torch.zeros_like(walk.h))
                for name in self.attentions:
                    walk.keys[name].append(self._attention(name).key(walk.h))
            previous = step
        logits = torch.stack([item for item in walk.logits if item is not None], dim=1)
        return PolicyOutput(tokens=walk.tokens, logits=logits)

    def _input(self, walk: _Walk, step: _Step, previous: _Step | None) -> Tensor:
        """Return the LSTM input (N, H) of a step by its rule."""
        if step.input == "start" or previous is None:
            return self.start.expand(len(walk.tokens), -1)
        if step.input == "choice":
            if previous.last_op is None:
                raise ValueError("a step with the input rule 'choice' must follow a step with an op decision")
            column, vocabulary = previous.last_op
            embedded: Tensor = self.embeddings[vocabulary](walk.tokens[:, column].clone())
            return embedded
        num_known = previous.pointed.shape[-1]
        if num_known == 0:
            return self.start.expand(len(walk.tokens), -1)
        rows = torch.arange(len(previous.columns))
        chosen = previous.pointed[rows, walk.tokens[:, previous.columns]].sum(dim=1)  # (N, D_s, A) -> (N, A)
        weights = chosen.to(walk.h.dtype)
        if step.input == "anchors_mean":
            weights = weights / (1 + weights.sum(dim=1, keepdim=True))
        elif step.input == "anchor_by_distance":
            weights = weights / (0.1 + torch.arange(num_known, 0, -1, dtype=weights.dtype))
        return torch.einsum("na,nah->nh", weights, torch.stack(walk.anchors[:num_known], dim=1))

    def _answer(self, walk: _Walk, group: _Group, tokens: Tensor | None, noise: Tensor | None) -> None:
        """Compute a group's logits, and take its tokens from `tokens` or by the noise."""
        logits = self._group_logits(walk, group)  # (N, G, C)
        if tokens is None:
            if noise is None:
                raise ValueError("expected tokens or noise, got neither")
            chosen = (logits + noise[:, group.columns, : group.num_choices]).argmax(dim=-1)
        else:
            chosen = tokens[:, group.columns]
        walk.tokens[:, group.columns] = chosen
        padded = nn.functional.pad(logits, (0, self.max_choices - group.num_choices), value=-torch.inf)
        for position, column in enumerate(group.columns):
            walk.logits[column] = padded[:, position]

    def _attention(self, vocabulary: str) -> _Attention:
        attention = self.attentions[vocabulary]
        assert isinstance(attention, _Attention)
        return attention

    def _group_logits(self, walk: _Walk, group: _Group) -> Tensor:
        if group.scores is None:
            raw = self.heads[group.vocabulary](walk.h)[:, None].expand(-1, len(group.columns), -1)
        else:
            keys = torch.stack(walk.keys[group.vocabulary], dim=1)  # (N, A, H)
            scores = self._attention(group.vocabulary)(keys, walk.h)  # (N, A)
            raw = torch.einsum("na,gca->ngc", scores, group.scores.to(scores.dtype))
        logits: Tensor = raw / self.temperature
        if self.tanh_constant is not None:
            logits = self.tanh_constant * torch.tanh(logits)
        return logits + group.bias.to(logits.dtype)


def _vocabulary_sizes(space: SearchSpace[Any]) -> dict[str, int]:
    """Return the number of choices of each op vocabulary. Raises ValueError where its decisions disagree."""
    sizes: dict[str, int] = {}
    for decision in space.decisions:
        if decision.kind == "op":
            size = sizes.setdefault(decision.vocabulary, len(decision.choices))
            if size != len(decision.choices):
                raise ValueError(
                    f"{decision.name}: expected {size} choices, as others of its vocabulary, got {len(decision.choices)}"
                )
    return dict(sorted(sizes.items()))
