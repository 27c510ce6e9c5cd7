from __future__ import annotations

import io
import weakref
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from math import cos, pi, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enas.children.base import Child, copy_inherited
from enas.configs import SharedConfig
from enas.datasets.augment import Augmentation
from enas.datasets.batches import BatchStream
from enas.datasets.data import even_chunk
from enas.datasets.images import ImageData
from enas.measure import no_collection
from enas.seeding import derive_seed
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.spaces.sampling import sample_uniform
from enas.types import IntArray, PathBatch

CHILD = MacroConfig(num_layers=3, filters=4, keep_prob=0.8)
WITHOUT_DROPOUT = replace(CHILD, keep_prob=1.0)
CELLS = MicroConfig(num_layers=1, num_nodes=1, filters=2, keep_prob=1.0)  # with an auxiliary head
PLAIN_SGD = {"learning_rate": 0.1, "learning_rate_min": 0.1, "momentum": 0.0, "weight_decay": 0.0, "grad_clip": None}
MODES = ("batch", "running", "recalibrated")


@pytest.fixture
def make(images: ImageData) -> Callable[..., SharedWeights]:
    def build(child: MacroConfig = CHILD, *, seed: int = 0, augmentation: Augmentation | None = None, **changes: Any) -> Any:
        config = SharedConfig(**{"batch_size": 16, "valid_batch_size": 8, **changes})
        return SharedWeights(child, images, config, seed=seed, augmentation=augmentation)

    return build


def draw(shared: SharedWeights, count: int, seed: int = 0) -> IntArray:
    return sample_uniform(shared.space, count, np.random.default_rng(seed))


def average(tokens: IntArray) -> PathBatch:
    return PathBatch(tokens=tokens, loss_weights=np.full(len(tokens), 1 / len(tokens)))


def train(shared: SharedWeights, steps: int, seed: int = 0, num_paths: int = 2) -> list[Tensor]:
    rows = draw(shared, steps * num_paths, seed).reshape(steps, num_paths, -1)
    results = [shared.train_step(average(tokens)) for tokens in rows]
    return [torch.cat([result.loss.sum()[None], result.accuracy, result.grad_norm[None]]) for result in results]


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


def standalone(shared: SharedWeights, architecture: Any, child: MacroConfig = WITHOUT_DROPOUT) -> Child:
    """The network of one architecture alone, in evaluation mode, with the shared weights copied out."""
    network = child.make_child(input_shape=shared.input_shape, num_classes=shared.num_classes, architecture=architecture)
    copy_inherited(shared.child, network)
    return network.eval()


