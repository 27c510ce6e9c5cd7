"""From a command line to a configuration: preset, then a config file, then flags, all read by one parser.

A config file is turned into flags ahead of the user's own, so that every message about a value is the same and names its flag.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro
import yaml

from enas.datasets import check_source
from enas.datasets.source import SplitSizes
from enas.spaces import SPACES
from scripts.ending import fail
from scripts.presets import PRESETS
from scripts.search_config import SearchConfig

if TYPE_CHECKING:
    from scripts.retrain import RetrainCommand

CONFIG_FILE = "config.yaml"
_NOT_SAVED = ("config", "run_dir", "resume")
MAY_CHANGE = ("epochs", "device", "ranking.table")
"""What of a run's settings a resumed one may have otherwise; a table that was moved moves nothing of the search."""
_MAY_CHANGE_FLAGS = f"{', '.join(f'--{name}' for name in MAY_CHANGE[:-1])} and --{MAY_CHANGE[-1]}"

ConfigT = TypeVar("ConfigT")


def parse_search(arguments: Sequence[str]) -> SearchConfig:
    """Return the configuration of a search; exits with 2 and a message that names the flag or file where something is wrong."""
    try:
        run_dir = first_flag("--resume", arguments)
        config = _fresh(arguments) if run_dir is None else _resumed(Path(run_dir), arguments)
        sizes = check_data(config)
        config.shared.require_examples(num_train=sizes.train, num_valid=sizes.valid, unit=sizes.unit)
        config.retrain.require_examples(num_train=sizes.train, num_valid=sizes.valid, unit=sizes.unit)
        check_ranking(config)
    except ValueError as error:
        fail(str(error))
    return config


def check_data(config: SearchConfig | RetrainCommand) -> SplitSizes:
    """Return the sizes of the splits, without PyTorch. Raises ValueError where data, its settings and the network do not fit."""
    sizes = check_source(config.data, config.data_dir, text=config.text, **asdict(config.split))
    config.child.require_inputs(sizes.kind, data=config.data)
    config.augment.require_kind(sizes.kind)
    return sizes


def _fresh(arguments: Sequence[str]) -> SearchConfig:
    """Return a new run's configuration."""
    file = first_flag("--config", arguments)
    file_values = {} if file is None else read_config(Path(file))
    flags = {name: first_flag(f"--{name}", arguments) for name in ("preset", "space")}
    default = default_config({**file_values, **{name: value for name, value in flags.items() if value is not None}})
    config = _parse_over_file(default, file, file_values, arguments)
    if config.warm_start is not None:
        load_other("--warm-start", config.warm_start)
    return config


def check_ranking(config: SearchConfig) -> None:
    """Read the table that the search is held against, if any. Raises ValueError naming the flag where it does not serve."""
    if config.ranking.table is not None:
        from enas.ranking.monitor import draw_sample

        draw_sample(config.child.make_space(), config.ranking)


def first_flag(flag: str, arguments: Sequence[str]) -> str | None:
    """Return the value of a flag that decides what the other flags mean, before they are parsed; None if it is not given."""
    value = None
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            value = arguments[index + 1]
        elif argument.startswith(f"{flag}="):
            value = argument.removeprefix(f"{flag}=")
    return value


