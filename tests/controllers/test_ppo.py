import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from controllers.configs import EnasConfig, PpoConfig
from controllers.lstm import LSTMPolicy
from controllers.ppo import PpoController, clipped_surrogate, normalised
from controllers.reinforce import ReinforceController
from enas.spaces.macro import MacroSpace
from enas.types import Rollout

PLAIN = PpoConfig(hidden=8, learning_rate=0.05, grad_clip=None)


def make(space, config=PLAIN, *, seed=0, scale=6.0):
    """Return a controller in float64, the policy's initial weights scaled."""
    controller = PpoController(space, config, seed=seed)
    controller.policy.double()
    if controller.value_head is not None:
        controller.value_head.double()
    with torch.no_grad():
        for parameter in controller.policy.parameters():
            parameter.mul_(scale)
    return controller


def log_probs(policy, tokens):
    with torch.no_grad():
        return policy.evaluate(torch.from_numpy(tokens)).choice_log_probs.numpy()


# The loss.


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.1, 2.0, -2.2, -2.0),  # within the clip, the slope with respect to the ratio is -A
        (1.5, 2.0, -2.4, 0.0),  # beyond it, more of a good choice pays off no further
        (0.5, 2.0, -1.0, -2.0),  # a good choice that has become rare is still pulled back
        (0.9, -2.0, 1.8, 2.0),
        (0.5, -2.0, 1.6, 0.0),  # beyond it, less of a bad choice pays off no further
        (1.5, -2.0, 3.0, 2.0),  # a bad choice that has become frequent is still pushed away
    ],
)
def test_surrogate_is_clipped_on_the_side_that_pays_off(ratio, advantage, loss, slope):
    log_ratio = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    value = clipped_surrogate(log_ratio, torch.tensor([[advantage]], dtype=torch.float64), clip=0.2)
    value.backward()
    assert value.item() == pytest.approx(loss)
    assert log_ratio.grad.item() == pytest.approx(slope * ratio)


def test_surrogate_sums_over_decisions_and_averages_over_architectures():
    log_ratio = torch.tensor([[1.1, 1.5], [0.9, 0.5]], dtype=torch.float64).log()
    advantage = torch.tensor([[2.0], [-2.0]], dtype=torch.float64)
    assert clipped_surrogate(log_ratio, advantage, clip=0.2).item() == pytest.approx(((-2.2 - 2.4) + (1.8 + 1.6)) / 2)


def test_normalised_advantages_have_mean_zero_and_deviation_one():
    advantage = normalised(torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64))
    assert advantage[:, 0].tolist() == pytest.approx([-2 / math.sqrt(14 / 3), -1 / math.sqrt(14 / 3), 3 / math.sqrt(14 / 3)])


def test_normalising_keeps_a_single_advantage_and_blows_up_no_rounding_error():
    assert normalised(torch.tensor([[0.3]], dtype=torch.float64)).tolist() == [[0.3]]
    equal = torch.tensor([[0.1 + 0.2], [0.3], [0.3]], dtype=torch.float64)
    assert normalised(equal).abs().max().item() < 1e-6


# One update, against a plain loop.


def plain_losses(new, old, advantages, values, rewards, entropy, *, clip, entropy_weight):
    """Policy loss and whole loss of N architectures and D decisions, number by number; values None for no value head."""
    policy, value = 0.0, 0.0
    num, decisions = new.shape
    for n in range(num):
        for d in range(decisions):
            ratio = math.exp(new[n, d] - old[n, d])
            advantage = advantages[n] if values is None else advantages[n][d]
            policy -= min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage) / num
            if values is not None:
                value += (values[n, d] - rewards[n]) ** 2 / 2 / (num * decisions)
    return policy, policy - entropy_weight * entropy + value