def score(network: Child, architecture: Any, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy and mean cross-entropy, in NumPy."""
    with torch.no_grad():
        logits = network(images, architecture).logits.double().numpy()
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -log_probs[np.arange(len(labels)), labels.numpy()].mean()
    return float((logits.argmax(axis=1) == labels.numpy()).mean()), float(loss)


def test_step_moves_the_sampled_path_and_nothing_else(make):
    shared = make()
    train(shared, 4)  # so that every momentum that moves at all is not zero
    before = tensors(shared)
    row = draw(shared, 1, seed=5)
    shared.train_step(average(row))
    architecture = shared.space.decode(row[0])
    network = standalone(shared, architecture)
    on_path = set(network.state_dict()) | {f"momentum of {name}" for name, _ in network.named_parameters()}
    assert on_path < set(before)
    assert changed(before, tensors(shared)) == on_path
    off_path = [parameter for name, parameter in shared.child.named_parameters() if name not in on_path]
    assert off_path
    assert all(parameter.grad is None for parameter in off_path)


def test_gradient_is_the_weighted_sum_of_the_paths_gradients(make):
    shared = make(WITHOUT_DROPOUT, **PLAIN_SGD)
    tokens, weights = draw(shared, 3), (0.2, 0.5, 1.3)
    batch = shared.train_stream.batch(0)
    before = dict(deepcopy(shared.child).named_parameters())
    expected = {name: torch.zeros_like(value) for name, value in before.items()}
    for row, weight in zip(tokens, weights, strict=True):
        architecture = shared.space.decode(row)
        network = standalone(shared, architecture).train()
        loss = nn.functional.cross_entropy(network(batch.inputs, architecture).logits, batch.labels)
        loss.backward()
        for name, parameter in network.named_parameters():
            expected[name] += weight * parameter.grad
    metrics = shared.train_step(PathBatch(tokens=tokens, loss_weights=np.array(weights)))
    for name, parameter in shared.child.named_parameters():
        torch.testing.assert_close(parameter, before[name] - 0.1 * expected[name], rtol=1e-5, atol=1e-6)
    norm = sqrt(sum(float(gradient.double().square().sum()) for gradient in expected.values()))
    assert float(metrics.grad_norm) == pytest.approx(norm, rel=1e-5)


def test_training_metrics_are_those_of_the_paths_before_the_step(make):
    shared = make(WITHOUT_DROPOUT)
    tokens = draw(shared, 2)
    batch = shared.train_stream.batch(0)
    networks = [(standalone(shared, shared.space.decode(row)).train(), shared.space.decode(row)) for row in tokens]
    (first, first_loss), (second, second_loss) = (score(*network, batch.inputs, batch.labels) for network in networks)
    metrics = shared.train_step(PathBatch(tokens=tokens, loss_weights=np.array([0.25, 2.0])))
    assert metrics.accuracy.tolist() == pytest.approx([first, second])
    assert metrics.loss.tolist() == pytest.approx([0.25 * first_loss, 2 * second_loss], rel=1e-5)
    assert not metrics.failed


def test_auxiliary_heads_loss_counts_with_its_weight(make):
    shared = make(CELLS, aux_weight=0.7, **PLAIN_SGD)
    row, batch = draw(shared, 1), shared.train_stream.batch(0)
    network = deepcopy(shared.child).train()
    output = network(batch.inputs, shared.space.decode(row[0]))
    main, aux = (nn.functional.cross_entropy(logits, batch.labels) for logits in (output.logits, output.aux_logits))
    (0.5 * (main + 0.7 * aux)).backward()
    metrics = shared.train_step(PathBatch(tokens=row, loss_weights=np.array([0.5])))
    assert metrics.loss.tolist() == pytest.approx([0.5 * (main + 0.7 * aux).item()], rel=1e-5)
    for name, parameter in shared.child.named_parameters():
        before = network.get_parameter(name)
        expected = before.detach() if before.grad is None else before.detach() - 0.1 * before.grad
        torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=1e-6)


def test_auxiliary_head_without_weight_is_not_trained(make):
    shared = make(CELLS, aux_weight=0.0)
    before = tensors(shared)
    train(shared, 2)
    names = [name for name, _ in shared.child.named_parameters() if name.startswith("auxiliary.")]
    assert names
    assert changed(before, tensors(shared)).isdisjoint(names)


def test_step_whose_auxiliary_loss_is_not_finite_moves_nothing(make):
    shared = make(CELLS)
    train(shared, 1)
    with torch.no_grad():
        shared.child.auxiliary.classifier.weight.fill_(torch.inf)
    before = {name: value for name, value in tensors(shared).items() if "num_batches" not in name}
    metrics = shared.train_step(average(draw(shared, 1)))
    assert metrics.failed
    assert not metrics.loss.isfinite().any()
    assert changed(before, {name: tensors(shared)[name] for name in before}) == set()


def flat(network):
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])


def test_clipping_bounds_the_step_and_leaves_the_reported_norm(make):
    free, clipped = make(WITHOUT_DROPOUT, **PLAIN_SGD), make(WITHOUT_DROPOUT, **{**PLAIN_SGD, "grad_clip": 0.01})
    before = flat(free.child)
    norms = [float(shared.train_step(average(draw(shared, 2))).grad_norm) for shared in (free, clipped)]
    assert norms[0] == norms[1] > 0.01
    steps = [flat(shared.child) - before for shared in (free, clipped)]
    assert float(steps[1].norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)
    torch.testing.assert_close(steps[1], steps[0] * (0.01 / norms[0]), rtol=1e-3, atol=1e-7)


def test_dropout_of_the_configuration_changes_the_training_loss_alone(make):
    dropped, kept = make(replace(CHILD, keep_prob=0.3)), make(replace(CHILD, keep_prob=1.0))
    assert changed(tensors(dropped), tensors(kept)) == set()
    assert dropped.evaluate([dropped.space.largest()]).loss == kept.evaluate([kept.space.largest()]).loss
    losses = [train(shared, 1)[0] for shared in (dropped, kept)]
    assert not torch.equal(losses[0], losses[1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("measure", ["evaluate", "evaluate_all"])
def test_evaluation_leaves_training_as_it_was(mode, measure, make):
    asked, unasked = make(batch_norm=mode), make(batch_norm=mode)
    for shared in (asked, unasked):
        train(shared, 2)
    before = tensors(asked)
    settings = [(norm.momentum, norm.track_running_stats) for norm in asked._norms]
    gradients = [parameter.grad for parameter in asked.child.parameters()]
    getattr(asked, measure)([asked.space.decode(row) for row in draw(asked, 3, seed=4)])
    assert changed(before, tensors(asked)) == set()
    assert [(norm.momentum, norm.track_running_stats) for norm in asked._norms] == settings
    assert all(old is parameter.grad for old, parameter in zip(gradients, asked.child.parameters(), strict=True))
    assert asked.num_train_steps == unasked.num_train_steps == 2
    assert all(map(torch.equal, train(asked, 2, seed=1), train(unasked, 2, seed=1)))
    assert changed(tensors(asked), tensors(unasked)) == set()


@pytest.mark.parametrize("mode", MODES)
def test_evaluation_builds_no_graph(mode, make, monkeypatch):
    shared = make(batch_norm=mode)
    seen = []
    forward = shared.child.forward

    def spy(*arguments: Any, **options: Any) -> Any:
        output = forward(*arguments, **options)
        seen.append(output.logits.requires_grad or output.logits.grad_fn is not None)
        return output

    monkeypatch.setattr(shared.child, "forward", spy)
    shared.evaluate([shared.space.smallest()])
    shared.evaluate_all([shared.space.smallest()])
    assert seen
    assert not any(seen)


def test_running_mode_measures_as_the_standalone_network_in_evaluation_mode(make):
    shared = make(batch_norm="running")
    train(shared, 5)
    architectures = [shared.space.decode(row) for row in draw(shared, 2, seed=3)]
    evaluation = shared.evaluate(architectures)
    assert evaluation.num_examples == 8
    for index, architecture in enumerate(architectures):
        batch = shared.valid_stream.batch(index)
        accuracy, loss = score(standalone(shared, architecture), architecture, batch.inputs, batch.labels)
        assert evaluation.accuracy[index] == accuracy
        assert evaluation.loss[index] == pytest.approx(loss, rel=1e-5)


def test_batch_mode_measures_with_the_batchs_own_statistics(make):
    shared = make(batch_norm="batch")
    train(shared, 5)
    architecture = shared.space.decode(draw(shared, 1, seed=3)[0])
    network = standalone(shared, architecture).train()  # BatchNorm in training mode; there is no dropout in it
    batch = shared.valid_stream.batch(0)
    accuracy, loss = score(network, architecture, batch.inputs, batch.labels)
    evaluation = shared.evaluate([architecture])
    assert evaluation.accuracy.tolist() == [accuracy]
    assert evaluation.loss.tolist() == pytest.approx([loss], rel=1e-5)


@pytest.mark.parametrize("measure", ["evaluate", "evaluate_all"])
def test_recalibrated_mode_measures_with_statistics_averaged_over_training_batches(measure, make, images):
    shared = make(batch_norm="recalibrated", recalibration_batches=3, augmentation=Augmentation(pad=2, flip=True))
    train(shared, 5)
    architecture = shared.space.decode(draw(shared, 1, seed=3)[0])
    network = standalone(shared, architecture)
    options = {"batch_size": 16, "seed": derive_seed(0, "recalibration"), "mean": images.mean, "std": images.std}
    stream = BatchStream(images.train, **options)
    recalibrate_by_hand(network, architecture, [stream.batch(step).inputs for step in range(3)])
    batches = [shared.valid_stream.batch(0)] if measure == "evaluate" else list(shared.valid_stream.whole(30))
    accuracy, loss = score(network, architecture, batches[0].inputs, batches[0].labels)
    evaluation = getattr(shared, measure)([shared.space.largest(), architecture][measure == "evaluate" :])
    assert evaluation.accuracy[-1] == accuracy
    assert evaluation.loss[-1] == pytest.approx(loss, rel=1e-4)


def recalibrate_by_hand(network: Child, architecture: Any, batches: Sequence[Tensor]) -> None:
    """Give every BatchNorm the mean over batches of the batch's mean and unbiased variance of its inputs."""
    inputs: dict[nn.Module, list[Tensor]] = {}
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(lambda norm, x: inputs.setdefault(norm, []).append(x[0].clone())) for norm in norms]
    network.train()
    with torch.no_grad():
        for images in batches:
            network(images, architecture)
        for norm in norms:
            norm.running_mean.copy_(torch.stack([x.mean(dim=(0, 2, 3)) for x in inputs[norm]]).mean(dim=0))
            norm.running_var.copy_(torch.stack([x.transpose(0, 1).flatten(1).var(dim=1) for x in inputs[norm]]).mean(dim=0))
    for hook in hooks:
        hook.remove()
    network.eval()


