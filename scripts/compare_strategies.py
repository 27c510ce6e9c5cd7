"""Strategies of a comparison as the command line names them: `NAME`, or a variant `[LABEL=]NAME:flag=value,flag=value`.

A variant's settings go through the parser of `search`, over the settings that all strategies share. What would change the
benchmark itself (data, space, network, retraining) is shared by all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from controllers import CONTROLLERS
from scripts.configuration import as_yaml, differences, parse_flags
from scripts.search_config import SearchConfig

REFERENCE = "uniform"
_OF_A_STRATEGY = ("collapse", "controller", "epochs", "paths", "schedule", "shared", "strategy", "warm_start")
"""Settings that a variant may have for itself."""
_ON_A_TABLE = ("controller", "schedule.architectures_per_step")
_ALL_ON_A_TABLE = (*_ON_A_TABLE, "config", "objective", "preset", "resume", "reward", "run_dir", "seed", "strategy", "threads")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_NOT_SAVED = ("config", "preset", "resume", "run_dir", "seed")


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A strategy of a comparison.

    Attributes:
        label: what it is called, and its folder.
        config: of its searches, with the first seed.
        own: its settings that the others do not have, in words.
    """

    label: str
    config: SearchConfig
    own: str

    @property
    def tuned(self) -> str:
        """How its controller's settings differ from the defaults, in words."""
        settings: Any = getattr(self.config.controller, self.config.strategy)
        changes = differences(asdict(type(settings)()), asdict(settings))
        return ", ".join(f"{path} {new} (default {old})" for path, old, new in changes)

    def saved(self) -> dict[str, Any]:
        """Return all settings that its runs follow from, as a YAML file has them."""
        values = {name: value for name, value in asdict(self.config).items() if name not in _NOT_SAVED}
        values["controller"] = {self.config.strategy: values["controller"][self.config.strategy]}
        plain: dict[str, Any] = yaml.safe_load(as_yaml(values))
        return plain


def parse_strategies(items: Sequence[str], base: SearchConfig, *, has_table: bool) -> dict[str, Strategy]:
    """Return strategies by label, random search first where it is not named.

    Args: items: as on the command line. base: settings that all share. has_table: whether they run on a table.
    Raises: ValueError naming the item and what is wrong; SystemExit where a flag of it is.
    """
    if not items:
        raise ValueError("--strategies: expected at least one, got none")
    strategies: dict[str, Strategy] = {}
    for item in items:
        strategy = _parse(item, base, has_table=has_table)
        if strategy.label in strategies:
            raise ValueError(
                f"--strategies: expected each label once, got {strategy.label} twice; name one LABEL=NAME:flag=value"
            )
        strategies[strategy.label] = strategy
    if REFERENCE not in strategies:
        return {REFERENCE: _parse(REFERENCE, base, has_table=has_table), **strategies}
    if strategies[REFERENCE].config.strategy != REFERENCE:
        name = strategies[REFERENCE].config.strategy
        raise ValueError(f"--strategies: expected random search under the label {REFERENCE}, the reference, got {name}")
    return strategies


def _parse(item: str, base: SearchConfig, *, has_table: bool) -> Strategy:
    head, has_settings, settings = item.partition(":")
    label, has_label, name = head.partition("=")
    name = name if has_label else label
    if name not in CONTROLLERS:
        raise ValueError(f"--strategies: expected one of {', '.join(CONTROLLERS)} in {item!r}, got {name!r}")
    if not _LABEL.fullmatch(label):
        raise ValueError(f"--strategies: expected a label of letters, digits and . _ + - in {item!r}, got {label!r}")
    flags = _flags(item, settings) if has_settings else []
    try:
        # the parser takes a tenth of a second, and there is nothing to parse in a bare name
        config = parse_flags(SearchConfig, base, ["--strategy", name, *flags]) if flags else _named(base, name)
        changes = [change for change in differences(asdict(base), asdict(config)) if change[0] != "strategy"]
        _check(changes, has_table=has_table)
    except ValueError as error:
        raise ValueError(f"--strategies {item}: {error}") from error
    except SystemExit as error:
        if error.code:
            sys.stderr.write(f"The settings are those of --strategies {item}.\n")
        raise
    own = ", ".join(f"{path} {new}" for path, _, new in changes)
    return Strategy(label=label, config=config, own=own)


def _named(base: SearchConfig, name: str) -> SearchConfig:
    strategy: Any = name
    return replace(base, strategy=strategy)


def _flags(item: str, settings: str) -> list[str]:
    """Turn `a.b=1,c=2,3` into flags: --a.b 1 --c 2 3."""
    flags: list[str] = []
    for part in settings.split(","):
        name, is_setting, value = part.partition("=")
        if is_setting and name and value:
            flags += [f"--{name.strip().replace('_', '-')}", value]
        elif flags and not is_setting:
            flags.append(part)  # a further value of the flag before
        else:
            raise ValueError(f"--strategies: expected flag=value after the colon in {item!r}, got {part!r}")
    return flags


def _check(changes: Sequence[tuple[str, Any, Any]], *, has_table: bool) -> None:
    for path, _, new in changes:
        if path.partition(".")[0] not in _OF_A_STRATEGY:
            raise ValueError(f"{path}: expected the same for all strategies, since it is part of the benchmark, got {new}")
        if has_table and not _is_among(path, _ON_A_TABLE):
            allowed = " and ".join(f"{name}{'.*' if name == 'controller' else ''}" for name in _ON_A_TABLE)
            raise ValueError(f"{path}: expected only {allowed} with --table, where nothing is trained, got {new}")


def check_base(config: SearchConfig, default: SearchConfig) -> None:
    """Refuse settings of all strategies that mean nothing on a table. Raises ValueError naming the flag.

    Args: default: the preset's settings, of which nothing was asked for.
    """
    for path, old, new in differences(asdict(default), asdict(config)):
        if not _is_among(path, _ALL_ON_A_TABLE):
            flag, hint = path.replace("_", "-"), "--table-data and --budget say what is measured"
            expected = f"the preset's {old} with --table, where nothing is trained ({hint})"
            raise ValueError(f"--{flag}: expected {expected}, got {new}")


def _is_among(path: str, names: tuple[str, ...]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in names)


def search_settings(config: SearchConfig) -> SearchConfig:
    """Return what of a configuration is a search's, where a subclass has more."""
    return SearchConfig(**{field.name: getattr(config, field.name) for field in fields(SearchConfig)})


def with_changes(config: SearchConfig, changes: Mapping[str, Any]) -> SearchConfig:
    """Return a configuration with changed settings, such as {"schedule.controller_steps": 5}."""
    for path, value in changes.items():
        section, _, name = path.partition(".")
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config


def run_folder(out: Path, label: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / label / f"seed-{seed}"
