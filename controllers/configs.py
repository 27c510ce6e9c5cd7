"""The settings of the strategies whose code needs PyTorch; apart from it so that the command line does not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from controllers.base import ControllerConfig
from enas.spaces.base import SearchSpace

if TYPE_CHECKING:
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
        for name in ("hidden", "learning_rate", "adam_eps", "temperature"):
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

    def make(self, space: SearchSpace[Any], *, seed: int) -> ReinforceController:
        """Build the controller for a space."""
        from controllers.reinforce import ReinforceController

        return ReinforceController(space, self, seed=seed)
