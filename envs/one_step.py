"""What the environments with episodes of one step have in common: the observation, and how a vector of them tells its ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from enas.types import BoolArray, FloatArray, IntArray
from envs.rendering import RENDER_MODES, Runner, check_render_mode, render_rows

Observation = npt.NDArray[np.float32]


def observation_space() -> gym.spaces.Box:
    """Return the space of the one observation there is: a single zero. An architecture is chosen at once, from nothing."""
    return gym.spaces.Box(0.0, 1.0, (1,), np.float32)


def ended_infos(measured: Mapping[str, FloatArray], num_envs: int) -> dict[str, Any]:
    """Return the infos of a step that ended all N episodes (SAME_STEP autoreset), with the keys and masks of `SyncVectorEnv`.

    Args: measured: arrays (N,) by name; they are passed on, not copied.
    """
    everyone = np.ones(num_envs, dtype=np.bool_)
    final = {**measured, **{f"_{name}": everyone.copy() for name in measured}}
    observations = np.empty(num_envs, dtype=object)
    observations[:] = list(np.zeros((num_envs, 1), dtype=np.float32))
    return {"final_info": final, "_final_info": everyone.copy(), "final_obs": observations, "_final_obs": everyone.copy()}


def first_seed(seed: int | list[int | None] | None) -> int | None:
    """Return the seed that counts: all slots lie over one thing, so of several the first."""
    return seed[0] if isinstance(seed, list) else seed


class StepRunner(Runner, Protocol):
    """What answers the architectures of a step."""

    def reset(self, *, seed: int | None, options: Mapping[str, Any] | None) -> None:
        """Take in a reset. Raises ValueError for options that it does not know."""
        ...

    def step(self, actions: Any) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Return rewards (N,) and what was measured, each (N,), for integers (N, D). Raises ValueError for other actions."""
        ...


RunnerT = TypeVar("RunnerT", bound=StepRunner)


class OneStepVectorEnv(VectorEnv[Any, Any, Any], Generic[RunnerT]):
    """N episodes of one step, which a runner answers together; every step ends them all (SAME_STEP autoreset).

    Args: runner: answers. num_envs: N. render_mode: `ansi`, `rgb_array` or None.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, runner: RunnerT, *, num_envs: int, render_mode: str | None) -> None:
        check_render_mode(render_mode)
        if num_envs < 1:
            raise ValueError(f"num_envs: expected at least 1, got {num_envs}")
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.runner = runner
        self.single_observation_space = observation_space()
        self.single_action_space = gym.spaces.MultiDiscrete(runner.space.num_choices)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start episodes; of several seeds the first counts."""
        first = first_seed(seed)
        super().reset(seed=first)
        self.runner.reset(seed=first, options=options)
        return self._observations(), {}

    def step(self, actions: IntArray) -> tuple[Observation, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Run N architectures, integers (N, D)."""
        if np.shape(actions)[:1] != (self.num_envs,):
            raise ValueError(f"actions: expected {self.num_envs} architectures, got an array of shape {np.shape(actions)}")
        rewards, info = self.runner.step(actions)
        ends = np.ones(self.num_envs, dtype=np.bool_)
        return self._observations(), rewards, ends, ~ends, ended_infos(info, self.num_envs)

    def _observations(self) -> Observation:
        return np.zeros((self.num_envs, 1), dtype=np.float32)

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each architecture of the last step, as the single environment does."""
        if self.render_mode is None:
            return None
        return tuple(render_rows(self.runner, self.render_mode, self.num_envs))
