"""How a command ends: with a message and an exit status for everything that a user can cause, never with a traceback.

0 done; 1 the work failed; 2 a mistake in a flag or a file; 3 no intact checkpoint; 128 + n stopped by signal n (130 Ctrl-C, 143
SIGTERM). See `enas.errors`.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from enas.atomic_file import DISK_REFUSALS
from enas.errors import CheckpointError, Interrupted, SearchFailed, Stopped, TrainingFailed
from scripts.stopping import StopRequest


def fail(message: str, *, status: int = 2) -> NoReturn:
    """Print an error and exit."""
    _say(f"error: {message}")
    raise SystemExit(status)


def _say(line: str) -> None:
    """Write a line to standard error, if somebody is still there to read it."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def run_command(main: Callable[[StopRequest], None]) -> None:
    """Run a command; it is given what says whether to stop. Whatever ends it early becomes a message and an exit status."""
    stop = StopRequest()
    try:
        with _short_messages(), stop.installed():
            main(stop)
    except ValueError as error:
        fail(str(error))
    except CheckpointError as error:
        fail(str(error), status=3)
    except (SearchFailed, TrainingFailed) as error:
        fail(str(error), status=1)
    except OSError as error:
        if error.errno not in DISK_REFUSALS:
            raise
        fail(f"{error}; what was saved before is kept", status=1)
    except (Stopped, Interrupted, KeyboardInterrupt) as error:
        number = stop.signal or signal.SIGINT
        what = str(error) if isinstance(error, Stopped) else "interrupted"
        _say(f"{signal.Signals(number).name}: {what}{stop.hint and f'; {stop.hint}'}")
        raise SystemExit(128 + number) from None


@contextmanager
def _short_messages() -> Iterator[None]:
    """Within the block warnings take a line each, and so do threads that end because the disk refuses (TensorBoard's writer)."""
    formatwarning, excepthook = warnings.formatwarning, threading.excepthook

    def report(hook: threading.ExceptHookArgs) -> None:
        if not (isinstance(hook.exc_value, OSError) and hook.exc_value.errno in DISK_REFUSALS):
            excepthook(hook)

    warnings.formatwarning, threading.excepthook = _one_line, report
    try:
        yield
    finally:
        warnings.formatwarning, threading.excepthook = formatwarning, excepthook


def _one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    del filename, lineno, line
    return f"{'warning' if category is RuntimeWarning else category.__name__}: {message}\n"
