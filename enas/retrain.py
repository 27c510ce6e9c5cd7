"""Training one architecture from scratch and measuring it on the test split: the only place that reads it.

SGD with Nesterov momentum, one cosine from the largest to the smallest learning rate, the data set's augmentation with cutout, as
in the authors' `scripts/cifar10_macro_final.sh`. Training is a pure function of its arguments: killed and resumed from its last
checkpoint, taken after any step, it ends in the same bits. A step whose loss or gradient is not finite moves nothing; an epoch of
nothing else ends the training.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from enas.atomic_file import write_atomically
from enas.checkpoint import NOT_SAVED, SAVED, load_checkpoint, save_checkpoint, saved_unless_refused
from enas.children.base import Child
from enas.children.batch_norm import batch_norms, read_averages, undo_averages
from enas.children.cost import count_parameters
from enas.configs import Precision, RetrainConfig
from enas.datasets.augment import Augmentation
from enas.datasets.batches import BatchStream
from enas.datasets.images import ImageData, ImageSplit
from enas.devices import autocast, choose_memory_format
from enas.errors import Stopped, TrainingFailed
from enas.failures import describe, none_if_out_of_memory
from enas.optimization import guarded_step, make_sgd
from enas.schedules import cosine
from enas.seeding import derive_generator, derive_seed
from enas.spaces.base import ChildConfig
from enas.types import State

NUM_MEASUREMENTS = 10
"""How often in a training the test accuracy is measured, the last time at the end."""
CHECKPOINT_SECONDS = 60.0
_TEST_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class RetrainResult:
    """What one training gave.

    Attributes:
        test_accuracy: fraction of the test split after the last epoch.
        best_test_accuracy: the highest of the measurements on the way; chosen on the test split, so never a result by itself.
        train_loss: mean cross-entropy of the last epoch, nats.
        parameters: of the network.
        seed: of weights, minibatches, augmentation and dropout.
    """

    test_accuracy: float
    best_test_accuracy: float
    train_loss: float
    parameters: int
    seed: int


class Retraining:
    """One architecture's training from scratch.

    Args:
        child_config: width and depth.
        architecture: a member of its space.
        data: trained on train (and valid, if the configuration says so), measured on test.
        config: see `RetrainConfig`.
        augmentation: of training minibatches.
        seed: everything random follows from it.
        device, precision: where and in which format forward passes run.
    """

    def __init__(
        self,
        child_config: ChildConfig,
        architecture: Any,
        data: ImageData,
        config: RetrainConfig,
        *,
        augmentation: Augmentation | None,
        seed: int,
        device: torch.device,
        precision: Precision = "fp32",
    ) -> None:
        self.architecture = architecture
        self._description = describe(child_config.make_space(), architecture)
        self.config = config
        self.seed = seed
        self.device = device
        self.precision: Precision = precision
        data = data.with_valid_in_train() if config.use_valid else data
        self.train_stream = self._stream(data, data.train, config.batch_size, augmentation)
        self.test_stream = self._stream(data, data.test, min(_TEST_BATCH, len(data.test)), None)
        child = child_config.make_child(image_shape=data.image_shape, num_classes=data.num_classes, architecture=architecture)
        child.reset_parameters(derive_generator(seed, "weights"))
        self.child: Child = child.to(device).to(memory_format=choose_memory_format(device))
        self._norms = batch_norms(self.child)
        self.optimizer = make_sgd(
            self.child.parameters(),
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.step = 0
        self.num_steps = config.epochs * self.train_stream.num_batches
        self.epoch_losses: list[Tensor] = []  # of the latest epoch, scalars on the device
        self.history: list[dict[str, float]] = []  # a row a measurement

    def _stream(self, data: ImageData, split: ImageSplit, batch_size: int, augmentation: Augmentation | None) -> BatchStream:
        return BatchStream(
            split,
            batch_size=batch_size,
            seed=derive_seed(self.seed, "train"),
            mean=data.mean,
            std=data.std,
            augmentation=augmentation,
            device=self.device,
            memory_format=choose_memory_format(self.device),
        )

    def train_step(self) -> None:
        """Train on the next minibatch."""
        if self.step % self.train_stream.num_batches == 0:
            self.epoch_losses = []
        self.child.train()
        batch = self.train_stream.batch(self.step)
        generator = derive_generator(self.seed, "dropout", self.step)
        averages = read_averages(self._norms)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            output = self.child(batch.images, self.architecture, generator=generator)
        loss = nn.functional.cross_entropy(output.logits.float(), batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        _, failed = guarded_step(
            self.optimizer,
            self.child.parameters(),
            loss,
            learning_rate=self.learning_rate,
            grad_clip=self.config.grad_clip,
            undo=lambda failed: undo_averages(failed, self._norms, averages),
        )
        self.epoch_losses.append(torch.where(failed, torch.nan, loss.detach()))
        self.step += 1

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return cosine(self.step / self.num_steps, maximum=self.config.learning_rate, minimum=self.config.learning_rate_min)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.step // self.train_stream.num_batches

    @torch.no_grad()
    def measure(self, *, should_stop: Callable[[], bool] = lambda: False) -> float | None:
        """Return the accuracy on the whole test split, a fraction; None where it was to stop on the way."""
        self.child.eval()
        correct = torch.zeros((), device=self.device)
        total = 0
        for batch in self.test_stream.whole(self.test_stream.batch_size):
            if should_stop():
                return None
            with autocast(self.device, self.precision):
                logits = self.child(batch.images, self.architecture).logits
            correct += (logits.argmax(dim=1) == batch.labels).sum()
            total += len(batch.labels)
        return float(correct) / total

    def run(
        self,
        folder: Path,
        *,
        on_epoch: Callable[[Retraining], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> RetrainResult:
        """Train to the end, going on from a checkpoint in `folder` if there is one, and write `result.json` there.

        A folder that already holds this architecture's result gives it back untouched. What it holds of another one, the
        answer before the search went on, is left aside and overwritten.

        Args:
            on_epoch: told the training after each epoch and its measurement.
            should_stop: asked after each step; a checkpoint is then written.

        Raises: Stopped where it was asked to; TrainingFailed after an epoch without a finite loss, or out of memory.
        """
        if (result := self._finished(folder / "result.json")) is not None:
            return result
        folder.mkdir(parents=True, exist_ok=True)
        if (state := load_checkpoint(folder)) is not None and state["architecture"] == self.architecture.to_json():
            self.load_state_dict(state)
        if none_if_out_of_memory(lambda: self._train_to_the_end(folder, on_epoch, should_stop)) is None:
            raise TrainingFailed(f"out of memory: {self._description}")
        return self._finish(folder)

    def _finished(self, file: Path) -> RetrainResult | None:
        """Return the result of this architecture that a file holds, if it does; a damaged file is warned of."""
        if not file.exists():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            result = RetrainResult(**record["result"])
            return result if record["architecture"] == self.architecture.to_json() else None
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{file} is damaged; training anew", RuntimeWarning, stacklevel=3)
            return None

    def _train_to_the_end(
        self, folder: Path, on_epoch: Callable[[Retraining], None], should_stop: Callable[[], bool]
    ) -> Literal[True]:
        last_save = time.monotonic()
        while self.step < self.num_steps or self._measurement_is_due():
            if self._measurement_is_due():
                self._record_measurement(should_stop)
            else:
                self.train_step()
            is_stopped = should_stop()
            if is_stopped or time.monotonic() - last_save >= CHECKPOINT_SECONDS:
                saved = saved_unless_refused(lambda: save_checkpoint(folder, self.state_dict()))
                last_save = time.monotonic()
            if is_stopped:
                epoch = f"{min(self.epoch + 1, self.config.epochs)} of {self.config.epochs}"
                raise Stopped(f"stopped in epoch {epoch} of the training {folder.name}, {SAVED if saved else NOT_SAVED}")
            if self.step % self.train_stream.num_batches == 0 and not self._measurement_is_due():
                on_epoch(self)
        return True

    def _measurement_is_due(self) -> bool:
        """Whether an epoch has just ended that is measured after, and has not been."""
        if self.step == 0 or self.step % self.train_stream.num_batches:
            return False
        every = max(1, self.config.epochs // NUM_MEASUREMENTS)
        measured = bool(self.history) and self.history[-1]["epoch"] == self.epoch
        return not measured and (self.epoch % every == 0 or self.epoch == self.config.epochs)

    def _record_measurement(self, should_stop: Callable[[], bool]) -> None:
        losses = torch.stack(self.epoch_losses)
        finite = losses[losses.isfinite()].tolist()
        if not finite:
            raise TrainingFailed(f"no loss of epoch {self.epoch} was a finite number: {self._description}")
        accuracy = self.measure(should_stop=should_stop)
        if accuracy is not None:
            loss = sum(finite) / len(finite)
            self.history.append({"epoch": self.epoch, "train_loss": loss, "test_accuracy": accuracy})

    def _finish(self, folder: Path) -> RetrainResult:
        result = RetrainResult(
            test_accuracy=self.history[-1]["test_accuracy"],
            best_test_accuracy=max(row["test_accuracy"] for row in self.history),
            train_loss=self.history[-1]["train_loss"],
            parameters=count_parameters(self.child),
            seed=self.seed,
        )
        record = {"result": asdict(result), "history": self.history, "architecture": self.architecture.to_json()}
        write_atomically(folder / "result.json", json.dumps(record, indent=2) + "\n")
        return result

    def state_dict(self) -> State:
        """Return the architecture, weights, optimizer moments, position and history."""
        return {
            "architecture": self.architecture.to_json(),
            "child": self.child.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "epoch_losses": torch.stack(self.epoch_losses) if self.epoch_losses else torch.zeros(0),
            "history": [dict(row) for row in self.history],
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        self.child.load_state_dict(state["child"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.epoch_losses = list(state["epoch_losses"].to(self.device))
        self.history = [dict(row) for row in state["history"]]
