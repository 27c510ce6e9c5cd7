from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from enas.children.base import copy_inherited
from enas.children.cost import Cost, count_parameters, measure_cost
from enas.children.language import LanguageChild
from enas.children.loss import training_loss
from enas.children.rnn import RnnChild
from enas.children.rnn_lstm import fitting_units
from enas.devices import autocast
from enas.published import PUBLISHED
from enas.spaces.rnn import RnnArchitecture, RnnConfig, RnnNode

VOCABULARY = 11
CONFIG = RnnConfig(num_nodes=5, hidden=6, activation_penalty=0.7, slowness_penalty=1.3, init_range=0.9)
"""Large weights, so that every function and gate is far from its linear part."""
NO_DROPOUT = replace(CONFIG, word_dropout=0.0, embedding_dropout=0.0, input_dropout=0.0, state_dropout=0.0, output_dropout=0.0)
ENAS = RnnConfig().make_space().from_text(PUBLISHED["enas-rnn"].text)
# Every function; nodes that none, one and several read.
CELL = CONFIG.make_space().from_text("0 3 0 1 2 0 0 2 2 1")
CHAIN = CONFIG.make_space().from_text("0 0 1 1 2 2 3 3 4 0")


def make(config=CONFIG, *, architecture=None, vocabulary=VOCABULARY):
    child = config.make_child(input_shape=(), num_classes=vocabulary, architecture=architecture)
    child.reset_parameters(torch.Generator().manual_seed(0))
    return child


def tokens(rows, columns, *, seed=1, vocabulary=VOCABULARY):
    return torch.randint(vocabulary, (rows, columns), generator=torch.Generator().manual_seed(seed))


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def drawn_masks(config, num_rows, width, seed=3):
    """The masks as lists of rows, in the order in which the child draws them."""
    source = generator(seed)
    shapes = {"word": (VOCABULARY, 1), "embedding": (num_rows, width), "input": (num_rows, width)}
    shapes |= {"state": (num_rows, width), "output": (num_rows, width)}
    masks = {}
    for name, shape in shapes.items():
        keep = 1 - getattr(config, f"{name}_dropout")
        masks[name] = (torch.rand(shape, generator=source) < keep).double() / keep if keep < 1 else torch.ones(shape).double()
    return masks


def plain_loss(weights, config, architecture, x, labels, state, masks):
    """The training loss of one sequence after the other and node after node, as the authors' code describes it.

    Args: weights: by the names of the state dict. state: (B, H). masks: see `drawn_masks`.
    Returns: the loss, and the state after the last token.
    """
    functions = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda h: h}
    width = config.hidden
    losses, all_states = [], []
    for row in range(len(x)):
        s, states = state[row], []
        for column in range(x.shape[1]):
            token = x[row, column]
            word = weights["embedding"][token] * masks["word"][token] * masks["embedding"][row]
            both = torch.cat([word * masks["input"][row], s * masks["state"][row]]) @ weights["first"]
            nodes = [s + torch.sigmoid(both[width:]) * (torch.tanh(both[:width]) - s)]
            for index, node in enumerate(architecture.nodes):
                read = nodes[node.previous]
                both = (read * masks["state"][row]) @ weights[f"nodes.{index}.{node.function}_{node.previous}"]
                nodes.append(read + torch.sigmoid(both[width:]) * (functions[node.function](both[:width]) - read))
            s = sum(nodes[1:]) / len(architecture.nodes)
            states.append(s)
            logits = weights["embedding"] @ (s * masks["output"][row])
            losses.append(torch.logsumexp(logits, 0) - logits[labels[row * x.shape[1] + column]])
        all_states.append(torch.stack(states))
    states = torch.stack(all_states)  # (B, T, H)
    loss = torch.stack(losses).mean() + config.activation_penalty * (states**2).mean()
    if x.shape[1] > 1 and config.slowness_penalty:
        loss = loss + config.slowness_penalty * ((states[:, 1:] - states[:, :-1]) ** 2).mean()
    return loss, states[:, -1].detach()


