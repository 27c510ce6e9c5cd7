"""PPO on the LSTM policy (Schulman et al. 2017, arXiv 1707.06347, eq. 7; details as in CleanRL's `ppo.py`).

A token is an action, an architecture an episode whose reward comes at its end, undiscounted and without bootstrapping (gamma =
lambda = 1): the advantage of each decision is R - b. One batch of rewards is one update of several epochs on

    loss = -mean_n sum_d min(r A, clip(r, 1 - clip, 1 + clip) A) - w_H * mean_n H_n + value loss,

with r the ratio of a decision's probability to that before the update, H the entropy, with its gradient. Sums over decisions make
the first step REINFORCE's. Decisions with one choice carry nothing.

b is a moving average of rewards, or V(h), linear in the LSTM's output of the step that answers the decision, learned by half the
squared error. No gradient passes from V to the LSTM, and V's own is not clipped with the policy's: the value's errors are as
large as rewards, the policy's advantages a hundredth of them, and on a shared trunk the policy would move for the value's sake.
CleanRL has two networks instead. So the value loss needs no coefficient.

Departures: advantages are normalised over the batch, not the minibatch; the value is not clipped; no skip penalty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from controllers.baseline import MovingBaseline, check_rewards
from controllers.configs import PpoConfig
from controllers.lstm import LSTMPolicy, PolicyOutput
from controllers.policy_controller import PolicyController
from controllers.walk import StepInputs
from enas.seeding import derive_generator
from enas.spaces.base import SearchSpace
from enas.types import FloatArray, Rollout, State

_LEAST_DEVIATION = 1e-8  # as in CleanRL: above float64's rounding errors of equal rewards, which must not be blown up


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, *, clip: float) -> Tensor:
    """Return the loss of Schulman et al. 2017, eq. 7, negated: the mean over architectures of the sum over decisions.

    Args:
        log_ratio: (N, D), logarithm of each decision's probability now over that before the update.
        advantage: (N, D) or (N, 1).
        clip: epsilon.
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantage, clipped * advantage).sum(dim=1).mean()


def normalised(advantage: Tensor) -> Tensor:
    """Return advantages, float64 (N, O) or (N, 1), with mean 0 and deviation 1; those of a single architecture stay."""
    if len(advantage) == 1:
        return advantage
    return (advantage - advantage.mean()) / (advantage.std(correction=0) + _LEAST_DEVIATION)


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """What an update learns from.

    Attributes:
        tokens: int64 (N, D).
        rewards: (N, 1).
        log_probs: (N, O), of the O open decisions, before the update.
        advantage: (N, O) or (N, 1).
        inputs: see `LSTMPolicy.inputs`.
    """

    tokens: Tensor
    rewards: Tensor
    log_probs: Tensor
    advantage: Tensor
    inputs: StepInputs

    def part(self, indices: Tensor) -> _Batch:
        """Return a part of the architectures."""
        return _Batch(
            tokens=self.tokens[indices],
            rewards=self.rewards[indices],
            log_probs=self.log_probs[indices],
            advantage=self.advantage[indices],
            inputs=self.inputs.part(indices),
        )


