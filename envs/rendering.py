"""Pictures of the last architectures an environment ran."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from enas.draw import drawing_array, to_ansi
from enas.types import IntArray
from envs.phases import PhaseRunner

RenderMode = Literal["ansi", "rgb_array"]
RENDER_MODES: tuple[RenderMode, ...] = ("ansi", "rgb_array")


def check_render_mode(mode: object) -> None:
    """Raise ValueError for a mode that is not there."""
    if mode is not None and mode not in RENDER_MODES:
        raise ValueError(f"render_mode: expected one of {', '.join(RENDER_MODES)} or None, got {mode!r}")


def render_rows(runner: PhaseRunner, mode: str, num_envs: int) -> list[str | npt.NDArray[np.uint8]]:
    """Render the last step's architectures; before the first step, the smallest architecture of the space."""
    space = runner.shared.space
    if runner.last is None:
        smallest: IntArray = np.array([space.encode(space.smallest())] * num_envs, dtype=np.int64)
        return [_render(space, row, "not run yet", mode) for row in smallest]
    tokens, rewards = runner.last
    return [_render(space, row, f"reward {reward:.4f}", mode) for row, reward in zip(tokens, rewards, strict=True)]


def _render(space: Any, tokens: IntArray, title: str, mode: str) -> str | npt.NDArray[np.uint8]:
    graph = space.graph(space.decode(tokens))
    return f"{title}\n{to_ansi(graph)}" if mode == "ansi" else drawing_array(graph, title=title)
