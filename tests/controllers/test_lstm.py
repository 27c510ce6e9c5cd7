import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from controllers.lstm import INIT_RANGE, LSTMPolicy, PolicyOutput
from enas.spaces.base import Decision, Step
from enas.spaces.macro import MacroSpace
from enas.spaces.micro import MicroConfig, MicroSpace
from enas.spaces.rnn import RnnSpace
from enas.spaces.sampling import sample_uniform


@pytest.fixture
def all_kinds(planted_space):
    """Every kind of decision, input rule and anchor rule, biases, a single choice, not in step order: 576 members."""
    two: dict[str, Any] = {"kind": "op", "choices": ("x", "y"), "vocabulary": "two", "learned_bias": (0.05, -0.02)}
    decisions = [
        Decision(name="op_a", step=0, bias=(0.3, -0.2), **two),
        Decision(name="only", kind="op", choices=("x",), vocabulary="one", step=0),
        Decision(name="in_b", kind="input", choices=("0", "1"), vocabulary="in", step=3, anchors=((0,), (1,))),
        Decision(
            name="pair", kind="pair", choices=("01", "02", "12"), vocabulary="pair", step=3, anchors=((0, 1), (0, 2), (1, 2))
        ),
        Decision(name="op_c", step=4, tanh_reduce=2.0, **two),
        Decision(
            name="in_d",
            kind="input",
            choices=("4", "2", "1"),
            vocabulary="in",
            step=6,
            anchors=((4,), (2,), (1,)),
            bias=(0, 0.5, 0),
        ),
        Decision(name="skip_0", kind="skip", choices=("no", "yes"), vocabulary="skip", step=5, anchors=((), (0,))),
        Decision(name="skip_4", kind="skip", choices=("no", "yes"), vocabulary="skip", step=5, anchors=((), (4,))),
        Decision(name="op_e", step=7, **two),
    ]
    steps = [
        Step(input="start", anchor="value"),
        Step(input="choice", anchor="zero"),
        Step(input="anchors_mean", anchor="value"),
        Step(input="start"),
        Step(input="anchor_by_distance", anchor="value"),
        Step(input="choice"),
        Step(input="anchors_mean"),
        Step(input="anchor"),
    ]
    return type(planted_space)(decisions, steps)


def make_policy(space, *, scale=6.0, **settings):
    """Return a policy in float64 whose weights are large enough for its probabilities to differ."""
    policy = LSTMPolicy(space, hidden=8, seed=1, **settings).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(scale)
    return policy


def all_tokens(space):
    return torch.tensor(list(itertools.product(*map(range, space.num_choices.tolist()))))


