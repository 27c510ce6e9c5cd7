"""Small files as a whole or not at all: whatever interrupts a write, the old content or the new one is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enas.errors import Interrupted

DISK_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""What an OSError's errno is where the disk does not take more."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file: a reader, a kill or a full disk sees the old or the new content. Raises: OSError where the disk refuses."""
    temporary = path.with_name(f"{path.name}.tmp")
    with removed_on_failure(temporary):
        with temporary.open("wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def removed_on_failure(temporary: Path) -> Iterator[None]:
    """Delete a file that could not be completed; a failed write inside `torch.save` comes out as the OSError that it was."""
    try:
        yield
    except (Exception, KeyboardInterrupt, Interrupted) as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
            raise error.__context__ from None  # PyTorch reports it as an inconsistency of its own archive
        raise
