"""Texts of the table of data sets: what they are split into, and which mistakes are found before anything is loaded."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import enas.datasets.text_file
from enas.data_configs import TextConfig
from enas.datasets import check_source, find_looks, load_data
from enas.datasets.random_lengths import RandomLengths
from enas.datasets.source import SplitSizes
from enas.datasets.vocabulary import UNKNOWN, split_text

PTB = Path(__file__).parents[2] / "../shared/data/ptb.tar.xz"
SHORT = TextConfig(bptt=2)


@pytest.fixture(scope="session")
def penn_treebank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PTB.exists():
        pytest.skip("needs shared/data/ptb.tar.xz")
    folder = tmp_path_factory.mktemp("ptb")
    with tarfile.open(PTB) as archive:
        archive.extractall(folder, filter="data")
    return folder


def write_ptb(folder: Path, *, train: str = "the cat\nsaw the dog\n", valid: str = "the dog\n", test: str = "a cat\n") -> str:
    for name, text in (("train", f"a {train}"), ("valid", valid), ("test", test)):
        (folder / f"ptb.{name}.txt").write_text(text, encoding="utf-8")
    return f"ptb:{folder}"


def write_words(folder: Path, num_lines: int = 50, *, name: str = "words.txt") -> str:
    """Write lines of four words each, five tokens with the line's end."""
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(list("abcdefgh"), size=4)) for _ in range(num_lines)]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return f"text:{folder / name}"


# The Penn Treebank.


def test_penn_treebank_has_the_published_numbers(penn_treebank, tmp_path):
    data = load_data(f"ptb:{penn_treebank}", data_dir=tmp_path)
    assert [len(part.tokens) for part in (data.train, data.valid, data.test)] == [929_589, 73_760, 82_430]
    assert data.num_classes == 10_000
    assert data.decode(data.valid.tokens[:9]) == "consumers may want to move their telephones a little"
    assert check_source(f"ptb:{penn_treebank}", tmp_path) == SplitSizes(
        train=929_588 // 35, valid=73_759 // 35, test=82_429 // 35, unit="sequences of 35 tokens", kind="text"
    )


def test_three_files_are_three_splits_with_the_words_of_the_first(tmp_path):
    source = write_ptb(tmp_path)
    data = load_data(source, data_dir=tmp_path, text=SHORT)
    assert data.decode(data.train.tokens) == "a the cat\nsaw the dog\n"
    assert data.decode(data.valid.tokens) == "the dog\n"
    assert data.decode(data.test.tokens) == "a cat\n"
    assert data.vocabulary.tokens == ("<eos>", "the", "a", "cat", "dog", "saw")
    few = load_data(source, data_dir=tmp_path, text=replace(SHORT, vocabulary=2), num_train=3)
    assert few.decode(few.train.tokens) == "a the cat"
    assert few.vocabulary == data.vocabulary


@pytest.mark.parametrize("name", ["train", "valid", "test"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"{folder}: expected ptb\.train\.txt, ptb\.valid\.txt, ptb\.test\.txt, found no {file}"),
        (b"", r"{folder}/{file}: expected a text, got an empty file"),
        (b"\n", r"{folder}/{file}: expected lines of words, got none"),
        (b"a \xff b\n", r"{folder}/{file}: expected UTF-8, got byte 0xff at position 2 \(invalid start byte\)"),
    ],
)
def test_missing_and_empty_files_are_named(name, content, message, tmp_path):
    source, file = write_ptb(tmp_path), tmp_path / f"ptb.{name}.txt"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=message.format(folder=re.escape(str(tmp_path)), file=re.escape(file.name))):
        check_source(source, tmp_path, text=SHORT)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_words_that_the_training_file_lacks_are_named(part, tmp_path):
    source = write_ptb(tmp_path, **{part: "the cow saw oxen and ewes\n"})
    file = re.escape(f"{tmp_path}/ptb.{part}.txt")
    message = f"^{file}: expected words of ptb.train.txt, got 4 others: 'and', 'cow', 'ewes'$"
    for call in (lambda: check_source(source, tmp_path, text=SHORT), lambda: load_data(source, data_dir=tmp_path, text=SHORT)):
        with pytest.raises(ValueError, match=message):
            call()


# Other texts.


def test_words_are_split_by_their_place_and_rare_ones_unknown(tmp_path):
    lines = ["a b c d"] * 8 + ["a b new old", "a other c d"]
    file = tmp_path / "words.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    data = load_data(f"text:{file}", data_dir=tmp_path, text=SHORT)
    assert data.vocabulary.tokens == ("<unk>", "<eos>", "a", "b", "c", "d")
    assert data.decode(data.train.tokens) == "a b c d\n" * 8
    assert data.decode(data.valid.tokens) == "a b <unk> <unk>\n"
    assert data.decode(data.test.tokens) == "a <unk> c d\n"
    fewer = load_data(f"text:{file}", data_dir=tmp_path, text=TextConfig(bptt=2, vocabulary=4))
    assert fewer.vocabulary.tokens == ("<unk>", "<eos>", "a", "b")


