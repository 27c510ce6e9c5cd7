"""What a run writes down as it goes, and nothing else writes: `metrics.jsonl`, `architectures.jsonl` and TensorBoard events.

The two JSON files are the record: a line a call of `scalars`, a line an architecture. `tb/` shows the same run to people.
The step of everything is the number of architectures evaluated so far, so that strategies lie over each other in one chart.

A killed run goes on as if nothing had happened: `Tracker.state` is part of every checkpoint, and a tracker that starts from it
first cuts all files back to what they held then. Event files are cut too, beyond TensorBoard's own `purge_step`: its readers
purge scalars, images and histograms, but not texts. A full disk ends nothing: see `enas.line_file` and `enas.event_files`.

Not covered: anything that is written once and whole, such as checkpoints, drawings on disk and reports.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict

import numpy as np
import numpy.typing as npt

from enas.charts import LAYOUT, probability_tables
from enas.event_files import EventFiles
from enas.line_file import LineFile, cut_files
from enas.types import FloatArray

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

ARCHITECTURES = "architectures.jsonl"
"""The file of a run with a line for each evaluation of an architecture."""

_DISPLAY_BINS = 30  # TensorBoard redraws every histogram with so many bars between its lowest and its highest edge
_TRACE = 1e-9  # TensorBoard cuts empty bars off both ends; a trace in them holds the axis still


class TrackerState(TypedDict):
    """How far the files of a run had come; plain values, made for a checkpoint.

    Keys:
        metrics_bytes, architectures_bytes: sizes of the two JSON files.
        event_bytes: size of each TensorBoard event file, by name.
        step: the largest step written.
        elapsed: seconds the run had taken, over all its sessions.
    """

    metrics_bytes: int
    architectures_bytes: int
    event_bytes: dict[str, int]
    step: int
    elapsed: float


def initial_state() -> TrackerState:
    """Return the state before anything is written: starting from it empties what an earlier run left in the folder."""
    return TrackerState(metrics_bytes=0, architectures_bytes=0, event_bytes={}, step=0, elapsed=0.0)


@dataclass(frozen=True, kw_only=True)
class ArchitectureRow:
    """A line of `architectures.jsonl`: one evaluation of one architecture.

    Attributes:
        index: counts what a run has run from 0: architectures, which have a row each, and trained mixtures, which have none.
        epoch: from 0.
        phase: `shared`, `controller` or `derive`.
        step: number of architectures evaluated before this update and by it.
        tokens: D tokens of the space.
        reward: what the controller learns from; the floor where the architecture failed.
        accuracy: fraction in [0, 1]; NaN, written as null, for an architecture that did not fit in memory.
        failure: how it failed (see `enas.failures`); a line of one that did not has no such field.
        costs: what its network costs, by name; a line without measured costs has no such field.
        told: the metric that results on the data are told by, by its name, where that is not the accuracy; a field of the line.
    """

    index: int
    epoch: int
    phase: str
    step: int
    tokens: Sequence[int]
    reward: float
    accuracy: float
    failure: str | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    told: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the line's fields as JSON types, also where they were given as NumPy's."""
        row: dict[str, object] = {
            "index": int(self.index),
            "epoch": int(self.epoch),
            "phase": self.phase,
            "step": int(self.step),
            "tokens": [int(token) for token in self.tokens],
            "reward": float(self.reward),
            "accuracy": float(self.accuracy),
            **{name: float(value) for name, value in self.told.items()},
        }
        if self.costs:  # JSON knows no infinite latency
            row["costs"] = {name: float(cost) if math.isfinite(cost) else None for name, cost in self.costs.items()}
        return row if self.failure is None else {**row, "failure": self.failure}


