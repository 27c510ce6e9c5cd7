"""Minibatches of texts whose tokens are their own positions, so that a minibatch tells where it was read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from enas.datasets.data import Batch
from enas.datasets.random_lengths import RandomLengths
from enas.datasets.text import TextSplit
from enas.datasets.text_stream import TextStream


def make(
    num_tokens: int = 2_000, bptt: int = 35, *, batch_size: int = 4, seed: int = 0, lengths: RandomLengths | None = None
) -> TextStream:
    split = TextSplit(tokens=torch.arange(num_tokens), bptt=bptt)
    return TextStream(split, batch_size=batch_size, seed=seed, lengths=lengths)


def passes(stream: TextStream, count: int) -> Iterator[list[Batch]]:
    """Cut the stream's batches where they start afresh."""
    step = 0
    for _ in range(count):
        batches = [stream.batch(step)]
        while not stream.batch(step + len(batches)).starts_afresh:
            batches.append(stream.batch(step + len(batches)))
        step += len(batches)
        yield batches


def joined(batches: list[Batch]) -> Tensor:
    """Return the tokens that rows were read in, in their order, (B, L)."""
    return torch.cat([batch.inputs for batch in batches], dim=1)


def test_rows_are_read_side_by_side_from_left_to_right():
    stream = make(23, 3, batch_size=2)  # rows of 11 places, the second from token 11
    first, second, third, again = (stream.batch(step) for step in range(4))
    assert stream.num_batches == 3
    assert first.inputs.tolist() == [[0, 1, 2], [11, 12, 13]]
    assert first.labels.tolist() == [1, 2, 3, 12, 13, 14]
    assert second.inputs.tolist() == [[3, 4, 5], [14, 15, 16]]
    assert third.inputs.tolist() == [[6, 7, 8], [17, 18, 19]]  # 9, 10 and 20, 21 fill no sequence
    assert again.inputs.tolist() == first.inputs.tolist()
    assert [batch.starts_afresh for batch in (first, second, third, again)] == [True, False, False, True]
    assert {batch.rate for batch in (first, second, third)} == {1.0}


@pytest.mark.parametrize("lengths", [None, RandomLengths()])
def test_label_of_a_token_is_the_one_after_it(lengths):
    stream = make(lengths=lengths)
    for step in range(40):
        batch = stream.batch(step)
        assert batch.inputs.dtype == batch.labels.dtype == torch.int64
        assert torch.equal(batch.labels, batch.inputs.reshape(-1) + 1)


@pytest.mark.parametrize(("num_tokens", "bptt", "batch_size"), [(2_000, 35, 4), (777, 8, 1), (101, 5, 20), (38, 3, 4), (9, 1, 8)])
def test_pass_of_random_lengths_reads_every_place_once(num_tokens, bptt, batch_size):
    stream = make(num_tokens, bptt, batch_size=batch_size, lengths=RandomLengths())
    length = (num_tokens - 1) // batch_size
    expected = torch.arange(batch_size)[:, None] * length + torch.arange(length)
    for batches in passes(stream, 5):
        assert torch.equal(joined(batches), expected)
        assert batches[-1].inputs.shape[1] >= min(2, length)  # no tail of a single token


def test_random_lengths_differ_from_pass_to_pass_and_the_rate_follows_them():
    made = [[batch.inputs.shape[1] for batch in batches] for batches in passes(make(lengths=RandomLengths()), 6)]
    assert len({tuple(widths) for widths in made}) == 6
    assert len({len(widths) for widths in made}) > 1
    stream = make(lengths=RandomLengths())
    for step in range(50):
        assert stream.batch(step).rate == stream.batch(step).inputs.shape[1] / 35


def test_nominal_number_of_batches_is_near_the_mean_and_the_same_for_every_seed():
    streams = [make(20_000, seed=seed, lengths=RandomLengths()) for seed in range(3)]
    (nominal,) = {stream.num_batches for stream in streams}
    counts = [len(batches) for stream in streams for batches in passes(stream, 10)]
    assert sum(counts) / len(counts) == pytest.approx(nominal, abs=1.0)
    assert make(60, 35, batch_size=1, lengths=RandomLengths()).num_batches == 2


@pytest.mark.parametrize("lengths", [None, RandomLengths()])
def test_batch_depends_on_seed_and_step_alone(lengths):
    forward, backward = make(lengths=lengths), make(lengths=lengths)
    in_order = [forward.batch(step) for step in range(60)]
    for step in [59, 3, 0, 31, 3, 59, 17, 58]:
        other = backward.batch(step)
        assert torch.equal(other.inputs, in_order[step].inputs)
        assert torch.equal(other.labels, in_order[step].labels)
        assert (other.starts_afresh, other.rate) == (in_order[step].starts_afresh, in_order[step].rate)


def test_seed_decides_lengths_and_nothing_else():
    widths = [[make(seed=seed, lengths=RandomLengths()).batch(step).inputs.shape[1] for step in range(14)] for seed in (0, 1)]
    assert widths[0] != widths[1]
    assert torch.equal(make(seed=0).batch(5).inputs, make(seed=1).batch(5).inputs)


def test_batch_is_a_view_of_the_text_where_it_lies():
    split = TextSplit(tokens=torch.arange(100), bptt=5)
    stream = TextStream(split, batch_size=3, seed=0)
    assert stream.batch(1).inputs.untyped_storage().data_ptr() == split.tokens.untyped_storage().data_ptr()


@pytest.mark.parametrize("lengths", [None, RandomLengths()])
@pytest.mark.parametrize(("num_tokens", "rows", "left_out"), [(2_000, 3, 1), (2_001, 4, 0), (40, 1, 0), (107, 9, 1)])
def test_whole_reads_the_text_once_and_carries_along(num_tokens, rows, left_out, lengths):
    batches = list(make(num_tokens, batch_size=1, lengths=lengths).whole(rows))
    labels = torch.cat([batch.labels for batch in batches])
    assert sorted(labels.tolist()) == list(range(1, num_tokens - left_out))
    assert [batch.starts_afresh for batch in batches] == [True] + [False] * (len(batches) - 1)
    assert all(batch.inputs.shape[1] == 35 for batch in batches[:-1])
    assert len({len(batch.inputs) for batch in batches}) == 1


def test_whole_has_as_many_rows_as_there_are_sequences_at_most():
    (batch,) = make(12, 5, batch_size=1).whole(10)
    assert batch.inputs.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize("batch_size", range(1, 13))
def test_every_number_of_rows_up_to_that_of_sequences_fills_a_batch(batch_size):
    stream = make(64, 5, batch_size=batch_size)  # 12 sequences
    assert stream.batch(0).inputs.shape == (batch_size, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 58}, "batch_size: expected 1 to 57, the number of sequences of 35 tokens, got 58"),
        ({"batch_size": 0}, "batch_size: expected 1 to 57, the number of sequences of 35 tokens, got 0"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_negative_step_and_empty_chunks_are_refused():
    with pytest.raises(ValueError, match="step: expected at least 0, got -1"):
        make().batch(-1)
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        make().whole(0)
