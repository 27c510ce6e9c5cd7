"""Run folders: a new run gets an empty one of its own, a resumed one that of the same settings; one process at a time uses it.

The lock is the operating system's: it ends with the process that holds it, however that ends. Not covered: file systems that know
no locks, where a warning asks the user to see to it.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import yaml

from enas.atomic_file import removed_on_failure, write_atomically
from scripts.configuration import CONFIG_FILE, forbidden_changes, read_config, to_yaml
from scripts.run import try_lock
from scripts.search_config import SearchConfig

LOCK_FILE = "lock"


def new_folder(preset: str) -> Path:
    """Return a folder under runs/ that does not exist yet, named for the preset and the time."""
    base = Path("runs") / f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    number = 1
    folder = base
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder


def check_folder(config: SearchConfig, folder: Path) -> None:
    """Raise ValueError where a run can't have a folder: before data and networks are built, and before anything is written."""
    if config.resume is not None:
        _check_resumed(config, folder)
        with locked(folder, flag="--resume"):
            return
    try:
        if folder.is_dir() and any(folder.iterdir()):
            what = f"a run; use --resume {folder} to go on" if (folder / CONFIG_FILE).exists() else "other files"
            raise ValueError(f"--run-dir: expected a new folder, got {folder}, which holds {what}")
        nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    except OSError as error:
        raise ValueError(f"--run-dir: expected a folder that can be made, got {folder}: {error}") from error
    if not nearest.is_dir():
        what = "which is a file" if nearest == folder else f"where {nearest} is a file"
        raise ValueError(f"--run-dir: expected a folder, got {folder}, {what}")
    check_writable(nearest, flag="--run-dir", folder=folder)


def check_writable(nearest: Path, *, flag: str, folder: Path) -> None:
    """Raise ValueError where nothing can be written below `nearest`, tried out with a folder that goes away again."""
    try:
        Path(tempfile.mkdtemp(prefix=".writable-", dir=nearest)).rmdir()
    except OSError as error:
        raise ValueError(f"{flag}: expected a place that can be written, got {folder}: {error}") from error


@contextmanager
def locked(folder: Path, *, flag: str) -> Iterator[None]:
    """Hold a folder's lock within the block. Raises ValueError naming the flag where another process holds it.

    Args: folder: that exists. flag: which named it.
    """
    file = folder / LOCK_FILE
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ValueError(f"{flag}: expected a folder that can be written, got {folder}: {error}") from error
    try:
        try:
            is_free = try_lock(descriptor)
        except OSError as error:
            warnings.warn(f"{file}: no lock, {error}; see that nothing else uses {folder}", RuntimeWarning, stacklevel=3)
            is_free = True
        if not is_free:
            os.lseek(descriptor, 0, os.SEEK_SET)
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            raise ValueError(f"{flag}: expected a folder that nothing else uses, got {folder}, in use by process {holder}")
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


@contextmanager
def claimed_results(folder: Path, *, flag: str, check: Callable[[], None], file: str, text: str) -> Iterator[None]:
    """Make a folder of results, hold its lock within the block, and write into a file what the results follow from.

    Args: flag: which named the folder. check: raises ValueError where it holds other results; asked under the lock.
    Raises: ValueError naming the flag where the folder can't be made or another process holds its lock.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{flag}: expected a folder that can be made, got {folder}: {error}") from error
    with locked(folder, flag=flag):
        check()
        write_atomically(folder / file, text)
        yield


def _check_resumed(config: SearchConfig, folder: Path) -> None:
    if config.resume is None or config.resume.resolve() != folder.resolve():
        raise ValueError(f"--resume: expected the run's own folder {folder}, got {config.resume}")
    saved = read_config(folder / CONFIG_FILE)
    given = yaml.safe_load(to_yaml(config, threads=saved.get("threads") or 1))
    for path, old, new in forbidden_changes(saved, given):
        raise ValueError(f"--resume: expected {path} {old} as in {folder / CONFIG_FILE}, got {new}")


def claim_folder(folder: Path, text: str) -> None:
    """Make a new run's folder and its config.yaml; of two processes that try at once, one gets the ValueError."""
    config = folder / CONFIG_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with config.open("x", encoding="utf-8", newline="\n") as file, removed_on_failure(config):
            file.write(text)
            file.flush()
    except FileExistsError as error:
        raise ValueError(f"--run-dir: expected a new folder, got {folder}, which another run has just taken") from error
    except OSError as error:
        raise ValueError(f"--run-dir: expected a folder that can be written, got {folder}: {error}") from error
