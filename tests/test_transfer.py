"""What crosses between the host and an accelerator, traced on PyTorch's meta device, which computes shapes and holds no values.

Whatever the host would learn from an accelerator goes through one of the operations that `Tracer` counts; operations with results
of a size that depends on values (`nonzero`) fail there. Not seen: what kernels wait for by themselves, which CUDA tells the last
test on a GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import enas.search
import enas.transfer
from controllers.configs import DartsStrategyConfig, EnasConfig, GdasConfig
from controllers.gaea import GaeaConfig
from enas.configs import ScheduleConfig, SharedConfig
from enas.datasets.augment import Augmentation
from enas.datasets.images import ImageData, ImageSplit
from enas.datasets.random_lengths import RandomLengths
from enas.datasets.text import TextData, TextSplit
from enas.datasets.vocabulary import Vocabulary
from enas.paths import ControllerPaths
from enas.search import FETCH_EVERY, Search
from enas.shared_weights import SharedWeights
from enas.spaces.base import ChildConfig
from enas.spaces.darts import DartsConfig
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.rnn import RnnConfig
from enas.spaces.sampling import sample_uniform
from enas.tracking import Tracker
from enas.trainers import MixtureTrainer, PathTrainer
from enas.transfer import to_device, to_host
from enas.types import PathBatch
from envs.vector import SharedWeightVectorEnv

_aten = torch.ops.aten


class Tracer(TorchDispatchMode):
    """Counts transfers from the meta device to the host, which get zeros, and copies there that `to_device` has not made.

    Attributes:
        reads: the operations that read.
        blocking: (file, line) of the copies.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.blocking: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _aten._fused_sgd_.default and args[0][0].is_meta:
            return None  # it has no meta kernel
        if func is _aten._local_scalar_dense.default and args[0].is_meta:
            self.reads.append(str(func))
            return 0
        if func is _aten._to_copy.default:
            target = torch.device(kwargs.get("device") or args[0].device)
            if args[0].is_meta and target.type == "cpu":
                self.reads.append(str(func))
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            self._note_copy(args[0].device, target)
        if func is _aten.copy_.default:
            if args[1].is_meta and not args[0].is_meta:
                self.reads.append(str(func))
                return args[0].zero_()
            self._note_copy(args[1].device, args[0].device)
        return func(*args, **kwargs)

    def _note_copy(self, source: torch.device, target: torch.device) -> None:
        frame = sys._getframe(2)
        if (source.type, target.type) == ("cpu", "meta") and not _is_within(to_device, frame):
            self.blocking.append(_place_in(enas.transfer, frame))


def _is_within(function: Callable[..., Any], frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame is not None


def _place_in(module: Any, frame: FrameType | None) -> tuple[str, int]:
    """Where in the module's package a frame was called from."""
    while frame is not None and not Path(frame.f_code.co_filename).is_relative_to(Path(module.__file__).parent):
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracer]:
    """Trace, once entered, on shared weights of the meta device."""
    monkeypatch.setattr(sys.modules["torch.optim.sgd"], "_device_dtype_check_for_fused", lambda *args: None)
    return Tracer()


# What is traced.

CHILDREN: dict[str, ChildConfig] = {
    "darts": DartsConfig(num_layers=3, num_nodes=1, filters=2, keep_prob=0.9, aux_head=True),
    "macro": MacroConfig(num_layers=3, filters=2),
    "micro": MicroConfig(num_layers=1, num_nodes=1, filters=2),
    "nasbench201": NasBench201Config(filters=2, cells_per_stage=1),
    "rnn": RnnConfig(num_nodes=2, hidden=5),
}
SMALL = MacroConfig(num_layers=1, filters=2)
"""A network for what does not depend on the space: each operation takes its time here."""


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """A data set of each kind."""

    def split(count: int) -> ImageSplit:
        return ImageSplit(images=torch.zeros(count, 1, 8, 8, dtype=torch.uint8), labels=torch.arange(count) % 3)

    def part(count: int) -> TextSplit:
        return TextSplit(tokens=torch.arange(count) % 6, bptt=8)

    images = ImageData(name="tiny", train=split(40), valid=split(30), test=split(10), num_classes=3, mean=(0.5,), std=(0.2,))
    vocabulary = Vocabulary(tokens=tuple("abcdef"), level="char")
    text = TextData(name="tiny", train=part(400), valid=part(150), test=part(150), vocabulary=vocabulary)
    return {"images": images, "text": text}


