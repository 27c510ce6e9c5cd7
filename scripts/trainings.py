"""What the folders of `search` and of `retrain` hold of finished trainings from scratch, and what those followed from.

Nothing is written, and nothing waits for PyTorch. Settings that a folder of an earlier version lacks have their default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from enas.answers import ANSWER, read_answer
from enas.configs import AugmentConfig, RetrainConfig, SplitConfig
from enas.published import PUBLISHED
from enas.spaces import SPACES
from scripts.configuration import CONFIG_FILE, as_yaml, read_config
from scripts.retrain import RETRAIN_FILE

_SECTIONS: dict[str, type[AugmentConfig | RetrainConfig | SplitConfig]] = {
    "augment": AugmentConfig,
    "retrain": RetrainConfig,
    "split": SplitConfig,
}
_OF_THE_SEARCH = ("epochs", "reward", "schedule", "shared", "warm_start")


@dataclass(frozen=True, kw_only=True)
class Training:
    """One network trained from scratch.

    Attributes:
        key: its architecture as JSON, and the seed of its training: the same twice is the same training.
        test_accuracy: fraction of the test split after the last epoch.
        parameters: of the network.
    """

    key: tuple[str, int]
    test_accuracy: float
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the architecture of a folder comes from.

    Attributes:
        name: strategy and path rule of the search that found it, or what was given to `retrain`.
        search: which search that is; the same in two folders is the same search.
        settings: of that search, but for strategy, path rule and seed.
    """

    name: str
    search: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """What a folder holds.

    Attributes:
        folder: as the user named it.
        origin: of its architecture.
        settings: that a training follows from, but for architecture, seed and machine.
        own, random: finished trainings of its architecture, and of random ones.
        missing: what it should hold and does not, in words that follow the folder's name; empty where it is complete.
    """

    folder: Path
    origin: Origin
    settings: dict[str, Any]
    own: Sequence[Training]
    random: Sequence[Training]
    missing: str


def read_folder(folder: Path) -> Trainings:
    """Read a folder of `search` or `retrain`. Raises ValueError for another one, or naming the file that is damaged."""
    if (folder / CONFIG_FILE).is_file():
        return _read_search(folder)
    if (folder / RETRAIN_FILE).is_file():
        return _read_retrain(folder)
    raise ValueError(f"runs: expected the folder of a run, with a {CONFIG_FILE} or a {RETRAIN_FILE}, got {folder}")


def _read_search(folder: Path) -> Trainings:
    file = folder / CONFIG_FILE
    values = read_config(file)
    settings = _trained_with(file, values)
    counts = settings["retrain"]
    own: list[Training] = []
    missing = "has no answer yet"
    random = _read_results(folder / "retrain", "random", counts["random"])
    if (folder / f"{ANSWER}.json").is_file():
        answer = json.dumps(read_answer(folder)["architecture"], sort_keys=True)
        # What an earlier answer left behind, before the search went on, is not this one's.
        own = [one for one in _read_results(folder / "retrain", "searched", counts["seeds"]) if one.key[0] == answer]
        missing = _missing(own, random, counts)
    return Trainings(folder=folder, origin=_searched(folder, values), settings=settings, own=own, random=random, missing=missing)


def _read_retrain(folder: Path) -> Trainings:
    file = folder / RETRAIN_FILE
    values = read_config(file)
    settings = _trained_with(file, values)
    counts = settings["retrain"]
    own = _read_results(folder, "architecture", counts["seeds"])
    random = _read_results(folder, "random", counts["random"])
    return Trainings(
        folder=folder,
        origin=_given(str(values.get("architecture"))),
        settings=settings,
        own=own,
        random=random,
        missing=_missing(own, random, counts),
    )


def _searched(folder: Path, values: Mapping[str, Any]) -> Origin:
    strategy = values.get("strategy", "enas")
    settings = {name: values.get(name) for name in _OF_THE_SEARCH}
    settings["controller"] = {strategy: (values.get("controller") or {}).get(strategy)}
    return Origin(name=f"{strategy}, paths: {values.get('paths', 'controller')}", search=str(folder.resolve()), settings=settings)


def _given(architecture: str) -> Origin:
    """Return where an architecture that was given to `retrain` comes from: a search, if its folder is still there."""
    text = " ".join(architecture.split())
    if architecture not in PUBLISHED and len(text) < 1000:  # a longer one is no path
        path = Path(architecture)
        folder = path if path.is_dir() else path.parent
        if path.exists() and (folder / CONFIG_FILE).is_file():
            return _searched(folder, read_config(folder / CONFIG_FILE))
    return Origin(name=f"given: {text if len(text) <= 40 else f'{text[:37]}...'}", search=f"given: {text}", settings={})


def _trained_with(file: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a training follows from, every setting named. Raises ValueError naming the file."""
    space = str(values.get("space", "macro"))
    child = asdict(SPACES[space]()) if space in SPACES else {}  # type: ignore[call-overload]
    settings = {
        "space": space,
        "data": values.get("data"),
        "precision": values.get("precision", "fp32"),
        "child": {**child, **(values.get("child") or {})},
    }
    for name, section in _SECTIONS.items():
        try:
            settings[name] = asdict(section(**(values.get(name) or {})))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}: {name}: {error}") from error
    plain: dict[str, Any] = yaml.safe_load(as_yaml(settings))  # as files have it, lists for tuples
    return plain


def _read_results(folder: Path, name: str, count: int) -> list[Training]:
    """Read the finished ones of `count` trainings. Raises ValueError naming the file that is no result."""
    files = [folder / f"{name}-{index}" / "result.json" for index in range(count)]
    return [_read_result(file) for file in files if file.is_file()]


def _read_result(file: Path) -> Training:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        result = record["result"]
        return Training(
            key=(json.dumps(record["architecture"], sort_keys=True), int(result["seed"])),
            test_accuracy=float(result["test_accuracy"]),
            parameters=int(result["parameters"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected the result of a training, got {error!r}") from error


def _missing(own: Sequence[Training], random: Sequence[Training], counts: Mapping[str, Any]) -> str:
    if counts["epochs"] == 0:
        return "trains nothing from scratch (retrain.epochs 0)"
    parts = []
    if len(own) < counts["seeds"]:
        parts.append(f"{len(own)} of {counts['seeds']} trainings of its architecture")
    if len(random) < counts["random"]:
        parts.append(f"{len(random)} of {counts['random']} random architectures")
    return f"has {' and '.join(parts)}" if parts else ""