def default_config(values: Mapping[str, Any]) -> SearchConfig:
    """Return the configuration that the other settings change; `preset` and `space` among the values choose it."""
    preset = values.get("preset", "quickstart")
    if preset not in list(PRESETS):
        raise ValueError(f"--preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
    default = PRESETS[preset]()
    space = values.get("space", default.space)
    if space not in list(SPACES):
        raise ValueError(f"--space: expected one of {', '.join(SPACES)}, got {space!r}")
    if space == default.space:
        return default
    child = SPACES[space]()
    reward = default.reward if child.reads == default.child.reads else "accuracy"  # which any data have
    return replace(default, space=space, child=child, reward=reward)


def parse_flags(kind: type[ConfigT], default: ConfigT, arguments: Sequence[str]) -> ConfigT:
    """Read flags over a default configuration; of a flag given twice the last counts."""
    return tyro.cli(kind, prog=program(), default=default, args=list(arguments), config=(tyro.conf.FlagConversionOff,))


def program() -> str:
    """Return how the running command is called."""
    return f"python3 scripts/run.py {Path(sys.argv[0]).stem}"


def _parse_over_file(
    default: SearchConfig, file: Path | str | None, values: Mapping[str, Any], arguments: Sequence[str]
) -> SearchConfig:
    """Read a file's settings, then flags; a message about one of them is followed by the file's name."""
    try:
        return parse_flags(SearchConfig, default, [*to_flags(values), *arguments])
    except SystemExit as error:
        if file is not None and error.code:
            sys.stderr.write(f"The settings were read from {file}, then from the command line.\n")
        raise


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file. Raises ValueError naming the file where it is missing, empty or no mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a readable configuration file, got {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not values:
        raise ValueError(f"{path}: expected a mapping of settings, got {'nothing' if not values else type(values).__name__}")
    forbidden = [name for name in _NOT_SAVED if name in values]
    if forbidden:
        raise ValueError(f"{path}: expected settings of a search, got {forbidden[0]}, which only the command line may give")
    for section in (field.name for field in fields(SearchConfig) if is_dataclass(getattr(PRESETS["quickstart"](), field.name))):
        if section in values and not isinstance(values[section], dict):
            raise ValueError(f"{path}: {section}: expected a mapping, got {type(values[section]).__name__}")
    return values


def to_flags(values: Mapping[str, Any], prefix: str = "--") -> list[str]:
    """Turn nested settings into flags: {"child": {"num_layers": 4}} into ["--child.num-layers", "4"]."""
    flags: list[str] = []
    for name, value in values.items():
        flag = f"{prefix}{str(name).replace('_', '-')}"
        if isinstance(value, dict):
            flags += to_flags(value, f"{flag}.")
        elif isinstance(value, list):
            flags += [flag, *map(str, value)]
        else:
            flags += [flag, str(value)]
    return flags


def to_yaml(config: SearchConfig, *, threads: int) -> str:
    """Return the text of a run's config.yaml: every setting, with the number of threads that the bits depend on."""
    values = {name: value for name, value in asdict(config).items() if name not in _NOT_SAVED}
    return as_yaml({**values, "threads": threads})


def as_yaml(values: Mapping[str, Any]) -> str:
    """Return nested settings as YAML, in their order."""
    return yaml.safe_dump(_plain(dict(values)), sort_keys=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _resumed(run_dir: Path, arguments: Sequence[str]) -> SearchConfig:
    """Return a run's configuration with the changes that a resumed run may have."""
    if not (run_dir / CONFIG_FILE).exists():
        raise ValueError(f"--resume: expected the folder of a run with a {CONFIG_FILE}, got {run_dir}")
    saved = load_saved(run_dir)
    config = parse_flags(SearchConfig, saved, arguments)
    for path, old, new in forbidden_changes(asdict(saved), asdict(config)):
        if path != "resume":
            flag = path.replace("_", "-")
            raise ValueError(f"--{flag}: a resumed run may change only {_MAY_CHANGE_FLAGS}; expected {old}, got {new}")
    return replace(config, run_dir=run_dir)


def load_saved(run_dir: Path) -> SearchConfig:
    """Read the configuration that a run was started with. Raises ValueError naming the file where it does not serve."""
    values = read_config(run_dir / CONFIG_FILE)
    return _parse_over_file(default_config(values), run_dir / CONFIG_FILE, values, [])


def load_other(flag: str, run_dir: Path) -> SearchConfig:
    """Return the configuration of a run whose checkpoint a flag asks for. Raises ValueError naming the flag without one."""
    if not (run_dir / CONFIG_FILE).is_file():
        raise ValueError(f"{flag}: expected the folder of a run with a {CONFIG_FILE}, got {run_dir}")
    if not has_checkpoint(run_dir):
        raise ValueError(f"{flag}: expected a run that has saved a checkpoint, got {run_dir}, which has none yet")
    try:
        return load_saved(run_dir)
    except ValueError as error:
        raise ValueError(f"{flag}: expected the folder of a run, got {run_dir}, where {error}") from error


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a folder holds a checkpoint, the newest or the one before it, intact or not."""
    return any(run_dir.glob("checkpoint*.pt"))


def filled(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings, those that are missing with their defaults."""
    return {
        name: filled(defaults[name], value or {}) if isinstance(defaults.get(name), dict) else value
        for name, value in {**defaults, **values}.items()
    }


def forbidden_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the `differences` that a resumed run may not have."""
    return (change for change in differences(old, new) if change[0] not in MAY_CHANGE)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, old, new) for each setting that differs, such as ("child.filters", 16, 8)."""
    for name, value in old.items():
        if isinstance(value, dict):
            yield from differences(value, new.get(name) or {}, f"{prefix}{name}.")
        elif value != new.get(name):
            yield f"{prefix}{name}", value, new.get(name)
