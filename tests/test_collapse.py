from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import enas.search
from controllers.configs import EnasConfig
from controllers.reinforce import skip_divergence
from enas.charts import LAYOUT
from enas.children.cost import Cost
from enas.collapse import COLLAPSED, LEANING, CollapseMonitor, choice_entropy, find_alarm, is_settled, measure_proposals
from enas.configs import CollapseConfig, RetrainConfig, ScheduleConfig, SharedConfig
from enas.derive import Candidate
from enas.export import Answer
from enas.published import PUBLISHED
from enas.report import write_report
from enas.search import Search
from enas.spaces import SPACES
from enas.spaces.base import Decision, Step
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import OPERATIONS, NasBench201Config
from enas.spaces.sampling import sample_uniform
from enas.tracking import Tracker
from enas.types import FloatArray, IntArray, State
from scripts.build import build_search
from scripts.search_config import ControllerSettings, SearchConfig

CELLS = NasBench201Config().make_space()
NONE, SKIP, CONV1, CONV3, POOL = range(5)
CONFIG = CollapseConfig(window=100)


def repeated(row: list[int], count: int = 100) -> IntArray:
    return np.array([row] * count)


# What proposals have in common.


def test_entropy_of_choices_is_scipys():
    assert choice_entropy(np.array([3, 3, 3])) == 0
    assert choice_entropy(np.array([0, 1, 2, 3])) == pytest.approx(np.log(4))
    choices = np.random.default_rng(0).integers(5, size=40)
    assert choice_entropy(choices) == pytest.approx(scipy_entropy(np.bincount(choices)))


def test_proposals_of_a_small_space_are_measured_as_by_hand(chain_space):
    space = chain_space(2, 1, 4)
    space.idle_choices = frozenset({"0", "3"})
    skip = Decision(name="skip", kind="skip", choices=("no", "yes"), vocabulary="skip", step=2, anchors=((), (0,)))
    space.decisions += (skip,)
    space.steps = (Step(input="start", anchor="value"), *space.steps[1:])
    measured = measure_proposals(space, np.array([[0, 0, 3, 1], [0, 0, 3, 1], [1, 0, 2, 0], [0, 0, 1, 1]]))
    quarters = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / np.log(2)
    assert measured.entropies == pytest.approx({"op_0": quarters, "op_2": 1.5 * np.log(2) / np.log(4), "skip": quarters})
    assert measured.mean_entropy == pytest.approx((2 * quarters + 0.75) / 3)
    assert measured.unique_fraction == 0.75
    assert measured.operations == {"0": 3 / 8, "1": 2 / 8, "2": 1 / 8, "3": 2 / 8}  # the decision with one choice aside
    assert measured.idle_share == 5 / 8
    assert measured.uniform_idle_share == 1 / 2  # one of two, two of four
    assert measured.idle_excess == 1 / 4
    assert measured.skip_share == 0.75
    assert measured.modal == (0, 0, 3, 1)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_uniform_proposals_of_every_space_are_neither_settled_nor_alarming(name):
    space = SPACES[name]().make_space()
    for seed in range(3):
        measured = measure_proposals(space, sample_uniform(space, 200, np.random.default_rng(seed)))
        assert find_alarm(space, measured, CollapseConfig()) is None
        assert not is_settled(measured, CollapseConfig())
        assert abs(measured.idle_excess) < 0.1
        assert sum(measured.operations.values()) == pytest.approx(1)
        assert measured.mean_entropy > 0.97


@pytest.mark.parametrize("name", sorted(SPACES))
def test_idle_choices_are_operations_of_the_space(name):
    space = SPACES[name]().make_space()
    labels = {label for decision in space.decisions if decision.kind == "op" for label in decision.choices}
    assert space.idle_choices < labels
    without = ("macro", "rnn")  # there poolings, too, begin with a convolution; a function reads a matrix product, whatever it is
    assert bool(space.idle_choices) == (name not in without)


# Degenerate architectures.