@pytest.mark.parametrize("config", [CONFIG, NO_DROPOUT], ids=["dropout", "no dropout"])
@pytest.mark.parametrize(("architecture", "length"), [(CELL, 4), (CHAIN, 3), (CELL, 1)])
def test_step_is_that_of_the_described_network(config, architecture, length):
    child, x, labels = make(config).double().train(), tokens(3, length), tokens(1, 3 * length, seed=2)[0]
    carry = torch.rand(3, config.hidden, generator=generator(4), dtype=torch.float64) - 0.5
    output = child(x, architecture, carry=carry, generator=generator())
    weights = {name: weight.detach().double().requires_grad_() for name, weight in child.named_parameters()}
    masks = drawn_masks(config, 3, config.hidden)
    loss = F.cross_entropy(output.logits, labels) + output.penalty  # as training_loss has it, but in float64
    expected, last = plain_loss(weights, config, architecture, x, labels, carry, masks)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(output.carry, last, rtol=0, atol=1e-13)
    loss.backward()
    expected.backward()
    for name, weight in child.named_parameters():
        assert (weight.grad is None) == (weights[name].grad is None), name
        if weight.grad is not None:
            assert weight.grad.abs().max() > 1e-4, name
            torch.testing.assert_close(weight.grad, weights[name].grad, rtol=1e-10, atol=1e-13, msg=name)


def test_measurement_is_the_described_network_without_dropout_and_penalty():
    child, x, labels = make().double().eval(), tokens(3, 4), tokens(1, 12, seed=2)[0]
    output = child(x, CELL)
    free = replace(NO_DROPOUT, activation_penalty=0.0, slowness_penalty=0.0)
    expected, last = plain_loss(dict(child.named_parameters()), free, CELL, x, labels, torch.zeros(3, 6), drawn_masks(free, 3, 6))
    assert F.cross_entropy(output.logits, labels).item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(output.carry, last, rtol=0, atol=1e-13)
    assert output.penalty is None


def test_gradient_is_that_of_finite_differences():
    child, x, labels = make(NO_DROPOUT).double().train(), tokens(2, 5), tokens(1, 10, seed=2)[0]

    def loss():
        output = child(x, CELL)
        return F.cross_entropy(output.logits, labels) + output.penalty

    loss().backward()
    for name, weight in child.named_parameters():
        if weight.grad is None:
            continue
        direction = torch.randn(weight.shape, generator=generator(5), dtype=torch.float64)
        values = []
        with torch.no_grad():
            for shift in (1e-6, -2e-6):
                weight += shift * direction
                values.append(loss().item())
            weight += 1e-6 * direction
        slope = (values[0] - values[1]) / 2e-6
        assert (weight.grad * direction).sum().item() == pytest.approx(slope, rel=1e-5, abs=1e-9), name


def test_only_what_a_cell_uses_has_a_gradient():
    child = make().train()
    child(tokens(2, 3), CELL, generator=generator()).logits.sum().backward()
    trained = {name for name, weight in child.named_parameters() if weight.grad is not None}
    assert trained == {
        "embedding",
        "first",
        "nodes.0.identity_0",
        "nodes.1.relu_0",
        "nodes.2.tanh_2",
        "nodes.3.sigmoid_0",
        "nodes.4.relu_2",
    }


# Dropout.


def test_masks_have_the_configured_rates_and_scale():
    config = RnnConfig(
        hidden=100, word_dropout=0.1, embedding_dropout=0.0, input_dropout=0.75, state_dropout=0.25, output_dropout=0.6
    )
    masks = make(config, vocabulary=4000)._draw_masks(50, generator())
    for mask, rate in ((masks.words, 0.1), (masks.inputs, 0.75), (masks.states, 0.25), (masks.outputs, 0.6)):
        assert (mask == 0).double().mean().item() == pytest.approx(rate, abs=0.02)
        torch.testing.assert_close(mask.max(), torch.tensor(1 / (1 - rate)))
    assert masks.words.shape == (4000, 1)
    assert masks.inputs.shape == masks.states.shape == masks.outputs.shape == (50, 100)


