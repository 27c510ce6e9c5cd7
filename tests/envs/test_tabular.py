from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import enas.search
import envs
from controllers import CONTROLLERS
from controllers.evolution import EvolutionConfig
from controllers.uniform import UniformConfig
from enas.configs import ScheduleConfig
from enas.search import Search
from enas.spaces.nasbench201 import OPERATIONS, NasBench201Space
from enas.tables import BenchmarkTable, load_table
from enas.tracking import Tracker
from enas.types import Controller
from envs.tabular import TabularEnv, TabularVectorEnv

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data/nasbench201.npz"
SPACE = NasBench201Space()
CODES = np.array(list(product(range(5), repeat=6)), dtype=np.uint8)
PERCENT = ("cifar10_valid", "cifar10_test", "e12_cifar10_valid", "e12_cifar10_test", "cifar100_valid", "cifar100_test")


def make_columns() -> dict[str, Any]:
    """Numbers of every cell: each operation is worth something on each edge, so good cells are near good cells."""
    rng = np.random.default_rng(0)
    worth = rng.random((6, 5)) ** 2 + [0, 0, 0.5, 0.5, 0]
    score = worth[np.arange(6), CODES].sum(axis=1)
    columns = {name: 60 + 5 * score + rng.normal(size=len(CODES)) for name in PERCENT}
    seconds = {"cifar10valid_train_s": 1000 + CODES.sum(axis=1), "cifar100_train_s": 2000 + 2 * CODES.sum(axis=1)}
    return {**columns, **seconds, "params_m": 0.1 + score / 10, "flops_m": 10 * score}


COLUMNS = make_columns()


