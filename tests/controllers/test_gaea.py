from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from controllers.base import SearchPlan
from controllers.gaea import GaeaConfig, GaeaMixture, GaeaSampled, exponentiated_step, score_gradient
from controllers.product import table_entropy
from enas.spaces.macro import MacroSpace
from enas.spaces.nasbench201 import NasBench201Space
from enas.types import GradientController, Rollout, TrainingLearner

CELLS = NasBench201Space()
ALL = np.ones((1, 2), dtype=bool)


def step(probabilities, gradient, *, learning_rate=0.1, floor=1e-5, mask=None):
    p, g = np.array(probabilities, dtype=np.float64), np.array(gradient, dtype=np.float64)
    mask = np.ones(p.shape, dtype=bool) if mask is None else np.array(mask)
    return exponentiated_step(p, g, learning_rate=learning_rate, floor=floor, mask=mask)


# The step.


def test_step_by_hand():
    """Weights 1/4 and 3/4, the second one's loss ln 3 / .1 larger: exp(-.1 g) is 1 and 1/3, so both have 1/4 of what is left."""
    np.testing.assert_allclose(step([[0.25, 0.75]], [[0.0, np.log(3) / 0.1]]), [[0.5, 0.5]], rtol=1e-12)
    np.testing.assert_allclose(step([[0.5, 0.5]], [[0.0, np.log(4)]], learning_rate=1.0), [[0.8, 0.2]], rtol=1e-12)


def test_step_does_not_depend_on_what_is_added_to_all_losses():
    rng = np.random.default_rng(0)
    p, g = rng.dirichlet(np.ones(5), size=3), rng.normal(size=(3, 5))
    np.testing.assert_allclose(step(p, g + 1000.0), step(p, g), rtol=1e-9)


def test_step_minimises_the_linear_loss_and_the_divergence_from_the_last_iterate():
    """Mirror descent: argmin over the simplex of lr <g, q> + KL(q || p), by brute force over a grid of q."""
    p, g, rate = np.array([0.2, 0.5, 0.3]), np.array([0.7, -0.4, 0.1]), 0.8
    found = step([p], [g], learning_rate=rate)[0]

    def objective(q):
        return rate * q @ g + (q * np.log(q / p)).sum()

    grid = [np.array([i, j, 200 - i - j]) / 200 for i, j in itertools.product(range(1, 199), repeat=2) if i + j < 200]
    best = min(grid, key=objective)
    assert objective(found) <= objective(best)
    np.testing.assert_allclose(found, best, atol=0.005)


def test_iterates_stay_on_the_simplex_whatever_the_gradient():
    rng = np.random.default_rng(0)
    p = np.full((6, 5), 0.2)
    for scale in (1.0, 1e3, 1e6, 1e300, 1e-300, 1.0):
        for _ in range(20):
            p = step(p, scale * rng.normal(size=(6, 5)))
            assert np.abs(p.sum(axis=1) - 1).max() < 1e-12
            assert (p >= 0.9999e-5).all()


def test_floor_keeps_a_lost_operation_alive():
    p = step([[0.5, 0.5]], [[0.0, 1e9]])
    np.testing.assert_allclose(p, [[1 / (1 + 1e-5), 1e-5 / (1 + 1e-5)]], rtol=1e-12)
    for _ in range(200):
        p = step(p, [[1.0, 0.0]])
    assert p[0, 1] > 0.99


def test_entries_behind_the_choices_stay_zero():
    p = step([[0.5, 0.5, 0.0]], [[0.3, 0.1, -100.0]], mask=[[True, True, False]])
    assert p[0, 2] == 0
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert p[0, 1] / p[0, 0] == pytest.approx(np.exp(0.1 * 0.2))
    assert step([[1.0, 0.0]], [[5.0, 0.0]], mask=[[True, False]]).tolist() == [[1.0, 0.0]]


# Sparse iterates.


def softmax_entropies(make_optimizer, gradients):
    """Mean entropies of softmax weights from a uniform start, after each step of an optimizer."""
    alpha = torch.nn.Parameter(torch.zeros(gradients.shape[1:], dtype=torch.float64))
    optimizer = make_optimizer([alpha])
    entropies = []
    for gradient in gradients:
        optimizer.zero_grad()
        alpha.softmax(dim=1).backward(torch.from_numpy(gradient))
        optimizer.step()
        entropies.append(table_entropy(alpha.detach().softmax(dim=1).numpy()).mean())
    return np.array(entropies)


