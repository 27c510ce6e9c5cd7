"""Where a search stands."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Position:
    """Where a search stands; saved in every checkpoint.

    Attributes:
        epoch: epochs completed.
        shared_steps, controller_steps: environment steps completed in the epoch under way.
        num_architectures: architectures run so far, trained or measured; a mixture counts as one; the x axis of all metrics.
        num_measured: architectures measured for rewards so far, the budget that strategies are compared on.
        num_failed: architectures that failed so far, in training or when measured (see `enas.failures`); of the latest training
            steps that is not known until they are fetched, as they are before a checkpoint.
        failed_in_a_row: of each phase and kind of failure, how many training steps or measured architectures failed since one of
            the phase went well; that measuring works does not make a training sound.
        best_reward: the highest reward so far; None before the first.
    """

    epoch: int = 0
    shared_steps: int = 0
    controller_steps: int = 0
    num_architectures: int = 0
    num_measured: int = 0
    num_failed: int = 0
    failed_in_a_row: dict[str, dict[str, int]] = field(default_factory=lambda: {"shared": {}, "controller": {}})
    best_reward: float | None = None
