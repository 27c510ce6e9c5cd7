"""REINFORCE on the LSTM policy (Williams 1992; Pham et al. 2018, section 2.2; authors: `general_controller.py`).

loss = -mean_n (R_n + w_H * H_n - b) * log p(a_n) + w_s * skip penalty, where H is the policy's entropy along the sample without
a gradient, b an exponential moving average of R + w_H * H, and the penalty a KL divergence of the skip probabilities from their
target.

Departures from the authors' code: the entropy is the true one (theirs is -p log p of the drawn choice alone); a batch of N
architectures is one update, and the baseline moves by decay ** N, as N single updates with its mean reward would.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from controllers.baseline import MovingBaseline, check_rewards
from controllers.configs import EnasConfig
from controllers.lstm import LSTMPolicy
from controllers.policy_controller import PolicyController
from enas.spaces.base import SearchSpace
from enas.types import FloatArray, Rollout


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


class ReinforceController(PolicyController):
    """The ENAS controller: an LSTM policy and its REINFORCE updates.

    Args:
        space: any search space.
        config: see `EnasConfig`.
        seed: of the initial weights and of sampling.
    """

    def __init__(self, space: SearchSpace[Any], config: EnasConfig, *, seed: int) -> None:
        policy = LSTMPolicy(
            space,
            hidden=config.hidden,
            tanh_constant=config.tanh_constant,
            temperature=config.temperature,
            init_range=config.init_range,
            seed=seed,
        )
        optimizer = torch.optim.Adam(
            policy.parameters(),
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_eps,
            fused=True,
        )
        baseline = MovingBaseline(decay=config.baseline_decay, start=config.baseline_start, update=config.baseline_update)
        super().__init__(policy, optimizer, baseline=baseline, seed=seed)
        self.config = config
        skips = [(column, decision.step) for column, decision in enumerate(space.decisions) if decision.kind == "skip"]
        self._skip_columns = torch.tensor([column for column, _ in skips], dtype=torch.int64)
        self._num_skip_layers = len({step for _, step in skips})

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Take one REINFORCE step on rewards (N,); the log-probabilities are computed anew with gradients.

        Raises: ValueError for rewards that are not finite or do not fit the rollout; nothing changes then.
        """
        check_rewards(rollout, rewards)
        output = self.policy.evaluate(torch.from_numpy(rollout.tokens))
        entropy = output.entropy.detach()
        reward = torch.from_numpy(rewards).to(entropy.dtype) + self.config.entropy_weight * entropy
        baseline = self.baseline.move(float(reward.mean()), len(rewards))
        loss = reinforce_loss(output.log_prob, reward, baseline=baseline)
        if self.config.skip_weight and self._num_skip_layers:
            penalty = skip_divergence(
                output.logits.index_select(1, self._skip_columns)[..., :2],
                num_layers=self._num_skip_layers,
                target=self.config.skip_target,
                on=self.config.skip_target_on,
            )
            loss = loss + self.config.skip_weight * penalty
        grad_norm = self._descend(loss, self.policy.parameters(), grad_clip=self.config.grad_clip)
        self.num_updates += 1
        return {
            "loss": float(loss.detach()),
            "entropy": float(entropy.mean()),
            "advantage": float(reward.mean()) - baseline,
            "baseline": baseline,
            "grad_norm": grad_norm,
        }