@pytest.fixture
def make(data: Mapping[str, Any]) -> Callable[..., SharedWeights]:
    """Return a builder of shared weights on the meta device: minibatches vary as far as they can."""

    def build(child: ChildConfig, *, device: str = "meta", **changes: Any) -> SharedWeights:
        config = SharedConfig(**{"batch_size": 10, "valid_batch_size": 5, **changes})
        augmentation = RandomLengths() if child.reads == "text" else Augmentation(pad=1, cutout=2)
        return SharedWeights(child, data[child.reads], config, augmentation=augmentation, device=device)

    return build


def draw(shared: SharedWeights, count: int = 2) -> PathBatch:
    tokens = sample_uniform(shared.space, count, np.random.default_rng(shared.num_train_steps))
    return PathBatch(tokens=tokens, loss_weights=np.full(count, 1 / count))


# Steps.


@pytest.mark.parametrize("name", CHILDREN)
def test_training_step_neither_reads_from_the_device_nor_waits_for_a_copy_to_it(name, make, tracer):
    shared = make(CHILDREN[name])
    with tracer:
        metrics = [shared.train_step(draw(shared, count)) for count in (2, 1)]
    assert [one.loss.shape for one in metrics] == [(2,), (1,)]
    assert all(one.loss.is_meta for one in metrics)
    assert (tracer.reads, tracer.blocking) == ([], [])


@pytest.mark.parametrize("name", ["darts", "nasbench201"])
def test_training_step_on_a_mixture_reads_nothing(name, make, tracer):
    shared = make(CHILDREN[name])
    controller = GdasConfig().make(shared.space, seed=0)
    with tracer:
        shared.mixture_step(controller.relax(0.5))
    assert tracer.reads == []


@pytest.mark.parametrize("batch_norm", ["batch", "running", "recalibrated"])
@pytest.mark.parametrize("reward_batch", ["own", "shared"])
def test_rewards_of_a_controller_step_are_one_transfer(reward_batch, batch_norm, make, tracer):
    shared = make(SMALL, reward_batch=reward_batch, batch_norm=batch_norm, reward_batches=2, recalibration_batches=2)
    architectures = [shared.space.decode(row) for row in draw(shared, 3).tokens]
    with tracer:
        evaluations = [shared.evaluate(architectures) for _ in range(2)]
    assert [len(one.accuracy) for one in evaluations] == [3, 3]
    assert (len(tracer.reads), tracer.blocking) == (2, [])


@pytest.mark.parametrize("name", CHILDREN)
def test_rewards_in_every_space_are_one_transfer(name, make, tracer):
    shared = make(CHILDREN[name], reward_batch="shared", batch_norm="batch")
    architectures = [shared.space.decode(row) for row in draw(shared, 2).tokens]
    with tracer:
        shared.evaluate(architectures)
    assert (len(tracer.reads), tracer.blocking) == (1, [])


# Searches.


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracer: Tracer) -> Iterator[Callable[..., list[int]]]:
    """Return a runner of an epoch of 5 and 2 steps, which returns how many transfers there were after each step."""
    monkeypatch.setattr(enas.search, "FETCH_EVERY", 2)
    monkeypatch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))
    with Tracker(tmp_path, start=None) as tracker:

        def run(shared: SharedWeights, controller: Any) -> list[int]:
            paths = ControllerPaths(shared.space, controller, seed=0)
            counts: list[int] = []
            search = Search(
                space=shared.space,
                trainer=PathTrainer(shared, paths, learner=controller if hasattr(controller, "learns_in_training") else None),
                controller_envs=SharedWeightVectorEnv(shared, num_envs=3, phase="controller"),
                controller=controller,
                schedule=ScheduleConfig(controller_steps=2, architectures_per_step=3),
                shared_steps=5,
                epochs=1,
                tracker=tracker,
                parts={},
                save=lambda state: None,
                on_step=lambda position: counts.append(len(tracer.reads)),
            )
            with tracer:
                search.run()
            return counts

        yield run


