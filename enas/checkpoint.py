"""Checkpoints that survive a kill at any instant, a flipped byte and a full disk.

`checkpoint.pt` is the newest state, `checkpoint.previous.pt` the one before it, and `checkpoint.sha256` lists their SHA-256 in
the format of `sha256sum -c`. A save writes a temporary file, then the list (new and current hash), then renames current to
previous and temporary to current; a damaged current is overwritten, and the previous stays. Between any two of these operations
a complete file exists whose hash is in the list.
A save that fails (a full disk) leaves what was there and takes its temporary file away.
Loading reads tensors, numbers, strings, lists and dicts only (`weights_only`), never code.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

import torch

from enas.atomic_file import DISK_REFUSALS, removed_on_failure, write_atomically
from enas.errors import CheckpointError
from enas.types import State

CURRENT, PREVIOUS, HASHES = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.sha256"
SAVED, NOT_SAVED = "saved", "NOT saved, since the disk refuses; the checkpoint before, if any, is kept"
"""How a stopped work ends."""
NUM_READS = 10
"""How often a checkpoint that saves of a run under way replace is read anew."""


def saved_unless_refused(save: Callable[[], object]) -> bool:
    """Save by calling `save`; where the disk refuses, warn, so that the work goes on. Returns: whether it was saved."""
    try:
        save()
    except OSError as error:
        if error.errno not in DISK_REFUSALS:
            raise
        warnings.warn(f"no checkpoint could be saved ({error}); going on, the one before stays", RuntimeWarning, stacklevel=2)
        return False
    return True


def save_checkpoint(folder: Path, state: State) -> None:
    """Write a state as the newest checkpoint of a folder and keep the one before. Raises: OSError where the disk refuses."""
    temporary = folder / f"{CURRENT}.tmp"
    with removed_on_failure(temporary), temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    with removed_on_failure(temporary):
        _put_in_place(folder, temporary)


def _put_in_place(folder: Path, temporary: Path) -> None:
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
    """Sweep what killed saves left in a folder and return its newest intact state; None if it holds no checkpoint at all.

    Warns and raises as `read_checkpoint`.
    """
    first = folder / f"{CURRENT}.tmp"
    if first.exists() and not _is_any_there(folder) and _sha256(first) in _listed(folder):
        first.replace(folder / CURRENT)  # the very first save was complete but for this
    for leftover in folder.glob("checkpoint.*.tmp"):
        leftover.unlink()
    return read_checkpoint(folder)


def read_checkpoint(folder: Path) -> State | None:
    """Return the newest intact state of a folder and change nothing there, even while its run goes on; None if it holds none.

    Warns (naming both files) where the newest cannot be used and the one before it serves.
    Raises: CheckpointError where files are there but none can be used.
    """
    for _ in range(NUM_READS):
        known = _listed(folder)
        state, reasons = _newest(folder, known)
        if not reasons or _listed(folder) == known:
            break  # else a save came between: what looked damaged was newer than the list
    if state is not None and reasons:
        warnings.warn(f"{folder}{os.sep}{reasons[0]}; going on from {folder / PREVIOUS}", RuntimeWarning, stacklevel=2)
    if state is None and known and not _is_any_there(folder):
        reasons = [f"{HASHES} lists what is not there"]
    if state is None and reasons:
        raise CheckpointError(f"{folder}: no checkpoint is intact; {', '.join(reasons)}")
    return state


def _is_any_there(folder: Path) -> bool:
    return any((folder / name).exists() for name in (CURRENT, PREVIOUS))


def _newest(folder: Path, known: Collection[str]) -> tuple[State | None, list[str]]:
    """Return the newest state whose SHA-256 is known, and what is wrong with newer ones; a file is hashed and read while open."""
    reasons: list[str] = []
    for name in (CURRENT, PREVIOUS):
        try:
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() not in known:
                    raise CheckpointError(f"{name} is damaged")
                file.seek(0)
                return _load(name, file), reasons
        except FileNotFoundError:
            continue
        except CheckpointError as error:
            reasons.append(str(error))
    return None, reasons


def _load(name: str, file: BinaryIO) -> State:
    """Read a dict of plain values from a file. Raises: CheckpointError for anything else; code in it does not run."""
    try:
        state: object = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{name} is refused: it holds more than tensors, numbers, texts and their lists") from error
    except Exception as error:  # a file made to mislead the reader makes it fail in any way
        raise CheckpointError(f"{name} is no checkpoint: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{name} is no checkpoint: expected a dict, got {type(state).__name__}")
    return state


def _intact_files(folder: Path) -> dict[str, str]:
    """Return the names of the checkpoints whose SHA-256 is in the list, newest first, with it."""
    known = _listed(folder)
    found = {name: _sha256(folder / name) for name in (CURRENT, PREVIOUS) if (folder / name).exists()}
    return {name: digest for name, digest in found.items() if digest in known}


def _listed(folder: Path) -> set[str]:
    """Return the SHA-256 of the checkpoints that were completed last."""
    try:
        text = (folder / HASHES).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return set()
    return {line.split()[0] for line in text.splitlines() if line.strip()}


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
