"""Architectures named on a command line: a run folder, a file, or the text itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas.spaces import SPACES
from enas.spaces.base import ChildConfig
from scripts.configuration import CONFIG_FILE, load_saved
from scripts.presets import SearchConfig


@dataclass(frozen=True, kw_only=True)
class StoredArchitecture:
    """An architecture as the user gave it.

    Attributes:
        space: name of its space.
        child: the configuration whose space it is a member of.
        architecture: the member.
        config: of the run it comes from, or None.
    """

    space: str
    child: ChildConfig
    architecture: Any
    config: SearchConfig | None

    def for_child(self, child: ChildConfig) -> Any:
        """Return the architecture in the space of a configuration; raises ValueError where it can't be translated."""
        return self.child.rescale(self.architecture, child)


def read_architecture(given: str | None, *, space: str) -> StoredArchitecture:
    """Read what `--architecture` names; None, for a command line without it, gives the space's smallest.

    Raises: ValueError naming the file or space and what was expected.
    """
    if space not in SPACES:
        raise ValueError(f"--space: expected one of {', '.join(SPACES)}, got {space!r}")
    if given is None:
        child = SPACES[space]()
        return StoredArchitecture(space=space, child=child, architecture=child.make_space().smallest(), config=None)
    path = Path(given)
    if not _is_there(given):
        if not all(word.isdecimal() for word in given.split()):
            raise ValueError(f"--architecture: expected a run folder, a file or an arc string, got {given!r}")
        return _read_text(given, space)
    if path.is_file() and path.suffix != ".json":
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"--architecture: expected a text file, got {path}, where {error}") from error
        return _read_text(text, space)
    return _read_answer(path)


def _read_text(text: str, space: str) -> StoredArchitecture:
    child = SPACES[space]().for_text(text)
    return StoredArchitecture(space=space, child=child, architecture=child.make_space().from_text(text), config=None)


def _is_there(given: str) -> bool:
    """Whether a text names a file or folder; an arc string may be longer than any name."""
    try:
        return bool(given) and Path(given).exists()
    except OSError:
        return False


def _read_answer(path: Path) -> StoredArchitecture:
    from enas.assemble import make_child_config
    from enas.export import read_answer

    record = read_answer(path)
    network = record["network"]
    if not isinstance(network, dict) or not isinstance(network.get("child"), dict):
        raise ValueError(f"{path}: expected 'network' with the settings of 'child', got {network!r}")
    child = make_child_config(record["space"], network["child"])
    architecture = child.make_space().from_json(record["architecture"])
    folder = path if path.is_dir() else path.parent
    config = load_saved(folder) if (folder / CONFIG_FILE).exists() else None
    return StoredArchitecture(space=record["space"], child=child, architecture=architecture, config=config)
