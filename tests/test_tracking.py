from __future__ import annotations

import json
import math
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.data_compat import migrate_value
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer import event_file_writer
from tensorboard.util import tensor_util

from enas.charts import LAYOUT, probability_tables
from enas.tracking import ArchitectureRow, Tracker, TrackerState, initial_state

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture(autouse=True)
def seconds_between_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event files are named by the second they were opened in, and read in the order of their names."""

    class Clock:
        ticks = count(1_000_000_000)

        def __getattr__(self, name: str) -> Any:
            return getattr(original, name)

        def time(self) -> int:
            return next(self.ticks)

    original = event_file_writer.time
    monkeypatch.setattr(event_file_writer, "time", Clock())


def events(run_dir: Path) -> EventAccumulator:
    everything = dict.fromkeys(("scalars", "images", "tensors", "histograms", "compressedHistograms"), 0)
    return EventAccumulator(str(run_dir / "tb"), size_guidance=everything).Reload()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def row(index: int, **changes: Any) -> ArchitectureRow:
    fields = {
        "index": index,
        "epoch": 0,
        "phase": "controller",
        "step": index,
        "tokens": (1, 0, 2),
        "reward": 0.1,
        "accuracy": 0.25,
    }
    return ArchitectureRow(**{**fields, **changes})


def write_step(tracker: Tracker, step: int) -> None:
    tracker.scalars({"shared/loss": 1 / step, "controller/reward": step / 100}, step=step)
    tracker.architectures([row(step)])
    tracker.image("architecture/best", PIXELS, step=step)
    tracker.text("architecture/best", f"step {step}", step=step)
    tracker.histogram("controller/rewards", [0.0, step], step=step)


def killed(tracker: Tracker) -> None:
    """Everything reaches the disk, as in the worst case for a resume, but no state is taken."""
    tracker.close()


def steps_of(accumulator: EventAccumulator) -> dict[str, list[int]]:
    return {
        "shared/loss": [event.step for event in accumulator.Scalars("shared/loss")],
        "controller/reward": [event.step for event in accumulator.Scalars("controller/reward")],
        "image": [event.step for event in accumulator.Images("architecture/best")],
        "text": [event.step for event in accumulator.Tensors("architecture/best/text_summary")],
        "histogram": [event.step for event in accumulator.Histograms("controller/rewards")],
    }


def test_scalars_go_to_both_files(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.scalars({"shared/loss": 2.5, "shared/accuracy": np.float32(0.5)}, step=10)
        tracker.scalars({"shared/loss": 1.5}, step=20)
    assert [(event.step, event.value) for event in events(tmp_path).Scalars("shared/loss")] == [(10, 2.5), (20, 1.5)]
    first, second = lines(tmp_path / "metrics.jsonl")
    assert list(first) == ["step", "time", "shared/loss", "shared/accuracy"]
    assert (first["step"], first["shared/loss"], first["shared/accuracy"]) == (10, 2.5, 0.5)
    assert 0 <= first["time"] <= second["time"] < 60


def test_a_value_that_is_not_finite_is_null_in_the_file_and_itself_in_tensorboard(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.scalars({"shared/loss": float("nan"), "controller/loss": float("inf")}, step=1)
        tracker.architectures([row(0, reward=float("nan"), accuracy=np.float64("-inf"))])
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    assert lines(tmp_path / "metrics.jsonl")[0]["shared/loss"] is None
    assert [lines(tmp_path / "architectures.jsonl")[0][key] for key in ("reward", "accuracy")] == [None, None]
    assert np.isnan(events(tmp_path).Scalars("shared/loss")[0].value)
    assert events(tmp_path).Scalars("controller/loss")[0].value == float("inf")


def test_a_tag_without_a_group_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker, pytest.raises(ValueError, match="got 'loss'"):
        tracker.scalars({"shared/loss": 1.0, "loss": 1.0}, step=1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""
    assert events(tmp_path).Tags()["scalars"] == []


def test_equal_runs_write_equal_architecture_files(tmp_path: Path) -> None:
    for name, numbers in (("a", (1, 0, 2)), ("b", np.array([1, 0, 2]))):
        with Tracker(tmp_path / name, start=None) as tracker:
            tracker.architectures([row(0, tokens=numbers, reward=np.float64(0.1)), row(1, phase="größer")])
            tracker.architectures(iter([row(2)]))
    written = (tmp_path / "a" / "architectures.jsonl").read_bytes()
    assert written == (tmp_path / "b" / "architectures.jsonl").read_bytes()
    assert written.splitlines()[0] == (
        b'{"index": 0, "epoch": 0, "phase": "controller", "step": 0, "tokens": [1, 0, 2], "reward": 0.1, "accuracy": 0.25}'
    )
    assert "größer" in written.decode("utf-8")


def test_every_call_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.scalars({"shared/loss": 1.0}, step=1)
        tracker.architectures([row(0), row(1)])
        assert len(lines(tmp_path / "metrics.jsonl")) == 1
        assert len(lines(tmp_path / "architectures.jsonl")) == 2
        tracker.flush()
        assert len(events(tmp_path).Scalars("shared/loss")) == 1


def test_images_and_texts_come_back_as_they_were(tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    with Tracker(tmp_path, start=None) as tracker:
        tracker.image("architecture/best", PIXELS, step=7)
        tracker.text("report", "# größer", step=7)
        with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\), got float64"):
            tracker.image("architecture/best", PIXELS / 255, step=8)
    read = events(tmp_path)
    np.testing.assert_array_equal(
        np.asarray(Image.open(BytesIO(read.Images("architecture/best")[0].encoded_image_string))), PIXELS
    )
    assert read.Tensors("report/text_summary")[0].tensor_proto.string_val[0].decode() == "# größer"


def test_a_histogram_leaves_out_what_is_not_finite(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.histogram("controller/rewards", [[0.5, float("nan")], [1.5, float("inf")]], step=1)
        tracker.histogram("controller/rewards", [float("nan")], step=2)
        tracker.histogram("controller/rewards", [], step=3)
    (only,) = events(tmp_path).Histograms("controller/rewards")
    value = only.histogram_value
    assert (only.step, value.num, value.min, value.max, value.sum) == (1, 2, 0.5, 1.5, 2.0)


def displayed_bars(run_dir: Path, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Recompute what TensorBoard draws: 30 bars from the lowest to the highest edge, counts shared out by overlap."""
    import tensorboard.compat.proto.summary_pb2 as summary_pb2

    stored = events(run_dir).Histograms(tag)[0].histogram_value
    proto = summary_pb2.HistogramProto(**asdict(stored))
    migrated = migrate_value(summary_pb2.Summary.Value(tag=tag, histo=proto))
    buckets = tensor_util.make_ndarray(migrated.tensor).astype(np.float64)
    edges = np.linspace(buckets[0, 0], buckets[-1, 1], 31)
    heights = np.zeros(30)
    for left, right, number in buckets:
        overlap = np.clip(np.minimum(right, edges[1:]) - np.maximum(left, edges[:-1]), 0, None)
        heights += number * overlap / (right - left)
    return edges, heights