def test_each_architecture_gets_a_validation_minibatch_of_its_own(make):
    shared, reference = make(reward_batch="own"), make(reward_batch="own")
    architecture = shared.space.largest()
    separate = [reference.evaluate([architecture]).loss[0] for _ in range(5)]
    first, second = shared.evaluate([architecture] * 3), shared.evaluate([architecture] * 2)
    assert [*first.loss, *second.loss] == separate
    assert len(set(separate)) > 3
    assert shared.num_evaluations == 5


def test_a_reward_on_several_minibatches_is_their_mean(make):
    single, double = make(reward_batch="own"), make(reward_batch="own", reward_batches=2)
    architectures = [single.space.largest(), single.space.smallest()]
    for _ in range(2):
        expected = [np.mean([single.evaluate([one]).loss[0] for _ in range(2)]) for one in architectures]
        measured = double.evaluate(architectures)
        np.testing.assert_allclose(measured.loss, expected, rtol=1e-6)
        assert measured.num_examples == 16
    assert double.num_evaluations == 4


def test_architectures_of_a_call_share_all_minibatches_of_a_reward(make):
    single, double = make(reward_batch="shared"), make(reward_batch="shared", reward_batches=2)
    architectures = [single.space.largest(), single.space.smallest()]
    for _ in range(2):
        expected = np.mean([single.evaluate(architectures).loss for _ in range(2)], axis=0)
        np.testing.assert_allclose(double.evaluate(architectures).loss, expected, rtol=1e-6)
    assert double.num_evaluations == 2


