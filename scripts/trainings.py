"""What the folders of `search` and of `retrain` hold of finished trainings from scratch, and what those followed from.

Nothing is written, and nothing waits for PyTorch. Settings that a folder of an earlier version lacks have their default.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from enas.answers import ANSWER, read_answer
from enas.configs import ObjectiveConfig, RetrainConfig
from enas.data_configs import AugmentConfig, SplitConfig, TextConfig
from enas.metrics import METRICS, MetricName
from enas.published import PUBLISHED
from enas.spaces import SPACES
from scripts.configuration import CONFIG_FILE, as_yaml, filled, read_config
from scripts.retrain import RETRAIN_FILE
from scripts.search_config import SearchConfig

_SECTIONS: dict[str, type[AugmentConfig | RetrainConfig | SplitConfig | TextConfig]] = {
    "augment": AugmentConfig,
    "retrain": RetrainConfig,
    "split": SplitConfig,
    "text": TextConfig,
}
_OF_THE_SEARCH = ("epochs", "reward", "schedule", "shared", "warm_start")
_NOT_OF_THE_SEARCH = ("collapse", "config", "data_dir", "device", "preset", "ranking", "resume", "retrain", "run_dir", "threads")
"""What the architecture that a search finds does not follow from, but for the last bits of a machine."""
RANDOM_FILE = "random.json"
"""As `enas.recipe.RANDOM_FILE`, which waits for PyTorch."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One network trained from scratch.

    Attributes:
        key: its architecture as JSON, and the seed of its training: the same twice is the same training.
        test_value: the metric on the test split after the last epoch.
        parameters: of the network.
        metric: how it is told.
    """

    key: tuple[str, int]
    test_value: float
    parameters: int
    metric: MetricName


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the architecture of a folder comes from.

    Attributes:
        name: strategy and path rule of the search that found it, or what was given to `retrain`.
        search: which search that is: its settings and its seed, as text; the same in two folders is the same search.
        settings: of that search, but for strategy, path rule and seed.
        folder: of that search, resolved; None for an architecture that was given.
    """

    name: str
    search: str
    settings: dict[str, Any]
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """What a folder holds.

    Attributes:
        folder: as the user named it.
        origin: of its architecture.
        settings: that a training follows from, but for architecture, seed and machine.
        own, random: finished trainings of its architecture, and of the random ones that it is compared with.
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
    has_answer = (folder / f"{ANSWER}.json").is_file()
    answer = json.dumps(read_answer(folder)["architecture"], sort_keys=True) if has_answer else None
    # What an earlier answer left behind, before the search went on, is not this one's.
    results = _read_results(folder / "retrain", "searched", settings["retrain"]["seeds"])
    own = [one for one in results.values() if one.key[0] == answer]
    random, num_random = _read_random(folder / "retrain", answer, settings["retrain"])
    missing = _missing(own, random, settings["retrain"], num_random=num_random) if has_answer else "has no answer yet"
    return Trainings(folder=folder, origin=_searched(folder, values), settings=settings, own=own, random=random, missing=missing)


def _read_retrain(folder: Path) -> Trainings:
    file = folder / RETRAIN_FILE
    values = read_config(file)
    settings = _trained_with(file, values)
    own = list(_read_results(folder, "architecture", settings["retrain"]["seeds"]).values())
    # The first training is the first to follow the answer of a search that has gone on since.
    random, num_random = _read_random(folder, own[0].key[0] if own else None, settings["retrain"])
    return Trainings(
        folder=folder,
        origin=_given(str(values.get("architecture"))),
        settings=settings,
        own=own,
        random=random,
        missing=_missing(own, random, settings["retrain"], num_random=num_random),
    )


def _searched(folder: Path, values: Mapping[str, Any]) -> Origin:
    strategy = values.get("strategy", "enas")
    settings = {name: values.get(name) for name in _OF_THE_SEARCH}
    settings["controller"] = {strategy: (values.get("controller") or {}).get(strategy)}
    settings["objective"] = filled(asdict(ObjectiveConfig()), values.get("objective") or {})
    name = f"{strategy}, paths: {values.get('paths', 'controller')}"
    return Origin(name=name, search=_identity(values), settings=settings, folder=folder.resolve())


def _identity(values: Mapping[str, Any]) -> str:
    """Return what a search follows from, its seed included, as text that is the same for the same search."""
    settings = filled({**asdict(SearchConfig()), "child": _child_of(values)}, values)
    settings["controller"] = settings["controller"].get(settings["strategy"])
    del settings["schedule"]["checkpoint_minutes"]
    return json.dumps({name: settings[name] for name in settings if name not in _NOT_OF_THE_SEARCH}, sort_keys=True, default=str)


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
    settings = {
        "space": str(values.get("space", "macro")),
        "data": values.get("data"),
        "precision": values.get("precision", "fp32"),
        "child": _child_of(values),
    }
    for name, section in _SECTIONS.items():
        try:
            settings[name] = asdict(section(**(values.get(name) or {})))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file}: {name}: {error}") from error
    plain: dict[str, Any] = yaml.safe_load(as_yaml(settings))  # as files have it, lists for tuples
    return plain


def _child_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the network, every one named where the space is known."""
    space = str(values.get("space", "macro"))
    child = asdict(SPACES[space]()) if space in SPACES else {}  # type: ignore[call-overload]
    return {**child, **(values.get("child") or {})}


