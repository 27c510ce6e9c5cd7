from __future__ import annotations

import io
from collections.abc import Callable
from copy import deepcopy
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import enas.children.batch_norm
from enas.children.base import Output
from enas.children.fused_norm import fused_batch_norm
from enas.configs import SharedConfig
from enas.datasets.data import Batch
from enas.datasets.images import ImageData
from enas.mixture_gradient import SgdStep, first_order, second_order
from enas.shared_weights import SharedWeights
from enas.spaces.darts import DartsConfig
from enas.spaces.nasbench201 import NasBench201Config
from enas.types import FloatArray, PathBatch, Relaxation

CHILD = NasBench201Config(filters=4, cells_per_stage=1)
WITH_NOISE = DartsConfig(num_layers=3, num_nodes=2, filters=4, keep_prob=0.7, aux_head=True)
PLAIN_SGD = {"learning_rate": 0.1, "learning_rate_min": 0.1, "momentum": 0.0, "weight_decay": 0.0, "grad_clip": None}


def relaxation_of(shared: SharedWeights, seed: int = 0, *, active_share: float = 1.0) -> Relaxation:
    shape = len(shared.space.mixed_operations), len(shared.space.mixed_operations[0].choices)
    rng = np.random.default_rng(seed)
    active = rng.random(shape) < active_share
    active[~active.any(axis=1), -1] = True
    return Relaxation(weights=rng.dirichlet(np.ones(shape[1]), size=shape[0]), active=active)


@pytest.fixture
def make(images: ImageData) -> Callable[..., SharedWeights]:
    def build(child: Any = CHILD, *, seed: int = 0, **changes: Any) -> SharedWeights:
        config = SharedConfig(**{"batch_size": 16, "valid_batch_size": 8, **changes})
        return SharedWeights(child, images, config, seed=seed)

    return build


