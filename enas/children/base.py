"""What every network of a search space is: one forward pass for a given architecture, no path ever stored on the module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from enas.types import BoolArray


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a child computes for one batch.

    Attributes:
        logits: float (B, num_classes), a row for each label: of a text (B * T, num_classes), row after row.
        aux_logits: float (B, num_classes) of an auxiliary head, in training mode only, or None.
        penalty: a scalar that is added to the training loss (activation regularisers), or None.
        carry: float (B, ...), what a recurrent child needs of this batch for the next one, without a graph; or None.
    """

    logits: Tensor
    aux_logits: Tensor | None = None
    penalty: Tensor | None = None
    carry: Tensor | None = None


class Child(nn.Module, ABC):
    """A network over a search space: the supernet with every path, or the standalone network of one architecture.

    Both are the same class, and the standalone state dict is a subset of the supernet's by name.

    Attributes:
        drop_path_keep_prob: in (0, 1]; whoever trains sets it before each step, as it sets the training mode. In training mode a
            path at the end of the network is kept with this probability, earlier ones with a higher one (Larsson et al. 2017).
        has_drop_path: whether the network has paths to drop; where not, it ignores the attribute above.
        architecture: of a standalone network; None for a supernet.
    """

    drop_path_keep_prob: float = 1.0
    has_drop_path: bool = False
    architecture: Any = None

    def require_own(self, architecture: Any) -> None:
        """Refuse an architecture that a standalone network is not built for. Raises ValueError."""
        if self.architecture is not None and architecture != self.architecture:
            raise ValueError(f"expected the standalone network's own architecture {self.architecture}, got {architecture}")

    @property
    def auxiliary_head(self) -> nn.Module | None:
        """The part that only `Output.aux_logits` needs, which is no part of the network's size; None without one."""
        return None

    def drop_auxiliary_head(self) -> None:
        """Remove the auxiliary head from a network that is trained no more, if it has one."""

    @abstractmethod
    def forward(
        self, x: Tensor, architecture: Any, *, carry: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Output:
        """Run the paths of one architecture and nothing else.

        Args:
            x: one minibatch: float images (B, C, H, W), or int64 tokens (B, T).
            architecture: a member of the space; the standalone network takes only its own.
            carry: what the previous batch's `Output.carry` held, for recurrent children; None at the start.
            generator: CPU generator that dropout masks are drawn from; needed in training mode only.
        """

    def forward_mixture(
        self, x: Tensor, weights: Tensor, active: BoolArray, *, generator: torch.Generator | None = None
    ) -> Output:
        """Run a mixture: at each place the sum of the active operations' outputs, each times its weight.

        Args:
            x: one minibatch.
            weights: float (R, K) on the network's device, as in `SearchSpace.mixed_operations`; gradients flow through them.
            active: (R, K), operations that run.
            generator: as in `forward`.

        Raises: ValueError unless a network overrides this.
        """
        raise ValueError(f"{type(self).__name__}: expected a network that runs mixtures, got one that runs single architectures")

    def evaluate_many(
        self, batches: Sequence[Tensor], architectures: Sequence[Any], *, carries: Sequence[Tensor | None] | None = None
    ) -> Iterable[Output]:
        """Run several architectures; a child may override this with a computation that serves them together.

        By default each runs when its output is asked for, so that nobody has to hold the logits of all.

        Args:
            batches: the minibatch of each architecture, of one size; the same tensor where they share it.
            carries: of each architecture, see `forward`; None for None of each.
        """
        carries = [None] * len(architectures) if carries is None else carries
        return (self(x, one, carry=carry) for x, one, carry in zip(batches, architectures, carries, strict=True))

    def example(self, count: int, *, input_shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Return random inputs, as `forward` takes them, for counting and timing: images, of which each is one example.

        Args: count: of examples. input_shape: of one, as given to `ChildConfig.make_child`.
        """
        return torch.rand(count, *input_shape, generator=generator)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw all weights anew: He normal for convolutions and linear maps, one and zero for BatchNorm, zero for biases."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()


def draw_as_pytorch(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew as PyTorch's layers do by themselves, but from a generator.

    Weights and biases of convolutions and linear maps are uniform within 1 / sqrt(number of inputs of a unit): their norm is
    1 / sqrt(6) of He normal's. Before a BatchNorm that does not change what is computed but how fast it learns: a step turns a
    small weight vector further than a large one (van Laarhoven 2017, arXiv 1706.05350).
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = module.weight[0].numel() ** -0.5
            for weight in (module.weight, module.bias):
                if weight is not None:
                    nn.init.uniform_(weight, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def copy_inherited(supernet: nn.Module, standalone: nn.Module) -> None:
    """Copy the weights and statistics that a standalone network shares with its supernet, by name.

    Raises: ValueError naming the entries that the supernet lacks.
    """
    source = supernet.state_dict()
    missing = sorted(name for name in standalone.state_dict() if name not in source)
    if missing:
        raise ValueError(f"expected a supernet that holds every weight of the standalone network; it lacks {', '.join(missing)}")
    standalone.load_state_dict({name: source[name] for name in standalone.state_dict()})
