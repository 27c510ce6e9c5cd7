import json
import math
from itertools import product

import pytest

from enas.draw import to_dot
from enas.published import PUBLISHED
from enas.spaces.rnn import FUNCTIONS, RnnArchitecture, RnnConfig, RnnNode, RnnSpace, read_genotype

ENAS = PUBLISHED["enas-rnn"].text
SPACE = RnnSpace(8)


def test_arc_string_gives_each_node_its_previous_one_and_its_function_in_the_authors_order():
    assert FUNCTIONS == ("tanh", "relu", "sigmoid", "identity")
    architecture = RnnSpace(3).from_text("0 2 1 0 2 3")
    assert architecture == RnnArchitecture((RnnNode(0, "sigmoid"), RnnNode(1, "tanh"), RnnNode(2, "identity")))
    assert RnnSpace(3).to_text(architecture) == "0 2 1 0 2 3"


def test_space_has_the_members_that_its_decisions_span():
    space = RnnSpace(2)
    members = {space.decode(tokens) for tokens in product(*map(range, space.num_choices.tolist()))}
    assert len(members) == 1 * 4 * 2 * 4
    assert SPACE.log10_size == pytest.approx(math.log10(math.factorial(8) * 4**8))


def test_genotype_is_read_and_written():
    architecture = SPACE.from_text(ENAS)
    text = architecture.to_genotype()
    assert text.startswith("Genotype(recurrent=[('sigmoid', 0), ('tanh', 1), ('relu', 2), ")
    assert text.endswith("('sigmoid', 6)], concat=range(1, 9))")
    assert SPACE.from_text(text) == architecture
    listed = text.replace("range(1, 9)", "[1, 2, 3, 4, 5, 6, 7, 8]").replace("recurrent=[(", "recurrent = [\n  (")
    assert SPACE.from_text(f"  MINE = {listed}\n") == architecture


def test_text_tells_the_number_of_nodes():
    assert RnnConfig().for_text("0 0 1 1 1 0").num_nodes == 3
    assert RnnConfig(hidden=7).for_text("Genotype(recurrent=[('tanh', 0)], concat=range(1, 2))") == RnnConfig(
        hidden=7, num_nodes=1
    )
    with pytest.raises(ValueError, match="expected 2 numbers for each node, got 3"):
        RnnConfig().for_text("0 0 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=[2])",
            r"the mean of the nodes 1 to 2 as output, got concat \[2\]",
        ),
        ("Genotype(recurrent=[('tanh', 1)], concat=range(1, 2))", "node_1: expected a previous node in 0..0, got 1"),
        ("Genotype(recurrent=[('swish', 0)], concat=range(1, 2))", "node_1: expected a function out of tanh, .*, got 'swish'"),
        ("Genotype(recurrent=[('tanh', True)], concat=range(1, 2))", r"recurrent: expected a list of \(operation, item\)"),
        ("Genotype(normal=[('tanh', 0)])", "Genotype: expected recurrent, concat, got normal"),
        ("Genotype(recurrent=[('tanh', 0)], concat=range(10**12))", "concat: expected a list of items or range"),
        ("Genotype(recurrent=[('tanh', 0)], concat=range(1, 1000000000000))", "nodes 1 to 1 as output, got concat range"),
        ("recurrent=[('tanh', 0)]", "expected numbers, or Genotype"),
        ("__import__('os').getcwd()", "expected numbers, or Genotype"),
        ("Genotype(recurrent=[('tanh', 0)], concat=range(1", "expected numbers, or Genotype"),
        ("0 4", r"node_1/function: expected a token in 0\.\.3, got 4"),
        ("1 0", r"node_1/previous: expected a token in 0\.\.0, got 1"),
    ],
)
def test_text_that_is_no_member_is_refused_and_the_part_named(text, message):
    with pytest.raises(ValueError, match=message):
        RnnSpace(1).from_text(text)


def test_cell_of_another_number_of_nodes_is_refused():
    cell = RnnArchitecture((RnnNode(0, "tanh"),) * 2)
    for read in (RnnSpace(1).encode, lambda one: RnnSpace(1).from_text(one.to_genotype()), RnnSpace(3).graph):
        with pytest.raises(ValueError, match=r"rnn: expected \d nodes, got 2"):
            read(cell)
    with pytest.raises(ValueError, match="expected 2 tokens, got 4"):
        RnnSpace(1).from_text("0 0 1 0")


@pytest.mark.parametrize(
    "data", [{}, {"nodes": [{"previous": 0}]}, {"nodes": [{"previous": 0.0, "function": "tanh"}]}, {"nodes": 3}]
)
def test_json_of_something_else_is_refused(data):
    with pytest.raises(ValueError, match="rnn: expected nodes with a previous node and a function each"):
        RnnSpace(1).from_json(data)


