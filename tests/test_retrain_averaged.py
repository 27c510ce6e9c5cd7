"""Training from scratch with averaged SGD, and what it measures on the validation split."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import enas.averaging
from enas.configs import RetrainConfig
from enas.datasets.images import ImageData
from enas.errors import Stopped
from enas.metrics import METRICS
from enas.retrain import Retraining
from enas.retrain_result import RetrainResult, read_result
from enas.spaces.macro import MacroConfig

CHILD = MacroConfig(num_layers=2, filters=4)
ARCHITECTURE = CHILD.make_space().decode([4, 1, 1])
CONSTANT = {"learning_rate": 0.2, "learning_rate_min": 0.2, "momentum": 0.0}
CONFIG = RetrainConfig(epochs=5, batch_size=20, use_valid=False, **CONSTANT)
STEPS_PER_EPOCH = 60 // 20


@pytest.fixture
def make(images: ImageData) -> Callable[..., Retraining]:
    def build(*, data: ImageData = images, **changes: Any) -> Retraining:
        config = replace(CONFIG, **changes)
        cpu = torch.device("cpu")
        return Retraining(CHILD, ARCHITECTURE, data, config, augmentation=None, seed=0, device=cpu)

    return build


@pytest.fixture
def starts_after_two_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enas.averaging, "has_stopped_falling", lambda losses, *, window: len(losses) >= 2)


def curves_of(folder: Path) -> dict[str, dict[int, float]]:
    """Value by epoch of each curve."""
    events = EventAccumulator(str(folder / "tb"), size_guidance={"scalars": 0}).Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_answer_is_the_mean_of_the_weights_after_each_step_since_averaging_started(make, tmp_path, starts_after_two_epochs):
    training, plain, oracle = make(average_window=1), make(), make()
    after: list[dict[str, torch.Tensor]] = []
    step = training.train_step
    keep = lambda: after.append({name: value.clone() for name, value in training.child.state_dict().items()})  # noqa: E731
    training.train_step = lambda: (step(), keep())
    result = training.run(tmp_path / "averaged")
    averaged = after[2 * STEPS_PER_EPOCH :]
    assert training.averaging.num_averaged == len(averaged) == 3 * STEPS_PER_EPOCH
    oracle.child.load_state_dict({name: sum(state[name].double() for state in averaged) / len(averaged) for name in averaged[0]})
    for split, stream in (("test", oracle.test_stream), ("valid", oracle.valid_stream)):
        measured = oracle.measure(stream)
        assert getattr(result, f"{split}_loss") == pytest.approx(measured.loss, rel=1e-4)
        assert getattr(result, f"{split}_accuracy") == measured.accuracy
    plain_result = plain.run(tmp_path / "plain")
    assert plain_result.test_loss != pytest.approx(result.test_loss, rel=1e-3)
    for name, value in plain.child.state_dict().items():  # averaging changes nothing of the training
        assert torch.equal(value, training.child.state_dict()[name])
    assert [row["test_loss"] for row in plain.history[:2]] == [row["test_loss"] for row in training.history[:2]]


def test_averaging_starts_after_the_epoch_whose_loss_is_no_longer_the_lowest(make, tmp_path):
    training = make(average_window=1, epochs=12, learning_rate=1.0, learning_rate_min=1.0)
    started = []
    training.run(tmp_path, on_epoch=lambda training: started.append(training.averaging.has_started))
    losses = [row["valid_loss"] for row in training.valid_history]
    first = next(epoch for epoch in range(12) if epoch > 1 and losses[epoch] > min(losses[: epoch - 1]))
    assert started == [epoch >= first for epoch in range(12)]
    assert 1 < first < 11


def test_training_stopped_again_and_again_ends_as_an_undisturbed_one(make, tmp_path, starts_after_two_epochs):
    undisturbed = make(average_window=3)
    result = undisturbed.run(tmp_path / "undisturbed")
    stops: list[str] = []
    while True:
        training, questions = make(average_window=3), count(1)
        try:
            # from the third question on: after a step, within or after a measurement, on validation or test data
            assert training.run(tmp_path / "stopped", should_stop=lambda q=questions: next(q) >= 3) == result
            break
        except Stopped as error:
            stops.append(str(error))
    assert len(stops) >= 10
    for name, value in undisturbed.averaging.network.state_dict().items():
        assert torch.equal(value, training.averaging.network.state_dict()[name])
    files = [tmp_path / folder / "result.json" for folder in ("undisturbed", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_step_whose_loss_is_not_finite_is_not_averaged(make, monkeypatch, starts_after_two_epochs):
    training = make(average_window=1)
    training.averaging.watch([1.0, 2.0])
    training.train_step()
    before = sum(p.sum().item() for p in training.averaging.network.parameters())
    batch = training.train_stream.batch(1)
    monkeypatch.setattr(training.train_stream, "batch", lambda step: replace(batch, inputs=batch.inputs / 0))
    training.train_step()
    assert training.averaging.num_averaged == 1
    assert sum(p.sum().item() for p in training.averaging.network.parameters()) == before


def test_validation_data_are_measured_at_the_end_or_with_averaging_after_every_epoch(make, tmp_path):
    for name, changes, epochs in (("end", {}, [20]), ("every", {"average_window": 30}, list(range(1, 21)))):
        training = make(epochs=20, batch_size=60, **changes)
        result = training.run(tmp_path / name)
        measured = training.measure(training.valid_stream)
        assert (result.valid_accuracy, result.valid_loss) == (measured.accuracy, measured.loss)
        assert result.valid_value == result.valid_accuracy
        curves = curves_of(tmp_path / name)
        assert list(curves["valid/loss"]) == list(curves["valid/accuracy"]) == epochs
        assert curves["valid/loss"][20] == pytest.approx(result.valid_loss)
        rows = json.loads((tmp_path / name / "result.json").read_text())["history"]
        assert [row["epoch"] for row in rows] == list(range(2, 21, 2))
        assert [row["epoch"] for row in rows if "valid_loss" in row] == [epoch for epoch in epochs if epoch % 2 == 0]
        assert rows[-1]["valid_loss"] == result.valid_loss


def test_perplexity_has_curves_and_results_of_its_own(make, tmp_path):
    training = make(epochs=1)
    training.metric = METRICS["perplexity"]
    result = training.run(tmp_path)
    curves = curves_of(tmp_path)
    assert result.valid_value == pytest.approx(2.718281828**result.valid_loss)
    assert curves["valid/perplexity"][1] == pytest.approx(result.valid_value)
    assert curves["test/perplexity"][1] == pytest.approx(result.test_value)
    assert "valid/accuracy" not in curves


def test_validation_data_that_are_trained_on_are_not_measured(make, tmp_path):
    result = make(epochs=1, use_valid=True).run(tmp_path)
    assert (result.valid_accuracy, result.valid_loss, result.valid_value) == (None, None, None)
    assert not any(tag.startswith("valid") for tag in curves_of(tmp_path))


def test_result_of_before_validation_data_were_measured_is_read(tmp_path):
    old = {"test_accuracy": 0.5, "best_test_accuracy": 0.6, "train_loss": 1.0, "parameters": 3, "seed": 4}
    (tmp_path / "result.json").write_text(json.dumps({"result": old, "history": [], "architecture": {}}))
    assert read_result(tmp_path / "result.json", architecture={}) == RetrainResult(**old)
    assert (RetrainResult(**old).test_value, RetrainResult(**old).valid_value) == (0.5, None)


def test_averaging_without_validation_data_of_its_own_is_refused(make, images):
    with pytest.raises(ValueError, match=r"average_window: expected None with use_valid, .*, got 5"):
        RetrainConfig(average_window=5)
    with pytest.raises(ValueError, match="average_window: expected at least 1 or None, got 0"):
        RetrainConfig(average_window=0, use_valid=False)
    empty = images.with_valid_in_train()
    with pytest.raises(ValueError, match=r"retrain.average_window: expected None without validation data, .*, got 5"):
        make(data=empty, average_window=5)
    assert make(data=empty).valid_stream is None
