from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from enas.data_configs import AugmentConfig
from enas.datasets.random_lengths import RandomLengths
from enas.datasets.text import TextData, TextSplit
from enas.datasets.vocabulary import all_tokens


def split(text: str, bptt: int = 3) -> TextSplit:
    return TextSplit(tokens=torch.tensor([ord(letter) - ord("a") for letter in text], dtype=torch.int64), bptt=bptt)


def make(*, train: str = "abcdabcdabcd", valid: str = "bbcca", test: str = "ddddd", bptt: int = 3) -> TextData:
    return TextData(
        name="tiny",
        train=split(train, bptt),
        valid=split(valid, bptt),
        test=split(test, bptt),
        vocabulary=all_tokens("abcd", "char"),
    )


@pytest.mark.parametrize(("num_tokens", "expected"), [(0, 0), (1, 0), (3, 0), (4, 1), (6, 1), (7, 2), (12, 3), (13, 4)])
def test_length_is_the_number_of_sequences_that_have_a_token_after_them(num_tokens, expected):
    assert len(split("a" * num_tokens)) == expected


def test_first_sequences_keep_the_token_after_them():
    assert split("abcdabcd").first(2).tokens.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert len(split("abcdabcd").first(1)) == 1
    assert split("abcdabcd").first(9).tokens.tolist() == split("abcdabcd").tokens.tolist()


def test_data_say_what_they_are():
    data = make()
    assert (data.kind, data.metric, data.input_shape, data.num_classes) == ("text", "perplexity", (), 4)
    assert data.unit == "sequences of 3 tokens"
    assert data.measured(data.valid) is data.valid


def test_validation_tokens_follow_the_training_ones_in_retraining():
    joined = make().with_valid_in_train()
    assert joined.decode(joined.train.tokens) == "abcdabcdabcdbbcca"
    assert (len(joined.valid), joined.decode(joined.test.tokens)) == (0, "ddddd")


def test_another_split_may_stand_for_the_validation_split():
    data = make()
    assert data.with_valid(data.test).valid is data.test


def test_text_comes_back_from_its_numbers():
    assert make().encode("cab").tolist() == [2, 0, 1]
    assert make().decode([2, 0, 1]) == make().decode(torch.tensor([2, 0, 1])) == "cab"


def test_vocabulary_is_kept_beside_a_network():
    data = make()
    assert data.preparation() == {"level": "char", "vocabulary": "vocabulary.json"}
    assert json.loads(data.files()["vocabulary.json"]) == ["a", "b", "c", "d"]


def test_lengths_vary_in_training_if_the_data_say_so():
    plain, varied = make(), replace(make(), augmentation=RandomLengths())
    assert plain.varied(AugmentConfig()) is None
    assert varied.varied(AugmentConfig()) == RandomLengths()
    stream = varied.stream(varied.train, batch_size=1, seed=0, augmentation=varied.augmentation)
    assert {stream.batch(step).inputs.shape[1] for step in range(20)} != {3}


@pytest.mark.parametrize(("changes", "got"), [({"pad": 0}, 0), ({"flip": False}, False), ({"cutout": 2}, 2)])
def test_augmentation_of_images_is_refused(changes, got):
    (name,) = changes
    with pytest.raises(ValueError, match=rf"augment\.{name}: expected (None|0) with a text, got {got}"):
        make().varied(AugmentConfig(**changes))


def test_splits_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"tiny: valid: expected tokens in 0\.\.3, got 0 to 4"):
        make(valid="abcde")
    with pytest.raises(ValueError, match="tiny: test: expected sequences of 3 tokens, got sequences of 2 tokens"):
        replace(make(), test=split("abcd", bptt=2))
    with pytest.raises(ValueError, match=r"tokens: expected torch.int64 \(N,\), got torch.float32 \(2, 2\)"):
        TextSplit(tokens=torch.zeros(2, 2), bptt=3)
    with pytest.raises(ValueError, match="bptt: expected at least 1, got 0"):
        split("ab", bptt=0)