@pytest.mark.parametrize(
    "probabilities",
    [
        [0.0, 0.25, 0.75],
        [1 / 7] * 7,
        [0.1, 0.2, 0.0, 0.7],
        [0.2] * 5,
        [0.0, 0.0, 0.5, 0.3, 0.2, 0.0],
        [0.125] * 8,
        [1 / 12] * 12,
        [1 / 30] * 30,
    ],
)
def test_the_bar_over_a_choice_is_its_probability(tmp_path: Path, probabilities: list[float]) -> None:
    labels = [f"choice {index}" for index in range(len(probabilities))]
    with Tracker(tmp_path, start=None) as tracker:
        tracker.decision_probabilities(["layer_0/op"], [labels], [np.array(probabilities)], step=1)
    edges, heights = displayed_bars(tmp_path, "decision/layer_0/op")
    for choice, probability in enumerate(probabilities):
        bars = heights[(edges[:-1] < choice + 0.01) & (edges[1:] > choice - 0.01)]
        assert bars == pytest.approx(np.full(len(bars), probability), abs=1e-4)
    assert heights.max() <= max(probabilities) + 1e-4
    assert heights @ (edges[1:] - edges[:-1]) <= 1.001


def test_decisions_are_summed_up_by_their_likeliest_choice_and_by_yes(tmp_path: Path) -> None:
    names = ["a/op", "b/op", "b/skip_0", "c/skip_0", "only"]
    choices = [["x", "y", "z"]] * 2 + [["no", "yes"]] * 2 + [["fixed"]]
    rows = [np.array(row) for row in ([0.2, 0.3, 0.5], [1.0 + 1e-12, 0.0, 0.0], [0.75, 0.25], [0.0, 1.0], [1.0])]
    with Tracker(tmp_path, start=None) as tracker:
        tracker.decision_probabilities(names, choices, rows, step=5)
        with pytest.raises(ValueError, match="expected probabilities"):
            tracker.decision_probabilities(names[:1], choices[:1], [np.array([0.5, 0.5])], step=6)
    read = events(tmp_path)
    assert sorted(read.Tags()["histograms"]) == [
        "decision/a/op",
        "decision/b/op",
        "policy/max_probability",
        "policy/probability_of_yes",
    ]
    for tag, expected in (("policy/max_probability", [0.5, 1.0, 0.75, 1.0]), ("policy/probability_of_yes", [0.25, 1.0])):
        stored = read.Histograms(tag)[0].histogram_value
        counts, _ = np.histogram(expected, bins=30, range=(0, 1))
        assert (stored.min, stored.max) == (0.0, 1.0)
        np.testing.assert_allclose(stored.bucket, counts, atol=1e-6)
    (text,) = read.Tensors("policy/probabilities/text_summary")
    assert text.tensor_proto.string_val[0].decode() == probability_tables(names, choices, rows)


