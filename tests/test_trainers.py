from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import enas.search
from controllers.configs import DartsStrategyConfig, EnasConfig, GdasConfig
from controllers.gaea import GaeaConfig
from enas.children.base import Child, Output
from enas.children.batch_norm import BatchNorm
from enas.children.mixing import weighted_sum
from enas.configs import RetrainConfig, ScheduleConfig, SharedConfig
from enas.datasets.images import ImageData
from enas.errors import SearchFailed
from enas.failures import LIMITS, NOT_FINITE, OUT_OF_MEMORY, STEEP
from enas.paths import UniformPaths
from enas.rewards import FLOOR
from enas.search import Search
from enas.shared_weights import SharedWeights
from enas.spaces.base import ChildConfig, Decision, MixedOperation, SearchSpace, Step
from enas.spaces.nasbench201 import NasBench201Config, NasBench201Space
from enas.train_metrics import MixtureGradient, MixtureMetrics, TrainMetrics
from enas.trainers import MixtureTrainer, PathTrainer
from enas.types import BoolArray, FloatArray, PathBatch, Relaxation
from envs.vector import SharedWeightVectorEnv
from scripts.build import build_search
from scripts.search_config import ControllerSettings, SearchConfig

SPACE = NasBench201Space()


class Stopped(Exception):  # noqa: N818 - what stops it is no error of the search
    """Ends a search from outside."""


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))


# The order of a step, over parts that record what is asked of them.


class RecordingController:
    """Numbers its mixtures: all weights of the n-th are n."""

    def __init__(self, log: list[Any], *, level: str, order: int = 1) -> None:
        self.log, self.level, self.order = log, level, order
        self.num_mixtures = 0

    def relax(self, progress: float) -> Relaxation:
        self.num_mixtures += 1
        self.log.append(("relax", progress))
        return Relaxation(weights=np.full((6, 5), float(self.num_mixtures)), active=np.ones((6, 5), dtype=bool))

    def descend(self, gradient: FloatArray) -> dict[str, float]:
        assert gradient.dtype == np.float64
        self.log.append(("descend", gradient[0, 0]))
        return {"entropy": 0.5}


class RecordingWeights:
    """A validation gradient of 7 everywhere, a training gradient of 8; what comes may be replaced."""

    space = SPACE

    def __init__(
        self,
        log: list[Any],
        *,
        valid: tuple[float, float, float] = (7, 0.6, 0.1),
        train: tuple[float, float, float] = (8, 0.5, 0.2),
        grad_norm: float = 3.0,
    ) -> None:
        self.log, self.valid, self.train, self.grad_norm = log, valid, train, torch.tensor(grad_norm)

    def architecture_gradient(self, relaxation: Relaxation, *, order: int) -> MixtureGradient:
        self.log.append(("gradient", relaxation.weights[0, 0], order))
        value, loss, accuracy = self.valid
        return MixtureGradient(
            gradient=torch.full((6, 5), float(value)), loss=torch.tensor(loss), accuracy=torch.tensor(accuracy)
        )

    def mixture_step(self, relaxation: Relaxation) -> MixtureMetrics:
        self.log.append(("train", relaxation.weights[0, 0]))
        value, loss, accuracy = self.train
        gradient = torch.full((6, 5), float(value))
        return MixtureMetrics(
            loss=torch.tensor(float(loss)),
            accuracy=torch.tensor(float(accuracy)),
            grad_norm=self.grad_norm,
            failed=~(torch.tensor(float(loss)).isfinite() & gradient.isfinite().all() & self.grad_norm.isfinite()),
            learning_rate=0.25,
            gradient=gradient,
        )


def recorded_step(level: str, *, learns: bool = True, order: int = 1, **given: Any) -> tuple[Any, list[Any]]:
    log: list[Any] = []
    trainer = MixtureTrainer(RecordingWeights(log, **given), RecordingController(log, level=level, order=order))
    assert trainer.step(progress=0.25, learns=learns) == 1
    (trained,) = trainer.fetch()
    return trained, log


@pytest.mark.parametrize("order", [1, 2])
def test_bilevel_step_descends_on_validation_and_trains_the_mixture_that_comes_of_it(order):
    trained, log = recorded_step("bilevel", order=order)
    assert log == [("relax", 0.25), ("gradient", 1.0, order), ("descend", 7.0), ("relax", 0.25), ("train", 2.0)]
    assert trained.metrics == pytest.approx({"loss": 0.6, "entropy": 0.5})
    assert trained.failed == [None]


