"""What tests search: a space that needs no child, with a planted optimum, and images small enough to train on in milliseconds."""

from __future__ import annotations

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before PyTorch: tensors here are tiny, and two threads that wait for a busy core crawl

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from enas.spaces.base import Decision, SearchSpace, Step
from enas.spaces.sampling import sample_uniform
from enas.types import Controller, FloatArray, IntArray

if TYPE_CHECKING:
    from enas.datasets.images import ImageData


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="run the cases that only repeat others, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@dataclass(frozen=True, kw_only=True)
class TokenArchitecture:
    tokens: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {"tokens": list(self.tokens)}


class PlantedSpace(SearchSpace[TokenArchitecture]):
    """An architecture is its tokens; cost is taken to grow with them."""

    name = "planted"

    def __init__(self, decisions: Sequence[Decision], steps: Sequence[Step]) -> None:
        self.decisions = tuple(decisions)
        self.steps = tuple(steps)

    def decode(self, tokens: Sequence[int] | IntArray) -> TokenArchitecture:
        return TokenArchitecture(tokens=self.validate(tokens))

    def encode(self, architecture: TokenArchitecture) -> tuple[int, ...]:
        return architecture.tokens

    def from_json(self, data: dict[str, Any]) -> TokenArchitecture:
        return self.decode(data["tokens"])

    def smallest(self) -> TokenArchitecture:
        return self.decode(np.zeros_like(self.num_choices))

    def largest(self) -> TokenArchitecture:
        return self.decode(self.num_choices - 1)


def macro_like(num_layers: int = 12, num_ops: int = 6) -> PlantedSpace:
    """ENAS' macro space: per layer k one of `num_ops` operations, then k skip bits; 78 decisions by default."""
    ops = tuple(f"op_{c}" for c in range(num_ops))
    decisions, steps = [], []
    for k in range(num_layers):
        steps += [Step(input="anchors_mean" if k else "start"), Step(input="choice", anchor="value")]
        decisions.append(Decision(name=f"layer_{k}/op", kind="op", choices=ops, vocabulary="op", step=2 * k))
        for j in range(k):
            anchors = ((), (2 * j + 1,))
            name = f"layer_{k}/skip_{j}"
            decisions.append(
                Decision(name=name, kind="skip", choices=("no", "yes"), vocabulary="skip", step=2 * k + 1, anchors=anchors)
            )
    return PlantedSpace(decisions, steps)


@pytest.fixture
def planted_space() -> PlantedSpace:
    return macro_like()


@pytest.fixture
def chain_space() -> Callable[..., PlantedSpace]:
    """Return a builder of spaces of op decisions alone: `chain_space(3, 1, 4)` has three, with so many choices."""

    def build(*num_choices: int) -> PlantedSpace:
        choices = [tuple(str(c) for c in range(n)) for n in num_choices]
        decisions = [
            Decision(name=f"op_{i}", kind="op", choices=c, vocabulary=f"op_{len(c)}", step=i) for i, c in enumerate(choices)
        ]
        return PlantedSpace(decisions, [Step(input="choice" if i else "start") for i in range(len(choices))])

    return build


@pytest.fixture
def planted_search(planted_space: PlantedSpace) -> Callable[..., FloatArray]:
    """Return a search on the planted reward, the share of decisions that match a fixed target; it returns all rewards."""
    target = sample_uniform(planted_space, 1, np.random.default_rng(99))

    def search(controller: Controller, *, num_samples: int, batch: int = 10) -> FloatArray:
        rewards = []
        for _ in range(num_samples // batch):
            rollout = controller.propose(batch)
            rewards.append((rollout.tokens == target).mean(axis=1))
            controller.update(rollout, rewards[-1])
        return np.concatenate(rewards)

    return search


@pytest.fixture
def images() -> ImageData:
    """Random 8x8 grey images of three classes, which differ in brightness: 60 to train, 30 to validate and 20 to test on."""
    import torch

    from enas.datasets.images import ImageData, ImageSplit, channel_statistics

    generator = torch.Generator().manual_seed(11)

    def split(count: int) -> ImageSplit:
        labels = torch.arange(count) % 3
        noise = torch.randint(120, (count, 1, 8, 8), generator=generator)
        return ImageSplit(images=(noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels=labels)

    train = split(60)
    mean, std = channel_statistics(train.images)
    return ImageData(name="tiny", train=train, valid=split(30), test=split(20), num_classes=3, mean=mean, std=std)


@pytest.fixture
def without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that has no instructions for bfloat16, and says so."""
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": False, "amx_bf16": False})
