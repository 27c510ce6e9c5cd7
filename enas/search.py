"""The alternation of ENAS (Pham et al. 2018, section 2.2): epochs of shared-weight training, then of controller updates.

Or two stages (single-path one-shot, Guo et al. 2020, section 3.4): all training first, then a search over frozen weights.

Written against protocols: the environments are Gymnasium vector environments (a shared-weight child, a table, anything that
answers architectures with rewards), the controller any strategy. One loop position is one environment step; a checkpoint may be
taken after any of them, and a resumed search writes what an undisturbed one would have written. What may go wrong on the way (an
architecture that fails, a disk that is full, a request to stop) does not lose what is there.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from enas.checkpoint import NOT_SAVED, SAVED, saved_unless_refused
from enas.collapse import CollapseMonitor, choice_entropy, measure_proposals
from enas.configs import CollapseConfig, Phase, ScheduleConfig
from enas.draw import drawing_array
from enas.errors import SearchFailed, Stopped
from enas.failures import LIMITS, Failure, describe, failures
from enas.metrics import ACCURACY, Metric
from enas.position import Position
from enas.spaces.base import SearchSpace
from enas.system import memory_metrics
from enas.tracking import ArchitectureRow, Tracker
from enas.trainers import Stateful, Trainer
from enas.types import Controller, FloatArray, IntArray, SearchEnv, State

FETCH_EVERY = 10
"""Training steps after which what they gave is fetched from the device, so that none waits for it; it is also fetched before
metrics are written, before a checkpoint and where the phase ends. A search that failed says so at most as many steps later."""
LOG_EVERY = 50
"""Environment steps of a phase after which its metrics are written; they are also written where the phase ends."""
NUM_PICTURES = 20
"""How often in a search the policy's choices and a drawing go to TensorBoard."""


