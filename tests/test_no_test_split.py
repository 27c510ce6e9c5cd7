"""Test accuracy chooses nothing: what searches, derives and ranks never touches the test split.

The first half lets whole searches run over a test split that raises whatever is asked of it; the second reads the sources.
Not covered: environments over tables of benchmarks, which report test accuracies beside rewards (`tests/envs/test_tabular.py`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import enas.search
from controllers import CONTROLLERS
from enas.configs import BatchNormMode, RankingConfig, RetrainConfig, ScheduleConfig, SharedConfig
from enas.data_configs import TextConfig
from enas.datasets import load_data
from enas.datasets.data import Data
from enas.datasets.images import ImageData, ImageSplit
from enas.derive import rank_candidates
from enas.devices import select_device
from enas.errors import Stopped
from enas.paths import PATHS
from enas.recipe import Recipe
from enas.spaces.macro import MacroConfig
from enas.spaces.nasbench201 import OPERATIONS, NasBench201Config
from enas.spaces.rnn import RnnConfig
from enas.tables import BenchmarkTable, Epochs, Split
from enas.types import FloatArray
from scripts.build import build_search, derive_answer
from scripts.finish import look_up_answer
from scripts.search_config import SearchConfig
from scripts.weights import read_state

ROOT = Path(__file__).resolve().parent.parent


class TestSplitRead(Exception):  # noqa: N818 - no error of what reads it, but of who wrote it
    """Somebody asked the test split for something."""

    __test__ = False


class Trap(ImageSplit):
    """A test split that answers nothing: not its images, labels or number, nor how it is printed, copied or compared."""

    def __init__(self) -> None:
        """Hold no tensor at all."""

    def __getattribute__(self, name: str) -> Any:
        raise TestSplitRead(name)

    def __len__(self) -> int:
        raise TestSplitRead("len")

    def __repr__(self) -> str:
        raise TestSplitRead("repr")


@pytest.fixture
def trapped(images: ImageData) -> ImageData:
    """Small images whose test split raises; set past `ImageData`'s own check of all splits' shapes."""
    object.__setattr__(images, "test", Trap())
    return images


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", ["images", "labels", "__class__", "__dict__", "anything"])
def test_trap_gives_no_attribute(name, trapped):
    with pytest.raises(TestSplitRead):
        getattr(trapped.test, name)


@pytest.mark.parametrize("ask", [len, repr, str])
def test_trap_tells_nothing_of_itself(ask, trapped):
    with pytest.raises(TestSplitRead):
        ask(trapped.test)


CELLS = NasBench201Config(filters=2, cells_per_stage=1)
SEARCHES: list[dict[str, Any]] = [
    {"strategy": "categorical", "paths": "controller"},
    {"strategy": "darts", "paths": "controller", "child": CELLS},
    {"strategy": "enas", "paths": "controller", "shared": {"batch_norm": "running"}},
    {"strategy": "enas", "paths": "uniform", "schedule": {"kind": "two-stage", "warmup_epochs": 1}},
    {"strategy": "evolution", "paths": "fair", "shared": {"batch_norm": "recalibrated"}},
    {"strategy": "gaea", "paths": "controller", "child": CELLS},
    {"strategy": "gdas", "paths": "controller", "child": CELLS},
    {"strategy": "ppo", "paths": "controller"},
    {"strategy": "uniform", "paths": "sandwich", "shared": {"batch_norm": "batch", "reward_batch": "shared"}},
]


def test_searches_have_every_strategy_path_rule_schedule_and_statistics():
    assert {search["strategy"] for search in SEARCHES} == set(CONTROLLERS)
    assert {search["paths"] for search in SEARCHES} == set(PATHS)
    assert {small_config(search).shared.batch_norm for search in SEARCHES} == set(get_args(BatchNormMode))
    assert {small_config(search).schedule.kind for search in SEARCHES} == {"alternating", "two-stage"}


def small_config(changes: dict[str, Any]) -> SearchConfig:
    schedule = {"controller_steps": 2, "architectures_per_step": 3, "candidates": 4}
    return SearchConfig(
        epochs=2,
        threads=1,
        device="cpu",
        child=changes.get("child", MacroConfig(num_layers=2, filters=4)),
        shared=SharedConfig(**{"batch_size": 20, "valid_batch_size": 10, "batch_norm": "batch", **changes.get("shared", {})}),
        schedule=ScheduleConfig(**{**schedule, **changes.get("schedule", {})}),
        retrain=RetrainConfig(epochs=0),
        **{name: value for name, value in changes.items() if name not in ("child", "shared", "schedule")},
    )


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: f"{search['strategy']}-{search['paths']}")
def test_search_checkpoint_resumption_and_answer_never_ask_for_the_test_split(search, tmp_path, trapped):
    search_stop_and_resume(small_config(search), tmp_path, trapped)


def test_search_on_a_text_never_asks_for_the_test_split_either(tmp_path):
    data = load_data("topics", data_dir=tmp_path, text=TextConfig(bptt=4, vocabulary=20), num_train=300, num_valid=100)
    object.__setattr__(data, "test", Trap())
    child = RnnConfig(num_nodes=2, hidden=4)
    search_stop_and_resume(replace(small_config({"child": child}), space="rnn", reward="perplexity"), tmp_path, data)


def search_stop_and_resume(config: SearchConfig, tmp_path: Path, trapped: Data) -> None:
    steps = count(1)
    with build_search(config, tmp_path, data=trapped, should_stop=lambda: next(steps) == 4) as run, pytest.raises(Stopped):
        run.search.run()
    assert read_state("--resume", tmp_path)["position"]["num_architectures"] > 0
    with build_search(replace(config, resume=tmp_path), tmp_path, data=trapped) as run:
        assert run.resumed
        run.search.run()
        answer = derive_answer(run)
        ranked = rank_candidates(run.shared, run.controller.candidates(5))
    assert answer.candidate.valid_accuracy <= 1
    assert [candidate.valid_accuracy for candidate in ranked] == sorted((c.valid_accuracy for c in ranked), reverse=True)


def test_training_from_scratch_is_what_the_trap_stops(trapped):
    config = small_config({})
    recipe = Recipe(
        child=config.child,
        data=trapped,
        retrain=RetrainConfig(epochs=1, batch_size=10),
        augmentation=None,
        seed=0,
        device=select_device("cpu"),
        precision="fp32",
    )
    with pytest.raises(TestSplitRead):
        recipe.training(config.child.make_space().smallest(), 0)


def test_table_beside_a_search_is_asked_for_test_accuracies_after_the_answer_only(tmp_path, trapped, monkeypatch):
    codes = np.array(list(product(range(5), repeat=6)), dtype=np.uint8)
    percent = np.linspace(10, 90, len(codes), dtype=np.float32)
    np.savez(tmp_path / "table.npz", ops=list(OPERATIONS), codes=codes, cifar10_valid=percent, cifar10_test=percent[::-1])
    asked: list[str] = []

    def accuracy(self: BenchmarkTable, data: str, split: Split, *, epochs: Epochs = 200) -> FloatArray:
        asked.append(split)
        return read(self, data, split, epochs=epochs)

    read = BenchmarkTable.accuracy
    monkeypatch.setattr(BenchmarkTable, "accuracy", accuracy)
    config = replace(
        small_config({"strategy": "uniform"}),
        space="nasbench201",
        child=NasBench201Config(filters=2, cells_per_stage=1),
        ranking=RankingConfig(table=tmp_path / "table.npz", every_epochs=1, num_architectures=3, num_images=10),
    )
    with build_search(config, tmp_path / "run", data=trapped) as run:
        run.search.run()
        answer = derive_answer(run)
        assert set(asked) == {"valid"}
        looked_up = look_up_answer(run, answer)
    assert [one.split for one in looked_up] == ["valid", "test"]
    assert "test" in asked


# In the sources.

READERS = {
    "enas/datasets/images.py",  # refuses splits of images that do not fit each other
    "enas/datasets/folder.py",  # lists the files of a folder's test split
    "enas/datasets/text.py",  # refuses splits of a text that do not fit each other
    "enas/datasets/text_source.py",  # cuts a text into its splits
    "enas/retrain.py",  # measures a network that is trained from scratch
}
"""Files that may say `.test`: who makes the split and checks it, and who reports on it."""
GIVEN_A_SPLIT = {"scripts/weights.py": 1}
"""Files that may take an attribute by a name that is computed from `split`, and how often: `restore_shared_weights`."""
CHOOSERS = [
    "controllers",
    "enas/collapse.py",
    "enas/compare/trials.py",
    "enas/derive.py",
    "enas/paths.py",
    "enas/ranking/monitor.py",
    "enas/rewards.py",
    "enas/search.py",
    "enas/shared_weights.py",
    "envs/phases.py",
    "envs/shared_weight.py",
    "envs/tokens.py",
    "envs/vector.py",
]
"""What proposes, trains, measures, rewards, ranks: files and folders that do not so much as name anything of a test."""


def sources(*places: str) -> Iterator[tuple[str, ast.Module]]:
    for place in places:
        path = ROOT / place
        for file in [path] if path.suffix else sorted(path.rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def reads_of_test(tree: ast.AST) -> int:
    """Count `x.test` and `getattr(x, "test")`."""
    attributes = sum(isinstance(node, ast.Attribute) and node.attr == "test" for node in ast.walk(tree))
    by_name = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and is_named(node.func, "getattr"))
    return attributes + sum(isinstance(node.args[1], ast.Constant) and node.args[1].value == "test" for node in by_name)


def is_named(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def reads_by_split(tree: ast.AST) -> int:
    """Count `getattr(x, split)`."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and is_named(node.func, "getattr"))
    return sum(is_named(node.args[1], "split") for node in calls)