def test_each_decisions_entropy_is_a_fraction_of_that_of_uniform_choices(tmp_path: Path) -> None:
    names = ["open", "half", "decided", "only"]
    rows = [np.array(row) for row in ([0.25] * 4, [0.5, 0.5, 0.0, 0.0], [0.0, 1.0], [1.0])]
    with Tracker(tmp_path, start=None) as tracker:
        tracker.decision_probabilities(names, [["a", "b", "c", "d"][: len(row)] for row in rows], rows, step=5)
    read = events(tmp_path)
    entropies = {tag: read.Scalars(tag)[0].value for tag in read.Tags()["scalars"]}
    assert entropies == pytest.approx({"entropy/open": 1.0, "entropy/half": 0.5, "entropy/decided": 0.0})


def test_probability_tables_have_a_row_for_each_decision() -> None:
    names = ["normal/input_2", "normal/input_3", "normal/op"]
    table = probability_tables(
        names,
        [["0", "1"], ["0", "1", "2"], ["a|b", "c"]],
        [np.array([0.125, 0.875]), np.array([0.5, 0.25, 0.25]), np.array([0.996, 0.004])],
    )
    assert table.split("\n") == [
        "| decision | 0 | 1 | 2 |",
        "|:--|--:|--:|--:|",
        "| normal/input_2 | 0.12 | **0.88** |",
        "| normal/input_3 | **0.50** | 0.25 | 0.25 |",
        "",
        "| decision | a\\|b | c |",
        "|:--|--:|--:|",
        "| normal/op | **1.00** | 0.00 |",
    ]


