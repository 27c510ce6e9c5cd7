"""Named recipes for training an architecture from scratch: each is a function that returns a complete `RetrainPreset`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from enas.configs import RetrainConfig
from enas.data_configs import AugmentConfig, SplitConfig, TextConfig
from enas.spaces.base import ChildConfig
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.rnn import RnnConfig

VOCABULARIES = ("functions", "operations")
"""Settings of a network that list what an architecture may be made of."""


@dataclass(frozen=True, kw_only=True)
class RetrainPreset:
    """Everything that a training from scratch follows from, but for its architecture, seed and machine.

    Attributes:
        space: of the architectures that it is for.
        data: data set.
        child: the network.
        retrain, split, text, augment: as on the command line.
    """

    space: str
    data: str
    child: MacroConfig | MicroConfig | RnnConfig
    retrain: RetrainConfig
    split: SplitConfig = field(default_factory=SplitConfig)
    text: TextConfig = field(default_factory=TextConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def child_for(self, own: ChildConfig) -> ChildConfig:
        """Return the preset's network for architectures of another configuration of its space.

        Number of nodes and operations are kept, but for operations that the network can't have: random architectures are drawn
        from what this returns, so that they come from the space that was searched.
        """
        kept: dict[str, Any] = {}
        for vocabulary in VOCABULARIES:
            if hasattr(self.child, vocabulary):
                possible = getattr(self.child, vocabulary)
                kept[vocabulary] = tuple(name for name in possible if name in getattr(own, vocabulary, possible))
        if hasattr(self.child, "num_nodes"):
            kept["num_nodes"] = getattr(own, "num_nodes", self.child.num_nodes)
        return replace(self.child, **kept)


def enas_macro_final() -> RetrainPreset:
    """Return the authors' final CIFAR-10 macro training (`scripts/cifar10_macro_final.sh`): 24 layers of 96 filters, 310 epochs.

    The network is theirs as their code builds it, full convolutions for separable ones included (`MacroConfig.final`), and for
    architectures without poolings.
    Departures: an epoch leaves out the rest that fills no minibatch; gradients are clipped, to a joint norm of 5 (theirs, to 5 a
    variable, are not, although they ask for it); images are normalised by the statistics of the 45,000 that a search trains on,
    although all 50,000 are trained on; only weights that have a gradient decay, which here are all. (Weight decay is twice their
    l2_reg, whose penalty has no factor 1/2.)
    """
    return RetrainPreset(
        space="macro",
        data="cifar10",
        child=MacroConfig(
            num_layers=24,
            filters=96,
            keep_prob=0.5,
            double_filters=True,
            operations=("conv3x3", "sep3x3", "conv5x5", "sep5x5"),  # child_num_branches=4
            final="authors",
        ),
        retrain=RetrainConfig(
            epochs=310,
            batch_size=100,
            learning_rate=0.05,
            learning_rate_min=0.001,
            weight_decay=4e-4,
            use_valid=True,
            restart_epochs=10,
        ),
    )


def enas_micro_final() -> RetrainPreset:
    """Return the authors' final CIFAR-10 micro training (`scripts/cifar10_micro_final.sh`): 15 + 2 cells, 36 filters, 630 epochs.

    The network is theirs (`MicroConfig.final`). Departures: those of `enas_macro_final`; the auxiliary head is trained and decays
    (theirs keeps its random weights); the square that is cut out has its centre anywhere in the image (theirs its corner, so that
    less of it is inside: 150 instead of 196 pixels on average).
    """
    return RetrainPreset(
        space="micro",
        data="cifar10",
        child=MicroConfig(num_layers=15, filters=36, keep_prob=0.8, aux_head=True, final="authors"),
        retrain=RetrainConfig(
            epochs=630,
            batch_size=144,
            learning_rate=0.05,
            learning_rate_min=0.0001,
            weight_decay=4e-4,
            use_valid=True,
            restart_epochs=10,
            aux_weight=0.4,
            drop_path_keep_prob=0.6,
        ),
        augment=AugmentConfig(cutout=16),
    )


def enas_ptb_final() -> RetrainPreset:
    """Return the authors' final training on the Penn Treebank (`enas_lm/src/fixed.py`): 800 units, 3000 epochs, averaged SGD.

    The regularisers are those of their code: it has no penalty on how fast states change. (Weight decay is twice theirs, whose
    penalty has no factor 1/2.) Departures: weights decay after the gradient is clipped, not as a part of it; sequences' lengths
    as in `enas.datasets.random_lengths`; a step that is not finite is left out (theirs goes back to the last checkpoint); the
    test text is read in ten rows (theirs in one), each of which starts from an empty state.
    """
    return RetrainPreset(
        space="rnn",
        data="ptb:data/ptb",
        child=RnnConfig(
            hidden=800,
            word_dropout=0.125,
            embedding_dropout=0.175,
            input_dropout=0.725,
            state_dropout=0.225,
            output_dropout=0.75,
            activation_penalty=0.7,
            slowness_penalty=0.0,
            init_range=0.05,
        ),
        retrain=RetrainConfig(
            epochs=3000,
            batch_size=64,
            learning_rate=20.0,
            learning_rate_min=20.0,
            momentum=0.0,
            weight_decay=2 * 8e-7,
            grad_clip=0.25,
            use_valid=False,
            average_window=10,
        ),
    )


RETRAIN_PRESETS: dict[str, Callable[[], RetrainPreset]] = {
    "enas-macro-final": enas_macro_final,
    "enas-micro-final": enas_micro_final,
    "enas-ptb-final": enas_ptb_final,
}
"""Every recipe by its name."""