def test_degenerate_cells_are_those_whose_ways_have_no_weights():
    ways = [(3,), (0, 4), (1, 5), (0, 2, 5)]  # edges from the input to the output: direct, by node 1, by node 2, by both
    reasons = {CELLS.degeneracy(CELLS.decode(tokens)) for tokens in product(range(5), repeat=6)}
    for tokens in product(range(5), repeat=6):
        open_ways = [[tokens[edge] for edge in way] for way in ways if all(tokens[edge] != NONE for edge in way)]
        expected = None if any({CONV1, CONV3} & set(way) for way in open_ways) else "no operation has weights"
        expected = expected if open_ways else "its output does not depend on its input"
        assert CELLS.degeneracy(CELLS.decode(tokens)) == expected
    assert len(reasons) == 3


def test_cells_whose_output_ignores_the_input_are_those_that_guess():
    file = Path(__file__).resolve().parents[1] / "../shared/data/nasbench201.npz"
    if not file.exists():
        pytest.skip(f"{file.name} is not there")
    with np.load(file) as table:
        rows, accuracies, names = table["codes"], table["cifar10_test"], table["ops"]
    codes = [OPERATIONS.index(str(name)) for name in names]
    reasons = [CELLS.degeneracy(CELLS.decode([codes[code] for code in row])) for row in rows]
    guessing = [reason == "its output does not depend on its input" for reason in reasons]
    assert guessing == (accuracies == 10).tolist()
    healthy = np.mean([accuracy for accuracy, reason in zip(accuracies, reasons, strict=True) if reason is None])
    weightless = np.mean([a for a, reason in zip(accuracies, reasons, strict=True) if reason == "no operation has weights"])
    assert healthy > 90 > 80 > weightless


