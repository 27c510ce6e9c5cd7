import numpy as np
import pytest

from controllers.baseline import MovingBaseline


@pytest.mark.parametrize(
    ("start", "values"),
    [
        ("zero", [0.2, 0.58, 0.922]),
        ("first", [2.0, 2.2, 2.38]),
        # weights .1 and .19 of the rewards in an average from zero, which is divided by .1, .19 and .271
        ("corrected", [2.0, (0.09 * 2 + 0.1 * 4) / 0.19, (0.081 * 2 + 0.09 * 4 + 0.1 * 4) / 0.271]),
    ],
)
def test_average_moves_from_its_start(start, values):
    baseline = MovingBaseline(decay=0.9, start=start)
    assert [baseline.move(reward, 1) for reward in (2.0, 4.0, 4.0)] == pytest.approx(values)
    assert baseline.value == pytest.approx(values[-1])


def test_corrected_average_of_a_constant_is_that_constant():
    baseline = MovingBaseline(decay=0.99, start="corrected")
    assert [baseline.move(0.7, count) for count in (1, 5, 20)] == pytest.approx([0.7] * 3)
    assert baseline.weight == pytest.approx(1 - 0.99**26)


@pytest.mark.parametrize("start", ["zero", "first", "corrected"])
def test_batch_moves_it_as_that_many_single_rewards_do(start):
    batch, single = (MovingBaseline(decay=0.8, start=start) for _ in range(2))
    for baseline in (batch, single):
        baseline.move(0.1, 1)
    batch.move(0.6, 4)
    for _ in range(4):
        single.move(0.6, 1)
    assert batch.value == pytest.approx(single.value)


@pytest.mark.parametrize("start", ["zero", "first", "corrected"])
def test_update_after_subtracts_the_average_without_the_batch(start):
    before, after = (MovingBaseline(decay=0.5, start=start, update=update) for update in ("before", "after"))
    rewards = np.array([0.4, 0.8, 0.2])
    moved = [[baseline.move(reward, 1) for reward in rewards] for baseline in (before, after)]
    first = 0.0 if start == "zero" else 0.4  # without an average yet, the reward itself
    assert moved[1] == pytest.approx([first, *moved[0][:-1]])
