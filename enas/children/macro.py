"""The network of the ENAS macro space (authors: `src/cifar10/general_child.py`).

A 3x3 stem, L layers, global average pooling, dropout, a linear classifier without bias. Layer k runs its operation on the output
of the layer before, adds the outputs that its skip bits choose, and normalises the sum. Factorized reductions after layers
L//3 - 1 and 2*(L//3) - 1 bring every stored output to the new resolution, each with its own weights.

Departures from the authors' code: the sampled branch runs (theirs ran the last one whatever was sampled); a reduction is computed
only where a later layer needs it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from enas.children.base import Output
from enas.children.batch_norm import BatchNorm
from enas.children.chain import Chain, normalise_sum
from enas.children.ops import ConvBranch, FactorizedReduction, PoolBranch, dropout
from enas.children.rounds import Call, Rounds, RoundsChild, pooled, total
from enas.spaces.macro import MacroArchitecture, MacroConfig, Operation


def _branch(operation: Operation, channels: int) -> nn.Module:
    if operation in ("avg3x3", "max3x3"):
        return PoolBranch(channels, average=operation == "avg3x3")
    return ConvBranch(channels, kernel_size=5 if operation.endswith("5x5") else 3, separable=operation.startswith("sep"))


class MacroLayer(nn.Module):
    """The branches of one layer, and the BatchNorm of its skip sum (layer 0 has none)."""

    def __init__(self, channels: int, *, operations: tuple[Operation, ...], has_skips: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({operation: _branch(operation, channels) for operation in operations})
        self.norm = BatchNorm(channels) if has_skips else None

    def forward(self, x: Tensor, skips: list[Tensor], operation: Operation) -> Rounds[Tensor]:
        """Map (B, C, H, W) and the chosen earlier outputs of that shape to (B, C, H, W)."""
        [out] = yield [Call(self.branches[operation], (x,))]
        if self.norm is None:
            return out
        if all(map(self.norm.folds, (out, *skips))):
            [out] = yield [Call(normalise_sum, (out, *skips), (self.norm,))]
            return out
        [out] = yield [Call(total, (out, *skips))]
        [out] = yield [Call(self.norm, (out,))]
        return out


def reduction_layers(num_layers: int) -> tuple[int, ...]:
    """Return the layers that a factorized reduction follows: L//3 - 1 and 2*(L//3) - 1, none below 3 layers."""
    third = num_layers // 3
    return (third - 1, 2 * third - 1) if third else ()


class MacroChild(RoundsChild):
    """The macro supernet, or the standalone network of one architecture.

    Args:
        config: layers, filters, dropout, operations.
        input_shape: (channels, height, width) of the input; any size, height and width are halved (rounded up) twice.
        num_classes: size of the logits.
        architecture: None for the supernet.

    Attributes:
        always_doubles: whether reductions double the channels whatever the configuration says.
    """

    always_doubles = False

    def __init__(
        self,
        config: MacroConfig,
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        architecture: MacroArchitecture | None = None,
    ) -> None:
        super().__init__()
        if architecture is not None:
            config.make_space().encode(architecture)  # raises for an architecture of another space
        self.keep_prob = config.keep_prob
        self.architecture = architecture
        after = reduction_layers(config.num_layers)
        self.levels = tuple(sum(layer > reduced for reduced in after) for layer in range(config.num_layers))
        is_doubled = self.always_doubles or config.double_filters
        widths = [config.filters * (2**level if is_doubled else 1) for level in range(len(after) + 1)]
        self.stem = Chain(nn.Conv2d(input_shape[0], widths[0], 3, padding=1, bias=False), BatchNorm(widths[0]))
        self.layers = nn.ModuleList(self._make_layer(config, layer, widths[level]) for layer, level in enumerate(self.levels))
        self.reductions = nn.ModuleDict(
            {
                f"{level}_{source}": FactorizedReduction(widths[level], widths[level + 1])
                for level, source in self._needed_reductions(architecture)
            }
        )
        self.classifier = nn.Linear(widths[-1], num_classes, bias=False)

    def _make_layer(self, config: MacroConfig, layer: int, channels: int) -> nn.Module:
        """Return what maps (the layer's input, its skips, its operation) to its output."""
        operations = config.operations if self.architecture is None else (self.architecture.operations[layer],)
        return MacroLayer(channels, operations=operations, has_skips=layer > 0)

    def _source_level(self, source: int) -> int:
        return self.levels[source - 1] if source else 0

    def _needed_reductions(self, architecture: MacroArchitecture | None) -> list[tuple[int, int]]:
        """Return (level, source) for each reduction of a source from a level to the next that some path may need."""
        needed = set()
        for layer, level in enumerate(self.levels):
            skips = range(layer) if architecture is None else architecture.skips[layer]
            for source in (*skips, layer):
                needed |= {(start, source) for start in range(self._source_level(source), level)}
        return sorted(needed)

    def rounds(self, x: Tensor, architecture: MacroArchitecture, *, generator: torch.Generator | None = None) -> Rounds[Output]:
        """Run one architecture; see `RoundsChild.rounds`."""
        [stem] = yield [Call(self.stem, (x,))]
        outputs: dict[tuple[int, int], Tensor] = {(0, 0): stem}  # (source, level) -> (B, C, H, W)
        for index, (layer, level) in enumerate(zip(self.layers, self.levels, strict=True)):
            yield from self._reduce(outputs, (*architecture.skips[index], index), level)
            skips = [outputs[source, level] for source in architecture.skips[index]]
            outputs[index + 1, level] = yield from layer(outputs[index, level], skips, architecture.operations[index])
        [features] = yield [Call(pooled, (outputs[len(self.levels), self.levels[-1]],))]
        if self.training and self.keep_prob < 1:
            features = dropout(features, keep_prob=self.keep_prob, generator=generator)
        [logits] = yield [Call(self.classifier, (features,))]
        return Output(logits=logits)

    def _reduce(self, outputs: dict[tuple[int, int], Tensor], sources: tuple[int, ...], level: int) -> Rounds[None]:
        """Add the sources' outputs at the resolution of a level, and of those on the way to it, where they are not there yet."""
        for lower in range(level):
            missing = [one for one in sources if self._source_level(one) <= lower and (one, lower + 1) not in outputs]
            calls = [Call(self.reductions[f"{lower}_{source}"], (outputs[source, lower],)) for source in missing]
            reduced = yield calls
            outputs.update({(source, lower + 1): out for source, out in zip(missing, reduced, strict=True)})