def test_search_reads_from_the_device_now_and_then_in_training_and_once_an_update(search, make):
    shared = make(SMALL)
    assert search(shared, EnasConfig().make(shared.space, seed=0)) == [0, 1, 1, 2, 3, 4, 5]


def test_failed_steps_are_heard_of_within_ten():
    assert FETCH_EVERY <= 10


def test_strategy_that_learns_from_each_training_step_reads_once_a_step(search, make):
    shared = make(SMALL)
    controller = GaeaConfig(kind="sampled", level="single").make(shared.space, seed=0)
    assert search(shared, controller) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("config", "learns", "expected"),
    [
        (GdasConfig(), False, (0, 1)),
        (GdasConfig(), True, (1, 2)),
        pytest.param(DartsStrategyConfig(order=2), True, (2, 3), marks=pytest.mark.slow),
        (GaeaConfig(level="single"), True, (1, 1)),
    ],
)
def test_transfers_of_strategies_on_mixtures(config, learns, expected, make, tracer):
    """After a step, and after the fetch behind it."""
    shared = make(CHILDREN["nasbench201"])
    trainer = MixtureTrainer(shared, config.make(shared.space, seed=0))
    with tracer:
        trainer.step(progress=0.5, learns=learns)
        num_reads = len(tracer.reads)
        assert len(trainer.fetch()) == 1
    assert (num_reads, len(tracer.reads)) == expected


# The tracer sees what is planted.

READS: dict[str, Callable[[Tensor], object]] = {
    "bool": lambda x: bool(x.sum() > 0),
    "branch": lambda x: 1 if x.sum() > 0 else 0,
    "copy_": lambda x: torch.empty(x.shape).copy_(x),
    "cpu": lambda x: x.cpu(),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.sum()),
    "item": lambda x: x.sum().item(),
    "to": lambda x: x.to("cpu", torch.float64),
    "tolist": lambda x: x.flatten().tolist(),
}


@pytest.mark.parametrize("name", READS)
def test_read_is_counted(name, tracer):
    with tracer:
        READS[name](torch.ones(3, device="meta"))
    assert len(tracer.reads) == 1


def test_planted_choice_of_what_is_not_zero_fails(tracer):
    with tracer, pytest.raises(NotImplementedError):
        torch.empty(3, device="meta").nonzero()


def test_planted_transfers_in_a_network_are_counted(make, tracer, monkeypatch):
    shared = make(SMALL)
    forward = shared.child.forward

    def waiting(x: Tensor, architecture: Any, **options: Any) -> Any:
        factor = torch.ones(3).sum().to(x.device)
        return forward(x * factor + x.sum().item(), architecture, **options)

    monkeypatch.setattr(shared.child, "forward", waiting)
    with tracer:
        shared.train_step(draw(shared))
    assert (len(tracer.reads), len(tracer.blocking)) == (2, 2)  # once a path


# The two directions by themselves.


def test_tensors_come_to_the_host_in_their_shapes_and_by_one_transfer(tracer):
    given = [torch.tensor([[1.5, -2.0]]), torch.tensor(True), torch.zeros(0), torch.tensor([torch.nan, torch.inf])]
    scalar, *_ = arrays = to_host([torch.tensor(0.1), *given])
    assert [array.shape for array in arrays] == [(), (1, 2), (), (0,), (2,)]
    assert {array.dtype for array in arrays} == {np.dtype(np.float64)}
    assert scalar == np.float32(0.1)
    assert [array.tolist() for array in arrays[1:4]] == [[[1.5, -2.0]], 1.0, []]
    np.testing.assert_array_equal(arrays[4], [np.nan, np.inf])
    with tracer:
        to_host([tensor.to("meta") for tensor in given])
    assert len(tracer.reads) == 1


def test_what_goes_to_the_device_stays_the_same_on_the_cpu():
    tensor = torch.arange(3)
    assert to_device(tensor, torch.device("cpu")) is tensor


# On a GPU, where CUDA itself tells what waits.


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", CHILDREN)
def test_training_step_on_cuda_waits_for_nothing(name, make):
    shared = make(CHILDREN[name], device="cuda")
    shared.train_step(draw(shared))  # makes what stays, and lets libraries choose their kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            shared.train_step(draw(shared))
    finally:
        torch.cuda.set_sync_debug_mode("default")
