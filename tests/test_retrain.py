from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import enas.retrain
from enas.children.cost import count_parameters
from enas.configs import Precision, RetrainConfig
from enas.datasets.augment import Augmentation
from enas.datasets.images import ImageData, ImageSplit
from enas.errors import Stopped, TrainingFailed
from enas.metrics import METRICS
from enas.retrain import Retraining
from enas.retrain_result import Measured, RetrainResult
from enas.spaces.base import ChildConfig
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig

CHILD = MacroConfig(num_layers=3, filters=4)
SPACE = CHILD.make_space()
ARCHITECTURE = SPACE.decode([0, 4, 1, 1, 0, 1])
CELLS = MicroConfig(num_layers=1, num_nodes=1, filters=2)  # with an auxiliary head
CELL_ARCHITECTURE = CELLS.make_space().decode([1, 1, 0, 4, 0, 0, 1, 2])
CONFIG = RetrainConfig(epochs=3, batch_size=20)
AUGMENTATION = Augmentation(pad=1, flip=True, cutout=2)


class Killed(BaseException):
    """Ends a training from outside."""


def train_epoch(training: Retraining) -> None:
    for _ in range(training.train_stream.num_batches):
        training.train_step()


@pytest.fixture
def make(images: ImageData) -> Callable[..., Retraining]:
    def build(
        architecture: Any = ARCHITECTURE,
        *,
        child: ChildConfig = CHILD,
        data: ImageData = images,
        seed: int = 0,
        augmentation: Augmentation | None = AUGMENTATION,
        precision: Precision = "fp32",
        **changes: Any,
    ) -> Retraining:
        return Retraining(
            child,
            architecture,
            data,
            replace(CONFIG, **changes),
            augmentation=augmentation,
            seed=seed,
            device=torch.device("cpu"),
            precision=precision,
        )

    return build


