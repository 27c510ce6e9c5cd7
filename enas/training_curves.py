"""TensorBoard's curves of one training from scratch; the step of everything is the number of epochs completed.

They are a view of the training and no part of it: nothing here is read back, and where the disk refuses, the curves have a gap
and the training goes on (see `enas.event_files`). A killed training's curves go on without a step twice: `TrainingCurves.state`
is part of every checkpoint, and curves that start from it first cut the files back to what they held then.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict

from enas.event_files import EventFiles, try_room

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class CurvesState(TypedDict):
    """How far the files had come; plain values, made for a checkpoint.

    Keys:
        event_bytes: size of each event file, by name.
        epoch: the last one written.
    """

    event_bytes: dict[str, int]
    epoch: int


class TrainingCurves:
    """Writer of the curves of one training; a context manager that closes its files.

    Args:
        folder: made if it does not exist; what another training has left there is deleted.
        start: the state in the checkpoint that the training resumes from; None for one that starts anew.
    """

    def __init__(self, folder: Path, *, start: CurvesState | None) -> None:
        self._folder = folder
        self._state = start or CurvesState(event_bytes={}, epoch=0)
        self._events = self._open()

    def write(self, values: Mapping[str, float], *, epoch: int) -> None:
        """Write values by tag, such as `train/loss`, and hand them to the operating system: a kill loses none of them."""
        self._events = self._events or self._open()
        if self._events is None:
            return

        def add(writer: SummaryWriter) -> None:
            for tag, value in values.items():
                writer.add_scalar(tag, value, epoch)

        self._events.write(add)
        self._events.flush()
        self._state = CurvesState(event_bytes=self._events.sizes(), epoch=epoch)

    def state(self) -> CurvesState:
        """Return how far the files have come; everything written is in them."""
        return self._state

    def _open(self) -> EventFiles | None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try_room(self._folder)
            return EventFiles(self._folder, sizes=self._state["event_bytes"], purge_step=self._state["epoch"] + 1)
        except OSError as error:
            # the same text at the same place, so that a refusal is told of once
            warnings.warn(f"{self._folder}: no curves for TensorBoard yet, {error.strerror}", RuntimeWarning, stacklevel=1)
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._events is not None:
            self._events.close()
