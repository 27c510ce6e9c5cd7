"""Train any architecture from scratch, at any width and depth, with n seeds, beside random ones.

The size of the network is printed first, beside the published one where the architecture is the authors', and for data sets whose
images are known before any are loaded or downloaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from enas.configs import DeviceName, Precision, RetrainConfig, require
from enas.data_configs import AugmentConfig, SplitConfig, TextConfig
from enas.datasets import find_looks
from enas.datasets.source import Looks
from enas.published import PUBLISHED
from enas.spaces.base import ChildConfig
from scripts.architectures import StoredArchitecture, not_understood, read_architecture
from scripts.configuration import as_yaml, check_data, filled, first_flag, parse_flags, read_config
from scripts.ending import run_command
from scripts.folders import locked
from scripts.presets import quickstart, rnn_small
from scripts.retrain_presets import RETRAIN_PRESETS, RetrainPreset
from scripts.stopping import StopRequest

RETRAIN_FILE = "retrain.yaml"
_NOT_SAVED = ("run_dir", "device", "count_only")
_SECTIONS = ("child", "retrain", "split", "text", "augment")


@dataclass(frozen=True, kw_only=True)
class RetrainCommand:
    """Train an architecture from scratch; giving the same command again goes on where a killed one stopped."""

    architecture: str
    """A published one (darts-rnn, darts-v1, darts-v2, enas-macro, enas-micro, enas-rnn), a run folder, a best_architecture.json,
    a text file, or the text itself: an authors' arc string, a list of tokens. ./NAME is a file or folder that is called like a
    published one."""
    run_dir: Path
    """Folder of the results."""
    preset: str | None = None
    """Complete recipe that the other flags change, its data set included: enas-macro-final, enas-micro-final,
    enas-ptb-final; None for the settings of the architecture's run, or quickstart's, or rnn-small's for a recurrent cell."""
    count_only: bool = False
    """Whether to stop once the size of the network is printed; needs no data where those of the data set are known, as those of
    cifar10 and of the Penn Treebank are."""
    space: str = "macro"
    """Search space of the architecture; only for a text, since the others tell."""
    data: str = "digits"
    """Data set: cifar10, cifar100, digits, fashion_mnist, mnist, svhn, topics, folder:DIR, npz:FILE, ptb:DIR or text:FILE."""
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
    """How many examples."""
    text: TextConfig = field(default_factory=TextConfig)
    """How a text is read."""
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
    """Return the command and the architecture it names.

    The preset's settings are the defaults, or those of the architecture's run folder, but for device.
    """
    text, space, name = (first_flag(flag, arguments) for flag in ("--architecture", "--space", "--preset"))
    preset = None if name is None else _find_preset(name)
    stored = read_architecture(text, space=space if preset is None else space or preset.space)
    if space is not None and space != stored.space:
        raise ValueError(f"--space: expected {stored.space}, which --architecture {text} is of, got {space}")
    default = _default(text, stored)
    if preset is not None:
        default = _over_preset(replace(default, preset=name), preset, has_run=stored.config is not None)
    command = parse_flags(RetrainCommand, default, arguments)
    if text is None:
        raise not_understood("nothing")
    require(command.retrain.epochs >= 1, "--retrain.epochs", "at least 1", command.retrain.epochs)
    stand_in, random = command.child.stand_in, command.retrain.random
    expected = f"0 with --child.cell {stand_in}, the same network for every architecture"
    require(stand_in is None or random == 0, "--retrain.random", expected, random)
    if not command.count_only:  # which needs no examples
        sizes = check_data(command)
        command.retrain.require_examples(num_train=sizes.train, num_valid=sizes.valid, unit=sizes.unit)
    return command, stored


def _find_preset(name: str) -> RetrainPreset:
    if name not in RETRAIN_PRESETS:
        raise ValueError(f"--preset: expected one of {', '.join(RETRAIN_PRESETS)}, got {name!r}")
    return RETRAIN_PRESETS[name]()


def _default(text: str | None, stored: StoredArchitecture) -> RetrainCommand:
    run = stored.config or (quickstart() if stored.child.reads == "images" else rnn_small())
    return RetrainCommand(
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
        text=run.text,
        augment=run.augment,
    )


