"""What a person sees while a search runs: a progress bar with the time left, or, in a log, a line now and then."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LOG_SECONDS = 20.0
"""Seconds between lines where standard error is no terminal."""


class _Rate(ProgressColumn):
    """Units per second, over the last half minute."""

    def render(self, task: Task) -> Text:
        """Return the rate; nothing before there is one."""
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


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
            _Rate(),
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
        with contextlib.suppress(OSError):
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._progress.stop()

    def show(self, done: int, total: int, *, text: str) -> None:
        """Show that `done` of `total` units are complete; `text` tells what is going on. Nothing happens if nobody can see it."""
        with contextlib.suppress(OSError):
            self._show(done, total, text)

    def _show(self, done: int, total: int, text: str) -> None:
        if self._first is None:
            self._first = done
        if self._console.is_terminal:
            self._progress.update(self._task, completed=done, total=total, description=text)
        elif time.monotonic() - self._last_line >= LOG_SECONDS:
            self._last_line = time.monotonic()
            seconds = time.monotonic() - self._start
            rate = max(1, done - self._first) / seconds
            line = f"{text}  {done}/{total} {self._unit}  {rate:.1f}/s  {seconds:.0f} s, about {(total - done) / rate:.0f} s left"
            self._console.print(line, highlight=False, soft_wrap=True)
