"""The settings of `compare`: those of a search, the strategies, the seeds and the budget, from a command line."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
import yaml

from enas.compare.budget import Budget, BudgetConfig
from enas.configs import require
from enas.metrics import ACCURACY, Metric
from scripts.compare_presets import COMPARE_PRESETS
from scripts.compare_strategies import REFERENCE, Strategy, check_base, parse_strategies, search_settings, with_changes
from scripts.configuration import (
    as_yaml,
    check_data,
    check_ranking,
    default_config,
    first_flag,
    parse_flags,
    program,
    read_config,
    to_flags,
)
from scripts.presets import PRESETS
from scripts.search_config import SearchConfig

if TYPE_CHECKING:
    from enas.tables import BenchmarkTable

_REFUSED = {
    "--strategy": "--strategies names all of them",
    "--resume": "giving the same command again goes on where it stopped",
}


@dataclass(frozen=True, kw_only=True)
class CompareConfig(SearchConfig):
    """Run strategies with several seeds each on equal budgets, and report which of them beat random search.

    Settings of a search hold for all strategies; variants have settings of their own. Giving the same command again goes on.
    """

    preset: str = "quickstart"
    """Named configuration that the other flags change: those of search, and nasbench201-table, which is the default with
    --table."""
    strategy: Annotated[Any, tyro.conf.Suppress] = REFERENCE
    resume: Annotated[Any, tyro.conf.Suppress] = None
    strategies: tuple[str, ...] = ("uniform", "evolution", "enas")
    """Names of strategies, or variants [LABEL=]NAME:flag=value,flag=value with settings of their own, such as
    evo=evolution:controller.evolution.population=10 or rs-ws=uniform:paths=uniform. Random search, uniform, is the reference; it
    is added where it is absent."""
    seeds: int = 5
    """Runs of each strategy, with the seeds --seed, --seed + 1, ..."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """What each run may spend."""
    workers: int | None = None
    """Runs at a time, each in a process of its own; None for one, with --table for one a core."""
    table: Path | None = None
    """Benchmark's table of nasbench201, .npz or .csv, that answers in place of shared weights; None to search with these."""
    table_epochs: Literal[12, 200] = 12
    """Epochs of the trainings whose validation accuracy in the table is the reward."""
    table_data: str = "cifar10"
    """Data set of the table that strategies search on."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        require(self.seeds >= 1, "--seeds", "at least 1", self.seeds)
        require(self.workers is None or self.workers >= 1, "--workers", "at least 1", self.workers)
        if self.table is None:
            kind = self.budget.kind
            require(kind != "simulated-seconds", "--budget.kind", "architectures or seconds without --table", kind)
        else:
            kind = self.budget.kind
            require(kind != "seconds", "--budget.kind", "architectures or simulated-seconds with --table", kind)
            expected = "nasbench201 with --table, since there are tables of it only"
            require(self.space == "nasbench201", "--space", expected, self.space)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command line that was found to be in order.

    Attributes:
        strategies: by label, random search among them.
        budget: of each run.
        out: folder of the results.
        digest: SHA-256 of the table's file; None without one.
        ranking_digest: the same of the table that searches are held against.
        command: the whole command line.
    """

    config: CompareConfig
    strategies: Mapping[str, Strategy]
    budget: Budget
    out: Path
    digest: str | None
    ranking_digest: str | None
    command: str

    @property
    def is_reference_added(self) -> bool:
        """Whether the command line names no random search."""
        labels = [item.partition(":")[0].partition("=")[0] for item in self.config.strategies]
        return REFERENCE not in labels

    @property
    def seeds(self) -> range:
        """Return the seeds of every strategy."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    def saved(self) -> dict[str, Any]:
        """Return what `compare.yaml` holds."""
        config = self.config
        section = {
            "command": self.command,
            "first_seed": config.seed,
            "seeds": config.seeds,
            "budget": asdict(self.budget),
            "table": config.table,
            "table_sha256": self.digest,
            "table_epochs": config.table_epochs,
            "table_data": config.table_data,
            "ranking_table_sha256": self.ranking_digest,
        }
        saved = {"compare": section, "strategies": {label: one.saved() for label, one in self.strategies.items()}}
        plain: dict[str, Any] = yaml.safe_load(as_yaml(saved))
        return plain


def parse_compare(arguments: Sequence[str]) -> Request:
    """Read a command line, its files and its folder, without PyTorch. Raises ValueError naming the mistake."""
    for flag, reason in _REFUSED.items():
        if any(argument == flag or argument.startswith(f"{flag}=") for argument in arguments):
            raise ValueError(f"{flag}: expected none, since {reason}")
    default, config = _parse(arguments)
    base = search_settings(config)
    if config.table is not None:
        check_base(base, search_settings(default))
    strategies = parse_strategies(config.strategies, base, has_table=config.table is not None)
    digest = ranking_digest = None
    if config.table is not None:
        digest = _digest(config.table, flag="--table")
    elif config.ranking.table is not None:
        ranking_digest = _digest(config.ranking.table, flag="--ranking.table")
    if config.table is None:
        _check_search(base)
    budget, strategies = share_budget(config, strategies)
    out = config.run_dir or Path("runs") / f"compare-{config.preset}"
    request = Request(
        config=config,
        strategies=strategies,
        budget=budget,
        out=out,
        digest=digest,
        ranking_digest=ranking_digest,
        command=f"{program()} {shlex.join(arguments)}".strip(),
    )
    if config.table is not None:
        from scripts.compare_trials import check_table

        check_table(load_whole_table(config.table, flag="--table"), request)
    return request


def load_whole_table(file: Path, *, flag: str) -> BenchmarkTable:
    """Read a table of every cell that a strategy may propose. Raises ValueError naming the flag."""
    from enas.tables import NUM_CELLS, load_table

    try:
        table = load_table(file)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from error
    if len(table.codes) < NUM_CELLS:
        expected = f"a table of all {NUM_CELLS:,} cells, since strategies may propose any"
        raise ValueError(f"{flag}: expected {expected}, got {len(table.codes):,} in {file}")
    return table


def reward_facts(config: SearchConfig, metric: Metric = ACCURACY) -> dict[str, str]:
    """Return what to tell of the reward, where it is not the metric that strategies are judged by."""
    objective = config.objective
    parts = []
    if config.reward == "perplexity":
        parts.append(f"{objective.perplexity_scale:,.10g} / perplexity")
    elif metric != ACCURACY and objective.cost is None:
        parts.append("accuracy")
    if objective.cost is not None:
        ratio = f"accuracy * ({objective.cost} / {objective.target:,.10g})^{objective.exponent:g}"
        parts.append(ratio if objective.soft else f"{ratio}, accuracy alone below that")
    parts += [f"nothing for more than {most:,.10g} {name}" for name, most in objective.limits.items()]
    return {"reward": f"{'; '.join(parts)}. Strategies are judged by {metric.name} alone"} if parts else {}


def _parse(arguments: Sequence[str]) -> tuple[CompareConfig, CompareConfig]:
    """Return the preset's settings, and with them a file's, then the flags'."""
    file = first_flag("--config", arguments)
    values = {} if file is None else {name: value for name, value in read_config(Path(file)).items() if name != "strategy"}
    flags = {name: first_flag(f"--{name}", arguments) for name in ("preset", "space")}
    known = {**values, **{name: value for name, value in flags.items() if value is not None}}
    if first_flag("--table", arguments) is not None:
        known = {"preset": "nasbench201-table", **known}
    preset = known.get("preset", "quickstart")
    if preset not in [*PRESETS, *COMPARE_PRESETS]:
        raise ValueError(f"--preset: expected one of {', '.join(sorted([*PRESETS, *COMPARE_PRESETS]))}, got {preset!r}")
    search = COMPARE_PRESETS[preset]() if preset in COMPARE_PRESETS else default_config(known)
    settings = {one.name: getattr(search, one.name) for one in fields(SearchConfig)}
    settings |= {"preset": preset, "strategy": REFERENCE}
    settings["retrain"] = replace(search.retrain, random=0)  # random search is among the strategies
    default = CompareConfig(**settings)
    return default, parse_flags(CompareConfig, default, [*to_flags(values), *arguments])


