"""Environments small enough to step in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from enas.configs import SharedConfig
from enas.datasets.images import ImageData
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig


@pytest.fixture
def weights(images: ImageData) -> Callable[..., SharedWeights]:
    """Return a builder of shared weights over three macro layers; equal arguments give equal weights."""

    def build(*, seed: int = 0, **changes: Any) -> SharedWeights:
        config = SharedConfig(**{"batch_size": 16, "valid_batch_size": 8, **changes})
        return SharedWeights(MacroConfig(num_layers=3, filters=4), images, config, seed=seed)

    return build
