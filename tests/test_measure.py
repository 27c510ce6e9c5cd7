from __future__ import annotations

import gc
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from enas import measure
from enas.measure import NUM_WARMUP_PAIRS, Pairs, median_interval, no_collection, seconds, time_pairs, timed_calls

CPU = torch.device("cpu")


class Clock:
    """A clock that moves only when work says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def spend(self, duration: float) -> None:
        self.now += duration


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", fake.perf_counter)
    return fake


@pytest.fixture(autouse=True)
def collections(monkeypatch):
    """Count collections instead of running them: each takes .1 s beside a loaded PyTorch."""
    count = [0]
    monkeypatch.setattr(measure.gc, "collect", lambda: count.append(count.pop() + 1))
    return count


# The interval.


@pytest.mark.parametrize(
    ("count", "ranks"),
    [(6, (1, 6)), (10, (2, 9)), (20, (6, 15)), (30, (10, 21)), (100, (40, 61))],  # Conover 1999, table A3; Hahn & Meeker
)
def test_interval_is_that_of_the_tables(count, ranks):
    values = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert median_interval(values) == ranks


@pytest.mark.parametrize("count", [6, 17, 30, 55])
def test_interval_is_the_narrowest_that_keeps_its_probability(count):
    interval = median_interval(np.arange(1.0, count + 1))
    assert interval is not None
    lower = int(interval[0])
    assert 1 - 2 * stats.binom.cdf(lower - 1, count, 0.5) >= 0.95 > 1 - 2 * stats.binom.cdf(lower, count, 0.5)


def test_interval_covers_the_median_of_a_skewed_distribution_as_often_as_it_says():
    samples = np.random.default_rng(1).lognormal(size=(4000, 30))  # the median is 1
    intervals = [median_interval(sample) for sample in samples]
    covered = np.mean([interval is not None and interval[0] <= 1 <= interval[1] for interval in intervals])
    assert covered == pytest.approx(1 - 2 * stats.binom.cdf(9, 30, 0.5), abs=0.012)  # .957


def test_five_values_have_no_interval():
    assert median_interval(np.arange(5.0)) is None
    assert median_interval(np.arange(5.0), confidence=0.9) == (0, 4)


def test_one_outlier_moves_nothing():
    values = np.arange(30.0)
    assert median_interval(np.where(values == 29, 1e9, values)) == median_interval(values)


# Pairs.


def test_ratio_is_taken_within_a_pair():
    pairs = Pairs(first=(2.0, 30.0, 8.0), second=(1.0, 10.0, 2.0))
    assert pairs.ratios.tolist() == [2, 3, 4]
    assert len(pairs) == 3


@pytest.mark.parametrize(("first", "second"), [((), ()), ((1.0,), (1.0, 2.0))])
def test_sides_that_do_not_fit_are_refused(first, second):
    with pytest.raises(ValueError, match=f"got {len(first)} and {len(second)}"):
        Pairs(first=first, second=second)


def test_sides_alternate_and_the_side_that_starts_changes():
    log: list[tuple[int, str]] = []
    built: list[int] = []

    def sides(index):
        built.append(index)
        return lambda: log.append((index, "first")), lambda: log.append((index, "second"))

    done: list[int] = []
    time_pairs(sides, num_pairs=4, device=CPU, on_pair=done.append)
    assert built == list(range(-NUM_WARMUP_PAIRS, 4))
    assert done == [1, 2, 3, 4]
    runs = [[side for at, side in log if at == index] for index in built]
    assert all(run in (["first", "second"] * 2, ["second", "first"] * 2) for run in runs)
    assert all(now != following for now, following in pairwise(runs))
    assert log == sorted(log, key=lambda entry: entry[0])


def test_only_the_second_run_of_a_side_counts_and_warm_up_pairs_do_not(clock):
    runs = {"first": 0, "second": 0}

    def work(name, duration):
        runs[name] += 1
        clock.spend(duration if runs[name] % 2 == 0 else 1000.0)

    def sides(index):
        clock.spend(5000.0)  # building the sides is not timed
        extra = 7000.0 if index < 0 else 0.0
        return lambda: work("first", 3.0 + index + extra), lambda: work("second", 2.0 + extra)

    pairs = time_pairs(sides, num_pairs=3, device=CPU)
    assert pairs == Pairs(first=(3.0, 4.0, 5.0), second=(2.0, 2.0, 2.0))


def test_sides_that_need_no_rehearsal_run_once_a_pair():
    calls: list[str] = []
    pairs = time_pairs(
        lambda _: (lambda: calls.append("first"), lambda: calls.append("second")), num_pairs=3, device=CPU, rehearses=False
    )
    assert len(pairs) == 3
    assert calls.count("first") == calls.count("second") == NUM_WARMUP_PAIRS + 3


def test_machine_that_slows_down_steadily_leaves_the_median_ratio_alone(clock):
    speed = {"duration": 1.0}

    def work(factor):
        clock.spend(factor * speed["duration"])
        speed["duration"] *= 1.01

    pairs = time_pairs(lambda _: (lambda: work(2.0), lambda: work(1.0)), num_pairs=30, device=CPU)
    assert np.median(pairs.ratios) == pytest.approx(2.0, rel=1e-3)  # one fixed order would say 1.98 or 2.02


def test_garbage_is_collected_before_each_clock_starts_and_not_while_it_runs(collections):
    log: list[tuple[bool, int]] = []
    time_pairs(lambda _: (lambda: log.append((gc.isenabled(), collections[0])),) * 2, num_pairs=1, device=CPU)
    untimed_first, untimed_second, timed_first, timed_second = log[-4:]
    done = collections[0]
    assert [untimed_first, untimed_second] == [(True, done - 2)] * 2
    assert [timed_first, timed_second] == [(False, done - 1), (False, done)]
    assert gc.isenabled()


def test_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with pytest.raises(KeyError), no_collection():
            raise KeyError
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_seconds_are_those_of_the_work(clock):
    assert seconds(lambda: clock.spend(0.25), CPU) == 0.25


# Calls timed where they run.


class Worker:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def run(self, duration: float, *, factor: float = 1.0) -> float:
        self._clock.spend(duration * factor)
        return duration


def test_calls_of_one_object_are_timed_within_the_block(clock):
    worker, other = Worker(clock), Worker(clock)
    with timed_calls(worker, "run", CPU) as spent:
        assert [worker.run(1.0), worker.run(2.0, factor=3.0)] == [1.0, 2.0]
        other.run(50.0)
    worker.run(70.0)
    assert spent == [1.0, 6.0]
    assert "run" not in vars(worker)


def test_object_is_restored_after_an_error(clock):
    worker = Worker(clock)
    with pytest.raises(TypeError), timed_calls(worker, "run", CPU):
        worker.run("a")  # type: ignore[arg-type]
    assert "run" not in vars(worker)
