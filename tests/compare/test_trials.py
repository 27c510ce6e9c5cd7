from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from enas.compare.budget import Budget, BudgetConfig
from enas.compare.table_outcomes import BEST_REWARD, look_up_trial, table_measures
from enas.compare.trials import TRIAL_FILE, Trial, load_trial, run_trial, save_trial
from enas.tables import BenchmarkTable
from enas.types import FloatArray, IntArray, Rollout

REWARDS = (0.3, 0.9, 0.1, 0.9, 0.5, 0.2, 0.8, 0.4)


class Counting:
    """Proposes 0, 1, 2, ... and writes down what it is taught."""

    def __init__(self) -> None:
        self.next = 0
        self.taught: list[list[float]] = []

    def propose(self, num_architectures: int) -> Rollout:
        tokens = np.arange(self.next, self.next + num_architectures)[:, None]
        self.next += num_architectures
        return Rollout(tokens=tokens)

    def update(self, rollout: Rollout, rewards: FloatArray) -> dict[str, float]:
        self.taught.append(rewards.tolist())
        return {}


class Listed:
    """Answers architecture i with the i-th reward; it costs i + 1 seconds."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return None, {}

    def step(self, actions: IntArray) -> tuple[Any, FloatArray, Any, Any, dict[str, Any]]:
        places = actions[:, 0]
        rewards = np.array(REWARDS)[places % 8]
        return (
            None,
            rewards,
            None,
            None,
            {"final_info": {"seconds": places + 1.0, "test_accuracy": None, "accuracy": rewards / 2}},
        )


def trial(kind: Any, amount: float, *, num_envs: int) -> tuple[Trial, Counting]:
    controller: Any = Counting()
    return run_trial(controller, Listed(num_envs), Budget(kind=kind, amount=amount)), controller


@pytest.mark.parametrize(
    ("kind", "amount", "num_envs", "num_measured", "num_taught"),
    [
        ("architectures", 6, 3, 6, 1),  # nothing is learned after the end
        ("architectures", 5, 3, 5, 1),  # the last batch is cut
        ("architectures", 1, 3, 1, 0),
        ("simulated-seconds", 15, 1, 5, 4),  # 1 + 2 + 3 + 4 + 5
        ("simulated-seconds", 14.9, 1, 4, 4),  # the fifth would overrun it
        ("simulated-seconds", 16, 4, 5, 1),
    ],
)
def test_trial_ends_where_the_budget_does(kind, amount, num_envs, num_measured, num_taught):
    found, controller = trial(kind, amount, num_envs=num_envs)
    assert found.tokens[:, 0].tolist() == list(range(num_measured))
    assert found.rewards.tolist() == list(REWARDS[:num_measured])
    assert found.accuracies.tolist() == [reward / 2 for reward in REWARDS[:num_measured]]
    assert found.seconds.tolist() == np.cumsum(np.arange(1.0, num_measured + 1)).tolist()
    assert controller.taught == [list(REWARDS[start * num_envs : (start + 1) * num_envs]) for start in range(num_taught)]


def test_budget_too_small_for_an_architecture_is_refused():
    with pytest.raises(ValueError, match=r"budget.amount: expected enough for an architecture, got 0.5 simulated seconds"):
        trial("simulated-seconds", 0.5, num_envs=2)


def test_answer_is_the_first_of_the_highest_rewards():
    assert trial("architectures", 8, num_envs=2)[0].answer == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "hours"}, "budget.kind: expected one of architectures, seconds, simulated-seconds, got 'hours'"),
        ({"amount": 0}, "budget.amount: expected a number above 0, got 0"),
        ({"amount": float("inf")}, "budget.amount: expected a number above 0, got inf"),
        ({"amount": 2.5}, "budget.amount: expected a whole number of architectures, got 2.5"),
        ({"kind": "seconds"}, "budget.amount: expected a number of seconds, got none"),
    ],
)
def test_budgets_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        BudgetConfig(**changes)


def test_budget_in_words():
    assert Budget(kind="simulated-seconds", amount=12_000.0).in_words() == "12,000 simulated seconds"
    assert Budget(kind="seconds", amount=0.5).in_words() == "0.5 seconds"


# Files.


@pytest.mark.parametrize("accuracies", [(1 / 3, 0.1), (1 / 7, 0.2)])
def test_trial_is_read_back_bit_for_bit(accuracies, tmp_path):
    rewards, seconds = np.array([1 / 3, 0.1]), np.array([1e-7, 2e9 / 3])
    found = Trial(tokens=np.array([[0, 3], [1, 2]]), rewards=rewards, accuracies=np.array(accuracies), seconds=seconds)
    save_trial(found, tmp_path / "a" / "b")
    assert ("accuracies" in (tmp_path / "a" / "b" / TRIAL_FILE).read_text()) == (accuracies != (1 / 3, 0.1))
    read = load_trial(tmp_path / "a" / "b")
    for name in ("tokens", "rewards", "accuracies", "seconds"):
        assert getattr(read, name).tolist() == getattr(found, name).tolist()
        assert getattr(read, name).dtype == getattr(found, name).dtype


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"tokens": [[1]]}',
        '{"tokens": [], "rewards": [], "seconds": []}',
        '{"tokens": [[1]], "rewards": [1, 2], "seconds": [1, 2]}',
        '{"tokens": [[1]], "rewards": [1], "accuracies": [1, 2], "seconds": [1]}',
        '{"tokens": [[1]], "rewards": [NaN], "seconds": [1]}',
    ],
)
def test_damaged_trial_is_named(text, tmp_path):
    (tmp_path / TRIAL_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"trial\.json: expected .* to run it again"):
        load_trial(tmp_path)


# What the table says.


CODES = np.array(list(product(range(5), repeat=6)), dtype=np.uint8)[:50]
COLUMNS = {
    name: np.random.default_rng(index).uniform(10, 90, 50)
    for index, name in enumerate(("cifar100_test", "cifar10_test", "cifar10_valid", "e12_cifar10_valid"))
}


def test_answer_is_chosen_by_reward_and_looked_up_by_what_it_reaches_alone():
    table = BenchmarkTable(codes=CODES, columns={**COLUMNS, "params_m": np.arange(50)})
    rows = np.array([7, 3, 3, 11])
    one = Trial(
        tokens=CODES[rows].astype(np.int64),
        rewards=np.array([0.2, 0.6, 0.6, 0.1]),
        accuracies=np.array([0.3, 0.7, 0.7, 0.9]),
        seconds=np.array([1.0, 3, 5, 6]),
    )
    found = look_up_trial(one, table, data="cifar10", strategy="enas", seed=4)
    expected = {
        f"{data} {split}": float(table.accuracy(data, split)[3]) for data, split in table_measures(table, "cifar10").values()
    }
    assert found.measures == {**expected, BEST_REWARD: 0.6}
    assert list(found.measures) == ["cifar10 test", "cifar100 test", "cifar10 valid", BEST_REWARD]  # judged by the first
    assert (found.strategy, found.seed) == ("enas", 4)
    assert found.spent == {"architectures": 4, "simulated seconds": 6}
    assert found.history.truths is not None
    assert found.history.truths.tolist() == table.accuracy("cifar10", "test")[rows].tolist()
    assert found.history.values.tolist() == [0.3, 0.7, 0.7, 0.9]
    ((name, (costs, best)),) = found.fronts.items()  # the table has no flops
    assert (name, costs.tolist(), best.tolist()) == ("parameters", [3e6, 11e6], [0.7, 0.9])
