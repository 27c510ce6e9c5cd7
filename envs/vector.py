"""N architectures a step on one shared-weight child, as a Gymnasium vector environment.

`SyncVectorEnv` would build N supernets; here all slots share one, which is what weight sharing means.
"""

from __future__ import annotations

from typing import Any

from enas.configs import Phase
from enas.costs import CostMeter
from enas.rewards import Reward, accuracy
from enas.shared_weights import SharedWeights
from envs.one_step import OneStepVectorEnv
from envs.phases import PhaseRunner
from envs.shared_weight import make_env


class SharedWeightVectorEnv(OneStepVectorEnv[PhaseRunner]):
    """`SharedWeightEnv` for N architectures at once: one training step accumulates all their gradients.

    Every step ends all N episodes and starts the next ones at once (SAME_STEP autoreset): what the step measured is in
    `infos["final_info"]`, arrays (N,) under the names of `SharedWeightEnv`'s info, each with its `_name` mask.

    Args:
        shared: the shared weights.
        num_envs: N, the architectures of a step.
        reward: from a measurement to the rewards.
        phase: `both`, `shared` or `controller`; see `SharedWeightEnv`.
        meter: measures the costs that the reward needs; None for a reward that needs none.
        render_mode: `ansi`, `rgb_array` or None.

    `reset(options={"loss_weights": (N,)})` sets the weights of the paths' losses in the training step; 1/N each by default.
    """

    def __init__(
        self,
        shared: SharedWeights,
        *,
        num_envs: int,
        reward: Reward = accuracy,
        phase: Phase = "both",
        meter: CostMeter | None = None,
        render_mode: str | None = None,
    ) -> None:
        runner = PhaseRunner(shared, reward=reward, phase=phase, meter=meter)
        super().__init__(runner, num_envs=num_envs, render_mode=render_mode)


def make_vector_env(*, num_envs: int = 1, **values: Any) -> SharedWeightVectorEnv:
    """Build the vector environment from the plain values of `envs.shared_weight.make_env`."""
    single = make_env(**values)
    return SharedWeightVectorEnv(
        single.runner.shared,
        num_envs=num_envs,
        reward=single.runner.reward,
        phase=single.runner.phase,
        meter=single.runner.meter,
        render_mode=single.render_mode,
    )