def tensors(shared: SharedWeights) -> dict[str, Tensor]:
    """Every weight, buffer and momentum, copied."""
    momenta = {
        f"momentum of {name}": shared.optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in shared.child.named_parameters()
        if shared.optimizer.state[parameter]
    }
    return {name: value.detach().clone() for name, value in {**shared.child.state_dict(), **momenta}.items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


# The mathematics, on a smooth network in float64.


class Smooth(nn.Module):
    """Two places with two operations; a weight that is not used."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name, shape in {"first": (5, 4), "second": (5, 4), "third": (5, 5), "last": (3, 5), "unused": (2, 2)}.items():
            value = torch.randn(shape, generator=generator, dtype=torch.float64)
            self.register_parameter(name, nn.Parameter(value / sqrt(shape[1])))

    def forward(self, x: Tensor, mixture: Tensor) -> Output:
        hidden = mixture[0, 0] * torch.tanh(x @ self.first.T) + mixture[0, 1] * torch.sin(x @ self.second.T)
        hidden = mixture[1, 0] * hidden + mixture[1, 1] * torch.tanh(hidden @ self.third.T)
        return Output(logits=hidden @ self.last.T)


def smooth_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        inputs=torch.randn(12, 4, generator=generator, dtype=torch.float64),
        labels=torch.randint(3, (12,), generator=generator),
    )


def smooth_mixture() -> Tensor:
    return torch.tensor([[0.3, 0.7], [0.6, 0.4]], dtype=torch.float64, requires_grad=True)


def test_first_order_gradient_is_that_of_finite_differences_and_leaves_the_network_alone():
    network, mixture, batch = Smooth(), smooth_mixture(), smooth_batch(1)
    found = first_order(network, mixture, batch)
    for place in np.ndindex(2, 2):
        step = torch.zeros(2, 2, dtype=torch.float64)
        step[place] = 1e-6
        with torch.no_grad():
            sides = [F.cross_entropy(network(batch.inputs, mixture + sign * step).logits, batch.labels) for sign in (1, -1)]
        assert float(found.gradient[place]) == pytest.approx(float(sides[0] - sides[1]) / 2e-6, rel=1e-6)
    logits = network(batch.inputs, mixture).logits.detach()
    assert float(found.loss) == pytest.approx(float(F.cross_entropy(logits, batch.labels)))
    assert float(found.accuracy) == pytest.approx(float((logits.argmax(dim=1) == batch.labels).double().mean()))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert mixture.grad is None
    assert not found.gradient.requires_grad


def test_first_order_gradient_of_a_loss_without_the_mixture_is_zero():
    class Unmixed(nn.Module):
        def forward(self, x: Tensor, _: Tensor) -> Output:
            return Output(logits=x[:, :3])

    found = first_order(Unmixed(), smooth_mixture(), smooth_batch(1))
    assert torch.equal(found.gradient, torch.zeros(2, 2, dtype=torch.float64))


def exact_second_order(network: Smooth, mixture: Tensor, train: Batch, valid: Batch, step: SgdStep) -> Tensor:
    """Differentiate the validation loss behind the step, gradient clipping included, through the whole graph."""
    weights = dict(network.named_parameters())
    loss = F.cross_entropy(functional_call(network, weights, (train.inputs, mixture)).logits, train.labels)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True, allow_unused=True)
    norm = torch.stack([gradient.square().sum() for gradient in gradients if gradient is not None]).sum().sqrt()
    scale = 1.0 if step.grad_clip is None else (step.grad_clip / (norm + 1e-6)).clamp(max=1.0)
    moved = {}
    for index, (name, weight) in enumerate(weights.items()):
        if gradients[index] is None:
            moved[name] = weight
            continue
        change = scale * gradients[index] + step.weight_decay * weight
        buffer = step.momentum * step.buffers[index] + change if step.momentum else change
        moved[name] = weight - step.learning_rate * (change + step.momentum * buffer)  # torch: Nesterov
    loss = F.cross_entropy(functional_call(network, moved, (valid.inputs, mixture)).logits, valid.labels)
    return torch.autograd.grad(loss, mixture)[0]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("grad_clip", [None, 0.1, 100.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_second_order_gradient_is_the_exact_one(momentum, grad_clip, weight_decay):
    network, mixture, train, valid = Smooth(), smooth_mixture(), smooth_batch(1), smooth_batch(2)
    weights = list(network.parameters())
    before = [weight.detach().clone() for weight in weights]
    generator = torch.Generator().manual_seed(3)
    step = SgdStep(
        learning_rate=0.5,
        momentum=momentum,
        weight_decay=weight_decay,
        grad_clip=grad_clip,
        buffers=[torch.randn(weight.shape, generator=generator, dtype=torch.float64) for weight in weights],
    )
    exact = exact_second_order(network, mixture, train, valid, step)
    found = second_order(network, mixture, valid, ahead=train, step=step)
    assert float((found.gradient - exact).norm() / exact.norm()) < 1e-5
    first = first_order(network, mixture, valid).gradient
    assert float((first - exact).norm() / exact.norm()) > 0.02  # the comparison sees what the second order adds
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))
    assert all(weight.grad is None for weight in weights)


def test_second_order_gradient_by_hand():
    """L_train = a w^2 / 2 and L_valid = w^2 / 2: w' = (1 - .1 a) w, and dL_valid(w')/da = -.1 w^2 (1 - .1 a)."""
    mixture = torch.tensor([[3.0]], dtype=torch.float64, requires_grad=True)
    batches = [Batch(inputs=torch.tensor([[value]]), labels=torch.tensor([0])) for value in (0.0, 1.0)]

    class Parabola(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))

        def forward(self, images: Tensor, mixture: Tensor) -> Output:
            factor = mixture[0, 0] if images[0, 0] == 0 else torch.ones((), dtype=torch.float64)
            loss = factor * self.weight.square().sum() / 2
            return Output(logits=torch.zeros(1, 2, dtype=torch.float64), penalty=loss)

    step = SgdStep(learning_rate=0.1, momentum=0.0, weight_decay=0.0, grad_clip=None, buffers=())
    found = second_order(Parabola(), mixture, batches[1], ahead=batches[0], step=step)
    assert float(found.gradient) == pytest.approx(-0.1 * 4 * (1 - 0.3), rel=1e-9)


# Training steps of the shared weights.


def test_mixture_step_descends_the_mixtures_loss_and_returns_the_gradient_of_its_weights(make):
    shared = make(**PLAIN_SGD)
    relaxation = relaxation_of(shared)
    batch, before = shared.train_stream.batch(0), deepcopy(shared.child).train()
    weights = torch.tensor(relaxation.weights, dtype=torch.float32, requires_grad=True)
    output = before.forward_mixture(batch.inputs, weights, relaxation.active)
    loss = F.cross_entropy(output.logits, batch.labels)
    loss.backward()
    metrics = shared.mixture_step(relaxation)
    torch.testing.assert_close(metrics.gradient, weights.grad, rtol=1e-5, atol=1e-7)
    assert float(metrics.loss) == pytest.approx(loss.item(), rel=1e-6)
    assert float(metrics.accuracy) == pytest.approx(float((output.logits.argmax(1) == batch.labels).float().mean()))
    assert metrics.learning_rate == 0.1
    assert not metrics.failed
    assert shared.num_train_steps == 1
    for name, parameter in shared.child.named_parameters():
        old = before.get_parameter(name)
        torch.testing.assert_close(parameter, old.detach() - 0.1 * old.grad, rtol=1e-5, atol=1e-6)
    norm = sqrt(sum(float(parameter.grad.double().square().sum()) for parameter in before.parameters()))
    assert float(metrics.grad_norm) == pytest.approx(norm, rel=1e-5)


def test_mixture_of_one_path_trains_what_a_path_trains(make):
    """The NAS-Bench-201 network's mixture of one cell is that cell, bit for bit; so is the step."""
    by_path, by_mixture = make(), make()
    for tokens in ([3, 2, 1, 4, 3, 0], [1, 2, 3, 3, 0, 2]):
        active = np.eye(5, dtype=bool)[tokens]
        trained = by_path.train_step(PathBatch(tokens=np.array([tokens]), loss_weights=np.ones(1)))
        mixed = by_mixture.mixture_step(Relaxation(weights=active.astype(np.float64), active=active))
        assert torch.equal(trained.loss[0], mixed.loss)
        assert torch.equal(trained.accuracy[0], mixed.accuracy)
    assert changed(tensors(by_path), tensors(by_mixture)) == set()


