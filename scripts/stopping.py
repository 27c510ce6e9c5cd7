"""Ctrl-C and SIGTERM: a command saves its state before it ends, and a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # not every system has all of them
_SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it, and a second signal leaves no time to show it again
_NOTE = b"stopping after this step and saving; once more to end at once\n"


class StopRequest:
    """Whether a signal has asked the command to stop. Called without arguments it says so: work asks it after each step.

    Within `deferred` the work goes on to the end of its step. Anywhere else nothing needs saving, and the signal raises
    KeyboardInterrupt where it arrives.

    Attributes:
        signal: the number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._is_deferred = False

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
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for name in _NAMES:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_DFL)
        if not self._is_deferred:
            raise KeyboardInterrupt
        # sys.stderr may be in the middle of a write that this handler interrupted.
        os.write(2, (_SHOW_CURSOR if sys.stderr.isatty() else b"") + _NOTE)
