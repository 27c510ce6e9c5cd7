import numpy as np
import pytest
import torch

from controllers.configs import DartsStrategyConfig
from controllers.darts import DartsController
from enas.spaces.nasbench201 import NasBench201Space

CELLS = NasBench201Space()


def test_defaults_are_the_authors():
    """`cnn/train_search.py` and `cnn/architect.py`; first order without `--unrolled`."""
    config = DartsStrategyConfig()
    assert (config.learning_rate, config.adam_beta1, config.adam_beta2, config.weight_decay) == (3e-4, 0.5, 0.999, 1e-3)
    assert (config.level, config.order) == ("bilevel", 1)


def test_logits_start_near_zero():
    alpha = DartsController(CELLS, DartsStrategyConfig(), seed=0).alpha.detach()
    assert float(alpha.std()) == pytest.approx(1e-3, rel=0.4)
    assert float(alpha.abs().max()) < 0.005


def test_mixture_is_the_softmax_with_every_operation():
    controller = DartsController(CELLS, DartsStrategyConfig(), seed=1)
    alpha = controller.alpha.detach().numpy()
    relaxation = controller.relax(0.4)
    np.testing.assert_allclose(relaxation.weights, np.exp(alpha) / np.exp(alpha).sum(axis=1, keepdims=True), rtol=1e-12)
    assert relaxation.active.all()


def test_first_step_by_hand():
    """Adam's first step has the size of the learning rate, whatever the gradient's: against its sign, decay included."""
    config = DartsStrategyConfig(learning_rate=0.25, weight_decay=0.5)
    controller = DartsController(CELLS, config, seed=0)
    alpha = controller.alpha.detach().numpy().copy()
    weights = controller.relax(0.0).weights
    gradient = np.zeros((6, 5))
    gradient[0] = [1.0, 0.0, 0.0, 0.0, -1.0]
    through_softmax = weights * (gradient - (weights * gradient).sum(axis=1, keepdims=True)) + 0.5 * alpha
    controller.descend(gradient)
    np.testing.assert_allclose(controller.alpha.detach().numpy(), alpha - 0.25 * np.sign(through_softmax), atol=2e-3)


def test_steps_are_those_of_torch_on_the_same_loss():
    """The loss sum(gradient * softmax(alpha)) has that gradient with respect to the weights."""
    controller = DartsController(CELLS, DartsStrategyConfig(learning_rate=0.03), seed=0)
    alpha = torch.nn.Parameter(controller.alpha.detach().clone())
    adam = torch.optim.Adam([alpha], lr=0.03, betas=(0.5, 0.999), weight_decay=1e-3)
    rng = np.random.default_rng(0)
    for _ in range(15):
        gradient = rng.normal(size=(6, 5))
        controller.relax(0.0)
        controller.descend(gradient)
        adam.zero_grad()
        (torch.from_numpy(gradient) * alpha.softmax(dim=1)).sum().backward()
        adam.step()
        torch.testing.assert_close(controller.alpha, alpha, rtol=1e-12, atol=1e-14)


def test_gradient_without_a_mixture_is_refused():
    controller = DartsController(CELLS, DartsStrategyConfig(), seed=0)
    with pytest.raises(ValueError, match="expected a gradient for the mixture that relax returned last"):
        controller.descend(np.zeros((6, 5)))
    controller.relax(0.0)
    controller.descend(np.zeros((6, 5)))
    with pytest.raises(ValueError, match="got a second one"):
        controller.descend(np.zeros((6, 5)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0"),
        ({"adam_beta1": 1.0}, r"adam_beta1: expected a number in \[0, 1\)"),
        ({"weight_decay": -1.0}, "weight_decay: expected a number of at least 0"),
        ({"level": "both"}, "level: expected bilevel or single"),
        ({"order": 3}, "order: expected 1 or 2, got 3"),
        ({"order": 2, "level": "single"}, "order: expected 1 with level single, got 2"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DartsStrategyConfig(**values)