def curves_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(epoch, value) of each curve; two files of one second are read in any order."""
    events = EventAccumulator(str(folder / "tb"), size_guidance={"scalars": 0}).Reload()
    return {tag: sorted((event.step, event.value) for event in events.Scalars(tag)) for tag in events.Tags()["scalars"]}


def separable() -> ImageData:
    """Three classes: which third of the image is bright."""
    generator = torch.Generator().manual_seed(5)

    def split(count: int) -> ImageSplit:
        labels = torch.arange(count) % 3
        images = torch.randint(60, (count, 1, 9, 9), generator=generator)
        for label in range(3):
            images[labels == label, :, 3 * label : 3 * label + 3] += 150
        return ImageSplit(images=images.to(torch.uint8), labels=labels)

    splits = {"train": split(90), "valid": split(30), "test": split(60)}
    return ImageData(name="stripes", num_classes=3, mean=(0.3,), std=(0.3,), **splits)


def test_training_learns_what_can_be_learned(make, tmp_path):
    training = make(data=separable(), augmentation=None, epochs=15, batch_size=15, learning_rate=0.1)
    assert training.measure(training.test_stream).accuracy < 0.7
    result = training.run(tmp_path)
    assert result.test_accuracy >= 0.95
    assert result.train_loss < 0.5
    assert training.measure(training.test_stream).accuracy == result.test_accuracy


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}  # tb/ tells the time


def test_equal_arguments_give_equal_bits(make, tmp_path):
    trainings = {name: make(seed=seed) for name, seed in (("first", 1), ("second", 1), ("other", 2))}
    for name, training in trainings.items():
        training.run(tmp_path / name)
    first, second, other = (training.child.state_dict() for training in trainings.values())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")


NUM_EVENTS = 3 * (90 // 20) + 3  # training steps and measurements of three epochs


def assert_equal_trainings(first: Retraining, second: Retraining) -> None:
    for name, value in first.child.state_dict().items():
        assert torch.equal(value, second.child.state_dict()[name])
    assert first.history == second.history


PATHS = {"architecture": CELL_ARCHITECTURE, "child": CELLS, "drop_path_keep_prob": 0.5, "restart_epochs": 1}
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16": {"precision": "bf16"},
    "paths": PATHS,
    "paths in bf16": {**PATHS, "precision": "bf16"},
    "averaged": {"use_valid": False, "average_window": 1},
}
KILLS = [("plain", event, seconds) for event in (1, 3, 4, 5, 6, 11, NUM_EVENTS) for seconds in (1, 3)]
KILLS += [("bf16", 5, 1), ("paths", 5, 1), ("averaged", 8, 1), *(("paths in bf16", event, 1) for event in (3, 5, 9))]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Retraining, Path]]:
    """Return a training that nobody stops, and its folder; each recipe is trained once."""
    trained: dict[str, tuple[Retraining, Path]] = {}

    def train(recipe: str, make: Callable[..., Retraining]) -> tuple[Retraining, Path]:
        if recipe not in trained:
            trained[recipe] = make(**RECIPES[recipe]), tmp_path_factory.mktemp("undisturbed")
            trained[recipe][0].run(trained[recipe][1])
        return trained[recipe]

    return train


@pytest.mark.parametrize(("recipe", "event", "seconds_between_checkpoints"), KILLS)
def test_training_killed_anywhere_ends_as_an_undisturbed_one(
    recipe, event, seconds_between_checkpoints, make, undisturbed, tmp_path, monkeypatch
):
    calm, calm_folder = undisturbed(recipe, make)
    make = partial(make, **RECIPES[recipe])
    seconds = iter(range(1000))
    monkeypatch.setattr(enas.retrain.time, "monotonic", lambda: next(seconds))
    monkeypatch.setattr(enas.retrain, "CHECKPOINT_SECONDS", seconds_between_checkpoints)
    events = iter(range(1, 1000))

    def kill() -> bool:
        if next(events) == event:
            raise Killed
        return False

    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        make().run(folder, should_stop=kill)
    assert not (folder / "result.json").exists()
    resumed = make()
    resumed.run(folder)
    assert_equal_trainings(calm, resumed)
    assert (folder / "result.json").read_bytes() == (calm_folder / "result.json").read_bytes()
    curves = curves_of(folder)
    assert [epoch for epoch, _ in curves["test/accuracy"]] == [1, 2, 3]
    assert curves == curves_of(calm_folder)


@pytest.mark.parametrize("event", range(1, NUM_EVENTS + 1))
def test_training_asked_to_stop_saves_at_once_and_goes_on_from_there(event, make, undisturbed, tmp_path):
    calm, _ = undisturbed("plain", make)
    stopped, resumed = make(), make()
    questions = iter(range(1, 1000))
    with pytest.raises(Stopped, match=r"stopped in epoch \d of 3 of the training .*, saved"):
        stopped.run(tmp_path, should_stop=lambda: next(questions) >= event)
    assert not (tmp_path / "result.json").exists()
    steps = []
    step = resumed.train_step
    resumed.train_step = lambda: (steps.append(resumed.step), step())
    resumed.run(tmp_path)
    assert steps == list(range(stopped.step, 12))
    assert_equal_trainings(calm, resumed)


def test_step_whose_loss_is_not_finite_moves_nothing(make, monkeypatch):
    training = make()
    training.train_step()
    before = {name: value.clone() for name, value in training.child.state_dict().items() if "num_batches" not in name}
    moments = [state["momentum_buffer"].clone() for state in training.optimizer.state.values()]
    batch = training.train_stream.batch(1)
    monkeypatch.setattr(training.train_stream, "batch", lambda step: replace(batch, inputs=batch.inputs / 0))
    training.train_step()
    assert all(torch.equal(value, training.child.state_dict()[name]) for name, value in before.items())
    assert all(torch.equal(a, b["momentum_buffer"]) for a, b in zip(moments, training.optimizer.state.values(), strict=True))
    assert [step.isfinite().tolist() for step in training.epoch_metrics] == [[True, True], [False, False]]


def test_training_without_a_finite_loss_ends_with_the_architecture_named(make, tmp_path, monkeypatch):
    training = make()
    batch = training.train_stream.batch
    monkeypatch.setattr(training.train_stream, "batch", lambda step: replace(batch(step), inputs=batch(step).inputs / 0))
    with pytest.raises(TrainingFailed, match="no loss of epoch 1 was a finite number: macro architecture 0 / 4 1 / 1 0 1"):
        training.run(tmp_path)


def test_training_that_diverges_ends_with_the_architecture_named(make, tmp_path):
    with pytest.raises(TrainingFailed, match=r"^the test loss is not a finite number: macro architecture 0 / 4 1 / 1 0 1"):
        make(learning_rate=1e38, grad_clip=None).run(tmp_path)


@pytest.mark.parametrize(("split", "use_valid"), [("test", True), ("validation", False)])
def test_network_that_diverges_in_its_last_step_has_failed(split, use_valid, make, tmp_path):
    training = make(epochs=1, use_valid=use_valid)
    step = training.train_step

    def poison() -> None:
        step()
        if training.step == training.num_steps:
            nn.init.constant_(next(training.child.parameters()), torch.nan)

    training.train_step = poison
    with pytest.raises(TrainingFailed, match=f"^the {split} loss is not a finite number: macro architecture 0 / 4 1 / 1 0 1"):
        training.run(tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_loss_that_is_finite_but_no_perplexity_is_kept_as_it_is(make, tmp_path, monkeypatch):
    training = make(epochs=1)
    training.metric = METRICS["perplexity"]
    monkeypatch.setattr(training, "measure", lambda stream, *, should_stop: Measured(accuracy=0.1, loss=800.0))
    result = training.run(tmp_path)
    assert result.test_value == math.inf
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text)["result"]["test_loss"] == 800.0
    assert "Infinity" not in text


def test_finished_training_is_read_back(make, tmp_path):
    result = make().run(tmp_path)
    before = files_of(tmp_path)
    again = make()
    monitor: list[int] = []
    assert again.run(tmp_path, on_epoch=lambda training: monitor.append(training.epoch)) == result
    assert monitor == []
    assert again.step == 0
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("is_finished", [True, False])
def test_training_of_another_architecture_leaves_no_trace(is_finished, make, tmp_path, monkeypatch):
    monkeypatch.setattr(enas.retrain, "CHECKPOINT_SECONDS", 0.0)

    def stop(training: Retraining) -> None:
        if training.epoch == 2 and not is_finished:
            raise Stopped

    other = SPACE.decode([0, 4, 1, 1, 0, 0])  # the same weights, another skip
    with nullcontext() if is_finished else pytest.raises(Stopped):
        make(other).run(tmp_path / "used", on_epoch=stop)
    used, fresh = make(), make()
    assert used.run(tmp_path / "used") == fresh.run(tmp_path / "fresh")
    assert (tmp_path / "used" / "result.json").read_bytes() == (tmp_path / "fresh" / "result.json").read_bytes()


def test_result_holds_measurements_and_the_architecture(make, tmp_path):
    training = make(epochs=3)
    measured: list[float] = []
    result = training.run(tmp_path, on_epoch=lambda training: measured.append(training.measure(training.test_stream).accuracy))
    record = json.loads((tmp_path / "result.json").read_text())
    assert RetrainResult(**record["result"]) == result
    assert record["architecture"] == ARCHITECTURE.to_json()
    assert [row["epoch"] for row in record["history"]] == [1, 2, 3]
    assert [row["test_accuracy"] for row in record["history"]] == measured
    assert (result.test_accuracy, result.best_test_accuracy) == (measured[-1], max(measured))
    assert result.parameters == count_parameters(training.child)
    assert result.seed == 0


def test_test_accuracy_is_measured_ten_times_and_at_the_end(make, tmp_path):
    make(epochs=25, batch_size=60).run(tmp_path)
    epochs = [row["epoch"] for row in json.loads((tmp_path / "result.json").read_text())["history"]]
    assert epochs == [*range(2, 25, 2), 25]


def test_test_images_are_measured_once_each_and_as_they_are(make, images, monkeypatch):
    training = make(augmentation=Augmentation(pad=4, flip=True, cutout=6))
    seen: list[torch.Tensor] = []
    forward = training.child.forward
    monkeypatch.setattr(training.child, "forward", lambda x, architecture, carry=None: seen.append(x) or forward(x, architecture))
    accuracy = training.measure(training.test_stream).accuracy
    pixels = (torch.cat(seen) * images.std[0] + images.mean[0]).mul(255).round().to(torch.uint8)
    assert torch.equal(pixels, images.test.images)
    with torch.no_grad():
        logits = training.child.eval()(torch.cat(seen), ARCHITECTURE).logits
    assert accuracy == float((logits.argmax(dim=1) == images.test.labels).double().mean())


def test_every_step_has_a_dropout_mask_of_its_own(make, monkeypatch):
    training = make()
    seeds: list[int] = []
    forward = training.child.forward

    def spy(x: torch.Tensor, architecture: Any, *, carry: None, generator: torch.Generator) -> Any:
        seeds.append(generator.initial_seed())
        return forward(x, architecture, generator=generator)

    monkeypatch.setattr(training.child, "forward", spy)
    for _ in range(2):
        train_epoch(training)
    assert len(set(seeds)) == len(seeds) == 2 * (90 // 20)


def test_measuring_leaves_the_training_as_it_was(make):
    asked, unasked = make(), make()
    for training in (asked, unasked):
        train_epoch(training)
    asked.measure(asked.test_stream)
    train_epoch(asked)
    train_epoch(unasked)
    assert all(torch.equal(value, unasked.child.state_dict()[name]) for name, value in asked.child.state_dict().items())


@pytest.mark.parametrize(("use_valid", "count"), [(True, 90), (False, 60)])
def test_validation_images_are_trained_on_if_asked_to(use_valid, count, make, images):
    training = make(use_valid=use_valid, batch_size=10, augmentation=None)
    assert training.train_stream.num_batches == count // 10
    trained = torch.cat([training.train_stream.batch(step).inputs for step in range(count // 10)])
    pixels = (trained * images.std[0] + images.mean[0]).mul(255).round().int()
    given = [images.train.images, images.valid.images][: 1 + use_valid]
    assert sorted(pixels.flatten(1).tolist()) == sorted(torch.cat(given).flatten(1).tolist())


def test_validation_images_change_nothing_if_not_asked_for(make, images, tmp_path):
    blank = replace(images, valid=replace(images.valid, images=torch.zeros_like(images.valid.images)))
    results = [make(data=data, use_valid=False).run(tmp_path / str(index)) for index, data in enumerate((images, blank))]
    unmeasured = [replace(result, valid_accuracy=None, valid_loss=None) for result in results]
    assert unmeasured[0] == unmeasured[1]
    assert results[0].valid_loss != results[1].valid_loss


def test_learning_rate_is_one_cosine(make):
    training = make(epochs=4, use_valid=False, learning_rate=0.5, learning_rate_min=0.1)
    assert training.num_steps == 4 * 3
    rates = {}
    for step in (0, 6, 12):
        training.step = step
        rates[step] = training.learning_rate
    assert rates == pytest.approx({0: 0.5, 6: 0.3, 12: 0.1})
    training.step = 6
    train_epoch(training)
    assert training.epoch == 3
    training.step = 8
    assert training.optimizer.param_groups[0]["lr"] == training.learning_rate


def test_learning_rate_restarts_by_epochs_if_asked_to(make):
    training = make(epochs=7, restart_epochs=1, use_valid=False, learning_rate=0.5, learning_rate_min=0.1)
    rates = []
    for _ in range(training.num_steps):
        rates.append(training.learning_rate)
        training.step += 1
    quarters = [0.5, 0.1 + 0.4 * (1 + 2**-0.5) / 2, 0.3, 0.1 + 0.4 * (1 - 2**-0.5) / 2]
    by_hand = [0.5, 0.5, 0.3, *quarters]  # cycles of 1, 2 and 4 epochs
    assert rates == pytest.approx([rate for rate in by_hand for _ in range(3)])


def test_space_without_paths_to_drop_is_refused(make):
    message = r"retrain.drop_path_keep_prob: expected 1, since networks of this space have no paths to drop, got 0.6"
    with pytest.raises(ValueError, match=message):
        make(drop_path_keep_prob=0.6)
    RetrainConfig(drop_path_keep_prob=0.6, epochs=0).require_paths(has_drop_path=False)  # no training, no paths


def test_half_precision_learns_with_weights_and_losses_in_full(make, tmp_path, monkeypatch):
    training = make(data=separable(), augmentation=None, epochs=15, batch_size=15, learning_rate=0.1, precision="bf16")
    given: set[torch.dtype] = set()
    cross_entropy, forward = nn.functional.cross_entropy, training.child.forward
    spy = lambda logits, *rest, **how: given.add(logits.dtype) or cross_entropy(logits, *rest, **how)  # noqa: E731
    monkeypatch.setattr(nn.functional, "cross_entropy", spy)
    outputs: list[Any] = []
    keep = lambda *args, **options: outputs.append(forward(*args, **options)) or outputs[-1]  # noqa: E731
    monkeypatch.setattr(training.child, "forward", keep)
    assert training.run(tmp_path).test_accuracy >= 0.95
    assert {output.logits.dtype for output in outputs} == {torch.bfloat16}
    assert given == {torch.float32}
    moments = [state["momentum_buffer"] for state in training.optimizer.state.values()]
    assert {value.dtype for value in [*training.child.parameters(), *moments]} == {torch.float32}


def test_minibatch_larger_than_the_data_is_refused(make):
    with pytest.raises(ValueError, match="batch_size: expected 1 to 90, the number of images, got 91"):
        make(batch_size=91)


def test_architecture_of_another_depth_is_refused(make):
    with pytest.raises(ValueError, match="expected 3 operations and skip lists, got 2 and 2"):
        make(MacroConfig(num_layers=2).make_space().smallest())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": -1}, "epochs: expected at least 0, got -1"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0, got 0"),
        ({"learning_rate_min": 0.06}, r"learning_rate_min: expected a number in \[0, 0.05\], got 0.06"),
        ({"momentum": -0.1}, r"momentum: expected a number in \[0, 1\), got -0.1"),
        ({"weight_decay": -1.0}, "weight_decay: expected a number of at least 0, got -1"),
        ({"grad_clip": -1.0}, "grad_clip: expected a number above 0 or None, got -1"),
        ({"seeds": 0}, "seeds: expected at least 1, got 0"),
        ({"random": -1}, "random: expected at least 0, got -1"),
        ({"aux_weight": -0.4}, "aux_weight: expected a number of at least 0, got -0.4"),
        ({"restart_epochs": 0}, "restart_epochs: expected at least 1 or None, got 0"),
        ({"drop_path_keep_prob": 0.0}, r"drop_path_keep_prob: expected a number in \(0, 1\], got 0"),
        ({"drop_path_keep_prob": 1.1}, r"drop_path_keep_prob: expected a number in \(0, 1\], got 1.1"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RetrainConfig(**changes)
