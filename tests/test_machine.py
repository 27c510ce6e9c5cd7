from __future__ import annotations

import platform

import torch

from enas.machine import machine_in_words, processor_name


def test_processor_is_the_model_that_the_system_names(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some CPU @ 2.00GHz\n\nmodel name\t: Some CPU @ 2.00GHz\n")
    assert processor_name(file) == "Some CPU @ 2.00GHz"


def test_processor_without_a_model_is_called_by_its_architecture(tmp_path):
    file = tmp_path / "cpuinfo"
    expected = platform.processor() or platform.machine()
    assert processor_name(file) == expected
    file.write_text("processor : 0\nCPU part : 0xd0c\n")  # as on Arm
    assert processor_name(file) == expected


def test_words_name_threads_version_and_device():
    words = machine_in_words(torch.device("cpu"))
    assert words.startswith(processor_name())
    assert f"{torch.get_num_threads()} threads, torch {torch.__version__}, device cpu" in words
