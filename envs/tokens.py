"""An architecture chosen token by token: one step of a one-shot environment spread over D steps, one for each decision.

For agents with a single discrete action: MaskablePPO, DQN, recurrent policies. The one-shot environments stay the primary form:
here only the last token of an episode earns anything, so take gamma = 1 (with .99 the first of 78 tokens sees less than half of
the reward).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from enas.rewards import FLOOR
from enas.types import BoolArray, FloatArray, IntArray
from envs.one_step import first_seed
from envs.rendering import RENDER_MODES, render_row
from envs.shared_weight import make_env
from envs.vector import SharedWeightVectorEnv, make_vector_env

MaskArray = npt.NDArray[np.int8]
OnMasked = Literal["end", "raise"]
Observation = dict[str, Any]


class TokenBuilder:
    """One architecture under construction.

    Args:
        num_choices: int64 (D,), the choices of each decision.

    Attributes:
        chosen: the tokens so far.
        num_actions: A, the most choices that a decision has.
    """

    def __init__(self, num_choices: IntArray) -> None:
        self.num_choices = num_choices
        self.num_actions = int(num_choices.max())
        self.chosen: list[int] = []

    def observation_space(self) -> gym.spaces.Dict:
        """Return the space of `observation`, of entries that libraries encode as one-hot vectors by themselves."""
        return gym.spaces.Dict(
            {
                "action_mask": gym.spaces.MultiBinary(self.num_actions),
                "position": gym.spaces.Discrete(len(self.num_choices) + 1),
                "tokens": gym.spaces.MultiDiscrete(self.num_choices + 1),
            }
        )

    def observation(self) -> Observation:
        """Return a new observation; see `TokenEnv`."""
        position = len(self.chosen)
        tokens = np.zeros(len(self.num_choices), dtype=np.int64)
        tokens[:position] = np.array(self.chosen, dtype=np.int64) + 1
        return {"action_mask": self.mask(), "position": np.int64(position), "tokens": tokens}

    def mask(self) -> MaskArray:
        """Return a new mask, int8 (A,): 1 for each choice of the current decision."""
        position = len(self.chosen)
        # All ones when nothing is left to decide: agents that look at the last observation divide by the sum of the mask.
        num_offered = self.num_choices[position] if position < len(self.num_choices) else self.num_actions
        return (np.arange(self.num_actions) < num_offered).astype(np.int8)

    def offers(self, action: int) -> bool:
        """Return whether an action is a choice of the current decision."""
        return bool(action < self.num_choices[len(self.chosen)])

    def completed_by(self, action: int) -> IntArray | None:
        """Return the whole architecture, int64 (D,), if this action is its last token; None otherwise."""
        is_last = len(self.chosen) == len(self.num_choices) - 1
        return np.array([*self.chosen, action], dtype=np.int64) if is_last and self.offers(action) else None

    def describe(self) -> str:
        """Return the state of the construction in one line."""
        tokens = " ".join(str(token) for token in self.chosen) or "none"
        return f"chosen {len(self.chosen)} of {len(self.num_choices)}: {tokens}"


class TokenEnv(gym.Env[Any, Any]):
    """Choose an architecture token by token; the last token runs it on the environment below.

    ## Action Space
    `Discrete(A)`, A the most choices that a decision has. Decision k offers its first `num_choices[k]` of them: a mask of ones
    and zeros tells them, int8 (A,) in `info["action_mask"]` and in the observation, bool from `action_masks()` (which MaskablePPO
    of sb3-contrib asks). Whatever is no whole number in 0..A-1 raises ValueError and changes nothing.

    ## Observation Space
    `Dict`: `position`, the index of the next decision, D at the end; `tokens` (D,), 0 for a decision that is not answered yet,
    else its token + 1; `action_mask` (A,), as above, all ones at the end.

    ## Rewards
    0 for each token but the last; for the last, the reward of the environment below. Use gamma = 1.

    ## Episode End
    The last token ends the episode; its `info` also holds what the step below measured. A masked action (in range, but not a
    choice of the current decision) runs nothing and ends the episode with the floor of all rewards, 0.0, and
    `info["invalid_action"]` True; with `on_masked="raise"` it raises ValueError and changes nothing. A step after the end raises
    `gymnasium.error.ResetNeeded`.

    ## Starting State
    No token chosen. Seed and options of a reset go to the environment below: a seed starts a new search.

    ## Arguments
    Args:
        env: an environment with `MultiDiscrete` actions, each episode one step; a `SharedWeightEnv` of any space.
        on_masked: `end` or `raise`.

    Rendering shows the last complete architecture; as text (`ansi`) also, in the first line, the tokens chosen since.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 4}  # type: ignore[misc]

    def __init__(self, env: gym.Env[Any, Any], *, on_masked: OnMasked = "end") -> None:
        self.env = env
        self.on_masked = _check_on_masked(on_masked)
        self.render_mode = env.render_mode
        self._builder = TokenBuilder(_num_choices(env.action_space))
        self._has_ended = False
        self.observation_space = self._builder.observation_space()
        self.action_space = gym.spaces.Discrete(self._builder.num_actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an architecture; seed and options are those of the environment below."""
        super().reset(seed=seed)
        _, info = self.env.reset(seed=seed, options=options)
        self._builder.chosen = []
        self._has_ended = False
        return self._builder.observation(), {**info, "action_mask": self._builder.mask()}

    def step(self, action: int | np.integer[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Choose one token."""
        if self._has_ended:
            raise ResetNeeded("step: expected a reset after the end of an episode, got another step")
        (token,) = _check_actions(action, (), [self._builder], self.on_masked)
        if not self._builder.offers(token):
            self._has_ended = True
            info = {"invalid_action": True, "action_mask": self._builder.mask()}
            return self._builder.observation(), FLOOR, True, False, info
        reward, terminated, truncated, info = 0.0, False, False, {}
        if (tokens := self._builder.completed_by(token)) is not None:
            _, given, terminated, truncated, info = self.env.step(tokens)
            reward = float(given)
        self._has_ended = terminated or truncated
        self._builder.chosen.append(token)
        return self._builder.observation(), reward, terminated, truncated, {**info, "action_mask": self._builder.mask()}

    def action_masks(self) -> BoolArray:
        """Return which actions are choices of the current decision, bool (A,)."""
        return self._builder.mask().astype(np.bool_)

    def render(self) -> Any:
        """Return the last complete architecture as the environment below draws it; None without a render mode."""
        picture: Any = self.env.render()
        return f"{self._builder.describe()}\n{picture}" if self.render_mode == "ansi" else picture

    def close(self) -> None:
        """Close the environment below."""
        self.env.close()


class TokenVectorEnv(VectorEnv[Any, Any, Any]):
    """`TokenEnv` for N architectures at once, on one shared-weight child.

    Every slot has the same D decisions, so all complete in the same step, which runs them as `SharedWeightVectorEnv` does. A slot
    that ends starts over in the same step (SAME_STEP autoreset): `infos["final_obs"]` and `infos["final_info"]` hold its end.
    A masked action ends its own slot alone, which is then out of step with the others: each step runs the slots that complete in
    it, together, in one training step and one measurement. `reset()` brings all slots to their start.

    `reset(options={"loss_weights": (N,)})` gives each slot's weight in a training step; by default those that complete together
    share the weight 1 evenly.

    Args:
        envs: the environment that runs complete architectures; its N, phase, reward and render mode are those of this one.
        on_masked: see `TokenEnv`.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, envs: SharedWeightVectorEnv, *, on_masked: OnMasked = "end") -> None:
        self.envs = envs
        self.runner = envs.runner
        self.on_masked = _check_on_masked(on_masked)
        self.num_envs = envs.num_envs
        self.render_mode = envs.render_mode
        self._builders = [TokenBuilder(_num_choices(envs.single_action_space)) for _ in range(self.num_envs)]
        self._loss_weights: FloatArray | None = None
        self._last: list[tuple[IntArray, float] | None] = [None] * self.num_envs
        self.single_observation_space = self._builders[0].observation_space()
        self.single_action_space = gym.spaces.Discrete(self._builders[0].num_actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start N architectures; seed and options are those of `SharedWeightVectorEnv`."""
        given = (options or {}).get("loss_weights")
        if given is not None and np.shape(given) != (self.num_envs,):
            raise ValueError(f"loss_weights: expected one for each of {self.num_envs} slots, got shape {np.shape(given)}")
        self.envs.reset(seed=seed, options=options)
        if first_seed(seed) is not None:
            self._loss_weights, self._last = None, [None] * self.num_envs
        if given is not None:
            self._loss_weights = np.array(given, dtype=np.float64)
        infos: dict[str, Any] = {}
        for slot, builder in enumerate(self._builders):
            builder.chosen = []
            infos = self._add_info(infos, {"action_mask": builder.mask()}, slot)
        return self._observations(), infos

    def step(self, actions: IntArray) -> tuple[Observation, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Choose one token for each slot, integers (N,)."""
        tokens = _check_actions(actions, (self.num_envs,), self._builders, self.on_masked)
        completed = [builder.completed_by(token) for builder, token in zip(self._builders, tokens, strict=True)]
        rewards, final = self._run({slot: row for slot, row in enumerate(completed) if row is not None})
        infos: dict[str, Any] = {}
        for slot, (builder, token) in enumerate(zip(self._builders, tokens, strict=True)):
            if builder.offers(token):
                builder.chosen.append(token)
            else:
                final[slot], rewards[slot] = {"invalid_action": True}, FLOOR
            if slot in final:
                final_info = {**final[slot], "action_mask": builder.mask()}
                infos = self._add_info(infos, {"final_obs": builder.observation(), "final_info": final_info}, slot)
                builder.chosen = []
            infos = self._add_info(infos, {"action_mask": builder.mask()}, slot)
        ends = np.array([slot in final for slot in range(self.num_envs)])
        return self._observations(), rewards, ends, np.zeros(self.num_envs, dtype=np.bool_), infos

    def _run(self, complete: dict[int, IntArray]) -> tuple[FloatArray, dict[int, dict[str, Any]]]:
        """Run complete architectures, by slot; return the rewards of all slots, (N,), and what was measured of those that ran."""
        rewards = np.zeros(self.num_envs)
        if not complete:
            return rewards, {}
        slots = list(complete)
        if self._loss_weights is not None:
            self.runner.reset(seed=None, options={"loss_weights": self._loss_weights[slots]})
        rewards[slots], measured = self.runner.step(np.stack(list(complete.values())))
        for slot, row in complete.items():
            self._last[slot] = (row, float(rewards[slot]))
        return rewards, {
            slot: {name: float(values[index]) for name, values in measured.items()} for index, slot in enumerate(slots)
        }

    def _observations(self) -> Observation:
        space = self.single_observation_space
        rows = [builder.observation() for builder in self._builders]
        empty: Any = create_empty_array(space, n=self.num_envs)
        batched: Any = concatenate(space, rows, empty)
        return dict(batched)

    def action_masks(self) -> BoolArray:
        """Return which actions are choices of each slot's current decision, bool (N, A)."""
        return np.stack([builder.mask() for builder in self._builders]).astype(np.bool_)

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each slot's last complete architecture; see `TokenEnv`."""
        if self.render_mode is None:
            return None
        pictures = [render_row(self.runner.shared.space, last, self.render_mode) for last in self._last]
        if self.render_mode == "ansi":
            return tuple(f"{builder.describe()}\n{text}" for builder, text in zip(self._builders, pictures, strict=True))
        return tuple(pictures)

    def close_extras(self) -> None:
        """Close the environment below."""
        self.envs.close()


def make_token_env(*, on_masked: OnMasked = "end", **values: Any) -> TokenEnv:
    """Build the environment from the plain values of `envs.shared_weight.make_env`, and `on_masked` of `TokenEnv`."""
    return TokenEnv(make_env(**values), on_masked=on_masked)


def make_token_vector_env(*, num_envs: int = 1, on_masked: OnMasked = "end", **values: Any) -> TokenVectorEnv:
    """Build the vector environment from the plain values of `make_token_env`."""
    return TokenVectorEnv(make_vector_env(num_envs=num_envs, **values), on_masked=on_masked)


def _num_choices(space: gym.Space[Any]) -> IntArray:
    if not isinstance(space, gym.spaces.MultiDiscrete) or space.nvec.ndim != 1:
        raise ValueError(f"env: expected an environment with one-dimensional MultiDiscrete actions, got {space}")
    return space.nvec.astype(np.int64)


def _check_on_masked(on_masked: object) -> OnMasked:
    for known in get_args(OnMasked):
        if on_masked == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"on_masked: expected one of {', '.join(get_args(OnMasked))}, got {on_masked!r}")


def _check_actions(actions: Any, shape: tuple[int, ...], builders: Sequence[TokenBuilder], on_masked: OnMasked) -> list[int]:
    """Return one token for each builder. Raises ValueError for other shapes and types, and for numbers out of range."""
    values = np.asarray(actions)
    if values.shape != shape or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"action: expected whole numbers of shape {shape}, got {values.dtype} of shape {values.shape}")
    tokens = [int(value) for value in values.flat]
    for token, builder in zip(tokens, builders, strict=True):
        if not 0 <= token < builder.num_actions:
            raise ValueError(f"action: expected a number in 0..{builder.num_actions - 1}, got {token}")
        if on_masked == "raise" and not builder.offers(token):
            position = len(builder.chosen)
            most = builder.num_choices[position] - 1
            raise ValueError(f"action: expected a choice of decision {position}, in 0..{most}, got {token}")
    return tokens