def _check_search(config: SearchConfig) -> None:
    """Refuse settings that do not fit the data or the table, as `search` does. Raises ValueError naming the flag."""
    sizes = check_data(config)
    config.shared.require_examples(num_train=sizes.train, num_valid=sizes.valid, unit=sizes.unit)
    config.retrain.require_examples(num_train=sizes.train, num_valid=sizes.valid, unit=sizes.unit)
    if config.ranking.table is not None:
        table = load_whole_table(config.ranking.table, flag="--ranking.table")
        try:
            table.accuracy(config.ranking.data, "test")
        except ValueError as error:
            raise ValueError(f"--ranking.table, --ranking.data: {error}") from error
    check_ranking(config)


def _digest(file: Path, *, flag: str) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{flag}: expected a table, .npz or .csv, got {file}: {error}") from error


def num_measured(config: SearchConfig) -> int:
    """Return how many architectures a search measures for rewards."""
    return _measuring_epochs(config) * config.schedule.controller_steps * config.schedule.architectures_per_step


def _measuring_epochs(config: SearchConfig) -> int:
    return sum(map(config.schedule.measures_in, range(config.epochs)))


def share_budget(config: CompareConfig, strategies: Mapping[str, Strategy]) -> tuple[Budget, dict[str, Strategy]]:
    """Return the budget of every run, and the strategies with schedules that spend it.

    Raises: ValueError for a number of architectures that a schedule cannot measure exactly.
    """
    if config.budget.kind != "architectures":
        assert config.budget.amount is not None
        return Budget(kind=config.budget.kind, amount=config.budget.amount), dict(strategies)
    amount = num_measured(config) if config.budget.amount is None else int(config.budget.amount)
    budget = Budget(kind="architectures", amount=amount)
    if config.table is not None:  # a trial's last batch is cut there
        return budget, dict(strategies)
    return budget, {label: _measuring(strategy, amount) for label, strategy in strategies.items()}


def _measuring(strategy: Strategy, amount: int) -> Strategy:
    """Return a strategy whose searches measure so many architectures: its controller steps follow from that."""
    config = strategy.config
    if num_measured(config) == amount:
        return strategy
    each = _measuring_epochs(config) * config.schedule.architectures_per_step
    expected = f"a multiple of {each}, the architectures of one step in each of its measuring epochs, for {strategy.label}"
    require(amount % each == 0, "--budget.amount", expected, amount)
    steps = amount // each
    own = ", ".join(filter(None, [strategy.own, f"schedule.controller_steps {steps} (to measure {amount:,})"]))
    return replace(strategy, config=with_changes(config, {"schedule.controller_steps": steps}), own=own)
