from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from enas.shared_weights import SharedWeights
from enas.system import memory_metrics
from scripts.bench_memory import ROOT, peak_resident_bytes, peaks_in_processes, run_search, search_memory
from scripts.bench_settings import BenchCommand
from scripts.workbench import Workbench, make_workbench


@pytest.fixture
def bench() -> Workbench:
    command = BenchCommand(
        pairs=3, num_images=8, image_size=4, macro_batch_size=2, micro_batch_size=2, nb201_batch_size=2, vocabulary=20
    )
    return make_workbench(command, torch.device("cpu"))


def test_note_tells_the_growth_from_the_short_search_to_the_long_one(bench, monkeypatch):
    def peaks(searches: Iterable[int], *, device: str) -> list[int]:
        return [2**20 + 2048 * steps for steps in searches]

    monkeypatch.setattr("scripts.bench_memory.peaks_in_processes", peaks)
    pairs, note = search_memory(bench)
    assert pairs.first == (2**20 + 2048 * 500,) * 3
    assert pairs.second == (2**20 + 2048 * 50,) * 3
    assert note == "2.00 KiB a step"


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """A process that leaves its number in a file named after its steps: of 7 it fails, of 60 and more it stays."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").touch()
    (tmp_path / "scripts" / "bench_memory.py").write_text(
        "import os, pathlib, sys, time\n"
        "steps = sys.argv[1]\n"
        "pathlib.Path('new' + steps).write_text(str(os.getpid()))\n"
        "pathlib.Path('new' + steps).rename(steps)\n"
        "time.sleep(60 if int(steps) >= 60 else 0)\n"
        "sys.exit(3) if steps == '7' else print('warned', 1000 + int(steps))\n"
    )
    monkeypatch.setattr("scripts.bench_memory.ROOT", tmp_path)
    return tmp_path


def test_peaks_are_what_processes_print_last_and_a_failure_is_an_error(stub):
    assert peaks_in_processes((5, 6), device="cpu") == [1005, 1006]
    with pytest.raises(subprocess.CalledProcessError) as failed:
        peaks_in_processes((5, 7), device="cpu")
    assert failed.value.returncode == 3


def test_interrupted_measurement_leaves_no_process_behind(stub, monkeypatch):
    def interrupted(process):
        for _ in range(3000):
            if (stub / "60").exists() and (stub / "61").exists():
                break
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        peaks_in_processes((60, 61), device="cpu")
    for name in ("60", "61"):
        with pytest.raises(ProcessLookupError):
            os.kill(int((stub / name).read_text()), 0)


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
    run_search(steps, device="cpu")
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
    assert peaks_in_processes([1], device="cpu")[0] > 2**26
