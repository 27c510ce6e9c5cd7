"""What the benchmarks have in common: spaces at their sizes, random images and text, shared weights, and pairs in time.

Training, rewards and schedule are those of each space's own preset; sizes are the bench's. Architectures are uniform or the ENAS
policy's, others in each pair; images are random bytes and texts random tokens, since time and memory do not depend on what they
show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from controllers.configs import EnasConfig
from enas.configs import Precision, ScheduleConfig, SharedConfig
from enas.datasets.augment import Augmentation
from enas.datasets.data import Data
from enas.datasets.images import ImageData, ImageSplit, channel_statistics
from enas.datasets.text import TextData, TextSplit
from enas.datasets.vocabulary import Vocabulary
from enas.hard_coded import hard_coded
from enas.measure import Pairs, Side, time_pairs
from enas.seeding import derive_generator, derive_seed
from enas.shared_weights import SharedWeights
from enas.spaces.base import ChildConfig, SearchSpace
from enas.spaces.sampling import sample_uniform
from enas.types import Controller, PathBatch
from scripts.bench_settings import BenchCommand, SpaceName
from scripts.presets import PRESETS

AUGMENTATION = Augmentation(pad=4, flip=True)  # CIFAR's habit
NUM_CLASSES = 10
TEXT_BATCHES = 20  # of training, after which the text begins again
PTB_TOKENS = 929_589
"""Tokens that an epoch of the recurrent space trains on, see `enas.datasets.penn_treebank`."""
SEARCHES: Mapping[SpaceName, str] = {"macro": "enas-macro", "micro": "enas-micro", "nb201": "nasbench201", "rnn": "enas-ptb"}
"""Presets whose settings of training, rewards and schedule the spaces have."""

Measured = tuple[Pairs, str]
"""What a benchmark returns: pairs, and a note or nothing."""


@dataclass(frozen=True, kw_only=True)
class SpaceBench:
    """A space as it is measured.

    Attributes:
        child: the space and its network.
        shared: how the weights are trained and asked for rewards, on one minibatch each.
        schedule: how many controller steps an epoch has, and of how many architectures.
    """

    child: ChildConfig
    shared: SharedConfig
    schedule: ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """What a benchmark gets.

    Attributes:
        spaces: the spaces by name.
        data: the images, on the device.
        text: the text, on the device.
        num_architectures: of one controller step.
        num_pairs: how often to measure.
        seed: everything random follows from it.
        device: where networks run.
        on_pair: told how many pairs are complete.
    """

    spaces: Mapping[SpaceName, SpaceBench]
    data: ImageData
    text: TextData
    num_architectures: int
    num_pairs: int
    seed: int
    device: torch.device
    on_pair: Callable[[int], None] = lambda _: None

    def weights(
        self, name: SpaceName, *, memory_format: torch.memory_format | None = None, precision: Precision = "fp32"
    ) -> SharedWeights:
        """Return fresh shared weights of a space.

        Args: memory_format: None is the device's faster order of memory. precision: of forward passes.
        """
        space = self.spaces[name]
        data, augmentation = self._data(space.child)
        return SharedWeights(
            space.child,
            data,
            space.shared,
            augmentation=augmentation,
            seed=self.seed,
            device=self.device,
            precision=precision,
            memory_format=memory_format,
        )

    def controller(self, name: SpaceName) -> Controller:
        """Return a fresh ENAS controller of a space."""
        return EnasConfig().make(self.spaces[name].child.make_space(), seed=self.seed)

    def time_pairs(self, sides: Callable[[], tuple[Side, Side]], *, rehearses: bool = True) -> Pairs:
        """Time as many pairs as are asked for; see `enas.measure.time_pairs`. Args: sides: makes both sides of the next pair."""
        return time_pairs(
            lambda _: sides(), num_pairs=self.num_pairs, device=self.device, rehearses=rehearses, on_pair=self.on_pair
        )

    def paths(self, space: SearchSpace[Any]) -> Iterator[PathBatch]:
        """Yield, for ever, a single path."""
        rng = np.random.default_rng(derive_seed(self.seed, "architectures"))
        while True:
            yield PathBatch(tokens=sample_uniform(space, 1, rng), loss_weights=np.ones(1))

    def hard_coded_pairs(self, shared: SharedWeights) -> Iterator[tuple[PathBatch, SharedWeights]]:
        """Yield, for ever, one path and its architecture's own network, made from the shared weights as they then are."""
        data, augmentation = self._data(shared.child_config)
        for paths in self.paths(shared.space):
            yield paths, hard_coded(shared, shared.space.decode(paths.tokens[0]), data, augmentation=augmentation)

    def _data(self, child: ChildConfig) -> tuple[Data, Augmentation | None]:
        return (self.text, None) if child.reads == "text" else (self.data, AUGMENTATION)


