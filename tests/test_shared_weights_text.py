"""Shared weights on a text: the state of a path is carried from minibatch to minibatch, and from nowhere else."""

from __future__ import annotations

import io
import weakref
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from enas.children.base import Output
from enas.configs import ObjectiveConfig, SharedConfig
from enas.datasets.images import ImageData
from enas.datasets.random_lengths import RandomLengths
from enas.datasets.text import TextData, TextSplit
from enas.datasets.text_stream import in_rows
from enas.datasets.vocabulary import Vocabulary
from enas.metrics import METRICS
from enas.rewards import FLOOR, make_reward
from enas.seeding import derive_generator
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.spaces.rnn import RnnConfig
from enas.spaces.sampling import sample_uniform
from enas.types import IntArray, PathBatch

BPTT = 8
CHILD = RnnConfig(num_nodes=2, hidden=5, init_range=0.5)
DROPOUTS = ("word_dropout", "embedding_dropout", "input_dropout", "state_dropout", "output_dropout")
SGD = {"learning_rate": 0.5, "learning_rate_min": 0.5, "momentum": 0.0, "weight_decay": 1e-4, "grad_clip": 0.25}


@pytest.fixture
def data() -> TextData:
    """Six different tokens, each of which mostly follows the one before it in their order."""
    steps = torch.randint(1, 3, (700,), generator=torch.Generator().manual_seed(3))
    parts = torch.split(steps.cumsum(0) % 6, [400, 150, 150])
    train, valid, test = (TextSplit(tokens=part, bptt=BPTT) for part in parts)
    vocabulary = Vocabulary(tokens=tuple("abcdef"), level="char")
    return TextData(name="tiny", train=train, valid=valid, test=test, vocabulary=vocabulary)


@pytest.fixture
def make(data: TextData) -> Callable[..., SharedWeights]:
    def build(child: RnnConfig = CHILD, *, lengths: RandomLengths | None = None, seed: int = 0, **changes: Any) -> SharedWeights:
        config = SharedConfig(**{"batch_size": 10, "valid_batch_size": 3, **SGD, **changes})
        return SharedWeights(child, data, config, augmentation=lengths, seed=seed)

    return build


def draw(shared: SharedWeights, count: int, seed: int = 0) -> IntArray:
    return sample_uniform(shared.space, count, np.random.default_rng(seed))


def average(tokens: IntArray) -> PathBatch:
    return PathBatch(tokens=tokens, loss_weights=np.full(len(tokens), 1 / len(tokens)))


def members(shared: SharedWeights, count: int) -> list[Any]:
    return [shared.space.decode(row) for row in draw(shared, count)]


def train(shared: SharedWeights, steps: int, num_paths: int = 2) -> list[Tensor]:
    """Train on paths that follow from the number of steps done; return what was measured."""
    results = []
    for _ in range(steps):
        metrics = shared.train_step(average(draw(shared, num_paths, seed=shared.num_train_steps)))
        numbers = torch.tensor([metrics.learning_rate, *metrics.loss, *metrics.accuracy, metrics.grad_norm])
        results.append(torch.cat([numbers, *(carry.flatten() for carry in shared._carries)]))
    return results


def weights_of(shared: SharedWeights) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in shared.child.state_dict().items()}


def are_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def by_hand(shared: SharedWeights, architecture: Any, inputs: list[Tensor], labels: list[Tensor]) -> float:
    """Mean cross-entropy where each minibatch starts from the state that the one before it ended in."""
    carry, losses = None, []
    for tokens, following in zip(inputs, labels, strict=True):
        with torch.no_grad():
            output = deepcopy(shared.child).eval()(tokens, architecture, carry=carry)
        carry = output.carry
        losses += F.cross_entropy(output.logits, following, reduction="none").tolist()
    return sum(losses) / len(losses)


@pytest.mark.parametrize("lengths", [None, RandomLengths()])
def test_each_path_starts_from_where_its_place_ended_and_from_nothing_at_a_passs_start(lengths, make):
    shared = make(lengths=lengths)
    expected: list[Tensor | None] = []
    starts = 0
    for step in range(12):
        batch = shared.train_stream.batch(step)
        starts += batch.starts_afresh
        expected = [None, None] if batch.starts_afresh else expected
        network, generator, tokens = deepcopy(shared.child).train(), derive_generator(0, "dropout", step), draw(shared, 2, step)
        expected = [
            network(batch.inputs, shared.space.decode(row), carry=carry, generator=generator).carry
            for row, carry in zip(tokens, expected, strict=True)
        ]
        shared.train_step(average(tokens))
        assert all(map(torch.equal, shared._carries, expected))
        assert not any(carry.requires_grad for carry in shared._carries)
    assert 2 <= starts < 6


