from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

import scripts.bench
from controllers import CONTROLLERS
from enas.measure import Pairs
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.rnn import RnnConfig
from scripts.bench import BenchCommand, Name
from scripts.benchmarks import BENCHMARKS, MIXED, plain_states
from scripts.workbench import Workbench, random_images, random_text

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--macro.num-layers", "2", "--macro.filters", "4", "--batch-size", "4", "--image-size", "8", "--num-images", "20"]
SMALL += ["--micro.num-layers", "1", "--micro.num-nodes", "2", "--micro.filters", "4", "--micro-batch-size", "4"]
SMALL += ["--mixed.cells-per-stage", "1", "--mixed.filters", "4"]
SMALL += ["--recurrent.num-nodes", "2", "--recurrent.hidden", "4", "--recurrent-batch-size", "4", "--bptt", "3"]
SMALL += ["--vocabulary", "20", "--architectures", "3", "--threads", str(torch.get_num_threads()), "--device", "cpu"]

Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def quick_collections():
    """Leave what is there by now out of collections, which take .1 s beside a loaded PyTorch."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def run(monkeypatch, capsys) -> Run:
    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *SMALL, *arguments])
        return scripts.bench.main(), capsys.readouterr().out

    return call


@pytest.fixture
def bench() -> Workbench:
    device = torch.device("cpu")
    return Workbench(
        macro=MacroConfig(num_layers=4, filters=4),
        micro=MicroConfig(num_layers=1, num_nodes=2, filters=4),
        mixed=NasBench201Config(cells_per_stage=1, filters=4),
        recurrent=RnnConfig(num_nodes=3, hidden=4),
        text=random_text(4, 5, vocabulary=20, seed=0, device=device),
        data=random_images(20, 8, seed=0, device=device),
        batch_size=4,
        micro_batch_size=4,
        recurrent_batch_size=4,
        num_architectures=3,
        num_pairs=3,
        seed=0,
        device=device,
    )


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
        "activation-peak": 1.05,
        "controller-batch": 0.1,
        "loop-share": 0.03,
        "micro-layout": 0.5,
        "micro-shared-step": 1.05,
        "rnn-activation-peak": 1.05,
        "rnn-plain-loop": 1.0,
        "rnn-shared-step": 1.05,
        "shared-step": 1.05,
        **{f"update-{name}": 0.02 for name in CONTROLLERS},
    }


def test_defaults_are_the_authors_macro_search():
    command = BenchCommand()
    assert (command.macro.num_layers, command.macro.filters, command.batch_size, command.architectures) == (12, 36, 128, 20)
    assert (command.micro.num_layers, command.micro.num_nodes, command.micro.filters, command.micro_batch_size) == (6, 5, 20, 160)
    recurrent = (command.recurrent.num_nodes, command.recurrent.hidden, command.recurrent_batch_size)
    assert (*recurrent, command.bptt, command.vocabulary) == (8, 200, 64, 35, 10_000)
    assert command.pairs >= 30


# What the benchmarks measure.


@pytest.mark.parametrize("weights", ["macro_weights", "micro_weights", "recurrent_weights"])
def test_both_sides_of_a_step_get_the_same_minibatch_and_another_architecture_in_each_pair(weights, bench):
    shared = getattr(bench, weights)()
    pairs = bench.hard_coded_pairs(shared)
    seen = []
    for _ in range(3):
        paths, alone = next(pairs)
        here, there = shared.train_step(paths), alone.train_step(paths)
        assert torch.equal(here.loss, there.loss)
        assert alone.num_train_steps == shared.num_train_steps
        seen.append(tuple(paths.tokens[0].tolist()))
    assert len(set(seen)) == 3


def test_layouts_compute_the_same_on_the_same_minibatch(bench):
    chosen, default = bench.micro_weights(), bench.micro_weights(torch.contiguous_format)
    assert (chosen.memory_format, default.memory_format) == (torch.channels_last, torch.contiguous_format)
    paths = next(bench.paths(chosen.space))
    torch.testing.assert_close(chosen.train_step(paths).loss, default.train_step(paths).loss, rtol=1e-4, atol=1e-5)
    assert chosen.child.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert default.child.stem[0].weight.is_contiguous()


def test_plain_loop_computes_the_cell_of_the_network(bench):
    child = bench.recurrent_weights().child
    cell = bench.recurrent.make_space().decode([0, 2, 0, 1, 1, 3])
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

    monkeypatch.setattr("scripts.benchmarks.plain_states", spy)
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
    measure = BENCHMARKS["activation-peak"].measure
    pairs, note = measure(bench)
    assert measure(bench)[0] == pairs
    assert pairs.ratios.min() > 0.9
    assert note == f"largest ratio {pairs.ratios.max():.4f}"
    double, _ = measure(replace(bench, batch_size=8))
    assert np.all(np.array(double.first) > 1.3 * np.array(pairs.first))


def test_parts_of_the_loop_are_less_than_the_whole_of_each_step(bench):
    done: list[int] = []
    pairs, note = BENCHMARKS["loop-share"].measure(replace(bench, on_pair=done.append))
    assert len(pairs) == done[-1] == 3
    assert all(0 < ratio < 1 for ratio in pairs.ratios)
    assert re.fullmatch(r"sampling [\d.]+ ms, env [\d.]+ ms, data [\d.]+ ms", note)


def test_slow_sampling_raises_the_share_of_the_loop(bench, monkeypatch):
    from enas.paths import ControllerPaths

    draw = ControllerPaths.draw

    def slow(self: ControllerPaths) -> object:
        time.sleep(0.2)
        return draw(self)

    monkeypatch.setattr(ControllerPaths, "draw", slow)
    pairs, _ = BENCHMARKS["loop-share"].measure(bench)
    assert min(pairs.first) > 0.2
    assert all(whole >= part for part, whole in zip(pairs.first, pairs.second, strict=True))


def test_controller_batch_updates_each_side_on_as_many_architectures(bench, monkeypatch):
    from controllers.reinforce import ReinforceController

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
    kind = type(CONTROLLERS[name]().make((bench.mixed if name in MIXED else bench.macro).make_space(), seed=0))
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


def test_command_prints_every_benchmark_and_writes_both_files(run, tmp_path):
    table, values = tmp_path / "bench.md", tmp_path / "bench.json"
    status, output = run("--pairs", "2", "--markdown", str(table), "--json", str(values))
    assert status == 0  # two pairs decide nothing
    text = table.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "open" in line]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in BENCHMARKS]
    saved = json.loads(values.read_text(encoding="utf-8"))
    assert [len(entry["pairs"]["first"]) for entry in saved["results"]] == [2] * len(BENCHMARKS)
    assert saved["settings"]["macro"]["num_layers"] == 2
    for said in ("For trying out only: expected at least 30 pairs, got 2", saved["machine"], "2 pairs each"):
        assert said in " ".join(output.split())
        assert said in text


def test_only_the_chosen_benchmarks_run_in_the_order_given(run, monkeypatch, tmp_path):
    for name in BENCHMARKS:
        monkeypatch.setitem(BENCHMARKS, name, replace(BENCHMARKS[name], measure=fixed(1.0, 1.0)))
    file = tmp_path / "bench.json"
    run("--only", "shared-step", "controller-batch", "shared-step", "--json", str(file))
    assert [entry["name"] for entry in json.loads(file.read_text())["results"]] == ["shared-step", "controller-batch"]


@pytest.mark.parametrize(("ratio", "status", "verdict"), [(1.04, 0, "met"), (1.06, 1, "MISSED")])
def test_missed_limit_is_the_exit_status(run, monkeypatch, ratio, status, verdict):
    monkeypatch.setitem(BENCHMARKS, "shared-step", replace(BENCHMARKS["shared-step"], measure=fixed(*[ratio] * 30)))
    found, output = run("--only", "shared-step")
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
        (["--only", "nothing"], ["--only", "shared-step", "nothing"]),
        (["--batch-size", "0"], ["--batch-size", "at least 1"]),
        (["--vocabulary", "1"], ["--vocabulary", "at least 2", "got 1"]),
        (["--num-images", "100"], ["--num-images", "at least 160", "got 100"]),
        (["--macro.filters", "1"], ["filters", "at least 2", "got 1"]),
        (["--threads", "0"], ["--threads", "at least 1"]),
        (["--seed", "-1"], ["--seed", "at least 0"]),
        (["--json", "no/such/folder.json"], ["--json", "existing folder", "no/such/folder.json"]),
        (["--markdown", "."], ["--markdown", "existing folder"]),
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
