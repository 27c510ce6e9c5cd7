from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from enas.configs import RankingConfig, RetrainConfig, ScheduleConfig, SharedConfig
from enas.looked_up import LOOKED_UP_HEADINGS, kind_of_cell, look_up
from enas.spaces.nasbench201 import OPERATIONS, NasBench201Architecture, NasBench201Config, NasBench201Space
from enas.tables import BenchmarkTable, load_table
from scripts.build import build_search, derive_answer
from scripts.finish import retrain_and_report
from scripts.search_config import SearchConfig
from scripts.stopping import StopRequest

SPACE = NasBench201Space()
TABLE = Path(__file__).parents[1] / "../shared/data/nasbench201.npz"


def cell(*tokens: int) -> NasBench201Architecture:
    return SPACE.decode(tokens)


def test_ranks_count_the_cells_that_are_better():
    codes = np.array([[1] * 6, [2] * 6, [3] * 6, [4] * 6], dtype=np.uint8)
    columns = {
        "cifar10_valid": np.array([50.0, 90.0, 80.0, 80.0], dtype=np.float32),
        "cifar100_test": np.array([4.0, 3.0, 2.0, 1.0], dtype=np.float32),
    }
    first, second = look_up(BenchmarkTable(codes=codes, columns=columns), cell(4, 4, 4, 4, 4, 4))
    assert (first.data, first.split, first.rank, first.num_cells) == ("cifar10", "valid", 2, 4)
    assert (first.accuracy, first.best, first.median) == pytest.approx((0.8, 0.9, 0.8))
    assert (second.data, second.split, second.rank) == ("cifar100", "test", 4)
    cells = dict(zip(LOOKED_UP_HEADINGS, second.cells(), strict=True))
    assert (cells["accuracy"], cells["rank"]) == ("1.00%", "4 of 4 (top 100 %)")
    assert (cells["best in the table"], cells["median"]) == ("4.00%", "2.50%")


def test_cell_that_the_table_lacks_is_named():
    table = BenchmarkTable(codes=np.array([[1] * 6], dtype=np.uint8), columns={})
    with pytest.raises(ValueError, match=r"expected one of its 1 cells, got \|nor_conv_3x3~0\|"):
        look_up(table, cell(3, 3, 3, 3, 3, 3))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((1, 1, 1, 1, 1, 1), "It is the all-skip cell"),
        ((3, 3, 3, 0, 0, 0), "It is not the all-skip cell, but its output does not depend on its input ("),
        ((0, 0, 3, 0, 3, 3), "It is not the all-skip cell, but its output does not depend on its input ("),
        ((1, 1, 4, 1, 0, 1), "but no operation has weights (4 x skip_connect, 1 x avg_pool_3x3, 1 x none)."),
        ((3, 0, 0, 1, 0, 0), "but no operation has weights (4 x none, 1 x nor_conv_3x3, 1 x skip_connect)."),
        ((3, 3, 2, 1, 3, 3), "It is not the all-skip cell (4 x nor_conv_3x3, 1 x nor_conv_1x1, 1 x skip_connect)."),
    ],
)
def test_cells_that_a_search_collapses_onto_are_told_from_others(tokens, expected):
    assert expected in kind_of_cell(cell(*tokens))


@pytest.mark.skipif(not TABLE.is_file(), reason="needs the real table")
def test_real_table_ranks_its_best_cell_first_and_the_all_skip_cell_as_published():
    table = load_table(TABLE)
    best = {(one.data, one.split): one for one in look_up(table, SPACE.of_official_index(6111))}
    assert best["cifar10", "test"].rank == best["cifar10", "valid"].rank == 1
    assert best["cifar10", "test"].accuracy == pytest.approx(0.943733, abs=1e-5)
    skips = {(one.data, one.split): one for one in look_up(table, SPACE.smallest())}
    assert skips["cifar10", "test"].accuracy == pytest.approx(0.5430, abs=2e-3)  # ENAS in Dong and Yang 2020, table 5


# At the end of a search.


def write_table(path: Path) -> None:
    codes = np.array(np.unravel_index(np.arange(5**6), (5,) * 6)).T.astype(np.uint8)
    percent = np.random.default_rng(0).uniform(10, 95, 5**6)
    np.savez(path, ops=np.array(OPERATIONS), codes=codes, cifar10_valid=percent, cifar10_test=percent - 5)


def test_answer_is_looked_up_after_it_was_chosen(tmp_path, images, capsys):
    table = tmp_path / "table.npz"
    write_table(table)
    config = SearchConfig(
        space="nasbench201",
        epochs=1,
        threads=1,
        device="cpu",
        child=NasBench201Config(filters=2, cells_per_stage=1),
        shared=SharedConfig(batch_size=20, valid_batch_size=10, batch_norm="batch"),
        schedule=ScheduleConfig(controller_steps=1, architectures_per_step=3, candidates=2),
        retrain=RetrainConfig(epochs=0),
        ranking=RankingConfig(table=table, num_architectures=4),
    )

    def finish(run: Any, answer: Any) -> str:
        retrain_and_report(run, answer, Console(file=io.StringIO()), StopRequest())
        return (run.folder / "report.md").read_text(encoding="utf-8")

    with build_search(config, tmp_path / "run", data=images) as run:
        run.search.run()
        answer = derive_answer(run)
        report = finish(run, answer)
        valid, test = look_up(load_table(table), answer.architecture)
        rows = [line for line in report.splitlines() if line.startswith("| cifar10 |")]
        assert rows == ["| " + " | ".join(one.cells()) + " |" for one in (valid, test)]
        printed = capsys.readouterr().out
        assert all(one.cells()[3] in printed for one in (valid, test))
        assert kind_of_cell(answer.architecture) in report
        last = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["table/cifar10_test"] == pytest.approx(test.accuracy)

        table.unlink()  # what has gone since the search began costs the look-up, not the report
        with pytest.warns(RuntimeWarning, match=r"the answer is not looked up: .*table.npz: expected a table"):
            assert "| cifar10 |" not in finish(run, answer)
