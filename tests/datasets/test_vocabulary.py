from __future__ import annotations

import pytest

from enas.datasets.vocabulary import END_OF_LINE, UNKNOWN, Vocabulary, all_tokens, frequent_tokens, split_text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b\nc\n", ["a", "b", "<eos>", "c", "<eos>"]),
        ("a b\nc", ["a", "b", "<eos>", "c", "<eos>"]),
        (" a \t b  \n\n c \n", ["a", "b", "<eos>", "<eos>", "c", "<eos>"]),
        ("\n", ["<eos>"]),
        ("", []),
    ],
)
def test_words_stand_between_blanks_and_each_line_ends(text, words):
    assert split_text(text, "word") == words


def test_characters_are_tokens_as_they_are():
    assert list(split_text("a b\né", "char")) == ["a", " ", "b", "\n", "é"]


def test_frequent_tokens_come_first_and_ties_go_by_the_alphabet():
    assert all_tokens("bcabcc").tokens == ("c", "b", "a")
    assert all_tokens("cab").tokens == ("a", "b", "c")


def test_rare_tokens_and_those_that_do_not_fit_are_unknown():
    words = [*"dddccccbba", UNKNOWN, UNKNOWN]
    assert frequent_tokens(words, "word", most=10).tokens == (UNKNOWN, "c", "d", "b")
    assert frequent_tokens(words, "word", most=3).tokens == (UNKNOWN, "c", "d")
    vocabulary = frequent_tokens(words, "word", most=3)
    assert vocabulary.encode("a b c d <unk> new").tolist() == [0, 0, 1, 2, 0, 0, 0]  # a line's end never came either


@pytest.mark.parametrize(
    ("level", "text", "decoded"),
    [("word", "to be\nor  not to be\n", "to be\nor not to be\n"), ("char", "to be\nor  not", "to be\nor  not")],
)
def test_text_comes_back_from_its_numbers(level, text, decoded):
    vocabulary = all_tokens(split_text(text, level), level)
    assert vocabulary.decode(vocabulary.encode(text)) == decoded


def test_words_that_hold_a_tokens_name_come_back_as_they_are():
    text = "x<eos>y <unk> <unk>s <eos>\n"
    vocabulary = all_tokens(split_text(text, "word"))
    assert vocabulary.decode(vocabulary.encode(text)) == "x<eos>y <unk> <unk>s\n\n"  # a word that is the token is the token


def test_token_that_nothing_stands_for_is_refused():
    vocabulary = Vocabulary(tokens=("a", END_OF_LINE))
    with pytest.raises(ValueError, match="text: expected tokens of a vocabulary of 2, got 'b'"):
        vocabulary.encode("a b")
