"""Checkpoints that survive a kill at any instant, a flipped byte and a full disk.

`checkpoint.pt` is the newest state, `checkpoint.previous.pt` the one before it, and `checkpoint.sha256` lists their SHA-256 in
the format of `sha256sum -c`. A save writes a temporary file, then the list (new and current hash), then renames current to
previous and temporary to current; a damaged current is overwritten, and the previous stays. Between any two of these operations
a complete file exists whose hash is in the list.
Loading reads tensors, numbers, strings, lists and dicts only (`weights_only`), never code.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import torch

from enas.types import State

CURRENT, PREVIOUS, HASHES = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.sha256"


class CheckpointError(ValueError):
    """No checkpoint of a run is intact."""


def save_checkpoint(folder: Path, state: State) -> None:
    """Write a state as the newest checkpoint of a folder and keep the one before."""
    temporary = folder / f"{CURRENT}.tmp"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    intact = _intact_files(folder)
    hashes = {CURRENT: _sha256(temporary)}
    if intact:
        hashes[PREVIOUS] = next(iter(intact.values()))
    write_atomically(folder / HASHES, "".join(f"{digest}  {name}\n" for name, digest in hashes.items()))
    if CURRENT in intact:
        (folder / CURRENT).replace(folder / PREVIOUS)
    temporary.replace(folder / CURRENT)
    _sync_folder(folder)


def load_checkpoint(folder: Path) -> State | None:
    """Return the newest intact state of a folder; None if it holds no checkpoint at all.

    Warns (naming both files) where the newest is damaged and the one before it serves.
    Raises: CheckpointError where files are there but none is intact.
    """
    for leftover in folder.glob("checkpoint.*.tmp"):
        leftover.unlink()
    there = [name for name in (CURRENT, PREVIOUS) if (folder / name).exists()]
    if not there:
        return None
    intact = list(_intact_files(folder))
    if not intact:
        raise CheckpointError(f"{folder}: no checkpoint is intact; looked at {', '.join(there)}")
    if intact[0] != there[0]:
        warnings.warn(f"{folder / CURRENT} is damaged; going on from {folder / PREVIOUS}", RuntimeWarning, stacklevel=2)
    state: State = torch.load(folder / intact[0], map_location="cpu", weights_only=True)
    return state


def write_atomically(path: Path, text: str) -> None:
    """Replace a text file as a whole: a reader, or a kill, sees the old or the new content."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _intact_files(folder: Path) -> dict[str, str]:
    """Return the names of the checkpoints whose SHA-256 is in the list, newest first, with it."""
    hashes = folder / HASHES
    text = hashes.read_text(encoding="utf-8", errors="replace") if hashes.exists() else ""
    known = {line.split()[0] for line in text.splitlines() if line.strip()}
    found = {name: _sha256(folder / name) for name in (CURRENT, PREVIOUS) if (folder / name).exists()}
    return {name: digest for name, digest in found.items() if digest in known}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can (not on Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