def _read_results(folder: Path, name: str, count: int) -> dict[int, Training]:
    """Read the finished ones of `count` trainings by their numbers. Raises ValueError naming the file that is no result."""
    files = {index: folder / f"{name}-{index}" / "result.json" for index in range(count)}
    return {index: _read_result(file) for index, file in files.items() if file.is_file()}


def _read_random(folder: Path, architecture: str | None, retrain: Mapping[str, Any]) -> tuple[list[Training], int]:
    """Read the finished trainings of the random architectures that one is compared with, and how many there will be.

    Of those of about the same size only what was drawn for this architecture counts; fewer may have been found than asked for.

    Args: architecture: as JSON; None where it is not known yet.
    """
    results, count = _read_results(folder, "random", retrain["random"]), retrain["random"]
    if retrain["random_within"] is None:
        return list(results.values()), count
    found, is_complete = _read_found(folder / RANDOM_FILE, architecture)
    random = [one for index, one in results.items() if index < len(found) and one.key[0] == found[index]]
    return random, len(found) if is_complete else count


def _read_found(file: Path, architecture: str | None) -> tuple[list[str], bool]:
    """Return the random architectures that were found for one, as JSON, and whether those are all. Raises ValueError."""
    if not file.is_file():
        return [], False
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        found = [json.dumps(row["architecture"], sort_keys=True) for row in record["found"]]
        drawn_for, is_complete = json.dumps(record["drawn_for"]["architecture"], sort_keys=True), bool(record["complete"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected the random architectures of about the same size, got {error!r}") from error
    return (found, is_complete) if drawn_for == architecture else ([], False)


def _read_result(file: Path) -> Training:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        result = record["result"]
        metric = METRICS[result.get("metric", "accuracy")]  # results of before texts do not say so
        loss = math.nan if result.get("test_loss") is None else float(result["test_loss"])
        return Training(
            key=(json.dumps(record["architecture"], sort_keys=True), int(result["seed"])),
            test_value=metric.of(accuracy=float(result["test_accuracy"]), loss=loss),
            parameters=int(result["parameters"]),
            metric=metric.name,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected the result of a training, got {error!r}") from error


def _missing(own: Sequence[Training], random: Sequence[Training], counts: Mapping[str, Any], *, num_random: int) -> str:
    if counts["epochs"] == 0:
        return "trains nothing from scratch (retrain.epochs 0)"
    parts = []
    if len(own) < counts["seeds"]:
        parts.append(f"{len(own)} of {counts['seeds']} trainings of its architecture")
    if len(random) < num_random:
        parts.append(f"{len(random)} of {num_random} random architectures")
    return f"has {' and '.join(parts)}" if parts else ""
