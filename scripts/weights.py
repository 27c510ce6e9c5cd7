"""A run's shared weights: fresh ones from its settings, those that it starts from, those of its newest checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from enas.assemble import make_shared_weights
from enas.checkpoint import read_checkpoint
from enas.datasets.data import Data, Split
from enas.errors import CheckpointError
from enas.shared_weights import SharedWeights
from enas.types import State
from enas.warm_start import inherit_weights
from scripts.configuration import has_checkpoint, load_other
from scripts.search_config import SearchConfig


def make_weights(config: SearchConfig, images: Data) -> SharedWeights:
    """Return fresh shared weights. Raises ValueError where settings and data do not fit."""
    return make_shared_weights(
        config.child,
        images,
        shared=config.shared,
        augment=config.augment,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
    )


def restore_shared_weights(config: SearchConfig, state: State, images: Data, *, split: Literal["valid", "test"]) -> SharedWeights:
    """Return a run's shared weights, to measure architectures on a split with `SharedWeights.evaluate_all`.

    The split takes the place of the validation images, so that what searches and ranks never learns that there is a test split.

    Args:
        config: of the run.
        state: its checkpoint's; weights, statistics and seed are taken, nothing that training needs.
        images: the run's data.
        split: what to measure on; test only after every choice is made.

    Raises: ValueError where the weights do not fit the settings or the data.
    """
    measured: Split = getattr(images, split)
    saved = state["parts"]["shared"]
    # A test split may be smaller than the minibatches that rewards are measured on.
    batches = replace(config.shared, valid_batch_size=min(config.shared.valid_batch_size, len(measured)))
    shared = make_weights(replace(config, shared=batches, seed=saved["seed"]), images.with_valid(measured))
    fresh = inherit_weights(shared, saved["child"], child_config=config.child)
    if fresh:
        raise ValueError(f"expected the data that the run was searched on, got {images.name}, which {fresh[0]} does not fit")
    return shared


def warm_start(config: SearchConfig, folder: Path, shared: SharedWeights) -> list[str]:
    """Start from another run's weights unless the folder holds a checkpoint of its own; return the tensors that stay fresh."""
    if config.warm_start is None or has_checkpoint(folder):
        return []
    other = load_other("--warm-start", config.warm_start)
    state = read_state("--warm-start", config.warm_start)
    try:
        fresh = inherit_weights(shared, state["parts"]["shared"]["child"], child_config=other.child)
        if fresh and not config.schedule.trains_in(0):
            raise ValueError(f"expected a run on data of the same channels and classes, since {fresh[0]} would never be trained")
    except ValueError as error:
        raise ValueError(f"--warm-start {config.warm_start}: {error}") from error
    return fresh


def read_state(flag: str, folder: Path) -> State:
    """Return the newest checkpoint of the run that a flag names, changing nothing there. Raises ValueError without one."""
    state = read_checkpoint(folder)
    if state is None:
        raise ValueError(f"{flag}: expected a run that has saved a checkpoint, got {folder}, which has none")
    if not {"position", "parts"} <= set(state) or "shared" not in state["parts"]:
        raise CheckpointError(f"{folder}: expected the checkpoint of a search, got one with {', '.join(map(str, state))}")
    return state