def test_probability_tables_of_skips_have_a_row_for_each_layer() -> None:
    names = ["layer_1/skip_0", "layer_2/skip_0", "layer_2/skip_1"]
    rows = [np.array([1 - yes, yes]) for yes in (0.25, 0.75, 0.5)]
    assert probability_tables(names, [["no", "yes"]] * 3, rows).split("\n") == [
        "| probability of yes | skip_0 | skip_1 |",
        "|:--|--:|--:|",
        "| layer_1 | 0.25 |  |",
        "| layer_2 | **0.75** | 0.50 |",
    ]


def test_hparams_stay_in_the_run(tmp_path: Path) -> None:
    config = {"space": "macro", "controller_lr": 1e-3, "num_layers": 12, "use_baseline": True}
    with Tracker(tmp_path, start=None) as tracker:
        tracker.scalars({"search/best_so_far": 0.5}, step=50)
        tracker.hparams(config, {"search/best_so_far": 0.5, "derive/best": 0.75})
    assert [path.is_file() for path in (tmp_path / "tb").iterdir()] == [True]
    read = events(tmp_path)
    contents = {tag: HParamsPluginData.FromString(content) for tag, content in read.PluginTagToContent("hparams").items()}
    values = contents["_hparams_/session_start_info"].session_start_info.hparams
    assert {name: getattr(values[name], values[name].WhichOneof("kind")) for name in values} == config | {"use_baseline": "true"}
    metrics = [info.name.tag for info in contents["_hparams_/experiment"].experiment.metric_infos]
    assert metrics == ["search/best_so_far", "derive/best"]
    assert [(tag, event.step, event.value) for tag in metrics for event in read.Scalars(tag)] == [
        ("search/best_so_far", 50, 0.5),
        ("derive/best", 50, 0.75),
    ]