def test_single_level_step_descends_with_the_gradient_of_its_training():
    trained, log = recorded_step("single")
    assert log == [("relax", 0.25), ("train", 1.0), ("descend", 8.0)]
    assert trained.metrics == pytest.approx({"loss": 0.5, "entropy": 0.5})


@pytest.mark.parametrize("level", ["bilevel", "single"])
def test_step_in_warm_up_only_trains(level):
    trained, log = recorded_step(level, learns=False)
    assert log == [("relax", 0.25), ("train", 1.0)]
    assert trained.metrics == {}


def test_a_trained_mixture_is_no_architecture():
    trained, _ = recorded_step("bilevel")
    assert trained.tokens.shape == (0, 6)
    assert trained.rewards.shape == (0,)
    assert trained.accuracy.tolist() == pytest.approx([0.2])
    assert (trained.loss, trained.grad_norm, trained.learning_rate) == (0.5, 3.0, 0.25)


@pytest.mark.parametrize(
    ("level", "given", "failure"),
    [
        ("bilevel", {"valid": (np.nan, 0.6, 0.1)}, STEEP),
        ("bilevel", {"valid": (np.inf, np.inf, 0.1)}, NOT_FINITE),
        ("bilevel", {"valid": (np.nan, np.nan, np.nan)}, OUT_OF_MEMORY),
        ("single", {"train": (np.inf, 0.5, 0.2)}, STEEP),
        ("single", {"train": (np.nan, np.nan, 0.2)}, NOT_FINITE),
        ("single", {"train": (0.0, np.nan, np.nan)}, OUT_OF_MEMORY),
        ("single", {"grad_norm": np.inf}, STEEP),  # the weights' gradient: the mixture's own is sound
    ],
)
def test_gradient_that_is_not_sound_reaches_no_strategy_and_fails_the_step(level, given, failure):
    trained, log = recorded_step(level, **given)
    assert not [entry for entry in log if entry[0] == "descend"]
    assert [entry for entry in log if entry[0] == "train"]  # the weights are trained all the same
    assert trained.failed == [failure]
    assert trained.metrics == {}


def test_failed_training_behind_a_sound_gradient_is_the_steps_failure():
    trained, log = recorded_step("bilevel", train=(8, np.nan, np.nan))
    assert ("descend", 7.0) in log
    assert trained.failed == [OUT_OF_MEMORY]


# Paths that teach.


class PathWeights:
    """Accuracies of .5 and .75, losses that are given."""

    def __init__(self, loss: Sequence[float], *, grad_norm: float = 1.0) -> None:
        self.loss, self.grad_norm = torch.tensor(loss, dtype=torch.float64), torch.tensor(grad_norm)

    def train_step(self, paths: PathBatch) -> TrainMetrics:
        failed = ~(self.loss.isfinite().all() & self.grad_norm.isfinite())
        accuracy = torch.tensor([0.5, 0.75])
        return TrainMetrics(loss=self.loss, accuracy=accuracy, grad_norm=self.grad_norm, failed=failed, learning_rate=0.5)


class TwoPaths:
    num_paths = 2

    def draw(self) -> PathBatch:
        return PathBatch(tokens=np.arange(12).reshape(2, 6) % 5, loss_weights=np.array([0.5, 0.5]))

    def state_dict(self) -> dict[str, Any]:
        return {}

    load_state_dict = None


@pytest.mark.parametrize("learns_in_training", [True, False])
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("loss", [(0.1, 0.2), (0.1, np.inf)])
def test_accuracies_of_paths_teach_a_strategy_that_learns_in_training(learns_in_training, learns, loss):
    taught = []

    def update_in_training(rollout: Any, rewards: FloatArray) -> dict[str, float]:
        taught.append((rollout.tokens.tolist(), rewards.tolist()))
        return {"entropy": 2.0}

    learner = SimpleNamespace(learns_in_training=learns_in_training, update_in_training=update_in_training)
    trainer = PathTrainer(PathWeights(loss), TwoPaths(), learner=learner)
    assert trainer.step(progress=0.0, learns=learns) == 2
    (trained,) = trainer.fetch()
    is_taught = learns_in_training and learns and np.isfinite(loss).all()
    expected = [([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 1]], [0.5, 0.75])]
    assert taught == (expected if is_taught else [])
    assert trained.metrics == ({"entropy": 2.0} if is_taught else {})


