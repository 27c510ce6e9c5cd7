from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import scripts.bench
from enas.benchmark import BenchmarkResult
from enas.measure import Pairs
from scripts.bench_compare import Change, warnings_of
from scripts.bench_report import Measurements
from scripts.bench_settings import BenchCommand

Compare = Callable[..., tuple[int, str, str]]
VERSIONS = {"python": "3.13.1", "torch": "2.14.1"}


def result(name: str, *ratios: float, seconds: float = 0.5, unit: str = "ms") -> BenchmarkResult:
    pairs = Pairs(first=tuple(ratio * seconds for ratio in ratios), second=(seconds,) * len(ratios))
    return BenchmarkResult(name=name, what="x / y", unit=unit, limit=None, pairs=pairs, note="a note")


def around(middle: float) -> tuple[float, ...]:
    """Ratios whose interval reaches .01 to both sides."""
    return tuple(middle + step for step in (-0.01, -0.006, -0.002, 0.002, 0.006, 0.01))


def measurements(*results: BenchmarkResult, **changes: object) -> Measurements:
    settings = json.loads(json.dumps(BenchCommand().settings()))
    found = Measurements(machine="a machine", versions=VERSIONS, settings=settings, results=results)
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.fixture
def compare(monkeypatch, capsys, tmp_path) -> Compare:
    monkeypatch.chdir(tmp_path)

    def call(old: Measurements | None = None, new: Measurements | None = None) -> tuple[int, str, str]:
        for name, one in (("old.json", old), ("new.json", new)):
            if one is not None:
                one.write(Path(name))
        monkeypatch.setattr(sys, "argv", ["bench", "--compare", "old.json", "new.json"])
        monkeypatch.setattr(scripts.bench, "_run_benchmarks", None)  # nothing may be measured
        try:
            status = scripts.bench.main()
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, " ".join(captured.err.split())

    return call


@pytest.mark.parametrize(
    ("old", "new", "unit", "verdict"),
    [
        (around(1.0), around(1.03), "ms", "slower"),
        (around(1.0), around(0.97), "ms", "faster"),
        (around(1.0), around(1.02), "ms", "no difference shown"),  # the intervals touch
        (around(1.0), around(1.019), "ms", "no difference shown"),
        (around(1.0), (2.0,) * 5, "ms", "no difference shown"),  # five pairs have no interval
        (around(1.0), around(1.03), "MiB", "larger"),
        (around(1.0), around(0.97), "MiB", "smaller"),
    ],
)
def test_verdict_is_whether_the_intervals_are_apart(old, new, unit, verdict):
    change = Change(old=result("x", *old, unit=unit), new=result("x", *new, unit=unit))
    assert change.verdict == verdict
    assert change.is_worse == (verdict in ("slower", "larger"))


def test_row_tells_by_how_much_the_ratio_and_the_first_side_changed():
    change = Change(old=result("x", *around(1.0), seconds=0.5), new=result("x", *around(1.1), seconds=0.25))
    assert change.cells() == (
        "x",
        "1.000 (0.990 to 1.010)",
        "1.100 (1.090 to 1.110)",
        "+10.0 / -45.0 %",  # 1.1 * .25 over .5
        "slower",
    )


def test_file_gives_back_what_was_measured(tmp_path):
    found = measurements(result("rnn-plain-loop", *around(1.0)), replace(result("x", *around(2.0)), limit=0.5, unit="s"))
    found.write(tmp_path / "a.json")
    assert Measurements.read(tmp_path / "a.json") == replace(found, results=list(found.results))


@pytest.mark.parametrize(("middle", "status", "word"), [(1.1, 1, "slower"), (0.9, 0, "faster"), (1.0, 0, "no difference shown")])
def test_something_slower_is_the_exit_status(compare, monkeypatch, middle, status, word):
    monkeypatch.setenv("COLUMNS", "150")
    old = measurements(result("rnn-plain-loop", *around(1.0)), result("macro-layout", *around(0.5)))
    new = measurements(result("rnn-plain-loop", *around(middle)), result("macro-layout", *around(0.5)))
    found, output, _ = compare(old, new)
    assert found == status
    rows = {line.split("│")[1].strip(): line for line in output.splitlines() if line.startswith("│")}
    assert word in rows["rnn-plain-loop"]
    assert "no difference shown" in rows["macro-layout"]
    assert "warning" not in output


def test_narrow_terminal_cuts_no_word(compare, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    both = measurements(result("macro-activation-peak", *around(0.0456), unit="MiB"))
    _, output, _ = compare(both, both)
    assert "│ macro-activation-peak" in output
    assert "…" not in output
    assert max(map(len, output.splitlines()[:-1])) <= 80  # the last line is a sentence


def test_benchmarks_of_one_file_only_are_named(compare):
    both, gone, come = (result(name, *around(1.0)) for name in ("both", "gone", "come"))
    status, output, _ = compare(measurements(both, gone), measurements(come, both))
    assert status == 0
    assert "only in old.json: gone" in output
    assert "only in new.json: come" in output


def test_whatever_differs_beside_the_figures_is_named():
    old = measurements(result("x", 1.0))
    settings = {**old.settings, "pairs": 60, "macro": {**old.settings["macro"], "filters": 24}, "new_one": 1}
    new = replace(old, machine="another", versions={**VERSIONS, "torch": "2.15.0"}, settings=settings)
    assert list(warnings_of(old, new)) == [
        "warning: the machines differ: a machine -> another",
        "warning: the version torch differs: 2.14.1 -> 2.15.0",
        "warning: the setting pairs differs: 30 -> 60",
        "warning: the setting macro.filters differs: 36 -> 24",
        "warning: the setting new_one differs: None -> 1",
    ]
    assert list(warnings_of(old, old)) == []


def test_warnings_are_printed_with_the_table(compare):
    old = measurements(result("x", *around(1.0)))
    _, output, _ = compare(old, replace(old, machine="another"))
    assert "warning: the machines differ: a machine -> another" in output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["expected a file of --json, got old.json", "No such file"]),
        (b"\xff\xfe\x00", ["expected a file of --json, got old.json"]),
        (b'{"kind": "enas bench", ', ["expected a file of --json, got old.json", "line 1"]),
        (b"[1, 2]", ["kind 'enas bench'", "got old.json"]),
        (b'{"machine": "m", "results": []}', ["kind 'enas bench'", "got old.json"]),
        (b'{"kind": "enas bench", "machine": "m"}', ["kind, machine, versions, settings, results", "got kind, machine"]),
        (b'{"kind": "enas bench", "machine": "m", "versions": {}, "settings": [], "results": []}', ["settings", "old.json"]),
        (b'{"kind": "enas bench", "machine": "m", "versions": {}, "settings": {}, "results": 3}', ["old.json"]),
        (b'{"kind": "enas bench", "machine": "m", "versions": {}, "settings": {}, "results": [{}]}', ["a benchmark with name"]),
        (b'{"kind": "enas bench", "machine": "m", "versions": {}, "settings": {}, "results": []}', ["both files have"]),
    ],
)
def test_file_that_does_not_serve_ends_with_status_2_and_is_named(compare, content, words):
    if content is not None:
        Path("old.json").write_bytes(content)
    status, _, error = compare(None, measurements(result("x", 1.0)))
    assert status == 2
    assert [word for word in ("--compare", "old.json", *words) if word not in error] == []