def lstm_step(policy, x, h, c):
    """One LSTM step on vectors, gate by gate. PyTorch's order of gates: input, forget, cell, output."""
    gates = policy.cell.weight_ih @ x + policy.cell.weight_hh @ h
    i, f, g, o = gates.view(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def slow_logits(policy, space, tokens):
    """The distributions of one architecture as `Decision` and `Step` describe them: one decision after the other, no batch.

    Returns: for each decision a list of logits.
    """
    h = c = torch.zeros_like(policy.start[0])
    outputs, values, recorded, logits = {}, {}, [], [None] * len(tokens)
    for index, step in enumerate(space.steps):
        before = [(k, d) for k, d in enumerate(space.decisions) if d.step == index - 1]
        known = [anchor for anchor in recorded if anchor < index - 1]
        chosen = [anchor for k, d in before if d.anchors for anchor in d.anchors[tokens[k]]]
        x = policy.start[0]
        if step.input == "choice" and index:
            column, last = [(k, d) for k, d in before if d.kind == "op"][-1]
            x = policy.embeddings[last.vocabulary].weight[tokens[column]]
        elif step.input in ("anchors_mean", "anchor", "anchor_by_distance") and index and known:
            x = torch.zeros_like(h)
            for anchor in chosen:
                distance = len(known) - known.index(anchor)
                x = x + values[anchor] / (0.1 + distance if step.input == "anchor_by_distance" else 1)
            x = x / (1 + len(chosen)) if step.input == "anchors_mean" else x
        h, c = lstm_step(policy, x, h, c)
        for column, decision in enumerate(space.decisions):
            if decision.step == index:
                logits[column] = [answer.item() for answer in slow_answers(policy, decision, outputs, h)]
        if step.anchor != "none":
            outputs[index], values[index] = h, h if step.anchor == "value" else torch.zeros_like(h)
            recorded.append(index)
    return logits


def slow_answers(policy, decision, outputs, h):
    if decision.kind == "op":
        head = policy.heads[decision.vocabulary]
        answers = list(head.weight @ h + (head.bias if decision.learned_bias else 0))
    else:
        attention = policy.attentions[decision.vocabulary]

        def score(anchor):
            return attention.value.weight[0] @ torch.tanh(attention.key.weight @ outputs[anchor] + attention.query.weight @ h)

        answers = [sum(score(anchor) for anchor in anchors) for anchors in decision.anchors]
        if decision.kind == "skip":
            answers = [-answers[1], answers[1]]
    answers = [answer / policy.temperature for answer in answers]
    if policy.tanh_constant is not None:
        answers = [policy.tanh_constant / decision.tanh_reduce * torch.tanh(answer) for answer in answers]
    return [answer + bias for answer, bias in zip(answers, decision.bias or [0] * len(answers), strict=True)]


def authors_log_prob(policy, tokens, *, num_layers):
    """Log-probability of a macro architecture by the sampler of the authors (`general_controller.py`), in plain loops."""
    w_attn_1, w_attn_2, v_attn = (getattr(policy.attentions["skip"], name).weight for name in ("key", "query", "value"))
    w_soft, w_emb, g_emb = policy.heads["op"].weight, policy.embeddings["op"].weight, policy.start[0]
    arc = iter(tokens)
    prev_h = prev_c = torch.zeros_like(g_emb)
    anchors, anchors_w_1, log_prob = [], [], 0.0
    inputs = g_emb
    for layer_id in range(num_layers):
        prev_h, prev_c = lstm_step(policy, inputs, prev_h, prev_c)
        logit = policy.tanh_constant * torch.tanh(w_soft @ prev_h / policy.temperature)
        branch_id = next(arc)
        log_prob += logit.log_softmax(0)[branch_id].item()
        inputs = w_emb[branch_id]
        prev_h, prev_c = lstm_step(policy, inputs, prev_h, prev_c)
        if layer_id > 0:
            skip = []
            for anchor_w_1 in anchors_w_1:
                query = v_attn[0] @ torch.tanh(anchor_w_1 + w_attn_2 @ prev_h)
                logit = policy.tanh_constant * torch.tanh(torch.stack([-query, query]) / policy.temperature)
                skip.append(next(arc))
                log_prob += logit.log_softmax(0)[skip[-1]].item()
            inputs = sum(bit * anchor for bit, anchor in zip(skip, anchors, strict=True)) / (1.0 + sum(skip))
        else:
            inputs = g_emb
        anchors.append(prev_h)
        anchors_w_1.append(w_attn_1 @ prev_h)
    return log_prob


def authors_micro_log_prob(policy, tokens, *, num_nodes, op_tanh_reduce, fixed_bias):
    """Log-probability of a micro architecture by the sampler of the authors (`micro_controller.py`), in plain loops."""
    attention, head, g_emb = policy.attentions["input"], policy.heads["op"], policy.start[0]
    w_emb = policy.embeddings["op"].weight
    prev_h = prev_c = torch.zeros_like(g_emb)
    log_prob = 0.0
    for arc, bias in ((tokens[: 4 * num_nodes], fixed_bias), (tokens[4 * num_nodes :], 0.0)):
        anchors, anchors_w_1, inputs = [], [], g_emb
        for _ in range(2):
            prev_h, prev_c = lstm_step(policy, inputs, prev_h, prev_c)
            anchors.append(torch.zeros_like(prev_h))
            anchors_w_1.append(attention.key.weight @ prev_h)
        for node in range(num_nodes):
            first, first_op, second, second_op = arc[4 * node : 4 * node + 4]
            for index in (first, second):
                prev_h, prev_c = lstm_step(policy, inputs, prev_h, prev_c)
                query = torch.tanh(torch.stack(anchors_w_1) + attention.query.weight @ prev_h) @ attention.value.weight[0]
                logits = policy.tanh_constant * torch.tanh(query / policy.temperature)
                log_prob += logits.log_softmax(0)[index].item()
                inputs = anchors[index]
            for op in (first_op, second_op):
                prev_h, prev_c = lstm_step(policy, inputs, prev_h, prev_c)
                logits = torch.tanh((head.weight @ prev_h + head.bias) / policy.temperature)
                logits = policy.tanh_constant / op_tanh_reduce * logits
                logits = logits + bias * torch.tensor([1.0, 1.0, -1.0, -1.0, -1.0])
                log_prob += logits.log_softmax(0)[op].item()
                inputs = w_emb[op]
            prev_h, prev_c = lstm_step(policy, inputs, prev_h, prev_c)
            anchors.append(prev_h)
            anchors_w_1.append(attention.key.weight @ prev_h)
            inputs = g_emb
    return log_prob


def authors_rnn_log_prob(policy, tokens):
    """Log-probability of a recurrent cell by the sampler of the authors (`enas_lm/src/controller.py`), in plain loops."""
    attention, w_emb = policy.attentions["previous"], policy.embeddings["function"].weight
    prev_h = prev_c = torch.zeros_like(policy.start[0])
    all_h, all_h_w, inputs, log_prob = [prev_h], [prev_h], policy.start[0], 0.0  # of node 0, which is not asked about
    for layer_id, (previous, function) in enumerate(zip(tokens[::2], tokens[1::2], strict=True), start=1):
        prev_h, prev_c = lstm_step(policy, inputs, prev_h, prev_c)
        query = torch.tanh(torch.stack(all_h_w) + attention.query.weight @ prev_h) @ attention.value.weight[0]
        logits = policy.tanh_constant * torch.tanh(query / policy.temperature)
        logits = logits - (layer_id - torch.arange(layer_id)).double() ** 2 / 6.0
        log_prob += logits.log_softmax(0)[previous].item()
        inputs = all_h[previous] / (0.1 + layer_id - previous)
        all_h.append(prev_h)
        all_h_w.append(attention.key.weight @ prev_h)
        prev_h, prev_c = lstm_step(policy, inputs, prev_h, prev_c)
        logits = policy.tanh_constant * torch.tanh(w_emb @ prev_h / policy.temperature)
        log_prob += logits.log_softmax(0)[function].item()
        inputs = w_emb[function]
    return log_prob


@pytest.mark.parametrize("settings", [{}, {"tanh_constant": None}, {"temperature": 5.0, "tanh_constant": 2.25}])
def test_probabilities_of_all_architectures_sum_to_one(settings, all_kinds):
    output = make_policy(all_kinds, **settings).evaluate(all_tokens(all_kinds))
    assert output.log_prob.dtype == torch.float64
    assert output.log_prob.exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_samples_are_as_frequent_as_their_probabilities_say(all_kinds):
    policy = make_policy(all_kinds)
    tokens = all_tokens(all_kinds)
    with torch.no_grad():
        expected = 20_000 * policy.evaluate(tokens).log_prob.exp().numpy()
    assert expected.max() > 5 * expected.min()
    assert expected.min() > 5  # what the chi-square approximation asks for
    sampled = policy.sample(20_000, generator=torch.Generator().manual_seed(0)).tokens.numpy()
    counts = np.bincount(np.ravel_multi_index(sampled.T, all_kinds.num_choices), minlength=len(tokens))
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-4, len(counts) - 1)


