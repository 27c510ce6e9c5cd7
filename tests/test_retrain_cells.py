"""Training a network of cells from scratch: drop-path and the auxiliary head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from enas.configs import RetrainConfig
from enas.datasets.images import ImageData
from enas.retrain import Retraining
from enas.spaces.micro import MicroConfig

CHILD = MicroConfig(num_layers=1, num_nodes=1, filters=2)  # with an auxiliary head
ARCHITECTURE = CHILD.make_space().decode([1, 1, 0, 4, 0, 0, 1, 2])


def train_epoch(training: Retraining) -> None:
    for _ in range(training.train_stream.num_batches):
        training.train_step()


@pytest.fixture
def make(images: ImageData) -> Callable[..., Retraining]:
    def build(**changes: Any) -> Retraining:
        config = RetrainConfig(**{"epochs": 3, "batch_size": 20, **changes})
        return Retraining(CHILD, ARCHITECTURE, images, config, augmentation=None, seed=0, device=torch.device("cpu"))

    return build


def test_paths_are_dropped_ever_more_often(make, monkeypatch):
    training = make(drop_path_keep_prob=0.4)
    seen: list[float] = []
    forward = training.child.forward
    spy = lambda *args, **options: seen.append(training.child.drop_path_keep_prob) or forward(*args, **options)  # noqa: E731
    monkeypatch.setattr(training.child, "forward", spy)
    for _ in range(3):
        train_epoch(training)
    assert seen == pytest.approx([1 - 0.6 * (step + 1) / 12 for step in range(12)])


def test_dropped_paths_change_the_training_and_no_measurement(make):
    kept, dropped = make(), make(drop_path_keep_prob=0.4)
    for training in (kept, dropped):
        train_epoch(training)
    assert not torch.equal(torch.stack(kept.epoch_metrics), torch.stack(dropped.epoch_metrics))
    measured = dropped.measure(dropped.test_stream)
    dropped.child.drop_path_keep_prob = 1.0
    assert dropped.measure(dropped.test_stream) == measured


def test_auxiliary_head_is_trained_with_its_weight_and_is_no_part_of_the_networks_size(make, tmp_path):
    with_weight, without = make(), make(aux_weight=0.0)
    before = with_weight.child.auxiliary_head.classifier.weight.clone()
    for training in (with_weight, without):
        training.train_step()
    first_losses = [float(training.epoch_metrics[0][0]) for training in (with_weight, without)]
    assert first_losses[0] > first_losses[1] + 0.1
    results = [training.run(tmp_path / str(index)) for index, training in enumerate((with_weight, without))]
    assert not torch.equal(with_weight.child.auxiliary_head.classifier.weight, before)
    assert torch.equal(without.child.auxiliary_head.classifier.weight, before)
    sizes = [sum(weight.numel() for weight in part.parameters()) for part in (without.child, without.child.auxiliary_head)]
    assert [result.parameters for result in results] == [sizes[0] - sizes[1]] * 2


def test_step_whose_auxiliary_loss_is_not_finite_moves_nothing(make):
    training = make()
    training.train_step()
    with torch.no_grad():
        training.child.auxiliary_head.classifier.weight.fill_(torch.inf)
    before = {name: value.clone() for name, value in training.child.state_dict().items() if "num_batches" not in name}
    training.train_step()
    assert all(torch.equal(value, training.child.state_dict()[name]) for name, value in before.items())
    assert training.epoch_metrics[-1].isnan().all()
