"""What every cell of NAS-Bench-201 reaches when trained alone (Dong and Yang 2020; NATS-Bench, Dong et al. 2021), as a table.

A table answers in microseconds what a training answers in hours: strategies and shared-weight scores can be held against it.
CIFAR-10's validation accuracy comes from training on 25,000 images, its test accuracy from training on all 50,000, as in the
benchmark. Columns, as `.npz` keys or in the header of a CSV file (all numbers are means over seeds):

    DATA_valid, DATA_test            percent, after 200 epochs; DATA is cifar10, cifar100, imagenet16
    e12_DATA_valid, e12_DATA_test    percent, after a training of 12 epochs (its own schedule, not a glimpse into the long one)
    cifar10valid_train_s             seconds of 200 epochs on CIFAR-10's 25,000 images; DATA_train_s of the other data sets
    params_m, flops_m                millions, of the network for CIFAR-10
    ops, codes                       .npz: names (K,), and an index into them for each cell and edge, (R, 6)
    cell                             CSV: |nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|

A file may lack cells and columns: that is an error only where one is asked for. Columns of other names are not read. Not
covered: curves over epochs, single seeds, latency.
"""

from __future__ import annotations

import csv
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from enas.spaces.nasbench201 import EDGES, OPERATIONS, NasBench201Space
from enas.types import FloatArray, IntArray

Split = Literal["valid", "test"]
Epochs = Literal[12, 200]

NUM_CELLS = len(OPERATIONS) ** len(EDGES)
"""Cells of the whole space."""
FULL_EPOCHS = 200
"""Epochs that the seconds of a table's file are of."""

_PERCENT = re.compile(r"(e12_)?(?P<data>[a-z0-9]+)_(valid|test)")
_POSITIVE = re.compile(r"[a-z0-9]+_train_s|params_m|flops_m")
_PLACES = len(OPERATIONS) ** np.arange(len(EDGES))[::-1]  # a cell's tokens are the digits of its number
_READ_ERRORS = (OSError, ValueError, EOFError, KeyError, MemoryError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)

