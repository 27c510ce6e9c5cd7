"""How well do shared weights rank? The scores of runs over random architectures, against a benchmark's table or training alone.

The same uniform architectures are scored under each run's shared weights, on validation images; the runs are only read. Called
again with the same arguments it goes on where it stopped. The truth may be a result on the test split: then what comes out says
how good a proxy was, and is nothing to choose architectures, runs or settings by.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from enas.configs import DeviceName, require
from enas.datasets import check_source
from enas.metrics import Metric
from enas.types import FloatArray, IntArray
from scripts.configuration import as_yaml, differences, load_other, program, read_config
from scripts.ending import run_command
from scripts.folders import LOCK_FILE, check_writable, claimed_results
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest

RETRAIN = "retrain"
RANK_FILE = "rank.yaml"
_SECTION = "rank"
_MAY_CHANGE = ("out", "score", "data_dir", "device", "threads")
"""Settings that a second call for the same folder may have otherwise."""


@dataclass(frozen=True, kw_only=True)
class RankCommand:
    """Measure how well shared weights rank architectures; giving the same command again goes on where a stopped one was.

    With a truth of the test split, the outcome must not be used to choose between architectures, runs or settings.
    """

    runs: tuple[Path, ...]
    """Folders of searches of the same space; their newest checkpoints' weights are measured, and nothing is written there."""
    truth: str
    """A benchmark's table (.npz or .csv, runs of nasbench201 only), or retrain: train each architecture from scratch."""
    out: Path
    """Folder of the results."""
    data: str | None = None
    """Data set of the table, cifar10 unless given; retrain trains and measures on each run's own."""
    split: Literal["valid", "test"] = "test"
    """Which accuracy of the table after 200 epochs is the truth; retrain measures on test."""
    num_architectures: int = 300
    """Uniform architectures, all different, the same for every run."""
    seed: int = 0
    """The architectures, the trainings and the intervals follow from it."""
    images: int | None = None
    """Validation images that scores are measured on, a fixed random part, or sequences of a text, the first; None for all of the
    run's."""
    score: Literal["accuracy", "loss"] | None = None
    """What ranks (lower losses are better); both are measured. None for what results are told by: accuracy of images, and loss of
    texts, which ranks as their perplexity does."""
    retrain_epochs: int | None = None
    """Epochs of the trainings from scratch; None for the run's own number. The rest of the recipe is the run's."""
    data_dir: Path | None = None
    """Folder that data sets are found in, or downloaded to; None for the runs'."""
    device: DeviceName | None = None
    """Where networks run; None for the runs'."""
    threads: int | None = None
    """CPU threads; None for the runs' number, on which the bits depend."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require(len(self.runs) >= 1, "--runs", "at least one folder", "none")
        require(self.num_architectures >= 2, "--num-architectures", "at least 2", self.num_architectures)
        require(self.seed >= 0, "--seed", "at least 0", self.seed)
        for name in ("images", "retrain_epochs", "threads"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"--{name.replace('_', '-')}", "at least 1", value)
        if self.truth == RETRAIN:
            require(self.data is None, "--data", "none with --truth retrain, which takes each run's own data", self.data)
            require(self.split == "test", "--split", "test with --truth retrain", self.split)
        else:
            require(self.retrain_epochs is None, "--retrain-epochs", "none with a table", self.retrain_epochs)

    @property
    def table_data(self) -> str | None:
        """Data set of the table; None where there is no table."""
        return None if self.truth == RETRAIN else self.data or "cifar10"

    def score_of(self, metric: Metric) -> Literal["accuracy", "loss"]:
        """Return what ranks where results are told by a metric."""
        return self.score or ("accuracy" if metric.name == "accuracy" else "loss")

    def truth_in_words(self, metric: Metric) -> str:
        """Return what the truth is where results are told by a metric."""
        if self.truth == RETRAIN:
            return f"test {metric.name} when trained from scratch"
        return f"{self.table_data} {self.split} accuracy in the table"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command line that was found to be in order.

    Attributes:
        configs: of the runs, with the command's device, data folder, threads and epochs of retraining.
        tokens: int64 (n, D), the architectures.
        truths: (n,), fractions; None where they are to be trained.
    """

    command: RankCommand
    configs: Sequence[SearchConfig]
    tokens: IntArray
    truths: FloatArray | None


def main() -> None:
    """Run the command line in `sys.argv`."""
    run_command(lambda stop: run_rank(parse_rank(sys.argv[1:]), Console(stderr=True), stop))


