"""Training one architecture from scratch and measuring it on the test split: the only place that reads it.

SGD with Nesterov momentum, a cosine from the largest to the smallest learning rate (or several, with restarts), the data set's
augmentation with cutout, as in the authors' `scripts/cifar10_macro_final.sh`; for networks of cells also an auxiliary head and
drop-path, as in their `scripts/cifar10_micro_final.sh`. Training is a pure function of its arguments: killed and resumed from its
last checkpoint, taken after any step, it ends in the same bits. A step whose loss or gradient is not finite moves nothing; an
epoch of nothing else ends the training, and so does a measurement whose loss is not finite. Where the recipe averages weights
(`enas.averaging`), what is measured is their mean.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from enas.averaging import WeightAverage
from enas.carry import carry_unless
from enas.checkpoint import NOT_SAVED, SAVED, load_checkpoint, save_checkpoint, saved_unless_refused
from enas.children.base import Child
from enas.children.batch_norm import batch_norms, read_averages, undo_averages
from enas.children.cost import count_parameters
from enas.children.loss import count_and_loss, minibatch_accuracy, training_loss
from enas.configs import Precision, RetrainConfig, require
from enas.datasets.data import Batch, Data, Split, Stream
from enas.devices import autocast, choose_memory_format
from enas.errors import Stopped, TrainingFailed
from enas.failures import describe, none_if_out_of_memory
from enas.metrics import METRICS
from enas.optimization import guarded_step, make_sgd
from enas.retrain_result import Measured, RetrainResult, read_result, write_result
from enas.schedules import cosine, cosine_restarts, falling_keep_prob
from enas.seeding import derive_generator, derive_seed
from enas.spaces.base import ChildConfig
from enas.training_curves import TrainingCurves
from enas.types import State

NUM_MEASUREMENTS = 10
"""How often in a training the test accuracy is measured, the last time at the end."""
CHECKPOINT_SECONDS = 60.0
RESTART_FACTOR = 2
"""Each cosine cycle is this many times as long as the one before (authors: lr_T_mul of both final scripts)."""


class Retraining:
    """One architecture's training from scratch.

    Args:
        child_config: width and depth.
        architecture: a member of its space.
        data: trained on train (and valid, if the configuration says so), measured on test.
        config: see `RetrainConfig`.
        augmentation: of training minibatches.
        seed: everything random follows from it.
        device, precision: where and in which format forward passes run; weights and moments stay fp32.

    Raises: ValueError where architecture, data and configuration do not fit each other.
    """

    def __init__(
        self,
        child_config: ChildConfig,
        architecture: Any,
        data: Data,
        config: RetrainConfig,
        *,
        augmentation: Any,
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
        child_config.require_inputs(data.kind, data=data.name)
        self.metric = METRICS[data.metric]
        self.train_stream = self._stream(data, data.train, config.batch_size, augmentation)
        self.test_stream = self._whole_stream(data, data.test)
        self.valid_stream = self._whole_stream(data, data.valid) if len(data.valid) else None
        child = child_config.make_child(input_shape=data.input_shape, num_classes=data.num_classes, architecture=architecture)
        config.require_paths(has_drop_path=child.has_drop_path)
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
        # loss and accuracy (2,) of each step of the latest epoch, on the device; NaN both where it failed
        self.epoch_metrics: list[Tensor] = []
        self.history: list[dict[str, float]] = []  # a row a measurement on test
        self.valid_history: list[dict[str, float]] = []  # a row a measurement on valid
        self.averaging = self._averaging()
        self._carry: Tensor | None = None  # of the latest step

    def _averaging(self) -> WeightAverage | None:
        window = self.config.average_window
        if window is None:
            return None
        expected = "None without validation data, which tell when averaging starts"
        require(self.valid_stream is not None, "retrain.average_window", expected, window)
        return WeightAverage(self.child, window=window)

    def _whole_stream(self, data: Data, split: Split) -> Stream:
        return self._stream(data, split, min(data.whole_batch_size, len(split)), None)

    def _stream(self, data: Data, split: Split, batch_size: int, augmentation: Any) -> Stream:
        return data.stream(
            split,
            batch_size=batch_size,
            seed=derive_seed(self.seed, "train"),
            augmentation=augmentation,
            device=self.device,
            memory_format=choose_memory_format(self.device),
        )

    def train_step(self) -> None:
        """Train on the next minibatch."""
        if self.step % self.train_stream.num_batches == 0:
            self.epoch_metrics = []
        averages = read_averages(self._norms)
        self.optimizer.zero_grad(set_to_none=True)
        batch = self.train_stream.batch(self.step)
        carry = None if batch.starts_afresh else self._carry
        loss, accuracy, carried = self._forward(batch, carry)
        loss.backward()  # type: ignore[no-untyped-call]
        _, failed = guarded_step(
            self.optimizer,
            self.child.parameters(),
            loss,
            learning_rate=self.learning_rate * batch.rate,
            grad_clip=self.config.grad_clip,
            undo=lambda failed: undo_averages(failed, self._norms, averages),
        )
        if self.averaging is not None:
            self.averaging.take_in(failed)
        self._carry = carry_unless(failed, carried)
        self.epoch_metrics.append(torch.where(failed, torch.nan, torch.stack([loss.detach(), accuracy])))
        self.step += 1

    def _forward(self, batch: Batch, carry: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return loss, with its graph, and accuracy of the next step, scalars, and what it carries over."""
        self.child.train()
        self.child.drop_path_keep_prob = self.drop_path_keep_prob
        generator = derive_generator(self.seed, "dropout", self.step)
        with autocast(self.device, self.precision):
            output = self.child(batch.inputs, self.architecture, carry=carry, generator=generator)
        loss = training_loss(output, batch.labels, aux_weight=self.config.aux_weight)
        return loss, minibatch_accuracy(output, batch.labels), output.carry

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, on a minibatch of the usual size."""
        return self._learning_rate_of(self.step)

    def _learning_rate_of(self, step: int) -> float:
        """Return a step's: from one cosine by steps, or from cosines with restarts by epochs (authors)."""
        maximum, minimum, first = self.config.learning_rate, self.config.learning_rate_min, self.config.restart_epochs
        if first is None:
            return cosine(step / self.num_steps, maximum=maximum, minimum=minimum)
        epoch = step // self.train_stream.num_batches
        return cosine_restarts(epoch, maximum=maximum, minimum=minimum, first=first, factor=RESTART_FACTOR)

    @property
    def drop_path_keep_prob(self) -> float:
        """The probability of keeping a path at the end of the network in the next step."""
        return falling_keep_prob((self.step + 1) / self.num_steps, last=self.config.drop_path_keep_prob)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.step // self.train_stream.num_batches

    @property
    def measured_network(self) -> nn.Module:
        """The network that measurements are of: the one that is trained, or the mean of its weights."""
        return self.child if self.averaging is None else self.averaging.network

    @torch.no_grad()
    def measure(self, stream: Stream, *, should_stop: Callable[[], bool] = lambda: False) -> Measured | None:
        """Measure the network, or the average of it, on a whole split; None where it was to stop on the way."""
        network = self.measured_network.eval()
        sums = torch.zeros(2, device=self.device)  # of what is right, and of losses
        total = 0
        carry: Tensor | None = None
        for batch in stream.whole(stream.batch_size):
            if should_stop():
                return None
            with autocast(self.device, self.precision):
                output = network(batch.inputs, self.architecture, carry=None if batch.starts_afresh else carry)
            carry = output.carry
            sums += count_and_loss(output, batch.labels)
            total += len(batch.labels)
        correct, loss_sum = sums.tolist()
        return Measured(accuracy=correct / total, loss=loss_sum / total)

    def run(
        self,
        folder: Path,
        *,
        on_epoch: Callable[[Retraining], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> RetrainResult:
        """Train to the end, going on from a checkpoint in `folder` if there is one; write `result.json` and curves (`tb/`) there.

        A folder that already holds this architecture's result gives it back untouched. What it holds of another one, the
        answer before the search went on, is left aside and overwritten.

        Args:
            on_epoch: told the training after each epoch and its measurement.
            should_stop: asked after each step; a checkpoint is then written.

        Raises: Stopped where it was asked to; TrainingFailed after an epoch or a measurement without a finite loss, or out of
            memory.
        """
        if (result := read_result(folder / "result.json", architecture=self.architecture.to_json())) is not None:
            return result
        folder.mkdir(parents=True, exist_ok=True)
        state = load_checkpoint(folder)
        if state is not None and state["architecture"] != self.architecture.to_json():
            state = None
        if state is not None:
            self.load_state_dict(state)
        with TrainingCurves(folder / "tb", start=None if state is None else state["curves"]) as curves:
            if none_if_out_of_memory(lambda: self._train_to_the_end(folder, curves, on_epoch, should_stop)) is None:
                raise TrainingFailed(f"out of memory: {self._description}")
        return self._finish(folder)

    def _train_to_the_end(
        self,
        folder: Path,
        curves: TrainingCurves,
        on_epoch: Callable[[Retraining], None],
        should_stop: Callable[[], bool],
    ) -> Literal[True]:
        last_save = time.monotonic()
        while self.step < self.num_steps or self._measurement_is_due():
            if self._is_due_on_valid():
                self._record_valid(should_stop)
            elif self._is_due_on_test():
                self._record_test(should_stop)
            else:
                self.train_step()
            has_ended_epoch = self.step % self.train_stream.num_batches == 0 and not self._measurement_is_due()
            if has_ended_epoch:
                curves.write(self._epoch_scalars(), epoch=self.epoch)
            is_stopped = should_stop()
            if is_stopped or time.monotonic() - last_save >= CHECKPOINT_SECONDS:
                saved = saved_unless_refused(lambda: save_checkpoint(folder, {**self.state_dict(), "curves": curves.state()}))
                last_save = time.monotonic()
            if is_stopped:
                epoch = f"{min(self.epoch + 1, self.config.epochs)} of {self.config.epochs}"
                raise Stopped(f"stopped in epoch {epoch} of the training {folder.name}, {SAVED if saved else NOT_SAVED}")
            if has_ended_epoch:
                on_epoch(self)
        return True

    def _measurement_is_due(self) -> bool:
        """Whether an epoch has just ended that is measured after, and has not been in full."""
        return self._is_due_on_valid() or self._is_due_on_test()

    def _is_due_on_valid(self) -> bool:
        """Whether the validation split comes next: at the end or, to know when to average, after every epoch."""
        wanted = self.averaging is not None or self.step == self.num_steps
        return wanted and self.valid_stream is not None and self._has_just_ended_epoch() and not self._is_in(self.valid_history)

    def _is_due_on_test(self) -> bool:
        every = max(1, self.config.epochs // NUM_MEASUREMENTS)
        wanted = self.epoch % every == 0 or self.epoch == self.config.epochs
        return wanted and self._has_just_ended_epoch() and not self._is_in(self.history)

    def _has_just_ended_epoch(self) -> bool:
        return self.step > 0 and self.step % self.train_stream.num_batches == 0

    def _is_in(self, history: list[dict[str, float]]) -> bool:
        """Whether the epoch that has just ended has been measured after."""
        return bool(history) and history[-1]["epoch"] == self.epoch

    def _record_valid(self, should_stop: Callable[[], bool]) -> None:
        """Measure on the validation split and, from the losses so far, start averaging if it is time."""
        assert self.valid_stream is not None
        measured = self.measure(self.valid_stream, should_stop=should_stop)
        if measured is None:
            return
        self._require_finite(measured, "validation")
        self.valid_history.append({"epoch": self.epoch, "valid_accuracy": measured.accuracy, "valid_loss": measured.loss})
        if self.averaging is not None:
            self.averaging.watch([row["valid_loss"] for row in self.valid_history])

    def _record_test(self, should_stop: Callable[[], bool]) -> None:
        if (means := self._epoch_means()) is None:
            raise TrainingFailed(f"no loss of epoch {self.epoch} was a finite number: {self._description}")
        measured = self.measure(self.test_stream, should_stop=should_stop)
        if measured is not None:
            self._require_finite(measured, "test")
            row = {"epoch": self.epoch, "train_loss": means[0]}
            valid = self.valid_history[-1] if self._is_in(self.valid_history) else {}
            self.history.append({**row, "test_accuracy": measured.accuracy, "test_loss": measured.loss, **valid})

    def _require_finite(self, measured: Measured, split: str) -> None:
        """Refuse a network that has diverged: its accuracy would be that of guessing, its perplexity no number."""
        if not math.isfinite(measured.loss):
            raise TrainingFailed(f"the {split} loss is not a finite number: {self._description}")

    def _epoch_means(self) -> tuple[float, float] | None:
        """Return mean loss (nats) and accuracy over the latest epoch's steps that did not fail; None where all did."""
        rows = torch.stack(self.epoch_metrics).tolist()
        losses, accuracies = ([row[column] for row in rows if math.isfinite(row[0])] for column in (0, 1))
        return (sum(losses) / len(losses), sum(accuracies) / len(accuracies)) if losses else None

    def _epoch_scalars(self) -> dict[str, float]:
        """Return the curves' values at the end of an epoch, accuracies and errors as fractions; waits for the device."""
        values: dict[str, float] = {"train/lr": self._learning_rate_of(self.step - 1)}
        if (means := self._epoch_means()) is not None:
            values |= {"train/loss": means[0], "train/accuracy": means[1]}
        if self.config.drop_path_keep_prob < 1:
            progress = self.step / self.num_steps
            values["train/drop_path_keep_prob"] = falling_keep_prob(progress, last=self.config.drop_path_keep_prob)
        if self._is_in(self.history):
            accuracy = self.history[-1]["test_accuracy"]
            values |= {"test/accuracy": accuracy, "test/error": 1 - accuracy, **self._split_scalars("test", self.history[-1])}
        if self._is_in(self.valid_history):
            values |= self._split_scalars("valid", self.valid_history[-1])
        return values

    def _split_scalars(self, split: str, row: Mapping[str, float]) -> dict[str, float]:
        """Return a measurement's loss and metric."""
        accuracy, loss = row[f"{split}_accuracy"], row[f"{split}_loss"]
        return {f"{split}/loss": loss, f"{split}/{self.metric.name}": self.metric.of(accuracy=accuracy, loss=loss)}

    def _finish(self, folder: Path) -> RetrainResult:
        valid = self.valid_history[-1] if self.valid_history else None
        result = RetrainResult(
            test_accuracy=self.history[-1]["test_accuracy"],
            best_test_accuracy=max(row["test_accuracy"] for row in self.history),
            test_loss=self.history[-1]["test_loss"],
            best_test_loss=min(row["test_loss"] for row in self.history),
            valid_accuracy=None if valid is None else valid["valid_accuracy"],
            valid_loss=None if valid is None else valid["valid_loss"],
            metric=self.metric.name,
            train_loss=self.history[-1]["train_loss"],
            parameters=count_parameters(self.child),
            seed=self.seed,
        )
        write_result(folder / "result.json", result, history=self.history, architecture=self.architecture.to_json())
        return result

    def state_dict(self) -> State:
        """Return the architecture, weights and their mean, optimizer moments, position and histories."""
        return {
            "architecture": self.architecture.to_json(),
            "child": self.child.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "epoch_metrics": torch.stack(self.epoch_metrics) if self.epoch_metrics else torch.zeros(0, 2),
            "history": [dict(row) for row in self.history],
            "valid_history": [dict(row) for row in self.valid_history],
            "averaging": None if self.averaging is None else self.averaging.state_dict(),
            "carry": self._carry,
        }

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        self.child.load_state_dict(state["child"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.epoch_metrics = list(state["epoch_metrics"].to(self.device))
        self.history = [dict(row) for row in state["history"]]
        self.valid_history = [dict(row) for row in state.get("valid_history", [])]
        if self.averaging is not None:
            self.averaging.load_state_dict(state.get("averaging"))
        carry = state.get("carry")
        self._carry = None if carry is None else carry.to(self.device)