@pytest.fixture(scope="module")
def table() -> BenchmarkTable:
    """A table of all 15,625 cells."""
    return BenchmarkTable(codes=CODES, columns=COLUMNS)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same table in a file."""
    path = tmp_path_factory.mktemp("tables") / "table.npz"
    np.savez(path, ops=np.array(OPERATIONS), codes=CODES, **COLUMNS)
    return str(path)


def draw(num: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(5, size=(num, 6))


def row_of(tokens: Any) -> int:
    """Return the row of a cell, by looking through all of them."""
    return int(np.flatnonzero((tokens == CODES).all(axis=1))[0])


# What a step answers.


@pytest.mark.parametrize(("data", "epochs"), [("cifar10", 200), ("cifar10", 12), ("cifar100", 200)])
def test_step_answers_with_the_numbers_of_the_cell(table, data, epochs):
    env = TabularEnv(table, data=data, epochs=epochs)
    prefix = "e12_" if epochs == 12 else ""
    seconds = COLUMNS["cifar10valid_train_s" if data == "cifar10" else "cifar100_train_s"]
    for tokens in draw(5):
        row = row_of(tokens)
        observation, _ = env.reset()
        assert observation.tolist() == [0.0]
        observation, reward, terminated, truncated, info = env.step(tokens)
        assert (observation.tolist(), terminated, truncated) == ([0.0], True, False)
        assert reward == info["accuracy"] == pytest.approx(COLUMNS[f"{prefix}{data}_valid"][row] / 100, rel=1e-6)
        assert info["test_accuracy"] == pytest.approx(COLUMNS[f"{prefix}{data}_test"][row] / 100, rel=1e-6)
        assert info["seconds"] == pytest.approx(seconds[row] * 12 / 200, rel=1e-6)
        assert info["parameters"] == pytest.approx(COLUMNS["params_m"][row] * 1e6, rel=1e-5)
        assert info["flops"] == pytest.approx(COLUMNS["flops_m"][row] * 1e6, rel=1e-5)
        assert set(info) == {"accuracy", "test_accuracy", "seconds", "parameters", "flops"}


def layout(value: Any) -> Any:
    """Types, dtypes and shapes of nested infos, without their values."""
    if isinstance(value, dict):
        return {key: layout(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [layout(item) for item in value]
    return (type(value), value.dtype, value.shape) if isinstance(value, np.ndarray) else type(value)


def test_vector_environment_is_single_ones_side_by_side(table):
    ours = TabularVectorEnv(table, num_envs=3, epochs=12)
    theirs = SyncVectorEnv([lambda: TabularEnv(table, epochs=12)] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ours.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert layout(ours.reset()) == layout(theirs.reset())
    for seed in range(2):
        step, expected = (env.step(draw(3, seed)) for env in (ours, theirs))
        assert layout(step) == layout(expected)
        for one, other in zip(step[:4], expected[:4], strict=True):
            assert one.tolist() == other.tolist()
        for name, values in expected[4]["final_info"].items():
            assert step[4]["final_info"][name].tolist() == values.tolist()


def test_nothing_that_a_step_returns_is_shared(table):
    env = TabularVectorEnv(table, num_envs=2, render_mode="ansi")
    actions = np.array([[3, 1, 2, 4, 0, 3], [1, 2, 0, 4, 4, 3]])
    _, rewards, _, _, infos = env.step(actions.copy())
    before, shown = rewards.tolist(), env.render()
    rewards[:], infos["final_info"]["accuracy"][:] = 0, 0
    assert env.render() == shown
    assert env.step(actions)[1].tolist() == before
    actions[:] = 0
    assert env.render() == shown


def test_vector_step_calls_nothing_once_for_each_architecture(table):
    """The calls of a step, Python's and C's, are as many for 512 architectures as for 8. Loops that call nothing go unseen."""

    def num_calls(num_envs: int) -> int:
        env, actions, calls = TabularVectorEnv(table, num_envs=num_envs), draw(num_envs), [0]
        env.step(actions)

        def count(frame: Any, event: str, argument: Any) -> None:
            calls[0] += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            env.step(actions)
        finally:
            sys.setprofile(None)
        return calls[0]

    assert 0 < num_calls(512) == num_calls(8)


def test_seeds_and_resets_change_no_answer(table):
    env, tokens = TabularVectorEnv(table, num_envs=4), draw(4)
    rewards = env.step(tokens)[1].tolist()
    for seed in (0, 1, [3, 4, 5, 6], None):
        env.reset(seed=seed)
        assert env.step(tokens)[1].tolist() == rewards
    env.reset(seed=7)
    assert env.np_random.random() == np.random.default_rng(7).random()


# What it refuses.


@pytest.mark.parametrize("phase", ["controller", "both"])
def test_measuring_phases_are_the_same(table, phase):
    env, tokens = TabularEnv(table), draw(1)[0]
    reward = env.step(tokens)[1]
    env.reset(options={"phase": phase})
    assert env.step(tokens)[1] == reward


def test_training_phase_is_refused_by_the_step_until_a_reset_names_another(table):
    env, tokens = TabularEnv(table), draw(1)[0]
    for back in ({"options": {"phase": "controller"}}, {"seed": 0}):
        env.reset(options={"phase": "shared"})
        env.reset()
        with pytest.raises(ValueError, match="phase: expected controller, for a table has no weights to train, got shared"):
            env.step(tokens)
        env.reset(**back)
        assert env.step(tokens)[1] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phase": "train"}, "phase: expected one of shared, controller, both, got 'train'"),
        ({"phase": "shared", "phases": 1}, "options: expected 'phase' alone, for a table has no weights, got 'phases'"),
        ({"loss_weights": [1.0]}, "options: expected 'phase' alone, for a table has no weights, got 'loss_weights'"),
    ],
)
def test_unknown_options_are_refused_and_change_nothing(table, options, message):
    for env in (TabularEnv(table), TabularVectorEnv(table, num_envs=1)):
        with pytest.raises(ValueError, match=message):
            env.reset(seed=1, options=options)
        assert env.runner.phase == "controller"


def test_wrong_arguments_are_refused(table, file):
    for build in (
        lambda **changes: TabularEnv(table, **changes),
        lambda **changes: TabularVectorEnv(table, num_envs=2, **changes),
    ):
        with pytest.raises(ValueError, match=r"data: expected one of cifar10, cifar100 .*, got 'imagenet16'"):
            build(data="imagenet16")
        with pytest.raises(ValueError, match="epochs: expected 12 or 200, got 90"):
            build(epochs=90)
        with pytest.raises(ValueError, match="expected the column e12_cifar100_valid"):
            build(data="cifar100", epochs=12)
        with pytest.raises(ValueError, match="render_mode: expected one of ansi, rgb_array or None, got 'human'"):
            build(render_mode="human")
    with pytest.raises(ValueError, match="num_envs: expected at least 1, got 0"):
        TabularVectorEnv(table, num_envs=0)
    with pytest.raises(ValueError, match=r"actions: expected 2 architectures, got an array of shape \(3, 6\)"):
        TabularVectorEnv(table, num_envs=2).step(draw(3))
    with pytest.raises(ValueError, match=r"nowhere\.npz: expected a table"):
        gym.make("enas/NasBench201Table-v0", table=str(Path(file).with_name("nowhere.npz")))


def test_cell_that_the_table_lacks_is_refused():
    part = BenchmarkTable(codes=CODES[:100], columns={name: values[:100] for name, values in COLUMNS.items()}, source="part.csv")
    env = TabularVectorEnv(part, num_envs=2)
    env.step(CODES[[0, 99]])
    with pytest.raises(ValueError, match=r"part\.csv: expected one of its 100 cells, got \|"):
        env.step(CODES[[0, 100]])


# Made from plain values.


def test_plain_values_make_the_same_environments(table, file):
    values = {"table": file, "data": "cifar100", "epochs": 200}
    single, many = gym.make("enas/NasBench201Table-v0", **values), gym.make_vec("enas/NasBench201Table-v0", num_envs=4, **values)
    assert (type(single.unwrapped), type(many)) == (TabularEnv, TabularVectorEnv)
    tokens = draw(4)
    expected = TabularVectorEnv(table, num_envs=4, data="cifar100").step(tokens)[1].tolist()
    assert many.step(tokens)[1].tolist() == expected
    single.reset()
    assert single.step(tokens[0])[1] == expected[0]


def test_environment_is_rebuilt_from_the_json_of_its_spec(file):
    env = gym.make("enas/NasBench201Table-v0", table=file, epochs=12)
    spec = EnvSpec.from_json(env.spec.to_json())
    assert spec.kwargs == env.spec.kwargs == {"table": file, "epochs": 12}
    for copied in (gym.make(spec), gym.make(pickle.loads(pickle.dumps(env.spec))), pickle.loads(pickle.dumps(env))):
        env.reset()
        copied.reset()
        assert copied.step(draw(1)[0])[4] == env.step(draw(1)[0])[4]


def test_environment_needs_no_pytorch(file):
    code = (
        "import sys, gymnasium as gym, envs; "
        f"env = gym.make_vec('enas/NasBench201Table-v0', num_envs=2, table={file!r}); env.step([[3] * 6] * 2); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


# Searched.


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Controller, Path]]:
    """Return a runner of `Search` over a table; it returns the controller and the folder of the run."""
    monkeypatch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))

    def run(table: BenchmarkTable, config: Any, *, steps: int = 2, seed: int = 0) -> tuple[Controller, Path]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        many, controller = TabularVectorEnv(table, num_envs=20), config.make(SPACE, seed=seed)
        with Tracker(folder, start=None) as tracker:
            Search(
                space=SPACE,
                trainer=SimpleNamespace(parts={}, fetch=list),  # a table has no weights to train
                controller_envs=many,
                controller=controller,
                schedule=ScheduleConfig(controller_steps=steps, architectures_per_step=20),
                shared_steps=0,
                epochs=2,
                tracker=tracker,
                parts={},
                save=lambda state: None,
                on_step=lambda position: None,
            ).run()
        return controller, folder

    return run


def answer_of(table: BenchmarkTable, folder: Path) -> tuple[float, float]:
    """Return validation and test accuracy of the cell with the best reward of a run."""
    rows = [json.loads(line) for line in (folder / "architectures.jsonl").read_text(encoding="utf-8").splitlines()]
    best = max(rows, key=lambda row: row["reward"])
    (row,) = table.rows_of(np.array([best["tokens"]]))
    assert best["reward"] == table.accuracy("cifar10", "valid")[row]
    return best["reward"], float(table.accuracy("cifar10", "test")[row])


def mean_answers(table: BenchmarkTable, search: Any, config: Any) -> Any:
    return np.mean([answer_of(table, search(table, config, steps=10, seed=seed)[1]) for seed in range(3)], axis=0)


@pytest.mark.skipif(not REAL.exists(), reason="the benchmark's table is not beside the repository")
def test_evolution_beats_uniform_samples_on_the_real_table(search):
    """400 evaluations each, three seeds: by the validation accuracy that is searched for, and by test accuracy, which is not."""
    table = load_table(REAL)
    evolved = mean_answers(table, search, EvolutionConfig(population=40))
    drawn = mean_answers(table, search, UniformConfig())
    assert (evolved > drawn).all()
    assert evolved[1] > 0.94


def test_evolution_finds_a_planted_optimum_that_uniform_samples_miss(table, search):
    best = table.accuracy("cifar10", "valid").max()
    evolved, drawn = (mean_answers(table, search, config)[0] for config in (EvolutionConfig(population=40), UniformConfig()))
    assert best - evolved < 0.5 * (best - drawn)


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_test_accuracy_plays_no_part_in_a_search(table, search, name):
    """Other test accuracies, the same search: what it runs, in order, and what it would answer."""
    rng = np.random.default_rng(0)
    changed = {key: rng.permutation(values) if key.endswith("_test") else values for key, values in COLUMNS.items()}
    runs = [search(one, CONTROLLERS[name]()) for one in (table, BenchmarkTable(codes=CODES, columns=changed))]
    first, second = ((folder / "architectures.jsonl").read_bytes() for _, folder in runs)
    assert first == second
    assert len(first.splitlines()) == 80
    assert np.array_equal(*(controller.candidates(10) for controller, _ in runs))
    validation = {key: rng.permutation(values) if key.endswith("_valid") else values for key, values in COLUMNS.items()}
    _, folder = search(BenchmarkTable(codes=CODES, columns=validation), CONTROLLERS[name]())
    assert (folder / "architectures.jsonl").read_bytes() != first  # the comparison sees what does play a part


def test_registration_names_no_space():
    assert envs.ENVS["enas/NasBench201Table-v0"] == envs.Registration(None, envs.TABLE)
