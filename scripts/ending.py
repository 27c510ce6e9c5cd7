"""How a command ends: with a message and an exit status for everything that a user can cause, never with a traceback.

0 done; 1 the work failed; 2 a mistake in a flag or a file; 3 no intact checkpoint; 128 + n stopped by signal n (130 Ctrl-C, 143
SIGTERM). See `enas.errors`.
"""

from __future__ import annotations

import errno
import signal
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from enas.errors import CheckpointError, SearchFailed, Stopped, TrainingFailed
from scripts.stopping import StopRequest

_REFUSED_BY_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def fail(message: str, *, status: int = 2) -> NoReturn:
    """Print an error and exit."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(status)


def run_command(main: Callable[[StopRequest], None]) -> None:
    """Run a command; it is given what says whether to stop. Whatever ends it early becomes a message and an exit status."""
    stop = StopRequest()
    formatwarning, warnings.formatwarning = warnings.formatwarning, _one_line
    try:
        with stop.installed():
            main(stop)
    except ValueError as error:
        fail(str(error))
    except CheckpointError as error:
        fail(str(error), status=3)
    except (SearchFailed, TrainingFailed) as error:
        fail(str(error), status=1)
    except OSError as error:
        if error.errno not in _REFUSED_BY_DISK:
            raise
        fail(f"{error}; what was saved before is kept", status=1)
    except (Stopped, KeyboardInterrupt) as error:
        number = stop.signal or signal.SIGINT
        what = f"{error}, saved" if isinstance(error, Stopped) else "interrupted, the last checkpoint is kept"
        sys.stderr.write(f"{signal.Signals(number).name}: {what}; go on with --resume or the same command\n")
        raise SystemExit(128 + number) from None
    finally:
        warnings.formatwarning = formatwarning


def _one_line(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    del filename, lineno, line
    return f"{'warning' if category is RuntimeWarning else category.__name__}: {message}\n"
