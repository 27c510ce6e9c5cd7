"""Train any architecture from scratch, at any width and depth, with n seeds, beside random ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from enas.configs import AugmentConfig, DeviceName, Precision, RetrainConfig, SplitConfig, require
from enas.datasets import check_source
from enas.spaces.base import ChildConfig
from scripts.architectures import StoredArchitecture, read_architecture
from scripts.configuration import as_yaml, first_flag, parse_flags, read_config
from scripts.ending import run_command
from scripts.folders import locked
from scripts.presets import quickstart
from scripts.stopping import StopRequest


@dataclass(frozen=True, kw_only=True)
class RetrainCommand:
    """Train an architecture from scratch; giving the same command again goes on where a killed one stopped."""

    architecture: str
    """A run folder, a best_architecture.json, a text file, or the text itself: an authors' arc string, a list of tokens."""
    run_dir: Path
    """Folder of the results."""
    space: str = "macro"
    """Search space of the architecture."""
    data: str = "digits"
    """Data set: cifar10, cifar100, digits, fashion_mnist, mnist, svhn, folder:DIR or npz:FILE."""
    data_dir: Path = Path("data")
    """Folder that data sets are found in, or downloaded to."""
    seed: int = 0
    """Everything random follows from it."""
    device: DeviceName = "auto"
    """Where networks run."""
    precision: Precision = "fp32"
    """Number format of forward passes; weights stay fp32."""
    threads: int | None = None
    """CPU threads; None for PyTorch's choice."""
    child: ChildConfig
    """Width and depth; a deeper macro network repeats each layer (see enas.spaces.macro.deepen)."""
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    """The recipe."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How many images."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training images."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        require(self.threads is None or self.threads >= 1, "threads", "at least 1", self.threads)


def main() -> None:
    """Run the command line in `sys.argv`."""
    run_command(lambda stop: run_retrain(*parse_retrain(sys.argv[1:]), Console(stderr=True), stop))


def parse_retrain(arguments: Sequence[str]) -> tuple[RetrainCommand, StoredArchitecture]:
    """Return the command and the architecture it names; the settings of its run folder are the defaults, but for device."""
    text = first_flag("--architecture", arguments)
    stored = read_architecture(text, space=first_flag("--space", arguments) or "macro")
    run = quickstart() if stored.config is None else stored.config
    default = RetrainCommand(
        architecture=text or "",
        run_dir=Path("runs/retrain"),
        space=stored.space,
        data=run.data,
        data_dir=run.data_dir,
        seed=run.seed,
        precision=run.precision,
        threads=run.threads,
        child=stored.child,
        retrain=run.retrain,
        split=run.split,
        augment=run.augment,
    )
    command = parse_flags(RetrainCommand, default, arguments)
    if text is None:
        raise ValueError("--architecture: expected a run folder, a file, an arc string or a list of tokens, got nothing")
    require(command.retrain.epochs >= 1, "--retrain.epochs", "at least 1", command.retrain.epochs)
    sizes = check_source(command.data, command.data_dir, **asdict(command.split))
    command.retrain.require_images(num_train=sizes.train, num_valid=sizes.valid)
    return command, stored


def run_retrain(command: RetrainCommand, stored: StoredArchitecture, console: Console, stop: StopRequest | None = None) -> None:
    """Train, print the table and the verdict, keep each training's `result.json`. Raises: Stopped where `stop` asks for it."""
    stop = stop or StopRequest()
    architecture = stored.for_child(command.child)
    import torch

    from enas.assemble import choose_augmentation
    from enas.children.cost import measure_cost
    from enas.datasets import load_data
    from enas.devices import select_device
    from enas.recipe import Recipe, train_all
    from scripts.finish import print_rows

    if command.threads is not None:
        torch.set_num_threads(command.threads)
    data = load_data(command.data, data_dir=command.data_dir, **asdict(command.split))
    cost = measure_cost(command.child, architecture, image_shape=data.image_shape, num_classes=data.num_classes)
    console.print(f"{cost.parameters:,} parameters, {cost.flops:,} multiply-adds for one image")
    recipe = Recipe(
        child=command.child,
        data=data,
        retrain=command.retrain,
        augmentation=choose_augmentation(data, command.augment),
        seed=command.seed,
        device=select_device(command.device),
        precision=command.precision,
    )
    recipe.training(architecture, 0)  # raises for a recipe that doesn't fit the data, before the folder is claimed
    with _claimed(command):
        stop.hint = "go on with the same command"
        with stop.deferred():
            rows = train_all(recipe, architecture, command.run_dir, console, name="architecture", should_stop=stop)
        print_rows(rows)


@contextmanager
def _claimed(command: RetrainCommand) -> Iterator[None]:
    """Make the results' folder, or check that it belongs to the same command, and hold its lock within the block."""
    from enas.atomic_file import write_atomically

    values: dict[str, Any] = {name: value for name, value in asdict(command).items() if name not in ("run_dir", "device")}
    file, text = command.run_dir / "retrain.yaml", as_yaml(values)
    holds_others = command.run_dir.is_dir() and any(command.run_dir.iterdir())
    if as_yaml(read_config(file)) != text if file.exists() else holds_others:
        raise ValueError(f"--run-dir: expected a new folder or that of the same command, got {command.run_dir}")
    try:
        command.run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--run-dir: expected a folder that can be made, got {command.run_dir}: {error}") from error
    with locked(command.run_dir, flag="--run-dir"):
        write_atomically(file, text)
        yield


if __name__ == "__main__":
    main()