def test_iterates_grow_sparse_sooner_than_those_of_softmax():
    """Linear losses, the best operation .3 better, under noise of deviation 1. A uniform row's entropy is 1.61.

    After 200 steps: .05 with the published step of .1; 1.03 by SGD on logits with the same step, .09 with one ten times as large;
    1.61 by DARTS' Adam, .75 and .14 with steps 100 and 333 times as large. After 400 steps: .002, and at best .04.
    """
    losses, rng = np.array([0.0, 0.3, 0.3, 0.5, 0.5]), np.random.default_rng(0)
    gradients = losses + rng.normal(size=(400, 6, 5))
    controller = GaeaMixture(CELLS, GaeaConfig(), seed=0)
    entropies = []
    for gradient in gradients:
        controller.relax(0.0)
        entropies.append(controller.descend(gradient)["entropy"] / 6)
    assert (controller.probabilities.argmax(axis=1) == 0).all()
    others = [
        softmax_entropies(lambda weights, rate=rate: torch.optim.SGD(weights, lr=rate), gradients) for rate in (0.1, 1.0)
    ] + [
        softmax_entropies(lambda weights, rate=rate: torch.optim.Adam(weights, lr=rate, betas=(0.5, 0.999)), gradients)
        for rate in (3e-4, 0.03, 0.1)
    ]
    assert entropies[199] < 0.1
    assert entropies[199] < 0.8 * min(other[199] for other in others)
    assert entropies[199] < 0.1 * min(others[0][199], others[2][199])  # the same step; the published one
    assert entropies[399] < 0.1 * min(other[399] for other in others)


# GAEA DARTS.


def test_mixture_starts_uniform_and_descends_by_the_step():
    controller = GaeaMixture(CELLS, GaeaConfig(learning_rate=0.5), seed=0)
    assert np.array_equal(controller.relax(0.0).weights, np.full((6, 5), 0.2))
    assert isinstance(controller, GradientController)
    assert (controller.level, controller.order) == ("bilevel", 1)
    gradient = np.random.default_rng(0).normal(size=(6, 5))
    controller.descend(gradient)
    expected = np.exp(-0.5 * gradient)
    np.testing.assert_allclose(controller.probabilities, expected / expected.sum(axis=1, keepdims=True), rtol=1e-12)


# Sampled paths.


def test_score_gradient_by_hand():
    p = np.array([[0.25, 0.75], [0.5, 0.5]])
    tokens, advantages = np.array([[0, 1], [1, 1]]), np.array([0.2, -0.4])
    gradient = score_gradient(p, tokens, advantages, largest=np.full(2, 100.0))
    np.testing.assert_allclose(gradient, [[-0.2 / 0.25 / 2, 0.4 / 0.75 / 2], [0.0, (-0.2 + 0.4) / 0.5 / 2]])


