from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

import scripts.bench
from controllers import CONTROLLERS
from controllers.reinforce import ReinforceController
from enas.measure import Pairs
from enas.paths import ControllerPaths
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.rnn import RnnConfig
from scripts.bench_controllers import MIXED
from scripts.bench_overhead import epoch_seconds
from scripts.bench_recurrent import plain_states
from scripts.bench_settings import BenchCommand, Name
from scripts.benchmarks import BENCHMARKS
from scripts.presets import enas_micro, enas_ptb, nasbench201
from scripts.workbench import Workbench, make_spaces, make_workbench, random_text

ROOT = Path(__file__).resolve().parents[2]
SPACES = ["macro", "micro", "nb201", "rnn"]
pytestmark = pytest.mark.usefixtures("quick_collections")

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(small_bench, monkeypatch, capsys) -> Run:
    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *small_bench, *arguments])
        return scripts.bench.main(), capsys.readouterr().out

    return call


@pytest.fixture
def bench() -> Workbench:
    command = BenchCommand(
        macro=MacroConfig(num_layers=4, filters=4),
        micro=MicroConfig(num_layers=1, num_nodes=2, filters=4),
        nb201=NasBench201Config(cells_per_stage=1, filters=4),
        rnn=RnnConfig(num_nodes=3, hidden=4),
        **{f"{space}_batch_size": 4 for space in SPACES},
        valid_batch_size=6,
        bptt=5,
        vocabulary=20,
        image_size=8,
        num_images=20,
        architectures=3,
        pairs=3,
    )
    return make_workbench(command, torch.device("cpu"))


def fixed(*ratios: float) -> Callable[[Workbench], tuple[Pairs, str]]:
    return lambda _: (Pairs(first=ratios, second=(1.0,) * len(ratios)), "")


