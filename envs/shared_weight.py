"""One architecture a step on a shared-weight child, as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from enas.assemble import DEFAULTS, load_shared_weights
from enas.configs import DeviceName, Phase
from enas.costs import CostMeter, make_meter
from enas.rewards import Reward, accuracy, make_objective, make_reward
from enas.shared_weights import SharedWeights
from enas.types import IntArray
from envs.one_step import Observation, observation_space
from envs.phases import PhaseRunner
from envs.rendering import RENDER_MODES, check_render_mode, render_rows


class SharedWeightEnv(gym.Env[Any, Any]):
    """Propose an architecture; the step trains it with shared weights and tells how well it does in validation.

    ## Action Space
    `MultiDiscrete`: one number per decision of the search space, the whole architecture at once. Anything else raises ValueError.

    ## Observation Space
    `Box(0, 1, (1,))`, always zero: each episode is one step, a bandit over architectures.

    ## Rewards
    Phase `both` (default): one training step on the architecture's path, then its reward on a validation minibatch. Phase
    `shared`: the training step alone; reward: accuracy on the training minibatch. Phase `controller`: the measurement alone,
    weights frozen. `reset(options={"phase": ...})` switches; the phase lasts until a reset names another.

    ## Episode End
    Every step terminates. `info` holds `accuracy` and `loss` of the measurement, and the costs that the reward needs
    (`parameters`, `flops`, multiply-adds, and `latency`, milliseconds); `train_accuracy`, `train_loss`, `grad_norm` and
    `learning_rate` of the training step.

    ## Starting State
    `reset(seed=s)` starts a new search: fresh weights, minibatches and counters, and the constructor's phase. A plain `reset()`
    goes on with the same weights. (The `seed` of a Stable-Baselines3 agent resets its environment with it: leave it out to keep
    trained weights.)

    ## Arguments
    Args:
        shared: the shared weights.
        reward: from a measurement to the reward.
        phase: `both`, `shared` or `controller`.
        meter: measures the costs that the reward needs; None for a reward that needs none.
        render_mode: `ansi`, `rgb_array` or None; shows the last architecture.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # type: ignore[misc]

    def __init__(
        self,
        shared: SharedWeights,
        *,
        reward: Reward = accuracy,
        phase: Phase = "both",
        meter: CostMeter | None = None,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self.runner = PhaseRunner(shared, reward=reward, phase=phase, meter=meter)
        self.observation_space = observation_space()
        self.action_space = gym.spaces.MultiDiscrete(shared.space.num_choices)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; with a seed, a new search. Options: `phase`, `loss_weights`."""
        super().reset(seed=seed)
        self.runner.reset(seed=seed, options=options)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: IntArray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Run one architecture, integers (D,)."""
        rewards, info = self.runner.step(np.asarray(action)[None])
        single = {name: float(values[0]) for name, values in info.items()}
        return np.zeros(1, dtype=np.float32), float(rewards[0]), True, False, single

    def render(self) -> Any:
        """Return the last architecture as text (`ansi`) or as an RGB array, uint8 (H, W, 3); None without a render mode."""
        if self.render_mode is None:
            return None
        return render_rows(self.runner, self.render_mode, 1)[0]


def make_env(
    *,
    space: str,
    data: str | None = None,
    data_dir: str = "data",
    child: Mapping[str, Any] | None = None,
    shared: Mapping[str, Any] | None = None,
    text: Mapping[str, Any] | None = None,
    reward: str | None = None,
    objective: Mapping[str, Any] | None = None,
    phase: Phase = "both",
    seed: int = 0,
    device: DeviceName = "auto",
    render_mode: str | None = None,
) -> SharedWeightEnv:
    """Build the environment from plain values, as `gym.make("enas/Macro-v0", child={"num_layers": 4})` does.

    Args:
        space: name of the search space.
        data: name of a data set, `npz:FILE`, `folder:DIR` with images of one size, `ptb:DIR` or `text:FILE`; None for one that
            needs no download, `digits` or, for a space whose networks read texts, `topics`.
        data_dir: where data sets are found or downloaded to.
        child: fields of the space's configuration, such as `num_layers`, `filters`.
        shared: fields of `enas.configs.SharedConfig`, such as `batch_size`.
        text: fields of `enas.data_configs.TextConfig`, such as `bptt`; images have no use for it.
        reward: name of a reward: `accuracy`, `perplexity`, or `cost_product`, which an objective bends; None for accuracy or, for
            a space whose networks read texts, perplexity.
        objective: fields of `enas.configs.ObjectiveConfig`, such as `{"cost": "parameters", "target": 3e5}`.
        phase: see `SharedWeightEnv`.
        seed: of the weights before the first seeded reset.
        device: `auto`, `cpu`, `cuda` or `mps`.
        render_mode: see `SharedWeightEnv`.

    Raises: ValueError for a value that is not known or does not fit.
    """
    goal = make_objective(objective)
    weights = load_shared_weights(
        space=space,
        data=data,
        data_dir=data_dir,
        child=child or {},
        shared=shared or {},
        text=text or {},
        seed=seed,
        device=device,
    )
    kind = weights.child_config.reads
    rewards = make_reward(reward or DEFAULTS[kind].reward, goal, kind=kind)
    return SharedWeightEnv(weights, reward=rewards, phase=phase, meter=make_meter(weights, goal), render_mode=render_mode)