def test_embedding_and_input_dropout_both_act_where_a_token_enters():
    config = RnnConfig(hidden=100, embedding_dropout=0.2, input_dropout=0.5)
    mask = make(config)._draw_masks(100, generator()).inputs
    assert (mask > 0).double().mean().item() == pytest.approx(0.8 * 0.5, abs=0.02)
    torch.testing.assert_close(mask.max(), torch.tensor(1 / 0.8 / 0.5))


def test_masks_are_the_same_at_all_tokens_of_a_sequence():
    class Spy(RnnChild):
        def run(self, inputs, architecture, carry, mask):
            self.entered = inputs
            states = torch.ones_like(inputs, requires_grad=True)  # (T, B, H)
            return states, states[-1]

    config = replace(CONFIG, word_dropout=0.0, embedding_dropout=0.5, input_dropout=0.0, output_dropout=0.5)
    child = Spy(config, vocabulary=VOCABULARY).train()
    torch.nn.init.ones_(child.embedding)
    logits = child(tokens(4, 7), CELL, generator=generator()).logits.view(4, 7, VOCABULARY)
    assert (child.entered == child.entered[:1]).all()
    assert (logits == logits[:, :1]).all()
    assert len({tuple(row.tolist()) for row in child.entered[0]}) > 1  # sequences have masks of their own


def test_dropped_word_is_read_as_zero_wherever_it_stands_and_is_still_predicted():
    config = replace(NO_DROPOUT, word_dropout=0.5)
    child, x = make(config).train(), tokens(1, 40)
    words = child._draw_masks(1, generator()).words
    entered = child._embed(x.t(), child._draw_masks(1, generator()))[:, 0]
    dropped = words[x[0], 0] == 0
    assert dropped.any()
    assert not dropped.all()
    assert not entered[dropped].any()
    torch.testing.assert_close(entered[~dropped], 2 * child.embedding[x[0][~dropped]])
    child(x, CELL, generator=generator()).logits.square().sum().backward()
    assert child.embedding.grad.abs().sum(dim=1).min() > 0


def test_dropout_needs_a_generator_in_training_only():
    child = make()
    with pytest.raises(ValueError, match="expected a generator"):
        child.train()(tokens(1, 2), CELL)
    child.eval()(tokens(1, 2), CELL)
    make(NO_DROPOUT).train()(tokens(1, 2), CELL)


# State.


def test_two_halves_of_a_text_with_the_state_carried_are_the_whole():
    child, x = make().double().eval(), tokens(3, 8)
    whole = child(x, CELL)
    first = child(x[:, :3], CELL)
    second = child(x[:, 3:], CELL, carry=first.carry)
    parts = [output.logits.view(3, -1, VOCABULARY) for output in (first, second)]
    torch.testing.assert_close(torch.cat(parts, dim=1).flatten(0, 1), whole.logits, rtol=0, atol=1e-14)
    torch.testing.assert_close(second.carry, whole.carry, rtol=0, atol=1e-14)
    assert not whole.carry.requires_grad


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, cell="lstm")])
def test_what_is_carried_on_keeps_no_other_state_in_memory(config):
    carry = make(config, architecture=CELL).train()(tokens(3, 5), CELL, generator=generator()).carry
    assert carry.untyped_storage().nbytes() == carry.numel() * carry.element_size()


def test_state_comes_from_the_rows_own_text_alone():
    child, x = make().eval(), tokens(3, 5)
    other = torch.cat([x[:1], tokens(2, 5, seed=9)])
    assert torch.equal(child(x, CELL).logits[:5], child(other, CELL).logits[:5])


