"""What a training step, or the measurement of a reward, of each space costs beside the same work done in another way."""

from __future__ import annotations

import torch

from enas.measure import Pairs, Side
from enas.memory_peak import memory_peak
from enas.shared_weights import SharedWeights
from enas.types import PathBatch
from scripts.bench_settings import SpaceName
from scripts.workbench import Measured, Workbench


def shared_step(bench: Workbench, space: SpaceName) -> Measured:
    """Time a training step on one path of the shared weights, and of the same architecture hard-coded."""
    shared = bench.weights(space)
    pairs = bench.hard_coded_pairs(shared)

    def sides() -> tuple[Side, Side]:
        paths, alone = next(pairs)
        return lambda: shared.train_step(paths), lambda: alone.train_step(paths)

    return bench.time_pairs(sides), ""


def layout(bench: Workbench, space: SpaceName) -> Measured:
    """Time a training step, and the same in PyTorch's default layout, where BatchNorm is PyTorch's own."""
    chosen, default = bench.weights(space), bench.weights(space, memory_format=torch.contiguous_format)
    is_same = chosen.memory_format == default.memory_format
    return _time_steps(bench, chosen, default), "this device keeps the default layout" if is_same else ""


def bf16_step(bench: Workbench, space: SpaceName) -> Measured:
    """Time a training step in bfloat16 autocast, and in single precision."""
    return _time_steps(bench, bench.weights(space, precision="bf16"), bench.weights(space)), ""


def _time_steps(bench: Workbench, first: SharedWeights, second: SharedWeights) -> Pairs:
    paths = bench.paths(first.space)

    def sides() -> tuple[Side, Side]:
        path = next(paths)
        return lambda: first.train_step(path), lambda: second.train_step(path)

    return bench.time_pairs(sides)


def bf16_reward(bench: Workbench, space: SpaceName) -> Measured:
    """Time the measurement of one architecture's reward in bfloat16 autocast, and in single precision."""
    half, single = bench.weights(space, precision="bf16"), bench.weights(space)
    paths = bench.paths(single.space)

    def sides() -> tuple[Side, Side]:
        architectures = [single.space.decode(next(paths).tokens[0])]
        return lambda: half.evaluate(architectures), lambda: single.evaluate(architectures)

    return bench.time_pairs(sides), ""


def activation_peak(bench: Workbench, space: SpaceName) -> Measured:
    """Count the bytes at the peak of a training step of the shared weights, and of the same architecture hard-coded.

    A step before each makes what stays, such as an epoch's order of images.
    """
    shared = bench.weights(space)
    rows: list[tuple[int, int]] = []
    for paths, alone in bench.hard_coded_pairs(shared):
        rows.append((_step_peak(shared, paths), _step_peak(alone, paths)))
        bench.on_pair(len(rows))
        if len(rows) == bench.num_pairs:
            break
    pairs = Pairs(first=tuple(first for first, _ in rows), second=tuple(second for _, second in rows))
    return pairs, f"largest ratio {pairs.ratios.max():.4f}"


def _step_peak(weights: SharedWeights, paths: PathBatch) -> int:
    weights.train_step(paths)
    weights.optimizer.zero_grad(set_to_none=True)
    return memory_peak(lambda: weights.train_step(paths), weights.device)
