"""Turn the official NATS-Bench files (topology space) into a table that the tabular environment reads.

Dong et al. 2021, arXiv 2009.00437: NATS-tss-v1_0-3ffb9, in its three forms: `-simple`, a folder with a file a cell; `-full`, the
same with the networks' weights, which are read past; the single file NATS-tss-v1_0-3ffb9.pickle.pbz2, which needs most memory and
time. The numbers are those of the authors' API (`get_more_info(..., is_random=False)`, `get_cost_info`): means over seeds.

A pickle is a program. This reader lets it build numbers, texts and collections, puts inert stand-ins where weights and arrays
are, and refuses anything else: no callable of NumPy or PyTorch is within its reach. Not covered: a file made to take memory or
time without end, the size space (NATS-sss), the older NAS-Bench-201-*.pth, trainings of other lengths than 12 and 200 epochs.
"""

from __future__ import annotations

import bz2
import io
import pickle
import pickletools
import re
import reprlib
import struct
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from enas.atomic_file import write_atomically
from enas.console import ProgressBar
from enas.spaces.nasbench201 import OPERATIONS, NasBench201Space
from enas.tables import BenchmarkTable
from scripts.configuration import program
from scripts.ending import run_command
from scripts.folders import check_writable

TRAININGS = {"200": "", "12": "e12_"}
"""The authors' name of a training (its epochs) -> what our columns of it begin with."""
ACCURACIES = {
    "cifar10_valid": ("cifar10-valid", "x-valid"),
    "cifar10_test": ("cifar10", "ori-test"),
    "cifar100_valid": ("cifar100", "x-valid"),
    "cifar100_test": ("cifar100", "x-test"),
    "imagenet16_valid": ("ImageNet16-120", "x-valid"),
    "imagenet16_test": ("ImageNet16-120", "x-test"),
}
"""Column -> the authors' names of what was trained on and what was measured on (their `remap_dataset_set_names`)."""
SECONDS = {"cifar10valid_train_s": "cifar10-valid", "cifar100_train_s": "cifar100", "imagenet16_train_s": "ImageNet16-120"}
"""Column -> the authors' name of what was trained on, for 200 epochs."""
COSTS = {"params_m": "params", "flops_m": "flop"}
"""Column -> the authors' name, in millions, of the network for CIFAR-10."""

_CELL_FILE = re.compile(r"[0-9]{1,6}\.pickle\.pbz2")
_NUMBER = re.compile(r"[<>|=]?[fiub][1248]")
_MAX_TUPLE_DEPTH = 10_000
"""Tuples in tuples beyond which a file is refused: Python hashes them, as keys, without a look at how much stack is left."""
_TUPLE_OPCODES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"}
_DAMAGE = (
    *(OSError, EOFError, MemoryError, RecursionError, ValueError, TypeError, LookupError, AttributeError, OverflowError),
    *(pickle.UnpicklingError, struct.error),
)
"""What reading a damaged file may raise: `pickle` promises no single exception."""


@dataclass(frozen=True, kw_only=True)
class ConvertCommand:
    """Turn the official NATS-Bench files (topology space) into a table for `enas/NasBench201Table-v0`."""

    source: Path
    """Folder NATS-tss-v1_0-3ffb9-simple or -full, unpacked, or the file NATS-tss-v1_0-3ffb9.pickle.pbz2."""
    out: Path
    """The .npz file to write; it must not exist."""


def main() -> None:
    """Run the command line in `sys.argv`."""
    run_command(lambda _: run_convert(parse_convert(sys.argv[1:])))


def parse_convert(arguments: Sequence[str]) -> ConvertCommand:
    """Read a command line and check its paths. Raises ValueError naming the flag."""
    command = tyro.cli(ConvertCommand, prog=program(), args=list(arguments), config=(tyro.conf.FlagConversionOff,))
    if not command.source.exists():
        raise ValueError(f"--source: expected a folder or a file of NATS-Bench, found nothing at {command.source}")
    if command.out.suffix != ".npz" or not command.out.parent.is_dir():
        raise ValueError(f"--out: expected an .npz file in a folder that exists, got {command.out}")
    _check_absent(command.out)
    check_writable(command.out.parent, flag="--out", folder=command.out)
    return command


def _check_absent(out: Path) -> None:
    if out.exists():
        raise ValueError(f"--out: expected a file that does not exist yet, got {out}")


def run_convert(command: ConvertCommand) -> None:
    """Convert, write the table, say what is in it."""
    table = convert(command.source)
    arrays: dict[str, Any] = {"ops": np.array(OPERATIONS), "codes": table.codes, **table.columns}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    _check_absent(command.out)  # reading took a while
    write_atomically(command.out, content.getvalue())
    print(f"{command.out}: {len(table.codes):,} cells; {', '.join(table.columns)}")