def parse_rank(arguments: Sequence[str]) -> Request:
    """Read a command line, the runs' settings and the table, without PyTorch. Raises ValueError naming the mistake."""
    import numpy as np

    from enas.spaces.sampling import sample_distinct

    command = tyro.cli(RankCommand, prog=program(), args=list(arguments), config=(tyro.conf.FlagConversionOff,))
    configs = [_config_of(command, run) for run in command.runs]
    space = configs[0].child.make_space()
    for run, config in zip(command.runs, configs, strict=True):
        same = config.child.make_space().decisions == space.decisions
        require(same, "--runs", f"runs of the same space as {command.runs[0]}", run)
    _check_out(command)
    try:
        tokens = sample_distinct(space, command.num_architectures, np.random.default_rng(command.seed))
    except ValueError as error:
        raise ValueError(f"--num-architectures: {error}") from error
    truths = None if command.truth == RETRAIN else _table_truths(command, tokens)
    return Request(command=command, configs=configs, tokens=tokens, truths=truths)


def _config_of(command: RankCommand, run: Path) -> SearchConfig:
    """Return a run's settings with the command's changes. Raises ValueError."""
    config = load_other("--runs", run)
    epochs = config.retrain.epochs if command.retrain_epochs is None else command.retrain_epochs
    config = replace(
        config,
        data_dir=config.data_dir if command.data_dir is None else command.data_dir,
        device=config.device if command.device is None else command.device,
        threads=config.threads if command.threads is None else command.threads,
        retrain=replace(config.retrain, epochs=epochs),
    )
    sizes = check_source(config.data, config.data_dir, text=config.text, **asdict(config.split))
    fits = command.images is None or command.images <= sizes.valid
    require(fits, "--images", f"at most {sizes.valid}, the validation {sizes.unit} of {run}", command.images)
    if command.truth == RETRAIN:
        require(epochs >= 1, "--retrain-epochs", f"at least 1, since {run} trains nothing from scratch itself", epochs)
        config.retrain.require_examples(num_train=sizes.train, num_valid=sizes.valid, unit=sizes.unit)
    else:
        expected = f"{RETRAIN}, since there are tables of nasbench201 only, not of {config.space}"
        require(config.space == "nasbench201", "--truth", expected, command.truth)
    return config


def _table_truths(command: RankCommand, tokens: IntArray) -> FloatArray:
    from enas.tables import load_table

    assert command.table_data is not None
    try:
        table = load_table(Path(command.truth))
        rows = table.rows_of(tokens)
    except ValueError as error:
        raise ValueError(f"--truth: {error}") from error
    try:
        return table.accuracy(command.table_data, command.split)[rows]
    except ValueError as error:
        raise ValueError(f"--data, --split: {error}") from error


def _check_out(command: RankCommand) -> None:
    """Raise ValueError where the results can't go: a file, a run's folder, or the folder of something else."""
    out, file = command.out, command.out / RANK_FILE
    if any(out.resolve().is_relative_to(run.resolve()) for run in command.runs):
        raise ValueError(f"--out: expected a folder outside the runs', which are only read, got {out}")
    nearest = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    require(nearest.is_dir(), "--out", "a folder", out)
    check_writable(nearest, flag="--out", folder=out)
    if file.exists():
        for path, old, new in differences(read_config(file).get(_SECTION) or {}, _saved(command)):
            raise ValueError(f"--out: expected {path} {old}, as in {file}, got {new}; choose another folder")
    elif out.is_dir() and any(path.name != LOCK_FILE for path in out.iterdir()):
        raise ValueError(f"--out: expected a new folder or that of the same command, got {out}, which holds other files")


def _saved(command: RankCommand) -> dict[str, Any]:
    values = {name: value for name, value in asdict(command).items() if name not in _MAY_CHANGE}
    return {**values, "runs": [str(run) for run in command.runs], "data": command.table_data}


def run_rank(request: Request, console: Console, stop: StopRequest | None = None) -> None:
    """Score, find the truth, print the table, write the files.

    Raises: Stopped where `stop` asks for it; TrainingFailed where no architecture can be trained.
    """
    from scripts.rank_runs import print_runs, rank_runs, write_results

    stop = stop or StopRequest()
    command = request.command
    text = as_yaml({_SECTION: _saved(command)})
    with claimed_results(command.out, flag="--out", check=lambda: _check_out(command), file=RANK_FILE, text=text):
        stop.hint = "go on with the same command"
        with stop.deferred():
            runs = rank_runs(request, console, stop)
        write_results(request.command, runs)
        print_runs(request.command, runs)


if __name__ == "__main__":
    main()