def test_more_paths_than_before_start_from_nothing(make):
    shared = make()
    train(shared, 1, num_paths=1)
    before, batch = shared._carries[0], shared.train_stream.batch(1)
    tokens, generator = draw(shared, 2), derive_generator(0, "dropout", 1)
    network = deepcopy(shared.child).train()
    expected = [
        network(batch.inputs, shared.space.decode(row), carry=carry, generator=generator).carry
        for row, carry in zip(tokens, [before, None], strict=True)
    ]
    shared.train_step(average(tokens))
    assert all(map(torch.equal, shared._carries, expected))


def test_search_killed_after_any_step_goes_on_with_the_same_bits(make):
    whole = make(lengths=RandomLengths())
    expected, states = [], []
    for _ in range(9):
        file = io.BytesIO()
        torch.save(whole.state_dict(), file)
        states.append(file)
        expected += train(whole, 1)
        whole.evaluate(members(whole, 1))
    for done, file in enumerate(states):
        file.seek(0)
        resumed = make(lengths=RandomLengths(), seed=5)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        assert resumed.num_evaluations == done
        assert all(map(torch.equal, train(resumed, 9 - done), expected[done:]))
        assert are_equal(weights_of(whole), weights_of(resumed))


def test_seeded_reset_forgets_what_was_carried(make):
    shared = make()
    train(shared, 2)
    shared.reset(0)
    assert shared._carries == []
    assert all(map(torch.equal, train(shared, 3), train(make(), 3)))


def spoil(shared: SharedWeights, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, Output], Output]) -> None:
    forward = shared.child.forward
    monkeypatch.setattr(shared.child, "forward", lambda *args, **options: change(args[1], forward(*args, **options)))


@pytest.mark.parametrize("done", [0, 2])
def test_step_without_a_finite_loss_moves_nothing_and_hands_on_nothing(done, make, monkeypatch):
    shared = make()
    train(shared, done)
    weights, (first, second) = weights_of(shared), draw(shared, 2, seed=3)
    broken = shared.space.decode(first)
    with monkeypatch.context() as patch:
        nan = Output(logits=torch.full((10 * BPTT, 6), torch.nan, requires_grad=True), carry=torch.full((10, 5), torch.nan))
        spoil(shared, patch, lambda architecture, output: nan if architecture == broken else output)
        assert shared.train_step(average(np.stack([first, second]))).failed
    assert are_equal(weights, weights_of(shared))
    assert [carry.tolist() for carry in shared._carries] == [torch.zeros(10, 5).tolist()] * 2
    assert all(result.isfinite().all() for result in train(shared, 2))


def test_step_with_a_path_that_does_not_fit_in_memory_hands_on_nothing(make, monkeypatch):
    shared = make()
    train(shared, 2)
    weights, (first, second) = weights_of(shared), draw(shared, 2, seed=3)
    large = shared.space.decode(second)

    def refuse(architecture: Any, output: Output) -> Output:
        if architecture == large:
            raise MemoryError
        return output

    with monkeypatch.context() as patch:
        spoil(shared, patch, refuse)
        with pytest.warns(RuntimeWarning, match="out of memory, training step skipped: rnn architecture"):
            assert shared.train_step(average(np.stack([first, second]))).failed
        with pytest.warns(RuntimeWarning, match="out of memory, not measured: rnn architecture"):
            evaluation = shared.evaluate([shared.space.decode(first), large])
    assert are_equal(weights, weights_of(shared))
    assert torch.equal(shared._carries[0], torch.zeros(10, 5))
    assert shared._carries[1] is None
    assert np.isfinite(evaluation.loss).tolist() == [True, False]


def test_state_from_which_every_step_fails_is_not_handed_on(make):
    shared = make()
    train(shared, 1)
    shared._carries[0].fill_(torch.nan)
    tokens = draw(shared, 2)
    assert [bool(shared.train_step(average(tokens)).failed) for _ in range(2)] == [True, False]


def test_architectures_are_scored_one_by_one(make, monkeypatch):
    shared = make(reward_batch="shared")
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def watch(_: Any, output: Output) -> Output:
        nonlocal most
        alive.append(weakref.ref(output.logits))
        most = max(most, sum(logits() is not None for logits in alive))
        return output

    spoil(shared, monkeypatch, watch)
    shared.evaluate(members(shared, 6))
    assert len(alive) == 6
    assert most == 2  # the one that is scored, until the next one is there


def test_learning_rate_goes_with_the_length_of_the_sequence(make):
    shared = make(lengths=RandomLengths(), weight_decay=0.0, grad_clip=None)
    rates = set()
    for step in range(6):
        before = {name: value.detach().clone() for name, value in shared.child.named_parameters()}
        length = shared.train_stream.batch(step).inputs.shape[1]
        metrics = shared.train_step(average(draw(shared, 2, seed=step)))
        assert metrics.learning_rate == 0.5
        rates.add(length / BPTT)
        for name, value in shared.child.named_parameters():
            moved = 0 if value.grad is None else 0.5 * length / BPTT * value.grad
            torch.testing.assert_close(value.detach(), before[name] - moved, rtol=1e-5, atol=1e-7)
    assert len(rates) > 2


