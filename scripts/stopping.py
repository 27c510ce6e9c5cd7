"""Ctrl-C and SIGTERM: a command saves its state before it ends, and a second signal ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from enas.errors import Interrupted

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # not every system has all of them
_SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it, and a second signal leaves no time to show it again
_NOTE = b"stopping after this step and saving; once more to end at once\n"


class StopRequest:
    """Whether a signal has asked the command to stop. Called without arguments it says so: work asks it after each step.

    Within `deferred` the work goes on to the end of its step. Anywhere else nothing needs saving, and the signal raises
    `Interrupted` where it arrives, but for a module that is being loaded: there the process ends at once, since an exception in
    the middle of PyTorch's own set-up becomes another error or an abort of the process.

    Attributes:
        signal: the number of the signal that came, or None.
        hint: how to go on after a stop, as soon as there is something to go on with.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.hint = ""
        self._is_deferred = False
        self._installed: list[int] = []

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.signal is not None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within the block signals come here; only the main thread may. One that is ignored, as under nohup, stays ignored."""
        numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
        if threading.current_thread() is not threading.main_thread():
            numbers = []
        old = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN}
        self._installed = list(old)
        for number in old:
            signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the block a signal only sets the request."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        if self():
            raise Interrupted

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for other in self._installed:  # and no other: what is ignored stays so
            signal.signal(other, signal.SIG_DFL)
        if not self._is_deferred and _is_importing(frame):
            with contextlib.suppress(OSError, RuntimeError):  # nobody reads it, or the signal came within a write to it
                sys.stdout.flush()
            with contextlib.suppress(OSError):
                os.write(2, f"{signal.Signals(number).name}: interrupted{self.hint and f'; {self.hint}'}\n".encode())
            os._exit(128 + number)
        if not self._is_deferred:
            raise Interrupted
        with contextlib.suppress(OSError):  # the terminal may be gone: nobody reads the note, and the state is saved all the same
            # Not by sys.stderr, which may be in the middle of a write that this handler interrupted.
            os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + _NOTE)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None
