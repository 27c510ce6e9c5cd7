"""A real English text that needs no download: the help texts that come with the running Python, `pydoc_data.topics`.

They are about Python's own language. Other versions of Python have other texts, so that only perplexities of the same version
compare; that of 3.11 has some 465,000 characters, or 77,000 words with the lines' ends.
"""

from __future__ import annotations

from pathlib import Path

from enas.data_configs import TextConfig
from enas.datasets.text_file import split_tenths
from enas.datasets.text_source import RawText
from enas.datasets.vocabulary import split_text


def read_topics(data_dir: Path, config: TextConfig) -> RawText:
    """Read the help texts in the order of their names; `data_dir` is not looked at."""
    from pydoc_data.topics import topics

    text = "".join(f"{topics[name].strip()}\n" for name in sorted(topics))
    return split_tenths(split_text(text, config.level), name="topics")
