"""Architectures that fail in the middle of a search: a loss that is not finite, a network that does not fit in memory."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from controllers import CONTROLLERS
from enas.checkpoint import load_checkpoint
from enas.children.base import Child, Output
from enas.children.batch_norm import BatchNorm
from enas.configs import RetrainConfig, ScheduleConfig, SharedConfig
from enas.datasets.augment import Augmentation
from enas.datasets.images import ImageData
from enas.errors import SearchFailed, TrainingFailed
from enas.failures import LIMITS, NOT_FINITE, OUT_OF_MEMORY, STEEP, failures, is_out_of_memory
from enas.recipe import Recipe, train_all
from enas.shared_weights import SharedWeights
from enas.spaces.base import ChildConfig, Decision, SearchSpace, Step
from enas.types import PathBatch
from envs.vector import SharedWeightVectorEnv
from scripts.build import build_search, derive_answer
from scripts.presets import quickstart
from scripts.search_config import SearchConfig


@dataclass(frozen=True)
class Fragile:
    operations: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"operations": list(self.operations)}


class FragileSpace(SearchSpace[Fragile]):
    name = "fragile"

    def __init__(self, operations: tuple[str, ...]) -> None:
        self.operations = operations
        names = [f"layer_{k}" for k in range(2)]
        self.decisions = tuple(
            Decision(name=n, kind="op", choices=operations, vocabulary="op", step=k) for k, n in enumerate(names)
        )
        self.steps = (Step(input="start"), Step(input="choice"))

    def decode(self, tokens: Any) -> Fragile:
        return Fragile(tuple(self.operations[token] for token in self.validate(tokens)))

    def encode(self, architecture: Fragile) -> tuple[int, ...]:
        return tuple(self.operations.index(operation) for operation in architecture.operations)

    def from_json(self, data: dict[str, Any]) -> Fragile:
        return Fragile(tuple(data["operations"]))

    def to_text(self, architecture: Fragile) -> str:
        return " ".join(architecture.operations)

    def smallest(self) -> Fragile:
        return Fragile(self.operations[:1] * 2)

    largest = smallest


def overflow(x: Tensor) -> Tensor:
    return x * torch.inf


class Steep(torch.autograd.Function):
    """Identity with an infinite slope: the loss is finite, the gradient is not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * torch.inf


def huge(x: Tensor) -> Tensor:
    return x + torch.empty(2**50).sum()  # a petabyte


BROKEN: dict[str, Callable[[Tensor], Tensor]] = {"overflow": overflow, "steep": Steep.apply, "huge": huge}


class FragileChild(Child):
    def __init__(self, channels: int, num_classes: int, operations: tuple[tuple[str, ...], ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: nn.Conv2d(4, 4, 3, padding=1) for name in names if name not in BROKEN}) for names in operations
        )
        self.norms = nn.ModuleList(BatchNorm(4, relu=True) for _ in operations)
        self.classifier = nn.Linear(4, num_classes)

    def forward(self, x: Tensor, architecture: Fragile, *, carry: Any = None, generator: Any = None) -> Output:
        x = self.stem(x)
        for layer, norm, name in zip(self.layers, self.norms, architecture.operations, strict=True):
            x = norm(BROKEN[name](x) if name in BROKEN else layer[name](x))
        return Output(logits=self.classifier(x.mean((2, 3))))


@dataclass(frozen=True)
class FragileConfig(ChildConfig):
    operations: tuple[str, ...] = ("good", "fine", "overflow")

    def make_space(self) -> FragileSpace:
        return FragileSpace(self.operations)

    def make_child(self, *, input_shape: Any, num_classes: int, architecture: Fragile | None = None) -> FragileChild:
        own = (self.operations,) * 2 if architecture is None else tuple((name,) for name in architecture.operations)
        return FragileChild(input_shape[0], num_classes, own)


def config_of(*operations: str, strategy: str = "enas", **changes: Any) -> SearchConfig:
    return replace(
        quickstart(),
        space="fragile",
        child=FragileConfig(operations),
        strategy=strategy,
        epochs=3,
        shared=SharedConfig(batch_size=16, valid_batch_size=15, steps_per_epoch=8, **changes),
        schedule=ScheduleConfig(controller_steps=4, architectures_per_step=3, candidates=4),
        retrain=RetrainConfig(epochs=0),
    )


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "architectures.jsonl").read_text().splitlines()]


def numbers_in(value: Any) -> list[float]:
    """All numbers of a nested state, tensors included."""
    if isinstance(value, torch.Tensor):
        return [float(value.double().abs().sum())] if value.dtype.is_floating_point else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in numbers_in(item)]
    return [float(value)] if isinstance(value, (int, float)) else []


