"""What TensorBoard shows of a training, and what becomes of it where the disk refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from enas.configs import RetrainConfig
from enas.datasets.images import ImageData
from enas.event_files import EventFiles
from enas.retrain import Retraining
from enas.spaces.micro import MicroConfig
from enas.training_curves import TrainingCurves

CHILD = MicroConfig(num_layers=1, num_nodes=1, filters=2)
ARCHITECTURE = CHILD.make_space().decode([1, 1, 0, 4, 0, 0, 1, 2])


@pytest.fixture
def make(images: ImageData) -> Callable[..., Retraining]:
    def build(**changes: Any) -> Retraining:
        config = RetrainConfig(**{"epochs": 4, "batch_size": 45, **changes})
        return Retraining(CHILD, ARCHITECTURE, images, config, augmentation=None, seed=0, device=torch.device("cpu"))

    return build


def curves_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: sorted((event.step, event.value) for event in events.Scalars(tag)) for tag in events.Tags()["scalars"]}


def test_curves_hold_each_epoch_and_each_measurement(make, tmp_path):
    training = make(epochs=21, restart_epochs=7, drop_path_keep_prob=0.5)
    losses, accuracies = [], []

    def note(training: Retraining) -> None:
        loss, accuracy = torch.stack(training.epoch_metrics).mean(dim=0).tolist()
        losses.append(loss)
        accuracies.append(accuracy)

    result = training.run(tmp_path, on_epoch=note)
    curves = curves_of(tmp_path / "tb")
    epochs = list(range(1, 22))
    rates = [training.config.learning_rate, *[rate for _, rate in curves["train/lr"]][1:]]
    expected = {
        "train/loss": list(zip(epochs, losses, strict=True)),
        "train/accuracy": list(zip(epochs, accuracies, strict=True)),
        "train/lr": list(zip(epochs, rates, strict=True)),
        "train/drop_path_keep_prob": [(epoch, 1 - 0.5 * epoch / 21) for epoch in epochs],
        "test/accuracy": [(row["epoch"], row["test_accuracy"]) for row in training.history],
        "test/error": [(row["epoch"], 1 - row["test_accuracy"]) for row in training.history],
        "test/loss": [(row["epoch"], row["test_loss"]) for row in training.history],
    }
    assert curves.keys() == expected.keys()
    for tag, points in expected.items():
        assert [epoch for epoch, _ in curves[tag]] == [epoch for epoch, _ in points]
        assert [value for _, value in curves[tag]] == pytest.approx([value for _, value in points], rel=1e-5)
    assert curves["train/lr"][7] == (8, pytest.approx(0.05))  # the restart
    assert curves["train/lr"][6][1] < 0.01
    assert curves["test/accuracy"][-1] == (21, pytest.approx(result.test_accuracy))


def test_keep_probability_has_a_curve_only_where_paths_are_dropped(make, tmp_path):
    make().run(tmp_path)
    assert "train/drop_path_keep_prob" not in curves_of(tmp_path / "tb")


def test_epoch_without_a_finite_loss_is_a_gap(make, tmp_path):
    training = make(epochs=20)  # measured after every second epoch
    step = training.train_step

    def fail_in_the_third_epoch() -> None:
        step()
        if training.epoch == 2 or training.step == 6:
            training.epoch_metrics[-1].fill_(torch.nan)

    training.train_step = fail_in_the_third_epoch
    training.run(tmp_path)
    curves = curves_of(tmp_path / "tb")
    assert [epoch for epoch, _ in curves["train/loss"]] == [epoch for epoch in range(1, 21) if epoch != 3]
    assert [epoch for epoch, _ in curves["train/lr"]] == list(range(1, 21))


def test_kill_loses_no_epoch_that_was_written(tmp_path):
    curves = TrainingCurves(tmp_path, start=None)
    curves.write({"train/loss": 0.5}, epoch=1)
    curves.write({"train/loss": 0.25}, epoch=2)
    assert curves_of(tmp_path) == {"train/loss": [(1, 0.5), (2, 0.25)]}  # nothing was closed
    curves.__exit__(None, None, None)


def test_curves_go_on_from_a_checkpoint_without_a_step_twice(tmp_path):
    with TrainingCurves(tmp_path, start=None) as curves:
        curves.write({"train/loss": 1.0}, epoch=1)
        state = curves.state()
        curves.write({"train/loss": 2.0}, epoch=2)
        curves.write({"train/loss": 3.0}, epoch=3)
    with TrainingCurves(tmp_path, start=state) as curves:
        assert curves.state() == state
        curves.write({"train/loss": 4.0}, epoch=2)
    assert curves_of(tmp_path) == {"train/loss": [(1, 1.0), (2, 4.0)]}
    with TrainingCurves(tmp_path, start=None):  # another training
        pass
    assert curves_of(tmp_path) == {}


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events.out.tfevents.1")


def test_disk_that_takes_no_curves_at_first_costs_their_start_alone(make, tmp_path, monkeypatch):
    calm = make().run(tmp_path / "calm")
    opened = iter([True, True, False])
    open_writer = EventFiles._open

    def refuse(files: EventFiles, purge_step: int | None) -> SummaryWriter:
        if next(opened, False):
            raise FULL
        return open_writer(files, purge_step)

    monkeypatch.setattr(EventFiles, "_open", refuse)
    with pytest.warns(RuntimeWarning, match=r"tb: no curves for TensorBoard yet, No space left on device$"):
        assert make().run(tmp_path / "full") == calm
    assert (tmp_path / "full" / "result.json").read_bytes() == (tmp_path / "calm" / "result.json").read_bytes()
    later = {tag: [point for point in points if point[0] > 1] for tag, points in curves_of(tmp_path / "calm" / "tb").items()}
    assert curves_of(tmp_path / "full" / "tb") == later


def test_disk_that_fills_up_on_the_way_costs_the_rest_of_the_curves_alone(make, tmp_path, monkeypatch):
    calm = make().run(tmp_path / "calm")
    add = SummaryWriter.add_scalar

    def refuse(writer: SummaryWriter, tag: str, value: float, step: int) -> None:
        if step >= 3:
            raise FULL
        add(writer, tag, value, step)

    monkeypatch.setattr(SummaryWriter, "add_scalar", refuse)
    with pytest.warns(RuntimeWarning, match="TensorBoard's curves have a gap from here on"):
        assert make().run(tmp_path / "full") == calm
    before = {tag: [point for point in points if point[0] < 3] for tag, points in curves_of(tmp_path / "calm" / "tb").items()}
    assert curves_of(tmp_path / "full" / "tb") == before
