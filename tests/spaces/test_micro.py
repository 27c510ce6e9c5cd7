import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enas.spaces.graph import Chip
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import OPERATIONS, MicroArchitecture, MicroConfig, MicroSpace, Node, loose_items

ARC_STRING = "0 2 0 0 2 4 1 1\n1 0 1 0 0 3 2 2"
ARC_TOKENS = (0, 2, 0, 0, 2, 4, 1, 1, 1, 0, 1, 0, 0, 3, 2, 2)
ARC = MicroArchitecture(
    normal=(
        Node(inputs=(0, 0), operations=("avg3x3", "sep3x3")),
        Node(inputs=(2, 1), operations=("identity", "sep5x5")),
    ),
    reduce=(
        Node(inputs=(1, 1), operations=("sep3x3", "sep3x3")),
        Node(inputs=(0, 2), operations=("max3x3", "avg3x3")),
    ),
)


@st.composite
def members(draw):
    space = MicroSpace(draw(st.integers(1, 7)))
    return space, space.decode([draw(st.integers(0, choices - 1)) for choices in space.num_choices.tolist()])


@given(members())
def test_tokens_text_and_json_lead_back_to_the_architecture(member):
    space, architecture = member
    assert space.decode(space.encode(architecture)) == architecture
    assert space.from_text(space.to_text(architecture)) == architecture
    assert space.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


@given(members())
def test_encode_inverts_decode(member):
    space, architecture = member
    tokens = space.encode(architecture)
    assert space.encode(space.decode(tokens)) == tokens
    assert len(tokens) == 8 * space.num_nodes


def test_arc_string_is_index_and_operation_twice_a_node_a_line_a_cell():
    space = MicroSpace(2)
    assert space.decode(ARC_TOKENS) == ARC
    assert space.encode(ARC) == ARC_TOKENS
    assert space.to_text(ARC) == ARC_STRING
    assert space.from_text(ARC_STRING) == space.from_text(ARC_STRING.replace("\n", " ")) == ARC


def test_arc_strings_count_within_the_space_own_operations():
    space = MicroSpace(1, operations=("identity", "sep3x3"))
    assert space.decode([0, 1, 1, 0] * 2).normal == (Node(inputs=(0, 1), operations=("sep3x3", "identity")),)


