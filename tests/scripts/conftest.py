from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """Leave what is there by now out of collections, which take .1 s beside a loaded PyTorch."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def small_bench() -> list[str]:
    """Return flags of `scripts.bench` that make every network tiny."""
    flags = "--macro.num-layers 2 --macro.filters 4 --macro-batch-size 4 --image-size 8 --num-images 20"
    flags += " --micro.num-layers 1 --micro.num-nodes 2 --micro.filters 4 --micro-batch-size 4"
    flags += " --nb201.cells-per-stage 1 --nb201.filters 4 --nb201-batch-size 4 --valid-batch-size 6"
    flags += " --rnn.num-nodes 2 --rnn.hidden 4 --rnn-batch-size 4 --bptt 3 --vocabulary 20 --architectures 3"
    return [*flags.split(), "--threads", str(torch.get_num_threads()), "--device", "cpu"]
