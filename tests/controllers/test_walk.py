from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from controllers.lstm import LSTMPolicy
from controllers.plan import make_plan
from controllers.walk import StepInputs, walk
from enas.spaces.base import AnchorRule, InputRule, SearchSpace, Step
from enas.spaces.macro import MacroSpace
from enas.spaces.micro import MicroSpace
from enas.spaces.rnn import RnnSpace
from enas.spaces.sampling import sample_uniform

SPACES = [MacroSpace(num_layers=5), MicroSpace(num_nodes=3), RnnSpace(num_nodes=4)]


def tokens_of(space: SearchSpace[Any], count: int) -> Tensor:
    return torch.from_numpy(sample_uniform(space, count, np.random.default_rng(0)))


def stepwise(steps: Any, inputs: StepInputs, table: Tensor, weight_ih: Tensor, weight_hh: Tensor) -> Tensor:
    """`torch.lstm_cell` and autograd, one step after the other."""
    h = c = table.new_zeros(inputs.rows.shape[1], table.shape[1])
    anchors: list[Tensor] = []
    outputs = []
    for step, rows, share in zip(steps, inputs.rows, inputs.shares, strict=True):
        x = table[rows] if share is None else sum(part * anchor for part, anchor in zip(share, anchors, strict=False))
        if step.input != "none":
            h, c = torch.lstm_cell(x, (h, c), weight_ih, weight_hh)
        if step.anchor != "none":
            anchors.append(h if step.anchor == "value" else torch.zeros_like(h))
        outputs.append(h)
    return torch.stack(outputs, dim=1)


def weights(num_rows: int, hidden: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for length in (num_rows, 4 * hidden, 4 * hidden):
        yield torch.randn(length, hidden, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_outputs_and_gradients_are_those_of_autograd_step_by_step(space: SearchSpace[Any]) -> None:
    policy = LSTMPolicy(space, hidden=6).double()
    inputs, steps = policy.inputs(tokens_of(space, 7)), make_plan(space).steps
    leaves = [*weights(len(policy._table()), 6)]
    expected, found = stepwise(steps, inputs, *leaves), walk(steps, inputs, *leaves)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    gradient = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=found.dtype)
    wanted, got = (torch.autograd.grad(out, leaves, gradient) for out in (expected, found))
    for one, other in zip(got, wanted, strict=True):
        assert other.abs().max() > 0.1
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_spaces_of_the_comparison_have_every_rule() -> None:
    steps: list[Step] = [step for space in SPACES for step in space.steps]
    assert {step.input for step in steps} == set(get_args(InputRule))
    assert {step.anchor for step in steps} == set(get_args(AnchorRule))


def test_gradient_that_comes_in_is_left_alone() -> None:
    space = MacroSpace(num_layers=3)
    policy = LSTMPolicy(space, hidden=6).double()
    leaves = [*weights(len(policy._table()), 6)]
    found = walk(make_plan(space).steps, policy.inputs(tokens_of(space, 4)), *leaves)
    gradient = torch.ones_like(found)
    first = torch.autograd.grad(found, leaves, gradient, retain_graph=True)
    assert gradient.eq(1).all()
    assert all(torch.equal(*pair) for pair in zip(first, torch.autograd.grad(found, leaves, gradient), strict=True))


def test_inputs_of_a_part_are_those_of_its_tokens() -> None:
    policy = LSTMPolicy(MacroSpace(num_layers=4))
    tokens, indices = tokens_of(MacroSpace(num_layers=4), 6), torch.tensor([4, 1, 2])
    part, anew = policy.inputs(tokens).part(indices), policy.inputs(tokens[indices])
    assert torch.equal(part.rows, anew.rows)
    assert sum(share is not None for share in anew.shares) == 2
    for one, other in zip(part.shares, anew.shares, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_second_derivatives_are_refused() -> None:
    policy = LSTMPolicy(MacroSpace(num_layers=2))
    log_prob = policy.evaluate(tokens_of(MacroSpace(num_layers=2), 2)).log_prob.sum()
    (gradient,) = torch.autograd.grad(log_prob, policy.cell.weight_hh, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