class Search:
    """One search under way.

    Args:
        space: names the decisions, draws architectures.
        trainer: trains the shared weights, `shared_steps` times an epoch.
        controller_envs: N slots; stepped `schedule.controller_steps` times an epoch in phase `controller`.
        controller: proposes architectures and learns from their rewards.
        schedule: see `ScheduleConfig`.
        shared_steps: training steps of an epoch.
        epochs: of the whole search.
        tracker: where measurements are written.
        parts: further owners of state by name, such as the shared weights behind the environments.
        save: writes a checkpoint; called every `schedule.checkpoint_minutes` and at the end.
        on_step: told the position after each environment step.
        should_stop: asked after each environment step; `run` then writes a checkpoint and raises `Stopped`.
        collapse: looks at the latest proposals; None for one with default settings.
        monitor: told, at the end of each epoch that trains and at the start where none does, how many epochs are complete and
            whether nothing trains the weights from now on; returns metrics by tag, moves nothing of the search.
        costs: names of what the controller's environments tell of an architecture's cost, to be recorded.
        metric: how results on the data are told; another one than the accuracy is recorded beside it.
    """

    def __init__(
        self,
        *,
        space: SearchSpace[Any],
        trainer: Trainer,
        controller_envs: SearchEnv,
        controller: Controller,
        schedule: ScheduleConfig,
        shared_steps: int,
        epochs: int,
        tracker: Tracker,
        parts: Mapping[str, Stateful],
        save: Callable[[State], None],
        on_step: Callable[[Position], None],
        should_stop: Callable[[], bool] = lambda: False,
        collapse: CollapseMonitor | None = None,
        monitor: Callable[[int, bool], Mapping[str, float]] = lambda _, __: {},
        costs: Sequence[str] = (),
        metric: Metric = ACCURACY,
    ) -> None:
        self.space = space
        self.controller = controller
        self.schedule = schedule
        self.shared_steps = shared_steps
        self.epochs = epochs
        self.tracker = tracker
        self.position = Position()
        self.trainer = trainer
        self.controller_envs = controller_envs
        self._parts: dict[str, Stateful] = {"controller": controller, **trainer.parts, **parts}
        self._save = save
        self._on_step = on_step
        self._should_stop = should_stop
        self.collapse = collapse or CollapseMonitor(space, CollapseConfig())
        self._monitor = monitor
        self._costs = tuple(costs)
        self._metric = metric
        self._window: dict[str, list[float]] = {}  # measurements since the last log; for perplexities losses, in nats
        self._proposed: list[list[int]] = []  # tokens proposed in this epoch's controller phase
        self._last_save = self._last_log = time.monotonic()

    def run(self) -> None:
        """Search until `epochs` epochs are complete; write a checkpoint at the end.

        Raises: Stopped where it was asked to; SearchFailed where too many architectures failed one after another.
        """
        if not (self.schedule.trains_in(0) or self.position.num_architectures):
            self._ask_monitor(0)  # about another run's weights, before the first step
        while self.position.epoch < self.epochs:
            self._shared_phase()
            self._controller_phase()
            self._end_epoch()
        self.checkpoint()

    def _shared_phase(self) -> None:
        if not self.schedule.trains_in(self.position.epoch):
            return
        learns = self.schedule.measures_in(self.position.epoch)
        while self.position.shared_steps < self.shared_steps:
            self.position.num_architectures += self.trainer.step(progress=self._learning_progress(), learns=learns)
            self.position.shared_steps += 1
            self._after_step("shared", self.position.shared_steps, self.shared_steps)

    def _take_in_training(self) -> None:
        """Fetch what the latest training steps gave, and write it down step by step; does nothing where all is fetched."""
        steps = self.trainer.fetch()
        first = self.position.num_architectures - sum(len(trained.failed) for trained in steps)
        for trained in steps:
            self._collect("shared/loss", [trained.loss])
            self._collect("shared/accuracy", trained.accuracy)
            self._collect_losses("shared", [trained.loss])
            self._collect("shared/grad_norm", [trained.grad_norm])
            self._collect("shared/lr", [trained.learning_rate])
            for name, value in trained.metrics.items():
                self._collect(f"controller/{name}", [value])
            self._record("shared", first, trained.tokens, trained.rewards, trained.accuracy, trained.failed, costs={}, told={})
            first += len(trained.failed)

    def _learning_progress(self) -> float:
        """Return the share of the training steps in which a strategy may learn that are done, in [0, 1); 0 in warm-up."""
        epoch = self.position.epoch
        learns = [self.schedule.trains_in(index) and self.schedule.measures_in(index) for index in range(self.epochs)]
        if not learns[epoch]:
            return 0.0
        return (sum(learns[:epoch]) + self.position.shared_steps / self.shared_steps) / sum(learns)

    def _controller_phase(self) -> None:
        if not self.schedule.measures_in(self.position.epoch):
            return
        envs = self.controller_envs
        envs.reset(options={"phase": "controller"})
        while self.position.controller_steps < self.schedule.controller_steps:
            rollout = self.controller.propose(envs.num_envs)
            _, rewards, _, _, infos = envs.step(rollout.tokens)
            metrics = self.controller.update(rollout, rewards)
            self._collect("controller/reward", rewards)
            for name, value in metrics.items():
                self._collect(f"controller/{name}", [value])
            self._proposed += rollout.tokens.tolist()
            self.collapse.add(rollout.tokens)
            self.position.num_measured += len(rewards)
            best = float(np.max(rewards))
            self.position.best_reward = best if self.position.best_reward is None else max(best, self.position.best_reward)
            accuracies = infos["final_info"]["accuracy"]
            losses = infos["final_info"].get("loss", rewards)  # a table has no losses
            failed = failures(losses, accuracies)
            self._collect_losses("controller", losses)
            costs = {name: infos["final_info"][name] for name in self._costs}
            for name, values in costs.items():
                self._collect(f"controller/cost_{name}", values)
            told = self._told(accuracies, losses)
            first = self.position.num_architectures
            self.position.num_architectures += len(rewards)
            self._record("controller", first, rollout.tokens, rewards, accuracies, failed, costs=costs, told=told)
            self.position.controller_steps += 1
            self._after_step("controller", self.position.controller_steps, self.schedule.controller_steps)

    def _record(
        self,
        phase: Phase,
        first: int,
        tokens: IntArray,
        rewards: FloatArray,
        accuracies: FloatArray,
        failed: Sequence[Failure | None],
        *,
        costs: Mapping[str, FloatArray],
        told: Mapping[str, FloatArray],
    ) -> None:
        """Write down the architectures that a step ran, and count what failed; a mixture, which has no tokens, is none.

        Args: first: architectures run before the step.
        """
        rows = zip(tokens.tolist(), rewards.tolist(), accuracies[: len(tokens)].tolist(), failed[: len(tokens)], strict=True)
        self.tracker.architectures(
            ArchitectureRow(
                index=first + offset,
                epoch=self.position.epoch,
                phase=phase,
                step=first + len(failed),
                tokens=row,
                reward=reward,
                accuracy=accuracy,
                failure=failure,
                costs={name: float(values[offset]) for name, values in costs.items()},
                told={name: float(values[offset]) for name, values in told.items()},
            )
            for offset, (row, reward, accuracy, failure) in enumerate(rows)
        )
        self._count_failures(phase, tokens, failed)

    def _count_failures(self, phase: Phase, tokens: IntArray, failed: Sequence[Failure | None]) -> None:
        """Count what failed; raise SearchFailed where it is the last that may. Args: tokens: none of a mixture."""
        self.position.num_failed += sum(failure is not None for failure in failed)
        rows = list(tokens) or [None]
        outcomes = list(zip(rows, failed, strict=True))
        if phase == "shared":  # the paths of a step fail together: one that fails takes the step with it
            outcomes = [next((outcome for outcome in outcomes if outcome[1] is not None), outcomes[0])]
        in_a_row = self.position.failed_in_a_row[phase]
        for row, failure in outcomes:
            if failure is None:
                in_a_row.clear()
                continue
            in_a_row[failure] = in_a_row.get(failure, 0) + 1
            if in_a_row[failure] >= LIMITS[failure]:
                what = "training steps" if phase == "shared" else "measurements"
                name = f"{self.space.name} mixture" if row is None else describe(self.space, self.space.decode(row))
                raise SearchFailed(f"{in_a_row[failure]} {what} in a row failed, the last with {failure}: {name}")

    def _after_step(self, phase: Phase, done: int, total: int) -> None:
        is_logged = done % LOG_EVERY == 0 or done == total
        if is_logged or done % FETCH_EVERY == 0:
            self._take_in_training()
        if is_logged:
            self._log(phase)
        self._on_step(self.position)
        if self._should_stop():
            saved = self.checkpoint()
            raise Stopped(f"stopped in epoch {self.position.epoch + 1} of {self.epochs}, {SAVED if saved else NOT_SAVED}")
        if time.monotonic() - self._last_save >= 60 * self.schedule.checkpoint_minutes:
            self.checkpoint()

    def _collect(self, tag: str, values: Any) -> None:
        """Take in values for the next log; of failed architectures only the finite ones, so that they spoil no mean."""
        self._window.setdefault(tag, []).extend(float(value) for value in values if np.isfinite(value))

    def _collect_losses(self, phase: Phase, losses: Any) -> None:
        """Take in losses, nats, for the phase's perplexity, where results are told by it.

        In phase `shared` they are what the steps descend: penalties that regularise the network are in them.
        """
        if self._metric != ACCURACY:
            self._collect(f"{phase}/{self._metric.name}", losses)

    def _told(self, accuracies: FloatArray, losses: FloatArray) -> dict[str, FloatArray]:
        """Return the metric of each architecture, (N,) by its name; nothing where that is the accuracy."""
        if self._metric == ACCURACY:
            return {}
        pairs = zip(accuracies.tolist(), losses.tolist(), strict=True)
        return {self._metric.name: np.array([self._metric.of(accuracy=accuracy, loss=loss) for accuracy, loss in pairs])}

    def _mean(self, tag: str) -> float:
        """Return the mean of what was collected, at least one value; of perplexities the one of the mean loss."""
        mean = float(np.mean(self._window[tag]))
        is_loss = self._metric != ACCURACY and tag.endswith(f"/{self._metric.name}")
        return self._metric.of(accuracy=mean, loss=mean) if is_loss else mean

    def _log(self, phase: Phase) -> None:
        """Write the means of what was collected since the last log."""
        metrics = {tag: self._mean(tag) for tag, values in self._window.items() if values}
        seconds, self._last_log = time.monotonic() - self._last_log, time.monotonic()
        if phase == "controller":
            rewards = self._window["controller/reward"]
            metrics["controller/reward_best"] = max(rewards)
            metrics["time/architectures_per_s"] = len(rewards) / seconds
            metrics |= self._exploration_metrics() | self.collapse.metrics()
            self._warn(self.collapse.new_warning())
        else:
            metrics["time/shared_steps_per_s"] = len(self._window["shared/lr"]) / seconds
        self._window = {}
        metrics["search/failed"] = float(self.position.num_failed)
        self.tracker.scalars({**metrics, **memory_metrics()}, step=self.position.num_architectures)
        self.tracker.flush()

    def _warn(self, text: str | None) -> None:
        if text is not None:
            self.tracker.text("collapse/warning", text, step=self.position.num_architectures)
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _exploration_metrics(self) -> dict[str, float]:
        proposed = np.array(self._proposed)
        measured = measure_proposals(self.space, proposed)
        metrics = {
            "search/unique_fraction": measured.unique_fraction,
            "search/best_so_far": self.position.best_reward or 0.0,
            "search/choice_entropy": float(np.mean([choice_entropy(column) for column in proposed.T])),
        }
        if measured.skip_share is not None:
            metrics["controller/skip_rate"] = measured.skip_share
        return metrics

    def _end_epoch(self) -> None:
        every = max(1, self.epochs // NUM_PICTURES)
        if self._proposed and (self.position.epoch % every == 0 or self.position.epoch == self.epochs - 1):
            self._draw_policy()
        self._proposed = []
        if self.schedule.trains_in(self.position.epoch):  # else the weights are as they were
            self._ask_monitor(self.position.epoch + 1)
        self.position.epoch += 1
        self.position.shared_steps = self.position.controller_steps = 0

    def _ask_monitor(self, epoch: int) -> None:
        """Write what the monitor says after so many epochs."""
        start = time.monotonic()
        metrics = self._monitor(epoch, not self.schedule.trains_in(epoch))
        self._last_log += time.monotonic() - start  # it does not count as the next phase's time
        if metrics:
            self.tracker.scalars(metrics, step=self.position.num_architectures)

    def _draw_policy(self) -> None:
        """Show how often each choice was proposed in this epoch, and the architecture of the most frequent choices."""
        proposed, step = np.array(self._proposed), self.position.num_architectures
        frequencies = [
            np.bincount(proposed[:, column], minlength=len(decision.choices)) / len(proposed)
            for column, decision in enumerate(self.space.decisions)
        ]
        names = [decision.name for decision in self.space.decisions]
        self.tracker.decision_probabilities(
            names, [decision.choices for decision in self.space.decisions], frequencies, step=step
        )
        modal = [int(frequency.argmax()) for frequency in frequencies]
        graph = self.space.graph(self.space.decode(modal))
        title = f"most frequent choices, epoch {self.position.epoch + 1}"
        self.tracker.image("architecture/most_frequent", drawing_array(graph, title=title), step=step)

    def checkpoint(self) -> bool:
        """Write everything that the search needs to go on; where the disk refuses, warn and go on with the old checkpoint.

        Returns: whether it was written.
        Raises: SearchFailed where the latest training steps were too many failures.
        """
        self.tracker.flush()
        saved = saved_unless_refused(lambda: self._save(self.state_dict()))
        self._last_save = time.monotonic()
        return saved

    def state_dict(self) -> State:
        """Return all state: position, collected metrics, every part's state, file positions. Raises as `checkpoint` does."""
        self._take_in_training()
        return {
            "position": asdict(self.position),
            "window": {tag: list(values) for tag, values in self._window.items()},
            "proposed": [list(row) for row in self._proposed],
            "collapse": self.collapse.state_dict(),
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "window_seconds": time.monotonic() - self._last_log,
            "tracker": dict(self.tracker.state()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; the tracker is built from its own part of the state."""
        self.position = Position(**state["position"])
        self._window = {tag: list(values) for tag, values in state["window"].items()}
        self._proposed = [list(row) for row in state["proposed"]]
        if "collapse" in state:  # checkpoints of before there were alarms go on with an empty window
            self.collapse.load_state_dict(state["collapse"])
        self._last_log = time.monotonic() - state["window_seconds"]
        for name, part in self._parts.items():
            part.load_state_dict(state["parts"][name])

    @property
    def num_steps(self) -> int:
        """Environment steps of the whole search."""
        return self._steps_of(self.epochs)

    @property
    def steps_done(self) -> int:
        """Environment steps completed."""
        return self._steps_of(self.position.epoch) + self.position.shared_steps + self.position.controller_steps

    def _steps_of(self, epochs: int) -> int:
        """Return how many environment steps the first epochs have."""
        training, measuring = (sum(map(is_in, range(epochs))) for is_in in (self.schedule.trains_in, self.schedule.measures_in))
        return training * self.shared_steps + measuring * self.schedule.controller_steps