def _over_preset(default: RetrainCommand, preset: RetrainPreset, *, has_run: bool) -> RetrainCommand:
    """Return a command with its preset's settings; seed and machine stay those of the architecture's run, where it has one.

    Raises: ValueError where the preset is for another space.
    """
    if preset.space != default.space:
        known = [name for name, make in RETRAIN_PRESETS.items() if make().space == default.space]
        expected = f"one for the architecture's space, {default.space} ({', '.join(known) or 'there is none'})"
        raise ValueError(f"--preset: expected {expected}, got {default.preset}, which is for {preset.space}")
    return replace(
        default,
        data=preset.data,
        threads=default.threads if has_run else None,  # quickstart's single thread is for its tiny images
        child=preset.child_for(default.child),
        retrain=preset.retrain,
        split=preset.split,
        text=preset.text,
        augment=preset.augment,
    )


def run_retrain(command: RetrainCommand, stored: StoredArchitecture, console: Console, stop: StopRequest | None = None) -> None:
    """Print the size, train, print the table and the verdict, keep each training's `result.json`.

    Raises: Stopped where `stop` asks for it.
    """
    stop = stop or StopRequest()
    architecture = stored.for_child(command.child)
    looks = find_looks(command.data, command.data_dir, text=command.text, **asdict(command.split))
    if looks is not None:
        print_size(command, architecture, looks)
        if command.count_only:
            return

    from enas.datasets import load_data
    from enas.devices import select_device
    from enas.processor import prepare_processor
    from enas.recipe import Recipe, train_all
    from scripts.finish import print_rows

    data = load_data(command.data, data_dir=command.data_dir, text=command.text, **asdict(command.split))
    if looks is None:
        print_size(command, architecture, Looks(data.input_shape, data.num_classes))
        if command.count_only:
            return
    prepare_processor(threads=command.threads, device=command.device, precision=command.precision)
    recipe = Recipe(
        child=command.child,
        data=data,
        retrain=command.retrain,
        augmentation=data.varied(command.augment),
        seed=command.seed,
        device=select_device(command.device),
        precision=command.precision,
    )
    recipe.training(architecture, 0)  # raises for a recipe that doesn't fit the data, before the folder is claimed
    with _claimed(command):
        stop.hint = "go on with the same command"
        name = command.child.stand_in or "architecture"
        with stop.deferred():
            rows = train_all(recipe, architecture, command.run_dir, console, name=name, should_stop=stop)
        print_rows(rows, subject=f"the {name}")


def print_size(command: RetrainCommand, architecture: Any, looks: Looks) -> None:
    """Print what the network costs and, for a published architecture, what was published and of which network.

    That may be another one: `--child` chooses width, depth and whose final network. Nothing was published of a network that is
    built in the architecture's place.
    """
    from enas.children.cost import measure_cost

    command.child.require_inputs(looks.kind, data=command.data)
    cost = measure_cost(command.child, architecture, **looks._asdict())
    auxiliary = f" (+ {cost.auxiliary:,} of the auxiliary head while training)" if cost.auxiliary else ""
    one = {"images": "image", "text": "token"}[command.child.reads]
    lines = [f"{cost.parameters:,} parameters{auxiliary}, {cost.flops:,} multiply-adds for one {one}"]
    if command.architecture in PUBLISHED and command.child.stand_in is None:
        published = PUBLISHED[command.architecture]
        parameters, results = (
            ", ".join(figure.in_words() for figure in figures) for figures in (published.parameters, published.test_results)
        )
        lines[0] += f"; published for {published.network}: {parameters}"
        lines += [f"published test {published.result} of {published.network}: {results}", published.note]
    Console().print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)


@contextmanager
def _claimed(command: RetrainCommand) -> Iterator[None]:
    """Make the results' folder, or check that it belongs to the same command, and hold its lock within the block."""
    from enas.atomic_file import write_atomically

    values: dict[str, Any] = {name: value for name, value in asdict(command).items() if name not in _NOT_SAVED}
    file, text = command.run_dir / RETRAIN_FILE, as_yaml(values)
    holds_others = command.run_dir.is_dir() and any(command.run_dir.iterdir())
    if _read_claim(file, command) != yaml.safe_load(text) if file.exists() else holds_others:
        raise ValueError(f"--run-dir: expected a new folder or that of the same command, got {command.run_dir}")
    try:
        command.run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--run-dir: expected a folder that can be made, got {command.run_dir}: {error}") from error
    with locked(command.run_dir, flag="--run-dir"):
        write_atomically(file, text)
        yield


def _read_claim(file: Path, command: RetrainCommand) -> dict[str, Any]:
    """Return the settings of a folder's command; those that an earlier version did not know yet have their default."""
    defaults = {name: asdict(type(getattr(command, name))()) for name in _SECTIONS}
    return filled(yaml.safe_load(as_yaml(defaults)), read_config(file))


if __name__ == "__main__":
    main()