def test_node_chooses_among_the_inputs_and_the_nodes_before_it():
    space = MicroSpace(5)
    inputs = [decision for decision in space.decisions if decision.kind == "input"]
    per_cell = [2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert [len(decision.choices) for decision in inputs] == 2 * per_cell
    assert inputs[9].choices == ("c_k-2", "c_k-1", "node_0", "node_1", "node_2", "node_3")
    assert space.log10_size == pytest.approx(20 * math.log10(5) + 2 * sum(map(math.log10, per_cell)))


def test_policy_answers_both_inputs_of_a_node_before_its_operations():
    space = MicroSpace(1)
    assert [(decision.name, decision.step) for decision in space.decisions[:4]] == [
        *(("normal/node_0/input_0", 2), ("normal/node_0/op_0", 4), ("normal/node_0/input_1", 3), ("normal/node_0/op_1", 5)),
    ]
    per_cell = ["start", "start", "start", "anchor", "anchor", "choice", "choice"]
    assert [step.input for step in space.steps] == 2 * per_cell
    assert [step.anchor for step in space.steps] == 2 * ["zero", "zero", "none", "none", "none", "none", "value"]


def test_each_cell_points_at_its_own_anchors():
    space = MicroSpace(2)
    anchors = {decision.name: decision.anchors for decision in space.decisions if decision.kind == "input"}
    assert anchors["normal/node_1/input_0"] == anchors["normal/node_1/input_1"] == ((0,), (1,), (6,))
    assert anchors["reduce/node_1/input_0"] == ((12,), (13,), (18,))


def test_prior_of_the_authors_is_a_property_of_the_decisions():
    space = MicroConfig().make_space()
    for decision in space.decisions:
        if decision.kind == "op":
            in_normal_cell = decision.name.startswith("normal")
            assert decision.bias == ((0.25, 0.25, -0.25, -0.25, -0.25) if in_normal_cell else ())
            assert decision.learned_bias == (10.0, 10.0, 0.0, 0.0, 0.0)
            assert decision.tanh_reduce == 2.5
        else:
            assert (decision.bias, decision.learned_bias, decision.tanh_reduce) == ((), (), 1.0)


def test_loose_items_are_those_that_no_node_picks_cell_inputs_included():
    assert loose_items(ARC.normal) == (3,)
    assert loose_items(ARC.reduce) == (3,)
    assert loose_items((Node(inputs=(1, 1), operations=("identity", "identity")),)) == (0, 2)


@pytest.mark.parametrize("num_nodes", [1, 2, 3, 4])
def test_smallest_leaves_one_item_loose_with_the_least_tokens(num_nodes):
    smallest = MicroSpace(num_nodes).smallest()
    choices = [range(2 + node) for node in range(num_nodes) for _ in range(2)]
    best = next(picks for picks in itertools.product(*choices) if set(range(num_nodes + 1)) <= set(picks))
    for nodes in smallest.cells:
        assert tuple(item for node in nodes for item in node.inputs) == best
        assert {operation for node in nodes for operation in node.operations} == {"identity"}


def test_largest_has_the_dearest_operation_and_the_most_loose_items():
    largest = MicroSpace(3).largest()
    assert [len(loose_items(nodes)) for nodes in largest.cells] == [4, 4]
    assert {operation for nodes in largest.cells for node in nodes for operation in node.operations} == {"sep5x5"}
    poor = MicroSpace(2, operations=("max3x3", "identity", "avg3x3"))
    assert poor.largest().normal[0].operations == ("avg3x3", "avg3x3")
    assert poor.smallest().normal[0].operations == ("identity", "identity")


def test_drawing_has_a_block_a_node_with_a_chip_an_operation():
    normal, reduce = MicroSpace(2).graph(ARC).cells
    assert (normal.name, reduce.name) == ("normal cell", "reduction cell")
    assert normal.blocks[1].chips == (Chip(operation="identity", source=2), Chip(operation="sep5x5", source=1))
    assert reduce.outputs == (3,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MicroSpace(0), "num_nodes: expected at least 1, got 0"),
        (lambda: MicroSpace(2, operations=()), r"operations: expected distinct names out of sep3x3, .*, got \[\]"),
        (lambda: MicroSpace(2, operations=("conv3x3",)), r"operations: expected .* got \['conv3x3'\]"),
        (lambda: MicroSpace(2).decode([0] * 15), "micro: expected 16 tokens, got 15"),
        (lambda: MicroSpace(1).decode([2, *[0] * 7]), r"normal/node_0/input_0: expected a token in 0\.\.1, got 2"),
        (lambda: MicroSpace(1).encode(ARC), "normal: expected 1 nodes, got 2"),
        (lambda: MicroSpace(2, operations=("sep3x3",)).encode(ARC), "normal/node_0: expected two operations out of sep3x3"),
        (lambda: MicroSpace(2).from_json({"normal": []}), "micro: expected 'normal' and 'reduce', lists of nodes"),
        (lambda: MicroConfig(num_layers=0), "num_layers: expected at least 1, got 0"),
        (lambda: MicroConfig(filters=1), "filters: expected at least 2, got 1"),
        (lambda: MicroConfig(keep_prob=0), r"keep_prob: expected a probability in \(0, 1\], got 0"),
        (lambda: MicroConfig(final="mine"), "final: expected searched or authors, got 'mine'"),
        (lambda: MicroConfig(op_tanh_reduce=0), "op_tanh_reduce: expected a number above 0, got 0"),
        (lambda: MicroConfig(op_tanh_reduce=math.nan), "op_tanh_reduce: expected a number above 0, got nan"),
        (lambda: MicroConfig(soft_bias=math.inf), "soft_bias: expected a finite number, got inf"),
        (lambda: MicroConfig().for_text("0 1 2"), r"micro: expected 8 numbers for each node \(8, 16, 24, ...\), got 3"),
        (lambda: MicroConfig().rescale(ARC, MacroConfig()), "micro: expected a micro configuration, got MacroConfig"),
        (lambda: MicroConfig(num_nodes=2).rescale(ARC, MicroConfig()), "normal: expected 5 nodes, got 2"),
    ],
)
def test_what_is_no_member_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_node_inputs_out_of_range_are_refused():
    nodes = (Node(inputs=(0, 2), operations=("identity", "identity")),)
    with pytest.raises(ValueError, match=r"normal/node_0: expected two inputs in 0\.\.1, got \[0, 2\]"):
        MicroSpace(1).encode(MicroArchitecture(normal=nodes, reduce=nodes))


def test_text_tells_the_number_of_nodes_and_width_does_not_matter():
    config = MicroConfig(filters=8).for_text(ARC_STRING)
    assert config == MicroConfig(filters=8, num_nodes=2)
    deeper = MicroConfig(num_nodes=2, num_layers=15, filters=36, soft_bias=0, fixed_bias=0)
    assert config.rescale(ARC, deeper) == ARC


def test_supernet_of_the_authors_final_network_is_refused():
    with pytest.raises(
        ValueError, match="final: expected searched, since the authors' final network is that of one architecture"
    ):
        MicroConfig(final="authors").make_child(input_shape=(3, 32, 32), num_classes=10)


def test_operations_are_in_the_authors_order():
    assert OPERATIONS == ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity")
