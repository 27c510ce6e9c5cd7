from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor, nn

from enas.children.base import Output
from enas.children.loss import count_and_loss, minibatch_accuracy, training_loss

LABELS = torch.tensor([0, 1])
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 0.0]])  # cross-entropies log(1 + e^-2) and log 2
AUX = torch.tensor([[0.0, 0.0], [0.0, 1.0]])  # log 2 and log(1 + e^-1)
MAIN_LOSS, AUX_LOSS = (log(1 + exp(-2)) + log(2)) / 2, (log(2) + log(1 + exp(-1))) / 2


@pytest.mark.parametrize("aux_weight", [0.0, 0.4])
def test_loss_of_a_child_with_one_head_is_its_cross_entropy_bit_for_bit(aux_weight):
    loss = training_loss(Output(logits=LOGITS), LABELS, aux_weight=aux_weight)
    assert torch.equal(loss, nn.functional.cross_entropy(LOGITS, LABELS))
    assert float(loss) == pytest.approx(MAIN_LOSS)


def test_auxiliary_head_and_penalty_are_added():
    output = Output(logits=LOGITS, aux_logits=AUX, penalty=torch.tensor(0.25))
    assert float(training_loss(output, LABELS, aux_weight=0.4)) == pytest.approx(MAIN_LOSS + 0.4 * AUX_LOSS + 0.25)
    alone = Output(logits=LOGITS, penalty=torch.tensor(3.0))
    assert float(training_loss(alone, LABELS, aux_weight=1)) == pytest.approx(MAIN_LOSS + 3)


def test_gradients_share_the_weights():
    logits, aux = LOGITS.clone().requires_grad_(), AUX.clone().requires_grad_()
    training_loss(Output(logits=logits, aux_logits=aux), LABELS, aux_weight=0.4).backward()
    by_hand = [(weight / 2) * (x.detach().softmax(dim=1) - torch.eye(2)) for weight, x in ((1.0, logits), (0.4, aux))]
    torch.testing.assert_close(logits.grad, by_hand[0])
    torch.testing.assert_close(aux.grad, by_hand[1])


def test_head_without_weight_is_left_out():
    aux = torch.full((2, 2), torch.nan, requires_grad=True)
    logits = LOGITS.clone().requires_grad_()
    loss = training_loss(Output(logits=logits, aux_logits=aux), LABELS, aux_weight=0.0)
    loss.backward()
    assert loss.isfinite()
    assert aux.grad is None


@pytest.mark.parametrize("name", ["logits", "aux_logits", "penalty"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_term_that_is_not_finite_makes_the_loss_so(name, value):
    terms: dict[str, Tensor] = {"logits": LOGITS, "aux_logits": AUX, "penalty": torch.tensor(0.1)}
    output = Output(**{**terms, name: torch.full_like(terms[name], value)})
    assert not training_loss(output, LABELS, aux_weight=0.4).isfinite()


def test_loss_of_half_precision_logits_is_computed_in_full():
    half = Output(logits=LOGITS.bfloat16(), aux_logits=AUX.bfloat16())  # these values are exact in bfloat16
    loss = training_loss(half, LABELS, aux_weight=0.4)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, training_loss(Output(logits=LOGITS, aux_logits=AUX), LABELS, aux_weight=0.4))


def test_accuracy_is_that_of_the_main_head():
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    accuracy = minibatch_accuracy(Output(logits=logits, aux_logits=-logits), torch.tensor([0, 0, 0, 1]))
    assert (float(accuracy), accuracy.requires_grad) == (0.75, False)


def test_measurements_add_up_labels_that_are_right_and_cross_entropies():
    sums = count_and_loss(Output(logits=LOGITS.bfloat16(), penalty=torch.tensor(9.0)), LABELS)
    assert (sums.dtype, sums[0].item()) == (torch.float32, 1.0)
    assert sums[1].item() == pytest.approx(2 * MAIN_LOSS)
