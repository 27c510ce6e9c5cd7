"""The Penn Treebank as language models read it, or another text in three files like its own.

The files are those of Mikolov et al. (2010): lines of words between blanks, rare words replaced by <unk>. With <eos> at the ends
of lines they have 929,589, 73,760 and 82,430 tokens, all of them among the 10,000 of the training file. They are not downloaded:
the licence is that of the Linguistic Data Consortium.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from enas.configs import require
from enas.data_configs import TextConfig
from enas.datasets.text_file import read_utf8
from enas.datasets.text_source import RawText
from enas.datasets.vocabulary import Vocabulary, all_tokens, split_text

FILES = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
_NUM_NAMED = 3  # unknown words that a message names


def read_ptb(folder: Path, config: TextConfig) -> RawText:
    """Read the three files of a folder; all words of the first are the vocabulary, whatever `config` has for its size.

    Raises: ValueError naming the file that is missing, empty, no UTF-8, or holds words that the training file does not; or the
        setting that does not fit.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder}: expected a folder with {', '.join(FILES)}, found {'a file' if folder.exists() else 'nothing'}"
        )
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: expected {', '.join(FILES)}, found no {missing[0]}")
    require(config.level == "word", "text.level", "word with ptb, a text of words", config.level)
    train, valid, test = (_read(folder / name) for name in FILES)
    vocabulary = all_tokens(train)
    _check_words(folder / FILES[1], valid, vocabulary)
    _check_words(folder / FILES[2], test, vocabulary)
    return RawText(rest=train, valid=valid, test=test, vocabulary=vocabulary)


def _read(file: Path) -> Sequence[str]:
    words = split_text(read_utf8(file), "word")
    if len(set(words)) < 2:
        raise ValueError(f"{file}: expected lines of words, got {'none' if words else 'an empty file'}")
    return words


def _check_words(file: Path, words: Sequence[str], vocabulary: Vocabulary) -> None:
    unknown = sorted(set(words) - set(vocabulary.tokens))
    if unknown:
        named = ", ".join(map(repr, unknown[:_NUM_NAMED]))
        raise ValueError(f"{file}: expected words of {FILES[0]}, got {len(unknown):,} others: {named}")