def test_architectures_of_a_call_share_a_validation_minibatch_if_asked_to(make):
    own, shared = make(reward_batch="own"), make(reward_batch="shared")
    architecture = shared.space.largest()
    separate = own.evaluate([architecture] * 2).loss
    first, second = shared.evaluate([architecture] * 3), shared.evaluate([architecture] * 2)
    assert first.loss.tolist() == [separate[0]] * 3
    assert second.loss.tolist() == [separate[1]] * 2
    assert shared.num_evaluations == 2


@pytest.mark.parametrize("valid_batch_size", [7, 8, 30])
def test_evaluation_of_all_reads_each_validation_image_once(valid_batch_size, make, images, monkeypatch):
    shared = make(valid_batch_size=valid_batch_size)
    seen: list[Tensor] = []
    forward = shared.child.forward
    monkeypatch.setattr(shared.child, "forward", lambda x, architecture, **_: seen.append(x) or forward(x, architecture))
    evaluation = shared.evaluate_all([shared.space.smallest()])
    assert evaluation.num_examples == 30
    assert max(map(len, seen)) <= valid_batch_size
    pixels = torch.cat(seen) * images.std[0] + images.mean[0]
    expected = sorted(images.valid.images.flatten(1).tolist())
    assert sorted((255 * pixels).round().int().flatten(1).tolist()) == expected
    assert shared.num_evaluations == 0


