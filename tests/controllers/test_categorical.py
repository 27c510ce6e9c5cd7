import math
import time

import numpy as np
import pytest
import torch

from controllers.categorical import CategoricalController, entropy_gradient, score_gradient
from controllers.configs import CategoricalConfig, EnasConfig
from enas.spaces.nasbench201 import NasBench201Space
from enas.types import Rollout


def make(space, *, seed=0, **options):
    return CategoricalController(space, CategoricalConfig(**options), seed=seed)


def test_score_gradient_of_two_choices_is_that_counted_by_hand():
    probabilities = np.array([[0.25, 0.75]])
    gradient = score_gradient(probabilities, np.array([[0], [1], [1]]), np.array([3.0, -1.0, 0.5]))
    expected = (3 * np.array([0.75, -0.75]) - 1 * np.array([-0.25, 0.25]) + 0.5 * np.array([-0.25, 0.25])) / 3
    assert gradient == pytest.approx(expected[None])


def test_gradients_are_those_of_autograd():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(4, 3))).requires_grad_()
    logits.data[1, 2] = -math.inf  # a decision of two choices
    tokens = rng.integers([3, 2, 3, 3], size=(5, 4))
    advantages = rng.normal(size=5)
    tables = [torch.distributions.Categorical(logits=row[row.isfinite()]) for row in logits]
    log_prob = sum(table.log_prob(torch.from_numpy(column)) for table, column in zip(tables, tokens.T, strict=True))
    gain = (torch.from_numpy(advantages) * log_prob).mean()
    entropy = sum(table.entropy() for table in tables)
    probabilities = logits.detach().softmax(dim=1).numpy()
    for ours, scalar in (
        (score_gradient(probabilities, tokens, advantages), gain),
        (entropy_gradient(probabilities), entropy),
    ):
        (theirs,) = torch.autograd.grad(scalar, logits, retain_graph=True)
        assert np.abs(ours).max() > 0.01
        assert ours == pytest.approx(theirs.numpy(), abs=1e-14)


def test_update_is_a_step_of_adam_on_the_loss(chain_space):
    controller = make(chain_space(3, 2), learning_rate=0.1, entropy_weight=0.05, initial_deviation=1.0)
    logits = torch.from_numpy(controller.state_dict()["logits"].numpy().copy()).requires_grad_()
    adam = torch.optim.Adam([logits], lr=0.1)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    tokens, rewards = np.array([[2, 1], [0, 0], [2, 0]]), np.array([0.9, 0.2, 0.4])
    for _ in range(4):
        log_probs = logits.masked_fill(~mask, -1e300).log_softmax(dim=1)
        log_prob = log_probs[[0, 1], torch.from_numpy(tokens)].sum(dim=1)
        entropy = -(log_probs.exp() * log_probs)[mask].sum()
        metrics = controller.update(Rollout(tokens=tokens), rewards)
        loss = -((torch.from_numpy(rewards) - metrics["baseline"]) * log_prob).mean() - 0.05 * entropy
        assert metrics["loss"] == pytest.approx(loss.item())
        assert metrics["entropy"] == pytest.approx(entropy.item())
        adam.zero_grad()
        loss.backward()
        assert metrics["grad_norm"] == pytest.approx(logits.grad.norm().item())
        adam.step()
        torch.testing.assert_close(controller.state_dict()["logits"], logits.detach())


def test_proposals_carry_the_log_probability_and_entropy_of_the_table(chain_space):
    controller = make(chain_space(3, 1, 2), initial_deviation=1.0)
    table = controller.probabilities
    assert table.sum(axis=1) == pytest.approx([1, 1, 1])
    assert (table[1, 1:] == 0).all()
    assert table[2, 2] == 0
    rollout = controller.propose(2000)
    expected = [sum(math.log(table[d, token]) for d, token in enumerate(row)) for row in rollout.tokens.tolist()]
    assert rollout.log_prob == pytest.approx(expected)
    assert rollout.entropy[0] == pytest.approx(-sum(p * math.log(p) for p in table.ravel() if p))
    shares = np.bincount(rollout.tokens[:, 0], minlength=3) / 2000
    assert shares == pytest.approx(table[0], abs=0.05)


def test_initial_logits_have_the_given_deviation(planted_space):
    wide = make(planted_space, initial_deviation=2.0).state_dict()["logits"].numpy()
    is_choice = np.arange(6) < planted_space.num_choices[:, None]
    assert wide[is_choice].std() == pytest.approx(2.0, rel=0.2)
    assert not wide[~is_choice].any()
    assert make(planted_space, initial_deviation=0.0).propose(1).entropy == pytest.approx(np.log(planted_space.num_choices).sum())


def test_baseline_of_the_first_batch_is_its_mean_reward(chain_space):
    controller = make(chain_space(3, 3))
    metrics = controller.update(controller.propose(1), np.array([0.8]))
    assert metrics["baseline"] == pytest.approx(0.8)
    assert metrics["advantage"] == pytest.approx(0)


def test_better_choices_of_a_table_become_likelier_until_they_are_all(chain_space):
    controller = make(chain_space(4, 3), learning_rate=0.2)
    for _ in range(150):
        rollout = controller.propose(5)
        controller.update(rollout, (rollout.tokens == [2, 1]).mean(axis=1))
    assert controller.probabilities[[0, 1], [2, 1]] == pytest.approx([1, 1], abs=0.05)
    assert controller.candidates(1).tolist() == [[2, 1]]


def test_candidate_that_has_become_impossible_breaks_no_update(chain_space):
    controller = make(chain_space(2), learning_rate=500.0)
    for _ in range(4):
        controller.update(Rollout(tokens=np.array([[0], [1]])), np.array([1.0, 0.0]))
    assert controller.probabilities[0].tolist() == [1, 0]
    assert np.isfinite(list(controller.update(Rollout(tokens=np.array([[1]])), np.array([0.5])).values())).all()


def test_state_of_another_space_is_refused(chain_space):
    with pytest.raises(ValueError, match=r"logits: expected the state of a space with a table \(2, 3\), got \(3, 3\)"):
        make(chain_space(3, 3)).load_state_dict(make(chain_space(3, 3, 3)).state_dict())


def test_saved_state_does_not_change_with_the_search(chain_space):
    controller = make(chain_space(3, 3))
    saved = controller.state_dict()["logits"].clone(), controller.state_dict()["logits"]
    controller.update(controller.propose(4), np.arange(4.0))
    assert torch.equal(*saved)


def test_proposal_and_update_cost_a_fraction_of_the_lstm_policys():
    controllers = [config.make(NasBench201Space(), seed=0) for config in (CategoricalConfig(), EnasConfig())]
    seconds: list[list[float]] = [[], []]
    for _ in range(15):
        for controller, times in zip(controllers, seconds, strict=True):
            start = time.perf_counter()
            controller.update(controller.propose(1), np.array([0.9]))
            times.append(time.perf_counter() - start)
    table, network = np.median(seconds, axis=1)
    assert table < network / 3  # a fifteenth: .35 against 5.3 ms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0, got 0.0"),
        ({"baseline_decay": 1.0}, r"baseline_decay: expected a number in \[0, 1\), got 1.0"),
        ({"entropy_weight": -0.1}, "entropy_weight: expected a number of at least 0, got -0.1"),
        ({"initial_deviation": -1.0}, "initial_deviation: expected a number of at least 0, got -1.0"),
    ],
)
def test_config_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CategoricalConfig(**options)
