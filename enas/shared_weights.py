"""The shared weights: one supernet with its optimizer and data streams, trained by paths or mixtures and asked for rewards.

Everything random is a function of (seed, step), so the only state is the weights, the optimizer's moments, three counters and, of
a recurrent network, what each path of a step hands on to the next step's; measurements start without.
Weights outside the sampled paths have no gradient: no decay, no momentum, no optimizer cost. (The authors' L2 term also shrinks
inactive weights; that is left out.) Training and evaluation share no graph, so no gradient passes from a reward to the weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from enas.carry import carry_unless, fitting
from enas.children.base import Child, Output, copy_inherited
from enas.children.batch_norm import (
    batch_norms,
    batch_statistics,
    fresh_statistics,
    read_averages,
    set_accumulating,
    twice_differentiable,
    undo_averages,
)
from enas.children.loss import count_and_loss, minibatch_accuracy, training_loss
from enas.configs import Precision, SharedConfig
from enas.datasets.data import Batch, Data, Split, Stream, even_chunk
from enas.devices import autocast, choose_memory_format
from enas.failures import describe, none_if_out_of_memory
from enas.mixture_gradient import MixedNetwork, first_order, mixture_weights, next_step, second_order
from enas.optimization import guarded_step, make_sgd
from enas.schedules import cosine_restarts
from enas.seeding import derive_generator, derive_seed
from enas.spaces.base import ChildConfig, SearchSpace
from enas.train_metrics import MixtureGradient, MixtureMetrics, TrainMetrics
from enas.types import Evaluation, Order, PathBatch, Relaxation, State


class SharedWeights:
    """A supernet in training.

    Args:
        child_config: the space and its network.
        data: only its train and valid splits are read.
        config: see `SharedConfig`.
        augmentation: of training minibatches.
        seed: weights, minibatches, augmentation and dropout follow from it.
        device: where the network and the images live.
        precision: of forward passes; weights stay fp32.
        memory_format: order of images and filters in memory; None for the one that is faster on the device.

    Raises: ValueError where a split is smaller than a minibatch.
    """

    def __init__(
        self,
        child_config: ChildConfig,
        data: Data,
        config: SharedConfig,
        *,
        augmentation: Any = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        memory_format: torch.memory_format | None = None,
    ) -> None:
        child_config.require_inputs(data.kind, data=data.name)
        config.require_examples(num_train=len(data.train), num_valid=len(data.valid), unit=data.unit)
        self.child_config = child_config
        self.space: SearchSpace[Any] = child_config.make_space()
        self.config = config
        self.input_shape = data.input_shape
        self.num_classes = data.num_classes
        self.device = torch.device(device)
        self.precision: Precision = precision
        self.memory_format = memory_format or choose_memory_format(self.device)
        self._train: Split = data.train.to(self.device)
        self._valid: Split = data.measured(data.valid).to(self.device)
        self._make_stream = data.stream
        self._augmentation = augmentation
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Start a new search: fresh weights (after a warm start too), optimizer, minibatches and counters."""
        self.seed = seed
        self.num_train_steps = 0
        self.num_evaluations = 0
        self.num_architecture_gradients = 0
        self._carries: list[Tensor | None] = []  # of the paths of the latest training step
        child = self.child_config.make_child(input_shape=self.input_shape, num_classes=self.num_classes)
        child.reset_parameters(derive_generator(seed, "weights"))
        self.child: Child = child.to(self.device).to(memory_format=self.memory_format)
        self._norms = batch_norms(self.child)
        self._weights = list(self.child.parameters())
        self.optimizer = make_sgd(
            self._weights,
            learning_rate=self.config.learning_rate,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )
        self.train_stream = self._stream(self._train, "train", self.config.batch_size, self._augmentation)
        self.calibration_stream = self._stream(self._train, "recalibration", self.config.batch_size, None)
        self.valid_stream = self._stream(self._valid, "valid", self.config.valid_batch_size, None)
        size = min(self.config.batch_size, len(self._valid))
        self.architecture_stream = self._stream(self._valid, "architecture valid", size, None)
        self.steps_per_epoch = self.config.steps_per_epoch or self.train_stream.num_batches

    def _stream(self, split: Split, name: str, batch_size: int, augmentation: Any) -> Stream:
        return self._make_stream(
            split,
            batch_size=batch_size,
            seed=derive_seed(self.seed, name),
            augmentation=augmentation,
            device=self.device,
            memory_format=self.memory_format,
        )

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next training step, on a minibatch of the usual size."""
        return cosine_restarts(
            self.num_train_steps // self.steps_per_epoch,
            maximum=self.config.learning_rate,
            minimum=self.config.learning_rate_min,
            first=self.config.restart_epochs,
            factor=self.config.restart_factor,
        )

    def train_step(self, paths: PathBatch) -> TrainMetrics:
        """Train the sampled paths on one minibatch: gradients of all paths are accumulated, then one optimizer step.

        Where a path's loss is not finite or it does not fit in memory, no weight, moment or running average moves.
        """
        self._set_training(True)
        batch = self.train_stream.batch(self.num_train_steps)
        generator = derive_generator(self.seed, "dropout", self.num_train_steps)
        averages = read_averages(self._norms)
        self.optimizer.zero_grad(set_to_none=True)
        carries = [None] * len(paths.tokens) if batch.starts_afresh else fitting(self._carries, len(paths.tokens))
        results = []
        for row, weight, carry in zip(paths.tokens, paths.loss_weights.tolist(), carries, strict=True):
            architecture = self.space.decode(row)
            run = partial(self.child, batch.inputs, architecture, carry=carry, generator=generator)
            results.append(self._accumulate_gradient(run, batch, weight=weight, what=partial(describe, self.space, architecture)))
        losses, accuracies, carried = zip(*results, strict=True)
        loss, accuracy = torch.stack(losses), torch.stack(accuracies)
        learning_rate = self.learning_rate
        grad_norm, failed = self._move(loss, averages, learning_rate=learning_rate * batch.rate)
        self._carries = [carry_unless(failed, carry) for carry in carried]
        return TrainMetrics(loss=loss, accuracy=accuracy, grad_norm=grad_norm, failed=failed, learning_rate=learning_rate)

    def _move(self, losses: Tensor, averages: Tensor, *, learning_rate: float) -> tuple[Tensor, Tensor]:
        """Take the step that gradients were accumulated for, or put averages back; return the norm and whether it failed."""
        grad_norm, failed = guarded_step(
            self.optimizer,
            self._weights,
            losses,
            learning_rate=learning_rate,
            grad_clip=self.config.grad_clip,
            undo=lambda failed: undo_averages(failed, self._norms, averages),
        )
        self.num_train_steps += 1
        return grad_norm, failed

    def mixture_step(self, relaxation: Relaxation) -> MixtureMetrics:
        """Train a mixture on one minibatch, as `train_step` trains paths; also return the gradient of its weights.

        Operations that are not active have no gradient: no decay, no momentum.

        Raises: ValueError where the network has no mixtures.
        """
        self._set_training(True)
        batch = self.train_stream.batch(self.num_train_steps)
        generator = derive_generator(self.seed, "dropout", self.num_train_steps)
        averages = read_averages(self._norms)
        self.optimizer.zero_grad(set_to_none=True)
        mixture = mixture_weights(relaxation, self._weights[0])
        run = partial(self.child.forward_mixture, batch.inputs, mixture, relaxation.active, generator=generator)
        loss, accuracy, _ = self._accumulate_gradient(run, batch, weight=1.0, what=self._name_mixture)
        gradient = torch.zeros_like(mixture) if mixture.grad is None else mixture.grad
        learning_rate = self.learning_rate
        grad_norm, failed = self._move(loss + 0 * gradient.sum(), averages, learning_rate=learning_rate * batch.rate)
        return MixtureMetrics(
            loss=loss,
            accuracy=accuracy,
            grad_norm=grad_norm,
            failed=failed,
            learning_rate=learning_rate,
            gradient=gradient,
        )

    def architecture_gradient(self, relaxation: Relaxation, *, order: Order = 1) -> MixtureGradient:
        """Return the validation loss's gradient with respect to a mixture's weights; weights and moments stay as they are.

        BatchNorm takes the minibatch's statistics and records none; there is no dropout. The next call reads the next minibatch.

        Args: order: 2 looks through one step of SGD on the next training minibatch, see `enas.mixture_gradient`.
        Raises: ValueError where the network has no mixtures.
        """
        batch = self.architecture_stream.batch(self.num_architecture_gradients)
        self.num_architecture_gradients += 1
        self._set_training(False)
        mixture = mixture_weights(relaxation, self._weights[0])
        network = MixedNetwork(self.child, relaxation.active, precision=self.precision)

        def compute() -> MixtureGradient:
            if order == 1:
                return first_order(network, mixture, batch)
            step = next_step(self.optimizer, learning_rate=self.learning_rate, grad_clip=self.config.grad_clip)
            ahead = self.train_stream.batch(self.num_train_steps)
            with twice_differentiable(self._norms):
                return second_order(network, mixture, batch, ahead=ahead, step=step)

        with batch_statistics(self._norms):
            result = none_if_out_of_memory(compute)
        if result is not None:
            return result
        self._warn_of_memory(self._name_mixture(), "no gradient of its weights")
        nan = torch.full_like(mixture, torch.nan)
        return MixtureGradient(gradient=nan, loss=nan[0, 0], accuracy=nan[0, 0])

    def _name_mixture(self) -> str:
        return f"{self.space.name} mixture"

    def _accumulate_gradient(
        self, run: Callable[[], Output], batch: Batch, *, weight: float, what: Callable[[], str]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add one forward pass's weighted gradient; return its weighted loss, its accuracy and what it carries over.

        Where it does not fit in memory, both are NaN and nothing is carried.

        Args: run: the forward pass on the minibatch. what: names what is run, for the warning.
        """

        def compute() -> tuple[Tensor, Tensor, Tensor | None]:
            with autocast(self.device, self.precision):
                output = run()
            loss = training_loss(output, batch.labels, aux_weight=self.config.aux_weight)
            (weight * loss).backward()  # type: ignore[no-untyped-call]
            return weight * loss.detach(), minibatch_accuracy(output, batch.labels), output.carry

        result = none_if_out_of_memory(compute)
        if result is not None:
            return result
        self._warn_of_memory(what(), "training step skipped")
        nan = torch.full((), torch.nan, device=self.device)
        return nan, nan, None

    def _warn_of_memory(self, what: str, consequence: str) -> None:
        warnings.warn(f"out of memory, {consequence}: {what}", RuntimeWarning, stacklevel=2)

    def evaluate(self, architectures: Sequence[Any]) -> Evaluation:
        """Measure architectures on validation minibatches, as rewards are; the next call reads the next minibatches.

        One that does not fit in memory has NaN as its loss and accuracy.
        """
        first, is_shared = self.num_evaluations, self.config.reward_batch == "shared"
        self.num_evaluations += 1 if is_shared else len(architectures)
        batches = [self._reward_batches(index) for index in range(first, self.num_evaluations)]
        return self._measure([(architectures, zip(*(batches * len(architectures) if is_shared else batches), strict=True))])

    def _reward_batches(self, evaluation: int) -> list[Batch]:
        """Return the validation minibatches of the n-th measurement, counted from 0."""
        count = self.config.reward_batches
        return [self.valid_stream.batch(index) for index in range(evaluation * count, (evaluation + 1) * count)]

    def evaluate_all(self, architectures: Sequence[Any], *, num_images: int | None = None) -> Evaluation:
        """Measure architectures on the whole validation split; minibatch counters stay as they are.

        Args: num_images: for a fixed random part of so many images, at most all; None for the whole.
        """
        part, stream = self._valid, self.valid_stream
        if num_images is not None:
            part = part.first(num_images)
            stream = self._stream(part, "valid", 1, None)
        chunk = even_chunk(part, self.config.valid_batch_size)
        return self._measure(([architecture], zip(stream.whole(chunk))) for architecture in architectures)

    @torch.no_grad()
    def _measure(self, groups: Iterable[tuple[Sequence[Any], Iterable[Sequence[Batch]]]]) -> Evaluation:
        """Measure groups of architectures, together with rows of a minibatch for each of them; all see as many examples."""
        self._set_training(False)
        totals, num_examples = [], 1
        with batch_statistics(self._norms) if self.config.batch_norm == "batch" else nullcontext():
            for architectures, rows in groups:
                total, count = self._score_what_fits(architectures, rows)
                totals.append(total)
                num_examples = max(num_examples, count)
        correct, loss = torch.cat(totals).cpu().double().numpy().T / num_examples
        return Evaluation(accuracy=correct, loss=loss, num_examples=num_examples)

    def _score_what_fits(self, architectures: Sequence[Any], rows: Iterable[Sequence[Batch]]) -> tuple[Tensor, int]:
        """Return `_score`, with NaN for architectures that do not fit in memory."""
        if len(architectures) == 1:
            return self._score_alone(architectures[0], rows)
        rows = list(rows)
        if self.config.batch_norm != "recalibrated":
            result = none_if_out_of_memory(lambda: self._score(architectures, rows))
            if result is not None:
                return result
        # One by one: each has statistics of its own, or one of them must not spoil the others' measurements.
        own = zip(*rows, strict=True)
        alone = [self._score_alone(one, zip(batches)) for one, batches in zip(architectures, own, strict=True)]
        return torch.cat([total for total, _ in alone]), max(count for _, count in alone)

    def _score_alone(self, architecture: Any, rows: Iterable[Sequence[Batch]]) -> tuple[Tensor, int]:
        def compute() -> tuple[Tensor, int]:
            with self._recalibrated(architecture) if self.config.batch_norm == "recalibrated" else nullcontext():
                return self._score([architecture], rows)

        result = none_if_out_of_memory(compute)
        if result is not None:
            return result
        self._warn_of_memory(describe(self.space, architecture), "not measured")
        return torch.full((1, 2), torch.nan, device=self.device), 0

    def _score(self, architectures: Sequence[Any], rows: Iterable[Sequence[Batch]]) -> tuple[Tensor, int]:
        """Return (number right, sum of losses) as a tensor (N, 2) on the device, and how many examples there were."""
        totals, num_examples = torch.zeros(len(architectures), 2, device=self.device), 0
        carries: list[Tensor | None] = [None] * len(architectures)
        for row in rows:
            before = [None if batch.starts_afresh else carry for batch, carry in zip(row, carries, strict=True)]
            carries = []
            with autocast(self.device, self.precision):
                outputs = self.child.evaluate_many([batch.inputs for batch in row], architectures, carries=before)
                for total, batch, output in zip(totals, row, outputs, strict=True):  # each may run when its turn comes
                    carries.append(output.carry)
                    total += count_and_loss(output, batch.labels)
            num_examples += len(row[0].labels)
        return totals, num_examples

    @contextmanager
    def _recalibrated(self, architecture: Any) -> Iterator[None]:
        """Within the block, BatchNorm uses an architecture's own averages over a few unaugmented training minibatches."""
        with fresh_statistics(self._norms):
            self._accumulate(self.child, self._norms, architecture)
            yield

    @torch.no_grad()
    def _accumulate(self, child: Child, norms: Sequence[nn.BatchNorm2d], architecture: Any) -> None:
        """Run the calibration minibatches so that fresh BatchNorm statistics become an architecture's own."""
        set_accumulating(norms, True)
        for step in range(self.config.recalibration_batches):
            with autocast(self.device, self.precision):
                child(self.calibration_stream.batch(step).inputs, architecture)
        set_accumulating(norms, False)

    def standalone(self, architecture: Any) -> Child:
        """Return an architecture's own network with its part of the shared weights, in evaluation mode, without auxiliary head.

        Where rewards do not use the running averages (which mix the statistics of all paths), its BatchNorm statistics are those
        of the architecture itself over a few unaugmented training minibatches.
        """
        child = self.child_config.make_child(
            input_shape=self.input_shape, num_classes=self.num_classes, architecture=architecture
        )
        copy_inherited(self.child, child)
        child.drop_auxiliary_head()
        child = child.to(self.device).to(memory_format=self.memory_format).eval()
        norms = batch_norms(child)
        if norms and self.config.batch_norm != "running":
            with fresh_statistics(norms):
                self._accumulate(child, norms, architecture)
                state = {name: value.clone() for name, value in child.state_dict().items()}
            child.load_state_dict(state)
        return child

    def _set_training(self, training: bool) -> None:
        if self.child.training != training:
            self.child.train(training)

    def state_dict(self) -> State:
        """Return weights, optimizer moments, seed and counters."""
        return {
            "child": self.child.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seed": self.seed,
            "num_train_steps": self.num_train_steps,
            "num_evaluations": self.num_evaluations,
            "num_architecture_gradients": self.num_architecture_gradients,
            "carries": list(self._carries),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.reset(state["seed"])
        self.child.load_state_dict(state["child"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_train_steps = state["num_train_steps"]
        self.num_evaluations = state["num_evaluations"]
        self.num_architecture_gradients = state.get("num_architecture_gradients", 0)  # not in checkpoints of before mixtures
        self._carries = [None if carry is None else carry.to(self.device) for carry in state.get("carries", [])]
