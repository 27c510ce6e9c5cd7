"""Architectures named on a command line: a published one, a run folder, a file, or the text itself; read without PyTorch.

A name of `enas.published` always means the published architecture, so that a command means the same when it is given again after
a folder of that name was made; `./NAME` is the file or folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

from enas.answers import read_answer
from enas.published import PUBLISHED
from enas.spaces import SPACES, make_child_config
from enas.spaces.base import ChildConfig, SearchSpace
from scripts.configuration import CONFIG_FILE, load_saved
from scripts.search_config import SearchConfig

_DEFAULT_SPACE = "macro"
_NAME_LENGTH = 100  # of a text that is given itself and tells its space; all of a NAS-Bench-201 cell


@dataclass(frozen=True, kw_only=True)
class WrittenArchitecture:
    """An architecture as it was written, before a space reads it.

    Attributes:
        name: a short one, for messages and tables.
        value: text in the space's own format, tokens, or a record with `space` and `architecture`, such as a search's answer.
    """

    name: str
    value: str | tuple[int, ...] | dict[str, Any]

    def member_of(self, space: SearchSpace[Any]) -> Any:
        """Return the architecture in a space. Raises ValueError naming what was given and how it differs from a member."""
        try:
            return self._read(space)
        except ValueError as error:
            raise ValueError(f"--architecture {self.name}: {error}") from error

    def _read(self, space: SearchSpace[Any]) -> Any:
        if isinstance(self.value, str):
            return space.from_text(self.value)
        if isinstance(self.value, tuple):
            return space.decode(self.value)
        if self.value["space"] != space.name:
            raise ValueError(f"expected an architecture of the {space.name} space, got one of {self.value['space']}")
        return space.from_json(self.value["architecture"])


@dataclass(frozen=True, kw_only=True)
class StoredArchitecture:
    """An architecture as the user gave it.

    Attributes:
        space: name of its space.
        child: the configuration whose space it is a member of.
        architecture: the member.
        config: of the run it comes from, or None.
        name: a short one, for messages; empty where the command line names none.
    """

    space: str
    child: ChildConfig
    architecture: Any
    config: SearchConfig | None
    name: str = field(compare=False)

    def for_child(self, child: ChildConfig) -> Any:
        """Return the architecture in the space of a configuration; raises ValueError naming it where it can't be translated."""
        try:
            return self.child.rescale(self.architecture, child)
        except ValueError as error:
            raise ValueError(f"--architecture {self.name}: {error}; --child must be a network of its space") from error


def not_understood(given: str) -> ValueError:
    """Return the error for a command line whose `--architecture` is none, in words what was given instead."""
    expected = "a run folder, a file, an arc string, a cell's text or a list of tokens"
    return ValueError(f"--architecture: expected {expected}, got {given}; published ones: {', '.join(PUBLISHED)}")


def read_architecture(given: str | None, *, space: str | None) -> StoredArchitecture:
    """Read what `--architecture` names; None, for a command line without it, gives the space's first.

    Args: space: of a text that does not tell; a published name and a search's answer do. None for macro, where nothing says it.
    Raises: ValueError naming the file or space and what was expected; without a space also others that the text fits.
    """
    name = _DEFAULT_SPACE if space is None else space
    if name not in SPACES:
        raise ValueError(f"--space: expected one of {', '.join(SPACES)}, got {name!r}")
    if given is None:
        child = SPACES[name]()
        members = child.make_space()
        first = members.decode([0] * len(members.decisions))
        return StoredArchitecture(space=name, child=child, architecture=first, config=None, name="")
    if given in PUBLISHED:
        return _stored_published(given)
    architectures = read_written(given)
    if len(architectures) != 1:
        raise ValueError(f"--architecture: expected one architecture, got {len(architectures)} in {given}")
    (written,) = architectures
    if isinstance(written.value, dict):
        return _stored_answer(Path(given), written.value)
    space = space or _space_by_mark(written.value)
    return _of_the_default_space(written) if space is None else _stored_text(written, space=space)


def _space_by_mark(value: str | tuple[int, ...]) -> str | None:
    """Return the space that a text says it is of, by what no other's texts hold; None for numbers."""
    marks = {name: kind.text_mark for name, kind in SPACES.items() if kind.text_mark}
    return next((name for name, mark in marks.items() if isinstance(value, str) and mark in value), None)


