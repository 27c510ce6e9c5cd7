"""Run folders: a new run gets an empty one of its own, a resumed one that of the same settings."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import yaml

from scripts.configuration import CONFIG_FILE, MAY_CHANGE, differences, read_config, to_yaml
from scripts.presets import SearchConfig


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


def _check_resumed(config: SearchConfig, folder: Path) -> None:
    if config.resume is None or config.resume.resolve() != folder.resolve():
        raise ValueError(f"--resume: expected the run's own folder {folder}, got {config.resume}")
    saved = read_config(folder / CONFIG_FILE)
    given = yaml.safe_load(to_yaml(config, threads=saved.get("threads") or 1))
    for path, old, new in differences(saved, given):
        if path not in MAY_CHANGE:
            raise ValueError(f"--resume: expected {path} {old} as in {folder / CONFIG_FILE}, got {new}")


def claim_folder(folder: Path, text: str) -> None:
    """Make a new run's folder and its config.yaml; of two processes that try at once, one gets the ValueError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / CONFIG_FILE).open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError as error:
        raise ValueError(f"--run-dir: expected a new folder, got {folder}, which another run has just taken") from error
    except OSError as error:
        raise ValueError(f"--run-dir: expected a folder that can be written, got {folder}: {error}") from error
