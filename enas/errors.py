"""What ends a run early besides a mistake in its input, and the exit status that the commands give it.

    ValueError                  a mistake of the user's: names the setting or file, expected and actual   exit 2
    RuntimeError
    +-- CheckpointError         no checkpoint of a folder can be used                                     exit 3
    +-- SearchFailed            architecture after architecture gave no finite loss, or did not fit       exit 1
    +-- TrainingFailed          a training from scratch gave no finite loss, or did not fit               exit 1
    Exception
    +-- Stopped                 asked to stop, and stopped after saving                      exit 128 + signal
    BaseException
    +-- Interrupted             a signal came where nothing had to be saved                  exit 128 + signal

Nothing here imports torch: the commands name these without waiting for it.
"""

from __future__ import annotations


class CheckpointError(RuntimeError):
    """No checkpoint of a folder can be used; the message says what is wrong with each."""


class SearchFailed(RuntimeError):  # noqa: N818  it names an event, as `Stopped` does
    """Too many architectures failed one after another; the message names the last."""


class TrainingFailed(RuntimeError):  # noqa: N818
    """A network could not be trained from scratch; the message names its architecture."""


class Stopped(Exception):  # noqa: N818
    """A search or a training was asked to stop; the message says whether its state could be saved."""


class Interrupted(BaseException):
    """A signal ended the command. Not KeyboardInterrupt: Python itself ends with SIGINT where that has passed through `exec`."""
