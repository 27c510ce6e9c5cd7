"""Shared weights from plain values: what `gym.make`, the command line and Python users have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from enas.configs import DeviceName, InputKind, Precision, SharedConfig
from enas.data_configs import AugmentConfig, TextConfig
from enas.datasets import load_data
from enas.datasets.data import Data
from enas.devices import select_device
from enas.shared_weights import SharedWeights
from enas.spaces import make_child_config
from enas.spaces.base import ChildConfig


class Defaults(NamedTuple):
    """What stands for settings that nobody has given.

    Attributes:
        data: a data set that needs no download.
        reward: that of the authors for such data.
    """

    data: str
    reward: str


DEFAULTS: Mapping[InputKind, Defaults] = {
    "images": Defaults(data="digits", reward="accuracy"),
    "text": Defaults(data="topics", reward="perplexity"),
}
"""By what the networks of a space read."""


def make_shared_weights(
    child_config: ChildConfig,
    data: Data,
    *,
    shared: SharedConfig | None = None,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    precision: Precision = "fp32",
) -> SharedWeights:
    """Put shared weights together; defaults are the authors' CIFAR-10 macro values. Raises ValueError for what does not fit."""
    return SharedWeights(
        child_config,
        data,
        shared or SharedConfig(),
        augmentation=data.varied(augment or AugmentConfig()),
        seed=seed,
        device=select_device(device),
        precision=precision,
    )


def load_shared_weights(
    *,
    space: str,
    data: str | None,
    data_dir: str,
    child: Mapping[str, Any],
    shared: Mapping[str, Any],
    text: Mapping[str, Any],
    seed: int,
    device: DeviceName,
) -> SharedWeights:
    """Put shared weights together from names and plain dicts, as `gym.make` hands them over; see `envs.shared_weight.make_env`.

    Raises: ValueError.
    """
    child_config = make_child_config(space, child)
    try:
        shared_config = SharedConfig(**shared)
    except TypeError as error:
        raise ValueError(f"shared: {error}") from error
    try:
        text_config = TextConfig(**text)
    except TypeError as error:
        raise ValueError(f"text: {error}") from error
    loaded = load_data(data or DEFAULTS[child_config.reads].data, data_dir=Path(data_dir), text=text_config)
    return make_shared_weights(child_config, loaded, shared=shared_config, seed=seed, device=device)