@pytest.mark.parametrize("settings", [{}, {"tanh_constant": None}, {"temperature": 5.0, "tanh_constant": 2.25}])
def test_logits_are_those_of_the_description(settings, all_kinds):
    policy = make_policy(all_kinds, **settings)
    tokens = sample_uniform(all_kinds, 12, np.random.default_rng(0))
    with torch.no_grad():
        logits = policy.evaluate(torch.from_numpy(tokens)).logits
        for row, found in zip(tokens.tolist(), logits.tolist(), strict=True):
            for expected, answers in zip(slow_logits(policy, all_kinds, row), found, strict=True):
                assert answers[: len(expected)] == pytest.approx(expected, abs=1e-10)
                assert set(answers[len(expected) :]) <= {-math.inf}


@pytest.mark.parametrize(("num_layers", "settings"), [(2, {}), (4, {}), (12, {"temperature": 5.0, "tanh_constant": 2.5})])
def test_macro_policy_is_the_sampler_of_the_authors(num_layers, settings):
    space = MacroSpace(num_layers)
    policy = make_policy(space, **settings)
    tokens = sample_uniform(space, 4, np.random.default_rng(0))
    with torch.no_grad():
        found = policy.evaluate(torch.from_numpy(tokens)).log_prob.tolist()
        expected = [authors_log_prob(policy, row, num_layers=num_layers) for row in tokens.tolist()]
    assert found == pytest.approx(expected, abs=1e-10)
    assert len({round(value, 9) for value in found}) > 1


