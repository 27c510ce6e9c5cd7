"""The settings of the strategies whose code needs PyTorch; apart from it so that the command line does not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from controllers.base import ControllerConfig, SearchPlan
from controllers.mixture import check_mixture_search
from enas.configs import require
from enas.spaces.base import SearchSpace
from enas.types import Level, Order

if TYPE_CHECKING:
    from controllers.categorical import CategoricalController
    from controllers.darts import DartsController
    from controllers.gdas import GdasController
    from controllers.ppo import PpoController
    from controllers.reinforce import ReinforceController


@dataclass(frozen=True, kw_only=True)
class EnasConfig(ControllerConfig):
    """LSTM policy learned by REINFORCE; defaults are the authors' CIFAR-10 macro search."""

    hidden: int = 64
    """LSTM units."""
    learning_rate: float = 1e-3
    """Adam's learning rate (the authors' code; the paper has .00035)."""
    adam_beta1: float = 0.0
    """Adam's first decay (the authors use no momentum)."""
    adam_beta2: float = 0.999
    """Adam's second decay."""
    adam_eps: float = 1e-3
    """Adam's epsilon."""
    tanh_constant: float | None = 1.5
    """Logits become c * tanh(logits); None leaves them."""
    temperature: float = 1.0
    """Logits are divided by it before the tanh."""
    init_range: float = 0.1
    """Initial weights are uniform within it, to either side of 0 (authors, for texts: .01)."""
    entropy_weight: float = 1e-4
    """Weight of the entropy (nats, no gradient through it) that is added to the reward."""
    baseline_decay: float = 0.99
    """Decay of the baseline, the moving average of the reward, per evaluated architecture."""
    baseline_update: Literal["before", "after"] = "before"
    """Whether the baseline takes in a batch's rewards before (authors) or after it is subtracted from them."""
    baseline_start: Literal["zero", "first"] = "zero"
    """Where the baseline starts: zero (authors) or the first batch's mean reward."""
    skip_target: float = 0.4
    """Share of skip connections that the penalty pulls towards, in (0, 1)."""
    skip_weight: float = 0.8
    """Weight of the skip penalty in the loss; 0 switches it off."""
    skip_target_on: Literal["authors", "sampled"] = "authors"
    """`sampled`: the target is the rate at which skips are drawn. `authors`: it is applied to the sigmoid of each logit, as their
    code does, whose minimum is a drawn rate of .308 for a target of .4."""
    grad_clip: float | None = None
    """Largest norm of the gradient; None for no limit (authors)."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        for name in ("hidden", "learning_rate", "adam_eps", "temperature", "init_range"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        for name in ("tanh_constant", "grad_clip"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected a number above 0 or None, got {getattr(self, name)}")
        for name in ("adam_beta1", "adam_beta2", "baseline_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number in [0, 1), got {getattr(self, name)}")
        if not 0 < self.skip_target < 1:
            raise ValueError(f"skip_target: expected a share in (0, 1), got {self.skip_target}")
        for name in ("entropy_weight", "skip_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected a number of at least 0, got {getattr(self, name)}")

    def settles_by(self, space: SearchSpace[Any]) -> tuple[str, ...]:
        """Return its rate, the weight of the entropy and, where the space has skips, that of their penalty."""
        has_skips = any(decision.kind == "skip" for decision in space.decisions)
        return ("learning_rate", "entropy_weight", *(["skip_weight"] if has_skips else []))

    def make(self, space: SearchSpace[Any], *, seed: int) -> ReinforceController:
        """Build the controller for a space."""
        from controllers.reinforce import ReinforceController

        return ReinforceController(space, self, seed=seed)


@dataclass(frozen=True, kw_only=True)
class PpoConfig(ControllerConfig):
    """LSTM policy learned by PPO: several steps on each batch of rewards."""

    hidden: int = 64
    """LSTM units."""
    learning_rate: float = 0.003
    """Adam's learning rate."""
    adam_eps: float = 1e-5
    """Adam's epsilon."""
    epochs: int = 4
    """How often a batch of rewards is gone through."""
    minibatches: int = 1
    """Gradient steps of an epoch: into how many parts the batch is split, at random."""
    clip: float = 0.2
    """How far, in either direction, the probability ratio of a decision may pay off."""
    target_kl: float | None = None
    """A batch is left early after an epoch whose policy has moved further than that (nats a decision); None for never."""
    baseline: Literal["ema", "value"] = "ema"
    """What is subtracted from rewards: their moving average, or a value that is learned on the LSTM's state at each step."""
    baseline_decay: float = 0.9
    """Ema: decay of the moving average of the reward, per evaluated architecture."""
    baseline_start: Literal["zero", "first"] = "first"
    """Where the baseline starts: zero or the first batch's mean reward."""
    normalise_advantages: bool = False
    """Bring a batch's advantages to mean 0 and deviation 1; what an ema baseline subtracts is then without effect."""
    entropy_weight: float = 0.0
    """Weight of the entropy (nats, with its gradient) in the loss."""
    tanh_constant: float | None = 2.5
    """Logits become c * tanh(logits); None leaves them."""
    temperature: float = 1.0
    """Logits are divided by it before the tanh."""
    grad_clip: float | None = 0.5
    """Largest norm of the policy's gradient; None for no limit."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        for name in ("hidden", "learning_rate", "adam_eps", "clip", "temperature"):
            require(getattr(self, name) > 0, name, "a number above 0", getattr(self, name))
        for name in ("epochs", "minibatches"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("target_kl", "tanh_constant", "grad_clip"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "a number above 0 or None", value)
        require(0 <= self.baseline_decay < 1, "baseline_decay", "a number in [0, 1)", self.baseline_decay)
        require(self.entropy_weight >= 0, "entropy_weight", "a number of at least 0", self.entropy_weight)

    def settles_by(self, space: SearchSpace[Any]) -> tuple[str, ...]:
        """Return its rate, its steps and the weight of the entropy."""
        del space
        return "learning_rate", "epochs", "entropy_weight"

    def make(self, space: SearchSpace[Any], *, seed: int) -> PpoController:
        """Build the controller for a space."""
        from controllers.ppo import PpoController

        return PpoController(space, self, seed=seed)


@dataclass(frozen=True, kw_only=True)
class CategoricalConfig(ControllerConfig):
    """An independent softmax per decision, learned by REINFORCE; defaults are those of NATS-Bench (Dong et al. 2021)."""

    learning_rate: float = 0.01
    """Adam's learning rate (the NAS-Bench-201 documentation runs .5; its script's example is .001)."""
    initial_deviation: float = 1e-3
    """Standard deviation of the initial logits."""
    entropy_weight: float = 0.0
    """Weight of the entropy (nats, with its gradient) in the loss."""
    baseline_decay: float = 0.9
    """Decay of the baseline, the moving average of the reward, per evaluated architecture."""
    baseline_update: Literal["before", "after"] = "before"
    """Whether the baseline takes in a batch's rewards before (authors) or after it is subtracted from them."""
    baseline_start: Literal["zero", "first", "corrected"] = "corrected"
    """Where the baseline starts: zero; the first batch's mean reward; or a zero that it is corrected for (authors)."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        require(self.learning_rate > 0, "learning_rate", "a number above 0", self.learning_rate)
        require(0 <= self.baseline_decay < 1, "baseline_decay", "a number in [0, 1)", self.baseline_decay)
        for name in ("initial_deviation", "entropy_weight"):
            require(getattr(self, name) >= 0, name, "a number of at least 0", getattr(self, name))

    def settles_by(self, space: SearchSpace[Any]) -> tuple[str, ...]:
        """Return its rate and the weight of the entropy."""
        del space
        return "learning_rate", "entropy_weight"

    def make(self, space: SearchSpace[Any], *, seed: int) -> CategoricalController:
        """Build the controller for a space."""
        from controllers.categorical import CategoricalController

        return CategoricalController(space, self, seed=seed)


@dataclass(frozen=True, kw_only=True)
class AlphaConfig(ControllerConfig):
    """What DARTS and GDAS have in common: Adam on the logits of a mixture's weights; defaults are the authors'."""

    learning_rate: float = 3e-4
    """Adam's learning rate."""
    adam_beta1: float = 0.5
    """Adam's first decay."""
    adam_beta2: float = 0.999
    """Adam's second decay."""
    weight_decay: float = 1e-3
    """Pulls the logits to 0, as a part of the gradient."""
    level: Level = "bilevel"
    """Whether it learns from validation images, or from the training images that the shared weights learn from."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        require(self.learning_rate > 0, "learning_rate", "a number above 0", self.learning_rate)
        for name in ("adam_beta1", "adam_beta2"):
            require(0 <= getattr(self, name) < 1, name, "a number in [0, 1)", getattr(self, name))
        require(self.weight_decay >= 0, "weight_decay", "a number of at least 0", self.weight_decay)

    def check_search(self, space: SearchSpace[Any], plan: SearchPlan) -> None:
        """Refuse a space without mixtures, a search whose weights are trained on something else, and one for other rewards."""
        check_mixture_search(space, plan)

    def settles_by(self, space: SearchSpace[Any]) -> tuple[str, ...]:
        """Return its rate, and what pulls the logits to 0."""
        del space
        return "learning_rate", "weight_decay"


@dataclass(frozen=True, kw_only=True)
class DartsStrategyConfig(AlphaConfig):
    """Softmax over the operations of a mixture, learned from the loss's gradient."""

    order: Order = 1
    """2: the gradient looks through one step of the shared weights, for eight times the time. With bilevel only."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        require(self.order == 1 or self.level == "bilevel", "order", "1 with level single", self.order)

    def make(self, space: SearchSpace[Any], *, seed: int) -> DartsController:
        """Build the controller for a space. Raises ValueError for one without mixtures."""
        from controllers.darts import DartsController

        return DartsController(space, self, seed=seed)


@dataclass(frozen=True, kw_only=True)
class GdasConfig(AlphaConfig):
    """Gumbel-softmax over the operations of a mixture of which one a place runs, learned from the loss's gradient."""

    tau_max: float = 10.0
    """Temperature of the Gumbel-softmax in warm-up epochs, and where learning begins."""
    tau_min: float = 0.1
    """Temperature towards the end of the search; from where learning begins it falls linearly with each training step."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        expected = f"a number in (0, tau_max], which is {self.tau_max}"
        require(0 < self.tau_min <= self.tau_max, "tau_min", expected, self.tau_min)

    def make(self, space: SearchSpace[Any], *, seed: int) -> GdasController:
        """Build the controller for a space. Raises ValueError for one without mixtures."""
        from controllers.gdas import GdasController

        return GdasController(space, self, seed=seed)