class PpoController(PolicyController):
    """An LSTM policy and its PPO updates.

    Args:
        space: any search space.
        config: see `PpoConfig`.
        seed: of the initial weights, of sampling and of minibatches.
    """

    def __init__(self, space: SearchSpace[Any], config: PpoConfig, *, seed: int) -> None:
        policy = LSTMPolicy(
            space, hidden=config.hidden, tanh_constant=config.tanh_constant, temperature=config.temperature, seed=seed
        )
        self.value_head = nn.Linear(config.hidden, 1) if config.baseline == "value" else None
        parameters = [*policy.parameters()]
        if self.value_head is not None:
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
            parameters += self.value_head.parameters()
        optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, eps=config.adam_eps, fused=True)
        baseline = MovingBaseline(decay=config.baseline_decay, start=config.baseline_start)
        super().__init__(policy, optimizer, baseline=baseline, seed=seed)
        self.config = config
        is_open = space.num_choices > min(1, space.num_choices.max() - 1)  # all are where none is: a mean needs something
        self._open_columns = torch.from_numpy(np.flatnonzero(is_open))
        steps = torch.tensor([decision.step for decision in space.decisions])
        self._open_steps = steps.index_select(0, self._open_columns)

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Learn from rewards (N,) in several epochs; log-probabilities before the update are computed anew.

        Returns: `entropy`, `advantage` (not normalised), `baseline`: means before the update; `approx_kl`: how far the policy
            had moved at the last step, nats a decision; `clip_fraction`, the share of decisions whose ratio is beyond the clip,
            and the others: means over the steps.

        Raises: ValueError for rewards that are not finite or do not fit the rollout; nothing changes then.
        """
        check_rewards(rollout, rewards)
        tokens, reward = torch.from_numpy(rollout.tokens), torch.from_numpy(rewards)[:, None]
        inputs = self.policy.inputs(tokens)
        before = self.policy.evaluate(tokens, inputs=inputs)
        with torch.no_grad():
            baseline = self._baseline(before, float(reward.mean()), len(rewards))
        advantage = reward - baseline  # (N, 1) or (N, O), float64
        dtype = before.logits.dtype
        batch = _Batch(
            tokens=tokens,
            rewards=reward.to(dtype),
            log_probs=self._open_log_probs(before).detach(),
            advantage=(normalised(advantage) if self.config.normalise_advantages else advantage).to(dtype),
            inputs=inputs,
        )
        steps = list(self._learn(batch, before))
        self.num_updates += 1
        return {
            **{name: float(np.mean([step[name] for step in steps])) for name in steps[0]},
            "approx_kl": steps[-1]["approx_kl"],
            "entropy": float(before.entropy.detach().mean()),
            "advantage": float(advantage.mean()),
            "baseline": float(baseline.mean()),
        }

    def state_dict(self) -> State:
        """Return what every policy controller has, and the value head."""
        value_head = {} if self.value_head is None else self.value_head.state_dict()
        return {**super().state_dict(), "value_head": value_head}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError where another kind of baseline saved it."""
        saved = "value" if state["value_head"] else "ema"
        if saved != self.config.baseline:
            raise ValueError(f"baseline: expected the state of PPO with baseline {self.config.baseline}, got {saved}")
        super().load_state_dict(state)
        if self.value_head is not None:
            self.value_head.load_state_dict(state["value_head"])

    def _evaluate(self, batch: _Batch) -> PolicyOutput:
        return self.policy.evaluate(batch.tokens, inputs=batch.inputs)

    def _open_log_probs(self, output: PolicyOutput) -> Tensor:
        return output.choice_log_probs.index_select(1, self._open_columns)

    def _values(self, head: nn.Linear, output: PolicyOutput) -> Tensor:
        """Return V(h) for each open decision, (N, O)."""
        assert output.states is not None
        values: Tensor = head(output.states.detach()).squeeze(-1)  # (N, S)
        return values.index_select(1, self._open_steps)

    def _baseline(self, output: PolicyOutput, reward: float, count: int) -> Tensor:
        """Return what is subtracted from rewards, float64 (N, O) or (1, 1), and move it where it is an average.

        Args: reward: the batch's mean. count: N.
        """
        if self.value_head is None:
            return torch.tensor([[self.baseline.move(reward, count)]], dtype=torch.float64)
        if self.num_updates == 0 and self.config.baseline_start == "first":
            nn.init.constant_(self.value_head.bias, reward)
        return self._values(self.value_head, output).double()

    def _learn(self, batch: _Batch, before: PolicyOutput) -> Iterator[dict[str, float]]:
        """Take the gradient steps of an update; yield the metrics of each.

        Args: before: the policy's output for the whole batch, with gradients, which the first step needs not compute again.
        """
        count = len(batch.tokens)
        num_parts = min(self.config.minibatches, count)
        generator = derive_generator(self._seed, "minibatches", self.num_updates)
        for epoch in range(self.config.epochs):
            if num_parts == 1:
                metrics = self._step(batch, before if epoch == 0 else self._evaluate(batch))
                yield metrics
            else:
                for indices in torch.randperm(count, generator=generator).tensor_split(num_parts):
                    part = batch.part(indices)
                    metrics = self._step(part, self._evaluate(part))
                    yield metrics
            if self.config.target_kl is not None and metrics["approx_kl"] > self.config.target_kl:
                break

    def _step(self, batch: _Batch, output: PolicyOutput) -> dict[str, float]:
        """Descend the loss of a minibatch once, from the policy's output for it."""
        log_ratio = self._open_log_probs(output) - batch.log_probs  # (N, O)
        policy_loss = clipped_surrogate(log_ratio, batch.advantage, clip=self.config.clip)
        losses = {"policy_loss": policy_loss, "loss": policy_loss - self.config.entropy_weight * output.entropy.mean()}
        if self.value_head is not None:
            losses["value_loss"] = (self._values(self.value_head, output) - batch.rewards).square().mean() / 2
            losses["loss"] = losses["loss"] + losses["value_loss"]
        grad_norm = self._descend(losses["loss"], self.policy.parameters(), grad_clip=self.config.grad_clip)
        with torch.no_grad():
            ratio = log_ratio.exp()
            losses["approx_kl"] = (ratio - 1 - log_ratio).mean()  # Schulman's low-variance estimate, never negative
            losses["clip_fraction"] = ((ratio - 1).abs() > self.config.clip).to(ratio.dtype).mean()
        return {**{name: float(loss.detach()) for name, loss in losses.items()}, "grad_norm": grad_norm}
