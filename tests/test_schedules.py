import pytest
import torch

from enas.schedules import cosine, cosine_restarts, falling_keep_prob

AUTHORS = {"maximum": 0.05, "minimum": 0.0005, "first": 10, "factor": 2}


@pytest.mark.parametrize(("progress", "expected"), [(0, 0.4), (0.5, 0.25), (1, 0.1), (1 / 3, 0.325), (2 / 3, 0.175)])
def test_cosine_falls_from_maximum_to_minimum(progress, expected):
    assert cosine(progress, maximum=0.4, minimum=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("epoch", [0, 10, 30, 70, 150])
def test_cycles_of_the_authors_restart_at_the_maximum(epoch):
    assert cosine_restarts(epoch, **AUTHORS) == 0.05
    if epoch:
        assert cosine_restarts(epoch - 1, **AUTHORS) < 0.003


def test_restarts_are_those_of_pytorch():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    oracle = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2, eta_min=0.0005)
    for epoch in range(310):
        assert cosine_restarts(epoch, **AUTHORS) == pytest.approx(oracle.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        oracle.step()


@pytest.mark.parametrize("epochs", [310, 630])
def test_trainings_of_the_authors_end_with_a_cycle(epochs):
    assert cosine_restarts(epochs - 1, **AUTHORS) < 0.00052  # 310 = 10 * (1 + 2 + ... + 16), 630 = 10 * (1 + 2 + ... + 32)
    assert cosine_restarts(epochs, **AUTHORS) == 0.05


def test_cycles_of_factor_one_keep_their_length():
    rates = [cosine_restarts(epoch, maximum=1.0, minimum=0.0, first=2, factor=1) for epoch in range(5)]
    assert rates == pytest.approx([1, 0.5, 1, 0.5, 1])


def test_one_long_first_cycle_is_a_plain_cosine():
    rates = [cosine_restarts(epoch, maximum=0.4, minimum=0.1, first=8, factor=2) for epoch in range(8)]
    assert rates == pytest.approx([cosine(epoch / 8, maximum=0.4, minimum=0.1) for epoch in range(8)])


@pytest.mark.parametrize(("progress", "expected"), [(0, 1.0), (0.25, 0.9), (0.5, 0.8), (1, 0.6)])
def test_paths_are_kept_ever_less_often(progress, expected):
    assert falling_keep_prob(progress, last=0.6) == pytest.approx(expected)


@pytest.mark.parametrize("progress", [1 / 3, 0.7, 1.0])
def test_without_drop_path_every_path_is_kept(progress):
    assert falling_keep_prob(progress, last=1.0) == 1.0
