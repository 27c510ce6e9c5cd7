"""Training from scratch on a text: what is carried on from step to step, killed or not, and steps' lengths."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import enas.averaging
from enas.configs import RetrainConfig
from enas.datasets.random_lengths import RandomLengths
from enas.datasets.text import TextData, TextSplit
from enas.datasets.vocabulary import Vocabulary
from enas.errors import Stopped
from enas.retrain import Retraining
from enas.seeding import derive_generator
from enas.spaces.rnn import RnnConfig

BPTT = 8
CHILD = RnnConfig(num_nodes=2, hidden=5, init_range=0.5)
ARCHITECTURE = CHILD.make_space().decode([0, 0, 1, 3])
SGD = {"learning_rate": 0.5, "learning_rate_min": 0.5, "momentum": 0.0, "weight_decay": 1e-4, "grad_clip": 0.25}


@pytest.fixture
def make() -> Callable[..., Retraining]:
    tokens = torch.randint(6, (400,), generator=torch.Generator().manual_seed(3))
    train, valid, test = (TextSplit(tokens=part, bptt=BPTT) for part in torch.split(tokens, [200, 100, 100]))
    vocabulary = Vocabulary(tokens=tuple("abcdef"), level="char")
    data = TextData(name="tiny", train=train, valid=valid, test=test, vocabulary=vocabulary)

    def build(lengths: RandomLengths | None = None, **changes: Any) -> Retraining:
        config = RetrainConfig(**{"epochs": 4, "batch_size": 5, "use_valid": False, **SGD, **changes})
        cpu = torch.device("cpu")
        return Retraining(CHILD, ARCHITECTURE, data, config, augmentation=lengths, seed=0, device=cpu)

    return build


@pytest.fixture
def starts_after_two_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enas.averaging, "has_stopped_falling", lambda losses, *, window: len(losses) >= 2)


def weights_of(training: Retraining) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.child.named_parameters()}


def test_each_step_starts_from_where_the_one_before_ended_and_moves_in_proportion_to_its_length(make):
    training = make(RandomLengths(), weight_decay=0.0, grad_clip=None)
    carry, starts, lengths = None, 0, set()
    for step in range(12):
        batch, before = training.train_stream.batch(step), weights_of(training)
        carry, starts = (None, starts + 1) if batch.starts_afresh else (carry, starts)
        generator = derive_generator(0, "dropout", step)
        carry = training.child.train()(batch.inputs, ARCHITECTURE, carry=carry, generator=generator).carry
        training.train_step()
        assert torch.equal(training._carry, carry)
        length = batch.inputs.shape[1]
        lengths.add(length)
        for name, value in training.child.named_parameters():
            moved = before[name] - 0.5 * length / BPTT * value.grad
            torch.testing.assert_close(value.detach(), moved, rtol=1e-5, atol=1e-7)
    assert 2 <= starts < 6
    assert len(lengths) > 2


def test_training_stopped_after_every_step_ends_as_an_undisturbed_one(make, tmp_path, starts_after_two_epochs):
    undisturbed = make(RandomLengths(), average_window=2)
    result = undisturbed.run(tmp_path / "undisturbed")
    steps: list[int] = []
    while True:
        training, questions = make(RandomLengths(), average_window=2), count(1)
        try:
            assert training.run(tmp_path / "stopped", should_stop=lambda q=questions: next(q) >= 3) == result
            break
        except Stopped:
            steps.append(training.step)
    assert len(steps) >= 10
    assert torch.equal(training._carry, undisturbed._carry)
    for name, value in undisturbed.averaging.network.state_dict().items():
        assert torch.equal(value, training.averaging.network.state_dict()[name])
    files = [tmp_path / folder / "result.json" for folder in ("undisturbed", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_curve_shows_the_rate_of_the_usual_length(make, tmp_path):
    training = make(RandomLengths(), learning_rate_min=0.1)
    training.run(tmp_path)
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    rates = [event.value for event in events.Scalars("train/lr")]
    per_epoch = training.train_stream.num_batches
    last_steps = [epoch * per_epoch - 1 for epoch in (1, 2, 3, 4)]
    cosines = [0.1 + 0.2 * (1 + torch.tensor(step / training.num_steps * torch.pi).cos().item()) for step in last_steps]
    assert rates == pytest.approx(cosines, rel=1e-5)
