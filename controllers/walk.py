"""The policy's LSTM over all steps of architectures whose tokens are known, with a backward pass of its own.

An LSTM of 64 units for 20 architectures is so small that autograd's bookkeeping for each operation of each step takes longer than
the arithmetic. Here what the gradients of a step are multiplied by is computed for all steps at once, and so is the gradient of
the weights, by one product; only what a step takes from the next one goes step by step. The LSTM is that of `torch.nn.LSTMCell`
without biases.

Not covered: second derivatives (PyTorch raises).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from controllers.plan import PlannedStep


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """What the LSTM reads at each of S steps, as far as it follows from the tokens of N architectures alone.

    Attributes:
        rows: int64 (S, N), a row of the table of constant inputs; any row where a step reads anchors or nothing.
        shares: for each step what its input takes of each earlier anchor, float (A, N, 1); None where it reads the table.
    """

    rows: Tensor
    shares: Sequence[Tensor | None]

    def part(self, indices: Tensor) -> StepInputs:
        """Return those of a part of the architectures."""
        shares = [None if share is None else share[:, indices] for share in self.shares]
        return StepInputs(rows=self.rows[:, indices], shares=shares)


def walk(steps: Sequence[PlannedStep], inputs: StepInputs, table: Tensor, weight_ih: Tensor, weight_hh: Tensor) -> Tensor:
    """Return the LSTM's output of each step, (N, S, H); zeros for the steps without an input, which are the first.

    Args:
        steps: S steps of a space.
        inputs: of these steps.
        table: (R, H), the constant inputs.
        weight_ih, weight_hh: (4 H, H): input gate (`enter` below), forget gate, new cell, output gate (`leave`).
    """
    result: Tensor = _Walk.apply(steps, inputs.shares, F.embedding(inputs.rows, table), weight_ih, weight_hh)
    return result


class _Walk(torch.autograd.Function):
    """Keeps, of each step: its input and state, the gates, tanh of the cell."""

    @staticmethod
    def forward(
        ctx: Any, steps: Sequence[PlannedStep], shares: Sequence[Tensor | None], x: Tensor, weight_ih: Tensor, weight_hh: Tensor
    ) -> Tensor:
        num_steps, count, hidden = x.shape
        weights = torch.cat([weight_ih, weight_hh], dim=1).t()  # (2 H, 4 H)
        # (S + 1, N, 2 H): what a step reads, its input beside the output of the step before it, which that step writes there
        read = x.new_zeros(num_steps + 1, count, 2 * hidden)
        inputs, outputs = read[:-1, :, :hidden], read[1:, :, hidden:]
        inputs.copy_(x)
        gates = x.new_zeros(num_steps, count, 4 * hidden)
        cells, tanh_cells = x.new_zeros(num_steps + 1, count, hidden), x.new_zeros(num_steps, count, hidden)
        anchors, num_anchors = x.new_zeros(num_steps, count, hidden), 0
        views = _by_step(read, inputs, cells, gates, *torch.split(gates, hidden, dim=-1), cells[1:], tanh_cells, outputs)
        for step, share, rows in zip(steps, shares, views, strict=False):
            now, known_input, cell, raw, enter, forget, new, leave, next_cell, tanh_cell, output = rows
            if share is not None:
                torch.sum(share * anchors[: len(share)], dim=0, out=known_input)
            if step.input != "none":
                torch.mm(now, weights, out=raw)
                torch.mul(cell, forget.sigmoid_(), out=next_cell).addcmul_(enter.sigmoid_(), new.tanh_())
                torch.mul(leave.sigmoid_(), torch.tanh(next_cell, out=tanh_cell), out=output)
            if step.anchor == "value":
                anchors[num_anchors] = output
            num_anchors += step.anchor != "none"
        ctx.steps, ctx.shares = steps, shares
        ctx.save_for_backward(read, gates, cells, tanh_cells, weights)
        return outputs.transpose(0, 1).clone(memory_format=torch.contiguous_format)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        read, gates, cells, tanh_cells, weights = ctx.saved_tensors
        steps: Sequence[PlannedStep] = ctx.steps
        count, num_steps, hidden = grad.shape
        enter, forget, new, leave = torch.split(gates, hidden, dim=-1)
        # what the gradients of a cell and of an output are multiplied by to be those of the gates before sigmoid and tanh
        to_gates = torch.stack([new * enter * (1 - enter), cells[:-1] * forget * (1 - forget), enter * (1 - new * new)], dim=2)
        to_leave, to_cell = tanh_cells * leave * (1 - leave), leave * (1 - tanh_cells * tanh_cells)
        grad_gates, grad_read = torch.zeros_like(gates), torch.zeros_like(read)
        grad_inputs, grad_outputs = grad_read[:-1, :, :hidden], grad_read[1:, :, hidden:]
        grad_outputs.copy_(grad.transpose(0, 1))  # each step adds what it passes to the step before
        grad_cell, weights = grad.new_zeros(count, hidden), weights.t()
        grad_anchors, num_anchors = grad.new_zeros(num_steps, count, hidden), sum(step.anchor != "none" for step in steps)
        fourfold = grad_gates.view(num_steps, count, 4, hidden)
        views = _by_step(
            to_gates,
            to_leave,
            to_cell,
            forget,
            fourfold[:, :, :3],
            fourfold[:, :, 3],
            grad_gates,
            grad_read,
            grad_inputs,
            grad_outputs,
        )
        for step, share, rows in reversed([*zip(steps, ctx.shares, views, strict=True)]):
            factors, leave_factor, cell_factor, kept, grad_three, grad_leave, grad_raw, grad_now, grad_input, grad_output = rows
            num_anchors -= step.anchor != "none"
            if step.input == "none":
                continue  # its output is constant
            if step.anchor == "value":
                grad_output += grad_anchors[num_anchors]
            grad_cell.addcmul_(grad_output, cell_factor)
            torch.mul(grad_cell[:, None], factors, out=grad_three)
            torch.mul(grad_output, leave_factor, out=grad_leave)
            grad_cell *= kept
            grad_now.addmm_(grad_raw, weights)
            if share is not None:
                grad_anchors[: len(share)].addcmul_(share, grad_input)
                grad_input.zero_()  # the table was not read
        grad_weights = grad_gates.flatten(0, 1).t() @ read[:-1].flatten(0, 1)  # (4 H, 2 H)
        return None, None, grad_inputs, *torch.split(grad_weights, hidden, dim=1)


def _by_step(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the rows of tensors, (S, ...) each; made at once, since indexing takes as long as arithmetic here."""
    return zip(*(tensor.unbind() for tensor in tensors), strict=False)
