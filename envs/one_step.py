"""What the environments with episodes of one step have in common: the observation, and how a vector of them tells its ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from enas.types import FloatArray

Observation = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


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
