"""Averaged SGD with a non-monotone trigger, NT-AvSGD (Merity et al. 2018, algorithm 1, arXiv 1708.02182).

SGD with a constant learning rate ends up wandering around a minimum, to which the mean of the weights on its way lies closer.
Averaging starts once the validation loss has stopped falling, at whatever epoch that is (the condition is that of their code and
of `enas_lm/src/fixed.py`), and changes nothing of the training.
Running statistics of BatchNorm are averaged with the weights, which is not what the averaged weights would give on the training
data; texts' networks have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isnan

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from enas.types import State


def has_stopped_falling(losses: Sequence[float], *, window: int) -> bool:
    """Return whether the latest loss is above the lowest of those that at least `window` others lie between.

    NaN is infinite, so that a network that no longer can be measured counts as one that no longer gets better.

    Args:
        losses: of each epoch so far, in order.
        window: n of the algorithm, at least 1.
    """
    known = [inf if isnan(loss) else loss for loss in losses]
    older = known[: -window - 1]
    return bool(older) and known[-1] > min(older)


class WeightAverage:
    """The mean of a network's weights after each step since averaging started.

    Args:
        network: that is trained; left alone.
        window: see `has_stopped_falling`.
    """

    def __init__(self, network: nn.Module, *, window: int) -> None:
        self._network = network
        self._window = window
        self._model: AveragedModel | None = None  # until averaging starts

    @property
    def has_started(self) -> bool:
        """Whether steps are averaged from now on."""
        return self._model is not None

    @property
    def num_averaged(self) -> int:
        """Steps whose weights are in the mean."""
        return 0 if self._model is None else int(self._model.n_averaged)

    @property
    def network(self) -> nn.Module:
        """The network with the mean of the weights; before the first of them the network itself."""
        return self._network if self._model is None or not self.num_averaged else self._model.module

    def watch(self, losses: Sequence[float]) -> None:
        """Start averaging, unless it has been, if the validation losses of the epochs so far have stopped falling."""
        if self._model is None and has_stopped_falling(losses, window=self._window):
            self._model = self._start()

    def take_in(self, failed: Tensor) -> None:
        """Take in the weights after a step, if averaging has started; a failed one is left out.

        Args: failed: a boolean scalar; while averaging it is waited for, since PyTorch keeps its count on the CPU.
        """
        if self._model is not None and not failed:
            self._model.update_parameters(self._network)

    def _start(self) -> AveragedModel:
        return AveragedModel(self._network, use_buffers=True)

    def state_dict(self) -> State | None:
        """Return the mean and how many steps are in it; None before averaging starts."""
        return None if self._model is None else self._model.state_dict()

    def load_state_dict(self, state: State | None) -> None:
        """Restore what `state_dict` returned."""
        self._model = None if state is None else self._start()
        if self._model is not None and state is not None:
            self._model.load_state_dict(state)
