"""N architectures a step on one shared-weight child, as a Gymnasium vector environment.

`SyncVectorEnv` would build N supernets; here all slots share one, which is what weight sharing means.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from enas.configs import Phase
from enas.rewards import Reward, accuracy
from enas.shared_weights import SharedWeights
from enas.types import FloatArray, IntArray
from envs.one_step import BoolArray, Observation, ended_infos, first_seed, observation_space
from envs.phases import PhaseRunner
from envs.rendering import RENDER_MODES, check_render_mode, render_rows
from envs.shared_weight import make_env


class SharedWeightVectorEnv(VectorEnv[Any, Any, Any]):
    """`SharedWeightEnv` for N architectures at once: one training step accumulates all their gradients.

    Every step ends all N episodes and starts the next ones at once (SAME_STEP autoreset): what the step measured is in
    `infos["final_info"]`, arrays (N,) under the names of `SharedWeightEnv`'s info, each with its `_name` mask.

    Args:
        shared: the shared weights.
        num_envs: N, the architectures of a step.
        reward: from a measurement to the rewards.
        phase: `both`, `shared` or `controller`; see `SharedWeightEnv`.
        render_mode: `ansi`, `rgb_array` or None.

    `reset(options={"loss_weights": (N,)})` sets the weights of the paths' losses in the training step; 1/N each by default.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        shared: SharedWeights,
        *,
        num_envs: int,
        reward: Reward = accuracy,
        phase: Phase = "both",
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        if num_envs < 1:
            raise ValueError(f"num_envs: expected at least 1, got {num_envs}")
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.runner = PhaseRunner(shared, reward=reward, phase=phase)
        self.single_observation_space = observation_space()
        self.single_action_space = gym.spaces.MultiDiscrete(shared.space.num_choices)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start episodes; with a seed (of several, the first), a new search."""
        first = first_seed(seed)
        super().reset(seed=first)
        self.runner.reset(seed=first, options=options)
        return self._observations(), {}

    def step(self, actions: IntArray) -> tuple[Observation, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Run N architectures, integers (N, D)."""
        if np.shape(actions)[:1] != (self.num_envs,):
            raise ValueError(f"actions: expected {self.num_envs} architectures, got an array of shape {np.shape(actions)}")
        rewards, info = self.runner.step(actions)
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        infos = ended_infos(info, self.num_envs)
        return self._observations(), rewards, everyone, np.zeros(self.num_envs, dtype=np.bool_), infos

    def _observations(self) -> Observation:
        return np.zeros((self.num_envs, 1), dtype=np.float32)

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each architecture of the last step; see `SharedWeightEnv.render`."""
        if self.render_mode is None:
            return None
        return tuple(render_rows(self.runner, self.render_mode, self.num_envs))


def make_vector_env(*, num_envs: int = 1, **values: Any) -> SharedWeightVectorEnv:
    """Build the vector environment from the plain values of `envs.shared_weight.make_env`."""
    single = make_env(**values)
    return SharedWeightVectorEnv(
        single.runner.shared,
        num_envs=num_envs,
        reward=single.runner.reward,
        phase=single.runner.phase,
        render_mode=single.render_mode,
    )