def refuse(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as caught:
        scripts.bench.main()
    assert caught.value.code == 2
    return capsys.readouterr().err


# The registry.


def test_choices_of_only_are_the_benchmarks():
    assert list(get_args(Name)) == list(BENCHMARKS) == sorted(BENCHMARKS)


def test_limits_are_those_that_were_asked_for():
    limits = {name: benchmark.limit for name, benchmark in BENCHMARKS.items()}
    assert limits == {
        "macro-shared-step": 1.04,
        "micro-shared-step": 1.05,
        "nb201-shared-step": 1.03,
        "rnn-shared-step": 1.05,
        "macro-layout": 0.62,
        "micro-layout": 0.5,
        "nb201-layout": 0.62,
        "macro-controller-step": 0.45,
        "micro-controller-step": 0.45,
        "nb201-controller-step": 0.5,
        "rnn-controller-step": None,
        **{f"{space}-activation-peak": 1.03 for space in SPACES},
        **{f"{space}-overhead": 0.015 for space in SPACES},
        **{f"{space}-bf16-{what}": None for space in SPACES for what in ("reward", "step")},
        "controller-batch": 0.1,
        "rnn-plain-loop": 1.0,
        "search-memory": 1.03,
        **{f"update-{name}": 0.02 for name in CONTROLLERS},
    }


def test_defaults_are_the_sizes_that_limits_are_for():
    command = BenchCommand()
    assert (command.macro.num_layers, command.macro.filters, command.macro_batch_size, command.architectures) == (12, 36, 128, 20)
    assert (command.micro.num_layers, command.micro.num_nodes, command.micro.filters, command.micro_batch_size) == (6, 5, 20, 160)
    assert (command.nb201.filters, command.nb201.cells_per_stage, command.nb201_batch_size) == (16, 5, 64)
    recurrent = (command.rnn.num_nodes, command.rnn.hidden, command.rnn_batch_size)
    assert (*recurrent, command.bptt, command.vocabulary) == (8, 200, 64, 35, 10_000)
    assert command.valid_batch_size == 128
    assert command.pairs >= 30


def test_spaces_are_trained_and_measured_as_their_own_searches_do():
    spaces = make_spaces(BenchCommand())
    for name, preset in (("micro", enas_micro()), ("nb201", nasbench201()), ("rnn", enas_ptb())):
        found, search = spaces[name].shared, preset.shared
        for setting in ("learning_rate", "momentum", "weight_decay", "grad_clip", "batch_norm", "reward_batch"):
            assert getattr(found, setting) == getattr(search, setting), (name, setting)
        assert found.reward_batches == 1
        assert spaces[name].schedule == preset.schedule
    assert (spaces["micro"].shared.valid_batch_size, spaces["rnn"].shared.valid_batch_size) == (128, 64)


# What the benchmarks measure.


@pytest.mark.parametrize("space", SPACES)
def test_both_sides_of_a_step_get_the_same_minibatch_and_another_architecture_in_each_pair(space, bench):
    shared = bench.weights(space)
    pairs = bench.hard_coded_pairs(shared)
    seen = []
    for _ in range(3):
        paths, alone = next(pairs)
        here, there = shared.train_step(paths), alone.train_step(paths)
        assert torch.equal(here.loss, there.loss)
        assert alone.num_train_steps == shared.num_train_steps
        seen.append(tuple(paths.tokens[0].tolist()))
    assert len(set(seen)) == 3


@pytest.mark.parametrize("space", ["macro", "micro", "nb201"])
def test_layouts_compute_the_same_on_the_same_minibatch(space, bench):
    chosen, default = bench.weights(space), bench.weights(space, memory_format=torch.contiguous_format)
    assert (chosen.memory_format, default.memory_format) == (torch.channels_last, torch.contiguous_format)
    paths = next(bench.paths(chosen.space))
    torch.testing.assert_close(chosen.train_step(paths).loss, default.train_step(paths).loss, rtol=1e-4, atol=1e-5)


def is_default_layout(weights: SharedWeights) -> bool:
    return weights.memory_format == torch.contiguous_format


def is_bf16(weights: SharedWeights) -> bool:
    return weights.precision == "bf16"


@pytest.mark.parametrize(
    ("name", "method", "is_slow", "is_first"),
    [
        ("nb201-layout", "train_step", is_default_layout, False),
        ("nb201-controller-step", "evaluate", is_default_layout, False),
        ("rnn-bf16-step", "train_step", is_bf16, True),
        ("rnn-bf16-reward", "evaluate", is_bf16, True),
    ],
)
def test_slowed_way_of_doing_it_is_on_its_own_side(name, method, is_slow, is_first, bench, monkeypatch):
    real, calls = getattr(SharedWeights, method), []

    def slow(self: SharedWeights, what: object) -> object:
        calls.append(is_slow(self))
        time.sleep(0.1 if calls[-1] else 0)
        return real(self, what)

    monkeypatch.setattr(SharedWeights, method, slow)
    pairs, _ = BENCHMARKS[name].measure(replace(bench, num_pairs=1))
    assert set(calls) == {False, True}
    assert (pairs.first if is_first else pairs.second)[0] > 0.1


def test_controller_steps_measure_the_same_architectures_together_and_one_by_one(bench, monkeypatch):
    measured: dict[bool, list[list[object]]] = {False: [], True: []}
    evaluate = SharedWeights.evaluate

    def spy(self: SharedWeights, architectures: list[object]) -> object:
        measured[is_default_layout(self)].append(list(architectures))
        return evaluate(self, architectures)

    monkeypatch.setattr(SharedWeights, "evaluate", spy)
    pairs, note = BENCHMARKS["micro-controller-step"].measure(bench)
    assert note == "3 architectures"
    num_steps = len(pairs) + 2  # warm-up pairs
    assert [len(one) for one in measured[False]] == [3] * num_steps
    assert [len(one) for one in measured[True]] == [1] * (3 * num_steps)
    together, alone = (list(chain.from_iterable(measured[is_default])) for is_default in (False, True))
    assert together == alone
    assert len(set(together)) > 3


def test_plain_loop_computes_the_cell_of_the_network(bench):
    child = bench.weights("rnn").child
    cell = bench.spaces["rnn"].child.make_space().decode([0, 2, 0, 1, 1, 3])
    inputs, mask = torch.randn(5, 4, 4, requires_grad=True), 2.0 * torch.tensor([1.0, 0.0, 1.0, 1.0]).expand(4, 4)
    gradients, outputs = [], []
    for states in (child.run(inputs, cell, None, mask)[0], plain_states(child, inputs, cell, mask)):
        child.zero_grad(set_to_none=True)
        states.square().sum().backward()
        outputs.append(states)
        gradients.append({name: weight.grad for name, weight in child.named_parameters() if weight.grad is not None})
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def test_plain_loop_is_timed_beside_the_cell_on_another_one_in_each_pair(bench, monkeypatch):
    cells = []

    def spy(child, inputs, cell, mask):
        cells.append(cell)
        return plain_states(child, inputs, cell, mask)

    monkeypatch.setattr("scripts.bench_recurrent.plain_states", spy)
    pairs, _ = BENCHMARKS["rnn-plain-loop"].measure(bench)
    assert len(pairs) == bench.num_pairs
    assert len(set(cells)) > 1


def test_peak_of_the_recurrent_network_grows_with_the_sequence(bench):
    measure = BENCHMARKS["rnn-activation-peak"].measure
    pairs, _ = measure(bench)
    assert 0.9 < pairs.ratios.min() <= pairs.ratios.max() < 1.1
    longer, _ = measure(replace(bench, text=random_text(4, 15, vocabulary=20, seed=0, device=bench.device)))
    assert np.all(np.array(longer.first) > 2 * np.array(pairs.first))


def test_activation_peaks_are_the_same_when_they_are_counted_again(bench):
    measure = BENCHMARKS["macro-activation-peak"].measure
    pairs, note = measure(bench)
    assert measure(bench)[0] == pairs
    assert pairs.ratios.min() > 0.9
    assert note == f"largest ratio {pairs.ratios.max():.4f}"
    macro = bench.spaces["macro"]
    double = replace(macro, shared=replace(macro.shared, batch_size=8))
    larger, _ = measure(replace(bench, spaces={**bench.spaces, "macro": double}))
    assert np.all(np.array(larger.first) > 1.3 * np.array(pairs.first))


# Sampling, update, environments and data beside an epoch.


def test_seconds_of_an_epoch_are_those_of_its_steps():
    train = {"whole": 10.0, "draw": 1.0, "train": 7.0, "train data": 0.5}
    control = {"whole": 100.0, "propose": 2.0, "env": 80.0, "measure": 76.0, "valid data": 3.0, "update": 5.0}
    assert epoch_seconds(train, control, steps=(4, 2)) == {
        "whole": 4 * 10 + 2 * 100,
        "sampling": 4 * 1 + 2 * 2,
        "update": 2 * 5,
        "env": 4 * (10 - 1 - 7) + 2 * (80 - 76),
        "data": 4 * 0.5 + 2 * 3,
    }


def test_epochs_have_the_steps_of_the_spaces_own_searches(bench):
    spaces = make_spaces(BenchCommand())
    steps = {name: (space.schedule.controller_steps, space.schedule.architectures_per_step) for name, space in spaces.items()}
    assert steps == {"macro": (50, 20), "micro": (30, 10), "nb201": (10, 10), "rnn": (25, 10)}
    assert {name: space.shared.steps_per_epoch for name, space in spaces.items()} == {
        "macro": None,  # once through the images
        "micro": None,
        "nb201": 350,
        "rnn": 929_589 // (64 * 35),
    }
    assert bench.weights("macro").steps_per_epoch == 20 // 4


@pytest.mark.parametrize("space", ["macro", "rnn"])
def test_parts_beside_the_network_are_less_than_the_whole_of_each_epoch(space, bench):
    done: list[int] = []
    pairs, note = BENCHMARKS[f"{space}-overhead"].measure(replace(bench, on_pair=done.append))
    assert len(pairs) == done[-1] == 3
    assert all(0 < ratio < 1 for ratio in pairs.ratios)
    assert re.fullmatch(r"of an epoch sampling [\d.e-]+ s, update [\d.e-]+ s, env [\d.e-]+ s, data [\d.e-]+ s", note)


@pytest.mark.parametrize(("kind", "method", "num_steps"), [(ControllerPaths, "draw", 5), (ReinforceController, "update", 50)])
def test_slow_part_raises_the_overhead_as_often_as_an_epoch_has_it(kind, method, num_steps, bench, monkeypatch):
    real = getattr(kind, method)

    def slow(*arguments: object) -> object:
        time.sleep(0.05)
        return real(*arguments)

    monkeypatch.setattr(kind, method, slow)
    pairs, _ = BENCHMARKS["macro-overhead"].measure(bench)
    assert min(pairs.first) > num_steps * 0.05
    assert all(whole >= part for part, whole in zip(pairs.first, pairs.second, strict=True))


# Controllers.


def test_controller_batch_updates_each_side_on_as_many_architectures(bench, monkeypatch):
    sizes: list[int] = []
    update = ReinforceController.update

    def counted(self: ReinforceController, rollout: object, rewards: np.ndarray) -> object:
        sizes.append(len(rewards))
        return update(self, rollout, rewards)  # type: ignore[arg-type]

    monkeypatch.setattr(ReinforceController, "update", counted)
    BENCHMARKS["controller-batch"].measure(bench)
    assert sizes.count(3) * 3 == sizes.count(1)
    assert set(sizes) == {1, 3}


@pytest.mark.parametrize(
    ("name", "method"), [("categorical", "propose"), ("ppo", "update"), ("gaea", "descend"), ("gdas", "relax")]
)
def test_slow_strategy_raises_its_share_of_an_update(name, method, bench, monkeypatch):
    space = bench.spaces["nb201" if name in MIXED else "macro"].child.make_space()
    kind = type(CONTROLLERS[name]().make(space, seed=0))
    real, calls = getattr(kind, method), []

    def slow(*arguments: object) -> object:
        calls.append(arguments)
        time.sleep(0.05)
        return real(*arguments)

    monkeypatch.setattr(kind, method, slow)
    pairs, _ = BENCHMARKS[f"update-{name}"].measure(bench)
    assert min(pairs.first) > 0.05
    assert len(calls) == len(pairs) + 2  # warm-up pairs
    if method == "update":
        assert {len(rewards) for _, _, rewards in calls} == {bench.num_architectures}


# The command.


def test_command_prints_every_benchmark_and_writes_both_files(run, monkeypatch, tmp_path):
    for name in BENCHMARKS:
        if name not in ("macro-shared-step", "rnn-overhead"):  # these two run
            monkeypatch.setitem(BENCHMARKS, name, replace(BENCHMARKS[name], measure=fixed(1.0, 1.0)))
    table, values = tmp_path / "bench.md", tmp_path / "bench.json"
    status, output = run("--pairs", "2", "--markdown", str(table), "--json", str(values))
    assert status == 0  # two pairs decide nothing
    text = table.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.endswith(("| open |", "| reported |"))]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in BENCHMARKS]
    saved = json.loads(values.read_text(encoding="utf-8"))
    assert [len(entry["pairs"]["first"]) for entry in saved["results"]] == [2] * len(BENCHMARKS)
    assert saved["settings"]["macro"]["num_layers"] == 2
    assert saved["versions"]["torch"] == torch.__version__
    assert saved["versions"]["threads"] == str(torch.get_num_threads())
    assert set(saved["versions"]) == {"python", "torch", "numpy", "gymnasium", "scipy", "platform", "threads"}
    for said in ("For trying out only: expected at least 30 pairs, got 2", saved["machine"], "2 pairs each"):
        assert said in " ".join(output.split())
        assert said in text


