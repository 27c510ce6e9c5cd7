"""TensorBoard's event files of a run: cut back on a resume, and given up for a while where the disk refuses them.

TensorBoard's writer dies of a full disk. The files are a view of what `metrics.jsonl` records, so a gap in them is no loss: after
a refusal the file is cut back to what was whole, and once in a while a flush looks whether there is room to begin a new one.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

RETRY_SECONDS = 10.0
"""Seconds after a refusal, or after a look that found no room, until the next look."""
_ROOM = 2**18  # bytes that must fit for a new file to be begun

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def try_room(folder: Path) -> None:
    """Raise the OSError of a disk that does not take enough for a new file; TensorBoard's writer dies of it in its own thread."""
    probe = folder / "room.tmp"
    try:
        probe.write_bytes(bytes(_ROOM))
    finally:
        probe.unlink(missing_ok=True)


class EventFiles:
    """The event files of one folder, and the writer of the newest.

    Args:
        folder: made if it does not exist.
        sizes: of the files that a checkpoint recorded, by name: longer ones are cut back to it, others deleted. Lost ones are
            only a lost view, no error.
        purge_step: tells a TensorBoard that is already running to forget this step and later ones; for whoever reads the files
            afresh cutting them is enough. None for a run that starts anew.
    """

    def __init__(self, folder: Path, *, sizes: Mapping[str, int], purge_step: int | None) -> None:
        self._folder = folder
        for path in self._files():
            if path.name not in sizes:
                path.unlink()
            elif path.stat().st_size > sizes[path.name]:
                os.truncate(path, sizes[path.name])
        self._whole = self.sizes()  # bytes of each file that are known to be on the disk
        self._next_look = 0.0
        self._writer: SummaryWriter | None = self._open(purge_step)

    def write(self, action: Callable[[SummaryWriter], object]) -> None:
        """Let `action` add something to the newest file; while the disk refuses it is left out."""
        if self._writer is not None:
            try:
                action(self._writer)
            except OSError as error:
                self._give_up(error)

    def flush(self) -> None:
        """Hand everything written so far to the operating system; after a refusal, begin a new file once there is room."""
        if self._writer is None and self._has_room():
            self._writer = self._open(None)
        if self._writer is not None:
            try:
                self._writer.flush()
                self._whole = self.sizes()
            except OSError as error:
                self._give_up(error)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file by name."""
        return {path.name: path.stat().st_size for path in self._files()}

    def close(self) -> None:
        """Flush and close the newest file."""
        self.flush()
        if self._writer is not None:
            self._writer.close()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("events.out.tfevents.*"))

    def _open(self, purge_step: int | None) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder), purge_step=purge_step)

    def _has_room(self) -> bool:
        """Try out, at most every `RETRY_SECONDS`, whether the disk takes a little more."""
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + RETRY_SECONDS
        try:
            try_room(self._folder)
        except OSError:  # it was told of when the writer was given up
            return False
        return True

    def _give_up(self, error: OSError) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):  # it fails again on what it still holds
                writer.close()
        self._next_look = time.monotonic() + RETRY_SECONDS
        for name, size in self.sizes().items():
            if name not in self._whole:
                (self._folder / name).unlink()
            elif size > self._whole[name]:
                os.truncate(self._folder / name, self._whole[name])
        warnings.warn(f"{self._folder}: TensorBoard's curves have a gap from here on, {error}", RuntimeWarning, stacklevel=3)
