"""Peaks that can be counted by hand; a float32 tensor of N elements has 4 N bytes."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from enas.memory_peak import memory_peak

CPU = torch.device("cpu")
N = 1000
SIZE = 4 * N


@pytest.fixture(autouse=True)
def quick_collections():
    """Leave what is there by now out of collections, which take .1 s beside a loaded PyTorch."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def x() -> Tensor:
    return torch.linspace(0, 1, N)


def test_inputs_count_as_nothing(x):
    assert memory_peak(lambda: x.view(10, 100).t().detach()[2:], CPU) == 0
    assert memory_peak(lambda: x.mul_(2).add_(1), CPU) == 0


def test_one_result_is_its_own_size(x):
    assert memory_peak(lambda: x + 1, CPU) == SIZE
    assert memory_peak(lambda: x.double(), CPU) == 2 * SIZE
    assert memory_peak(lambda: torch.zeros(N), CPU) == SIZE


def test_chain_without_gradients_holds_two_links(x):
    def chain() -> None:
        out = x
        for _ in range(5):
            out = out + 1

    assert memory_peak(chain, CPU) == 2 * SIZE


def test_chain_with_gradients_holds_every_link_it_saves(x):
    weight = x.clone().requires_grad_()

    def chain() -> Tensor:
        out: Tensor = weight
        for _ in range(5):
            out = out.exp()  # saves its result
        return out

    assert memory_peak(chain, CPU) == 5 * SIZE


def test_views_and_in_place_operations_add_nothing(x):
    assert memory_peak(lambda: (x + 1).view(10, -1).t().relu_().unsqueeze(0), CPU) == SIZE


def test_what_is_freed_makes_room(x):
    def work() -> None:
        for _ in range(3):
            held = [x + 1, x + 2]
            del held

    assert memory_peak(work, CPU) == 2 * SIZE


def test_storage_at_a_freed_one_s_address_is_counted_again(x):
    def work() -> None:
        for _ in range(50):
            x + 1
        torch.cat([x, x, x])

    assert memory_peak(work, CPU) == 3 * SIZE


def test_backward_is_included(x):
    weight = x.clone().requires_grad_()

    def step() -> None:
        loss = weight.exp().exp().sum()  # forward: two links and a scalar
        loss.backward()

    # At the peak the gradient of the second exp is computed: both links, the loss (4), its gradient (4), and that product.
    assert memory_peak(step, CPU) == 3 * SIZE + 8


def test_gradients_left_behind_count_and_those_there_before_do_not(x):
    weight = x.clone().requires_grad_()
    weight.grad = torch.zeros(N)
    assert memory_peak(lambda: (weight * 2).sum().backward(), CPU) == SIZE + 8


def test_checkpointing_lowers_the_peak(x):
    from torch.utils.checkpoint import checkpoint

    weight = x.clone().requires_grad_()

    def block(value: Tensor) -> Tensor:
        for _ in range(4):
            value = value.exp().neg().exp().neg()
        return value

    def run(*, recompute: bool) -> None:
        value: Tensor = weight
        for _ in range(4):
            value = checkpoint(block, value, use_reentrant=False) if recompute else block(value)
        value.sum().backward()

    assert memory_peak(lambda: run(recompute=True), CPU) < 0.6 * memory_peak(lambda: run(recompute=False), CPU)


def test_what_a_reference_cycle_keeps_counts(x):
    def work() -> None:
        for _ in range(5):
            cycle: list[object] = [x + 1]
            cycle.append(cycle)

    assert memory_peak(work, CPU) == 5 * SIZE
    assert gc.isenabled()


def test_several_results_of_an_operation_all_count(x):
    assert memory_peak(lambda: x.sort(), CPU) == SIZE + 2 * SIZE  # float32 values and int64 indices


def test_peak_is_the_same_each_time():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    images = torch.zeros(4, 3, 16, 16)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        network(images).sum().backward()
        network.zero_grad(set_to_none=True)

    first = memory_peak(step, CPU)
    assert first > 3 * 4 * 4 * 8 * 14 * 14  # convolution, normalised, rectified
    assert memory_peak(step, CPU) == first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_allocator_counts_on_cuda():
    device = torch.device("cuda")
    x = torch.zeros(2**20, device=device)
    assert memory_peak(lambda: [x + 1, x + 2], device) == 2 * 4 * 2**20