@pytest.mark.parametrize(("num_nodes", "settings"), [(1, {}), (3, {}), (5, {"temperature": 2.0, "tanh_constant": 1.1})])
def test_micro_policy_is_the_sampler_of_the_authors(num_nodes, settings):
    prior = {"op_tanh_reduce": 2.5, "fixed_bias": 0.25}
    space = MicroSpace(num_nodes, soft_bias=0.1, **prior)
    policy = make_policy(space, **settings)
    tokens = sample_uniform(space, 4, np.random.default_rng(0))
    with torch.no_grad():
        found = policy.evaluate(torch.from_numpy(tokens)).log_prob.tolist()
        expected = [authors_micro_log_prob(policy, row, num_nodes=num_nodes, **prior) for row in tokens.tolist()]
    assert found == pytest.approx(expected, abs=1e-10)
    assert len({round(value, 9) for value in found}) > 1


@pytest.mark.parametrize(("num_nodes", "settings"), [(1, {}), (4, {}), (8, {"temperature": 5.0, "tanh_constant": 2.25})])
def test_recurrent_policy_is_the_sampler_of_the_authors(num_nodes, settings):
    space = RnnSpace(num_nodes)
    policy = make_policy(space, **settings)
    assert "function" not in policy.heads  # tied to the embedding
    tokens = sample_uniform(space, 4, np.random.default_rng(0))
    with torch.no_grad():
        found = policy.evaluate(torch.from_numpy(tokens)).log_prob.tolist()
        expected = [authors_rnn_log_prob(policy, row) for row in tokens.tolist()]
    assert found == pytest.approx(expected, abs=1e-10)
    assert len({round(value, 9) for value in found}) > 1


def test_fresh_recurrent_policy_prefers_close_nodes_as_the_authors_do():
    space = RnnSpace(3)
    drawn = LSTMPolicy(space, temperature=5.0, tanh_constant=2.25, init_range=0.01, seed=1).most_likely()
    prior = np.exp([-9 / 6, -4 / 6, -1 / 6])
    assert drawn.log_probs[0, 4, :3].exp().tolist() == pytest.approx(prior / prior.sum(), abs=1e-4)
    assert drawn.log_probs[0, 5].exp().tolist() == pytest.approx([0.25] * 4, abs=1e-3)