def make_workbench(command: BenchCommand, device: torch.device, *, on_pair: Callable[[int], None] = lambda _: None) -> Workbench:
    """Return the workbench that a command asks for."""
    return Workbench(
        spaces=make_spaces(command),
        data=random_images(
            command.num_images, command.image_size, num_valid=command.valid_batch_size, seed=command.seed, device=device
        ),
        text=random_text(command.rnn_batch_size, command.bptt, vocabulary=command.vocabulary, seed=command.seed, device=device),
        num_architectures=command.architectures,
        num_pairs=command.pairs,
        seed=command.seed,
        device=device,
        on_pair=on_pair,
    )


def make_spaces(command: BenchCommand) -> dict[SpaceName, SpaceBench]:
    """Return the spaces at the sizes of a command."""
    spaces: dict[SpaceName, SpaceBench] = {}
    for name, preset in SEARCHES.items():
        search, child, batch_size = PRESETS[preset](), getattr(command, name), getattr(command, f"{name}_batch_size")
        reads_text = child.reads == "text"
        steps = max(1, PTB_TOKENS // (batch_size * command.bptt)) if reads_text else search.shared.steps_per_epoch
        shared = replace(
            search.shared,
            batch_size=batch_size,
            steps_per_epoch=steps,
            valid_batch_size=batch_size if reads_text else command.valid_batch_size,
            reward_batches=1,
        )
        spaces[name] = SpaceBench(child=child, shared=shared, schedule=search.schedule)
    return spaces


def random_images(count: int, size: int, *, num_valid: int, seed: int, device: torch.device) -> ImageData:
    """Return random RGB images of 10 classes, on the device: `count` to train on, `num_valid` to validate and test on."""
    generator = derive_generator(seed, "images")

    def split(length: int) -> ImageSplit:
        images = torch.randint(256, (length, 3, size, size), dtype=torch.uint8, generator=generator)
        labels = torch.randint(NUM_CLASSES, (length,), generator=generator)
        return ImageSplit(images=images.to(device), labels=labels.to(device))

    train, few = split(count), split(num_valid)
    mean, std = channel_statistics(train.images)
    return ImageData(name="random", train=train, valid=few, test=few, num_classes=NUM_CLASSES, mean=mean, std=std)


def random_text(batch_size: int, bptt: int, *, vocabulary: int, seed: int, device: torch.device) -> TextData:
    """Return a text of random tokens, on the device: some minibatches of sequences to train on, one to validate and test on."""
    generator = derive_generator(seed, "text")

    def split(batches: int) -> TextSplit:
        tokens = torch.randint(vocabulary, (batches * batch_size * bptt + 1,), generator=generator)
        return TextSplit(tokens=tokens.to(device), bptt=bptt)

    words = Vocabulary(level="word", tokens=tuple(map(str, range(vocabulary))))
    return TextData(name="random", train=split(TEXT_BATCHES), valid=split(1), test=split(1), vocabulary=words)