def test_operations_that_are_not_active_neither_decay_nor_move(make):
    shared = make()
    for seed in range(3):
        shared.mixture_step(relaxation_of(shared, seed))  # so that every momentum moves
    before = tensors(shared)
    relaxation = relaxation_of(shared, 4, active_share=0.4)
    metrics = shared.mixture_step(relaxation)
    assert (metrics.gradient.numpy()[~relaxation.active] == 0).all()
    moved = changed(before, tensors(shared))
    for name in before:
        operation = next((k for k, label in enumerate(shared.space.mixed_operations[0].choices) if f".{label}." in name), None)
        if operation is None:
            continue
        edge = int(name.split(f".{shared.space.mixed_operations[0].choices[operation]}.")[0].rsplit(".", 1)[1])
        assert (name in moved) <= relaxation.active[edge, operation], name
    idle = [parameter for name, parameter in shared.child.named_parameters() if name not in moved]
    assert idle
    assert all(parameter.grad is None for parameter in idle)


def test_noise_of_a_mixture_step_follows_from_the_seed(make):
    """Dropout and the auxiliary head take part, as they do in a path's step."""
    first, same, other = make(WITH_NOISE), make(WITH_NOISE), make(WITH_NOISE, seed=1)
    losses = [[float(shared.mixture_step(relaxation_of(shared)).loss) for _ in range(2)] for shared in (first, same, other)]
    assert losses[0] == losses[1] != losses[2]
    assert changed(tensors(first), tensors(same)) == set()
    names = [name for name, _ in first.child.named_parameters() if name.startswith("auxiliary.")]
    fresh = tensors(make(WITH_NOISE))
    assert names
    assert set(names) <= changed(fresh, tensors(first))


def test_mixture_step_whose_loss_is_not_finite_moves_nothing(make):
    shared = make()
    shared.mixture_step(relaxation_of(shared))
    with torch.no_grad():
        shared.child.classifier.weight.fill_(torch.inf)
    before = {name: value for name, value in tensors(shared).items() if "num_batches" not in name}
    metrics = shared.mixture_step(relaxation_of(shared))
    assert metrics.failed
    assert not metrics.loss.isfinite()
    assert changed(before, {name: tensors(shared)[name] for name in before}) == set()