def _of_the_default_space(written: WrittenArchitecture) -> StoredArchitecture:
    """Return a text or tokens in the default space. Raises ValueError, with the other spaces that they fit."""
    try:
        return _stored_text(written, space=_DEFAULT_SPACE)
    except ValueError as error:
        others = [f"--space {space}?" for space in SPACES if space != _DEFAULT_SPACE and _fits(written, space=space)]
        if not others:
            raise
        raise ValueError(f"{error} ({' '.join(others)})") from error


def _fits(written: WrittenArchitecture, *, space: str) -> bool:
    try:
        _stored_text(written, space=space)
    except ValueError:
        return False
    return True


def _stored_text(written: WrittenArchitecture, *, space: str) -> StoredArchitecture:
    """Return a text or tokens with the configuration of their depth or number of nodes in a space. Raises ValueError."""
    text = written.value if isinstance(written.value, str) else " ".join(map(str, written.value))
    try:
        child = SPACES[space]().for_text(text)
    except ValueError as error:
        raise ValueError(f"--architecture {written.name}: {error}") from error
    architecture = written.member_of(child.make_space())
    return StoredArchitecture(space=space, child=child, architecture=architecture, config=None, name=written.name)


def read_written(given: str) -> list[WrittenArchitecture]:
    """Read one value of `--architecture`; only a list of token lists names several.

    Raises: ValueError naming the file and what was expected.
    """
    if given in PUBLISHED:
        # By the operations' names: a run with fewer operations counts others.
        stored = _stored_published(given)
        record = {"space": stored.space, "architecture": stored.architecture.to_json()}
        return [WrittenArchitecture(name=given, value=record)]
    path = Path(given)
    if not _is_there(given):
        if given.lstrip().startswith("["):
            return _from_lists(given, file=None)
        if _space_by_mark(given) is not None:
            return [WrittenArchitecture(name=shorten(given, _NAME_LENGTH, placeholder="..."), value=given)]
        if not all(word.isdecimal() for word in given.split()):
            raise not_understood(repr(given))
        return [WrittenArchitecture(name=" ".join(given.split()), value=given)]
    text = "" if path.is_dir() else _read_text(path)
    if text.lstrip().startswith("["):
        return _from_lists(text, file=path)
    is_answer = path.is_dir() or path.suffix == ".json"
    return [WrittenArchitecture(name=str(path), value=read_answer(path) if is_answer else text)]


def _is_there(given: str) -> bool:
    """Whether a text names a file or folder; an arc string may be longer than any name."""
    try:
        return bool(given) and Path(given).exists()
    except OSError:
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--architecture: expected a text file, got {path}, where {error}") from error


def _from_lists(text: str, *, file: Path | None) -> list[WrittenArchitecture]:
    """Read a JSON list of tokens, or a list of such lists; each is named for its tokens, or its file and index there."""
    source = repr(text) if file is None else str(file)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--architecture: expected a list of tokens such as [0, 5, 1], got {source}: {error}") from error
    rows = values if values and all(isinstance(row, list) for row in values) else [values]
    for token in (token for row in rows for token in row):
        if type(token) is not int:
            raise ValueError(f"--architecture: expected whole numbers as tokens, got {token!r} in {source}")
    names: Sequence[str] = [str(row) for row in rows]
    if file is not None:
        names = [str(file)] if len(rows) == 1 else [f"{file}[{index}]" for index in range(len(rows))]
    return [WrittenArchitecture(name=name, value=tuple(row)) for name, row in zip(names, rows, strict=True)]


def _stored_published(name: str) -> StoredArchitecture:
    """Return a published architecture with the configuration of its space at the depth or number of nodes of its text."""
    published = PUBLISHED[name]
    child = SPACES[published.space]().for_text(published.text)
    architecture = child.make_space().from_text(published.text)
    return StoredArchitecture(space=published.space, child=child, architecture=architecture, config=None, name=name)


def _stored_answer(path: Path, record: dict[str, Any]) -> StoredArchitecture:
    network = record["network"]
    if not isinstance(network, dict) or not isinstance(network.get("child"), dict):
        raise ValueError(f"{path}: expected 'network' with the settings of 'child', got {network!r}")
    child = make_child_config(record["space"], network["child"])
    architecture = child.make_space().from_json(record["architecture"])
    folder = path if path.is_dir() else path.parent
    config = load_saved(folder) if (folder / CONFIG_FILE).exists() else None
    return StoredArchitecture(space=record["space"], child=child, architecture=architecture, config=config, name=str(path))
