"""What hard-coding an architecture would cost: its own network, trained by the same step as the shared weights.

The step is `SharedWeights.train_step` itself, over a configuration that builds only the architecture's own network, so that
minibatch, augmentation, dropout, loss, clipping, optimizer and metrics are the same code on both sides and nothing differs but
what sharing adds: more weights, branches that are not taken, and the choice among them. Reading one row of tokens, some tens of
microseconds, is on both sides too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from enas.children.base import Child, copy_inherited
from enas.configs import InputKind
from enas.datasets.data import Data
from enas.shared_weights import SharedWeights
from enas.spaces.base import ChildConfig, SearchSpace


@dataclass(frozen=True, kw_only=True)
class HardCoded(ChildConfig):
    """A space of which only one member's own network is ever built.

    Attributes:
        config: of the space.
        architecture: the member.
    """

    config: ChildConfig
    architecture: Any

    def require_inputs(self, kind: InputKind, *, data: str) -> None:
        """Refuse what the space's own configuration refuses."""
        self.config.require_inputs(kind, data=data)

    def make_space(self) -> SearchSpace[Any]:
        """Return the whole space: tokens mean the same."""
        return self.config.make_space()

    def make_child(self, *, input_shape: tuple[int, ...], num_classes: int, architecture: Any = None) -> Child:
        """Build the member's own network, whatever is asked for."""
        del architecture
        return self.config.make_child(input_shape=input_shape, num_classes=num_classes, architecture=self.architecture)


@torch.no_grad()
def hard_coded(shared: SharedWeights, architecture: Any, data: Data, *, augmentation: Any = None) -> SharedWeights:
    """Return an architecture's own network in training, where the shared weights stand: weights, momentum, state, minibatch.

    Args:
        shared: the supernet in training.
        architecture: a member of its space.
        data, augmentation: what `shared` was made with.
    """
    alone = SharedWeights(
        HardCoded(config=shared.child_config, architecture=architecture),
        data,
        shared.config,
        augmentation=augmentation,
        seed=shared.seed,
        device=shared.device,
        precision=shared.precision,
        memory_format=shared.memory_format,
    )
    copy_inherited(shared.child, alone.child)
    weights = dict(shared.child.named_parameters())
    for name, weight in alone.child.named_parameters():
        for moment, value in alone.optimizer.state[weight].items():
            value.copy_(shared.optimizer.state[weights[name]][moment])
    alone.num_train_steps = shared.num_train_steps
    alone._carries = list(shared._carries)
    return alone
