"""REINFORCE with an independent softmax per decision: the reinforcement learning of NAS-Bench-201 (Dong and Yang 2020).

loss = -mean_n (R_n - b) * log p(a_n) - w_H * H, with p the product of the decisions' softmax distributions, b a moving average of
R and H the entropy of p (theirs has none). Theirs: `exps/NATS-algos/reinforce.py` of AutoDL-Projects, one architecture an update,
logits from N(0, .001^2), torch's Adam, an average with decay .9 that takes a reward in before it is subtracted.

The distribution knows nothing of how decisions depend on each other, which is why it is quick: there is no network, the gradient
is written down, and a proposal with its update takes a fraction of a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from controllers.baseline import MovingBaseline, check_rewards
from controllers.configs import CategoricalConfig
from controllers.product import (
    choice_mask,
    likely_architectures,
    log_prob,
    require_shape,
    sample_product,
    softmax,
    table_entropy,
)
from enas.spaces.base import SearchSpace
from enas.types import FloatArray, IntArray, Rollout, State


def score_gradient(probabilities: FloatArray, tokens: IntArray, advantages: FloatArray) -> FloatArray:
    """Return the gradient of mean_n advantages[n] * log p(tokens[n]) with respect to the softmax's logits, (D, C).

    d log p(a) / d logit_c is 1 - p_c for the choice taken and -p_c for the others.

    Args: probabilities: (D, C), rows that sum to 1. tokens: int64 (N, D). advantages: (N,).
    """
    taken = np.zeros_like(probabilities)  # how much advantage each choice was part of
    decisions = np.broadcast_to(np.arange(len(probabilities)), tokens.shape)
    np.add.at(taken, (decisions, tokens), advantages[:, None])
    gradient: FloatArray = (taken - advantages.sum() * probabilities) / len(tokens)
    return gradient


def entropy_gradient(probabilities: FloatArray) -> FloatArray:
    """Return the gradient of the summed entropy with respect to the softmax's logits: -p_c (log p_c + H), (D, C)."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    gradient: FloatArray = -probabilities * (logs + table_entropy(probabilities)[:, None])
    return gradient


class CategoricalController:
    """A table of logits and its REINFORCE updates.

    Args:
        space: D decisions.
        config: see `CategoricalConfig`.
        seed: non-negative; of the initial logits and of the proposals.
    """

    def __init__(self, space: SearchSpace[Any], config: CategoricalConfig, *, seed: int) -> None:
        self.config = config
        self.baseline = MovingBaseline(decay=config.baseline_decay, start=config.baseline_start, update=config.baseline_update)
        self.num_updates = 0
        self._mask = choice_mask(space)
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        initial = self._rng.normal(scale=config.initial_deviation, size=self._mask.shape) * self._mask
        self._logits = nn.Parameter(torch.from_numpy(initial))
        self.optimizer = torch.optim.Adam([self._logits], lr=config.learning_rate, fused=True)

    @property
    def probabilities(self) -> FloatArray:
        """The distributions, (D, C), zeros behind the choices that a decision has."""
        return softmax(self._logits.detach().numpy(), self._mask)

    def propose(self, num_architectures: int) -> Rollout:
        """Draw every decision from its own distribution."""
        return sample_product(self.probabilities, num_architectures, self._rng)

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Take one REINFORCE step on rewards (N,) of any architectures.

        Raises: ValueError for rewards that are not finite or do not fit the rollout; nothing changes then.
        """
        check_rewards(rollout, rewards)
        probabilities = self.probabilities
        entropy = float(table_entropy(probabilities).sum())
        baseline = self.baseline.move(float(rewards.mean()), len(rewards))
        advantages = rewards - baseline
        gain = score_gradient(probabilities, rollout.tokens, advantages)
        if self.config.entropy_weight:
            gain += self.config.entropy_weight * entropy_gradient(probabilities)
        self._logits.grad = torch.from_numpy(-gain)
        self.optimizer.step()
        self.num_updates += 1
        surrogate = float((advantages * log_prob(probabilities, rollout.tokens)).mean())
        return {
            "loss": -surrogate - self.config.entropy_weight * entropy,
            "entropy": entropy,
            "advantage": float(rewards.mean()) - baseline,
            "baseline": baseline,
            "grad_norm": float(np.linalg.norm(gain)),
        }

    def candidates(self, num_candidates: int) -> IntArray:
        """Return the likeliest architecture and distinct samples, without disturbing later proposals."""
        # A spawn key: the entropy (seed, 0) would be the proposals' own generator, for SeedSequence pads with zeros.
        seed = np.random.SeedSequence(self._seed, spawn_key=(self.num_updates,))
        return likely_architectures(self.probabilities, num_candidates, seed=seed)

    def state_dict(self) -> State:
        """Return logits, optimizer, baseline, seed, generator and counter."""
        return {
            "seed": self._seed,
            "logits": self._logits.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
            "baseline": self.baseline.value,
            "baseline_weight": self.baseline.weight,
            "num_updates": self.num_updates,
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ValueError where another space saved it."""
        require_shape("logits", state["logits"], tuple(self._logits.shape))
        with torch.no_grad():
            self._logits.copy_(state["logits"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline.value = state["baseline"]
        self.baseline.weight = state["baseline_weight"]
        self.num_updates = state["num_updates"]
        self._seed = state["seed"]
        self._rng.bit_generator.state = state["rng"]