def test_evaluation_of_a_part_reads_the_same_images_each_time(make, images, monkeypatch):
    shared = make(valid_batch_size=8)
    seen: list[Tensor] = []
    forward = shared.child.forward
    monkeypatch.setattr(shared.child, "forward", lambda x, architecture, **_: seen.append(x) or forward(x, architecture))
    evaluations = [shared.evaluate_all([shared.space.smallest()], num_images=12) for _ in range(2)]
    assert [evaluation.num_examples for evaluation in evaluations] == [12, 12]
    assert [len(batch) for batch in seen] == [6, 6, 6, 6]  # even pieces
    first, second = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert torch.equal(first, second)
    every = images.valid.images.flatten(1).tolist()
    part = ((first * images.std[0] + images.mean[0]) * 255).round().int().flatten(1).tolist()
    assert all(image in every for image in part)
    assert len({tuple(image) for image in part}) == 12
    whole = shared.evaluate_all([shared.space.smallest()])
    most = shared.evaluate_all([shared.space.smallest()], num_images=1000)
    assert (most.num_examples, most.loss.tolist()) == (30, whole.loss.tolist())
    assert shared.num_evaluations == 0


def test_evaluation_of_all_does_not_depend_on_the_chunks(make):
    results = [make(valid_batch_size=size) for size in (7, 30)]
    for shared in results:
        train(shared, 3)
    small, large = (shared.evaluate_all([shared.space.largest(), shared.space.smallest()]) for shared in results)
    assert small.accuracy.tolist() == large.accuracy.tolist()
    assert small.loss.tolist() == pytest.approx(large.loss.tolist(), rel=1e-5)


@pytest.mark.parametrize(("most", "expected"), [(30, 30), (100, 30), (29, 15), (16, 15), (8, 8), (7, 6), (1, 1)])
def test_chunks_of_a_split_are_even(most, expected, images):
    assert even_chunk(images.valid, most) == expected


def test_augmentation_varies_training_images_only(make):
    plain, varied = make(WITHOUT_DROPOUT), make(WITHOUT_DROPOUT, augmentation=Augmentation(pad=2, flip=True, cutout=3))
    architecture = plain.space.largest()
    assert plain.evaluate([architecture]).loss == varied.evaluate([architecture]).loss
    assert plain.evaluate_all([architecture]).loss == varied.evaluate_all([architecture]).loss
    assert not torch.equal(train(plain, 1)[0], train(varied, 1)[0])


def test_same_seed_gives_the_same_bits(make):
    runs = [make(seed=seed, augmentation=Augmentation(pad=1)) for seed in (7, 7, 8)]
    results = [torch.stack(train(shared, 5)) for shared in runs]
    losses = [shared.evaluate([shared.space.smallest()]).loss for shared in runs]
    assert torch.equal(results[0], results[1])
    assert changed(tensors(runs[0]), tensors(runs[1])) == set()
    assert losses[0] == losses[1]
    assert not torch.equal(results[0], results[2])


def test_reset_starts_the_search_of_its_seed_anew(make):
    used, fresh = make(seed=1), make(seed=5)
    train(used, 3)
    used.evaluate([used.space.smallest()])
    used.reset(5)
    assert changed(tensors(used), tensors(fresh)) == set()
    assert all(map(torch.equal, train(used, 3), train(fresh, 3)))
    assert used.evaluate([used.space.smallest()]).loss == fresh.evaluate([fresh.space.smallest()]).loss


def test_every_step_has_a_dropout_mask_of_its_own(make, monkeypatch):
    shared = make(steps_per_epoch=2)
    seeds: list[int] = []
    forward = shared.child.forward

    def spy(x: Tensor, architecture: Any, *, carry: None, generator: torch.Generator) -> Any:
        seeds.append(generator.initial_seed())
        return forward(x, architecture, generator=generator)

    monkeypatch.setattr(shared.child, "forward", spy)
    train(shared, 6, num_paths=1)
    assert len(set(seeds)) == len(seeds) == 6


def test_global_generators_play_no_part(make):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        shared = make(augmentation=Augmentation(pad=1))
        results.append(torch.stack(train(shared, 2)))
    assert torch.equal(results[0], results[1])


def test_restored_weights_train_on_as_the_saved_ones(make):
    saved, restored = make(seed=1), make(seed=2)
    train(saved, 3)
    saved.evaluate([saved.space.smallest()])
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    train(restored, 1)
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert changed(tensors(saved), tensors(restored)) == set()
    assert all(map(torch.equal, train(saved, 3, seed=9), train(restored, 3, seed=9)))
    assert changed(tensors(saved), tensors(restored)) == set()
    assert saved.evaluate([saved.space.largest()]).loss == restored.evaluate([saved.space.largest()]).loss
    assert (restored.seed, restored.num_train_steps, restored.num_evaluations) == (1, 6, 2)