def names_of_test(tree: ast.Module) -> set[str]:
    """Return every name, attribute, argument, import and text, docstrings aside, that has the word `test` in it."""
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) not in docstrings:
            texts = (getattr(node, field, None) for field in ("id", "attr", "arg", "name", "module", "value"))
            found |= {text for text in texts if isinstance(text, str)}
    return {text for text in found if "test" in re.split(r"[^a-z]+", text.lower())}


EVERYTHING = dict(sources("enas", "controllers", "envs", "scripts"))


@pytest.mark.parametrize(
    "source", ["data.test.images", "images = self.data.test", "getattr(data, 'test')", "def f(run): return len(run.data.test)"]
)
def test_planted_read_of_the_test_split_is_found(source):
    assert reads_of_test(ast.parse(source)) == 1


@pytest.mark.parametrize(
    "source", ["x.test_accuracy", "row['test_accuracy']", "f(split='test')", "from scripts import test", "def f(test): ..."]
)
def test_planted_name_of_a_test_is_found(source):
    assert names_of_test(ast.parse(source))


@pytest.mark.parametrize("source", ["'the latest step'", '"""Never reads the test split."""', "fastest = contest"])
def test_other_words_and_docstrings_are_let_pass(source):
    assert names_of_test(ast.parse(source)) == set()


def test_only_data_and_training_from_scratch_read_the_test_split():
    assert {file for file, tree in EVERYTHING.items() if reads_of_test(tree)} == READERS


def test_a_split_that_a_caller_names_is_taken_in_one_place():
    taken = {file: reads_by_split(tree) for file, tree in EVERYTHING.items()}
    assert {file: count for file, count in taken.items() if count} == GIVEN_A_SPLIT


def test_shared_weights_are_restored_for_another_split_than_validation_by_the_command_evaluate_alone():
    others = set()
    for file, tree in EVERYTHING.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and is_named(node.func, "restore_shared_weights"):
                (split,) = (keyword.value for keyword in node.keywords if keyword.arg == "split")
                if not (isinstance(split, ast.Constant) and split.value == "valid"):
                    others.add(file)
    assert others == {"scripts/evaluate.py"}


@pytest.mark.parametrize("place", CHOOSERS)
def test_what_chooses_names_nothing_of_a_test(place):
    for file, tree in sources(place):
        assert (file, names_of_test(tree)) == (file, set())