def test_characters_keep_blanks_and_line_breaks(tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeff".encode() + "to be\r\nor not é\r".encode() * 10)
    data = load_data(f"text:{file}", data_dir=tmp_path, text=TextConfig(bptt=2, level="char"))
    assert data.decode(data.train.tokens) == "to be\nor not é\n" * 8
    assert data.preparation()["level"] == "char"


@pytest.mark.parametrize("level", ["char", "word"])
def test_topics_are_a_text_that_comes_with_python(level, tmp_path):
    data = load_data("topics", data_dir=tmp_path, text=TextConfig(level=level))
    assert data.decode(data.train.tokens[:50].tolist()).startswith('The "assert" statement\n****')
    assert len(data.train.tokens) > 40_000
    assert 50 < data.num_classes < 10_000
    assert data.augmentation == RandomLengths()


@pytest.mark.parametrize(
    ("asked", "train", "valid", "test"),
    [
        ({}, 200, 25, 25),
        ({"num_valid": 60}, 165, 60, 25),
        ({"num_train": 30}, 30, 25, 25),
        ({"num_valid": 9, "num_train": 8}, 8, 9, 25),
    ],
)
def test_numbers_of_tokens_are_the_ones_asked_for(asked, train, valid, test, tmp_path):
    source = write_words(tmp_path)
    data = load_data(source, data_dir=tmp_path, text=SHORT, **asked)
    assert [len(part.tokens) for part in (data.train, data.valid, data.test)] == [train, valid, test]
    words = split_text((tmp_path / "words.txt").read_text(encoding="utf-8"), "word")
    for part, expected in ((data.train, words[:train]), (data.valid, words[225 - valid : 225]), (data.test, words[225:])):
        found = [data.vocabulary.tokens[number] for number in part.tokens]
        assert [one if one != UNKNOWN else other for one, other in zip(found, expected, strict=True)] == expected
        assert set(found) != {UNKNOWN}
    sizes = SplitSizes(
        train=(train - 1) // 2, valid=(valid - 1) // 2, test=(test - 1) // 2, unit="sequences of 2 tokens", kind="text"
    )
    assert check_source(source, tmp_path, text=SHORT, **asked) == sizes
    assert [len(part) for part in (data.train, data.valid, data.test)] == [sizes.train, sizes.valid, sizes.test]
    assert find_looks(source, tmp_path, text=SHORT, **asked) == ((), data.num_classes)


def test_lengths_vary_unless_they_are_not_to(tmp_path):
    source = write_words(tmp_path)
    data = load_data(source, data_dir=tmp_path, text=TextConfig(bptt=2, random_lengths=False))
    assert data.augmentation is None


def test_beginning_of_a_large_file_limits_its_sizes(tmp_path, monkeypatch):
    source = write_words(tmp_path, 1_000)
    exact = check_source(source, tmp_path, text=SHORT)
    monkeypatch.setattr(enas.datasets.text_file, "HEAD_BYTES", 4_001)
    most = check_source(source, tmp_path, text=SHORT)
    assert most != exact
    assert all(getattr(most, name) >= getattr(exact, name) for name in ("train", "valid", "test"))
    assert find_looks(source, tmp_path, text=SHORT) is None
    (tmp_path / "accents.txt").write_text("é" * 5_000, encoding="utf-8")  # the 4,001st byte is half a letter
    check_source(f"text:{tmp_path / 'accents.txt'}", tmp_path, text=TextConfig(level="char"))


@pytest.fixture
def unlike_its_beginning(tmp_path, monkeypatch) -> str:
    """A file of 802 tokens, of whose first 1,000 bytes nothing can be told."""
    monkeypatch.setattr(enas.datasets.text_file, "HEAD_BYTES", 1_000)
    (tmp_path / "words.txt").write_text(f"{'x' * 2_000} {'a b ' * 400}", encoding="utf-8")
    return f"text:{tmp_path / 'words.txt'}"


@pytest.mark.parametrize(
    "arguments", [{}, {"num_valid": 300, "num_train": 300}, {"num_valid": 700}, {"text": TextConfig(bptt=79)}]
)
def test_nothing_is_refused_for_what_a_file_begins_with(arguments, unlike_its_beginning, tmp_path):
    given = {"text": SHORT, **arguments}
    data = load_data(unlike_its_beginning, data_dir=tmp_path, **given)
    most = check_source(unlike_its_beginning, tmp_path, **given)
    for part in ("train", "valid", "test"):
        assert len(getattr(data, part)) <= getattr(most, part)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_valid": 1}, "num_valid: expected 2 to "),
        ({"num_valid": 5_000}, r"num_valid: expected 2 to 2601 of the at most 2603 training tokens, got 5000"),
        ({"num_train": 5_000}, r"num_train: expected 2 to 2601 of the at most 2601 training tokens, got 5000"),
        ({"num_train": 2}, r"text\.bptt: expected at most 1, since text:.* has at most 2 tokens to train on, got 2"),
    ],
)
def test_what_no_rest_of_a_file_could_make_right_is_refused_at_once(arguments, message, unlike_its_beginning, tmp_path):
    with pytest.raises(ValueError, match=message):
        check_source(unlike_its_beginning, tmp_path, text=SHORT, **arguments)


