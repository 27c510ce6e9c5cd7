import copy

import pytest
import torch

from enas.optimization import clip_gradients, guarded_step, make_sgd, set_learning_rate


def parameters(count=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(4, 5, generator=generator)) for _ in range(count)]


def set_gradients(weights, present, step):
    generator = torch.Generator().manual_seed(step)
    for weight, exists in zip(weights, present, strict=True):
        gradient = torch.randn(4, 5, generator=generator)
        weight.grad = gradient if exists else None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_plain_sgd(momentum):
    ours, theirs = parameters(), parameters()
    optimizer = make_sgd(ours, learning_rate=0.1, momentum=momentum, weight_decay=0.01)
    oracle = torch.optim.SGD(
        theirs, lr=0.1, momentum=momentum, nesterov=momentum > 0, weight_decay=0.01, foreach=False, fused=False
    )
    for step in range(5):
        for weights, each in ((ours, optimizer), (theirs, oracle)):
            set_gradients(weights, [True] * 3, step)
            each.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_weight_without_a_gradient_keeps_its_value_and_its_momentum():
    weights = parameters()
    optimizer = make_sgd(weights, learning_rate=0.1, momentum=0.9, weight_decay=0.5)
    set_gradients(weights, [True, True, True], 0)
    optimizer.step()
    before = weights[1].detach().clone(), optimizer.state[weights[1]]["momentum_buffer"].clone()
    for step in range(1, 4):
        set_gradients(weights, [True, False, True], step)
        optimizer.step()
    assert torch.equal(weights[1], before[0])
    assert torch.equal(optimizer.state[weights[1]]["momentum_buffer"], before[1])


def test_weight_that_comes_late_starts_as_with_plain_sgd():
    ours, theirs = parameters(1), parameters(1)
    optimizer = make_sgd([*ours, *parameters(1)], learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    oracle = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    other = optimizer.param_groups[0]["params"][1]
    other.grad = torch.ones_like(other)
    optimizer.step()  # a step of the other weight alone
    for step in range(3):
        for weights, each in ((ours, optimizer), (theirs, oracle)):
            set_gradients(weights, [True], step)
            each.step()
    torch.testing.assert_close(ours[0], theirs[0])


def test_moments_survive_their_state_dict():
    weights, copies = parameters(), parameters()
    optimizer = make_sgd(weights, learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    set_gradients(weights, [True, False, True], 0)
    optimizer.step()
    with torch.no_grad():
        for weight, other in zip(weights, copies, strict=True):
            other.copy_(weight)
    restored = make_sgd(copies, learning_rate=0.7, momentum=0.9, weight_decay=0.0)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for pair in ((weights, optimizer), (copies, restored)):
        set_gradients(pair[0], [False, True, True], 1)
        pair[1].step()
    assert all(torch.equal(weight, other) for weight, other in zip(weights, copies, strict=True))


def test_learning_rate_of_the_next_step_can_be_set():
    weights = parameters(1)
    optimizer = make_sgd(weights, learning_rate=0.1, momentum=0.0, weight_decay=0.0)
    before = weights[0].detach().clone()
    set_learning_rate(optimizer, 0.25)
    weights[0].grad = torch.ones(4, 5)
    optimizer.step()
    torch.testing.assert_close(weights[0].detach(), before - 0.25)


@pytest.mark.parametrize("largest", [0.5, 5.0, 1000.0])
def test_clipping_is_that_of_pytorch(largest):
    ours, theirs = parameters(), parameters()
    for weights in (ours, theirs):
        set_gradients(weights, [True, False, True], 0)
    norm = clip_gradients(ours, largest)
    oracle = torch.nn.utils.clip_grad_norm_(theirs, largest)
    torch.testing.assert_close(norm, oracle)
    assert ours[1].grad is None
    for index in (0, 2):
        torch.testing.assert_close(ours[index].grad, theirs[index].grad)


def test_clipped_gradient_has_the_largest_norm_and_a_short_one_is_left_alone():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([weight], 10.0).item() == 5.0
    assert weight.grad.tolist() == [3.0, 4.0]
    assert clip_gradients([weight], 1.0).item() == 5.0
    assert weight.grad.tolist() == pytest.approx([0.6, 0.8])


def test_no_limit_measures_only():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([300.0, 400.0])
    assert clip_gradients([weight], None).item() == 500.0
    assert weight.grad.tolist() == [300.0, 400.0]


@pytest.mark.parametrize("largest", [None, 1.0])
def test_norm_of_no_gradients_is_zero(largest):
    assert clip_gradients(parameters(), largest).item() == 0.0


def test_norm_of_no_gradients_is_where_the_losses_are():
    """No path of a step fitted in memory: what the step gave can still be put together on its device."""
    weights = parameters()
    optimizer = make_sgd(weights, learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    losses = torch.zeros(2, device="meta")  # stands for an accelerator
    norm, failed = guarded_step(optimizer, weights, losses, learning_rate=0.1, grad_clip=5.0, undo=lambda failed: None)
    assert (norm.device, failed.device) == (losses.device, losses.device)