@pytest.mark.parametrize("batch_norm", ["batch", "running", "recalibrated"])
@pytest.mark.parametrize("strategy", [name for name in CONTROLLERS if name not in ("darts", "gaea", "gdas")])  # run no paths
def test_search_with_architectures_that_overflow_ends_well(strategy, batch_norm, images, tmp_path):
    config = config_of("good", "fine", "overflow", strategy=strategy, batch_norm=batch_norm)
    with build_search(config, tmp_path, data=images) as run:
        run.search.run()
        answer = derive_answer(run)
    rows = [row for row in rows_of(tmp_path) if row["phase"] != "derive"]
    failed = [row for row in rows if 2 in row["tokens"]]
    assert 5 < len(failed) < len(rows)
    assert {(row["reward"], row["failure"]) for row in failed} == {(0.0, NOT_FINITE)}
    assert not any("failure" in row for row in rows if row not in failed)
    assert run.search.position.num_failed == len(failed)
    assert "overflow" not in answer.architecture.operations
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert np.isfinite(numbers_in(state["parts"])).all()  # weights, momenta, running averages, baseline, Adam's moments
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-2]["search/failed"] == len(failed)
    assert all(value is not None for row in metrics for value in row.values())


@pytest.fixture
def shared(images) -> Callable[..., SharedWeights]:
    def build(*operations: str, **changes: Any) -> SharedWeights:
        return SharedWeights(FragileConfig(operations), images, SharedConfig(batch_size=16, valid_batch_size=15, **changes))

    return build


def step_with(shared: SharedWeights, *rows: list[int]) -> Any:
    return shared.train_step(PathBatch(tokens=np.array(rows), loss_weights=np.full(len(rows), 1 / len(rows))))


def everything(shared: SharedWeights) -> list[Tensor]:
    state = {name: value for name, value in shared.child.state_dict().items() if "num_batches" not in name}
    return [value.clone() for value in [*state.values(), *(m["momentum_buffer"] for m in shared.optimizer.state.values())]]


@pytest.mark.parametrize(
    ("operation", "loss_is_finite"), [("overflow", [True, False]), ("steep", [True, True]), ("huge", [True, False])]
)
@pytest.mark.filterwarnings("ignore:out of memory")
def test_step_with_a_failing_path_moves_nothing(operation, loss_is_finite, shared):
    weights = shared("good", operation)
    step_with(weights, [0, 0])
    before = everything(weights)
    metrics = step_with(weights, [0, 0], [0, 1])
    assert metrics.loss.isfinite().tolist() == loss_is_finite
    assert bool(metrics.failed)
    assert all(map(torch.equal, everything(weights), before))
    assert not step_with(weights, [0, 0]).failed
    assert not all(map(torch.equal, everything(weights), before))
    assert weights.num_train_steps == 3


@pytest.mark.parametrize("phase", ["shared", "controller", "both"])
def test_environment_gives_the_floor(phase, shared):
    env = SharedWeightVectorEnv(
        shared("good", "overflow"), num_envs=2, phase=phase, reward=lambda evaluation: 1 + evaluation.accuracy
    )
    rewards, infos = env.step(np.array([[0, 0], [0, 1]]))[1::3]
    assert rewards[0] > (1 if phase != "shared" else 0)
    assert rewards[1] == 0
    measured = infos["final_info"]
    loss = measured["train_loss" if phase == "shared" else "loss"]
    assert np.isfinite(loss).tolist() == [True, False]


def test_ten_failures_in_a_row_end_the_search_with_the_architecture_named(images, tmp_path):
    with build_search(config_of("overflow"), tmp_path, data=images) as run:
        with pytest.raises(
            SearchFailed, match=r"10 \w.* in a row failed, the last with loss not finite: fragile architecture overflow"
        ):
            run.search.run()
        counts = run.search.position.failed_in_a_row
        assert max(count for kinds in counts.values() for count in kinds.values()) == LIMITS[NOT_FINITE] == 10


def test_infinite_gradient_counts_as_a_failure(images, tmp_path):
    message = "10 training steps in a row failed, the last with gradient not finite: fragile architecture steep steep"
    with build_search(config_of("steep"), tmp_path, data=images) as run, pytest.raises(SearchFailed, match=message):
        run.search.run()
    trained = [row for row in rows_of(tmp_path) if row["phase"] == "shared"]
    assert {(row["reward"], row["failure"]) for row in trained} == {(0.0, STEEP)}


def test_path_that_fails_in_every_step_ends_the_search_though_others_are_fine(images, tmp_path):
    """With several paths a step, one that fails takes the step with it: the weights would never move."""
    config = config_of("good", "fine", "overflow", strategy="uniform", paths_per_step=20)
    with build_search(config, tmp_path, data=images) as run, pytest.raises(SearchFailed, match="10 training steps in a row"):
        run.search.run()


@pytest.mark.filterwarnings("ignore:out of memory")
def test_kinds_of_failure_are_counted_apart(images, tmp_path):
    with build_search(config_of("good"), tmp_path, data=images) as run:
        tokens = np.zeros((1, 2), dtype=np.int64)
        for kind, count in ((OUT_OF_MEMORY, 99), (NOT_FINITE, 9), (OUT_OF_MEMORY, 0)):
            for _ in range(count):
                run.search._count_failures("controller", tokens, [kind])
        with pytest.raises(SearchFailed, match="100 measurements in a row failed, the last with out of memory"):
            run.search._count_failures("controller", tokens, [OUT_OF_MEMORY])