def test_layout_charts_the_tags_of_a_run(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.layout()
        tracker.layout()
    (stored,) = events(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(stored.tensor_proto.string_val[0])
    read = {page.title: {chart.title: tuple(chart.multiline.tag) for chart in page.chart} for page in layout.category}
    assert read == LAYOUT


def test_costs_are_in_a_line_only_where_they_were_measured(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.architectures(
            [row(0), row(1, costs={"parameters": np.float64(12), "latency": math.inf}, failure="out of memory")]
        )
    plain, priced = lines(tmp_path / "architectures.jsonl")
    assert "costs" not in plain
    assert priced == {**plain, "index": 1, "step": 1, "costs": {"parameters": 12.0, "latency": None}, "failure": "out of memory"}


def test_line_has_the_metric_that_results_are_told_by(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.architectures([row(0, told={"perplexity": np.float64(81.5)}), row(1, told={"perplexity": math.inf})])
    assert [line["perplexity"] for line in lines(tmp_path / "architectures.jsonl")] == [81.5, None]


def test_page_without_a_chart_is_left_out(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.layout(absent={tag for tags in LAYOUT["Cost"].values() for tag in tags})
    (stored,) = events(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(stored.tensor_proto.string_val[0])
    assert {page.title for page in layout.category} == set(LAYOUT) - {"Cost"}


def test_charts_that_would_stay_empty_are_left_out(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.layout(absent={"ranking/tau", "collapse/skip_share"})  # the skip target is still to come
    (stored,) = events(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(stored.tensor_proto.string_val[0])
    charts = {chart.title for page in layout.category for chart in page.chart}
    everything = {chart for page in LAYOUT.values() for chart in page}
    assert everything - charts == {"Kendall's tau with the truth"}


def test_a_run_killed_several_times_holds_every_step_once(tmp_path: Path) -> None:
    state: TrackerState | None = None
    for first, last_saved, last in ((1, 3, 5), (4, 4, 9), (5, 8, 8), (9, 10, 11), (11, 12, 12)):
        tracker = Tracker(tmp_path, start=state)
        tracker.layout()
        for step in range(first, last + 1):
            write_step(tracker, step)
            if step == last_saved:
                state = tracker.state()
                assert state["step"] == step
        killed(tracker)
    read = events(tmp_path)
    assert set(map(tuple, steps_of(read).values())) == {tuple(range(1, 13))}
    assert [event.value for event in read.Scalars("controller/reward")] == pytest.approx([step / 100 for step in range(1, 13)])
    assert len(read.Tensors("custom_scalars__config__")) == 1
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == list(range(1, 13))
    assert [line["index"] for line in lines(tmp_path / "architectures.jsonl")] == list(range(1, 13))


def test_what_a_killed_run_wrote_vanishes_before_anything_new_is_written(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, start=None)
    write_step(tracker, 1)
    state = tracker.state()
    write_step(tracker, 2)
    killed(tracker)
    Tracker(tmp_path, start=state).close()
    assert set(map(tuple, steps_of(events(tmp_path)).values())) == {(1,)}
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [1]


def test_a_tensorboard_that_is_already_open_purges_the_killed_steps(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, start=None)
    write_step(tracker, 1)
    state = tracker.state()
    write_step(tracker, 2)
    killed(tracker)
    watching = events(tmp_path)
    assert [event.step for event in watching.Scalars("shared/loss")] == [1, 2]
    with Tracker(tmp_path, start=state):
        pass
    watching.Reload()
    assert [event.step for event in watching.Scalars("shared/loss")] == [1]


def test_a_half_written_line_is_cut_off(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        tracker.scalars({"shared/loss": 1.0}, step=1)
        state = tracker.state()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "ti')
    with Tracker(tmp_path, start=state) as tracker:
        tracker.scalars({"shared/loss": 1.0}, step=2)
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2]


@pytest.mark.parametrize("name", ["metrics.jsonl", "architectures.jsonl"])
@pytest.mark.parametrize("lost", ["part", "all"])
def test_a_file_shorter_than_recorded_is_refused_and_nothing_is_cut(tmp_path: Path, name: str, lost: str) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        write_step(tracker, 1)
        state = tracker.state()
        write_step(tracker, 2)
    path = tmp_path / name
    if lost == "part":
        path.write_bytes(path.read_bytes()[:10])
    else:
        path.unlink()
    before = {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=rf"{name}: expected at least the \d+ bytes"):
        Tracker(tmp_path, start=state)
    assert {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_lost_event_files_do_not_stop_a_resume(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        write_step(tracker, 1)
        state = tracker.state()
    for path in (tmp_path / "tb").iterdir():
        path.unlink()
    with Tracker(tmp_path, start=state) as tracker:
        write_step(tracker, 2)
    assert [event.step for event in events(tmp_path).Scalars("shared/loss")] == [2]


def test_a_new_run_does_not_overwrite_another(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        write_step(tracker, 1)
    with pytest.raises(ValueError, match=r"metrics\.jsonl: expected a folder without a run"):
        Tracker(tmp_path, start=None)
    with Tracker(tmp_path, start=initial_state()) as tracker:
        write_step(tracker, 1)
    assert set(map(tuple, steps_of(events(tmp_path)).values())) == {(1,)}
    assert len(lines(tmp_path / "metrics.jsonl")) == 1


def test_time_goes_on_where_the_checkpoint_left_it(tmp_path: Path) -> None:
    with Tracker(tmp_path, start=None) as tracker:
        state = tracker.state()
    with Tracker(tmp_path, start={**state, "elapsed": 3600.0}) as tracker:
        tracker.scalars({"shared/loss": 1.0}, step=1)
        assert 3600 <= tracker.state()["elapsed"] < 3660
    assert 3600 <= lines(tmp_path / "metrics.jsonl")[0]["time"] < 3660


def test_a_state_is_plain_values_that_a_checkpoint_takes(tmp_path: Path) -> None:
    import torch

    with Tracker(tmp_path, start=None) as tracker:
        write_step(tracker, 3)
        state = tracker.state()
    torch.save(state, tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True) == state
    assert type(state) is dict
    assert state["metrics_bytes"] == (tmp_path / "metrics.jsonl").stat().st_size
