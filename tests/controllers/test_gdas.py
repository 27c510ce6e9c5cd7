import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from controllers.configs import GdasConfig
from controllers.gdas import GdasController, straight_through
from enas.spaces.nasbench201 import NasBench201Space

CELLS = NasBench201Space()


def test_defaults_are_the_authors():
    config = GdasConfig()
    assert (config.learning_rate, config.adam_beta1, config.adam_beta2, config.weight_decay) == (3e-4, 0.5, 0.999, 1e-3)
    assert (config.tau_max, config.tau_min, config.level) == (10.0, 0.1, "bilevel")


def test_straight_through_is_one_hot_with_the_gradient_of_the_soft_weights():
    soft = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], dtype=torch.float64, requires_grad=True)
    weights = straight_through(soft)
    assert weights.tolist() == [[0, 1, 0], [1, 0, 0]]
    upstream = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    weights.backward(upstream)
    assert torch.equal(soft.grad, upstream)


def test_temperature_falls_linearly():
    controller = GdasController(CELLS, GdasConfig(tau_max=8.0, tau_min=2.0), seed=0)
    assert [controller.temperature(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [8.0, 6.5, 5.0, 2.0]


def test_one_operation_a_place_runs_with_a_weight_of_one():
    controller = GdasController(CELLS, GdasConfig(), seed=0)
    drawn = [controller.relax(progress) for progress in np.linspace(0, 0.99, 50)]
    for relaxation in drawn:
        assert np.array_equal(relaxation.active, relaxation.weights == 1)
        assert (relaxation.active.sum(axis=1) == 1).all()
        assert (relaxation.weights[~relaxation.active] == 0).all()
    assert len({relaxation.active.tobytes() for relaxation in drawn}) > 40


@pytest.mark.parametrize("progress", [0.0, 0.95])
def test_what_runs_follows_the_softmax_at_every_temperature(progress):
    controller = GdasController(CELLS, GdasConfig(), seed=0)
    with torch.no_grad():
        controller.alpha.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5, 0.2], dtype=torch.float64).expand(6, 5))
    counts = sum(controller.relax(progress).active.astype(int) for _ in range(1000))
    expected = 1000 * controller.probabilities
    assert chisquare(counts.ravel(), expected.ravel(), ddof=5).pvalue > 1e-3


def test_gradient_of_the_logits_by_the_formula():
    """dL/d alpha_k = h_k (g_k - sum_j h_j g_j) / tau with h the soft weights; the shift by log sum exp drops out."""
    config = GdasConfig(learning_rate=1e-3, weight_decay=0.0, adam_beta1=0.0, tau_max=2.0, tau_min=2.0)
    controller, twin = (GdasController(CELLS, config, seed=3) for _ in range(2))
    twin.relax(0.0)
    noise = torch.Generator()
    noise.set_state(twin.state_dict()["noise"])
    exponential = torch.empty((6, 5), dtype=torch.float64).exponential_(generator=noise)  # of the next mixture
    twin_relaxation = twin.relax(0.0)
    controller.relax(0.0)
    relaxation = controller.relax(0.0)
    assert np.array_equal(relaxation.weights, twin_relaxation.weights)
    soft = ((controller.alpha.detach().log_softmax(1) - exponential.log()) / 2).softmax(1).numpy()
    assert np.array_equal(soft.argmax(axis=1), relaxation.weights.argmax(axis=1))
    gradient = np.where(relaxation.active, np.arange(1.0, 6), 0.0)
    expected = soft * (gradient - (soft * gradient).sum(axis=1, keepdims=True)) / 2
    controller.descend(gradient)
    moments = controller.optimizer.state[controller.alpha]["exp_avg"]  # with a first decay of 0, the gradient itself
    np.testing.assert_allclose(moments.numpy(), expected, rtol=1e-9)


def test_operation_that_did_not_run_gains_from_one_that_did_badly():
    config = GdasConfig(learning_rate=0.1)
    controller = GdasController(CELLS, config, seed=0)
    active = controller.relax(0.0).active
    before = controller.probabilities
    controller.descend(np.where(active, 1.0, 0.0))
    moved = controller.probabilities - before
    assert (moved[active] < 0).all()
    assert (moved[~active] > 0).all()


@pytest.mark.parametrize("values", [{"tau_min": 0.0}, {"tau_min": 11.0}, {"tau_max": 0.05}])
def test_temperatures_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match="tau_min: expected a number in"):
        GdasConfig(**values)