_Column = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkTable:
    """Accuracy, training time and size of R cells.

    Attributes:
        operations: what the codes count, in the order of the space's tokens.
        codes: uint8 (R, 6): a cell's operation on each edge, edges in the order of `enas.spaces.nasbench201.EDGES`.
        columns: float32 (R,), by the names that the module's docstring lists, in the units of the file.
        source: what errors call the table.

    Raises: ValueError for shapes that do not fit, duplicate cells and numbers out of range.
    """

    operations: ClassVar[tuple[str, ...]] = OPERATIONS
    codes: npt.NDArray[np.uint8]
    columns: Mapping[str, _Column]
    source: str = "table"
    _rows: npt.NDArray[np.int32] = field(init=False, repr=False)  # of each cell of the space its row, or -1

    def __post_init__(self) -> None:
        """Copy and check the arrays; nothing can change them afterwards."""
        codes = _checked_codes(self.codes, num_operations=len(OPERATIONS)).astype(np.uint8)
        numbers = codes @ _PLACES
        rows = np.full(NUM_CELLS, -1, dtype=np.int32)
        rows[numbers] = np.arange(len(codes))
        repeated = np.flatnonzero(rows[numbers] != np.arange(len(codes)))
        if repeated.size:
            raise ValueError(f"expected each cell once, got {_text(codes[repeated[0]])} more than once")
        columns = {name: _checked_column(name, values, num_rows=len(codes)) for name, values in self.columns.items()}
        for array in (codes, rows, *columns.values()):
            array.setflags(write=False)
        for name, value in (("codes", codes), ("columns", columns), ("_rows", rows)):
            object.__setattr__(self, name, value)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets that the table has accuracies of, sorted."""
        matches = [_PERCENT.fullmatch(name) for name in self.columns]
        return tuple(sorted({match["data"] for match in matches if match}))

    def rows_of(self, tokens: IntArray) -> IntArray:
        """Return where cells stand in the table.

        Args: tokens: integers (N, 6), tokens of the space `nasbench201`.
        Returns: rows, int64 (N,).
        Raises: ValueError for anything that is not a cell, or not a cell of this table.
        """
        values = _checked_codes(tokens, num_operations=len(OPERATIONS))
        rows: IntArray = self._rows[values.astype(np.int64) @ _PLACES].astype(np.int64)
        absent = np.flatnonzero(rows < 0)
        if absent.size:
            raise ValueError(f"{self.source}: expected one of its {len(self.codes)} cells, got {_text(values[absent[0]])}")
        return rows

    def accuracy(self, data: str, split: Split, *, epochs: Epochs = 200) -> FloatArray:
        """Return each cell's accuracy, fraction in [0, 1], (R,).

        Args:
            data: one of `datasets`.
            split: `valid`, or `test`, which must not be used to choose.
            epochs: 12 or 200, the training's length.

        Raises: ValueError naming what the table lacks.
        """
        self._check_data(data)
        if split not in get_args(Split):
            raise ValueError(f"split: expected one of {', '.join(get_args(Split))}, got {split!r}")
        if epochs not in get_args(Epochs):
            raise ValueError(f"epochs: expected 12 or 200, got {epochs!r}")
        return self._column(f"{'e12_' if epochs == 12 else ''}{data}_{split}") / 100

    def train_seconds(self, data: str, *, epochs: int = 12) -> FloatArray:
        """Return the simulated cost of training each cell for some epochs, seconds (R,): the share of 200 epochs' time."""
        self._check_data(data)
        if epochs < 1:
            raise ValueError(f"epochs: expected at least 1, got {epochs}")
        return self._column("cifar10valid_train_s" if data == "cifar10" else f"{data}_train_s") * epochs / FULL_EPOCHS

    @property
    def parameters(self) -> FloatArray:
        """Parameters of each cell's network for CIFAR-10, (R,), as exact as the file."""
        return np.rint(self._column("params_m") * 1e6)

    @property
    def flops(self) -> FloatArray:
        """Multiply-adds of each cell's network for one CIFAR-10 image, (R,), as exact as the file."""
        return np.rint(self._column("flops_m") * 1e6)

    def _check_data(self, data: str) -> None:
        if data not in self.datasets:
            raise ValueError(f"data: expected one of {', '.join(self.datasets) or 'none'} as in {self.source}, got {data!r}")

    def _column(self, name: str) -> FloatArray:
        if name not in self.columns:
            raise ValueError(f"{self.source}: expected the column {name}, got only {', '.join(self.columns) or 'none'}")
        return self.columns[name].astype(np.float64)


def load_table(path: Path) -> BenchmarkTable:
    """Read a table from an `.npz` or a `.csv` file; see the module's docstring for what is in it.

    Raises: ValueError naming the file, what was expected and what came.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a table, .npz or .csv, found {'a folder' if path.is_dir() else 'nothing there'}")
    readers: dict[str, Callable[[Path], _Contents]] = {".csv": _read_csv, ".npz": _read_npz}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: expected a table, .npz or .csv, got {path.suffix or 'no ending'}")
    try:
        contents = readers[path.suffix.lower()](path)
        return BenchmarkTable(codes=contents.codes, columns=contents.columns, source=str(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class _Contents(NamedTuple):
    """What a file holds, the codes in the space's order of operations."""

    codes: npt.NDArray[Any]
    columns: dict[str, npt.NDArray[Any]]


def _is_read(name: str) -> bool:
    return bool(_PERCENT.fullmatch(name) or _POSITIVE.fullmatch(name))