class Tracker:
    """Writer of one run folder. Close it, or use it as a context manager.

    Args:
        run_dir: made if it does not exist.
        start: the state in the checkpoint that the run resumes from; None for a run that starts anew.

    Raises:
        ValueError: naming the file, if a JSON file holds less than `start` recorded, or, for None, if there is one already.
    """

    def __init__(self, run_dir: Path, *, start: TrackerState | None) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        metrics, architectures = run_dir / "metrics.jsonl", run_dir / ARCHITECTURES
        if start is None:
            _require_absent(metrics, architectures)
        else:
            cut_files({metrics: start["metrics_bytes"], architectures: start["architectures_bytes"]})
        recorded = start or initial_state()
        self._has_layout = bool(recorded["event_bytes"])
        self._step = recorded["step"]
        self._clock_start = time.monotonic() - recorded["elapsed"]
        self._last_step: dict[str, int] = {}
        self._metrics, self._architectures = LineFile(metrics), LineFile(architectures)
        purge_step = None if start is None else start["step"] + 1
        self._events = EventFiles(run_dir / "tb", sizes=recorded["event_bytes"], purge_step=purge_step)

    @property
    def elapsed(self) -> float:
        """Seconds since the run started, by the wall; time between a kill and a resume does not count."""
        return time.monotonic() - self._clock_start

    def scalars(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Write metrics: a TensorBoard scalar each, and one line of `metrics.jsonl`, where NaN and infinities become null.

        Args: metrics: by tag, such as `shared/loss`. step: number of architectures evaluated so far.
        Raises: ValueError for a tag without a group.
        """
        values = {tag: float(value) for tag, value in metrics.items()}
        for tag in values:
            if "/" not in tag:
                raise ValueError(f"expected a tag with a group, such as 'shared/loss', got {tag!r}")

        def add(writer: SummaryWriter) -> None:
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)

        self._events.write(add)
        self._last_step |= dict.fromkeys(values, step)
        self._metrics.append([{"step": step, "time": round(self.elapsed, 3), **values}])
        self._reach(step)

    def architectures(self, rows: Iterable[ArchitectureRow]) -> None:
        """Append a line an architecture to `architectures.jsonl`; equal runs write equal bytes."""
        self._architectures.append(row.to_json() for row in rows)

    def image(self, tag: str, pixels: npt.NDArray[np.uint8], *, step: int) -> None:
        """Write a picture, uint8 (H, W, 3). Raises ValueError for another shape or type."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"{tag}: expected uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
        self._events.write(lambda writer: writer.add_image(tag, pixels, step, dataformats="HWC"))
        self._reach(step)

    def text(self, tag: str, markdown: str, *, step: int) -> None:
        """Write a text in Markdown; TensorBoard lists it as `tag/text_summary`."""
        self._events.write(lambda writer: writer.add_text(tag, markdown, step))
        self._reach(step)

    def histogram(self, tag: str, values: npt.ArrayLike, *, step: int) -> None:
        """Write the distribution of values of any shape, without those that are not finite; nothing if none is."""
        numbers = np.asarray(values, dtype=np.float64).ravel()
        finite = numbers[np.isfinite(numbers)]
        if finite.size:
            self._events.write(lambda writer: writer.add_histogram(tag, finite, step))
        self._reach(step)

    def decision_probabilities(
        self, names: Sequence[str], choices: Sequence[Sequence[str]], probabilities: Sequence[FloatArray], *, step: int
    ) -> None:
        """Write how decided a policy is, decision by decision.

        - scalar `entropy/NAME` for a decision with more than one choice: its entropy, as a fraction of that of uniform choices;
        - text `policy/probabilities`: the numbers, as `probability_tables` arranges them;
        - histogram `policy/max_probability`: over decisions, the probability of the likeliest choice;
        - histogram `decision/NAME` for a decision with more than two choices: the bar at x = c is the probability of choice c;
        - histogram `policy/probability_of_LABEL` for all decisions between two choices, the second being LABEL: over these
          decisions, its probability (for skip connections: `policy/probability_of_yes`).

        Args: names: of D decisions. choices: their labels. probabilities: D arrays (C_d,), each summing to 1.
        Raises: ValueError if the counts differ.
        """
        shapes = [(len(labels),) for labels in choices]
        if len(names) != len(choices) or shapes != [row.shape for row in probabilities]:
            raise ValueError(
                f"expected probabilities {shapes} of {len(names)} decisions, got {[row.shape for row in probabilities]}"
            )
        self.text("policy/probabilities", probability_tables(names, choices, probabilities), step=step)
        open_decisions = [
            (name, labels, row) for name, labels, row in zip(names, choices, probabilities, strict=True) if len(row) > 1
        ]
        for name, _, row in open_decisions:
            self._entropy(f"entropy/{name}", row, step=step)
        self._fractions("policy/max_probability", [row.max() for _, _, row in open_decisions], step=step)
        for name, _, row in open_decisions:
            if len(row) > 2:
                self._bars(f"decision/{name}", row, step=step)
        second: dict[str, list[float]] = {}
        for _, labels, row in open_decisions:
            if len(row) == 2:
                second.setdefault(labels[1], []).append(row[1])
        for label, values in second.items():
            self._fractions(f"policy/probability_of_{label}", values, step=step)

    def _entropy(self, tag: str, probabilities: FloatArray, *, step: int) -> None:
        """Write the entropy of C probabilities as a fraction of log C; to TensorBoard alone, as the pictures are."""
        likely = probabilities[probabilities > 0]
        fraction = float(-(likely * np.log(likely)).sum() / np.log(len(probabilities)))
        self._events.write(lambda writer: writer.add_scalar(tag, fraction, step))

    def hparams(self, config: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """Write the run's row of TensorBoard's page HParams; call it once, at the end: TensorBoard keeps the first.

        Args:
            config: the row's settings, flat; a bool is shown as `true` or `false`.
            metrics: the row's results. Each becomes a scalar at the last step unless `scalars` has written it there.
        """
        from torch.utils.tensorboard.summary import hparams

        # torch would write a bool as the number 1 or 0.
        settings = {name: str(value).lower() if isinstance(value, bool) else value for name, value in config.items()}
        summaries = hparams(settings, dict(metrics))  # type: ignore[no-untyped-call]

        def add(writer: SummaryWriter) -> None:
            file_writer: Any = writer.file_writer  # add_hparams would open a run of its own beside this one
            for summary in summaries:
                file_writer.add_summary(summary)

        self._events.write(add)
        missing = {tag: value for tag, value in metrics.items() if self._last_step.get(tag) != self._step}
        if missing:
            self.scalars(missing, step=self._step)

    def layout(self, *, absent: Collection[str] = ()) -> None:
        """Write the page Custom Scalars (`LAYOUT`), unless the run that this one resumes has done so.

        Args: absent: tags that the run will never write; charts of these alone are left out.
        """
        if not self._has_layout:
            pages = {
                name: {chart: tags for chart, tags in page.items() if not set(tags) <= set(absent)}
                for name, page in LAYOUT.items()
            }
            charts = {
                name: {chart: ["Multiline", list(tags)] for chart, tags in page.items()} for name, page in pages.items() if page
            }
            self._events.write(lambda writer: writer.add_custom_scalars(charts))
            self._has_layout = True

    def flush(self) -> None:
        """Hand everything written so far to the operating system, so that a kill loses nothing of it."""
        self._events.flush()  # the JSON files hold no line back

    def state(self) -> TrackerState:
        """Flush, and return how far the files have come. The JSON files are on disk when this returns.

        Raises: OSError where the disk does not take them: a checkpoint must not know more than they say.
        """
        self.flush()
        return TrackerState(
            metrics_bytes=self._metrics.size(),
            architectures_bytes=self._architectures.size(),
            event_bytes=self._events.sizes(),
            step=self._step,
            elapsed=self.elapsed,
        )

    def close(self) -> None:
        """Flush and close all files."""
        self._metrics.close()
        self._architectures.close()
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _reach(self, step: int) -> None:
        self._step = max(self._step, step)

    def _fractions(self, tag: str, values: Sequence[float], *, step: int) -> None:
        """Write a histogram of values in [0, 1], over all of [0, 1]."""
        if values:
            counts, edges = np.histogram(np.clip(values, 0.0, 1.0), bins=_DISPLAY_BINS, range=(0.0, 1.0))
            self._buckets(tag, counts.astype(np.float64), edges, step=step)

    def _bars(self, tag: str, heights: FloatArray, *, step: int) -> None:
        """Write a histogram that TensorBoard shows as bars of heights[c] around x = c."""
        per_choice = max(1, _DISPLAY_BINS // len(heights))
        gap = int(per_choice > 2)
        counts = np.zeros(max(_DISPLAY_BINS, len(heights)))
        for choice, height in enumerate(heights):
            counts[choice * per_choice + gap : (choice + 1) * per_choice - gap] = height
        self._buckets(tag, counts, np.arange(len(counts) + 1) / per_choice - 0.5, step=step)

    def _buckets(self, tag: str, counts: FloatArray, edges: FloatArray, *, step: int) -> None:
        """Write a histogram with given counts (B,) between edges (B + 1,), showing all of that range."""
        counts = np.maximum(counts, _TRACE)
        middles = (edges[:-1] + edges[1:]) / 2
        self._events.write(
            lambda writer: writer.add_histogram_raw(
                tag,
                min=float(edges[0]),
                max=float(edges[-1]),
                num=float(counts.sum()),
                sum=float(counts @ middles),
                sum_squares=float(counts @ middles**2),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=counts.tolist(),
                global_step=step,
            )
        )


def _require_absent(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise ValueError(
                f"{path}: expected a folder without a run, got one with this file; resume it or choose another folder"
            )
