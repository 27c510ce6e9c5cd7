from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

import scripts.search
from enas.checkpoint import load_checkpoint, save_checkpoint
from enas.configs import RetrainConfig, ScheduleConfig, SharedConfig
from enas.data_configs import SplitConfig
from enas.datasets.images import ImageData, ImageSplit
from enas.errors import CheckpointError
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.types import PathBatch
from enas.warm_start import inherit_weights
from scripts.build import build_search
from scripts.configuration import CONFIG_FILE, parse_search
from scripts.presets import quickstart
from scripts.search_config import SearchConfig

CHILD = MacroConfig(num_layers=3, filters=4)
PATHS = PathBatch(tokens=np.array([[0, 3, 1, 5, 0, 1]]), loss_weights=np.ones(1))


def make(images: ImageData, *, child: MacroConfig = CHILD, seed: int = 0) -> SharedWeights:
    return SharedWeights(child, images, SharedConfig(batch_size=16, valid_batch_size=30), seed=seed)


def tensors(shared: SharedWeights) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in shared.child.state_dict().items()}


def same(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the tensors that are equal in both, bit for bit."""
    return {name for name in some if name in others and torch.equal(some[name], others[name])}


def like(images: ImageData, *, channels: int, classes: int) -> ImageData:
    """Return data of other channels and classes."""

    def change(split: ImageSplit) -> ImageSplit:
        labels = torch.arange(len(split)) % classes
        return ImageSplit(images=split.images.repeat(1, channels, 1, 1), labels=labels)

    train, valid, test = (change(split) for split in (images.train, images.valid, images.test))
    mean, std = images.mean * channels, images.std * channels
    return replace(images, train=train, valid=valid, test=test, num_classes=classes, mean=mean, std=std)


def moments(shared: SharedWeights) -> list[Tensor]:
    return [state["momentum_buffer"] for state in shared.optimizer.state.values()]


@pytest.fixture
def trained(images: ImageData) -> SharedWeights:
    shared = make(images)
    for _ in range(3):
        shared.train_step(PATHS)
    return shared


# Which tensors are taken.


def test_weights_and_statistics_are_the_others_bit_for_bit(trained, images):
    shared = make(images, seed=1)
    assert same(tensors(shared), tensors(trained)) < set(tensors(shared))
    assert inherit_weights(shared, trained.child.state_dict(), child_config=CHILD) == []
    assert same(tensors(shared), tensors(trained)) == set(tensors(shared)) == set(tensors(trained))


def test_nothing_but_weights_and_statistics_is_taken(trained, images):
    shared = make(images, seed=1)
    inherit_weights(shared, trained.child.state_dict(), child_config=CHILD)
    assert (shared.num_train_steps, shared.num_evaluations, shared.seed) == (0, 0, 1)
    assert max(float(moment.abs().max()) for moment in moments(trained)) > 0
    assert all(float(moment.abs().max()) == 0 for moment in moments(shared))


def test_training_after_a_warm_start_leaves_the_other_search_alone(trained, images):
    shared = make(images, seed=1)
    before = tensors(trained)
    inherit_weights(shared, trained.child.state_dict(), child_config=CHILD)
    shared.train_step(PATHS)
    assert same(tensors(trained), before) == set(before)
    assert same(tensors(shared), before) < set(before)


@pytest.mark.parametrize(
    ("channels", "classes", "fresh"),
    [
        (1, 3, []),
        (1, 5, ["classifier.weight"]),
        (3, 3, ["stem.0.weight"]),
        (3, 2, ["stem.0.weight", "classifier.weight"]),
    ],
)
def test_tensors_whose_shapes_follow_from_the_data_stay_fresh(channels, classes, fresh, trained, images):
    data = like(images, channels=channels, classes=classes)
    shared = make(data, seed=1)
    assert inherit_weights(shared, trained.child.state_dict(), child_config=CHILD) == fresh
    taken, untouched = tensors(shared), tensors(make(data, seed=1))
    assert same(taken, tensors(trained)) == set(taken) - set(fresh)
    assert all(torch.equal(taken[name], untouched[name]) for name in fresh)
    shared.train_step(PATHS)


def test_settings_that_leave_every_shape_as_it_is_may_differ(trained, images):
    shared = make(images, child=replace(CHILD, keep_prob=0.5), seed=1)
    assert inherit_weights(shared, trained.child.state_dict(), child_config=CHILD) == []
    assert same(tensors(shared), tensors(trained)) == set(tensors(trained))


def test_reset_starts_from_fresh_weights(trained, images):
    shared = make(images, seed=1)
    inherit_weights(shared, trained.child.state_dict(), child_config=CHILD)
    shared.reset(1)
    assert same(tensors(shared), tensors(make(images, seed=1))) == set(tensors(shared))


# What is refused.


@dataclass(frozen=True, kw_only=True)
class OtherConfig(MacroConfig):
    """Stands for the settings of another space."""


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (replace(CHILD, filters=6), "child.filters: expected 4, as in the other run, got 6"),
        (replace(CHILD, num_layers=2), "child.num_layers: expected 3, as in the other run, got 2"),
        (replace(CHILD, filters=6, num_layers=4), "child.num_layers: expected 3, as in the other run, got 4"),
        (replace(CHILD, double_filters=True), "child.double_filters: expected False, as in the other run, got True"),
        (replace(CHILD, operations=("conv3x3", "max3x3")), "as in the other run, got ('conv3x3', 'max3x3')"),
        (OtherConfig(num_layers=3, filters=6), "expected settings of the same space, OtherConfig, got MacroConfig"),
    ],
)
def test_network_of_other_settings_is_refused(own, message, trained, images):
    assert message in refusal(make(images, child=own), trained.child.state_dict())


def refusal(shared: SharedWeights, weights: Mapping[str, Tensor]) -> str:
    """Return the message of a refused warm start, which must leave the weights as they were."""
    before = tensors(shared)
    with pytest.raises(ValueError, match="expected") as caught:
        inherit_weights(shared, weights, child_config=CHILD)
    assert same(tensors(shared), before) == set(before)
    return str(caught.value)


@pytest.mark.parametrize(("channels", "classes"), [(1, 3), (3, 5)])
def test_tensors_that_other_data_do_not_explain_are_refused(channels, classes, trained, images):
    """Equal settings, but another version of the code, or a file that someone changed."""
    shared, weights = make(like(images, channels=channels, classes=classes), seed=1), tensors(trained)
    inner = "layers.1.norm.weight"
    assert refusal(shared, {**weights, inner: torch.zeros(7)}) == (
        f"{inner}: expected a tensor of shape (4,), got a tensor of shape (7,)"
    )
    assert refusal(shared, {**weights, "extra": torch.zeros(2)}) == "extra: expected no such tensor, got a tensor of shape (2,)"
    for missing in (inner, "classifier.weight"):
        text = refusal(shared, {name: value for name, value in weights.items() if name != missing})
        assert text.startswith(f"{missing}: expected a tensor of shape (")
        assert text.endswith("), got no such tensor")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["stem.0.weight", "layers.1.norm.running_var"])
def test_numbers_that_are_not_finite_are_refused(name, value, trained, images):
    weights = tensors(trained)
    weights[name].view(-1)[-1] = value
    assert refusal(make(images, seed=1), weights) == f"{name}: expected finite numbers, got {value}"


# Runs.


def small(**changes: object) -> SearchConfig:
    config = replace(
        quickstart(),
        epochs=1,
        device="cpu",
        child=CHILD,
        shared=SharedConfig(batch_size=32, valid_batch_size=50, batch_norm="batch", reward_batch="shared"),
        schedule=ScheduleConfig(controller_steps=1, architectures_per_step=2, candidates=2),
        split=SplitConfig(num_train=400, num_valid=50),
        retrain=RetrainConfig(epochs=0),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def search(config: SearchConfig, folder: Path) -> dict[str, float]:
    """Search to the end; return the metrics of the first epoch's shared training."""
    with build_search(config, folder) as run:
        run.search.run()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return next(row for row in rows if "shared/loss" in row)


def child_of(folder: Path) -> dict[str, Tensor]:
    state = load_checkpoint(folder)
    assert state is not None
    return dict(state["parts"]["shared"]["child"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "source"
    search(small(), folder)
    return folder


@pytest.fixture
def source(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder that a test may change, named from where the test stands."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(finished, "source"))


def test_run_starts_from_the_others_weights_with_a_controller_of_its_own(source):
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    with build_search(small(warm_start=source, seed=5), Path("warm")) as warm, build_search(small(seed=5), Path("cold")) as cold:
        assert not warm.resumed
        assert warm.fresh_tensors == []
        assert same(tensors(warm.shared), child_of(source)) == set(child_of(source))
        assert warm.search.steps_done == warm.shared.num_train_steps == 0
        proposals = [run.controller.propose(20).tokens for run in (warm, cold)]
        np.testing.assert_array_equal(*proposals)
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_training_goes_on_from_the_others_weights(tmp_path):
    child = MacroConfig(num_layers=2, filters=12, keep_prob=1.0, operations=("conv3x3",))
    search(small(epochs=4, child=child), tmp_path / "source")
    warm, cold = (
        search(small(child=child, warm_start=start), tmp_path / f"from-{start and start.name}")
        for start in (tmp_path / "source", None)
    )
    assert warm["shared/loss"] < cold["shared/loss"] - 0.4
    assert warm["shared/accuracy"] > cold["shared/accuracy"] + 0.2


def test_written_configuration_replays_the_warm_start(source):
    search(small(warm_start=source), Path("first"))
    config = parse_search(["--config", "first/config.yaml"])
    assert config.warm_start == source
    search(config, Path("second"))
    assert same(child_of(Path("first")), child_of(Path("second"))) == set(child_of(Path("first")))


def test_resumed_run_with_a_checkpoint_does_not_read_the_other_again(source):
    folder = Path("warm")
    search(small(warm_start=source), folder)
    shutil.rmtree(source)
    own = child_of(folder)
    with build_search(parse_search(["--resume", "warm", "--epochs", "2"]), folder) as run:
        assert run.resumed
        assert same(tensors(run.shared), own) == set(own)
        assert run.fresh_tensors == []


def test_run_resumed_before_its_first_checkpoint_starts_warm_again(source):
    build_search(small(warm_start=source), Path("warm")).__exit__(None, None, None)
    with build_search(parse_search(["--resume", "warm"]), Path("warm")) as run:
        assert not run.resumed
        assert same(tensors(run.shared), child_of(source)) == set(child_of(source))


FROZEN = ScheduleConfig(kind="two-stage", controller_steps=2, architectures_per_step=2, candidates=2, checkpoint_minutes=0)


def test_two_stage_search_without_warmup_leaves_the_others_weights_as_they_are(source):
    config = small(warm_start=source, schedule=FROZEN, strategy="evolution", epochs=2)
    with build_search(config, Path("frozen")) as run:
        run.search.run()
        assert run.shared.num_train_steps == 0
        assert run.search.position.num_measured == 2 * 2 * 2
    assert same(child_of(Path("frozen")), child_of(source)) == set(child_of(source))


def test_two_stage_search_refuses_weights_that_would_stay_fresh(source, images):
    config = small(warm_start=source, schedule=FROZEN, shared=SharedConfig(batch_size=16, valid_batch_size=20))
    with pytest.raises(ValueError, match=r"--warm-start source: expected .* since classifier.weight would never be trained"):
        build_search(config, Path("frozen"), data=images)  # of three classes
    assert not Path("frozen").exists()


@pytest.mark.slow
def test_console_names_what_stays_fresh(source):
    rng = np.random.default_rng(0)
    arrays = {
        f"{kind}_{split}": rng.integers(200, size=(count, 8, 8, 3), dtype=np.uint8) if kind == "x" else np.arange(count) % 4
        for kind in "xy"
        for split, count in (("train", 120), ("test", 20))
    }
    np.savez("mine.npz", **arrays)
    errors = io.StringIO()
    split = SplitConfig(num_valid=50)
    config = small(warm_start=source, data="npz:mine.npz", split=split, run_dir=Path("warm"))
    scripts.search.run_search(config, Console(file=errors, width=60))
    fresh = "stem.0.weight, classifier.weight"
    assert f"Shared weights: those of source, but for {fresh}, which follow from the data\n" in errors.getvalue()


@pytest.fixture
def refused(source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Return a runner of a search that is refused before its folder exists; it returns the message."""

    def run(flags: str) -> str:
        settings = "" if "--resume" in flags else "--child.num-layers 3 --child.filters 4 --run-dir new --device cpu"
        monkeypatch.setattr(sys, "argv", ["search", *settings.split(), *flags.split()])
        with pytest.raises(SystemExit) as caught:
            scripts.search.main()
        assert caught.value.code == 2
        assert not Path("new").exists()
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--warm-start source --child.filters 8", "--warm-start source: child.filters: expected 4, as in the other run, got 8"),
        (
            "--warm-start source --child.num-layers 4",
            "--warm-start source: child.num_layers: expected 3, as in the other run, got 4",
        ),
        ("--warm-start missing", "--warm-start: expected the folder of a run with a config.yaml, got missing"),
        ("--warm-start empty", "--warm-start: expected the folder of a run with a config.yaml, got empty"),
        ("--warm-start source/config.yaml", "--warm-start: expected the folder of a run with a config.yaml, got source/config"),
        ("--warm-start young", "--warm-start: expected a run that has saved a checkpoint, got young, which has none yet"),
        (
            "--warm-start foreign",
            "--warm-start: expected the folder of a run, got foreign, where --space: expected one of darts, macro,",
        ),
        ("--warm-start sick", "--warm-start sick: classifier.weight: expected finite numbers, got nan"),
    ],
)
def test_run_that_cannot_be_started_from_is_named(flags, message, source, refused):
    for name in ("empty", "young", "foreign", "sick"):
        Path(name).mkdir()
    for name in ("young", "sick"):
        shutil.copy(source / CONFIG_FILE, name)
    Path("foreign", CONFIG_FILE).write_text("space: mine\n")
    Path("foreign", "checkpoint.pt").write_bytes(b"")
    state = load_checkpoint(source)
    assert state is not None
    state["parts"]["shared"]["child"]["classifier.weight"].fill_(torch.nan)
    save_checkpoint(Path("sick"), state)
    assert message in refused(flags)


def test_damaged_checkpoint_of_the_other_run_ends_the_command_before_it_starts(source):
    (source / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"source: no checkpoint is intact"):
        build_search(small(warm_start=source), Path("new"))
    assert not Path("new").exists()


def test_resumed_run_may_not_change_where_it_started(source, refused):
    search(small(warm_start=source), Path("warm"))
    message = refused("--resume warm --warm-start other")
    changes = "--epochs, --device and --ranking.table"
    assert f"--warm-start: a resumed run may change only {changes}; expected source, got other" in message