def _read_npz(path: Path) -> _Contents:
    try:
        if not zipfile.is_zipfile(path):  # np.load would take it for a pickle or a single array
            raise ValueError("no zip archive")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # np.load leaves its own open on errors
            arrays = {name: archive[name] for name in archive.files if name in ("ops", "codes") or _is_read(name)}
    except _READ_ERRORS as error:
        raise ValueError(f"expected an .npz file of plain arrays, got one that cannot be read ({error})") from error
    missing = [name for name in ("ops", "codes") if name not in arrays]
    if missing:
        raise ValueError(f"expected the keys ops and codes, got no {missing[0]}")
    names = arrays.pop("ops")
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(f"ops: expected names of shape (K,), got {names.dtype} of shape {names.shape}")
    operations = names.tolist()
    unknown = [name for name in operations if name not in OPERATIONS]
    if unknown:
        raise ValueError(f"ops: expected operations out of {', '.join(OPERATIONS)}, got {unknown[0]!r}")
    if len(set(operations)) != len(operations):
        raise ValueError(f"ops: expected each operation once, got {', '.join(operations)}")
    codes = _checked_codes(arrays.pop("codes"), num_operations=len(operations))
    tokens = np.array([OPERATIONS.index(name) for name in operations], dtype=np.uint8)
    return _Contents(tokens[codes], arrays)


def _read_csv(path: Path) -> _Contents:
    space = NasBench201Space()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"expected comma-separated values, got a file that cannot be read ({error})") from error
    while lines and not "".join(lines[-1]).strip():
        lines.pop()  # blank, as editors and spreadsheets leave them at the end
    header = [name.strip() for name in lines[0]] if lines else []
    if "cell" not in header or len(set(header)) != len(header):
        raise ValueError(f"expected a header with distinct names and a column 'cell', got {', '.join(header) or 'nothing'}")
    if len(lines) == 1:
        raise ValueError("expected a line for each cell, got a header and no cells")
    wanted = [name for name in header if _is_read(name)]
    cells, values = [], []
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise ValueError(f"line {number}: expected {len(header)} values, got {len(line)}")
        row = dict(zip(header, line, strict=True))
        try:
            cells.append(space.encode(space.from_text(row["cell"])))
            values.append([_number(name, row[name]) for name in wanted])
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    table = np.array(values, dtype=np.float64).reshape(len(cells), len(wanted))
    return _Contents(np.array(cells, dtype=np.uint8), dict(zip(wanted, table.T, strict=True)))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number, got {text!r}") from None


def _checked_codes(given: Any, *, num_operations: int) -> npt.NDArray[Any]:
    """Return cells as integers (N, 6), each below the number of operations. Raises ValueError for anything else."""
    codes = np.asarray(given)
    if codes.ndim != 2 or codes.shape[1] != len(EDGES) or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"cells: expected whole numbers of shape (N, {len(EDGES)}), got {codes.dtype} of shape {codes.shape}")
    outside = np.flatnonzero(((codes < 0) | (codes >= num_operations)).any(axis=1))
    if outside.size:
        raise ValueError(f"cells: expected numbers in 0..{num_operations - 1}, got {codes[outside[0]].tolist()}")
    return codes


def _checked_column(name: str, given: Any, *, num_rows: int) -> _Column:
    """Return a copy of a column, float32 (R,). Raises ValueError for shapes, names and numbers that cannot be meant."""
    values = np.asarray(given)
    if not _is_read(name):
        raise ValueError(f"{name}: expected a column such as cifar10_valid, e12_cifar10_test, cifar10valid_train_s or params_m")
    if values.dtype.kind not in "fiu" or values.shape != (num_rows,):
        raise ValueError(f"{name}: expected numbers of shape ({num_rows},), got {values.dtype} of shape {values.shape}")
    is_percent = _PERCENT.fullmatch(name) is not None
    with np.errstate(over="ignore"):  # what overflows is refused below
        numbers = values.astype(np.float32)
    sound = np.isfinite(numbers) & (values >= 0) & ((values <= 100) | (not is_percent))
    if not sound.all():
        expected = "percent in [0, 100]" if is_percent else "float32 numbers from 0"
        raise ValueError(f"{name}: expected {expected}, got {values[~sound][0]}")
    return numbers


def _text(codes: npt.NDArray[Any]) -> str:
    space = NasBench201Space()
    return space.to_text(space.decode(codes.astype(np.int64)))
