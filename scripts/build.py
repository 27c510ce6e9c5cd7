"""Where a search is put together, for the commands and for Python users.

config = dataclasses.replace(quickstart(), child=MyConfig(), seed=1)
with build_search(config, Path("runs/mine"), data=my_image_data) as run:
    run.search.run()
    answer = derive_answer(run)
network = load_derived(Path("runs/mine"))
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
import torch
import yaml

from controllers import CONTROLLERS
from controllers.base import ControllerConfig
from enas.atomic_file import write_atomically
from enas.checkpoint import load_checkpoint, save_checkpoint
from enas.collapse import CollapseMonitor, advise
from enas.configs import CostName, require
from enas.costs import CostMeter, make_meter
from enas.datasets import load_data
from enas.datasets.data import Data
from enas.derive import Candidate, rank_candidates
from enas.draw import drawing_array
from enas.errors import CheckpointError, SearchFailed
from enas.export import Answer, save_answer
from enas.metrics import ACCURACY, METRICS, Metric
from enas.pareto import make_front, read_measured, save_front, worth_measuring
from enas.pareto_picture import save_front_picture
from enas.paths import PATHS
from enas.position import Position
from enas.processor import prepare_processor
from enas.ranking.monitor import RankMonitor, draw_sample
from enas.rewards import limit_excess, make_reward
from enas.search import Search
from enas.seeding import derive_seed
from enas.shared_weights import SharedWeights
from enas.spaces.base import SearchSpace
from enas.tracking import ARCHITECTURES, ArchitectureRow, Tracker, initial_state
from enas.trainers import MixtureTrainer, PathTrainer, Trainer
from enas.types import Controller, GradientController, IntArray, State, TrainingLearner
from envs.vector import SharedWeightVectorEnv
from scripts.configuration import CONFIG_FILE, forbidden_changes, to_yaml
from scripts.folders import check_folder, claim_folder, locked
from scripts.search_config import SearchConfig
from scripts.weights import make_weights, warm_start


@dataclass(frozen=True, kw_only=True)
class Run:
    """A search put together; a context manager that closes its files.

    Attributes:
        search: the alternation; `search.run()` goes to its end.
        meter: of the objective's costs; None where it needs none.
        resumed: whether it goes on from a checkpoint.
        fresh_tensors: names of the network's tensors that a warm start leaves fresh, since they fit this run's data only.
        files: what is open as long as the run is: the tracker's files, the folder's lock.
    """

    config: SearchConfig
    folder: Path
    data: Data
    shared: SharedWeights
    controller: Controller
    tracker: Tracker
    search: Search
    meter: CostMeter | None
    resumed: bool
    fresh_tensors: Sequence[str]
    files: ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.files.close()


def build_search(
    config: SearchConfig,
    folder: Path,
    *,
    data: Data | None = None,
    on_step: Callable[[Search], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Put a search together in a run folder, going on from its checkpoint if it holds one.

    Args:
        config: everything; `config.child` may be any space's, also a user's own.
        folder: of the run: absent or empty, or, to go on with a run, the one that `config.resume` names, with the same settings
            but for epochs and device.
        data: images of a user's own; None loads `config.data`.
        on_step: told the search after each environment step, for progress bars.
        should_stop: asked after each environment step; the search then saves and raises `Stopped`.

    Raises: ValueError for settings that do not fit each other or the data.
    """
    check_folder(config, folder)
    prepare_processor(threads=config.threads, device=config.device, precision=config.precision)
    images = data or load_data(config.data, data_dir=config.data_dir, text=config.text, **asdict(config.split))
    shared, controller = make_weights(config, images), _make_controller(config)
    _check_retraining(config, images, shared)
    fresh_tensors = warm_start(config, folder, shared)
    text = to_yaml(config, threads=torch.get_num_threads())
    settings = yaml.safe_load(text)
    with ExitStack() as stack:
        state = _enter_folder(config, folder, text, settings, stack)
        start = state["tracker"] if state else initial_state()
        tracker = stack.enter_context(Tracker(folder, start=start))

        def save(state: State) -> None:
            save_checkpoint(folder, {**state, "settings": settings})

        meter = make_meter(shared, config.objective)
        metric = METRICS[images.metric]
        search = _make_search(config, shared, controller, meter, metric, tracker, save, on_step, should_stop)
        if state is not None:
            search.load_state_dict(state)
        else:
            tracker.layout(absent=_absent_tags(config, shared.space, metric))
        if config.resume is not None:
            write_atomically(folder / CONFIG_FILE, text)
        return Run(
            config=config,
            folder=folder,
            data=images,
            shared=shared,
            controller=controller,
            tracker=tracker,
            search=search,
            meter=meter,
            resumed=state is not None,
            fresh_tensors=fresh_tensors,
            files=stack.pop_all(),
        )


