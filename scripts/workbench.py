"""What the benchmarks have in common: sizes, random images and text, and shared weights beside a hard-coded architecture.

Architectures are uniform, another one in each pair; images are random bytes and texts random tokens, since time and memory do not
depend on what they show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from enas.configs import SharedConfig
from enas.datasets.augment import Augmentation
from enas.datasets.data import Data
from enas.datasets.images import ImageData, ImageSplit, channel_statistics
from enas.datasets.text import TextData, TextSplit
from enas.datasets.vocabulary import Vocabulary
from enas.hard_coded import hard_coded
from enas.seeding import derive_generator, derive_seed
from enas.shared_weights import SharedWeights
from enas.spaces.base import ChildConfig, SearchSpace
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.rnn import RnnConfig
from enas.spaces.sampling import sample_uniform
from enas.types import PathBatch

AUGMENTATION = Augmentation(pad=4, flip=True)  # CIFAR's habit
NUM_CLASSES = 10
NUM_VALID = 128  # one minibatch of rewards
TEXT_BATCHES = 20  # of training, after which the text begins again


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """What a benchmark gets.

    Attributes:
        macro: the macro space and its network.
        micro: the micro space and its network.
        mixed: the NAS-Bench-201 space and its network, for strategies that train mixtures.
        recurrent: the recurrent space and its network.
        data: the images, on the device.
        text: the text, on the device.
        batch_size: of the macro network's training minibatches.
        micro_batch_size: of the micro network's.
        recurrent_batch_size: sequences of the recurrent network's.
        num_architectures: of one controller update.
        num_pairs: how often to measure.
        seed: everything random follows from it.
        device: where networks run.
        on_pair: told how many pairs are complete.
    """

    macro: ChildConfig
    micro: ChildConfig
    mixed: NasBench201Config
    recurrent: RnnConfig
    data: ImageData
    text: TextData
    batch_size: int
    micro_batch_size: int
    recurrent_batch_size: int
    num_architectures: int
    num_pairs: int
    seed: int
    device: torch.device
    on_pair: Callable[[int], None] = lambda _: None

    def macro_weights(self) -> SharedWeights:
        """Return fresh shared weights of the macro space."""
        return self._shared_weights(self.macro, self.batch_size, None)

    def micro_weights(self, memory_format: torch.memory_format | None = None) -> SharedWeights:
        """Return fresh shared weights of the micro space; None is the device's faster order of memory."""
        return self._shared_weights(self.micro, self.micro_batch_size, memory_format)

    def mixed_weights(self) -> SharedWeights:
        """Return fresh shared weights of the NAS-Bench-201 space."""
        return self._shared_weights(self.mixed, self.batch_size, None)

    def recurrent_weights(self) -> SharedWeights:
        """Return fresh shared weights of the recurrent space with the authors' training settings (`enas_lm/src/child.py`)."""
        config = SharedConfig(
            batch_size=self.recurrent_batch_size,
            valid_batch_size=len(self.text.valid),
            learning_rate=20.0,
            learning_rate_min=20.0,
            momentum=0.0,
            weight_decay=8e-7,
            grad_clip=0.1,
        )
        return SharedWeights(self.recurrent, self.text, config, seed=self.seed, device=self.device)

    def _shared_weights(self, child: ChildConfig, batch_size: int, memory_format: torch.memory_format | None) -> SharedWeights:
        """Return fresh shared weights with the authors' training settings."""
        config = SharedConfig(batch_size=batch_size, valid_batch_size=len(self.data.valid))
        return SharedWeights(
            child,
            self.data,
            config,
            augmentation=AUGMENTATION,
            seed=self.seed,
            device=self.device,
            memory_format=memory_format,
        )

    def paths(self, space: SearchSpace[Any]) -> Iterator[PathBatch]:
        """Yield, for ever, a single path."""
        rng = np.random.default_rng(derive_seed(self.seed, "architectures"))
        while True:
            yield PathBatch(tokens=sample_uniform(space, 1, rng), loss_weights=np.ones(1))

    def hard_coded_pairs(self, shared: SharedWeights) -> Iterator[tuple[PathBatch, SharedWeights]]:
        """Yield, for ever, one path and its architecture's own network, made from the shared weights as they then are."""
        reads_text = shared.child_config.reads == "text"
        data: Data = self.text if reads_text else self.data
        augmentation = None if reads_text else AUGMENTATION
        for paths in self.paths(shared.space):
            yield paths, hard_coded(shared, shared.space.decode(paths.tokens[0]), data, augmentation=augmentation)


def random_images(count: int, size: int, *, seed: int, device: torch.device) -> ImageData:
    """Return random RGB images of 10 classes, on the device: `count` to train on, a minibatch to validate and test on."""
    generator = derive_generator(seed, "images")

    def split(length: int) -> ImageSplit:
        images = torch.randint(256, (length, 3, size, size), dtype=torch.uint8, generator=generator)
        labels = torch.randint(NUM_CLASSES, (length,), generator=generator)
        return ImageSplit(images=images.to(device), labels=labels.to(device))

    train, few = split(count), split(NUM_VALID)
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