def test_mixture_step_whose_mixture_gradient_alone_is_not_finite_moves_nothing(make, monkeypatch):
    shared = make()
    run = shared.child.forward_mixture

    def steep(x: Tensor, weights: Tensor, active: Any, **options: Any) -> Output:
        output = run(x, weights, active, **options)
        weights.register_hook(lambda gradient: gradient * torch.inf)
        return output

    monkeypatch.setattr(shared.child, "forward_mixture", steep)
    before = {name: value for name, value in tensors(shared).items() if "num_batches" not in name}
    metrics = shared.mixture_step(relaxation_of(shared))
    assert metrics.failed
    assert metrics.loss.isfinite()
    assert metrics.grad_norm.isfinite()
    assert changed(before, {name: tensors(shared)[name] for name in before}) == set()


def fail_at(shared: SharedWeights, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Let a forward pass of a mixture run out of memory, counted from 1."""
    run, calls = shared.child.forward_mixture, iter(range(1, 100))

    def forward(*arguments: Any, **options: Any) -> Output:
        if next(calls) == call:
            raise RuntimeError("can't allocate memory: you tried to allocate a petabyte")
        return run(*arguments, **options)

    monkeypatch.setattr(shared.child, "forward_mixture", forward)


def test_mixture_step_without_memory_warns_and_moves_nothing(make, monkeypatch):
    shared = make()
    shared.mixture_step(relaxation_of(shared))
    before = tensors(shared)
    fail_at(shared, monkeypatch, 1)
    with pytest.warns(RuntimeWarning, match="out of memory, training step skipped: nasbench201 mixture"):
        metrics = shared.mixture_step(relaxation_of(shared))
    assert metrics.failed
    assert metrics.loss.isnan()
    assert metrics.accuracy.isnan()
    assert changed(before, tensors(shared)) == set()


def test_macro_weights_have_no_mixture_steps(images):
    from enas.spaces.macro import MacroConfig

    shared = SharedWeights(MacroConfig(num_layers=2, filters=4), images, SharedConfig(batch_size=16, valid_batch_size=8))
    nothing = Relaxation(weights=np.ones((1, 1)), active=np.ones((1, 1), dtype=bool))
    for act in (shared.mixture_step, shared.architecture_gradient):
        with pytest.raises(ValueError, match="expected a network that runs mixtures"):
            act(nothing)


# Gradients of the architecture.


def test_architecture_gradient_is_that_of_the_next_minibatch_by_its_own_statistics(make):
    shared = make()
    shared.mixture_step(relaxation_of(shared))
    for index in range(3):
        relaxation = relaxation_of(shared, index)
        batch = shared.architecture_stream.batch(index)
        weights = torch.tensor(relaxation.weights, dtype=torch.float32, requires_grad=True)
        output = deepcopy(shared.child).train().forward_mixture(batch.inputs, weights, relaxation.active)
        loss = F.cross_entropy(output.logits, batch.labels)
        loss.backward()
        found = shared.architecture_gradient(relaxation)
        torch.testing.assert_close(found.gradient, weights.grad, rtol=1e-4, atol=1e-6)
        assert float(found.loss) == pytest.approx(loss.item(), rel=1e-5)


def test_validation_minibatch_of_the_gradient_is_of_validation_images(make, images):
    stream = make().architecture_stream
    assert stream.num_batches == 1
    assert len(stream.batch(0).labels) == 16
    assert sorted(float(image.sum()) for image in stream.batch(0).inputs) != sorted(
        float(image.sum()) for image in stream.batch(1).inputs
    )
    small = make(batch_size=60).architecture_stream  # fewer validation images than a minibatch has
    assert len(small.batch(0).labels) == len(images.valid)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("child", [CHILD, WITH_NOISE])
def test_architecture_gradient_moves_nothing_of_the_shared_weights(order, child, make):
    asked, unasked = make(child), make(child)
    for shared in (asked, unasked):
        shared.mixture_step(relaxation_of(shared))
        shared.optimizer.zero_grad(set_to_none=True)
    asked.architecture_gradient(relaxation_of(asked, 1), order=order)
    assert changed(tensors(asked), tensors(unasked)) == set()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in asked.child.parameters())
    for shared in (asked, unasked):
        shared.mixture_step(relaxation_of(shared, 2))
    assert changed(tensors(asked), tensors(unasked)) == set()
    rewards = [shared.evaluate([shared.space.largest()]).loss for shared in (asked, unasked)]
    assert np.array_equal(*rewards)


def test_second_order_looks_through_the_step_that_the_weights_really_take(make, monkeypatch):
    """The validation loss is that of the weights behind the training step that follows, clipped and with momentum."""
    shared = make(grad_clip=0.5, learning_rate=0.2)
    for seed in range(3):
        shared.mixture_step(relaxation_of(shared, seed))
    relaxation, seen = relaxation_of(shared, 9, active_share=0.6), []
    run = shared.child.forward_mixture

    def forward(*arguments: Any, **options: Any) -> Output:
        seen.append({name: value.detach().clone() for name, value in shared.child.named_parameters()})
        return run(*arguments, **options)

    monkeypatch.setattr(shared.child, "forward_mixture", forward)
    shared.architecture_gradient(relaxation, order=2)
    assert len(seen) == 2  # training loss, validation loss behind the step
    before = dict(seen[0])
    assert float(shared.mixture_step(relaxation).grad_norm) > 0.5  # clipping takes part
    for name, parameter in shared.child.named_parameters():
        torch.testing.assert_close(seen[1][name], parameter, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(before[name], seen[1][name]) for name in before)


def exact_gradient_of(shared: SharedWeights, relaxation: Relaxation) -> Tensor:
    """What `architecture_gradient` of order 2 shall give next, in float64, through the whole graph of the training step."""
    mixture = torch.tensor(relaxation.weights, requires_grad=True)
    train = shared.train_stream.batch(shared.num_train_steps)
    valid = shared.architecture_stream.batch(shared.num_architecture_gradients)
    network = deepcopy(shared.child).double().train()
    network.forward = network.forward_mixture  # what functional_call calls

    def loss(weights: dict[str, Tensor], batch: Batch) -> Tensor:
        output = functional_call(network, weights, (batch.inputs.double(), mixture, relaxation.active))
        return F.cross_entropy(output.logits, batch.labels)

    weights, config = dict(network.named_parameters()), shared.config
    gradients = torch.autograd.grad(loss(weights, train), list(weights.values()), create_graph=True)
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    assert norm.detach() > config.grad_clip
    moved = {}
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        buffer = shared.optimizer.state[shared.child.get_parameter(name)]["momentum_buffer"].double()
        change = config.grad_clip * gradient / (norm + 1e-6) + config.weight_decay * weight
        moved[name] = weight - shared.learning_rate * (change + 0.9 * (0.9 * buffer + change))
    return torch.autograd.grad(loss(moved, valid), mixture)[0]


def test_second_order_gradient_of_a_supernet_is_the_exact_one(make):
    shared = make(weight_decay=0.01, learning_rate=0.05, grad_clip=1.0)
    for seed in range(3):
        shared.mixture_step(relaxation_of(shared, seed))
    relaxation = relaxation_of(shared, 5)
    exact = exact_gradient_of(shared, relaxation)
    found = shared.architecture_gradient(relaxation, order=2).gradient
    shared.num_architecture_gradients = 0
    first = shared.architecture_gradient(relaxation).gradient
    assert float((found - exact).norm() / exact.norm()) < 0.02  # that of single precision
    assert float((first - exact).norm() / exact.norm()) > 0.2


def test_second_order_gradient_of_a_supernet_is_that_of_a_short_difference_behind_two_steps(make):
    """The validation loss behind the training steps of two mixtures beside this one, in float64: all that it claims to be."""
    shared = make(weight_decay=0.01, learning_rate=0.05, grad_clip=1.0)
    for seed in range(3):
        shared.mixture_step(relaxation_of(shared, seed))
    relaxation, distance = relaxation_of(shared, 5), 1e-7
    rng = np.random.default_rng(0)
    direction = rng.normal(size=relaxation.weights.shape)
    valid, state = shared.architecture_stream.batch(0), shared.state_dict()
    found = shared.architecture_gradient(relaxation, order=2).gradient
    sides = []
    for sign in (1, -1):
        moved = make(weight_decay=0.01, learning_rate=0.05, grad_clip=1.0)
        moved.load_state_dict(state)
        weights = relaxation.weights + sign * distance * direction
        moved_network = step_in_double(moved, weights, relaxation)
        mixture = torch.from_numpy(weights)
        with torch.no_grad():
            output = moved_network.forward_mixture(valid.inputs.double(), mixture, relaxation.active)
        sides.append(float(F.cross_entropy(output.logits, valid.labels)))
    along = float((found.double() * torch.from_numpy(direction)).sum())
    assert along == pytest.approx((sides[0] - sides[1]) / (2 * distance), rel=0.02)


def step_in_double(shared: SharedWeights, weights: FloatArray, relaxation: Relaxation) -> Any:
    """A copy of the network in float64 behind a training step by torch's own SGD and clipping, on the next minibatch."""
    network = deepcopy(shared.child).double().train()
    batch, config = shared.train_stream.batch(shared.num_train_steps), shared.config
    options = {"momentum": 0.9, "nesterov": True, "weight_decay": config.weight_decay}
    optimizer = torch.optim.SGD(network.parameters(), lr=shared.learning_rate, **options)
    for old, new in zip(shared.child.parameters(), network.parameters(), strict=True):
        optimizer.state[new]["momentum_buffer"] = shared.optimizer.state[old]["momentum_buffer"].double()
    output = network.forward_mixture(batch.inputs.double(), torch.from_numpy(weights), relaxation.active)
    F.cross_entropy(output.logits, batch.labels).backward()
    nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
    optimizer.step()
    return network


@pytest.mark.parametrize("order", [1, 2])
def test_gradient_in_half_precision_points_where_that_in_single_does(order, make):
    shared = make(learning_rate=0.01)
    for seed in range(2):
        shared.mixture_step(relaxation_of(shared, seed))
    single = shared.architecture_gradient(relaxation_of(shared), order=order).gradient
    shared.precision, shared.num_architecture_gradients = "bf16", 0
    half = shared.architecture_gradient(relaxation_of(shared), order=order).gradient
    assert half.dtype == torch.float32
    assert not torch.equal(half, single)
    assert float(F.cosine_similarity(half.flatten(), single.flatten(), dim=0)) > 0.7


def test_second_order_gradient_takes_no_fused_batch_norm_and_leaves_it_to_others(make, monkeypatch):
    fused = []

    def counted(*arguments: Any, **options: Any) -> Any:
        fused.append(1)
        return fused_batch_norm(*arguments, **options)

    monkeypatch.setattr(enas.children.batch_norm, "fused_pays", lambda x: x.is_contiguous(memory_format=torch.channels_last))
    monkeypatch.setattr(enas.children.batch_norm, "fused_batch_norm", counted)
    shared = make(NasBench201Config(filters=4, cells_per_stage=1, affine=True))
    found = shared.architecture_gradient(relaxation_of(shared), order=2)
    assert not fused
    assert found.gradient.isfinite().all()
    shared.architecture_gradient(relaxation_of(shared))
    assert fused


@pytest.mark.parametrize("call", [1, 2])
def test_gradient_without_memory_warns_and_leaves_the_weights(call, make, monkeypatch):
    shared = make()
    shared.mixture_step(relaxation_of(shared))
    before = tensors(shared)
    fail_at(shared, monkeypatch, call)
    with pytest.warns(RuntimeWarning, match="out of memory, no gradient of its weights: nasbench201 mixture"):
        found = shared.architecture_gradient(relaxation_of(shared), order=2)
    assert found.gradient.isnan().all()
    assert found.loss.isnan()
    assert found.accuracy.isnan()
    assert changed(before, tensors(shared)) == set()
    assert all(parameter.requires_grad for parameter in shared.child.parameters())
    assert shared.architecture_gradient(relaxation_of(shared)).gradient.isfinite().all()


def test_checkpoint_goes_on_with_the_next_minibatch_and_old_ones_start_at_the_first(make):
    saved = make()
    saved.mixture_step(relaxation_of(saved))
    for _ in range(3):
        saved.architecture_gradient(relaxation_of(saved))
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    restored = make(seed=5)
    restored.load_state_dict(state)
    gradients = [shared.architecture_gradient(relaxation_of(shared)).gradient for shared in (saved, restored)]
    assert torch.equal(*gradients)
    del state["num_architecture_gradients"]
    restored.load_state_dict(state)
    assert restored.num_architecture_gradients == 0