def test_interrupted_command_has_written_what_was_complete(run, monkeypatch, tmp_path):
    def interrupt(_: Workbench) -> tuple[Pairs, str]:
        raise KeyboardInterrupt

    monkeypatch.setitem(BENCHMARKS, "rnn-plain-loop", replace(BENCHMARKS["rnn-plain-loop"], measure=fixed(1.0)))
    monkeypatch.setitem(BENCHMARKS, "search-memory", replace(BENCHMARKS["search-memory"], measure=interrupt))
    file = tmp_path / "bench.json"
    status, _ = run("--only", "rnn-plain-loop", "search-memory", "--json", str(file))
    assert status == 130
    assert [entry["name"] for entry in json.loads(file.read_text())["results"]] == ["rnn-plain-loop"]


def test_only_the_chosen_benchmarks_run_in_the_order_given(run, monkeypatch, tmp_path):
    for name in BENCHMARKS:
        monkeypatch.setitem(BENCHMARKS, name, replace(BENCHMARKS[name], measure=fixed(1.0, 1.0)))
    file = tmp_path / "bench.json"
    run("--only", "macro-shared-step", "controller-batch", "macro-shared-step", "--json", str(file))
    assert [entry["name"] for entry in json.loads(file.read_text())["results"]] == ["macro-shared-step", "controller-batch"]