def test_fresh_micro_policy_prefers_separable_convolutions_as_the_authors_do():
    space = MicroConfig().make_space()
    policy = LSTMPolicy(space, tanh_constant=1.1, seed=1)
    drawn = policy.sample(20, generator=torch.Generator().manual_seed(0))
    ops = [(column, decision) for column, decision in enumerate(space.decisions) if decision.kind == "op"]
    for column, decision in ops:
        separable = drawn.log_probs[:, column, :2].exp().sum(dim=1)
        push = 0.44 + (0.5 if decision.name.startswith("normal") else 0.0)  # tanh(10) is 1, of the others nearly 0
        expected = 2 * math.exp(push) / (2 * math.exp(push) + 3)
        assert separable.tolist() == pytest.approx([expected] * 20, abs=0.02)


def test_learned_bias_starts_where_the_space_says_and_learns():
    policy = LSTMPolicy(MicroSpace(1, soft_bias=0.5), seed=1)
    bias = policy.heads["op"].bias
    assert bias.tolist() == [0.5, 0.5, 0.0, 0.0, 0.0]
    policy.evaluate(torch.zeros(1, 8, dtype=torch.int64)).log_prob.sum().backward()
    assert bias.grad.abs().min() > 0
    assert LSTMPolicy(MicroSpace(1), seed=1).heads["op"].bias.tolist() == [0.0] * 5
    assert LSTMPolicy(MacroSpace(1), seed=1).heads["op"].bias is None


def test_evaluating_a_sample_gives_what_it_was_drawn_with(all_kinds):
    policy = LSTMPolicy(all_kinds, seed=1)
    drawn = policy.sample(40, generator=torch.Generator().manual_seed(0))
    evaluated = policy.evaluate(drawn.tokens)
    torch.testing.assert_close(evaluated.logits, drawn.logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(evaluated.log_prob, drawn.log_prob, rtol=0, atol=1e-6)
    assert evaluated.log_prob.requires_grad
    assert not drawn.log_prob.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_gives_what_each_row_gives_alone(dtype, all_kinds):
    policy = make_policy(all_kinds).to(dtype)
    tokens = torch.from_numpy(sample_uniform(all_kinds, 20, np.random.default_rng(0)))
    together = policy.evaluate(tokens).logits
    alone = torch.cat([policy.evaluate(row[None]).logits for row in tokens])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12)


def test_gradient_is_that_of_finite_differences(all_kinds):
    policy = make_policy(all_kinds)
    tokens = torch.from_numpy(sample_uniform(all_kinds, 3, np.random.default_rng(0)))
    policy.evaluate(tokens).log_prob.sum().backward()
    for name, parameter in policy.named_parameters():
        if name.startswith("heads.one"):  # one choice is certain
            assert not parameter.grad.any()
            continue
        flat, index = parameter.detach().view(-1), int(parameter.grad.abs().argmax())
        values = []
        for shift in (1e-5, -2e-5):
            flat[index] += shift
            with torch.no_grad():
                values.append(policy.evaluate(tokens).log_prob.sum().item())
        flat[index] += 1e-5
        assert parameter.grad.view(-1)[index].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5), name