@pytest.mark.parametrize("reward_batch", ["own", "shared"])
def test_rewards_start_from_nothing_and_leave_training_alone(reward_batch, make):
    asked, unasked = make(reward_batch=reward_batch), make(reward_batch=reward_batch)
    train(asked, 3)
    train(unasked, 3)
    carries = list(asked._carries)
    for first in (0, 2):
        architectures = members(asked, 2)
        evaluation = asked.evaluate(architectures)
        assert evaluation.num_examples == 3 * BPTT
        for index, architecture in enumerate(architectures):
            batch = asked.valid_stream.batch(first + index if reward_batch == "own" else first // 2)
            expected = by_hand(asked, architecture, [batch.inputs], [batch.labels])
            assert evaluation.loss[index] == pytest.approx(expected, rel=1e-5)
    asked.evaluate_all(architectures)
    assert all(old is new for old, new in zip(carries, asked._carries, strict=True))
    assert all(map(torch.equal, train(asked, 2), train(unasked, 2)))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_minibatches_of_a_reward_carry_on_unless_the_text_starts_again(number, make):
    shared = make(reward_batches=4)  # of the six of a pass
    train(shared, 2)
    shared.num_evaluations = number
    (architecture,) = members(shared, 1)
    evaluation = shared.evaluate([architecture])
    batches = [shared.valid_stream.batch(step) for step in range(4 * number, 4 * number + 4)]
    again = next((index for index, batch in enumerate(batches) if index and batch.starts_afresh), 4)
    assert again == (2 if number == 1 else 4)
    losses = [
        by_hand(shared, architecture, [batch.inputs for batch in part], [batch.labels for batch in part]) * len(part)
        for part in (batches[:again], batches[again:])
        if part
    ]
    assert evaluation.loss[0] == pytest.approx(sum(losses) / 4, rel=1e-5)
    assert evaluation.num_examples == 4 * 3 * BPTT


@pytest.mark.parametrize("num_sequences", [None, 7])
def test_whole_split_is_read_as_one_long_sequence_in_each_row(num_sequences, make, data):
    shared = make()
    train(shared, 3)
    architectures = members(shared, 2)
    evaluation = shared.evaluate_all(architectures, num_images=num_sequences)
    tokens = data.valid.tokens if num_sequences is None else data.valid.tokens[: 7 * BPTT + 1]
    rows = in_rows(tokens, 3)
    assert evaluation.num_examples == 3 * (rows.shape[1] - 1) > 0
    for architecture, loss in zip(architectures, evaluation.loss, strict=True):
        assert loss == pytest.approx(by_hand(shared, architecture, [rows[:, :-1]], [rows[:, 1:].reshape(-1)]), rel=1e-5)


def test_training_on_a_text_brings_its_perplexity_near_the_least(make):
    plain = replace(CHILD, slowness_penalty=0.0, **dict.fromkeys(DROPOUTS, 0.0))
    shared = make(plain, lengths=RandomLengths(), learning_rate=3.0, learning_rate_min=3.0)
    (architecture,) = members(shared, 1)
    for _ in range(60):
        shared.train_step(average(np.array([shared.space.encode(architecture)])))
    loss = shared.evaluate_all([architecture]).loss[0]
    assert 1.9 < METRICS["perplexity"].of(accuracy=0.0, loss=float(loss)) < 2.4  # each token has two successors


def test_exploded_perplexity_is_infinite_and_earns_nothing(make):
    shared = make()
    with torch.no_grad():
        shared.child.embedding.mul_(1e5)
    evaluation = shared.evaluate(members(shared, 2))
    assert (evaluation.loss > 700).all()
    assert np.isfinite(evaluation.loss).all()
    reward = make_reward("perplexity", ObjectiveConfig(perplexity_scale=80.0))
    assert reward(evaluation).tolist() == [FLOOR, FLOOR]
    assert METRICS["perplexity"].of(accuracy=0.0, loss=float(evaluation.loss[0])) == inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 50}, r"shared\.batch_size: expected at most 49, the number of sequences of 8 tokens, got 50"),
        ({"valid_batch_size": 19}, r"shared\.valid_batch_size: expected at most 18, the number of sequences of 8 tokens, got 19"),
    ],
)
def test_more_rows_than_sequences_are_refused(changes, message, make):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_network_of_the_other_kind_is_refused(data: TextData, images: ImageData):
    with pytest.raises(ValueError, match="data: expected a data set of images, which networks of the space macro read, got tiny"):
        SharedWeights(MacroConfig(num_layers=2, filters=2), data, SharedConfig(batch_size=2, valid_batch_size=2))
    with pytest.raises(ValueError, match="data: expected a data set of text, which networks of the space rnn read, got tiny"):
        SharedWeights(CHILD, images, SharedConfig(batch_size=2, valid_batch_size=2))