def test_cells_of_identities_and_poolings_are_degenerate_and_published_ones_are_not():
    space = MicroConfig().make_space()
    ops = [index for index, decision in enumerate(space.decisions) if decision.kind == "op"]
    tokens = sample_uniform(space, 1, np.random.default_rng(0))[0]
    tokens[ops] = [space.operations.index(name) for name in ["identity", "avg3x3"] * (len(ops) // 2)]
    assert space.degeneracy(space.decode(tokens)) == "no operation has weights"
    tokens[ops[7]] = space.operations.index("sep3x3")
    assert space.degeneracy(space.decode(tokens)) is None
    assert space.degeneracy(space.from_text(PUBLISHED["enas-micro"].text)) is None


def test_macro_networks_are_degenerate_only_where_nothing_is_smaller():
    space = MacroConfig(num_layers=4).make_space()
    assert space.degeneracy(space.smallest()) == "the smallest of the space"
    assert space.degeneracy(space.largest()) is None


@pytest.mark.parametrize("error", [ValueError, NotImplementedError])
def test_space_that_knows_no_smallest_architecture_has_no_degenerate_one(error, chain_space, monkeypatch):
    space = chain_space(2, 2)

    def refuse(_: object) -> None:
        raise error("all cost the same")

    monkeypatch.setattr(type(space), "smallest", refuse)
    assert space.degeneracy(space.decode([0, 0])) is None


# What is alarming.


def test_policy_that_settled_on_a_healthy_cell_is_no_alarm():
    measured = measure_proposals(CELLS, repeated([CONV3] * 5 + [SKIP]))
    assert is_settled(measured, CONFIG)
    assert find_alarm(CELLS, measured, CONFIG) is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [([SKIP] * 6, "no operation has weights"), ([CONV3, NONE, NONE, NONE, NONE, CONV3], "does not depend on its input")],
)
def test_policy_that_settled_on_a_degenerate_cell_is_named_with_the_reason(row, reason):
    alarm = find_alarm(CELLS, measure_proposals(CELLS, repeated(row)), CONFIG)
    assert alarm is not None
    assert alarm.level == COLLAPSED
    assert reason in alarm.sentence
    assert CELLS.to_text(CELLS.decode(row)) in alarm.sentence


def cells_of_skips(num_convolutions: int, *, first_edge: int = SKIP) -> IntArray:
    """A hundred cells of skip connections but for convolutions here and there, and perhaps another first edge."""
    tokens = repeated([first_edge, *[SKIP] * 5])
    places = np.arange(num_convolutions)
    tokens[places // 5, 1 + places % 5] = CONV3
    return tokens


@pytest.mark.parametrize(("num_convolutions", "is_alarming"), [(19, True), (21, False)])
def test_eighty_percent_of_operations_without_weights_are_an_early_alarm(num_convolutions, is_alarming):
    measured = measure_proposals(CELLS, cells_of_skips(num_convolutions, first_edge=CONV3))
    assert CELLS.degeneracy(CELLS.decode(measured.modal)) is None
    assert measured.idle_share == pytest.approx((500 - num_convolutions) / 600)  # .6 under uniform choices: halfway is .8
    alarm = find_alarm(CELLS, measured, CONFIG)
    assert (alarm is not None and alarm.level == LEANING) == is_alarming
    assert find_alarm(CELLS, measured, CollapseConfig(window=100, idle_excess=None)) is None


@pytest.mark.parametrize(("num_convolutions", "is_alarming"), [(179, True), (181, False)])
def test_seventy_percent_are_where_the_most_frequent_choices_are_degenerate(num_convolutions, is_alarming):
    measured = measure_proposals(CELLS, cells_of_skips(num_convolutions))
    assert measured.modal == (SKIP,) * 6
    assert measured.idle_share == pytest.approx(1 - num_convolutions / 600)
    assert (find_alarm(CELLS, measured, CONFIG) is not None) == is_alarming


def test_bounded_policy_that_wants_identities_only_is_told_though_it_cannot_settle():
    """With a tanh constant of 1 the likeliest of five operations is at e / (e + 4 / e) = .65."""
    space = MicroConfig(num_nodes=3).make_space()
    rng = np.random.default_rng(0)
    tokens = sample_uniform(space, 200, rng)
    probability = np.e / (np.e + 4 / np.e)
    for column, decision in enumerate(space.decisions):
        if decision.kind == "op":
            chosen = [space.operations.index(name) for name in ("identity", "avg3x3", "max3x3", "sep3x3", "sep5x5")]
            tokens[:, column] = rng.choice(chosen, size=200, p=[probability, *[(1 - probability) / 4] * 4])
    measured = measure_proposals(space, tokens)
    alarm = find_alarm(space, measured, CollapseConfig())
    assert measured.mean_entropy > 0.8
    assert measured.unique_fraction == 1
    assert alarm is not None
    assert alarm.level == LEANING


def test_bounded_choices_of_six_keep_the_entropy_that_is_said():
    logits = torch.tensor([1.5, *[-1.5] * 5], dtype=torch.float64)
    assert torch.distributions.Categorical(logits=logits).entropy() / np.log(6) == pytest.approx(0.46, abs=0.005)


@pytest.mark.parametrize(
    "values", [{"window": 1}, {"max_entropy": -0.1}, {"max_unique": 1.1}, {"idle_excess": 0.0}, {"idle_excess": 1.5}]
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        CollapseConfig(**values)


# The window that slides through a search.


def monitor(**options: Any) -> CollapseMonitor:
    return CollapseMonitor(CELLS, CONFIG, **options)


def test_nothing_is_said_before_the_window_is_full():
    watch = monitor()
    watch.add(repeated([SKIP] * 6, 99))
    assert watch.new_warning() is None
    assert watch.warning is None
    assert (watch.metrics()["collapse/alarm"], watch.metrics()["collapse/settled"]) == (0, 0)
    watch.add(repeated([SKIP] * 6, 1))
    assert (watch.metrics()["collapse/alarm"], watch.metrics()["collapse/settled"]) == (1, 1)
    assert "after 100 measured architectures the policy has collapsed" in watch.new_warning()
    assert watch.warning == watch.warning is not None


def test_window_holds_the_latest_proposals_only():
    watch = monitor()
    watch.add(repeated([SKIP] * 6, 1000))
    watch.add(sample_uniform(CELLS, 60, np.random.default_rng(0)))
    watch.add(sample_uniform(CELLS, 40, np.random.default_rng(1)))
    latest = np.concatenate(
        [sample_uniform(CELLS, 60, np.random.default_rng(0)), sample_uniform(CELLS, 40, np.random.default_rng(1))]
    )
    expected = measure_proposals(CELLS, latest)
    metrics = watch.metrics()
    assert metrics["collapse/idle_share"] == expected.idle_share
    assert metrics["collapse/entropy_mean"] == expected.mean_entropy
    assert metrics["collapse/entropy_min"] == min(expected.entropies.values())
    assert {name: metrics[f"operation/{name}"] for name in OPERATIONS} == expected.operations


def said(watch: CollapseMonitor, tokens: IntArray) -> str:
    watch.add(tokens)
    warning = watch.new_warning()
    return "" if warning is None else "collapsed" if "has collapsed" in warning else "leans"


def test_warning_comes_once_when_the_policy_leans_and_once_when_it_collapses_until_it_recovers():
    watch = monitor()
    leaning, collapsed = cells_of_skips(10, first_edge=CONV3), cells_of_skips(0)
    healthy = sample_uniform(CELLS, 100, np.random.default_rng(0))
    states = [healthy, leaning, leaning, collapsed, collapsed, leaning, collapsed, healthy, collapsed, healthy, leaning]
    assert [said(watch, state) for state in states] == ["", "leans", "", "collapsed", "", "", "", "", "collapsed", "", "leans"]


def test_policy_beside_the_limit_is_warned_of_once():
    watch = monitor()
    above, below, far_below = (cells_of_skips(count, first_edge=CONV3) for count in (19, 25, 60))
    assert [said(watch, tokens) for tokens in (above, below, above, below)] == ["leans", "", "", ""]
    assert watch.metrics()["collapse/alarm"] == 1
    assert [said(watch, tokens) for tokens in (far_below, above)] == ["", "leans"]


def test_restored_window_goes_on_as_the_old_one(tmp_path):
    old, new = monitor(), monitor()
    old.add(repeated([SKIP] * 6, 120))
    assert old.new_warning() is not None
    torch.save(old.state_dict(), tmp_path / "state.pt")
    new.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert new.new_warning() is None  # it is out already
    for watch in (old, new):
        watch.add(sample_uniform(CELLS, 30, np.random.default_rng(0)))
    assert new.metrics() == old.metrics()
    assert new.warning == old.warning
    assert new.state_dict() == old.state_dict()


def test_space_in_which_nothing_is_to_decide_is_never_alarming(chain_space):
    watch = CollapseMonitor(chain_space(1, 1), CollapseConfig(window=2))
    watch.add(np.zeros((4, 2), dtype=np.int64))
    assert watch.metrics()["collapse/alarm"] == watch.metrics()["collapse/settled"] == 0
    assert watch.new_warning() is None


def test_skip_share_stands_beside_its_target_where_there_are_skips():
    space = MacroConfig(num_layers=3).make_space()
    watch = CollapseMonitor(space, CONFIG, skip_target=0.3)
    watch.add(np.array([[0, 0, 1, 0, 1, 0]] * 5))
    metrics = watch.metrics()
    assert (metrics["collapse/skip_share"], metrics["collapse/skip_target"]) == (pytest.approx(2 / 3), 0.3)
    cells = monitor(skip_target=0.3)
    cells.add(repeated([SKIP] * 6))
    assert not {"collapse/skip_share", "collapse/skip_target"} & set(cells.metrics())


# In a search: a policy that is paid for skip connections.


class PayingEnvs:
    """Rewards cells with their share of operations without weights, or of 3x3 convolutions."""

    num_envs = 20

    def __init__(self, paid: tuple[int, ...]) -> None:
        self.paid = paid

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return None, {}

    def step(self, actions: IntArray) -> tuple[Any, FloatArray, Any, Any, dict[str, Any]]:
        rewards = np.isin(actions, self.paid).mean(axis=1)
        over = np.ones(len(actions), dtype=bool)
        return None, rewards, over, ~over, {"final_info": {"accuracy": rewards}}


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a context manager around a search whose steps cost next to nothing, and the states that it saves."""
    monkeypatch.setattr(enas.search, "drawing_array", lambda graph, title: np.zeros((2, 2, 3), dtype=np.uint8))

    @contextmanager
    def build(folder: Path, *, paid: tuple[int, ...], state: State | None = None) -> Iterator[tuple[Search, list[State]]]:
        saved: list[State] = []
        config = EnasConfig(learning_rate=0.004, tanh_constant=None, adam_eps=1e-8, entropy_weight=0.0, baseline_start="first")
        with Tracker(folder, start=state and state["tracker"]) as tracker:
            search = Search(
                space=CELLS,
                trainer=SimpleNamespace(parts={}, fetch=list),  # nothing is trained
                controller_envs=PayingEnvs(paid),
                controller=config.make(CELLS, seed=0),
                schedule=ScheduleConfig(controller_steps=10, architectures_per_step=20, checkpoint_minutes=0),
                shared_steps=0,
                epochs=6,
                tracker=tracker,
                parts={},
                save=saved.append,
                on_step=lambda _: None,
            )
            if state is not None:
                search.load_state_dict(state)
            yield search, saved

    return build


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{tag: value for tag, value in row.items() if tag.startswith(("collapse/", "operation/"))} for row in rows]


def texts_of(folder: Path) -> list[tuple[int, str]]:
    read = EventAccumulator(str(folder / "tb"), size_guidance={"tensors": 0}).Reload()
    if "collapse/warning/text_summary" not in read.Tags()["tensors"]:
        return []
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in read.Tensors("collapse/warning/text_summary")]


def test_search_that_collapses_warns_in_console_and_tensorboard_and_a_resumed_one_alike(search, tmp_path):
    with search(tmp_path / "whole", paid=(SKIP,)) as (whole, saved), pytest.warns(RuntimeWarning) as caught:
        whole.run()
    messages = [str(warning.message) for warning in caught]
    assert ["has collapsed" in message for message in messages] == [False, True]
    assert "no weights, 60% would under uniform choices" in messages[0]
    assert CELLS.to_text(CELLS.decode([SKIP] * 6)) in messages[1]
    assert "--schedule.warmup-epochs" in messages[1]
    assert [text for _, text in texts_of(tmp_path / "whole")] == messages
    rows = rows_of(tmp_path / "whole")
    alarms = [row["collapse/alarm"] for row in rows]
    assert alarms == sorted(alarms)
    assert (alarms[0], rows[-1]["collapse/settled"], alarms[-1]) == (0, 1, 1)
    assert rows[-1]["operation/skip_connect"] > 0.98
    assert "the policy has collapsed" in whole.collapse.warning

    between = next(state for state in saved if state["collapse"]["level"] == LEANING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with search(tmp_path / "resumed", paid=(SKIP,)) as (first, states):
            first._should_stop = lambda: first.position.num_measured == between["position"]["num_measured"]
            with pytest.raises(enas.search.Stopped):
                first.run()
        with search(tmp_path / "resumed", paid=(SKIP,), state=states[-1]) as (second, _):
            second.run()
    assert rows_of(tmp_path / "resumed") == rows
    assert texts_of(tmp_path / "resumed") == texts_of(tmp_path / "whole")
    assert second.collapse.state_dict() == whole.collapse.state_dict()


def test_search_that_settles_on_convolutions_warns_of_nothing(search, tmp_path):
    with search(tmp_path, paid=(CONV3,)) as (healthy, _):
        healthy.run()  # a warning would be an error here
    last = rows_of(tmp_path)[-1]
    assert (last["collapse/settled"], last["collapse/alarm"]) == (1, 0)
    assert healthy.collapse.warning is None
    assert texts_of(tmp_path) == []
    assert_is_charted(EventAccumulator(str(tmp_path / "tb")).Reload().Tags()["scalars"])


def assert_is_charted(written: list[str]) -> None:
    """The page Collapse charts what was written."""
    patterns = [pattern for chart in LAYOUT["Collapse"].values() for pattern in chart]
    unmatched = [pattern for pattern in patterns if not any(re.fullmatch(pattern, tag) for tag in written)]
    assert unmatched == ["collapse/skip_share", "collapse/skip_target"]  # cells have no skip decisions
    assert sum(tag.startswith("operation/") for tag in written) == 5
    assert sum(tag.startswith("entropy/") for tag in written) == 6


@pytest.mark.parametrize(
    ("strategy", "settings", "expected"),
    [
        ("enas", EnasConfig(), "authors"),
        ("enas", EnasConfig(skip_target_on="sampled", skip_target=0.2), 0.2),
        ("enas", EnasConfig(skip_weight=0.0), None),
        ("uniform", EnasConfig(), None),
    ],
)
def test_skip_target_is_the_rate_with_the_least_penalty(strategy, settings, expected, tmp_path, images):
    config = SearchConfig(
        strategy=strategy,
        device="cpu",
        child=MacroConfig(num_layers=3, filters=4),
        shared=SharedConfig(batch_size=20, valid_batch_size=10),
        controller=ControllerSettings(enas=settings),
        retrain=RetrainConfig(epochs=0),
    )
    with build_search(config, tmp_path / "run", data=images) as run:
        run.search.collapse.add(sample_uniform(run.shared.space, 10, np.random.default_rng(0)))
        target = run.search.collapse.metrics().get("collapse/skip_target")
    if expected == "authors":
        half = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
        penalties = [
            skip_divergence(q * torch.tensor([[[-1.0, 1.0]]]), num_layers=1, target=0.4, on="authors") for q in half[::100]
        ]
        best = half[::100][int(torch.stack(penalties).argmin())]
        assert target == pytest.approx(float(torch.sigmoid(2 * best)), abs=0.005)
    else:
        assert target == expected


@pytest.mark.parametrize(
    ("strategy", "batch_norm", "said", "not_said"),
    [
        ("enas", "running", ["(--controller.enas.learning-rate, --controller.enas.entropy-weight)", "--shared.batch-norm"], []),
        ("enas", "batch", ["--controller.enas.learning-rate"], ["--shared.batch-norm", "skip-weight"]),
        ("darts", "running", ["(--controller.darts.learning-rate, --controller.darts.weight-decay)"], ["batch-norm", "enas"]),
        ("evolution", "running", ["(--controller.evolution.population, --controller.evolution.sample)"], ["enas"]),
    ],
)
def test_advice_names_the_flags_of_the_strategy_and_of_its_rewards(strategy, batch_norm, said, not_said, tmp_path, images):
    config = SearchConfig(
        space="nasbench201",
        strategy=strategy,
        device="cpu",
        child=NasBench201Config(filters=2, cells_per_stage=1),
        shared=SharedConfig(batch_size=20, valid_batch_size=10, batch_norm=batch_norm),
        collapse=CollapseConfig(window=10),
        retrain=RetrainConfig(epochs=0),
    )
    with build_search(config, tmp_path / "run", data=images) as run:
        run.search.collapse.add(repeated([SKIP] * 6, 10))
        warning = run.search.collapse.warning
    _, advice = warning.split("What may help: ")
    for text in ("--schedule.warmup-epochs", *said):
        assert text in advice
    for text in not_said:
        assert text not in advice


def test_advice_on_skip_connections_is_for_spaces_that_have_them():
    assert EnasConfig().settles_by(MacroConfig().make_space()) == ("learning_rate", "entropy_weight", "skip_weight")
    assert EnasConfig().settles_by(CELLS) == ("learning_rate", "entropy_weight")


def test_report_repeats_the_warning_that_a_search_ends_with(tmp_path):
    candidate = Candidate(tokens=(1,) * 6, valid_accuracy=0.5, valid_loss=1.0)
    answer = Answer(architecture=None, candidate=candidate, cost=Cost(parameters=1, flops=1), text="cell")
    for warning, count in ((None, 0), ("after 200 measured architectures ...", 1)):
        write_report(tmp_path, heading="enas", answer=answer, rows=[], verdict=None, warning=warning)
        lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
        assert lines.count("Warning: after 200 measured architectures ...") == count