def test_learning_rate_follows_cosine_restarts_by_epochs(make):
    shared = make(steps_per_epoch=3, restart_epochs=2, restart_factor=2)
    row = average(draw(shared, 1))
    rates = [shared.train_step(row).learning_rate for _ in range(3 * 7)]
    quarter = [0.0005 + 0.0495 * (1 + cos(pi * share)) / 2 for share in (0.25, 0.75)]
    by_hand = [0.05, 0.02525, 0.05, quarter[0], 0.02525, quarter[1], 0.05]  # cycles of 2, 4, ... epochs
    assert rates == pytest.approx([rate for rate in by_hand for _ in range(3)])
    assert shared.optimizer.param_groups[0]["lr"] == rates[-1]


def test_epoch_is_one_pass_over_the_training_images_by_default(make):
    assert make().steps_per_epoch == 60 // 16
    assert make(steps_per_epoch=100).steps_per_epoch == 100


class Poison:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test split was asked for {name}")

    def __len__(self) -> int:
        raise AssertionError("the test split was asked for its length")


@pytest.mark.parametrize("mode", MODES)
def test_test_split_is_never_read(mode, images):
    object.__setattr__(images, "test", Poison())
    shared = SharedWeights(CHILD, images, SharedConfig(batch_size=16, valid_batch_size=8, batch_norm=mode))
    train(shared, 2)
    shared.evaluate([shared.space.largest()])
    shared.evaluate_all([shared.space.largest()])
    shared.load_state_dict(shared.state_dict())
    with pytest.raises(AssertionError, match="the test split was asked for"):
        len(images.test)


def test_half_precision_keeps_weights_in_full(images):
    config = SharedConfig(batch_size=16, valid_batch_size=8)
    full, half = (SharedWeights(CHILD, images, config, precision=precision) for precision in ("fp32", "bf16"))
    losses = [torch.stack(train(shared, 2)) for shared in (full, half)]
    assert {value.dtype for value in half.child.parameters()} == {torch.float32}
    assert not torch.equal(losses[0], losses[1])
    torch.testing.assert_close(losses[0][:, 0], losses[1][:, 0], rtol=0.1, atol=0.1)
    assert half.evaluate([half.space.largest()]).loss == pytest.approx(full.evaluate([full.space.largest()]).loss, abs=0.2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 61}, r"shared\.batch_size: expected at most 60, the number of images, got 61"),
        ({"valid_batch_size": 31}, r"shared\.valid_batch_size: expected at most 30, the number of images, got 31"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch: expected at least 1 or None, got 0"),
        ({"paths_per_step": 0}, "paths_per_step: expected at least 1 or None, got 0"),
        ({"reward_batches": 0}, "reward_batches: expected at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0, got 0"),
        ({"learning_rate_min": 0.06}, r"learning_rate_min: expected a number in \[0, 0.05\], got 0.06"),
        ({"momentum": 1.0}, r"momentum: expected a number in \[0, 1\), got 1"),
        ({"weight_decay": -1e-4}, "weight_decay: expected a number of at least 0, got -0.0001"),
        ({"grad_clip": 0.0}, "grad_clip: expected a number above 0 or None, got 0"),
        ({"aux_weight": -0.1}, "aux_weight: expected a number of at least 0, got -0.1"),
        ({"reward_batch": "mine"}, "reward_batch: expected own or shared, got 'mine'"),
        ({"batch_norm": "frozen"}, "batch_norm: expected one of batch, running, recalibrated, got 'frozen'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message, make):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_activations_are_freed_at_once(make):
    """A reference cycle would keep them until Python's garbage collector happens to run: 144 MiB a step of the authors' size."""
    shared = make()
    alive: list[weakref.ref[Tensor]] = []
    for module in shared.child.modules():
        module.register_forward_hook(lambda module, x, out: alive.append(weakref.ref(out)) if torch.is_tensor(out) else None)
    with no_collection():
        train(shared, 1)
        shared.evaluate([shared.space.largest()])
        shared.evaluate_all([shared.space.largest()])
        assert len(alive) > 50
        assert [out for out in alive if out() is not None] == []