def test_penalties_are_off_without_weights_and_of_one_token_without_change():
    child = make(replace(CONFIG, activation_penalty=0.0)).train()
    assert child(tokens(2, 1), CELL, generator=generator()).penalty is None
    assert child(tokens(2, 2), CELL, generator=generator()).penalty > 0
    off = make(replace(CONFIG, activation_penalty=0.0, slowness_penalty=0.0)).train()
    assert off(tokens(2, 2), CELL, generator=generator()).penalty is None


# Precision.


def test_states_stay_float32_under_bfloat16():
    child, x = make().train(), tokens(3, 6)
    exact = child(x, CELL, generator=generator())
    with autocast(torch.device("cpu"), "bf16"):
        output = child(x, CELL, generator=generator())
    assert output.logits.dtype == torch.bfloat16
    assert torch.equal(output.carry, exact.carry)
    assert torch.equal(output.penalty, exact.penalty)
    torch.testing.assert_close(output.logits.float(), exact.logits, rtol=0.02, atol=0.05)
    training_loss(output, tokens(1, 18)[0], aux_weight=0.0).backward()
    assert child.first.grad.isfinite().all()


def test_backward_pass_inside_autocast_is_that_outside():
    gradients = []
    for inside in (True, False):
        child, x = make().train(), tokens(3, 6)
        output = child(x, CELL, generator=generator())
        with autocast(torch.device("cpu"), "bf16" if inside else "fp32"):
            output.penalty.backward()
        gradients.append(child.nodes[0]["identity_0"].grad)
    assert torch.equal(*gradients)


# Size.


def test_cell_of_800_units_has_20_80_million_weights_each_used_once_a_token():
    cost = measure_cost(RnnConfig(hidden=800), ENAS, input_shape=(), num_classes=10_000)
    embedding, first, nodes = 10_000 * 800, 1_600 * 1_600, 8 * 800 * 1_600
    assert embedding + first + nodes == 20_800_000
    assert cost == Cost(parameters=20_800_000, flops=20_800_000)  # the softmax is the embedding, and looking up is free


def test_cell_of_850_units_has_the_weights_of_the_published_one_but_for_a_bias():
    cost = measure_cost(RnnConfig(hidden=850), ENAS, input_shape=(), num_classes=10_000)
    assert cost.parameters == 22_960_000 - 10_000


def test_supernet_has_a_matrix_for_each_function_and_earlier_node():
    with torch.device("meta"):
        supernet = RnnConfig().make_child(input_shape=(), num_classes=10_000)
    matrices = 4 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8)
    assert count_parameters(supernet) == 10_000 * 200 + 400 * 400 + matrices * 200 * 400 == 13_680_000
    assert sum(name.startswith("nodes.") for name, _ in supernet.named_parameters()) == matrices


def test_initial_weights_fill_the_configured_range():
    child = make(RnnConfig(hidden=30, init_range=0.2))
    for name, weight in child.named_parameters():
        assert 0.19 < weight.max() <= 0.2, name
        assert -0.2 <= weight.min() < -0.19, name
        assert abs(weight.mean()) < 0.02, name


def test_example_is_single_tokens_of_the_vocabulary():
    example = make().example(500, input_shape=(), generator=generator())
    assert (example.dtype, example.shape) == (torch.int64, (500, 1))
    assert set(example.unique().tolist()) == set(range(VOCABULARY))


# The LSTM.

LSTM = replace(CONFIG, cell="lstm")