def test_steps_are_fetched_in_their_order_and_once():
    weights = PathWeights((0.1, 0.2))
    learner = SimpleNamespace(learns_in_training=True, update_in_training=lambda rollout, rewards: {"entropy": 2.0})
    trainer = PathTrainer(weights, TwoPaths(), learner=learner)
    for norm, learns in enumerate((False, False, True, False)):
        weights.grad_norm = torch.tensor(float(norm))
        trainer.step(progress=0.0, learns=learns)
    trained = trainer.fetch()
    assert [one.grad_norm for one in trained] == [0.0, 1.0, 2.0, 3.0]
    assert [bool(one.metrics) for one in trained] == [False, False, True, False]
    assert trainer.fetch() == []


@pytest.mark.parametrize(
    ("loss", "grad_norm", "failed", "rewards"),
    [
        ((0.1, 0.2), 1.0, [None, None], [0.5, 0.75]),
        ((0.1, np.inf), 1.0, [None, NOT_FINITE], [0.5, FLOOR]),
        ((0.1, 0.2), np.nan, [STEEP, STEEP], [FLOOR, FLOOR]),
    ],
)
def test_paths_that_fail_are_rewarded_with_the_floor(loss, grad_norm, failed, rewards):
    trainer = PathTrainer(PathWeights(loss, grad_norm=grad_norm), TwoPaths())
    trainer.step(progress=0.0, learns=True)
    (trained,) = trainer.fetch()
    assert (trained.failed, trained.rewards.tolist()) == (failed, rewards)


@pytest.mark.parametrize("num_paths", [1, 3])
def test_trainer_and_environment_in_phase_shared_train_alike(num_paths, images):
    """The same weights, bit for bit, and the same rewards and measurements."""
    config = SharedConfig(batch_size=10, valid_batch_size=10)
    own, other = (SharedWeights(NasBench201Config(filters=2, cells_per_stage=1), images, config) for _ in range(2))
    controller = EnasConfig().make(SPACE, seed=0)
    rule, same_rule = (UniformPaths(SPACE, controller, num_paths=num_paths, seed=3) for _ in range(2))
    trainer, envs = PathTrainer(own, rule), SharedWeightVectorEnv(other, num_envs=num_paths, phase="shared")
    told = []
    for _ in range(3):
        trainer.step(progress=0.0, learns=False)
        paths = same_rule.draw()
        envs.reset(options={"loss_weights": paths.loss_weights})
        _, rewards, _, _, infos = envs.step(paths.tokens)
        told.append((paths, rewards, infos["final_info"]))
    assert_same(own.state_dict(), other.state_dict())
    for trained, (paths, rewards, info) in zip(trainer.fetch(), told, strict=True):
        assert trained.tokens.tolist() == paths.tokens.tolist()
        assert trained.rewards.tolist() == rewards.tolist()
        assert trained.accuracy.tolist() == info["train_accuracy"].tolist()
        assert trained.loss == info["train_loss"].sum() / paths.loss_weights.sum()
        assert (trained.grad_norm, trained.learning_rate) == (info["grad_norm"][0], info["learning_rate"][0])


# Whole searches.

STRATEGIES: dict[str, dict[str, Any]] = {
    "darts": {"strategy": "darts"},
    "darts, second order": {"strategy": "darts", "controller": ControllerSettings(darts=DartsStrategyConfig(order=2))},
    "gaea": {"strategy": "gaea"},
    "gaea, sampled": {"strategy": "gaea", "controller": ControllerSettings(gaea=GaeaConfig(kind="sampled"))},
    "gaea, sampled, single": {
        "strategy": "gaea",
        "controller": ControllerSettings(gaea=GaeaConfig(kind="sampled", level="single")),
    },
    "gaea, single": {"strategy": "gaea", "controller": ControllerSettings(gaea=GaeaConfig(level="single"))},
    "gdas": {"strategy": "gdas"},
}
ON_MIXTURES = [name for name in STRATEGIES if "sampled" not in name]