def test_log_prob_and_entropy_are_those_counted_by_hand():
    logits = torch.tensor([[[0.0, math.log(3.0), -math.inf], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    output = PolicyOutput(tokens=torch.tensor([[1, 2]]), logits=logits)
    assert output.log_prob.tolist() == pytest.approx([math.log(3 / 4) + math.log(1 / 3)])
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) + math.log(3)
    assert output.entropy.tolist() == pytest.approx([entropy])
    assert output.log_probs[0, 0, 2] == -math.inf


def test_expected_entropy_is_the_entropy_of_the_whole_distribution(all_kinds):
    output = make_policy(all_kinds).evaluate(all_tokens(all_kinds))
    probability = output.log_prob.exp()
    whole = -(probability * output.log_prob).sum().item()
    assert (probability * output.entropy).sum().item() == pytest.approx(whole)  # chain rule of entropy


def test_entropy_of_masked_choices_has_a_finite_gradient(all_kinds):
    policy = LSTMPolicy(all_kinds, seed=1)
    policy.evaluate(all_tokens(all_kinds)[:4]).entropy.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in policy.parameters() if parameter.grad is not None)


def test_most_likely_takes_the_best_choice_given_the_ones_before(all_kinds):
    policy = make_policy(all_kinds)
    output = policy.most_likely()
    assert output.tokens.shape == (1, 9)
    assert torch.equal(output.logits.argmax(dim=-1), output.tokens)
    torch.testing.assert_close(policy.evaluate(output.tokens).logits, output.logits, rtol=0, atol=1e-12)


def test_tanh_constant_bounds_the_logits_before_the_bias(all_kinds):
    policy = make_policy(all_kinds, scale=1000.0, tanh_constant=1.5)
    logits = policy.evaluate(all_tokens(all_kinds)).logits
    unbiased = [1, 2, 3, 4, 6, 7, 8]
    assert logits[:, unbiased].masked_fill(logits[:, unbiased].isneginf(), 0).abs().max().item() == pytest.approx(1.5)
    assert logits[:, 0, :2].abs().max().item() == pytest.approx(1.5 + 0.3, abs=0.1)
    assert logits[:, 5].max().item() == pytest.approx(1.5 + 0.5, abs=0.1)
    unbounded = make_policy(all_kinds, scale=1000.0, tanh_constant=None).evaluate(all_tokens(all_kinds)).logits
    assert unbounded[:, 2, :2].abs().min() > 10


def test_temperature_divides_the_logits_before_the_tanh(chain_space):
    space = chain_space(3)
    tokens = torch.zeros(1, 1, dtype=torch.int64)
    raw = make_policy(space, tanh_constant=None).evaluate(tokens).logits
    cooled = make_policy(space, tanh_constant=2.0, temperature=4.0).evaluate(tokens).logits
    torch.testing.assert_close(cooled, 2 * torch.tanh(raw / 4))


def test_bias_alone_makes_a_softmax_of_it(planted_space):
    decision = Decision(name="op", kind="op", choices=("a", "b"), vocabulary="op", step=0, bias=(0.25, -0.25))
    policy = make_policy(type(planted_space)([decision], [Step(input="start")]), scale=0.0)
    log_prob = policy.evaluate(torch.tensor([[0], [1]])).log_prob
    assert log_prob.exp().tolist() == pytest.approx([1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(0.5))])


def test_decision_with_one_choice_is_certain(chain_space):
    policy = make_policy(chain_space(1, 4, 1))
    output = policy.sample(50, generator=torch.Generator().manual_seed(0))
    assert not output.tokens[:, [0, 2]].any()
    assert not output.log_probs[:, [0, 2], 0].any()
    assert policy.evaluate(torch.tensor([[0, k, 0] for k in range(4)])).log_prob.exp().sum().item() == pytest.approx(1)


def test_no_architectures_are_an_empty_batch(all_kinds):
    policy = LSTMPolicy(all_kinds)
    assert policy.sample(0, generator=torch.Generator()).tokens.shape == (0, 9)
    assert policy.evaluate(torch.zeros(0, 9, dtype=torch.int64)).log_prob.shape == (0,)


def test_initial_weights_are_uniform_and_follow_the_seed(planted_space):
    first, same, other = (LSTMPolicy(planted_space, seed=seed) for seed in (1, 1, 2))
    weights = torch.cat([parameter.detach().flatten() for parameter in first.parameters()])
    assert weights.abs().max().item() <= INIT_RANGE
    assert weights.std().item() == pytest.approx(INIT_RANGE / math.sqrt(3), rel=0.02)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), same.parameters(), strict=True))
    assert not torch.equal(first.cell.weight_hh, other.cell.weight_hh)


