"""The ENAS policy (authors: `src/cifar10/general_controller.py`, `micro_controller.py`) for any list of decisions.

One LSTM without biases walks the steps of a space. A step answers its `op` decisions by a linear head per vocabulary, with a
bias where the decisions ask for a learned one, or by the vocabulary's embedding where they are tied to it, and its other
decisions by additive attention over the recorded anchors, score_j = v . tanh(W1 h_j + W2 h): an `input` choice takes its anchor's
score, a `pair` the sum of two, a `skip` has the logits [-score, score]. Then logits / temperature, tanh_constant / tanh_reduce *
tanh(logits), and the decision's own fixed bias.

N architectures are drawn as one batch: the number of kernels does not grow with N. Where the tokens are known, only the LSTM goes
step by step, and all decisions are answered after it at once. The policy lives on the CPU, where a step this small is faster than
its launches on an accelerator and tokens need no transfer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from controllers.plan import Group, PlannedStep, make_plan
from controllers.walk import StepInputs, walk
from enas.spaces.base import SearchSpace

INIT_RANGE = 0.1  # authors, for images: every controller weight from U(-.1, .1)


@dataclass(frozen=True, kw_only=True)
class PolicyOutput:
    """Distributions of N architectures' decisions, each given the tokens before it.

    Attributes:
        tokens: int64 (N, D).
        logits: float (N, D, C), C the largest number of choices; -inf where a decision has fewer.
        states: float (N, S, H), the LSTM's output of each step; None where the tokens were drawn.
    """

    tokens: Tensor
    logits: Tensor
    states: Tensor | None = None

    @cached_property
    def log_probs(self) -> Tensor:
        """Float (N, D, C): log-probability of each choice; -inf where there is none."""
        choices_first = self.logits.movedim(-1, 0).contiguous()  # ten times faster than over a short last dimension
        return choices_first.log_softmax(dim=0).movedim(0, -1)

    @property
    def choice_log_probs(self) -> Tensor:
        """Float (N, D): log-probability of each token, given the ones before it."""
        return self.log_probs.gather(-1, self.tokens[..., None]).squeeze(-1)

    @property
    def log_prob(self) -> Tensor:
        """Float (N,): log-probability of each architecture."""
        return self.choice_log_probs.sum(dim=-1)

    @property
    def entropy(self) -> Tensor:
        """Float (N,), nats: sum over decisions of the entropy of the distribution it was drawn from."""
        log_probs = self.log_probs
        return -(log_probs.exp() * log_probs.masked_fill(log_probs.isneginf(), 0.0)).sum(dim=(-2, -1))


class _Attention(nn.Module):
    """Additive attention; `key` is computed once per anchor."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, 1, bias=False)

    def forward(self, keys: Tensor, queries: Tensor) -> Tensor:
        """Score pairs of a key and a query, each (N, P, H): (N, P)."""
        scores: Tensor = self.value(torch.tanh(keys + queries)).squeeze(-1)
        return scores


class _Sampling:
    """Where the drawing of architectures stands.

    Attributes:
        h, c: (N, H), the LSTM's state.
        anchors: (N, A, H), the values recorded so far.
        previous, chosen: the step before, and its tokens, int64 (N, D_s), in the order of its `columns`.
        known: the anchors that those tokens could point at, recorded before that step.
    """

    def __init__(self, num_architectures: int, like: Tensor) -> None:
        self.h = self.c = like.new_zeros(num_architectures, like.shape[-1])
        self.anchors = self.known = like.new_zeros(num_architectures, 0, like.shape[-1])
        self.previous: PlannedStep | None = None
        self.chosen = torch.zeros(num_architectures, 0, dtype=torch.int64)

    def finish(self, step: PlannedStep, chosen: Tensor) -> None:
        """Take the step's tokens, and record its anchor."""
        self.previous, self.chosen, self.known = step, chosen, self.anchors
        if step.anchor != "none":
            self.anchors = _append(self.anchors, self.h if step.anchor == "value" else torch.zeros_like(self.h))


def _rows(outputs: Tensor, rows: Tensor | None) -> Tensor:
    """Pick rows (R,) of (N, S, H); the only one, (N, 1, H), where rows is None."""
    return outputs if rows is None else outputs.index_select(1, rows)


