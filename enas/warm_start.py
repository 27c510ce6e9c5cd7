"""Shared weights that start from another search's instead of from random numbers.

Taken by name: weights and BatchNorm's statistics. Not taken: the optimizer's moments, the counters, the controller, so a search
that starts warm is otherwise a new one. Where both networks have the same settings but the data have other channels or classes,
the tensors whose shapes follow from those (stem, classifier) start fresh. Not covered: other widths or depths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor

from enas.shared_weights import SharedWeights
from enas.spaces.base import ChildConfig


def inherit_weights(shared: SharedWeights, weights: Mapping[str, Tensor], *, child_config: ChildConfig) -> list[str]:
    """Overwrite fresh shared weights with another search's, by name; a later `shared.reset` starts fresh again.

    Args:
        shared: before its first step.
        weights: of the other search's network, weights and BatchNorm statistics: `shared.child.state_dict()` there, or
            `state["parts"]["shared"]["child"]` of its checkpoint.
        child_config: the settings of that network.

    Returns: the names of the tensors that stay fresh because their shapes follow from the data, in the network's order.

    Raises:
        ValueError: the networks do not fit each other, naming the first setting that differs or else the first tensor; or a
            tensor holds a number that is not finite. The shared weights are then as they were.
    """
    own = shared.child.state_dict()
    misfits = [
        name for name in [*own, *(name for name in weights if name not in own)] if _shape(own, name) != _shape(weights, name)
    ]
    if misfits:
        _require_same_settings(shared.child_config, child_config)
        by_data = _shaped_by_data(shared)
        for name in misfits:
            if name not in by_data or name not in weights:
                raise ValueError(f"{name}: expected {_shape(own, name)}, got {_shape(weights, name)}")
    for name, value in weights.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name}: expected finite numbers, got {float(value[~value.isfinite()][0])}")
    shared.child.load_state_dict({name: own[name] if name in misfits else weights[name] for name in own})
    return misfits


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return f"a tensor of shape {tuple(tensors[name].shape)}" if name in tensors else "no such tensor"


def _require_same_settings(own: ChildConfig, other: ChildConfig) -> None:
    if type(own) is not type(other):
        raise ValueError(f"expected settings of the same space, {type(own).__name__}, got {type(other).__name__}")
    for field in fields(own):  # type: ignore[arg-type]
        ours, theirs = getattr(own, field.name), getattr(other, field.name)
        if ours != theirs:
            raise ValueError(f"child.{field.name}: expected {theirs}, as in the other run, got {ours}")


def _shaped_by_data(shared: SharedWeights) -> set[str]:
    """Return the names of the tensors whose shapes change with the number of channels or classes."""
    changed = tuple(size + (place == 0) for place, size in enumerate(shared.input_shape))  # another channel, where there are any
    with torch.device("meta"):
        other = shared.child_config.make_child(input_shape=changed, num_classes=shared.num_classes + 1)
    own = shared.child.state_dict()
    return {name for name, value in other.state_dict().items() if name in own and value.shape != own[name].shape}