def small_config(name: str, **changes: Any) -> SearchConfig:
    return SearchConfig(
        **{
            "space": "nasbench201",
            "epochs": 3,
            "threads": 1,
            "device": "cpu",
            "child": NasBench201Config(filters=2, cells_per_stage=1),
            "shared": SharedConfig(
                batch_size=10, valid_batch_size=10, steps_per_epoch=3, batch_norm="batch", reward_batch="shared"
            ),
            "schedule": ScheduleConfig(
                warmup_epochs=1, controller_steps=2, architectures_per_step=3, candidates=4, checkpoint_minutes=0
            ),
            "retrain": RetrainConfig(epochs=0),
            **STRATEGIES[name],
            **changes,
        }
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_to_end(config: SearchConfig, folder: Path, data: ImageData, **options: Any) -> Any:
    """What a search leaves: rows of architectures, metrics apart from clock and memory, all parts' state, candidates."""
    with build_search(config, folder, data=data, **options) as run:
        run.search.run()
        candidates = run.controller.candidates(4).tolist()
        state = run.search.state_dict()
    metrics = [
        {tag: value for tag, value in row.items() if tag != "time" and not tag.startswith(("time/", "system/"))}
        for row in rows_of(folder / "metrics.jsonl")
    ]
    return (folder / "architectures.jsonl").read_bytes(), metrics, state["parts"], state["position"], candidates


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


def stop_after(num_steps: int) -> Any:
    left: Iterator[int] = iter(range(num_steps - 1))

    def stop(_: Search) -> None:
        if next(left, None) is None:
            raise Stopped

    return stop


@pytest.mark.parametrize(
    "name",
    ["darts, second order", "gaea, sampled, single", pytest.param("gaea, single", marks=pytest.mark.thorough), "gdas"],
)
def test_search_stopped_again_and_again_ends_as_an_undisturbed_one(name, images, tmp_path):
    config = small_config(name)
    calm = run_to_end(config, tmp_path / "calm", images)
    for number, num_steps in enumerate((2, 4, 4)):  # in warm-up, in a learning epoch's training, while measuring
        resumed = replace(config, resume=tmp_path / "stopped") if number else config
        with pytest.raises(Stopped):
            run_to_end(resumed, tmp_path / "stopped", images, on_step=stop_after(num_steps))
    assert_same(run_to_end(replace(config, resume=tmp_path / "stopped"), tmp_path / "stopped", images), calm)


@pytest.mark.parametrize("name", STRATEGIES)
def test_records_of_a_search(name, images, tmp_path):
    """Of mixtures no row says that an architecture was trained; the axis moves on by one a training step all the same."""
    config = small_config(name)
    config = replace(config, schedule=replace(config.schedule, checkpoint_minutes=60))
    _, metrics, parts, position, candidates = run_to_end(config, tmp_path, images)
    rows = rows_of(tmp_path / "architectures.jsonl")
    phases = [row["phase"] for row in rows]
    assert phases.count("shared") == (0 if name in ON_MIXTURES else 9)
    assert phases.count("controller") == 12
    assert len(candidates) == (1 if name in ON_MIXTURES else 4)
    assert position["num_architectures"] == 9 + 12
    assert position["num_measured"] == 12
    assert [row["index"] for row in rows if row["phase"] == "controller"] == [*range(6, 12), *range(15, 21)]
    assert parts["shared"]["num_train_steps"] == 9
    shared = [row for row in metrics if "shared/loss" in row]
    assert [row["step"] for row in shared] == [3, 6, 15]
    assert all({"shared/accuracy", "shared/grad_norm", "shared/lr"} <= set(row) for row in shared)
    learns_in_training = name in ON_MIXTURES or "single" in name
    assert ["controller/entropy" in row for row in shared] == [False, learns_in_training, learns_in_training]
    if name in ON_MIXTURES:
        assert parts["controller"]["num_descents"] == 6
        assert parts["shared"]["num_architecture_gradients"] == (0 if "single" in name else 6)
        assert {"controller/loss", "controller/grad_norm", "controller/largest_weight"} <= set(shared[1])
    measured = [row for row in metrics if "controller/reward" in row]
    assert all({"controller/entropy", "controller/largest_weight", "search/best_so_far"} <= set(row) for row in measured)


def test_search_whose_mixtures_never_fit_ends_with_the_reason(images, tmp_path):
    config = small_config("darts", shared=SharedConfig(batch_size=10, valid_batch_size=10, steps_per_epoch=60))
    with build_search(config, tmp_path, data=images) as run:
        with torch.no_grad():
            run.shared.child.classifier.weight.fill_(torch.inf)
        limit = LIMITS[NOT_FINITE]
        with pytest.raises(
            SearchFailed, match=f"{limit} training steps in a row failed, the last with {NOT_FINITE}: nasbench201 mix"
        ):
            run.search.run()
        assert run.search.position.num_failed == limit
    assert not rows_of(tmp_path / "architectures.jsonl")


# What is learned, on a small network with one useful operation.


@dataclass(frozen=True)
class Two:
    operations: tuple[str, str]

    def to_json(self) -> dict[str, Any]:
        return {"operations": list(self.operations)}


CHOICES = ("other", "own", "zero")


class TwoSpace(SearchSpace[Two]):
    """Two places for what an image gives: itself, the next image of the minibatch, or zero."""

    name = "two"

    def __init__(self) -> None:
        names = [f"place_{index}" for index in range(2)]
        self.decisions = tuple(
            Decision(name=name, kind="op", choices=CHOICES, vocabulary="op", step=step) for step, name in enumerate(names)
        )
        self.steps = (Step(input="start"), Step(input="choice"))
        self.mixed_operations = tuple(MixedOperation(name=name, choices=CHOICES) for name in names)

    def decode(self, tokens: Any) -> Two:
        first, second = self.validate(tokens)
        return Two((CHOICES[first], CHOICES[second]))

    def encode(self, architecture: Two) -> tuple[int, ...]:
        return tuple(map(CHOICES.index, architecture.operations))

    def from_json(self, data: dict[str, Any]) -> Two:
        return Two(tuple(data["operations"]))

    def discretize(self, weights: FloatArray) -> Two:
        return self.decode(weights.argmax(axis=1))


class TwoChild(Child):
    """The sum of both places is classified: an image's own features help, those of another one mislead."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, 4, 3, padding=1) for _ in range(4))
        self.norms = nn.ModuleList(BatchNorm(4) for _ in range(4))
        self.classifier = nn.Linear(4, num_classes)

    def operate(self, place: int, name: str, x: Tensor) -> Tensor:
        if name == "zero":
            return x.new_zeros(len(x), 4, 1, 1)
        index = 2 * place + (name == "own")
        out = self.norms[index](self.convs[index](x if name == "own" else x.roll(1, dims=0)))
        return out.mean((2, 3), keepdim=True)

    def forward(self, x: Tensor, architecture: Two, *, carry: Any = None, generator: Any = None) -> Output:
        active = np.array([[name == own for name in CHOICES] for own in architecture.operations])
        return self.forward_mixture(x, torch.from_numpy(active).to(x.dtype), active)

    def forward_mixture(self, x: Tensor, weights: Tensor, active: BoolArray, *, generator: Any = None) -> Output:
        places, chosen = (column.tolist() for column in np.nonzero(active))
        outputs = [self.operate(place, CHOICES[k], x) for place, k in zip(places, chosen, strict=True)]
        return Output(logits=self.classifier(weighted_sum(outputs, weights[places, chosen]).flatten(1)))


@dataclass(frozen=True)
class TwoConfig(ChildConfig):
    def make_space(self) -> TwoSpace:
        return TwoSpace()

    def make_child(self, *, input_shape: Any, num_classes: int, architecture: Any = None) -> TwoChild:
        return TwoChild(input_shape[0], num_classes)


LEARNERS = {
    "darts": DartsStrategyConfig(learning_rate=0.03),
    "darts, second order": DartsStrategyConfig(learning_rate=0.03, order=2),
    "darts, single": DartsStrategyConfig(learning_rate=0.03, level="single"),
    "gaea": GaeaConfig(learning_rate=0.3),
    "gaea, single": GaeaConfig(learning_rate=0.3, level="single"),
    "gdas": GdasConfig(learning_rate=0.03),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_strategy_finds_the_operation_that_sees_the_image(name, images):
    config = SharedConfig(batch_size=20, valid_batch_size=10, learning_rate=0.05, restart_epochs=1000)
    shared = SharedWeights(TwoConfig(), images, config)
    controller = LEARNERS[name].make(shared.space, seed=0)
    trainer = MixtureTrainer(shared, controller)
    for step in range(60):
        trainer.step(progress=step / 60, learns=True)
    useful = controller.probabilities[:, CHOICES.index("own")]
    assert useful.mean() > 0.5  # chance: 1/3
    assert controller.candidates(1).tolist() == [[1, 1]]
