"""A file of JSON lines that grows at its end and survives a full disk: what could not be written waits in memory."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path


class LineFile:
    """A file of JSON lines, opened to append. Every call hands its lines to the operating system before it returns.

    Where the disk refuses (it is full), a warning says so once, the lines wait, and each further call tries again.

    Args: path: made if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._waiting = bytearray()  # lines, perhaps from the middle of one on, that are not in the file yet
        self._refusal: OSError | None = None

    def append(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append a line a row; a float that is not finite becomes null."""
        for row in rows:
            finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
            self._waiting += (json.dumps(finite, ensure_ascii=False, allow_nan=False) + "\n").encode()
        self._write()

    def size(self) -> int:
        """Bring everything to the disk and return the bytes of the file. Raises: OSError where lines still wait."""
        self._write()
        if self._refusal is not None:
            raise self._refusal
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Try once more to write what waits, then close the file."""
        self._write()
        self._file.close()

    def _write(self) -> None:
        was_refused = self._refusal is not None
        try:
            while self._waiting:
                del self._waiting[: self._file.write(self._waiting)]
            self._refusal = None
        except OSError as error:
            self._refusal = error
            if not was_refused:
                warnings.warn(f"{self.path}: lines wait in memory, {error}", RuntimeWarning, stacklevel=3)


def cut_files(sizes: Mapping[Path, int]) -> None:
    """Cut files back to recorded sizes; a file that is not there counts as empty.

    Raises: ValueError if one is shorter, before any is cut.
    """
    actual = {path: path.stat().st_size if path.exists() else 0 for path in sizes}
    for path, size in sizes.items():
        if actual[path] < size:
            raise ValueError(f"{path}: expected at least the {size} bytes that the checkpoint recorded, got {actual[path]}")
    for path, size in sizes.items():
        if actual[path] > size:
            os.truncate(path, size)
