from __future__ import annotations

import csv
import io
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enas.spaces.nasbench201 import OPERATIONS, NasBench201Space
from enas.tables import BenchmarkTable, load_table

REAL = Path(__file__).parents[1] / "../shared/data/nasbench201.npz"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="the benchmark's table is not beside the repository")
SPACE = NasBench201Space()

CELLS = [[3, 3, 3, 3, 3, 3], [1, 1, 1, 1, 1, 1], [2, 0, 4, 1, 3, 0]]
COLUMNS = {
    "cifar10_valid": [91.5, 80.25, 50.0],
    "cifar10_test": [94.0, 85.0, 60.0],
    "e12_cifar10_valid": [75.0, 62.5, 20.0],
    "cifar10valid_train_s": [2000.0, 1000.0, 500.0],
    "cifar100_test": [73.0, 60.0, 20.0],
    "cifar100_train_s": [4000.0, 2000.0, 1000.0],
    "imagenet16_valid": [46.0, 30.0, 0.0],
    "params_m": [1.531546, 0.073306, 0.1],
    "flops_m": [220.11969, 7.78305, 20.0],
}


def arrays(*, cells: Any = CELLS, ops: Any = OPERATIONS, columns: Any = COLUMNS, **more: Any) -> dict[str, Any]:
    """Return what a file holds."""
    return {
        "ops": np.array(ops),
        "codes": np.array(cells, dtype=np.uint8),
        **{k: np.array(v) for k, v in columns.items()},
        **more,
    }


def npz_file(folder: Path, **content: Any) -> Path:
    file = folder / "table.npz"
    np.savez(file, **content)
    return file


def csv_file(folder: Path, *, cells: Any = CELLS, columns: Any = COLUMNS) -> Path:
    file = folder / "table.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["note", *columns, "cell"])
        for index, cell in enumerate(cells):
            values = [numbers[index] for numbers in columns.values()]
            writer.writerow(["by hand, twice", *values, SPACE.to_text(SPACE.decode(cell))])
    return file