def _make_controller(config: SearchConfig) -> Controller:
    settings = getattr(config.controller, config.strategy)
    assert isinstance(settings, CONTROLLERS[config.strategy])
    return settings.make(config.child.make_space(), seed=derive_seed(config.seed, "controller"))


def _check_retraining(config: SearchConfig, images: Data, shared: SharedWeights) -> None:
    """Refuse settings of the training at the end, before hours of search that would end in this message. Raises ValueError."""
    config.retrain.require_examples(num_train=len(images.train), num_valid=len(images.valid), unit=images.unit)
    config.retrain.require_paths(has_drop_path=shared.child.has_drop_path)


def _enter_folder(config: SearchConfig, folder: Path, text: str, settings: Mapping[str, Any], stack: ExitStack) -> State | None:
    """Claim a new run's folder or lock an old one's; return the state to go on from, None for a search that begins."""
    if config.resume is not None:
        return _resume(config, folder, settings, stack)
    claim_folder(folder, text)
    stack.enter_context(locked(folder, flag="--run-dir"))
    return None


def _absent_tags(config: SearchConfig, space: SearchSpace[Any], metric: Metric) -> set[str]:
    """Return the tags of TensorBoard's charts that a search will never write."""
    absent = set() if config.ranking.table is not None else {"ranking/tau"}
    absent |= {f"controller/cost_{name}" for name in get_args(CostName) if name not in config.objective.costs}
    if not any(decision.kind == "skip" for decision in space.decisions):
        absent |= {"collapse/skip_share", "collapse/skip_target"}
    others = (name for name in METRICS if name not in ("accuracy", metric.name))
    absent |= {f"{phase}/{name}" for name in others for phase in ("shared", "controller")}
    return absent


def _resume(config: SearchConfig, folder: Path, settings: Mapping[str, Any], stack: ExitStack) -> State | None:
    """Lock a run's folder; return the state that it goes on from, None before its first checkpoint.

    Raises: ValueError or CheckpointError where the checkpoint is not this run's, before anything is cut back to it.
    """
    stack.enter_context(locked(folder, flag="--resume"))
    state = load_checkpoint(folder)
    if state is None:
        return None
    if not {"settings", "position", "parts", "tracker"} <= set(state):
        raise CheckpointError(f"{folder}: expected the checkpoint of a search, got one with {', '.join(map(str, state))}")
    for path, old, new in forbidden_changes(state["settings"], settings):
        raise ValueError(f"{folder / CONFIG_FILE}: expected {path} {old} as in the run's checkpoint, got {new}")
    done = state["position"]["epoch"]
    require(config.epochs >= done, "--epochs", f"at least {done}, the epochs already completed", config.epochs)
    return state


def _make_search(
    config: SearchConfig,
    shared: SharedWeights,
    controller: Controller,
    meter: CostMeter | None,
    metric: Metric,
    tracker: Tracker,
    save: Callable[[State], None],
    on_step: Callable[[Search], None],
    should_stop: Callable[[], bool],
) -> Search:
    def tell(_: Position) -> None:
        on_step(search)

    reward = make_reward(config.reward, config.objective)
    search = Search(
        space=shared.space,
        trainer=_make_trainer(config, shared, controller),
        controller_envs=SharedWeightVectorEnv(
            shared, num_envs=config.schedule.architectures_per_step, reward=reward, phase="controller", meter=meter
        ),
        controller=controller,
        schedule=config.schedule,
        shared_steps=shared.steps_per_epoch,
        epochs=config.epochs,
        tracker=tracker,
        parts={"shared": shared} if meter is None else {"shared": shared, "costs": meter},
        save=save,
        on_step=tell,
        should_stop=should_stop,
        collapse=CollapseMonitor(
            shared.space, config.collapse, advice=_advice(config, controller), skip_target=_skip_target(config)
        ),
        monitor=_make_monitor(config, shared),
        costs=config.objective.costs,
        metric=metric,
    )
    return search


def _make_trainer(config: SearchConfig, shared: SharedWeights, controller: Controller) -> Trainer:
    if isinstance(controller, GradientController):
        return MixtureTrainer(shared, controller)
    paths = PATHS[config.paths](shared.space, controller, num_paths=config.shared.paths_per_step, seed=config.seed)
    return PathTrainer(shared, paths, learner=controller if isinstance(controller, TrainingLearner) else None)


def _advice(config: SearchConfig, controller: Controller) -> str:
    """Return what may help where the policy collapses."""
    settings: ControllerConfig = getattr(config.controller, config.strategy)
    names = settings.settles_by(config.child.make_space())
    flags = [f"--controller.{config.strategy}.{name.replace('_', '-')}" for name in names]
    learns_in_training = isinstance(controller, TrainingLearner) and controller.learns_in_training
    learns_from_rewards = not (learns_in_training or isinstance(controller, GradientController))
    return advise(flags, batch_norm=config.shared.batch_norm if learns_from_rewards else None)


