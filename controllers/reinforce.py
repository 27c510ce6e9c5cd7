"""REINFORCE on the LSTM policy (Williams 1992; Pham et al. 2018, section 2.2; authors: `general_controller.py`).

loss = -mean_n (R_n + w_H * H_n - b) * log p(a_n) + w_s * skip penalty, where H is the policy's entropy along the sample without
a gradient, b an exponential moving average of R + w_H * H, and the penalty a KL divergence of the skip probabilities from their
target.

Departures from the authors' code: the entropy is the true one (theirs is -p log p of the drawn choice alone); a batch of N
architectures is one update, and the baseline moves by decay ** N, as N single updates with its mean reward would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from controllers.configs import EnasConfig
from controllers.lstm import LSTMPolicy, PolicyOutput
from enas.seeding import derive_generator
from enas.spaces.base import SearchSpace
from enas.types import FloatArray, IntArray, Rollout, State

_CANDIDATE_ROUNDS = 20  # batches drawn at most in the search for distinct candidates


def reinforce_loss(log_prob: Tensor, reward: Tensor, *, baseline: float) -> Tensor:
    """Return the REINFORCE surrogate (Williams 1992): -mean((reward - baseline) * log_prob).

    Args: log_prob, reward: (N,); gradient flows through log_prob only.
    """
    return -((reward.detach() - baseline) * log_prob).mean()


def skip_divergence(logits: Tensor, *, num_layers: int, target: float, on: str) -> Tensor:
    """Return the skip penalty: mean over layers and samples of the sum over a layer's skip bits of KL(p || target).

    Args:
        logits: (N, S, 2), for no and yes, of the S skip bits of all layers.
        num_layers: how many layers they belong to.
        target: share of yes, in (0, 1).
        on: `sampled` reads p as the softmax that skips are drawn from; `authors` as the sigmoid of each of the two logits, which
            does not sum to one (`skip_prob` in their `general_controller.py`).
    """
    log_p = logits.log_softmax(dim=-1) if on == "sampled" else torch.nn.functional.logsigmoid(logits)
    log_target = logits.new_tensor([1 - target, target]).log()
    return (log_p.exp() * (log_p - log_target)).sum() / (len(logits) * num_layers)


class ReinforceController:
    """The ENAS controller: an LSTM policy and its REINFORCE updates.

    Args:
        space: any search space.
        config: see `EnasConfig`.
        seed: of the initial weights and of sampling.
    """

    def __init__(self, space: SearchSpace[Any], config: EnasConfig, *, seed: int) -> None:
        self.config = config
        self.policy = LSTMPolicy(
            space, hidden=config.hidden, tanh_constant=config.tanh_constant, temperature=config.temperature, seed=seed
        )
        self.optimizer = torch.optim.Adam(
            self.policy.parameters(),
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_eps,
            fused=True,
        )
        self.baseline: float | None = 0.0 if config.baseline_start == "zero" else None
        self.num_updates = 0
        self._seed = seed
        self._generator = derive_generator(seed, "proposals")
        skips = [(column, decision.step) for column, decision in enumerate(space.decisions) if decision.kind == "skip"]
        self._skip_columns = torch.tensor([column for column, _ in skips], dtype=torch.int64)
        self._num_skip_layers = len({step for _, step in skips})

    def propose(self, num_architectures: int) -> Rollout:
        """Draw architectures from the policy."""
        return _to_rollout(self.policy.sample(num_architectures, generator=self._generator))

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Take one REINFORCE step on rewards (N,); the log-probabilities are computed anew with gradients.

        Raises: ValueError for rewards that are not finite or do not fit the rollout; nothing changes then.
        """
        _check_rewards(rollout, rewards)
        output = self.policy.evaluate(torch.from_numpy(rollout.tokens))
        entropy = output.entropy.detach()
        reward = torch.from_numpy(rewards).to(entropy.dtype) + self.config.entropy_weight * entropy
        baseline = self._move_baseline(float(reward.mean()), len(rewards))
        loss = reinforce_loss(output.log_prob, reward, baseline=baseline)
        if self.config.skip_weight and self._num_skip_layers:
            penalty = skip_divergence(
                output.logits.index_select(1, self._skip_columns)[..., :2],
                num_layers=self._num_skip_layers,
                target=self.config.skip_target,
                on=self.config.skip_target_on,
            )
            loss = loss + self.config.skip_weight * penalty
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        limit = torch.inf if self.config.grad_clip is None else self.config.grad_clip
        grad_norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), limit)
        self.optimizer.step()
        self.num_updates += 1
        return {
            "loss": float(loss.detach()),
            "entropy": float(entropy.mean()),
            "advantage": float(reward.mean()) - baseline,
            "baseline": baseline,
            "grad_norm": float(grad_norm),
        }

    def _move_baseline(self, reward: float, count: int) -> float:
        """Move the baseline towards a batch's mean reward; return the value to subtract from it."""
        old = reward if self.baseline is None else self.baseline
        decay = self.config.baseline_decay**count
        self.baseline = decay * old + (1 - decay) * reward
        return self.baseline if self.config.baseline_update == "before" else old

    def candidates(self, num_candidates: int) -> IntArray:
        """Return the greedy architecture and distinct samples of the policy, without disturbing later proposals."""
        generator = derive_generator(self._seed, "candidates", self.num_updates)
        rows = [tuple(self.policy.most_likely().tokens[0].tolist())]
        for _ in range(_CANDIDATE_ROUNDS):
            if len(set(rows)) >= num_candidates:
                break
            rows += [tuple(row) for row in self.policy.sample(num_candidates, generator=generator).tokens.tolist()]
        return np.array(list(dict.fromkeys(rows))[:num_candidates], dtype=np.int64)

    def state_dict(self) -> State:
        """Return weights, optimizer, baseline, seed, generator and counter."""
        return {
            "seed": self._seed,
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "baseline": self.baseline,
            "num_updates": self.num_updates,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline = state["baseline"]
        self.num_updates = state["num_updates"]
        self._seed = state["seed"]
        self._generator.set_state(state["generator"])


def _check_rewards(rollout: Rollout, rewards: FloatArray) -> None:
    if not len(rewards) or rewards.shape != (len(rollout.tokens),):
        raise ValueError(f"rewards: expected {len(rollout.tokens)} of them, at least 1, got shape {rewards.shape}")
    if not np.isfinite(rewards).all():
        raise ValueError(f"rewards: expected finite numbers, got {rewards[~np.isfinite(rewards)][0]}")


def _to_rollout(output: PolicyOutput) -> Rollout:
    return Rollout(
        tokens=output.tokens.numpy(),
        log_prob=output.log_prob.double().numpy(),
        entropy=output.entropy.double().numpy(),
    )