@pytest.fixture(params=["npz", "csv"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> BenchmarkTable:
    """The small table, out of a file of either kind."""
    return load_table(npz_file(tmp_path, **arrays()) if request.param == "npz" else csv_file(tmp_path))


def full_codes(seed: int = 0) -> Any:
    """Return all cells in a random order, uint8 (15625, 6)."""
    codes = np.array(list(product(range(5), repeat=6)), dtype=np.uint8)
    return np.random.default_rng(seed).permutation(codes)


# What a table says.


def test_accuracies_are_fractions_and_costs_plain_numbers(table):
    assert table.operations == OPERATIONS
    assert table.datasets == ("cifar10", "cifar100", "imagenet16")
    assert table.accuracy("cifar10", "valid").tolist() == [0.915, 0.8025, 0.5]
    assert table.accuracy("cifar10", "test").tolist() == [0.94, 0.85, 0.6]
    assert table.accuracy("cifar10", "valid", epochs=12).tolist() == [0.75, 0.625, 0.2]
    assert table.accuracy("imagenet16", "valid", epochs=200).tolist() == [0.46, 0.3, 0.0]
    assert table.parameters.tolist() == [1_531_546, 73_306, 100_000]
    assert table.flops == pytest.approx([220_119_690, 7_783_050, 20_000_000], rel=1e-7)
    assert table.accuracy("cifar10", "valid").dtype == np.float64


def test_seconds_are_the_share_of_200_epochs_and_of_cifar10_those_of_half_the_images(table):
    assert table.train_seconds("cifar10") == pytest.approx([120, 60, 30])
    assert table.train_seconds("cifar10", epochs=200).tolist() == COLUMNS["cifar10valid_train_s"]
    assert table.train_seconds("cifar100", epochs=1) == pytest.approx([20, 10, 5])


def test_rows_are_found_for_tokens_in_any_order_and_number(table):
    tokens = np.array(CELLS)[[2, 0, 0, 1]]
    assert table.rows_of(tokens).tolist() == [2, 0, 0, 1]
    assert table.rows_of(tokens.astype(np.uint8)).dtype == np.int64
    assert table.rows_of(np.empty((0, 6), dtype=np.int64)).tolist() == []


def test_every_cell_of_the_space_is_found_in_its_row():
    codes = full_codes()
    table = BenchmarkTable(codes=codes, columns={})
    expected = {tuple(code): row for row, code in enumerate(codes.tolist())}
    tokens = full_codes(seed=1)
    assert table.rows_of(tokens).tolist() == [expected[tuple(cell)] for cell in tokens.tolist()]


def test_operations_in_another_order_name_the_same_cells(tmp_path):
    order = [4, 0, 3, 1, 2]
    given = arrays(ops=[OPERATIONS[index] for index in order], cells=[[order.index(op) for op in cell] for cell in CELLS])
    table = load_table(npz_file(tmp_path, **given))
    assert table.codes.tolist() == CELLS
    fewer = load_table(npz_file(tmp_path, **arrays(ops=["nor_conv_3x3"], cells=[[0] * 6], columns={})))
    assert fewer.codes.tolist() == [[3] * 6]


def test_arrays_are_copies_that_nothing_changes():
    codes, valid = np.array(CELLS, dtype=np.uint8), np.array([90.0, 80.0, 70.0], dtype=np.float32)
    table = BenchmarkTable(codes=codes, columns={"cifar10_valid": valid})
    codes[:], valid[:] = 0, 0
    assert table.codes.tolist() == CELLS
    assert table.accuracy("cifar10", "valid").tolist() == pytest.approx([0.9, 0.8, 0.7])
    for array in (table.codes, table.columns["cifar10_valid"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_full_table_of_three_data_sets_takes_at_most_ten_megabytes():
    codes = full_codes()
    names = [f"{prefix}{data}_{split}" for prefix in ("", "e12_") for data in ("a", "b", "c") for split in ("valid", "test")]
    costs = ["a_train_s", "b_train_s", "c_train_s", "params_m", "flops_m"]
    table = BenchmarkTable(codes=codes, columns={name: np.full(len(codes), 50.0) for name in [*names, *costs]})
    assert len(table.columns) == 17
    assert num_bytes(table) <= 10_000_000


def num_bytes(table: BenchmarkTable) -> int:
    held = [value for value in vars(table).values() if isinstance(value, np.ndarray)]
    return sum(array.nbytes for array in [*held, *table.columns.values()])


@needs_real
def test_real_table_has_the_published_best_cells_in_the_official_order():
    table = load_table(REAL)
    valid, test = table.accuracy("cifar10", "valid"), table.accuracy("cifar10", "test")
    assert (round(valid.max(), 6), int(valid.argmax())) == (0.916067, 6111)
    assert (round(test.max(), 6), int(test.argmax())) == (0.943733, 6111)
    assert (round(table.accuracy("cifar100", "test").max(), 6), table.accuracy("cifar100", "valid").argmax()) == (0.735133, 9930)
    cells = [SPACE.encode(SPACE.of_official_index(index)) for index in (0, 6111, 9930, 15_624)]
    assert table.rows_of(np.array(cells)).tolist() == [0, 6111, 9930, 15_624]
    assert (table.train_seconds("cifar10").min(), table.train_seconds("cifar10").max()) == pytest.approx(
        (32.53, 207.65), abs=0.01
    )
    assert num_bytes(table) <= 10_000_000


# What a table refuses.


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[0, 0, 0, 0, 0, 0]], r"expected one of its 3 cells, got \|none~0\|\+"),
        ([[3, 3, 3, 3, 3, 5]], r"expected numbers in 0\.\.4, got \[3, 3, 3, 3, 3, 5\]"),
        ([[3, 3, 3, 3, 3, -1]], r"expected numbers in 0\.\.4, got \[3, 3, 3, 3, 3, -1\]"),
        ([3, 3, 3, 3, 3, 3], r"expected whole numbers of shape \(N, 6\), got int64 of shape \(6,\)"),
        ([[3, 3, 3, 3, 3]], r"got int64 of shape \(1, 5\)"),
        ([[3.0] * 6], r"got float64"),
        ([[True] * 6], r"got bool"),
        (None, r"got object"),
    ],
)
def test_tokens_that_are_no_cell_of_the_table_are_refused(table, tokens, message):
    with pytest.raises(ValueError, match=message):
        table.rows_of(None if tokens is None else np.array(tokens))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda table: table.accuracy("imagenet", "valid"),
            "data: expected one of cifar10, cifar100, imagenet16 .*, got 'imagenet'",
        ),
        (lambda table: table.accuracy("cifar10", "train"), "split: expected one of valid, test, got 'train'"),
        (lambda table: table.accuracy("cifar10", "valid", epochs=90), "epochs: expected 12 or 200, got 90"),
        (
            lambda table: table.accuracy("cifar100", "valid"),
            r"table\.\w+: expected the column cifar100_valid, got only .*cifar100_test",
        ),
        (lambda table: table.accuracy("cifar10", "test", epochs=12), "expected the column e12_cifar10_test"),
        (lambda table: table.train_seconds("imagenet16"), "expected the column imagenet16_train_s"),
        (lambda table: table.train_seconds("mnist"), "data: expected one of .*, got 'mnist'"),
        (lambda table: table.train_seconds("cifar10", epochs=0), "epochs: expected at least 1, got 0"),
    ],
)
def test_what_a_table_lacks_is_named_when_it_is_asked_for(table, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(table)


def test_sizes_that_a_table_lacks_are_named():
    table = BenchmarkTable(codes=np.array(CELLS), columns={})
    assert table.datasets == ()
    for name, ask in (("params_m", lambda: table.parameters), ("flops_m", lambda: table.flops)):
        with pytest.raises(ValueError, match=f"table: expected the column {name}, got only none"):
            ask()


def with_column(name: str, values: Any) -> dict[str, Any]:
    return {**COLUMNS, name: values}


BAD_COLUMNS = [
    ("cifar10_valid", [91.5, 80.0, float("nan")], r"cifar10_valid: expected percent in \[0, 100\], got nan"),
    ("e12_cifar10_valid", [100.5, 80.0, 1.0], r"e12_cifar10_valid: expected percent in \[0, 100\], got 100\.5"),
    ("cifar10_test", [91.5, -1.0, 1.0], r"cifar10_test: expected percent in \[0, 100\], got -1\.0"),
    ("params_m", [1.0, float("inf"), 1.0], "params_m: expected float32 numbers from 0, got inf"),
    ("cifar100_train_s", [1.0, 1.0, -2.0], r"cifar100_train_s: expected float32 numbers from 0, got -2\.0"),
    ("flops_m", [1.0, 1e39, 1.0], r"flops_m: expected float32 numbers from 0, got 1e\+39"),
]


@pytest.mark.parametrize(("name", "values", "message"), BAD_COLUMNS)
@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_numbers_that_cannot_be_meant_are_refused_naming_file_and_column(kind, name, values, message, tmp_path):
    columns = with_column(name, values)
    file = npz_file(tmp_path, **arrays(columns=columns)) if kind == "npz" else csv_file(tmp_path, columns=columns)
    with pytest.raises(ValueError, match=rf"table\.{kind}: {message}"):
        load_table(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            arrays(columns=with_column("flops_m", [1.0, 2.0])),
            r"flops_m: expected numbers of shape \(3,\), got float64 of shape \(2,\)",
        ),
        (arrays(columns=with_column("flops_m", ["1", "2", "3"])), r"flops_m: expected numbers of shape \(3,\), got <U1"),
        (arrays(columns=with_column("flops_m", [None] * 3)), "cannot be read .*allow_pickle"),
        (arrays(cells=[CELLS[0], CELLS[1], CELLS[0]]), r"expected each cell once, got \|nor_conv_3x3~0\|\+"),
        (arrays(cells=[CELLS[0], CELLS[1], [0, 0, 0, 0, 0, 5]]), r"expected numbers in 0\.\.4"),
        (arrays(cells=[row[:5] for row in CELLS]), r"expected whole numbers of shape \(N, 6\), got uint8 of shape \(3, 5\)"),
        (arrays(ops=[*OPERATIONS[:4], "max_pool_3x3"]), "ops: expected operations out of none, .*, got 'max_pool_3x3'"),
        (arrays(ops=[*OPERATIONS[:4], "none"]), "ops: expected each operation once"),
        (arrays(ops=[[*OPERATIONS]]), r"ops: expected names of shape \(K,\), got <U12 of shape \(1, 5\)"),
        (arrays(ops=[1, 2, 3, 4, 5]), r"ops: expected names"),
        ({"ops": np.array(OPERATIONS)}, "expected the keys ops and codes, got no codes"),
        ({"codes": np.array(CELLS)}, "expected the keys ops and codes, got no ops"),
    ],
)
def test_npz_of_another_content_is_refused_naming_the_file(content, message, tmp_path):
    with pytest.raises(ValueError, match=rf"table\.npz: .*{message}"):
        load_table(npz_file(tmp_path, **content))


