"""Pictures of the last architectures an environment ran."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from enas.draw import drawing_array, to_ansi
from enas.spaces.base import SearchSpace
from enas.types import FloatArray, IntArray

RenderMode = Literal["ansi", "rgb_array"]
RENDER_MODES: tuple[RenderMode, ...] = ("ansi", "rgb_array")


class Runner(Protocol):
    """What an environment asks for rewards, as far as pictures need it."""

    space: SearchSpace[Any]
    last: tuple[IntArray, FloatArray] | None
    """Tokens (N, D) and rewards (N,) of the last step, None before the first."""


def check_render_mode(mode: object) -> None:
    """Raise ValueError for a mode that is not there."""
    if mode is not None and mode not in RENDER_MODES:
        raise ValueError(f"render_mode: expected one of {', '.join(RENDER_MODES)} or None, got {mode!r}")


def render_rows(runner: Runner, mode: str, num_envs: int) -> list[str | npt.NDArray[np.uint8]]:
    """Render the last step's architectures; before the first step, the space's first: that of zeros as tokens."""
    rows = [None] * num_envs if runner.last is None else zip(*runner.last, strict=True)
    return [render_row(runner.space, row, mode) for row in rows]


def render_row(space: SearchSpace[Any], last: tuple[IntArray, float] | None, mode: str) -> str | npt.NDArray[np.uint8]:
    """Render an architecture, tokens (D,), with its reward; for None, that of zeros as tokens."""
    architecture = space.decode(np.zeros_like(space.num_choices) if last is None else last[0])
    title = "not run yet" if last is None else f"reward {last[1]:.4f}"
    graph = space.graph(architecture)
    return f"{title}\n{to_ansi(graph)}" if mode == "ansi" else drawing_array(graph, title=title)
