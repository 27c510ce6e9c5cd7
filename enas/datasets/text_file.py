"""A user's own text: a file of words or characters. The first eight tenths train, the next one validates, the last one tests.

Not covered: encodings other than UTF-8, texts that do not fit in memory many times over (a word is a Python string at first).
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

from enas.data_configs import TextConfig
from enas.datasets.text_source import LEAST_TOKENS, RawText
from enas.datasets.vocabulary import split_text

HEAD_BYTES = 2**23
"""How much of a file is looked at before it is read; what lies beyond it only limits the numbers of tokens."""
_PARTS = 10  # one of them tests


def read_text_file(file: Path, config: TextConfig) -> RawText:
    """Read a whole file. Raises ValueError naming it where it is missing, no UTF-8 or too short."""
    return split_tenths(split_text(read_utf8(file), config.level), name=str(file))


def peek_text_file(file: Path, config: TextConfig) -> RawText:
    """Read a file's first `HEAD_BYTES`, so that a mistake is found at once; see `read_text_file`."""
    tokens = split_text(read_utf8(file, most=HEAD_BYTES), config.level)
    return split_tenths(tokens, name=str(file), num_unread=max(file.stat().st_size - HEAD_BYTES, 0))


def read_utf8(file: Path, *, most: int | None = None) -> str:
    """Return a file's text, without a byte order mark, with line breaks as on Unix.

    Args: most: bytes that are read; None for all.
    Raises: ValueError naming the file where it cannot be read, is empty or is no UTF-8.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read() if most is None else stream.read(most)
            is_whole = not stream.read(1)
    except OSError as error:
        found = "a folder" if file.is_dir() else "nothing there" if not file.exists() else str(error)
        raise ValueError(f"{file}: expected a text file, found {found}") from error
    if not content:
        raise ValueError(f"{file}: expected a text, got an empty file")
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(content, final=is_whole)
    except UnicodeDecodeError as error:
        got = f"byte 0x{content[error.start]:02x} at position {error.start} ({error.reason})"
        raise ValueError(f"{file}: expected UTF-8, got {got}") from error
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def split_tenths(tokens: Sequence[str], *, name: str, num_unread: int = 0) -> RawText:
    """Keep the last tenth of a text for testing.

    Args: name: of the text, for the message. num_unread: as in `RawText`.
    Raises: ValueError where a tenth has nothing to predict.
    """
    least = _PARTS * LEAST_TOKENS
    if len(tokens) + num_unread < least:
        raise ValueError(f"{name}: expected a text of at least {least} tokens, got {len(tokens)}")
    num_rest = len(tokens) - len(tokens) // _PARTS
    return RawText(rest=tokens[:num_rest], test=tokens[num_rest:], num_unread=num_unread)