def _shares(step: PlannedStep, previous: PlannedStep | None, chosen: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return what a step's input takes of each anchor, (N, A), from the tokens (N, D_s) of the step before it, or None."""
    if step.input in ("none", "start", "choice") or previous is None or not previous.pointed.shape[-1]:
        return None
    weights = F.embedding(chosen + previous.first_rows, previous.pointed).sum(dim=1).to(dtype)
    if step.input == "anchors_mean":
        return weights / (1 + weights.sum(dim=1, keepdim=True))
    if step.input == "anchor_by_distance":
        return weights / (0.1 + torch.arange(weights.shape[1], 0, -1, dtype=dtype))
    return weights


def _append(rows: Tensor, row: Tensor) -> Tensor:
    """Append (N, H) to (N, A, H)."""
    return torch.cat([rows, row[:, None]], dim=1)


class LSTMPolicy(nn.Module):
    """An autoregressive distribution over the architectures of a space.

    Args:
        space: any search space.
        hidden: LSTM units.
        tanh_constant: logits become tanh_constant * tanh(logits); None leaves them.
        temperature: logits are divided by it before the tanh.
        init_range: r of the initial weights, U(-r, r).
        seed: of the initial weights, but for learned biases, which start where the space says.

    Raises: ValueError for decisions that don't fit each other: an anchor that no step records, one vocabulary of two sizes.
    """

    def __init__(
        self,
        space: SearchSpace[Any],
        *,
        hidden: int = 64,
        tanh_constant: float | None = 1.5,
        temperature: float = 1.0,
        init_range: float = INIT_RANGE,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.tanh_constant = tanh_constant
        self.temperature = temperature
        self.num_decisions = len(space.decisions)
        self.max_choices = int(space.num_choices.max())
        self._plan = make_plan(space)
        sizes = self._plan.vocabularies
        self._first_rows = dict(zip(sizes, accumulate([1, *sizes.values()]), strict=False))  # of each vocabulary in the table
        self.start = nn.Parameter(torch.empty(1, hidden))
        self.cell = nn.LSTMCell(hidden, hidden, bias=False)
        biased = self._plan.learned_biases
        self.heads = nn.ModuleDict(
            {name: nn.Linear(hidden, size, bias=name in biased) for name, size in sizes.items() if name not in self._plan.tied}
        )
        self.embeddings = nn.ModuleDict({name: nn.Embedding(size, hidden) for name, size in sizes.items()})
        self.attentions = nn.ModuleDict({name: _Attention(hidden) for name in self._plan.attentions})
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -init_range, init_range, generator=generator)
        for name, bias in biased.items():
            self.heads[name].load_state_dict({"bias": torch.tensor(bias)}, strict=False)

    @torch.no_grad()
    def sample(self, num_architectures: int, *, generator: torch.Generator) -> PolicyOutput:
        """Draw architectures; choices by the Gumbel-max trick from the generator's noise."""
        shape = (num_architectures, self.num_decisions, self.max_choices)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64).clamp_min(1e-300)
        return self._choose(-torch.log(-torch.log(uniform)))

    @torch.no_grad()
    def most_likely(self) -> PolicyOutput:
        """Take the likeliest choice of each decision, given the ones before it; one architecture."""
        return self._choose(torch.zeros(1, self.num_decisions, self.max_choices))

    def inputs(self, tokens: Tensor) -> StepInputs:
        """Return what the LSTM reads at each step, as far as it follows from the tokens, int64 (N, D), alone.

        Whoever evaluates the same tokens more than once computes it once.
        """
        steps, chosen = self._plan.steps, torch.split(tokens.index_select(1, self._plan.walk_order), self._plan.step_sizes, dim=1)
        before = [(None, tokens[:, :0]), *zip(steps[:-1], chosen[:-1], strict=True)]
        shares = [_shares(step, *previous, self.start.dtype) for step, previous in zip(steps, before, strict=True)]
        return StepInputs(
            rows=torch.stack([self._table_rows(step, *previous) for step, previous in zip(steps, before, strict=True)]),
            shares=[None if share is None else share.t()[..., None].contiguous() for share in shares],
        )

    def evaluate(self, tokens: Tensor, *, inputs: StepInputs | None = None) -> PolicyOutput:
        """Return the distributions that given tokens, int64 (N, D), were or could have been drawn from, with gradients.

        Args: inputs: of these tokens, where they have been computed.
        """
        matrices = self.cell.weight_ih, self.cell.weight_hh
        h = walk(self._plan.steps, self.inputs(tokens) if inputs is None else inputs, self._table(), *matrices)
        return self._output(tokens, h)

    def _choose(self, noise: Tensor) -> PolicyOutput:
        """Take the largest of logits plus noise (N, D, C) of each decision, given the choices before it."""
        state, chosen, answers = _Sampling(len(noise), self.start), [], []
        keys = dict.fromkeys(self.attentions, state.anchors)  # each (N, A so far, H)
        table = self._table()
        noises = iter(torch.split(noise.index_select(1, self._plan.walk_order), self._plan.group_sizes, dim=1))  # each (N, G, C)
        for step in self._plan.steps:
            self._advance(state, step, table)
            picked = []
            for group in step.groups:
                logits = self._logits(group, state.h[:, None], keys)  # (N, G, C of the group)
                picked.append((logits + next(noises)[..., : group.num_choices]).argmax(dim=-1))
                missing = self.max_choices - group.num_choices
                answers.append(F.pad(logits, (0, missing), value=-torch.inf) if missing else logits)
            state.finish(step, picked[0] if len(picked) == 1 else torch.cat([state.chosen[:, :0], *picked], dim=1))
            if step.anchor != "none":
                keys = {name: _append(rows, self._attention(name).key(state.h)) for name, rows in keys.items()}
            chosen.append(state.chosen)
        tokens, logits = (torch.cat(rows, dim=1).index_select(1, self._plan.token_order) for rows in (chosen, answers))
        return PolicyOutput(tokens=tokens, logits=logits)

    def _advance(self, state: _Sampling, step: PlannedStep, table: Tensor) -> None:
        """Run the LSTM for a step on the input (N, H) that its rule gives, if it gives one."""
        if step.input == "none":
            return
        share = _shares(step, state.previous, state.chosen, self.start.dtype)
        if share is None:
            x = F.embedding(self._table_rows(step, state.previous, state.chosen), table)
        else:
            x = torch.bmm(share[:, None], state.known).squeeze(1)
        state.h, state.c = torch.lstm_cell(x, (state.h, state.c), self.cell.weight_ih, self.cell.weight_hh)

    def _table(self) -> Tensor:
        """Return the inputs that are not made of anchors, (R, H): the start, then all embeddings."""
        return torch.cat([self.start, *(self._embedding(vocabulary) for vocabulary in self.embeddings)])

    def _table_rows(self, step: PlannedStep, previous: PlannedStep | None, chosen: Tensor) -> Tensor:
        """Return the row (N,) of the table that a step reads, from the tokens (N, D_s) of the step before it."""
        if step.input != "choice" or previous is None:
            return chosen.new_zeros(len(chosen))
        assert previous.last_op is not None  # the plan has checked it
        position, vocabulary = previous.last_op
        return chosen[:, position] + self._first_rows[vocabulary]

    def _output(self, tokens: Tensor, h: Tensor) -> PolicyOutput:
        """Answer all decisions, whose tokens are known, from the outputs (N, S, H) of all steps."""
        anchors = h.index_select(1, self._plan.anchor_steps)
        keys = {name: self._attention(name).key(anchors) for name in self.attentions}
        logits = h.new_full((*tokens.shape, self.max_choices), -torch.inf)
        for group in self._plan.groups:
            logits[:, group.columns, : group.num_choices] = self._logits(group, h, keys)
        return PolicyOutput(tokens=tokens, logits=logits, states=h)

    def _attention(self, vocabulary: str) -> _Attention:
        attention = self.attentions[vocabulary]
        assert isinstance(attention, _Attention)
        return attention

    def _embedding(self, vocabulary: str) -> Tensor:
        weight = self.embeddings[vocabulary].weight
        assert isinstance(weight, Tensor)
        return weight

    def _head(self, vocabulary: str, outputs: Tensor) -> Tensor:
        if vocabulary in self._plan.tied:
            return F.linear(outputs, self._embedding(vocabulary))
        raw: Tensor = self.heads[vocabulary](outputs)
        return raw

    def _logits(self, group: Group, h: Tensor, keys: dict[str, Tensor]) -> Tensor:
        """Return a group's logits (N, G, C).

        Args:
            h: (N, S, H), the outputs that the group's rows count in.
            keys: for each attention the anchors' keys (N, A, H).
        """
        if group.points is None:
            raw = self._head(group.vocabulary, _rows(h, group.rows))
        else:
            attention, points = self._attention(group.vocabulary), group.points
            queries = _rows(attention.query(h), points.rows)  # (N, P, H)
            scores = attention(keys[group.vocabulary].index_select(1, points.anchors), queries)  # (N, P)
            raw = torch.stack([-scores, scores], dim=-1) if not points.terms else sum(scores[:, term] for term in points.terms)
        logits: Tensor = raw if self.temperature == 1 else raw / self.temperature
        if self.tanh_constant is not None:
            logits = self.tanh_constant / group.tanh_reduce * torch.tanh(logits)
        return logits if group.bias is None else logits + group.bias.to(h.dtype)
