from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """Leave what is there by now out of collections, which take .1 s beside a loaded PyTorch."""
    gc.freeze()
    yield
    gc.unfreeze()