def convert(source: Path) -> BenchmarkTable:
    """Read all cells of a folder or a file, with a progress bar on standard error.

    Raises: ValueError naming the file, what was expected and what came.
    """
    codes: list[tuple[int, ...]] = []
    rows: list[dict[str, float]] = []
    num_cells, cells = _open_folder(source) if source.is_dir() else _open_file(source)
    with ProgressBar(Console(stderr=True), unit="cells") as progress:
        for name, index, results in cells:
            try:
                code, row = _read_cell(results, index)
                if rows and row.keys() != rows[0].keys():
                    differ = ", ".join(sorted(row.keys() ^ rows[0].keys()))
                    raise ValueError(f"expected the same numbers as of the first cell, but only one of the two has {differ}")
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            except (OverflowError, RecursionError) as error:
                raise ValueError(
                    f"{name}: expected the results of one cell, got values that cannot be meant ({error})"
                ) from error
            codes.append(code)
            rows.append(row)
            progress.show(len(rows), num_cells, text="reading")
    columns: dict[str, Any] = {column: np.array([row[column] for row in rows]) for column in rows[0]}
    try:
        return BenchmarkTable(codes=np.array(codes, dtype=np.uint8), columns=columns, source=str(source))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _open_folder(folder: Path) -> tuple[int, Iterator[tuple[str, int, Any]]]:
    """Return how many cells a folder holds, and of each the file's name, its number and its results."""
    files = sorted((file for file in folder.iterdir() if _CELL_FILE.fullmatch(file.name)), key=lambda file: _number(file))
    if not files:
        raise ValueError(f"{folder}: expected files such as 000000.pickle.pbz2, got none")
    return len(files), ((str(file), _number(file), read_pickle(file)) for file in files)


def _number(file: Path) -> int:
    return int(file.name.partition(".")[0])


def _open_file(file: Path) -> tuple[int, Iterator[tuple[str, int, Any]]]:
    """Return what `_open_folder` does, of the single file that holds all cells."""
    Console(stderr=True).print(f"unpacking {file}, which takes most of an hour ...", soft_wrap=True, highlight=False)
    content = read_pickle(file)
    cells = content.get("arch2infos") if isinstance(content, dict) else None
    if not isinstance(cells, dict) or not cells or not all(isinstance(index, int) for index in cells):
        raise ValueError(f"{file}: expected 'arch2infos' with the results of each cell, got {_kind(content)}")
    return len(cells), ((f"{file}, cell {index}", index, cells[index]) for index in sorted(cells))


class _Unread:
    """Stands in for everything of PyTorch (the weights in the full files) and for arrays, of which no number is needed."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _NumberType:
    """Stands in for `numpy.dtype`, which can be made to hold pointers: the type of one number, such as `f8`."""

    def __init__(self, code: str, *flags: object) -> None:
        self.code = self._checked(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order, second in what NumPy writes; the rest is of types that hold more than a number."""
        self.code = self._checked(f"{state[1]}{self.code[-2:]}")

    @staticmethod
    def _checked(code: str) -> str:
        if not _NUMBER.fullmatch(code):
            raise pickle.UnpicklingError(f"it names the type {code}, which is not that of a number")
        return code


class _Number(float):
    """Stands in for `numpy.core.multiarray.scalar`, which reads a number's bytes."""

    def __new__(cls, kind: _NumberType, content: bytes) -> _Number:
        if not isinstance(kind, _NumberType):  # anything else may have got a `code` that is not checked
            raise pickle.UnpicklingError("it has a number without a type")
        (value,) = np.frombuffer(content, dtype=kind.code)
        return super().__new__(cls, value)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a number")


# Each of our own has a `__setstate__`: without one, a pickle may set attributes of the class.
_ADMITTED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _NumberType,
    ("numpy", "ndarray"): _Unread,
    ("numpy._core.multiarray", "_reconstruct"): _Unread,
    ("numpy._core.multiarray", "scalar"): _Number,
}


class _Reader(pickle.Unpickler):
    """Reads numbers, texts and collections, and nothing that could do anything."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name, if it is admitted. Raises: UnpicklingError naming it otherwise."""
        if module.partition(".")[0] == "torch":
            return _Unread
        module = module.replace("numpy.core.", "numpy._core.")  # where NumPy 1, which wrote the files, had it
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no data")
        return _ADMITTED[module, name]


def read_pickle(file: Path) -> Any:
    """Read a bz2-compressed pickle that holds data only.

    Raises: ValueError naming the file, and what the pickle asks for besides data.
    """
    try:
        with bz2.open(file) as opened:
            content = opened.read()
        _check_depth(content)
        return _Reader(io.BytesIO(content)).load()
    except _DAMAGE as error:
        raise ValueError(
            f"{file}: expected a bz2-compressed pickle of plain data, got one that cannot be read: {error}"
        ) from error


