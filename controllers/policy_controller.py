"""What learners of the LSTM policy have in common: proposals, candidates, checkpoints. How they learn is their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from controllers.archive import distinct_samples
from controllers.baseline import MovingBaseline
from controllers.lstm import LSTMPolicy, PolicyOutput
from enas.seeding import derive_generator
from enas.types import FloatArray, IntArray, Rollout, State


class PolicyController(ABC):
    """Proposes samples of an LSTM policy that a subclass teaches.

    Args:
        policy: untrained.
        optimizer: of its weights, and of what else a subclass trains.
        baseline: what rewards are compared with.
        seed: of sampling.
    """

    def __init__(self, policy: LSTMPolicy, optimizer: torch.optim.Optimizer, *, baseline: MovingBaseline, seed: int) -> None:
        self.policy = policy
        self.optimizer = optimizer
        self.baseline = baseline
        self.num_updates = 0
        self._seed = seed
        self._generator = derive_generator(seed, "proposals")

    def propose(self, num_architectures: int) -> Rollout:
        """Draw architectures from the policy."""
        return _to_rollout(self.policy.sample(num_architectures, generator=self._generator))

    @abstractmethod
    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        """Learn from rewards (N,); see `enas.types.Controller`."""

    def candidates(self, num_candidates: int) -> IntArray:
        """Return the greedy architecture and distinct samples of the policy, without disturbing later proposals."""
        generator = derive_generator(self._seed, "candidates", self.num_updates)
        greedy: IntArray = self.policy.most_likely().tokens[0].numpy()
        return distinct_samples(
            greedy, lambda count: self.policy.sample(count, generator=generator).tokens.numpy(), num_candidates
        )

    def state_dict(self) -> State:
        """Return weights, optimizer, baseline, seed, generator and counter."""
        return {
            "seed": self._seed,
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "baseline": self.baseline.value,
            "num_updates": self.num_updates,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline.value = state["baseline"]
        self.num_updates = state["num_updates"]
        self._seed = state["seed"]
        self._generator.set_state(state["generator"])

    def _descend(self, loss: Tensor, parameters: Iterable[nn.Parameter], *, grad_clip: float | None) -> float:
        """Take one step of the optimizer; return the norm of the gradient of `parameters` before it is clipped."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, torch.inf if grad_clip is None else grad_clip)
        self.optimizer.step()
        return float(grad_norm)


def _to_rollout(output: PolicyOutput) -> Rollout:
    return Rollout(
        tokens=output.tokens.numpy(),
        log_prob=output.log_prob.double().numpy(),
        entropy=output.entropy.double().numpy(),
    )