@pytest.mark.parametrize("baseline", ["ema", "value"])
def test_losses_of_every_epoch_are_those_of_a_plain_loop(baseline, chain_space):
    space = chain_space(3, 2, 4)
    config = replace(PLAIN, baseline=baseline, entropy_weight=0.1, epochs=1)
    controller = make(space, config)
    rollout, rewards = controller.propose(5), np.array([0.1, 0.9, 0.4, 0.8, 0.3])
    old = log_probs(controller.policy, rollout.tokens)
    expected, clips = [], []
    twin = make(space, config)  # descends the same losses by gradients of its own
    tokens = torch.from_numpy(rollout.tokens)
    steps = torch.tensor([decision.step for decision in space.decisions])
    fixed = None
    for _ in range(3):
        output = twin.policy.evaluate(tokens)
        values = None
        if baseline == "value":
            if fixed is None:
                torch.nn.init.constant_(twin.value_head.bias, 0.5)  # the batch's mean reward
            values = twin.value_head(output.states.detach())[:, steps, 0]
            fixed = rewards[:, None] - values.detach().numpy() if fixed is None else fixed
        else:
            fixed = rewards - 0.5
        new = output.choice_log_probs
        ratio = (new - torch.from_numpy(old)).exp()
        advantage = torch.from_numpy(fixed.reshape(5, -1))
        loss = (
            -torch.where(advantage > 0, ratio.clamp(max=1.2) * advantage, ratio.clamp(min=0.8) * advantage).sum() / 5
            - 0.1 * output.entropy.mean()
        )
        if values is not None:
            loss = loss + 0.5 * (values - torch.from_numpy(rewards)[:, None]).pow(2).mean()
        arrays = (new.detach().numpy(), old, fixed, None if values is None else values.detach().numpy(), rewards)
        expected.append(plain_losses(*arrays, output.entropy.mean().item(), clip=0.2, entropy_weight=0.1))
        clips.append((np.abs(ratio.detach().numpy() - 1) > 0.2).mean())
        assert loss.item() == pytest.approx(expected[-1][1], abs=1e-12)
        twin.optimizer.zero_grad()
        loss.backward()
        twin.optimizer.step()
    controller.config = replace(config, epochs=3)
    metrics = controller.update(rollout, rewards)
    assert metrics["policy_loss"] == pytest.approx(np.mean([policy for policy, _ in expected]), abs=1e-10)
    assert metrics["loss"] == pytest.approx(np.mean([whole for _, whole in expected]), abs=1e-10)
    assert metrics["clip_fraction"] == pytest.approx(np.mean(clips))
    assert metrics["clip_fraction"] > 0
    for ours, theirs in zip(controller.policy.parameters(), twin.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_first_step_has_the_gradient_of_reinforce(chain_space):
    space = chain_space(3, 1, 4)
    ppo = make(space, replace(PLAIN, epochs=1, baseline_start="zero", baseline_decay=0.9))
    enas = ReinforceController(space, EnasConfig(hidden=8, entropy_weight=0, skip_weight=0, baseline_decay=0.9), seed=0)
    enas.policy = copy.deepcopy(ppo.policy)
    rollout, rewards = ppo.propose(6), np.linspace(0, 1, 6)
    ours, theirs = ppo.update(rollout, rewards), enas.update(rollout, rewards)
    assert ours["baseline"] == theirs["baseline"]
    assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"])
    for one, other in zip(ppo.policy.parameters(), enas.policy.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)
    assert (ours["approx_kl"], ours["clip_fraction"]) == (0, 0)


def test_entropy_in_the_loss_has_a_gradient(chain_space):
    controller = make(chain_space(4, 3), replace(PLAIN, entropy_weight=1.0), scale=20.0)
    before = controller.policy.evaluate(torch.from_numpy(controller.propose(50).tokens)).entropy.mean().item()
    for _ in range(5):
        controller.update(controller.propose(10), np.full(10, 0.5))  # equal rewards: nothing but the entropy to gain
    after = controller.policy.evaluate(torch.from_numpy(controller.propose(50).tokens)).entropy.mean().item()
    assert before < math.log(12) - 0.1
    assert after > before + 0.05


def test_gradient_is_clipped_where_asked(chain_space):
    controller = make(chain_space(2, 3), replace(PLAIN, grad_clip=1e-3, epochs=1))
    metrics = controller.update(controller.propose(4), np.arange(4.0))
    norm = torch.nn.utils.get_total_norm([p.grad for p in controller.policy.parameters() if p.grad is not None])
    assert metrics["grad_norm"] > 1e-3
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_target_kl_ends_an_update_early(chain_space):
    patient, hasty = (make(chain_space(3, 4), replace(PLAIN, epochs=20, target_kl=limit)) for limit in (None, 1e-3))
    rewards = np.linspace(0, 1, 8)
    moved = [controller.update(controller.propose(8), rewards)["approx_kl"] for controller in (patient, hasty)]
    assert 1e-3 < moved[1] < moved[0] / 2


def test_decisions_with_one_choice_carry_nothing(chain_space):
    once, twice = (make(chain_space(1, 3, 1, 4, 1), replace(PLAIN, epochs=epochs)) for epochs in (1, 2))
    rollout, rewards = once.propose(6), np.linspace(0, 1, 6)
    old = log_probs(once.policy, rollout.tokens)
    assert not old[:, [0, 2, 4]].any()
    once.update(rollout, rewards)
    log_ratio = (log_probs(once.policy, rollout.tokens) - old)[:, [1, 3]]
    divergence = (np.exp(log_ratio) - 1 - log_ratio).mean()
    assert divergence > 1e-4
    assert twice.update(rollout, rewards)["approx_kl"] == pytest.approx(divergence)  # a mean over two decisions, not five


def test_space_with_one_member_teaches_nothing_and_breaks_nothing(chain_space):
    controller = make(chain_space(1, 1), replace(PLAIN, baseline="value"))
    metrics = controller.update(controller.propose(3), np.array([0.1, 0.2, 0.3]))
    assert np.isfinite(list(metrics.values())).all()
    assert metrics["grad_norm"] == 0


# Baselines.


def test_average_baseline_moves_as_that_of_reinforce(chain_space):
    controller = make(chain_space(2, 3), replace(PLAIN, baseline_decay=0.9))
    metrics = [controller.update(controller.propose(2), np.array(rewards)) for rewards in ([1.0, 3.0], [4.0, 4.0])]
    assert [each["baseline"] for each in metrics] == pytest.approx([2.0, 0.81 * 2 + 0.19 * 4])
    assert [each["advantage"] for each in metrics] == pytest.approx([0.0, 4 - (0.81 * 2 + 0.19 * 4)])
    assert "value_loss" not in metrics[0]


def test_value_baseline_learns_a_constant_reward(chain_space):
    controller = make(chain_space(3, 4), replace(PLAIN, baseline="value", baseline_start="zero"))
    metrics = [controller.update(controller.propose(4), np.full(4, 0.7)) for _ in range(20)]
    assert metrics[0]["baseline"] == 0
    assert metrics[0]["advantage"] == pytest.approx(0.7)
    assert metrics[-1]["baseline"] == pytest.approx(0.7, abs=0.02)
    assert metrics[-1]["value_loss"] < 1e-3 < metrics[0]["value_loss"]


def test_value_baseline_starts_at_the_first_rewards_where_asked(chain_space):
    controller = make(chain_space(3, 4), replace(PLAIN, baseline="value", learning_rate=1e-6))
    metrics = [controller.update(controller.propose(2), np.array(rewards)) for rewards in ([0.5, 0.7], [0.1, 0.1])]
    assert [each["baseline"] for each in metrics] == pytest.approx([0.6, 0.6], abs=1e-4)


def test_value_knows_what_was_chosen_before(chain_space):
    controller = make(chain_space(2, 3), replace(PLAIN, baseline="value", learning_rate=1e-12), seed=1)
    head = torch.optim.Adam(controller.value_head.parameters(), lr=0.05)
    tokens = torch.tensor([[0, 0], [1, 0]])
    states = controller.policy.evaluate(tokens).states.detach()
    assert torch.equal(states[0, 0], states[1, 0])
    for _ in range(300):
        loss = (controller.value_head(states)[..., 0] - torch.tensor([[0.2], [0.8]])).square().mean()
        head.zero_grad()
        loss.backward()
        head.step()
    values = controller.value_head(states)[..., 0].tolist()
    assert [values[0][0], values[1][0]] == pytest.approx([0.5, 0.5], abs=0.05)  # nothing is chosen yet: the mean
    assert [values[0][1], values[1][1]] == pytest.approx([0.2, 0.8], abs=0.05)


def test_no_gradient_passes_from_the_value_to_the_policy(chain_space):
    config = replace(PLAIN, baseline="value", baseline_start="zero", normalise_advantages=True, epochs=1)
    controller = make(chain_space(4), config)
    torch.nn.init.ones_(controller.value_head.weight)
    metrics = controller.update(controller.propose(4), np.full(4, 0.9))  # one state, equal rewards: no advantage for any choice
    assert metrics["value_loss"] > 0.1
    assert controller.value_head.weight.grad.abs().max().item() > 1e-3
    assert metrics["grad_norm"] < 1e-7


# Batches.


def test_every_minibatch_of_an_epoch_holds_other_architectures(chain_space, monkeypatch):
    controller = make(chain_space(5, 5, 5), replace(PLAIN, epochs=2, minibatches=3))
    rollout = controller.propose(8)
    sizes, rows = [], []
    evaluate = LSTMPolicy.evaluate

    def counted(policy, tokens, **given):
        sizes.append(len(tokens))
        rows.append(list(map(tuple, tokens.tolist())))
        return evaluate(policy, tokens, **given)

    monkeypatch.setattr(LSTMPolicy, "evaluate", counted)
    controller.update(rollout, np.linspace(0, 1, 8))
    assert sizes == [8, 3, 3, 2, 3, 3, 2]
    everything = sorted(map(tuple, rollout.tokens.tolist()))
    epochs = [rows[1] + rows[2] + rows[3], rows[4] + rows[5] + rows[6]]
    assert [sorted(epoch) for epoch in epochs] == [everything, everything]
    assert epochs[0] != epochs[1]


def test_every_minibatch_is_evaluated_with_the_anchors_that_its_own_tokens_point_at(monkeypatch):
    controller = make(MacroSpace(num_layers=4), replace(PLAIN, epochs=2, minibatches=3))
    evaluate = LSTMPolicy.evaluate
    pairs = []

    def compared(policy, tokens, *, inputs):
        output = evaluate(policy, tokens, inputs=inputs)
        pairs.append((output.logits.detach(), evaluate(policy, tokens).logits.detach()))
        return output

    monkeypatch.setattr(LSTMPolicy, "evaluate", compared)
    controller.update(controller.propose(8), np.linspace(0, 1, 8))
    assert len(pairs) == 7
    for given, anew in pairs:
        assert torch.equal(given, anew)


def test_batch_smaller_than_the_number_of_minibatches_is_split_into_single_ones(chain_space):
    controller = make(chain_space(3, 4), replace(PLAIN, minibatches=5, normalise_advantages=True))
    assert np.isfinite(list(controller.update(controller.propose(2), np.array([0.1, 0.9])).values())).all()
    alone = controller.update(controller.propose(1), np.array([0.5]))
    assert np.isfinite(list(alone.values())).all()


def test_update_reads_any_rollout_and_prefers_the_better_one(chain_space):
    controller = make(chain_space(3, 3))
    tokens, rewards = np.array([[0, 1], [2, 2]]), np.array([0.0, 1.0])
    before = log_probs(controller.policy, tokens).sum(axis=1)
    for _ in range(5):
        controller.update(Rollout(tokens=tokens), rewards)
    after = log_probs(controller.policy, tokens).sum(axis=1)
    assert (after - before)[1] > max(0, (after - before)[0])
    assert tokens.tolist() == [[0, 1], [2, 2]]
    assert rewards.tolist() == [0.0, 1.0]


# State.


def test_state_of_another_kind_of_baseline_is_refused(chain_space):
    average, value = (make(chain_space(3, 4), replace(PLAIN, baseline=kind)) for kind in ("ema", "value"))
    with pytest.raises(ValueError, match="baseline: expected the state of PPO with baseline ema, got value"):
        average.load_state_dict(value.state_dict())


def test_restored_value_head_goes_on_as_the_saved_one():
    config = PpoConfig(hidden=8, baseline="value", minibatches=2)
    saved, restored = (config.make(MacroSpace(3), seed=seed) for seed in (0, 1))
    for _ in range(3):
        saved.update(saved.propose(4), np.linspace(0, 1, 4))
    restored.load_state_dict(copy.deepcopy(saved.state_dict()))
    updates = [controller.update(controller.propose(4), np.linspace(1, 0, 4)) for controller in (saved, restored)]
    assert updates[0] == updates[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0.0}, "clip: expected a number above 0, got 0.0"),
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"minibatches": 0}, "minibatches: expected at least 1, got 0"),
        ({"target_kl": 0.0}, "target_kl: expected a number above 0 or None, got 0.0"),
        ({"baseline_decay": 1.0}, r"baseline_decay: expected a number in \[0, 1\), got 1.0"),
        ({"entropy_weight": -0.1}, "entropy_weight: expected a number of at least 0, got -0.1"),
    ],
)
def test_config_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PpoConfig(**options)
