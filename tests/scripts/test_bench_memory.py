from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from enas.shared_weights import SharedWeights
from enas.system import memory_metrics
from scripts.bench_memory import ROOT, peak_in_process, peak_resident_bytes, run_search, search_memory
from scripts.bench_settings import BenchCommand
from scripts.workbench import Workbench, make_workbench


@pytest.fixture
def bench() -> Workbench:
    command = BenchCommand(
        pairs=3, num_images=8, image_size=4, macro_batch_size=2, micro_batch_size=2, nb201_batch_size=2, vocabulary=20
    )
    return make_workbench(command, torch.device("cpu"))


def test_long_and_short_searches_take_turns_and_the_note_tells_the_growth(bench, monkeypatch):
    order: list[int] = []

    def peak(steps: int, *, device: str) -> int:
        order.append(steps)
        return 2**20 + 2048 * steps

    monkeypatch.setattr("scripts.bench_memory.peak_in_process", peak)
    pairs, note = search_memory(bench)
    assert order == [500, 50, 50, 500, 500, 50]
    assert set(pairs.first) == {2**20 + 2048 * 500}
    assert set(pairs.second) == {2**20 + 2048 * 50}
    assert note == "2.00 KiB a step"


@pytest.mark.parametrize(("steps", "num_evaluations"), [(2, 2), (100, 4)])
def test_search_trains_as_many_steps_as_asked_and_measures_in_each_epoch(steps, num_evaluations, monkeypatch):
    calls = {"train_step": 0, "evaluate": 0}

    def counted(name: str) -> None:
        real = getattr(SharedWeights, name)

        def count(self: SharedWeights, what: object) -> object:
            calls[name] += 1
            return real(self, what)

        monkeypatch.setattr(SharedWeights, name, count)

    for name in calls:
        counted(name)
    run_search(steps, device="cpu", threads=torch.get_num_threads())
    assert calls == {"train_step": steps, "evaluate": num_evaluations}


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds now is read from Linux")
def test_peak_keeps_what_was_held_and_given_back():
    before = peak_resident_bytes()
    now = int(memory_metrics()["system/rss"] * 2**20)
    assert before >= 0.99 * now
    block = np.ones(before - now + 2**26, dtype=np.uint8)
    del block
    assert peak_resident_bytes() > before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's peak may begin with its parent's")
def test_peak_of_another_process_is_its_own():
    code = "from scripts.bench_memory import peak_resident_bytes; print(peak_resident_bytes())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert 2**20 < int(done.stdout) < peak_resident_bytes() / 2  # PyTorch is here and not there


@pytest.mark.slow
def test_search_in_another_process_tells_its_peak():
    assert peak_in_process(1, device="cpu") > 2**26
