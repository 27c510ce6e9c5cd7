"""Checkpoints that survive a kill at any instant, a flipped byte and a full disk.

`checkpoint.pt` is the newest state, `checkpoint.previous.pt` the one before it, and `checkpoint.sha256` lists their SHA-256 in
the format of `sha256sum -c`. A save writes a temporary file, then the list (new and current hash), then renames current to
previous and temporary to current. Between any two of these operations a complete file exists whose hash is in the list.
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


class CheckpointError(Exception):
    """No checkpoint of a run is intact."""


def save_checkpoint(folder: Path, state: State) -> None:
    """Write a state as the newest checkpoint of a folder and keep the one before."""
    temporary = folder / f"{CURRENT}.tmp"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    current = folder / CURRENT
    hashes = {CURRENT: _sha256(temporary)}
    if current.exists():
        hashes[PREVIOUS] = _sha256(current)
    write_atomically(folder / HASHES, "".join(f"{digest}  {name}\n" for name, digest in hashes.items()))
    if current.exists():
        current.replace(folder / PREVIOUS)
    temporary.replace(current)
    _sync_folder(folder)


def load_checkpoint(folder: Path) -> State | None:
    """Return the newest intact state of a folder; None if it holds no checkpoint at all.

    Warns (naming both files) where the newest is damaged and the one before it serves.
    Raises: CheckpointError where files are there but none is intact.
    """
    for leftover in folder.glob("checkpoint.*.tmp"):
        leftover.unlink()
    hashes = folder / HASHES
    files = [file for file in (folder / CURRENT, folder / PREVIOUS) if file.exists()]
    if not files:
        return None
    known = {line.split()[0] for line in hashes.read_text().splitlines() if line.strip()} if hashes.exists() else set()
    for file in files:
        if _sha256(file) in known:
            if file.name == PREVIOUS and (folder / CURRENT).exists():
                warnings.warn(f"{folder / CURRENT} is damaged; going on from {file}", RuntimeWarning, stacklevel=2)
            state: State = torch.load(file, map_location="cpu", weights_only=True)
            return state
    raise CheckpointError(f"{folder}: no checkpoint is intact; looked at {', '.join(file.name for file in files)}")


def write_atomically(path: Path, text: str) -> None:
    """Replace a text file as a whole: a reader, or a kill, sees the old or the new content."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


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