@pytest.mark.parametrize("arguments", [{"num_valid": 1_000}, {"num_train": 1_000}, {"text": TextConfig(bptt=80)}])
def test_what_the_rest_of_a_file_makes_wrong_is_refused_when_it_is_loaded(arguments, unlike_its_beginning, tmp_path):
    given = {"text": SHORT, **arguments}
    check_source(unlike_its_beginning, tmp_path, **given)
    with pytest.raises(ValueError, match=": expected "):
        load_data(unlike_its_beginning, data_dir=tmp_path, **given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a text, got an empty file"),
        (b"a b c d e f g h i \xe9", r"expected UTF-8, got byte 0xe9 at position 18 \(unexpected end of data\)"),
        (b"a b c", "expected a text of at least 20 tokens, got 4"),
        (b"PK\x03\x04\xff\xfe", "expected UTF-8, got byte 0xff at position 4"),
        (None, "expected a text file, found nothing there"),
    ],
)
def test_file_that_is_no_text_is_refused(content, message, tmp_path):
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    for call in (lambda: check_source(f"text:{file}", tmp_path), lambda: load_data(f"text:{file}", data_dir=tmp_path)):
        with pytest.raises(ValueError, match=f"^{re.escape(str(file))}: {message}"):
            call()


def test_folder_is_no_text(tmp_path):
    with pytest.raises(ValueError, match="expected a text file, found a folder"):
        check_source(f"text:{tmp_path}", tmp_path)
    for text in (SHORT, TextConfig(level="char")):
        with pytest.raises(ValueError, match=r"expected a folder with ptb\.train\.txt, .*, found nothing"):
            check_source(f"ptb:{tmp_path / 'missing'}", tmp_path, text=text)


def test_text_without_a_token_that_recurs_is_refused(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(" ".join(map(str, range(40))), encoding="utf-8")
    with pytest.raises(ValueError, match="expected a text whose tokens recur, got 33 that are all different"):
        load_data(f"text:{file}", data_dir=tmp_path, text=SHORT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_valid": 1}, "num_valid: expected 2 to 223 of the 225 training tokens, got 1"),
        ({"num_valid": 224}, "num_valid: expected 2 to 223 of the 225 training tokens, got 224"),
        ({"num_train": 1}, "num_train: expected 2 to 200 of the 200 training tokens, got 1"),
        ({"num_train": 201}, "num_train: expected 2 to 200 of the 200 training tokens, got 201"),
        ({"image_size": 8}, r"split\.image_size: expected None with text, a text, got 8"),
        ({"text": TextConfig(bptt=25)}, r"text\.bptt: expected at most 24, since text:.* has 25 tokens to validate on, got 25"),
        ({"num_train": 30, "text": TextConfig(bptt=35)}, r"text\.bptt: expected at most 29, since .* has 30 tokens to train on"),
    ],
)
def test_numbers_that_do_not_fit_a_text_are_refused(arguments, message, tmp_path):
    source = write_words(tmp_path)
    given = {"text": SHORT, **arguments}
    for call in (lambda: check_source(source, tmp_path, **given), lambda: load_data(source, data_dir=tmp_path, **given)):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_valid": 2}, r"split\.num_valid: expected None, since the data set has 3 validation tokens of its own, got 2"),
        ({"text": TextConfig(level="char")}, r"text\.level: expected word with ptb, a text of words, got char"),
        ({"text": TextConfig(bptt=3)}, r"text\.bptt: expected at most 2, since ptb:.* has 3 tokens to validate on, got 3"),
    ],
)
def test_settings_that_do_not_fit_the_penn_treebank_are_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        check_source(write_ptb(tmp_path), tmp_path, **{"text": SHORT, **arguments})


def test_checking_a_text_loads_no_torch():
    code = (
        "import sys; from pathlib import Path; from enas.datasets import check_source, find_looks;"
        "check_source('topics', Path('data')); find_looks('topics', Path('data')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