@pytest.mark.parametrize(("ratio", "status", "verdict"), [(1.04, 0, "met"), (1.05, 1, "MISSED")])
def test_missed_limit_is_the_exit_status(run, monkeypatch, ratio, status, verdict):
    monkeypatch.setitem(BENCHMARKS, "macro-shared-step", replace(BENCHMARKS["macro-shared-step"], measure=fixed(*[ratio] * 30)))
    found, output = run("--only", "macro-shared-step")
    assert found == status
    assert verdict in output
    assert "trying out" not in output


def test_narrow_terminal_cuts_no_word(run, monkeypatch):
    for name in BENCHMARKS:
        monkeypatch.setitem(BENCHMARKS, name, replace(BENCHMARKS[name], measure=fixed(*[0.0123] * 30)))
    monkeypatch.setenv("COLUMNS", "80")
    _, output = run()
    assert [name for name in BENCHMARKS if f"│ {name}" not in output] == []
    assert "…" not in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pairs", "0"], ["--pairs", "at least 1", "got 0"]),
        (["--pairs", "many"], ["--pairs", "many"]),
        (["--only", "nothing"], ["--only", "macro-shared-step", "nothing"]),
        (["--nb201-batch-size", "0"], ["--nb201-batch-size", "at least 1"]),
        (["--vocabulary", "1"], ["--vocabulary", "at least 2", "got 1"]),
        (["--num-images", "100"], ["--num-images", "at least 160", "got 100"]),
        (["--macro.filters", "1"], ["filters", "at least 2", "got 1"]),
        (["--threads", "0"], ["--threads", "at least 1"]),
        (["--seed", "-1"], ["--seed", "at least 0"]),
        (["--json", "no/such/folder.json"], ["--json", "existing folder", "no/such/folder.json"]),
        (["--markdown", "."], ["--markdown", "existing folder"]),
        (["--growth", "curves.png"], ["--growth", "ends in .svg", "got curves.png"]),
        (["--growth", "a.svg", "--points.layers", "6"], ["--points.layers", "at least 2 different numbers", "got 6"]),
        (["--growth", "a.svg", "--points.batch-sizes", "8", "8"], ["--points.batch-sizes", "different numbers", "got 8 8"]),
        (["--growth", "a.svg", "--num-images", "200"], ["--num-images", "at least 256", "got 200"]),
        (["--norms", "a.md", "--shapes.channels", "0"], ["--shapes.channels", "at least 1", "got 0"]),
        (["--norms", "a.md", "--growth", "a.svg"], ["--growth", "no other thing to do beside it", "got --norms"]),
        (["--norms", "a.md", "--json", "a.json"], ["--norms", "none of the benchmarks' flags", "got --json"]),
        (["--profile", "no/such/folder.md"], ["--profile", "existing folder", "no/such/folder.md"]),
        (["--profile", "a.md", "--only", "macro-layout"], ["--profile", "none of the benchmarks' flags", "got --only"]),
        (["--bogus", "1"], ["--bogus"]),
    ],
)
def test_mistake_ends_with_status_2_and_names_the_flag(arguments, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    message = " ".join(re.sub(r"[╭╮╰╯│─]", " ", refuse(arguments, monkeypatch, capsys)).split())
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("arguments", [["--help"], ["--pairs", "0"]])
def test_help_and_mistakes_do_not_wait_for_torch(arguments):
    code = f"import atexit, sys; sys.argv = ['x', *{arguments}]\n"
    code += "atexit.register(lambda: print(sorted({'torch', 'torchvision', 'matplotlib', 'scipy'} & set(sys.modules))))\n"
    code += "from scripts import bench; bench.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if arguments == ["--help"] else 2), done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    if arguments == ["--help"]:
        assert "--macro.num-layers" in done.stdout
