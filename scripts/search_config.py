"""The configuration of a search: every setting that its result follows from, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from controllers.base import ControllerConfig, SearchPlan
from controllers.configs import CategoricalConfig, DartsStrategyConfig, EnasConfig, GdasConfig, PpoConfig
from controllers.evolution import EvolutionConfig
from controllers.gaea import GaeaConfig
from controllers.uniform import UniformConfig
from enas.configs import (
    CollapseConfig,
    DeviceName,
    ObjectiveConfig,
    Precision,
    RankingConfig,
    RetrainConfig,
    ScheduleConfig,
    SharedConfig,
    require,
)
from enas.data_configs import AugmentConfig, SplitConfig, TextConfig
from enas.paths import PATHS
from enas.spaces.base import ChildConfig
from enas.spaces.macro import MacroConfig


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
        self.objective.require_reward(self.reward, kind=self.child.reads)
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