def test_failures_that_are_interrupted_do_not_add_up(images, tmp_path):
    config = config_of("good", "fine", "better", "overflow", strategy="uniform")
    with build_search(config, tmp_path, data=images) as run:
        run.search.run()
    assert run.search.position.num_failed > LIMITS[NOT_FINITE]


@pytest.mark.parametrize("reward_batch", ["own", "shared"])
@pytest.mark.parametrize("batch_norm", ["batch", "recalibrated"])
def test_architecture_that_does_not_fit_in_memory_gets_the_floor(reward_batch, batch_norm, images, tmp_path):
    config = config_of("good", "fine", "huge", strategy="uniform", reward_batch=reward_batch, batch_norm=batch_norm)
    with build_search(config, tmp_path, data=images) as run:
        with pytest.warns(
            RuntimeWarning, match=r"out of memory, (training step skipped|not measured): fragile architecture .*huge"
        ):
            run.search.run()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a candidate may be one of them
            answer = derive_answer(run)
    rows = [row for row in rows_of(tmp_path) if row["phase"] != "derive"]
    failed = [row for row in rows if 2 in row["tokens"]]
    assert 5 < len(failed) < len(rows)
    assert {(row["reward"], row["accuracy"], row["failure"]) for row in failed} == {(0.0, None, OUT_OF_MEMORY)}
    assert not any("failure" in row for row in rows if row not in failed)
    assert run.search.position.num_failed == len(failed)
    assert "huge" not in answer.architecture.operations


@pytest.mark.parametrize("reward_batch", ["own", "shared"])
def test_architectures_beside_one_that_does_not_fit_are_measured_as_without_it(reward_batch, shared):
    with_it, without = (shared("good", "fine", "huge", reward_batch=reward_batch) for _ in range(2))
    with pytest.warns(RuntimeWarning, match="out of memory"):
        measured = with_it.evaluate([with_it.space.decode(row) for row in ([0, 1], [1, 0], [0, 2])])
    expected = without.evaluate([without.space.decode(row) for row in ([0, 1], [1, 0])])
    assert measured.loss[:2].tolist() == expected.loss.tolist()
    assert failures(measured.loss, measured.accuracy) == [None, None, OUT_OF_MEMORY]


@pytest.mark.filterwarnings("ignore:out of memory")
def test_space_in_which_nothing_fits_ends_the_search(images, tmp_path):
    config = replace(config_of("huge"), epochs=20)
    with build_search(config, tmp_path, data=images) as run, pytest.raises(SearchFailed, match=r"100 .* in a row failed"):
        run.search.run()


@pytest.mark.parametrize("broken", ["huge", "overflow"])
def test_random_architecture_that_cannot_be_trained_is_left_out(broken, images, tmp_path):
    recipe = recipe_of(images, "good", broken, random=6)
    with pytest.warns(RuntimeWarning, match=rf"random-\d is left out: .*: fragile architecture .*{broken}"):
        own, random = train_all(recipe, Fragile(("good", "good")), tmp_path, Console(file=io.StringIO()), name="searched")
    assert len(own.results) == 2
    trained = [json.loads(file.read_text())["architecture"] for file in tmp_path.glob("random-*/result.json")]
    assert 0 < len(random.results) == len(trained) < 6
    assert {name for architecture in trained for name in architecture["operations"]} == {"good"}


def test_searched_architecture_that_cannot_be_trained_ends_the_training(images, tmp_path):
    recipe = recipe_of(images, "good", "huge", random=2)
    with pytest.raises(TrainingFailed, match="out of memory: fragile architecture good huge"):
        train_all(recipe, Fragile(("good", "huge")), tmp_path, Console(file=io.StringIO()), name="searched")


def recipe_of(images: ImageData, *operations: str, random: int) -> Recipe:
    return Recipe(
        child=FragileConfig(operations),
        data=images,
        retrain=RetrainConfig(epochs=2, batch_size=20, seeds=2, random=random),
        augmentation=Augmentation(pad=0, flip=False),
        seed=0,
        device=torch.device("cpu"),
        precision="fp32",
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 8 bytes"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error, expected):
    assert is_out_of_memory(error) is expected


def test_other_errors_of_a_child_are_not_taken_for_failures(shared):
    weights = shared("good")
    weights.child.classifier = nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        weights.evaluate([weights.space.smallest()])


@pytest.mark.slow
def test_search_that_diverges_says_so_on_the_command_line(commands):
    done = commands.search("--shared.learning-rate", "1e38", "--shared.grad-clip", "None", "--epochs", "20", "--run-dir", "run")
    assert done.returncode == 1
    message = r"error: 10 \w.* in a row failed, the last with loss not finite: macro architecture \d / \d"
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
