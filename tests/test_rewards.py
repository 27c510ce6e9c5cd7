import numpy as np
import pytest

from enas.rewards import REWARDS
from enas.types import Evaluation


def measured(accuracy, loss):
    return Evaluation(accuracy=np.array(accuracy), loss=np.array(loss), num_examples=100)


def test_accuracy_is_the_fraction_right():
    rewards = REWARDS["accuracy"](measured([0.25, 1.0, 0.0], [1.2, 0.01, 9.0]))
    assert rewards.tolist() == [0.25, 1.0, 0.0]
    assert rewards.dtype == np.float64


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_architecture_whose_loss_is_not_finite_gets_the_floor(loss):
    assert REWARDS["accuracy"](measured([0.25, 0.3], [loss, 1.0])).tolist() == [0.0, 0.3]


@pytest.mark.parametrize("name", REWARDS)
def test_reward_is_one_finite_number_an_architecture_and_leaves_the_measurement_alone(name):
    evaluation = measured([0.1, 0.2, 0.3], [2.0, np.nan, 1.0])
    rewards = REWARDS[name](evaluation)
    assert rewards.shape == (3,)
    assert np.isfinite(rewards).all()
    rewards[:] = 7
    assert evaluation.accuracy.tolist() == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("name", REWARDS)
def test_reward_of_one_architecture_does_not_depend_on_the_others(name):
    together = REWARDS[name](measured([0.1, 0.9], [2.0, 0.2]))
    alone = REWARDS[name](measured([0.9], [0.2]))
    assert together[1] == alone[0]