def _skip_target(config: SearchConfig) -> float | None:
    """Return the rate at which the skip penalty wants skip connections drawn; None where there is no penalty.

    The authors apply their target t to the sigmoid of logits -q and q, which are drawn with sigmoid(2q): t^2 / (t^2 + (1 - t)^2).
    """
    settings = config.controller.enas
    if config.strategy != "enas" or not settings.skip_weight:
        return None
    target = settings.skip_target
    return target if settings.skip_target_on == "sampled" else target**2 / (target**2 + (1 - target) ** 2)


def _make_monitor(config: SearchConfig, shared: SharedWeights) -> Callable[[int, bool], Mapping[str, float]]:
    if config.ranking.table is None:
        return lambda _, __: {}
    return RankMonitor(shared, draw_sample(shared.space, config.ranking), config.ranking)


def derive_answer(run: Run) -> Answer:
    """Measure the candidates on the whole validation set and write the best one's files.

    With an objective, what may be on the Pareto front is among the candidates, and the front is written, too.

    Raises: SearchFailed where none can be measured.
    """
    objective, tokens = run.config.objective, run.controller.candidates(run.config.schedule.candidates)
    if run.meter is not None:
        tokens = _with_front(run, run.meter, tokens)
    reward = make_reward(run.config.reward, objective)
    candidates = rank_candidates(run.shared, tokens, reward=reward, meter=run.meter, limits=objective.limits)
    _record_candidates(run, candidates)
    if candidates[0].failure is not None:
        raise SearchFailed(f"no candidate could be measured: {candidates[0].failure}")
    answer = save_answer(run.folder, run.shared, candidates[0], data=run.data)
    told = "of the validation set" if answer.metric == ACCURACY else f"{answer.metric.name} on the validation set"
    title = f"the answer: {answer.metric.text(answer.valid)} {told} with shared weights"
    drawing = drawing_array(run.shared.space.graph(answer.architecture), title=title)
    step = run.search.position.num_architectures + len(candidates)
    run.tracker.image("architecture/answer", drawing, step=step)
    if run.meter is not None:
        front = make_front(candidates, objective, answer=answer.candidate.tokens, metric=answer.metric)
        save_front(front, run.folder, run.shared.space)
        measured = read_measured(run.folder / ARCHITECTURES, objective, answer.metric)
        run.tracker.image("search/pareto_front", save_front_picture(front, measured, run.folder), step=step)
    return answer


def _with_front(run: Run, meter: CostMeter, tokens: IntArray) -> IntArray:
    """Return candidates, int64 (K, D), with what the search measured that may be on the front.

    One of them is within the hard limits if any that was measured is; if none is, the smallest architecture of the space joins.
    """
    objective, space = run.config.objective, run.shared.space
    measured = read_measured(run.folder / ARCHITECTURES, objective, METRICS[run.data.metric])
    chosen = worth_measuring(measured, objective)
    tokens = _distinct([*tokens.tolist(), *chosen.tolist()])
    costs = meter.measure(tokens)
    if objective.limits and (limit_excess(costs, objective.limits) > 1).all():
        with contextlib.suppress(ValueError):  # a space may know of no smallest one
            tokens = _distinct([*tokens.tolist(), space.encode(space.smallest())])
    if "latency" in meter.names:
        meter.measure(tokens)
        run.search.checkpoint()  # for whoever goes on from here: latencies measured now would be others then
    return tokens


def _distinct(rows: Sequence[Sequence[int]]) -> IntArray:
    return np.array(list(dict.fromkeys(map(tuple, rows))), dtype=np.int64)


def _record_candidates(run: Run, candidates: list[Candidate]) -> None:
    first, metric = run.search.position.num_architectures, METRICS[run.data.metric]
    step = first + len(candidates)
    run.tracker.architectures(
        ArchitectureRow(
            index=first + offset,
            epoch=run.search.position.epoch,
            phase="derive",
            step=step,
            tokens=candidate.tokens,
            reward=candidate.reward,
            accuracy=candidate.valid_accuracy,
            failure=candidate.failure,
            costs=candidate.costs,
            told={} if metric == ACCURACY else {metric.name: candidate.valid(metric)},
        )
        for offset, candidate in enumerate(candidates)
    )
    known = [candidate for candidate in candidates if candidate.failure is None]
    if known:  # the first candidate is the answer
        losses, accuracies = ([getattr(one, f"valid_{name}") for one in known] for name in ("loss", "accuracy"))
        mean = metric.of(accuracy=sum(accuracies) / len(known), loss=sum(losses) / len(known))
        metrics = {"derive/best": known[0].valid(metric), "derive/mean": mean}
        run.tracker.scalars(metrics, step=step)