def test_weights_are_those_of_the_authors_controller():
    policy = LSTMPolicy(MacroSpace(12), hidden=64)
    w_lstm, g_emb, w_emb, w_soft, w_attn_1, w_attn_2, v_attn = 128 * 256, 64, 6 * 64, 64 * 6, 64 * 64, 64 * 64, 64
    expected = w_lstm + g_emb + w_emb + w_soft + w_attn_1 + w_attn_2 + v_attn
    assert sum(parameter.numel() for parameter in policy.parameters()) == expected


def test_weights_are_those_of_the_authors_micro_controller():
    policy = LSTMPolicy(MicroConfig().make_space(), hidden=64)
    w_lstm, g_emb, w_emb, w_soft, b_soft, attention = 128 * 256, 64, 5 * 64, 64 * 5, 5, 2 * 64 * 64 + 64
    assert sum(parameter.numel() for parameter in policy.parameters()) == w_lstm + g_emb + w_emb + w_soft + b_soft + attention


def test_learned_biases_of_one_vocabulary_must_agree(planted_space):
    two = {"kind": "op", "choices": ("a", "b"), "vocabulary": "op", "step": 0}
    decisions = [Decision(name="op_0", learned_bias=(1.0, 0.0), **two), Decision(name="op_1", **two)]
    with pytest.raises(ValueError, match=r"op_1: expected the learned bias \(1.0, 0.0\), as others of its vocabulary, got \(\)"):
        LSTMPolicy(type(planted_space)(decisions, [Step(input="start")]))


def test_anchor_that_no_step_records_is_refused(planted_space):
    skip = Decision(name="skip", kind="skip", choices=("no", "yes"), vocabulary="skip", step=1, anchors=((), (0,)))
    space = type(planted_space)([skip], [Step(input="start"), Step(input="start")])
    with pytest.raises(ValueError, match="skip: step 0 records no anchor before step 1"):
        LSTMPolicy(space)


def test_vocabulary_of_two_sizes_is_refused(planted_space):
    decisions = [Decision(name=f"op_{n}", kind="op", choices=tuple("abc"[:n]), vocabulary="op", step=0) for n in (2, 3)]
    with pytest.raises(ValueError, match="op_3: expected 2 choices, as others of its vocabulary, got 3"):
        LSTMPolicy(type(planted_space)(decisions, [Step(input="start")]))


def test_decision_of_a_step_that_does_not_exist_is_refused(planted_space):
    decision = Decision(name="op", kind="op", choices=("a", "b"), vocabulary="op", step=1)
    with pytest.raises(ValueError, match=r"op: expected a step in 0\.\.0, got 1"):
        LSTMPolicy(type(planted_space)([decision], [Step(input="start")]))


def test_input_from_a_choice_that_was_not_made_is_refused(planted_space):
    decision = Decision(name="op", kind="op", choices=("a", "b"), vocabulary="op", step=1)
    with pytest.raises(ValueError, match="step 1: the input rule 'choice' must follow a step with an op decision"):
        LSTMPolicy(type(planted_space)([decision], [Step(input="start"), Step(input="choice")]))


def test_states_are_the_outputs_that_answer_the_decisions(chain_space):
    policy = make_policy(chain_space(3, 4), tanh_constant=None)
    output = policy.evaluate(torch.tensor([[0, 1], [2, 3], [1, 1]]))
    assert output.states.shape == (3, 2, 8)
    for step, size in enumerate((3, 4)):
        torch.testing.assert_close(policy.heads[f"op_{size}"](output.states[:, step]), output.logits[:, step, :size])
    torch.testing.assert_close(output.choice_log_probs.sum(dim=1), output.log_prob)
