from __future__ import annotations

import os
import resource
import subprocess
import sys
import warnings

import pytest
import torch

from enas import processor
from enas.configs import Precision
from enas.processor import calculates_in_bfloat16, keep_freed_memory, prepare_processor

SCRIPT = """
import resource, sys, torch
from enas.processor import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
for _ in range(20):  # until small pieces have found their places
    torch.ones(2**24)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(argument: str) -> tuple[bool, int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(processor._CHOSEN_BY_USER)}
    words = subprocess.run(
        [sys.executable, "-c", SCRIPT, argument], capture_output=True, text=True, check=True, env=environment
    ).stdout.split()
    return words[0] == "True", int(words[1])


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
def test_freed_memory_is_there_for_the_next_tensor_without_a_page_fault() -> None:
    pages_of_a_tensor = 2**26 // resource.getpagesize()
    _, faults = page_faults("leave")
    assert faults >= 10 * pages_of_a_tensor / 512  # huge pages have 512 small ones
    kept, fewer = page_faults("keep")
    assert kept
    assert fewer < faults / 10


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_an_allocator_that_the_environment_chooses_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert not keep_freed_memory()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_threads_are_set_or_left() -> None:
    before = torch.get_num_threads()
    prepare_processor(threads=None)
    assert torch.get_num_threads() == before
    prepare_processor(threads=before + 1)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)


X86 = {"avx2": True, "avx512_bf16": False, "amx_bf16": False, "cpu_name": "bf16 in a name"}


@pytest.mark.parametrize(
    ("told", "expected"),
    [(X86, False), ({**X86, "amx_bf16": True}, True), ({"neon": True, "bf16": True}, True), ({"vsx": True}, True)],
)
def test_bfloat16_is_what_the_processor_says_or_is_taken_to_be_there(
    told: dict[str, object], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    assert calculates_in_bfloat16() is expected


def test_pytorch_tells_of_bfloat16_under_names_that_are_looked_for() -> None:
    assert any("bf16" in name for name in torch.cpu.get_capabilities())


@pytest.mark.usefixtures("without_bfloat16")
def test_half_precision_that_the_processor_would_emulate_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="^precision bf16: this processor has no instructions for bfloat16"):
        prepare_processor(threads=None, device="cpu", precision="bf16")


@pytest.mark.parametrize(
    ("kind", "precision", "told"), [("cpu", "fp32", X86), ("cuda", "bf16", X86), ("cpu", "bf16", {**X86, "avx512_bf16": True})]
)
def test_no_warning_where_numbers_are_calculated_as_they_are_asked_for(
    kind: str, precision: Precision, told: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    monkeypatch.setattr(processor, "select_device", lambda _: torch.device(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare_processor(threads=None, precision=precision)
