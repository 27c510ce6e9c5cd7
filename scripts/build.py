"""Where a search is put together, for the commands and for Python users.

config = dataclasses.replace(quickstart(), child=MyConfig(), seed=1)
with build_search(config, Path("runs/mine"), data=my_image_data) as run:
    run.search.run()
    answer = derive_answer(run)
network = load_derived(Path("runs/mine"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from controllers import CONTROLLERS
from enas.assemble import make_shared_weights
from enas.checkpoint import load_checkpoint, save_checkpoint, write_atomically
from enas.configs import require
from enas.datasets import load_data
from enas.datasets.images import ImageData
from enas.derive import Candidate, rank_candidates
from enas.draw import drawing_array
from enas.export import Answer, save_answer
from enas.paths import PATHS
from enas.rewards import REWARDS
from enas.search import Position, Search
from enas.seeding import derive_seed
from enas.shared_weights import SharedWeights
from enas.tracking import ArchitectureRow, Tracker, initial_state
from enas.types import Controller, State
from envs.vector import SharedWeightVectorEnv
from scripts.configuration import CONFIG_FILE, to_yaml
from scripts.folders import check_folder, claim_folder
from scripts.presets import SearchConfig


@dataclass(frozen=True, kw_only=True)
class Run:
    """A search put together; a context manager that closes its files.

    Attributes:
        search: the alternation; `search.run()` goes to its end.
        resumed: whether it goes on from a checkpoint.
    """

    config: SearchConfig
    folder: Path
    data: ImageData
    shared: SharedWeights
    controller: Controller
    tracker: Tracker
    search: Search
    resumed: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.tracker.close()


def build_search(
    config: SearchConfig,
    folder: Path,
    *,
    data: ImageData | None = None,
    on_step: Callable[[Search], None] = lambda _: None,
) -> Run:
    """Put a search together in a run folder, going on from its checkpoint if it holds one.

    Args:
        config: everything; `config.child` may be any space's, also a user's own.
        folder: of the run: absent or empty, or, to go on with a run, the one that `config.resume` names, with the same settings
            but for epochs and device.
        data: images of a user's own; None loads `config.data`.
        on_step: told the search after each environment step, for progress bars.

    Raises: ValueError for settings that do not fit each other or the data.
    """
    check_folder(config, folder)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    images = data or load_data(
        config.data, data_dir=config.data_dir, num_train=config.split.num_train, num_valid=config.split.num_valid
    )
    _check_retraining(config, images)
    shared = make_shared_weights(
        config.child,
        images,
        shared=config.shared,
        augment=config.augment,
        seed=config.seed,
        device=config.device,
        precision=config.precision,
    )
    settings = getattr(config.controller, config.strategy)
    assert isinstance(settings, CONTROLLERS[config.strategy])
    controller = settings.make(shared.space, seed=derive_seed(config.seed, "controller"))
    state = _open_folder(config, folder)
    start = state["tracker"] if state else initial_state()
    tracker = Tracker(folder, start=start)
    search = _make_search(config, folder, shared, controller, tracker, on_step)
    if state is not None:
        search.load_state_dict(state)
    else:
        tracker.layout()
    return Run(
        config=config,
        folder=folder,
        data=images,
        shared=shared,
        controller=controller,
        tracker=tracker,
        search=search,
        resumed=state is not None,
    )


def _open_folder(config: SearchConfig, folder: Path) -> State | None:
    """Claim a new run's folder, or return the state that a resumed run goes on from (None before its first checkpoint)."""
    text = to_yaml(config, threads=torch.get_num_threads())
    if config.resume is None:
        claim_folder(folder, text)
        return None
    state = load_checkpoint(folder)
    done = 0 if state is None else state["position"]["epoch"]
    require(config.epochs >= done, "--epochs", f"at least {done}, the epochs already completed", config.epochs)
    write_atomically(folder / CONFIG_FILE, text)
    return state


def _check_retraining(config: SearchConfig, images: ImageData) -> None:
    """Raise ValueError for minibatches larger than the data, before hours of search that would end in that message."""
    count = len(images.train) + (len(images.valid) if config.retrain.use_valid else 0)
    fits = config.retrain.epochs == 0 or config.retrain.batch_size <= count
    require(fits, "retrain.batch_size", f"at most {count}, the number of images", config.retrain.batch_size)


def _make_search(
    config: SearchConfig,
    folder: Path,
    shared: SharedWeights,
    controller: Controller,
    tracker: Tracker,
    on_step: Callable[[Search], None],
) -> Search:
    def tell(_: Position) -> None:
        on_step(search)

    reward = REWARDS[config.reward]
    search = Search(
        space=shared.space,
        shared_envs=SharedWeightVectorEnv(shared, num_envs=config.shared.paths_per_step, phase="shared"),
        controller_envs=SharedWeightVectorEnv(
            shared, num_envs=config.schedule.architectures_per_step, reward=reward, phase="controller"
        ),
        controller=controller,
        paths=PATHS[config.paths](shared.space, controller, seed=config.seed),
        schedule=config.schedule,
        shared_steps=shared.steps_per_epoch,
        epochs=config.epochs,
        tracker=tracker,
        parts={"shared": shared},
        save=lambda state: save_checkpoint(folder, state),
        on_step=tell,
    )
    return search


def derive_answer(run: Run) -> Answer:
    """Measure the candidates on the whole validation set and write the best one's files."""
    candidates = rank_candidates(run.shared, run.controller.candidates(run.config.schedule.candidates))
    _record_candidates(run, candidates)
    answer = save_answer(run.folder, run.shared, candidates[0], mean=run.data.mean, std=run.data.std)
    title = f"the answer: {answer.candidate.valid_accuracy:.2%} of the validation set with shared weights"
    drawing = drawing_array(run.shared.space.graph(answer.architecture), title=title)
    run.tracker.image("architecture/answer", drawing, step=run.search.position.num_architectures + len(candidates))
    return answer


def _record_candidates(run: Run, candidates: list[Candidate]) -> None:
    first = run.search.position.num_architectures
    step = first + len(candidates)
    run.tracker.architectures(
        ArchitectureRow(
            index=first + offset,
            epoch=run.search.position.epoch,
            phase="derive",
            step=step,
            tokens=candidate.tokens,
            reward=candidate.valid_accuracy,
            accuracy=candidate.valid_accuracy,
        )
        for offset, candidate in enumerate(candidates)
    )
    accuracies = [candidate.valid_accuracy for candidate in candidates]
    metrics = {"derive/best": max(accuracies), "derive/mean": sum(accuracies) / len(accuracies)}
    run.tracker.scalars(metrics, step=step)
