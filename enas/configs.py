"""The settings of training, searching and retraining; apart from their owners so that the command line does not wait for PyTorch.

Every class is frozen and checks itself; a field's docstring is its help on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal, get_args

BatchNormMode = Literal["batch", "running", "recalibrated"]
CostName = Literal["flops", "latency", "parameters"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
InputKind = Literal["images", "text"]
Phase = Literal["shared", "controller", "both"]
Precision = Literal["fp32", "bf16"]


def require(condition: bool, name: str, expected: str, actual: object) -> None:
    """Raise the ValueError of a setting that is out of range."""
    if not condition:
        raise ValueError(f"{name}: expected {expected}, got {actual}")


def _require_training(config: SharedConfig | RetrainConfig) -> None:
    """Refuse settings of SGD and the loss out of range; training the shared weights and from scratch have the same ones."""
    rate, least = config.learning_rate, config.learning_rate_min
    require(rate > 0, "learning_rate", "a number above 0", rate)
    require(0 <= least <= rate, "learning_rate_min", f"a number in [0, {rate}]", least)
    require(0 <= config.momentum < 1, "momentum", "a number in [0, 1)", config.momentum)
    require(config.weight_decay >= 0, "weight_decay", "a number of at least 0", config.weight_decay)
    require(config.grad_clip is None or config.grad_clip > 0, "grad_clip", "a number above 0 or None", config.grad_clip)
    require(config.aux_weight >= 0, "aux_weight", "a number of at least 0", config.aux_weight)


@dataclass(frozen=True, kw_only=True)
class SharedConfig:
    """Training and measuring the shared weights; defaults are the authors' CIFAR-10 macro search."""

    batch_size: int = 128
    """Images of a training minibatch, or rows of a text, which are read side by side."""
    steps_per_epoch: int | None = None
    """Training steps of an epoch; None for one pass over the training examples."""
    paths_per_step: int | None = None
    """Architectures M whose losses share a step; None for the path rule's own number: 1, fair the most choices of a decision,
    sandwich 4."""
    learning_rate: float = 0.05
    """Largest learning rate."""
    learning_rate_min: float = 0.0005
    """Smallest learning rate."""
    restart_epochs: int = 10
    """Epochs of the first cosine cycle."""
    restart_factor: int = 2
    """Each cycle is this many times as long as the one before."""
    momentum: float = 0.9
    """Nesterov momentum."""
    weight_decay: float = 5e-4
    """Weight decay (twice the authors' l2_reg, whose penalty has no factor 1/2)."""
    grad_clip: float | None = 5.0
    """Largest norm of the gradient; None for no limit. (The authors ask for 5 but their code does not apply it.)"""
    valid_batch_size: int = 100
    """Images of a validation minibatch, or rows of a text."""
    reward_batches: int = 1
    """Validation minibatches that a reward is measured on."""
    reward_batch: Literal["own", "shared"] = "own"
    """Whether each architecture is measured on validation minibatches of its own (authors) or all of a batch on the same ones."""
    batch_norm: BatchNormMode = "running"
    """Statistics of BatchNorm in a reward: of the minibatch, running averages, or recalibrated for each architecture."""
    recalibration_batches: int = 4
    """Training minibatches that `recalibrated` statistics are taken from."""
    aux_weight: float = 0.4
    """Weight of an auxiliary head's loss, where the network has one."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in (
            "batch_size",
            "restart_epochs",
            "restart_factor",
            "valid_batch_size",
            "reward_batches",
            "recalibration_batches",
        ):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("paths_per_step", "steps_per_epoch"):
            count = getattr(self, name)
            require(count is None or count >= 1, name, "at least 1 or None", count)
        _require_training(self)
        require(self.reward_batch in ("own", "shared"), "reward_batch", "own or shared", repr(self.reward_batch))
        modes = get_args(BatchNormMode)
        require(self.batch_norm in modes, "batch_norm", f"one of {', '.join(modes)}", repr(self.batch_norm))

    def require_examples(self, *, num_train: int, num_valid: int, unit: str = "images") -> None:
        """Refuse minibatches larger than the data. Raises ValueError. Args: unit: what examples are called."""
        for name, count in (("batch_size", num_train), ("valid_batch_size", num_valid)):
            size = getattr(self, name)
            require(size <= count, f"shared.{name}", f"at most {count}, the number of {unit}", size)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How shared steps and controller steps alternate; defaults are the authors' CIFAR-10 macro search."""

    kind: Literal["alternating", "two-stage"] = "alternating"
    """Whether every epoch trains the shared weights before it updates the controller (ENAS), or they are trained in the warm-up
    epochs only and searched frozen in the others (single-path one-shot, FairNAS)."""
    warmup_epochs: int = 0
    """Epochs at the start with shared steps only."""
    controller_steps: int = 50
    """Controller updates of each later epoch."""
    architectures_per_step: int = 20
    """Architectures that are measured for a controller update."""
    candidates: int = 10
    """Architectures that are measured on the whole validation set at the end; the best is the answer."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; one is also written at the end of the search."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(self.kind in ("alternating", "two-stage"), "kind", "alternating or two-stage", repr(self.kind))
        require(self.warmup_epochs >= 0, "warmup_epochs", "at least 0", self.warmup_epochs)
        for name in ("controller_steps", "architectures_per_step", "candidates"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        require(self.checkpoint_minutes >= 0, "checkpoint_minutes", "at least 0", self.checkpoint_minutes)

    def trains_in(self, epoch: int) -> bool:
        """Whether the shared weights are trained in an epoch, counted from 0."""
        return self.kind == "alternating" or epoch < self.warmup_epochs

    def measures_in(self, epoch: int) -> bool:
        """Whether architectures are measured, and the controller updated, in an epoch, counted from 0."""
        return epoch >= self.warmup_epochs


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What an architecture may cost; costs are those of its own network, at the width and depth of the search.

    The reward that weighs a cost is that of MnasNet (Tan et al. 2019, eq. 2 and 3, arXiv 1807.11626).
    """

    perplexity_scale: float = 80.0
    """c of the reward c / perplexity, for texts (authors: 80)."""
    cost: CostName | None = None
    """Cost that --reward cost_product weighs against accuracy: weights, multiply-adds for one image, or milliseconds of a forward
    pass on this device; None for none."""
    target: float | None = None
    """Cost T, in that unit, at which the reward is the accuracy itself."""
    exponent: float = -0.07
    """w of the reward accuracy * (cost / T)^w; -.07 takes twice the cost for 5 percent more accuracy, relatively (MnasNet, which
    has -1 where being below T is no gain)."""
    soft: bool = True
    """Whether a cost below T raises the reward, too; otherwise w is 0 there."""
    max_parameters: float | None = None
    """Most weights; an architecture with more earns nothing and is no answer. None for no limit."""
    max_flops: float | None = None
    """Most multiply-adds for one image; None for no limit."""
    max_latency: float | None = None
    """Most milliseconds of a forward pass; None for no limit."""
    latency_batch: int = 1
    """Images of the forward pass whose latency is measured."""
    latency_repeats: int = 15
    """Forward passes, after warm-up, whose median is the latency."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        names = get_args(CostName)
        require(self.cost is None or self.cost in names, "cost", f"one of {', '.join(names)} or None", repr(self.cost))
        if self.cost is None:
            require(self.target is None, "target", "None without a cost", self.target)
        else:
            sound = self.target is not None and 0 < self.target < inf
            require(sound, "target", f"a number above 0, the {self.cost} to aim at", self.target)
        require(-inf < self.exponent < 0, "exponent", "a number below 0", self.exponent)
        require(0 < self.perplexity_scale < inf, "perplexity_scale", "a number above 0", self.perplexity_scale)
        for name in ("max_parameters", "max_flops", "max_latency"):
            most = getattr(self, name)
            require(most is None or 0 < most < inf, name, "a number above 0 or None", most)
        for name in ("latency_batch", "latency_repeats"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        """Refuse other values than the defaults of settings that do nothing."""
        idle = [] if self.cost is not None else [("exponent", "without a cost"), ("soft", "without a cost")]
        if "latency" not in self.costs:
            idle += [(name, "where no latency is measured") for name in ("latency_batch", "latency_repeats")]
        for name, where in idle:
            default = getattr(type(self), name)
            require(getattr(self, name) == default, name, f"{default} {where}", getattr(self, name))

    @property
    def limits(self) -> dict[CostName, float]:
        """The hard limits, by the cost that they are of."""
        limits = {name: getattr(self, f"max_{name}") for name in get_args(CostName)}
        return {name: most for name, most in limits.items() if most is not None}

    @property
    def costs(self) -> tuple[CostName, ...]:
        """The costs that have to be measured; first the one that is weighed or, without one, limited."""
        weighed = () if self.cost is None else (self.cost,)
        return tuple(dict.fromkeys((*weighed, *self.limits)))

    def require_reward(self, reward: str, *, kind: InputKind | None = None) -> None:
        """Refuse a reward that does not fit. Raises ValueError. Args: kind: of the examples; None where that is not known."""
        if kind == "images":
            require(reward != "perplexity", "reward", "accuracy or cost_product with images, which have no perplexity", reward)
        if kind == "text":
            expected = (
                "accuracy or perplexity with a text; cost_product weighs accuracy, and cells of the space rnn all cost the same"
            )
            require(reward != "cost_product", "reward", expected, reward)
        if reward != "perplexity":
            scale, default = self.perplexity_scale, type(self).perplexity_scale
            require(scale == default, "objective.perplexity_scale", f"{default} without the reward perplexity", scale)
        if reward == "cost_product":
            expected = f"{', '.join(get_args(CostName))} with the reward cost_product, which weighs it against accuracy"
            require(self.cost is not None, "objective.cost", expected, self.cost)
        else:
            require(self.cost is None, "objective.cost", f"none with the reward {reward}; cost_product weighs it", self.cost)


@dataclass(frozen=True, kw_only=True)
class RankingConfig:
    """During a search, how shared-weight accuracy ranks architectures of which a benchmark's table knows the truth."""

    table: Path | None = None
    """Benchmark table, .npz or .csv, of the space's networks trained alone; the answer is also looked up there. None for none."""
    data: str = "cifar10"
    """Data set of the table whose validation accuracy is the truth."""
    every_epochs: int = 5
    """Epochs that train the shared weights between two measurements."""
    num_architectures: int = 50
    """Architectures of the sample, uniform ones, the same in every run."""
    num_images: int | None = 1_000
    """Validation images that they are measured on, at most all; None for all."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(self.every_epochs >= 1, "every_epochs", "at least 1", self.every_epochs)
        require(self.num_architectures >= 2, "num_architectures", "at least 2", self.num_architectures)
        require(self.num_images is None or self.num_images >= 1, "num_images", "at least 1 or None", self.num_images)


@dataclass(frozen=True, kw_only=True)
class CollapseConfig:
    """When a search warns of a policy that proposes degenerate architectures; the search itself does not change."""

    window: int = 200
    """Latest measured proposals that are looked at; nothing is said before there are so many."""
    max_entropy: float = 0.1
    """A policy has settled where its decisions' mean entropy, as a fraction of that of uniform choices, is below this."""
    max_unique: float = 0.5
    """And where the share of different architectures among the proposals is below this."""
    idle_excess: float | None = 0.5
    """Early warning where operations without weights come so far from their share under uniform choices (0) to being the only
    ones (1), or half as far where the most frequent choices make a degenerate architecture; None for no early warning."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(self.window >= 2, "window", "at least 2", self.window)
        for name in ("max_entropy", "max_unique"):
            require(0 <= getattr(self, name) <= 1, name, "a fraction in [0, 1]", getattr(self, name))
        excess = self.idle_excess
        require(excess is None or 0 < excess <= 1, "idle_excess", "a number in (0, 1] or None", excess)


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """Training one architecture from scratch; defaults are the authors' CIFAR-10 macro network."""

    epochs: int = 310
    """Passes over the training images; 0 skips retraining."""
    batch_size: int = 100
    """Images of a training minibatch."""
    learning_rate: float = 0.05
    """Largest learning rate, at the start of the cosine."""
    learning_rate_min: float = 0.001
    """Smallest learning rate, at its end."""
    momentum: float = 0.9
    """Nesterov momentum."""
    weight_decay: float = 4e-4
    """Weight decay."""
    grad_clip: float | None = 5.0
    """Largest norm of the gradient; None for no limit."""
    use_valid: bool = True
    """Whether the validation images join the training images (the authors train on all of them)."""
    seeds: int = 1
    """Times the searched architecture is trained, each with another seed."""
    random: int = 0
    """Random architectures trained in the same way, for comparison."""
    random_within: float | None = None
    """Largest relative difference in parameters from the architecture that random ones are compared with, such as .1; None
    for random architectures of any size."""
    restart_epochs: int | None = None
    """Epochs of the first of several cosine cycles, each twice as long as the one before (authors: 10); None for one cosine."""
    aux_weight: float = 0.4
    """Weight of an auxiliary head's loss, where the network has one."""
    drop_path_keep_prob: float = 1.0
    """Probability of keeping a path of the last cell at the end of training (authors, micro: .6); it is higher in earlier cells
    and falls from 1 in proportion to the steps done. For networks of cells."""
    average_window: int | None = None
    """Averaged SGD (Merity et al. 2018): once an epoch's validation loss is above the lowest of those that so many epochs lie
    between, measurements are of the mean of the weights after each further step. Made for a constant learning rate; needs
    --retrain.use-valid False. None for no averaging."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(self.epochs >= 0, "epochs", "at least 0", self.epochs)
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        _require_training(self)
        require(self.seeds >= 1, "seeds", "at least 1", self.seeds)
        require(self.random >= 0, "random", "at least 0", self.random)
        within = self.random_within
        require(within is None or within > 0, "random_within", "a number above 0 or None", within)
        first, keep_prob = self.restart_epochs, self.drop_path_keep_prob
        require(first is None or first >= 1, "restart_epochs", "at least 1 or None", first)
        require(0 < keep_prob <= 1, "drop_path_keep_prob", "a number in (0, 1]", keep_prob)
        window, use_valid = self.average_window, self.use_valid
        require(window is None or window >= 1, "average_window", "at least 1 or None", window)
        expected = "None with use_valid, since the validation loss, which tells when averaging starts, is then of data trained on"
        require(window is None or not use_valid, "average_window", expected, window)

    def require_examples(self, *, num_train: int, num_valid: int, unit: str = "images") -> None:
        """Refuse a minibatch larger than the data, unless retraining is skipped. Raises ValueError; see `SharedConfig`."""
        count = num_train + (num_valid if self.use_valid else 0)
        fits = self.epochs == 0 or self.batch_size <= count
        require(fits, "retrain.batch_size", f"at most {count}, the number of {unit}", self.batch_size)

    def require_paths(self, *, has_drop_path: bool) -> None:
        """Refuse to drop paths of a network that has none to drop, unless retraining is skipped. Raises ValueError."""
        fits = self.epochs == 0 or self.drop_path_keep_prob == 1 or has_drop_path
        expected = "1, since networks of this space have no paths to drop"
        require(fits, "retrain.drop_path_keep_prob", expected, self.drop_path_keep_prob)