def test_pickles_under_other_names_are_not_even_read(tmp_path):
    table = load_table(
        npz_file(tmp_path, **arrays(note=np.array([{"a": 1}], dtype=object), cifar10_valid_by_seed=np.ones((3, 3))))
    )
    assert sorted(table.columns) == sorted(COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a header with distinct names and a column 'cell', got nothing"),
        ("cifar10_valid\n90\n", "expected a header .*, got cifar10_valid"),
        ("cell,cifar10_valid,cifar10_valid\n", "expected a header with distinct names"),
        ("\n\n", "expected a header .*, got nothing"),
        ("cell,cifar10_valid\n", "expected a line for each cell, got a header and no cells"),
        ("cell,cifar10_valid\n\n , \n", "expected a line for each cell, got a header and no cells"),
        ("cell,cifar10_valid\n{0},90\n\n{1},80\n", "line 3: expected 2 values, got 0"),
        ("cell,cifar10_valid\n{0}\n", "line 2: expected 2 values, got 1"),
        ("cell,cifar10_valid\n{0},90\n{1},\n", "line 3: cifar10_valid: expected a number, got ''"),
        ("cell,cifar10_valid\n{0},ninety\n", "line 2: cifar10_valid: expected a number, got 'ninety'"),
        ("cell,cifar10_valid\n|none~0|,90\n", "line 2: .*expected a cell such as"),
        ("cell,cifar10_valid\n{0},90\n{0},91\n", "expected each cell once"),
    ],
)
def test_csv_of_another_content_is_refused_naming_file_and_line(text, message, tmp_path):
    file = tmp_path / "table.csv"
    file.write_text(text.format(*(SPACE.to_text(SPACE.decode(cell)) for cell in CELLS)), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"table\.csv: {message}"):
        load_table(file)