def _check_depth(content: bytes) -> None:
    """Follow a pickle's stack without building anything. Raises: UnpicklingError where tuples hold tuples too deep."""
    if sum(content.count(byte) for byte in (b"(", b"\x85", b"\x86", b"\x87")) <= _MAX_TUPLE_DEPTH:
        return  # each opcode of a tuple has one of these bytes; the rest takes longer than to unpack and load a file
    depths: list[int] = []  # of what is on the stack; a collection's is that of its deepest item
    marks: list[int] = []
    memo: dict[Any, int] = {}
    for opcode, argument, _ in pickletools.genops(content):
        name, before = opcode.name, opcode.stack_before
        if name == "MARK":
            marks.append(len(depths))
        elif name == "POP" and marks and marks[-1] == len(depths):
            marks.pop()
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            depths.append(memo[argument])
        elif name in {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            memo[len(memo) if name == "MEMOIZE" else argument] = depths[-1]
        else:
            has_mark = pickletools.markobject in before
            start = marks.pop() - before.index(pickletools.markobject) if has_mark else len(depths) - len(before)
            depth = max(depths[start:], default=0) + (name in _TUPLE_OPCODES)
            if depth > _MAX_TUPLE_DEPTH:
                raise pickle.UnpicklingError(f"it has more than {_MAX_TUPLE_DEPTH:,} tuples in one another")
            depths[start:] = [depth] * len(opcode.stack_after)


def _read_cell(results: Any, index: int) -> tuple[tuple[int, ...], dict[str, float]]:
    """Return a cell's tokens and its numbers by column, from the authors' `ArchResults.state_dict` of each training.

    Raises: ValueError where the results are not laid out like that, or not of the cell that the benchmark gives this number.
    """
    space = NasBench201Space()
    row: dict[str, float] = {}
    try:
        cells = {state["arch_str"] for state in results.values()}
        for epochs, prefix in TRAININGS.items():
            if epochs in results:
                row |= _accuracies(results[epochs], epochs=int(epochs), prefix=prefix)
        if "200" in results:
            row |= _costs(results["200"])
    except KeyError as error:
        raise ValueError(f"expected the results of one cell, found no {error} in them") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(f"expected the results of one cell, got {_kind(results)} ({error})") from error
    if not row:
        raise ValueError(f"expected trainings of {' or '.join(TRAININGS)} epochs, got {_kind(results)}")
    expected = space.of_official_index(index)
    if cells != {space.to_text(expected)}:
        raise ValueError(f"expected cell {index}, {space.to_text(expected)}, got {', '.join(map(str, cells))}")
    return space.encode(expected), row


def _accuracies(state: Mapping[str, Any], *, epochs: int, prefix: str) -> dict[str, float]:
    """Return the accuracies after the last epoch, percent."""
    row = {}
    for column, (training, split) in ACCURACIES.items():
        trials = _trials(state, training)
        for trial in trials.values():
            if trial["epochs"] != epochs:
                raise ValueError(f"expected trainings of {epochs} epochs on {training}, got {trial['epochs']}")
        if trials:
            row[f"{prefix}{column}"] = _mean(trial["eval_acc1es"][f"{split}@{epochs - 1}"] for trial in trials.values())
    return row


def _costs(state: Mapping[str, Any]) -> dict[str, float]:
    """Return seconds of 200 epochs, and parameters and FLOPs in millions."""
    row = {}
    for column, training in SECONDS.items():
        times = [trial["train_times"] for trial in _trials(state, training).values()]
        if times and all(each is not None for each in times):
            row[column] = _mean(sum(each.values()) for each in times)
    trials = _trials(state, "cifar10-valid")
    for column, name in COSTS.items():
        values = {seed: float(trial[name]) for seed, trial in trials.items()}
        if len({f"{value:.5f}" for value in values.values()}) > 1:
            values = {888: values[888]}  # authors: `get_compute_costs` trusts this seed where a cell's seeds disagree
        if values:
            row[column] = _mean(values.values())
    return row


def _trials(state: Mapping[str, Any], training: str) -> dict[int, Any]:
    """Return the trainings on one data set by seed; none where the cell has none."""
    return {seed: state["all_results"][training, seed] for seed in state["dataset_seed"].get(training, ())}


def _mean(values: Iterable[Any]) -> float:
    numbers = [float(value) for value in values]
    return sum(numbers) / len(numbers)


def _kind(value: object) -> str:
    """Describe a value that is not what was expected."""
    if not isinstance(value, dict):
        return type(value).__name__
    return f"a dict with {', '.join(map(reprlib.repr, list(value)[:5])) or 'nothing'}"


if __name__ == "__main__":
    main()