def test_functions_may_be_fewer_and_tokens_count_within_them():
    space = RnnSpace(2, functions=("relu", "tanh"))
    architecture = space.from_text("0 1 1 0")
    assert [node.function for node in architecture.nodes] == ["tanh", "relu"]
    assert space.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture
    assert RnnSpace(2).encode(architecture) == (0, 0, 1, 1)
    with pytest.raises(ValueError, match="a function out of relu, tanh, got 'sigmoid'"):
        space.from_text("Genotype(recurrent=[('tanh', 0), ('sigmoid', 1)], concat=range(1, 3))")


def test_previous_nodes_come_first_with_a_prior_on_their_distance_and_functions_are_tied():
    decisions = RnnSpace(3).decisions
    assert [decision.name.partition("/")[2] for decision in decisions] == ["previous", "function"] * 3
    assert decisions[4].choices == ("node_0", "node_1", "node_2")
    assert decisions[4].bias == pytest.approx((-9 / 6, -4 / 6, -1 / 6))
    assert [decision.tied for decision in decisions] == [False, True] * 3
    steps = RnnSpace(2).steps
    assert [step.input for step in steps] == ["none", "start", "anchor_by_distance", "choice", "anchor_by_distance"]
    assert [step.anchor for step in steps] == ["zero", "value", "none", "value", "none"]


def test_no_cell_is_the_smallest_or_degenerate_since_all_cost_the_same():
    for extreme in (SPACE.smallest, SPACE.largest):
        with pytest.raises(ValueError, match="all of the space rnn cost the same"):
            extreme()
    assert SPACE.degeneracy(SPACE.from_text("0 3 0 3 0 3 0 3 0 3 0 3 0 3 0 3")) is None


def test_drawing_shows_what_each_node_reads_and_that_the_mean_is_of_all():
    graph = RnnSpace(3).graph(RnnSpace(3).from_text("0 2 0 1 1 3"))
    assert [node.label for node in graph.nodes] == [
        "node 0\ntanh",
        "node 1\nsigmoid",
        "node 2\nrelu",
        "node 3\nidentity",
        "mean of\nnodes 1-3",
    ]
    assert set(graph.edges) == {(0, 1), (0, 2), (1, 3), (3, 4)}
    assert RnnSpace(1).graph(RnnSpace(1).from_text("0 0")).nodes[-1].label == "mean of\nnode 1"
    assert "nodes 1-3" in to_dot(graph)


def test_same_cell_at_another_width_is_itself_and_of_another_space_refused():
    cell = SPACE.from_text(ENAS)
    assert RnnConfig().rescale(cell, RnnConfig(hidden=800)) is cell
    with pytest.raises(ValueError, match="expected 4 nodes, got 8"):
        RnnConfig().rescale(cell, RnnConfig(num_nodes=4))
    with pytest.raises(ValueError, match="expected a recurrent configuration, got str"):
        RnnConfig().rescale(cell, "macro")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_nodes": 0}, "num_nodes: expected at least 1, got 0"),
        ({"hidden": 0}, "hidden: expected at least 1, got 0"),
        ({"functions": ("tanh", "swish")}, "functions: expected distinct names out of tanh"),
        ({"functions": ("tanh", "tanh")}, "functions: expected distinct names"),
        ({"functions": ()}, "functions: expected distinct names"),
        ({"state_dropout": 1.0}, r"state_dropout: expected a share in \[0, 1\), got 1.0"),
        ({"word_dropout": -0.1}, "word_dropout: expected a share"),
        ({"slowness_penalty": -1.0}, "slowness_penalty: expected a finite number of at least 0"),
        ({"activation_penalty": math.inf}, "activation_penalty: expected a finite number of at least 0, got inf"),
        ({"init_range": 0.0}, "init_range: expected a finite number above 0"),
        ({"init_range": math.inf}, "init_range: expected a finite number above 0, got inf"),
        ({"cell": "gru"}, "cell: expected searched or lstm, got 'gru'"),
        ({"lstm_units": 20}, "lstm_units: expected at least 1 or None, with --child.cell lstm, got 20"),
        ({"cell": "lstm", "lstm_units": 0}, "lstm_units: expected at least 1 or None"),
    ],
)
def test_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RnnConfig(**settings)


def test_defaults_are_those_of_the_authors_search():
    config = RnnConfig()
    assert (config.hidden, config.init_range) == (200, 0.04)
    rates = ("word", "embedding", "input", "state", "output")
    assert [getattr(config, f"{name}_dropout") for name in rates] == [0.1, 0.2, 0.75, 0.25, 0.75]
    assert (config.activation_penalty, config.slowness_penalty) == (0.0, 1.0)


def test_nodes_of_a_genotype_are_pairs_of_previous_and_function():
    assert read_genotype("Genotype(recurrent=[('relu', 0), ('tanh', 1)], concat=range(1, 3))") == [(0, "relu"), (1, "tanh")]
