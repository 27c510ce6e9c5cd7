"""What `scripts.bench` is asked for; apart from what measures so that the command line does not wait for PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from enas.configs import DeviceName, Precision, require
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.spaces.rnn import RnnConfig

Name = Literal[
    "controller-batch",
    "macro-activation-peak",
    "macro-bf16-reward",
    "macro-bf16-step",
    "macro-controller-step",
    "macro-layout",
    "macro-overhead",
    "macro-shared-step",
    "micro-activation-peak",
    "micro-bf16-reward",
    "micro-bf16-step",
    "micro-controller-step",
    "micro-layout",
    "micro-overhead",
    "micro-shared-step",
    "nb201-activation-peak",
    "nb201-bf16-reward",
    "nb201-bf16-step",
    "nb201-controller-step",
    "nb201-layout",
    "nb201-overhead",
    "nb201-shared-step",
    "rnn-activation-peak",
    "rnn-bf16-reward",
    "rnn-bf16-step",
    "rnn-controller-step",
    "rnn-overhead",
    "rnn-plain-loop",
    "rnn-shared-step",
    "search-memory",
    "update-categorical",
    "update-darts",
    "update-enas",
    "update-evolution",
    "update-gaea",
    "update-gdas",
    "update-ppo",
    "update-uniform",
]
SpaceName = Literal["macro", "micro", "nb201", "rnn"]

_MODES = ("compare", "growth", "norms", "profile")
_FILES = ("growth", "json", "markdown", "norms", "profile")
_NOT_SAVED = ("only", *_MODES, *_FILES, "points", "shapes")
_BATCH_SIZES = ("macro_batch_size", "micro_batch_size", "nb201_batch_size", "rnn_batch_size")


@dataclass(frozen=True, kw_only=True)
class GrowthPoints:
    """Sizes of the macro search whose seconds an epoch `--growth` draws; along each curve the others stay at the bench's."""

    layers: tuple[int, ...] = (6, 9, 12, 18, 24)
    """Layers of the network."""
    filters: tuple[int, ...] = (16, 24, 36, 48, 64)
    """Filters of its layers."""
    batch_sizes: tuple[int, ...] = (32, 64, 128, 256)
    """Images of a training minibatch."""
    architectures: tuple[int, ...] = (5, 10, 20, 40)
    """Architectures of a controller step."""
    rounds: int = 7
    """How often each point is timed, in turn with all others; the median counts."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("layers", "filters", "batch_sizes", "architectures"):
            _require_sizes(
                f"--points.{name.replace('_', '-')}", getattr(self, name), least=2 if name == "filters" else 1, count=2
            )
        require(self.rounds >= 1, "--points.rounds", "at least 1", self.rounds)


@dataclass(frozen=True, kw_only=True)
class NormShapes:
    """Images that `--norms` times BatchNorm on."""

    channels: tuple[int, ...] = (16, 20, 24, 32, 36, 40, 48, 64, 72)
    """Channels."""
    image_sizes: tuple[int, ...] = (32, 16, 8)
    """Heights and widths, in pixels."""
    batch_size: int = 128
    """Images of a minibatch."""
    precision: Precision = "fp32"
    """Number format of the images; weights and averages are fp32."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _require_sizes("--shapes.channels", self.channels, least=1, count=1)
        _require_sizes("--shapes.image-sizes", self.image_sizes, least=1, count=1)
        require(self.batch_size >= 2, "--shapes.batch-size", "at least 2", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class BenchCommand:
    """Measure what weight sharing, layouts, number formats, strategies and environments cost; all of it takes hours."""

    only: tuple[Name, ...] = ()
    """Benchmarks to run; none for all."""
    pairs: int = 30
    """Interleaved pairs of each; below 30 for trying out."""
    macro: MacroConfig = field(default_factory=MacroConfig)
    """Size of the macro network."""
    micro: MicroConfig = field(default_factory=MicroConfig)
    """Size of the micro network: as many cells and two reductions."""
    nb201: NasBench201Config = field(default_factory=NasBench201Config)
    """Size of the NAS-Bench-201 network, on which strategies train mixtures, too."""
    rnn: RnnConfig = field(default_factory=RnnConfig)
    """Size of the recurrent network."""
    macro_batch_size: int = 128
    """Images of a training minibatch of the macro network."""
    micro_batch_size: int = 160
    """Images of a training minibatch of the micro network."""
    nb201_batch_size: int = 64
    """Images of a training minibatch of the NAS-Bench-201 network."""
    rnn_batch_size: int = 64
    """Sequences of a training minibatch of the recurrent network, and of one that rewards are measured on."""
    valid_batch_size: int = 128
    """Images that a reward is measured on."""
    bptt: int = 35
    """Tokens of a sequence."""
    vocabulary: int = 10_000
    """Different tokens of the random text."""
    image_size: int = 32
    """Height and width of the random images, in pixels."""
    num_images: int = 45_000
    """How many there are to draw minibatches from."""
    architectures: int = 20
    """Architectures of a controller step."""
    seed: int = 0
    """Everything random follows from it."""
    device: DeviceName = "auto"
    """Where networks run."""
    threads: int | None = None
    """CPU threads; None for PyTorch's choice."""
    markdown: Path | None = None
    """File for the table in Markdown."""
    json: Path | None = None
    """File for every single measurement; it is written anew after each benchmark."""
    norms: Path | None = None
    """File for a table in Markdown that re-derives on which images the fused BatchNorm pays; instead of benchmarks."""
    shapes: NormShapes = field(default_factory=NormShapes)
    """Images of --norms."""
    growth: Path | None = None
    """File, .svg, for curves of the macro search's seconds an epoch against its sizes, with the numbers in a file .md beside it;
    instead of benchmarks."""
    points: GrowthPoints = field(default_factory=GrowthPoints)
    """Sizes of --growth."""
    profile: Path | None = None
    """File for tables in Markdown of what training steps and rewards spend their time on, as a search takes them and in default
    layout with PyTorch's BatchNorm, one by one; instead of benchmarks."""
    compare: tuple[Path, Path] | None = None
    """Two files of --json, the old and the new one, to hold against each other; nothing is measured then."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("pairs", "bptt", "image_size", "architectures", "valid_batch_size", *_BATCH_SIZES):
            require(getattr(self, name) >= 1, f"--{name.replace('_', '-')}", "at least 1", getattr(self, name))
        require(self.vocabulary >= 2, "--vocabulary", "at least 2", self.vocabulary)
        of_growth = max(self.points.batch_sizes) if self.growth is not None else 1
        batch = max(self.macro_batch_size, self.micro_batch_size, self.nb201_batch_size, of_growth)
        require(self.num_images >= batch, "--num-images", f"at least {batch}, a batch", self.num_images)
        require(self.seed >= 0, "--seed", "at least 0", self.seed)
        require(self.threads is None or self.threads >= 1, "--threads", "at least 1", self.threads)
        self._check_files()
        self._check_modes()

    def _check_files(self) -> None:
        for name in _FILES:
            file = getattr(self, name)
            fits = file is None or (file.parent.is_dir() and not file.is_dir())
            require(fits, f"--{name}", "a file in an existing folder", file)
        require(self.growth is None or self.growth.suffix == ".svg", "--growth", "a file that ends in .svg", self.growth)

    def _check_modes(self) -> None:
        """Refuse flags of which one says to do something else than the other."""
        asked = [mode for mode in _MODES if getattr(self, mode) is not None]
        require(len(asked) < 2, f"--{asked[0] if asked else ''}", "no other thing to do beside it", f"--{', --'.join(asked[1:])}")
        if asked:
            beside = [f"--{name}" for name in ("only", "markdown", "json") if getattr(self, name)]
            require(not beside, f"--{asked[0]}", "none of the benchmarks' flags beside it", ", ".join(beside))

    def settings(self) -> dict[str, Any]:
        """Return what the benchmarks' figures follow from."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_SAVED}


def _require_sizes(flag: str, sizes: Iterable[int], *, least: int, count: int) -> None:
    given = list(sizes)
    fits = len(set(given)) == len(given) >= count and min(given, default=0) >= least
    require(fits, flag, f"at least {count} different numbers of at least {least}", " ".join(map(str, given)) or "none")
