"""NAS-Bench-201 as an environment that trains nothing: a table answers (Dong and Yang 2020; NATS-Bench, Dong et al. 2021).

For judging strategies: what a search on real networks costs in GPU days takes seconds here. Imports no PyTorch. The test accuracy
in the info is for reports; no strategy sees it, for a strategy is told rewards alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args

import gymnasium as gym
import numpy as np

from enas.configs import Phase
from enas.rewards import Reward, accuracy, make_objective, make_reward
from enas.spaces.base import SearchSpace
from enas.spaces.nasbench201 import NasBench201Space
from enas.tables import BenchmarkTable, Epochs, load_table
from enas.types import Evaluation, FloatArray, IntArray
from envs.one_step import Observation, OneStepVectorEnv, observation_space
from envs.rendering import RENDER_MODES, check_render_mode, render_rows

COST_EPOCHS = 12
"""Epochs that `seconds` in the info are of, whatever the reward's: what a search of NATS-Bench pays for an architecture."""


class TableRunner:
    """Answers architectures from a table; the single and the vector environment share it.

    Args:
        table: the benchmark's numbers.
        data: name of one of its data sets.
        epochs: 12 or 200, length of the trainings that accuracies are of.
        reward: from an accuracy and the costs `parameters` and `flops` to the reward.

    Raises: ValueError naming what the table lacks.
    """

    def __init__(self, table: BenchmarkTable, *, data: str, epochs: Epochs, reward: Reward = accuracy) -> None:
        self.space: SearchSpace[Any] = NasBench201Space()
        self.last: tuple[IntArray, FloatArray] | None = None  # tokens (N, 6) and rewards (N,) of the last step, for rendering
        self.phase: Phase = "controller"
        self._table = table
        self._reward = reward
        self._columns = {
            "accuracy": table.accuracy(data, "valid", epochs=epochs),
            "test_accuracy": table.accuracy(data, "test", epochs=epochs),
            "seconds": table.train_seconds(data, epochs=COST_EPOCHS),
            "parameters": table.parameters,
            "flops": table.flops,
        }

    def reset(self, *, seed: int | None, options: Mapping[str, Any] | None) -> None:
        """Take `phase` from the options; a seed without one restores `controller`. Raises ValueError for anything else."""
        options = options or {}
        unknown = sorted(set(options) - {"phase"})
        if unknown:
            raise ValueError(f"options: expected 'phase' alone, for a table has no weights, got {', '.join(map(repr, unknown))}")
        if "phase" in options and options["phase"] not in get_args(Phase):
            raise ValueError(f"phase: expected one of {', '.join(get_args(Phase))}, got {options['phase']!r}")
        if seed is not None:
            self.phase, self.last = "controller", None
        self.phase = options.get("phase", self.phase)

    def step(self, actions: Any) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Look N architectures up.

        Args: actions: integers (N, 6).
        Returns: rewards (N,) and what is known of each, (N,).
        Raises: ValueError for actions that are no cells of the table, and in phase `shared`.
        """
        if self.phase == "shared":
            raise ValueError("phase: expected controller, for a table has no weights to train, got shared")
        rows = self._table.rows_of(actions)
        info = {name: values[rows] for name, values in self._columns.items()}
        costs = {name: info[name] for name in ("flops", "parameters")}
        lossless = np.zeros(len(rows))  # tables have no losses, and nothing in them failed
        rewards = self._reward(Evaluation(accuracy=info["accuracy"], loss=lossless, num_examples=1, costs=costs))
        self.last = (np.array(actions, dtype=np.int64), rewards.copy())
        return rewards, info


class TabularEnv(gym.Env[Any, Any]):
    """Propose a cell of NAS-Bench-201; the step looks up what it reached when it was trained alone.

    ## Action Space
    `MultiDiscrete([5] * 6)`: the operation (none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3) of each edge, in the
    order 0-1, 0-2, 1-2, 0-3, 1-3, 2-3: tokens of the space `nasbench201`. Anything else raises ValueError, and so does a cell
    that the table lacks.

    ## Observation Space
    `Box(0, 1, (1,))`, always zero: each episode is one step, a bandit over architectures.

    ## Rewards
    The validation accuracy after `epochs` epochs, fraction, mean over seeds: no noise. With the reward `cost_product` an
    objective for `parameters` or `flops` bends it, and hard limits on them make it 0; a table knows no latency.

    ## Episode End
    Every step terminates. `info` holds `accuracy`; `test_accuracy`, of a training of the same number of epochs, to
    report and not to choose by; `seconds`, the simulated cost: those of 12 training epochs, whatever `epochs` is; `parameters`
    and `flops` (multiply-adds) of the network for CIFAR-10.

    ## Starting State
    A table does not change: `reset(seed=s)` seeds `np_random` and nothing else. Phase `controller` of
    `reset(options={"phase": ...})` is all there is, and `both` is the same; in phase `shared` a step raises ValueError.

    ## Arguments
    Args:
        table: see `enas.tables.load_table`.
        data: name of a data set of the table: `cifar10`, `cifar100`, `imagenet16`.
        epochs: 12 or 200.
        reward: from a measurement to the reward.
        render_mode: `ansi`, `rgb_array` or None; shows the last architecture.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # type: ignore[misc]

    def __init__(
        self,
        table: BenchmarkTable,
        *,
        data: str = "cifar10",
        epochs: Epochs = 200,
        reward: Reward = accuracy,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self.runner = TableRunner(table, data=data, epochs=epochs, reward=reward)
        self.observation_space = observation_space()
        self.action_space = gym.spaces.MultiDiscrete(self.runner.space.num_choices)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode. Options: `phase`."""
        super().reset(seed=seed)
        self.runner.reset(seed=seed, options=options)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: IntArray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Look one architecture up, integers (6,)."""
        rewards, info = self.runner.step(np.asarray(action)[None])
        single = {name: float(values[0]) for name, values in info.items()}
        return np.zeros(1, dtype=np.float32), float(rewards[0]), True, False, single

    def render(self) -> Any:
        """Return the last architecture as text (`ansi`) or as an RGB array, uint8 (H, W, 3); None without a render mode."""
        if self.render_mode is None:
            return None
        return render_rows(self.runner, self.render_mode, 1)[0]


class TabularVectorEnv(OneStepVectorEnv[TableRunner]):
    """`TabularEnv` for N architectures at once, which one index into the table's arrays looks up.

    Every step ends all N episodes and starts the next ones at once (SAME_STEP autoreset): what the table says is in
    `infos["final_info"]`, arrays (N,) under the names of `TabularEnv`'s info, each with its `_name` mask.

    Args:
        table, data, epochs, reward, render_mode: see `TabularEnv`.
        num_envs: N, the architectures of a step.
    """

    def __init__(
        self,
        table: BenchmarkTable,
        *,
        num_envs: int,
        data: str = "cifar10",
        epochs: Epochs = 200,
        reward: Reward = accuracy,
        render_mode: str | None = None,
    ) -> None:
        runner = TableRunner(table, data=data, epochs=epochs, reward=reward)
        super().__init__(runner, num_envs=num_envs, render_mode=render_mode)


def make_table_env(
    *,
    table: str,
    data: str = "cifar10",
    epochs: Epochs = 200,
    reward: str = "accuracy",
    objective: Mapping[str, Any] | None = None,
    render_mode: str | None = None,
) -> TabularEnv:
    """Build the environment from plain values, as `gym.make("enas/NasBench201Table-v0", table="nasbench201.npz")` does.

    Args:
        table: an .npz or .csv file; see `enas.tables`.
        data, epochs, render_mode: see `TabularEnv`.
        reward: name of a reward: `accuracy`, or `cost_product`, which an objective bends.
        objective: fields of `enas.configs.ObjectiveConfig`, but for those of latency.

    Raises: ValueError for a file or a value that does not fit.
    """
    rewards = _table_reward(reward, objective)
    return TabularEnv(load_table(Path(table)), data=data, epochs=epochs, reward=rewards, render_mode=render_mode)


def make_table_vector_env(
    *,
    table: str,
    num_envs: int = 1,
    data: str = "cifar10",
    epochs: Epochs = 200,
    reward: str = "accuracy",
    objective: Mapping[str, Any] | None = None,
    render_mode: str | None = None,
) -> TabularVectorEnv:
    """Build the vector environment from the plain values of `make_table_env`."""
    rewards = _table_reward(reward, objective)
    loaded = load_table(Path(table))
    return TabularVectorEnv(loaded, num_envs=num_envs, data=data, epochs=epochs, reward=rewards, render_mode=render_mode)


def _table_reward(name: str, values: Mapping[str, Any] | None) -> Reward:
    """Return a reward over a table's columns. Raises ValueError."""
    objective = make_objective(values)
    if "latency" in objective.costs:
        raise ValueError("objective: expected flops or parameters, since a table holds no latencies, got latency")
    return make_reward(name, objective, kind="images")
