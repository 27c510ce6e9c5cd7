"""What every strategy that learns a mixture's weights promises to a search."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from controllers.base import SearchPlan
from controllers.configs import DartsStrategyConfig, GdasConfig
from controllers.gaea import GaeaConfig
from controllers.mixture import has_choice_a_row
from enas.spaces.darts import DartsSpace
from enas.spaces.macro import MacroSpace
from enas.spaces.micro import MicroConfig
from enas.spaces.nasbench201 import NasBench201Space
from enas.types import GradientController, TrainingLearner

CELLS = NasBench201Space()
FAST = {"darts": DartsStrategyConfig(learning_rate=0.3), "gaea": GaeaConfig(), "gdas": GdasConfig(learning_rate=0.3)}
PUBLISHED = {"darts": DartsStrategyConfig(), "gaea": GaeaConfig(), "gdas": GdasConfig()}


def learned(name, num_steps=20, *, seed=0, space=CELLS):
    """A controller after steps on fixed gradients, under which the operations of each row come apart."""
    controller = FAST[name].make(space, seed=seed)
    rng = np.random.default_rng(7)
    slopes = rng.normal(size=controller.shape)
    for step in range(num_steps):
        relaxation = controller.relax(step / num_steps)
        controller.descend(np.where(relaxation.active, slopes, 0.0))
    return controller


def saved_and_loaded(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", FAST)
def test_it_is_a_gradient_controller_and_learns_in_no_other_way(name):
    controller = FAST[name].make(CELLS, seed=0)
    assert isinstance(controller, GradientController)
    assert not isinstance(controller, TrainingLearner)
    before = controller.probabilities.copy()
    for _ in range(3):
        metrics = controller.update(controller.propose(4), np.arange(4.0))
        assert set(metrics) == {"entropy", "largest_weight"}
    assert np.array_equal(controller.probabilities, before)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("space", [CELLS, DartsSpace(2), DartsSpace(1, operations=("skip_connect", "sep_conv_3x3"))])
def test_weights_are_distributions_and_a_mixture_has_an_active_operation_a_row(name, space):
    controller = FAST[name].make(space, seed=0)
    assert controller.probabilities.shape == (len(space.mixed_operations), len(space.mixed_operations[0].choices))
    for progress in np.linspace(0, 0.99, 8):
        relaxation = controller.relax(progress)
        assert relaxation.weights.shape == relaxation.active.shape == controller.shape
        assert relaxation.weights.dtype == np.float64
        assert relaxation.active.dtype == np.bool_
        assert relaxation.active.any(axis=1).all()
        np.testing.assert_allclose((relaxation.weights * relaxation.active).sum(axis=1), 1, atol=1e-12)
        controller.descend(np.random.default_rng(3).normal(size=controller.shape) * relaxation.active)
        np.testing.assert_allclose(controller.probabilities.sum(axis=1), 1, atol=1e-12)
        assert (controller.probabilities > 0).all()


@pytest.mark.parametrize("name", FAST)
def test_weight_moves_against_its_gradient(name):
    controller = FAST[name].make(CELLS, seed=0)
    before = controller.probabilities
    for _ in range(40):
        relaxation = controller.relax(0.5)
        slopes = np.tile([0.0, 1.0, -1.0, 0.0, 0.0], (6, 1))
        metrics = controller.descend(np.where(relaxation.active, slopes, 0.0))
    moved = controller.probabilities - before
    assert (moved[:, 1] < 0).all()
    assert (moved[:, 2] > 0).all()
    assert set(metrics) == {"entropy", "largest_weight", "grad_norm"}
    weights = controller.probabilities
    assert metrics["entropy"] == pytest.approx(-(weights * np.log(weights)).sum())
    assert metrics["largest_weight"] == pytest.approx(weights.max(axis=1).mean())


@pytest.mark.parametrize("name", FAST)
def test_proposals_follow_the_distribution_and_their_log_probability_is_exact(name):
    controller = learned(name, 6)
    weights = controller.probabilities
    rollout = controller.propose(2000)
    for edge in range(6):
        counts = np.bincount(rollout.tokens[:, edge], minlength=5)
        assert chisquare(counts, 2000 * weights[edge]).pvalue > 1e-3
    expected = np.log(weights[np.arange(6), rollout.tokens]).sum(axis=1)
    np.testing.assert_allclose(rollout.log_prob, expected, rtol=1e-12)
    np.testing.assert_allclose(rollout.entropy, -(weights * np.log(weights)).sum(), rtol=1e-12)


@pytest.mark.parametrize("name", FAST)
def test_proposals_of_the_darts_space_are_members_without_probabilities(name):
    space = DartsSpace(3)
    rollout = learned(name, space=space).propose(20)
    assert rollout.log_prob is None
    assert rollout.entropy is None
    assert len({tuple(row) for row in rollout.tokens.tolist()}) > 1
    for row in rollout.tokens:
        space.validate(row)


def test_only_spaces_of_a_decision_a_row_have_exact_probabilities():
    assert has_choice_a_row(CELLS)
    assert not has_choice_a_row(DartsSpace(2))


@pytest.mark.parametrize("name", FAST)
def test_answer_is_the_architecture_that_the_weights_stand_for_and_no_other(name):
    controller = learned(name)
    expected = controller.probabilities.argmax(axis=1)
    assert controller.candidates(7).tolist() == [expected.tolist()]
    space = DartsSpace(2)
    controller = learned(name, space=space)
    assert controller.candidates(1).tolist() == [list(space.encode(space.discretize(controller.probabilities)))]


@pytest.mark.parametrize("name", FAST)
def test_seed_decides_proposals_and_mixtures(name):
    first, same, other = (learned(name, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.probabilities, same.probabilities)
    assert np.array_equal(first.relax(0.3).weights, same.relax(0.3).weights)
    drawn = [controller.propose(20).tokens for controller in (first, same, other)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("num_steps", [0, 7])
def test_restored_controller_goes_on_as_the_saved_one(name, num_steps):
    saved = learned(name, num_steps, seed=5)
    saved.propose(3)
    saved.update(saved.propose(2), np.zeros(2))
    restored = FAST[name].make(CELLS, seed=6)
    restored.relax(0.5)  # which a load makes void
    restored.load_state_dict(saved_and_loaded(saved.state_dict()))
    for controller in (saved, restored):
        for step in range(4):
            relaxation = controller.relax(step / 4)
            controller.descend(np.where(relaxation.active, np.arange(30.0).reshape(6, 5) / 30, 0.0))
    assert np.array_equal(saved.probabilities, restored.probabilities)
    assert np.array_equal(saved.relax(0.9).weights, restored.relax(0.9).weights)
    assert np.array_equal(saved.propose(9).tokens, restored.propose(9).tokens)
    assert saved.num_descents == restored.num_descents == num_steps + 4
    assert saved.num_updates == restored.num_updates == 1


@pytest.mark.parametrize("name", FAST)
def test_state_of_another_space_is_refused(name):
    state = FAST[name].make(DartsSpace(1), seed=0).state_dict()
    with pytest.raises(ValueError, match=r"expected the state of a space with a table \(6, 5\), got \(4, 8\)"):
        FAST[name].make(CELLS, seed=0).load_state_dict(state)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("gradient", [np.full((6, 5), np.nan), np.full((6, 5), np.inf), np.zeros((5, 6)), np.zeros(30)])
def test_gradient_that_is_not_finite_or_does_not_fit_is_refused_and_changes_nothing(name, gradient):
    controller = learned(name, 3)
    before, twin = controller.probabilities, learned(name, 3)
    active = controller.relax(0.5).active
    twin.relax(0.5)
    with pytest.raises(ValueError, match="gradient: expected"):
        controller.descend(gradient)
    assert np.array_equal(controller.probabilities, before)
    for one in (controller, twin):  # a sound one still teaches
        one.descend(np.where(active, 1.0 * np.arange(5), 0.0))
    assert np.array_equal(controller.probabilities, twin.probabilities)


@pytest.mark.parametrize("name", FAST)
def test_proposals_and_mixtures_do_not_depend_on_each_other(name):
    asked, unasked = (learned(name, 3) for _ in range(2))
    asked.propose(10)
    assert np.array_equal(asked.relax(0.5).weights, unasked.relax(0.5).weights)
    other = learned(name, 3)
    other.relax(0.5)
    unasked.propose(10)
    other.propose(10)
    assert np.array_equal(other.propose(5).tokens, unasked.propose(5).tokens)


@pytest.mark.parametrize("name", PUBLISHED)
def test_searches_that_it_cannot_serve_are_refused_with_the_reason(name):
    config = PUBLISHED[name]

    def check(space, **changes):
        plain = {"paths": "controller", "paths_per_step": None, "kind": "alternating", "is_accuracy": True}
        config.check_search(space, SearchPlan(**{**plain, **changes}))

    check(CELLS)
    with pytest.raises(
        ValueError, match="macro: expected a space with mixtures, but its network runs one architecture at a time"
    ):
        check(MacroSpace(3))
    with pytest.raises(ValueError, match="micro: expected a space with mixtures, but its cell puts out"):
        check(MicroConfig().make_space())
    with pytest.raises(ValueError, match="--paths: expected controller, since it learns while its mixture trains"):
        check(CELLS, paths="uniform")
    with pytest.raises(ValueError, match=r"--schedule.kind: expected alternating"):
        check(CELLS, kind="two-stage")
    with pytest.raises(ValueError, match=r"--shared.paths-per-step: expected None, since a mixture trains .* got 1"):
        check(CELLS, paths_per_step=1)
    with pytest.raises(ValueError, match=r"--reward: expected accuracy, without limits .* from the gradient of the loss alone"):
        check(CELLS, is_accuracy=False)
    with pytest.raises(ValueError, match="macro: expected a space with mixtures"):
        config.make(MacroSpace(3), seed=0)