def test_score_gradient_is_unbiased_up_to_a_constant_a_row():
    """Its mean over all architectures, each with its probability, is the gradient of -E[R - b]: by brute force and autograd."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=2)
    tokens = np.array(list(itertools.product(range(3), repeat=2)))
    rewards = rng.random(9)
    chances = p[0, tokens[:, 0]] * p[1, tokens[:, 1]]
    estimates = [score_gradient(p, tokens[[n]], rewards[[n]] - 0.3, largest=np.full(2, np.inf)) for n in range(9)]
    mean = np.tensordot(chances, estimates, axes=1)
    weights = torch.from_numpy(p).requires_grad_()
    value = sum(float(rewards[n] - 0.3) * weights[0, a] * weights[1, b] for n, (a, b) in enumerate(tokens.tolist()))
    (-value).backward()
    np.testing.assert_allclose(mean, weights.grad.numpy(), rtol=1e-9)


def test_rare_choice_counts_no_more_than_the_limit():
    p = np.array([[0.001, 0.999]])
    gradient = score_gradient(p, np.array([[0]]), np.array([1.0]), largest=np.array([8.0]))
    assert gradient.tolist() == [[-8.0, 0.0]]


def test_first_update_by_hand():
    """Two choices, rewards 1 and 0 for one of each: baseline 1/2, exponents +-.1 * (1/2 / 1/2) / 2."""
    space = MacroSpace(1, operations=("conv3x3", "max3x3"))
    controller = GaeaSampled(space, GaeaConfig(kind="sampled", learning_rate=0.1), seed=0)
    metrics = controller.update(Rollout(tokens=np.array([[0], [1]])), np.array([1.0, 0.0]))
    odds = np.exp(0.1 * 0.5) / np.exp(-0.1 * 0.5)
    np.testing.assert_allclose(controller.probabilities, [[odds / (1 + odds), 1 / (1 + odds)]], rtol=1e-12)
    assert metrics["baseline"] == 0.5
    assert metrics["advantage"] == 0
    assert metrics["grad_norm"] == pytest.approx(np.sqrt(2) / 2)
    controller.update(Rollout(tokens=np.array([[0]])), np.array([1.0]))
    assert controller.baseline.value == pytest.approx(0.99 * 0.5 + 0.01)


@pytest.mark.parametrize("level", ["bilevel", "single"])
def test_it_learns_from_validation_or_from_training_never_from_both(level):
    controller = GaeaConfig(kind="sampled", level=level).make(MacroSpace(3), seed=0)
    assert isinstance(controller, TrainingLearner)
    assert not isinstance(controller, GradientController)
    assert controller.learns_in_training == (level == "single")
    taught = {}
    for name in ("update", "update_in_training"):
        before = controller.probabilities
        metrics = getattr(controller, name)(controller.propose(4), np.arange(4.0))
        assert np.isfinite(list(metrics.values())).all()
        taught[name] = not np.array_equal(before, controller.probabilities)
    assert taught == {"update": level == "bilevel", "update_in_training": level == "single"}


def test_single_level_solves_the_bandit_from_one_path_a_step(chain_space):
    controller = GaeaConfig(kind="sampled", level="single", learning_rate=0.1).make(chain_space(5, 5, 5), seed=0)
    rewards = []
    for _ in range(1500):
        rollout = controller.propose(1)
        rewards.append((rollout.tokens == [3, 0, 2]).mean(axis=1))
        controller.update_in_training(rollout, rewards[-1])
    assert np.mean(rewards[:20]) < 0.35
    assert np.mean(rewards[-200:]) > 0.8
    assert controller.candidates(1).tolist() == [[3, 0, 2]]
    np.testing.assert_allclose(controller.probabilities.sum(axis=1), 1, atol=1e-12)


def test_searches_that_a_kind_cannot_serve_are_refused():
    sampled, single = GaeaConfig(kind="sampled"), GaeaConfig(kind="sampled", level="single")

    def check(config, **changes):
        plain = {"paths": "controller", "paths_per_step": 4, "kind": "alternating", "is_accuracy": True}
        config.check_search(MacroSpace(3), SearchPlan(**{**plain, **changes}))

    for paths, kind, goal in itertools.product(("controller", "uniform"), ("alternating", "two-stage"), (True, False)):
        check(sampled, paths=paths, kind=kind, is_accuracy=goal)
    check(single)
    with pytest.raises(ValueError, match="--paths: expected controller, since it learns while what it samples trains"):
        check(single, paths="fair")
    with pytest.raises(ValueError, match=r"--schedule.kind: expected alternating"):
        check(single, kind="two-stage")
    with pytest.raises(ValueError, match=r"--reward: expected accuracy, without limits .* accuracies on training minibatches"):
        check(single, is_accuracy=False)
    serves_all = "gaea serves every search with --controller.gaea.kind sampled --controller.gaea.level bilevel"
    for refused in (GaeaConfig(), GaeaConfig(level="single")):
        with pytest.raises(ValueError, match=f"macro: expected a space with mixtures, .*; {serves_all}"):
            check(refused)


def test_state_of_another_space_is_refused():
    state = GaeaConfig(kind="sampled").make(MacroSpace(3), seed=0).state_dict()
    with pytest.raises(ValueError, match="p: expected the state of a space with a table"):
        GaeaConfig(kind="sampled").make(MacroSpace(4), seed=0).load_state_dict(state)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "path"}, "kind: expected mixture or sampled"),
        ({"level": "both"}, "level: expected bilevel or single"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0 or None, got 0.0"),
        ({"floor": 0.0}, "floor: expected a number in"),
        ({"baseline_decay": 1.0}, "baseline_decay: expected a number in"),
        ({"importance_limit": 0.5}, "importance_limit: expected at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        GaeaConfig(**values)
