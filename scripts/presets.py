"""Named configurations of a search: each preset is a function that returns a complete `SearchConfig`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controllers.configs import DartsStrategyConfig, EnasConfig, GdasConfig
from controllers.evolution import EvolutionConfig
from enas.configs import RetrainConfig, ScheduleConfig, SharedConfig
from enas.data_configs import AugmentConfig, SplitConfig, TextConfig
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.rnn import RnnConfig
from scripts.search_config import ControllerSettings, SearchConfig


def quickstart() -> SearchConfig:
    """Return a search of minutes on one core: 6 macro layers of 16 filters on scikit-learn's 1,797 real digits.

    One thread, since tensors this small gain nothing from more, and so that machines with other numbers of cores agree.
    """
    return SearchConfig(
        preset="quickstart",
        data="digits",
        epochs=30,
        threads=1,
        child=MacroConfig(num_layers=6, filters=16, keep_prob=0.9),
        shared=SharedConfig(batch_size=64, valid_batch_size=128, batch_norm="batch", reward_batch="shared"),
        controller=ControllerSettings(
            enas=EnasConfig(
                learning_rate=0.0035, tanh_constant=2.5, entropy_weight=0.0005, skip_weight=0.0, baseline_start="first"
            )
        ),
        schedule=ScheduleConfig(controller_steps=12, architectures_per_step=10, candidates=20, checkpoint_minutes=0.5),
        retrain=RetrainConfig(epochs=10, batch_size=64, learning_rate_min=0.0005, seeds=5, random=12),
    )


def enas_macro() -> SearchConfig:
    """Return the authors' CIFAR-10 macro search (`scripts/cifar10_macro_search.sh`), their bugs left out.

    Departures: the sampled branch is the one that runs; gradients are clipped (theirs are not, although they ask for it); the
    entropy is the true one; weights outside the sampled paths do not decay; an epoch leaves out the rest that fills no minibatch.
    The answer is retrained at the search's own depth and width; the authors' 24-layer, 96-filter network is a separate command.
    """
    return SearchConfig(
        preset="enas-macro",
        data="cifar10",
        epochs=310,
        child=MacroConfig(),
        shared=SharedConfig(valid_batch_size=128),
        controller=ControllerSettings(enas=EnasConfig()),
        schedule=ScheduleConfig(),
        retrain=RetrainConfig(epochs=310, restart_epochs=10),
    )


def enas_micro() -> SearchConfig:
    """Return the authors' CIFAR-10 micro search (`scripts/cifar10_micro_search.sh`), their bugs left out.

    Departures, beside those of `enas_macro`: the auxiliary head is trained (theirs keeps its random weights); dropout is off in
    rewards, as it is in every measurement here; the answer is retrained with drop-path at the search's own depth and width, and
    as the network that was searched. Their script asks for drop-path in the search, too, but their code has none there, and
    neither has this. `retrain --preset enas-micro-final` is the authors' final recipe.
    """
    return SearchConfig(
        preset="enas-micro",
        space="micro",
        data="cifar10",
        epochs=150,
        child=MicroConfig(),
        shared=SharedConfig(batch_size=160, valid_batch_size=160, weight_decay=2e-4, batch_norm="batch"),
        controller=ControllerSettings(enas=EnasConfig(learning_rate=0.0035, tanh_constant=1.1, skip_weight=0.0)),
        schedule=ScheduleConfig(controller_steps=30, architectures_per_step=10),
        augment=AugmentConfig(cutout=0),
        retrain=RetrainConfig(
            epochs=630, batch_size=144, learning_rate_min=1e-4, weight_decay=4e-4, restart_epochs=10, drop_path_keep_prob=0.6
        ),
    )


def enas_ptb() -> SearchConfig:
    """Return the authors' search for a recurrent cell on the Penn Treebank (`enas_lm/src/search.py` in google-research).

    That code replaced the one of the paper, which its authors call wrong. Departures: weight decay is of all weights in a step
    and of their squares (theirs is of the sampled matrices but for the first, and of the fourth powers, w^4 / 2), and comes after
    the gradient is clipped (they clip the gradient with the penalty in it); the entropy is the true one (theirs that of the
    sampled choice alone); cells have 8 nodes, as the one they publish (their flag says 9); sequences' lengths as in
    `enas.datasets.random_lengths`. The answer is retrained at the search's own width; `retrain --preset enas-ptb-final` is the
    authors' final recipe.
    """
    return SearchConfig(
        preset="enas-ptb",
        space="rnn",
        data="ptb:data/ptb",
        reward="perplexity",
        epochs=600,
        child=RnnConfig(),
        shared=SharedConfig(
            batch_size=128,
            learning_rate=20.0,
            learning_rate_min=20.0,
            momentum=0.0,
            weight_decay=8e-7,
            grad_clip=0.1,
            valid_batch_size=128,
        ),
        controller=ControllerSettings(
            enas=EnasConfig(
                learning_rate=5e-5,
                adam_beta1=0.9,
                adam_eps=1e-8,
                tanh_constant=2.25,
                temperature=5.0,
                init_range=0.01,
                entropy_weight=1e-5,
                baseline_decay=0.999,
                skip_weight=0.0,
            )
        ),
        schedule=ScheduleConfig(controller_steps=25, architectures_per_step=10),
        retrain=RetrainConfig(
            epochs=600,
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


def micro_small() -> SearchConfig:
    """Return a micro search of minutes on one CPU core: 4 cells of 3 nodes, 16 channels in the first, 10,000 images of CIFAR-10.

    With two normal cells both reductions come first (cells 0 and 1), so that no cell works on all 32x32 pixels. Of each weight's
    rivals there are few, and a third of the epochs warms up, since weights that are hardly trained make operations without
    weights look good; against that, too, the policy keeps the authors' preference for separable convolutions (`MicroConfig`).
    """
    return SearchConfig(
        preset="micro-small",
        space="micro",
        data="cifar10",
        epochs=10,
        threads=1,
        child=MicroConfig(num_layers=2, num_nodes=3, filters=8, aux_head=False),
        shared=SharedConfig(
            batch_size=32,
            steps_per_epoch=150,
            valid_batch_size=128,
            weight_decay=2e-4,
            batch_norm="batch",
            reward_batch="shared",
            restart_epochs=10,
        ),
        controller=ControllerSettings(
            enas=EnasConfig(learning_rate=0.01, tanh_constant=2.5, entropy_weight=0.0005, skip_weight=0.0, baseline_start="first")
        ),
        schedule=ScheduleConfig(
            warmup_epochs=3, controller_steps=10, architectures_per_step=10, candidates=10, checkpoint_minutes=1.0
        ),
        split=SplitConfig(num_train=10_000, num_valid=2_000),
        retrain=RetrainConfig(epochs=2, batch_size=32, learning_rate_min=0.0005, weight_decay=4e-4, seeds=1, random=5),
    )


def nasbench201() -> SearchConfig:
    """Return ENAS on NAS-Bench-201 in a quarter of an hour on one CPU core: CIFAR-10 at 16x16 pixels, one cell a stage.

    A step on such images takes a third of the time of one on 32x32, and after equal times ranks better. Weights are trained on
    the controller's own proposals from the first step on; it learns after a third of the epochs, when accuracy has begun to say
    something about cells. The answer is looked up where `--ranking.table` names the benchmark's table, and trained from scratch
    only if `--retrain.epochs` asks for it. DARTS and GDAS take steps ten times as large as published, since they are few.
    """
    return SearchConfig(
        preset="nasbench201",
        space="nasbench201",
        data="cifar10",
        epochs=40,
        threads=1,
        child=NasBench201Config(cells_per_stage=1, affine=False),
        shared=SharedConfig(
            batch_size=64,
            steps_per_epoch=350,
            valid_batch_size=128,
            reward_batches=2,
            reward_batch="shared",
            batch_norm="batch",
            restart_epochs=40,
        ),
        controller=ControllerSettings(
            darts=DartsStrategyConfig(learning_rate=0.003),
            enas=EnasConfig(
                learning_rate=0.005, tanh_constant=2.5, entropy_weight=0.001, skip_weight=0.0, baseline_start="first"
            ),
            gdas=GdasConfig(learning_rate=0.003),
        ),
        schedule=ScheduleConfig(
            warmup_epochs=14, controller_steps=10, architectures_per_step=10, candidates=20, checkpoint_minutes=2.0
        ),
        split=SplitConfig(num_train=25_000, num_valid=5_000, image_size=16),
        retrain=RetrainConfig(epochs=0),
    )


def nasbench201_two_stage() -> SearchConfig:
    """Return the two stages of single-path one-shot (Guo et al. 2020) on the supernet of `nasbench201`, in about the same time.

    Uniform paths (`--paths` for others) train it, then evolution searches it frozen, with BatchNorm recalibrated for each cell.
    Departures: a reward is measured on 512 of the validation images and recalibrated on 128, to be quick; since that is noisy, a
    generation measures its parents again.
    """
    enas = nasbench201()
    return replace(
        enas,
        preset="nasbench201-two-stage",
        strategy="evolution",
        paths="uniform",
        epochs=50,
        shared=replace(enas.shared, batch_norm="recalibrated", recalibration_batches=2, reward_batches=4),
        controller=ControllerSettings(evolution=EvolutionConfig(kind="generational", population=50, parents=10)),
        schedule=replace(enas.schedule, kind="two-stage", warmup_epochs=40, controller_steps=5),
    )


def rnn_small() -> SearchConfig:
    """Return a search for a recurrent cell in minutes on one CPU core: 4 nodes of 64 units, the help texts of Python itself.

    Dropout is much weaker than the authors', since a network this small does not overfit in so few epochs, and the controller
    learns much faster, since it has 15 epochs instead of 600. The answer and random cells are retrained with averaged SGD,
    which in 8 epochs rarely comes to average anything; `--retrain.epochs 30` shows it.
    """
    return SearchConfig(
        preset="rnn-small",
        space="rnn",
        data="topics",
        reward="perplexity",
        epochs=15,
        threads=1,
        child=RnnConfig(
            num_nodes=4,
            hidden=64,
            word_dropout=0.0,
            embedding_dropout=0.1,
            input_dropout=0.1,
            state_dropout=0.1,
            output_dropout=0.1,
            slowness_penalty=0.0,
            init_range=0.05,
        ),
        shared=SharedConfig(
            batch_size=32,
            learning_rate=20.0,
            learning_rate_min=20.0,
            momentum=0.0,
            weight_decay=8e-7,
            grad_clip=0.25,
            valid_batch_size=32,
            reward_batch="shared",
        ),
        controller=ControllerSettings(
            enas=EnasConfig(
                learning_rate=0.005, tanh_constant=2.5, entropy_weight=0.0005, skip_weight=0.0, baseline_start="first"
            )
        ),
        schedule=ScheduleConfig(
            warmup_epochs=3, controller_steps=10, architectures_per_step=10, candidates=10, checkpoint_minutes=1.0
        ),
        text=TextConfig(vocabulary=2_000, bptt=20),
        retrain=RetrainConfig(
            epochs=8,
            batch_size=32,
            learning_rate=20.0,
            learning_rate_min=20.0,
            momentum=0.0,
            weight_decay=2 * 8e-7,
            grad_clip=0.25,
            use_valid=False,
            average_window=5,
            random=2,
        ),
    )


PRESETS: dict[str, Callable[[], SearchConfig]] = {
    "enas-macro": enas_macro,
    "enas-micro": enas_micro,
    "enas-ptb": enas_ptb,
    "micro-small": micro_small,
    "nasbench201": nasbench201,
    "nasbench201-two-stage": nasbench201_two_stage,
    "quickstart": quickstart,
    "rnn-small": rnn_small,
}
"""Every preset by its name."""
