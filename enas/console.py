"""What a person sees while a search runs: a progress bar with the time left, or, in a log, a line now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG_SECONDS = 20.0
"""Seconds between lines where standard error is no terminal."""


class ProgressBar:
    """A bar on a terminal, a line every `LOG_SECONDS` elsewhere; a context manager.

    Args:
        console: where it is drawn.
        unit: what is counted, such as `steps`.
    """

    def __init__(self, console: Console, *, unit: str) -> None:
        self._console = console
        self._unit = unit
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None)
        self._start = self._last_line = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, done: int, total: int, *, text: str) -> None:
        """Show that `done` of `total` units are complete; `text` tells what is going on."""
        if self._first is None:
            self._first = done
        if self._console.is_terminal:
            self._progress.update(self._task, completed=done, total=total, description=text)
        elif time.monotonic() - self._last_line >= LOG_SECONDS:
            self._last_line = time.monotonic()
            seconds = time.monotonic() - self._start
            left = seconds / max(1, done - self._first) * (total - done)
            self._console.print(f"{text}  {done}/{total} {self._unit}  {seconds:.0f} s, about {left:.0f} s left", highlight=False)