def test_csv_with_the_mark_that_spreadsheets_put_first_is_read(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text(f"cell,cifar10_valid\n{SPACE.to_text(SPACE.decode(CELLS[2]))},90\n", encoding="utf-8-sig")
    assert load_table(file).rows_of(np.array(CELLS[2:])).tolist() == [0]


def test_blank_lines_at_the_end_of_a_csv_are_read_past(tmp_path):
    file = csv_file(tmp_path)
    with file.open("a", encoding="utf-8") as opened:
        opened.write("\n  \n,,,,\n\n")
    table = load_table(file)
    assert table.codes.tolist() == CELLS
    assert table.columns["cifar10_valid"].tolist() == COLUMNS["cifar10_valid"]


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_file_that_may_not_be_read_is_refused_naming_it(kind, tmp_path, monkeypatch):
    file = npz_file(tmp_path, **arrays()) if kind == "npz" else csv_file(tmp_path)

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=rf"table\.{kind}: expected .*cannot be read \(.*Permission denied"):
        load_table(file)


def test_csv_that_is_no_text_is_refused_naming_it(tmp_path):
    file = tmp_path / "table.csv"
    file.write_bytes(b"cell,cifar10_valid\n\xff\xfe,90\n")
    with pytest.raises(ValueError, match=r"table\.csv: expected comma-separated values, got a file that cannot be read"):
        load_table(file)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "array"])
def test_damaged_npz_is_refused_naming_the_file(damage, tmp_path):
    file = npz_file(tmp_path, **arrays())
    content = bytearray(file.read_bytes())
    content[content.index(b"\x93NUMPY") + 300] ^= 1  # in the values of the first array
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    whole = file.read_bytes()
    file.write_bytes(
        {
            "empty": b"",
            "text": b"cell,cifar10_valid\n",
            "cut": whole[: len(whole) // 2],
            "flipped": content,
            "array": single.getvalue(),
        }[damage]
    )
    with pytest.raises(ValueError, match=r"table\.npz: expected an \.npz file of plain arrays, got one that cannot be read"):
        load_table(file)


def test_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none\.npz: expected a table, \.npz or \.csv, found nothing there"):
        load_table(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"expected a table, \.npz or \.csv, found a folder"):
        load_table(tmp_path)
    (tmp_path / "table.json").write_text("{}")
    with pytest.raises(ValueError, match=r"table\.json: expected a table, \.npz or \.csv, got \.json"):
        load_table(tmp_path / "table.json")


def test_column_of_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="cifar10_train: expected a column such as"):
        BenchmarkTable(codes=np.array(CELLS), columns={"cifar10_train": np.ones(3)})
