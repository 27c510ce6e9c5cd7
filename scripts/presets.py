"""The configuration of a search, and named ones: each preset is a function that returns a complete `SearchConfig`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from controllers.base import ControllerConfig, SearchPlan
from controllers.configs import CategoricalConfig, DartsStrategyConfig, EnasConfig, GdasConfig, PpoConfig
from controllers.evolution import EvolutionConfig
from controllers.gaea import GaeaConfig
from controllers.uniform import UniformConfig
from enas.configs import (
    AugmentConfig,
    CollapseConfig,
    DeviceName,
    ObjectiveConfig,
    Precision,
    RankingConfig,
    RetrainConfig,
    ScheduleConfig,
    SharedConfig,
    SplitConfig,
    TextConfig,
    require,
)
from enas.paths import PATHS
from enas.spaces.base import ChildConfig
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.rnn import RnnConfig


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """A section for each strategy; only the chosen strategy's is read."""

    categorical: CategoricalConfig = field(default_factory=CategoricalConfig)
    """Independent softmax per decision, learned by REINFORCE."""
    darts: DartsStrategyConfig = field(default_factory=DartsStrategyConfig)
    """Softmax over a mixture's operations, learned from the loss's gradient."""
    enas: EnasConfig = field(default_factory=EnasConfig)
    """LSTM policy learned by REINFORCE."""
    evolution: EvolutionConfig = field(default_factory=EvolutionConfig)
    """Aging or generational evolution."""
    gaea: GaeaConfig = field(default_factory=GaeaConfig)
    """Exponentiated gradient, on a mixture or on sampled architectures."""
    gdas: GdasConfig = field(default_factory=GdasConfig)
    """Gumbel-softmax over a mixture's operations, one of which runs."""
    ppo: PpoConfig = field(default_factory=PpoConfig)
    """LSTM policy learned by PPO."""
    uniform: UniformConfig = field(default_factory=UniformConfig)
    """Random search."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search an architecture with shared weights, then train it from scratch beside random ones."""

    preset: str = "quickstart"
    """Named configuration that the other flags change: enas-macro, enas-micro, enas-ptb, micro-small, nasbench201,
    nasbench201-two-stage, quickstart, rnn-small."""
    config: Path | None = None
    """A run's config.yaml to replay; the other flags change it."""
    space: str = "macro"
    """Search space."""
    data: str = "digits"
    """Data set: cifar10, cifar100, digits, fashion_mnist, mnist, svhn, topics, folder:DIR, npz:FILE, ptb:DIR or text:FILE."""
    data_dir: Path = Path("data")
    """Folder that data sets are found in, or downloaded to."""
    strategy: Literal["categorical", "darts", "enas", "evolution", "gaea", "gdas", "ppo", "uniform"] = "enas"
    """Who proposes architectures."""
    paths: Literal["controller", "fair", "sandwich", "uniform"] = "controller"
    """Which architectures train the shared weights: the strategy's own (ENAS), uniform ones (RS-WS, single-path one-shot), all
    choices of a decision equally often in each step, to one (FairNAS), or the smallest, the largest and uniform ones."""
    reward: Literal["accuracy", "cost_product", "perplexity"] = "accuracy"
    """What the strategy maximises: validation accuracy, accuracy * (cost / target)^exponent of --objective, or, for texts,
    perplexity_scale / validation perplexity."""
    epochs: int = 150
    """Rounds of shared training and controller updates."""
    seed: int = 0
    """Everything random follows from it."""
    run_dir: Path | None = None
    """Folder of the run; None for a new one under runs/."""
    resume: Path | None = None
    """Folder of a run to go on with; only --epochs and --device may be given beside it."""
    warm_start: Path | None = None
    """Folder of another run, whose shared weights this search starts from; None for fresh ones."""
    device: DeviceName = "auto"
    """Where networks run; auto takes CUDA, then MPS, then the CPU."""
    precision: Precision = "fp32"
    """Number format of forward passes; weights stay fp32."""
    threads: int | None = None
    """CPU threads; None for PyTorch's choice. The run's config.yaml records the number, on which the bits depend."""
    child: ChildConfig = field(default_factory=MacroConfig)
    """The space and its network."""
    shared: SharedConfig = field(default_factory=SharedConfig)
    """Training and measuring the shared weights."""
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    """The strategies' settings."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """How training and controller updates alternate."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """What an architecture may cost."""
    collapse: CollapseConfig = field(default_factory=CollapseConfig)
    """When the search warns of a policy that proposes degenerate architectures."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How many examples."""
    text: TextConfig = field(default_factory=TextConfig)
    """How a text is read."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training images."""
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    """Training from scratch after the search."""
    ranking: RankingConfig = field(default_factory=RankingConfig)
    """How well shared weights rank, measured as the search goes; only where there is a table of the space."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        self.objective.require_reward(self.reward)
        self._check_schedule()
        self._check_strategy()
        require(self.threads is None or self.threads >= 1, "threads", "at least 1", self.threads)
        has_table = self.space == "nasbench201"
        expected = "none, since there are tables of the space nasbench201 only"
        require(self.ranking.table is None or has_table, "ranking.table", f"{expected}, not of {self.space}", self.ranking.table)

    def _check_strategy(self) -> None:
        space = self.child.make_space()
        PATHS[self.paths].count(space, self.shared.paths_per_step)
        settings: ControllerConfig = getattr(self.controller, self.strategy)
        plan = SearchPlan(
            paths=self.paths,
            paths_per_step=self.shared.paths_per_step,
            kind=self.schedule.kind,
            is_accuracy=self.reward == "accuracy" and not self.objective.limits,
        )
        try:
            settings.check_search(space, plan)
        except ValueError as error:
            raise ValueError(f"strategy: {self.strategy} does not fit, {error}") from error

    def _check_schedule(self) -> None:
        warmup = self.schedule.warmup_epochs
        require(warmup < self.epochs, "schedule.warmup_epochs", f"below the {self.epochs} epochs", warmup)
        if self.schedule.kind == "alternating":
            return
        expected = "at least 1 with two-stage, unless --warm-start names a run whose weights are searched"
        require(warmup >= 1 or self.warm_start is not None, "schedule.warmup_epochs", expected, warmup)
        expected = "fair, sandwich or uniform with two-stage, since the strategy learns nothing while the weights are trained"
        require(warmup == 0 or self.paths != "controller", "paths", expected, self.paths)


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
    and of their squares (theirs is of the sampled matrices but for the first, and of the fourth powers, w^4 / 2); the entropy is
    the true one (theirs that of the sampled choice alone); cells have 8 nodes, as the one they publish (their flag says 9);
    sequences' lengths as in `enas.datasets.random_lengths`. The answer is retrained at the search's own width;
    `retrain --preset enas-ptb-final` is the authors' final recipe.
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