def test_lstm_is_pytorchs_between_the_same_embedding_and_softmax():
    child, x = make(replace(LSTM, lstm_units=7), architecture=CELL).double().eval(), tokens(3, 5)
    (w_x, w_h, b_x, b_h), embedding = child.lstm.parameters(), child.embedding
    h = c = torch.zeros(3, 7, dtype=torch.float64)
    logits = []
    for column in range(5):
        i, f, g, o = (embedding[x[:, column]] @ w_x.t() + b_x + h @ w_h.t() + b_h).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        logits.append(h @ embedding.t())
    output = child(x, CELL)
    torch.testing.assert_close(output.logits, torch.stack(logits, dim=1).flatten(0, 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(output.carry, torch.stack([h, c], dim=1), rtol=0, atol=1e-12)
    first = child(x[:, :2], CELL)
    rest = child(x[:, 2:], CELL, carry=first.carry)
    torch.testing.assert_close(rest.carry, output.carry, rtol=0, atol=1e-14)


def test_lstm_has_dropout_and_penalties():
    child, x = make(LSTM, architecture=CELL).train(), tokens(3, 5)
    first, same, other = (child(x, CELL, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.logits, same.logits)
    assert not torch.equal(first.logits, other.logits)
    assert first.penalty > 0


@pytest.mark.parametrize("hidden", [200, 800])
def test_lstm_has_the_most_units_that_the_searched_cells_weights_allow(hidden):
    most = measure_cost(RnnConfig(hidden=hidden), ENAS, input_shape=(), num_classes=10_000).parameters
    config = RnnConfig(hidden=hidden, cell="lstm")
    cost = measure_cost(config, ENAS, input_shape=(), num_classes=10_000)
    units = {200: 235, 800: 1104}[hidden]
    assert cost == Cost(parameters=10_000 * units + 8 * units**2 + 8 * units, flops=10_000 * units + 8 * units**2)
    more = measure_cost(replace(config, lstm_units=units + 1), ENAS, input_shape=(), num_classes=10_000)
    assert cost.parameters <= most < more.parameters


def test_units_that_fit_are_the_most():
    for most in (*range(20, 400), 10**12, 10**12 + 1):
        units = fitting_units(most, vocabulary=3)
        assert 3 * units + 8 * units**2 + 8 * units <= most < 3 * (units + 1) + 8 * (units + 1) ** 2 + 8 * (units + 1)
    assert fitting_units(1, vocabulary=3) == 1


# Errors.


def test_images_and_a_supernet_of_lstms_are_refused():
    with pytest.raises(ValueError, match=r"data: expected a text, .* got images of shape"):
        CONFIG.make_child(input_shape=(3, 8, 8), num_classes=10)
    with pytest.raises(ValueError, match="cell: expected searched, since an LSTM stands for one architecture"):
        LSTM.make_child(input_shape=(), num_classes=10)


@pytest.mark.parametrize("config", [CONFIG, LSTM], ids=["searched", "lstm"])
def test_architectures_of_another_space_and_other_architectures_are_refused(config):
    with pytest.raises(ValueError, match="expected 5 nodes, got 1"):
        make(config, architecture=RnnArchitecture((RnnNode(0, "tanh"),)))
    child = make(config, architecture=CELL).eval()
    assert isinstance(child, LanguageChild)
    with pytest.raises(ValueError, match="own architecture"):
        child(tokens(1, 2), CHAIN)


def test_supernet_equals_the_cells_own_network_over_steps_of_a_text():
    supernet, alone = make().train(), make(architecture=CELL).train()
    copy_inherited(supernet, alone)
    carries = [None, None]
    for step in range(3):
        outputs = [
            child(tokens(3, 5, seed=step), CELL, carry=carry, generator=generator(step))
            for child, carry in zip((supernet, alone), carries, strict=True)
        ]
        assert torch.equal(outputs[0].logits, outputs[1].logits)
        carries = [output.carry for output in outputs]
        for output in outputs:
            training_loss(output, tokens(1, 15)[0], aux_weight=0.0).backward()
    assert torch.equal(carries[0], carries[1])
    weights = dict(supernet.named_parameters())
    assert all(torch.equal(weight.grad, weights[name].grad) for name, weight in alone.named_parameters())
