import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enas.draw.checks import check_drawing
from enas.spaces.darts import (
    OPERATIONS,
    DartsArchitecture,
    DartsConfig,
    DartsSpace,
    Node,
    multiply_adds,
    reduction_cells,
)
from enas.spaces.graph import Chip
from enas.spaces.micro import MicroConfig

TOKENS = (0, 4, 3, 2, 7, 1, 0, 0, 2, 1, 3, 6)
CELLS = DartsArchitecture(
    normal=(
        Node(inputs=(0, 1), operations=("sep_conv_3x3", "skip_connect")),
        Node(inputs=(1, 2), operations=("dil_conv_5x5", "max_pool_3x3")),
    ),
    reduce=(
        Node(inputs=(0, 1), operations=("none", "avg_pool_3x3")),
        Node(inputs=(0, 2), operations=("skip_connect", "dil_conv_3x3")),
    ),
)
TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 1), ('max_pool_3x3', 2)], "
    "normal_concat=range(2, 4), "
    "reduce=[('none', 0), ('avg_pool_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)], reduce_concat=range(2, 4))"
)


def genotype(normal, reduce=None, *, normal_concat="[2]", reduce_concat="[2]"):
    """Return the text of a genotype; the reduction cell is the normal one unless it is given."""
    reduce = normal if reduce is None else reduce
    return f"Genotype(normal={normal}, normal_concat={normal_concat}, reduce={reduce}, reduce_concat={reduce_concat})"


ONE_NODE = "[('skip_connect', 0), ('sep_conv_3x3', 1)]"

# Cells of other spaces in the same text (authors: `cnn/genotypes.py`).
NASNET = """NASNet = Genotype(
  normal = [
    ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0), ('avg_pool_3x3', 1),
    ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 1),
  ],
  normal_concat = [2, 3, 4, 5, 6],
  reduce = [
    ('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1),
    ('sep_conv_5x5', 0), ('skip_connect', 3), ('avg_pool_3x3', 2), ('sep_conv_3x3', 2), ('max_pool_3x3', 1),
  ],
  reduce_concat = [4, 5, 6],
)"""
AMOEBANET = """AmoebaNet = Genotype(
  normal = [
    ('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0),
    ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0), ('avg_pool_3x3', 1),
  ],
  normal_concat = [4, 5, 6],
  reduce = [
    ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_7x7', 2), ('sep_conv_7x7', 0),
    ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5),
  ],
  reduce_concat = [3, 4, 6]
)"""


@st.composite
def members(draw):
    space = DartsSpace(draw(st.integers(1, 6)))
    return space, space.decode([draw(st.integers(0, choices - 1)) for choices in space.num_choices.tolist()])


@given(members())
def test_tokens_text_and_json_lead_back_to_the_architecture(member):
    space, architecture = member
    tokens = space.encode(architecture)
    assert len(tokens) == 6 * space.num_nodes
    assert space.decode(tokens) == architecture
    assert space.from_text(space.to_text(architecture)) == architecture
    assert space.from_text(" ".join(map(str, tokens))) == architecture
    assert space.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture


def test_tokens_are_pair_and_operations_of_each_node_the_lower_items_first():
    space = DartsSpace(2)
    assert space.decode(TOKENS) == CELLS
    assert space.encode(CELLS) == TOKENS
    assert space.to_text(CELLS) == TEXT


def test_tokens_count_within_the_space_own_operations():
    space = DartsSpace(1, operations=("skip_connect", "sep_conv_3x3"))
    assert space.decode([0, 1, 0] * 2).normal == (Node(inputs=(0, 1), operations=("sep_conv_3x3", "skip_connect")),)


def test_node_chooses_among_all_pairs_of_the_items_before_it():
    space = DartsSpace(4)
    pairs = [decision for decision in space.decisions if decision.kind == "pair"]
    assert [len(decision.choices) for decision in pairs] == 2 * [1, 3, 6, 10]
    assert pairs[1].choices == ("c_k-2+c_k-1", "c_k-2+node_0", "c_k-1+node_0")
    assert space.log10_size == pytest.approx(2 * math.log10(1 * 3 * 6 * 10) + 16 * math.log10(8))


def test_policy_answers_a_pair_before_both_operations_and_points_within_the_cell():
    space = DartsSpace(2)
    assert [(decision.name, decision.step) for decision in space.decisions[:4]] == [
        ("normal/node_0/pair", 2),
        ("normal/node_0/op_0", 3),
        ("normal/node_0/op_1", 4),
        ("normal/node_1/pair", 6),
    ]
    per_node = ["start", "anchor", "choice", "choice"]
    assert [step.input for step in space.steps] == 2 * ["start", "start", *per_node, *per_node]
    assert [step.anchor for step in space.steps] == 2 * ["zero", "zero", *2 * ["none", "none", "none", "value"]]
    anchors = {decision.name: decision.anchors for decision in space.decisions if decision.kind == "pair"}
    assert anchors["normal/node_1/pair"] == ((0, 1), (0, 5), (1, 5))
    assert anchors["reduce/node_1/pair"] == ((10, 11), (10, 15), (11, 15))


def test_operations_are_in_the_authors_order():
    assert " ".join(OPERATIONS) == (
        "none max_pool_3x3 avg_pool_3x3 skip_connect sep_conv_3x3 sep_conv_5x5 dil_conv_3x3 dil_conv_5x5"
    )


@pytest.mark.parametrize(("num_layers", "cells"), [(3, (1, 2)), (4, (1, 2)), (5, (1, 3)), (8, (2, 5)), (20, (6, 13))])
def test_reduction_cells_are_at_a_third_and_two_thirds(num_layers, cells):
    assert reduction_cells(num_layers) == cells


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"MINE={TEXT}\n",
        TEXT.replace("range(2, 4)", "[3, 2]"),
        TEXT.replace("('sep_conv_3x3', 0), ('skip_connect', 1)", "('skip_connect', 1), ('sep_conv_3x3', 0)"),
        "  mine =\n\n" + TEXT.replace(" ", "\n\t").replace("(", "(\n").replace("Genotype(", "Genotype\n(") + "  # found here",
        TEXT.replace("[(", "((").replace(")]", "),)"),
    ],
)
def test_genotype_is_read_in_every_spelling(text):
    assert DartsSpace(2).from_text(text) == CELLS
    assert DartsConfig(filters=8).for_text(text) == DartsConfig(filters=8, num_nodes=2)


def test_text_is_read_without_being_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ("open('made', 'w')", "[('skip_connect', open('made', 'w')), ('none', 1)]", "(lambda: open('made', 'w'))()"):
        with pytest.raises(ValueError, match=r"normal: expected a list of \(operation, item\), got .*open\('made'"):
            DartsSpace(1).from_text(genotype(part))
    for text in ("open('made', 'w') or Genotype()", "Genotype() if open('made', 'w') else 1", "(Genotype)(*open('made', 'w'))"):
        with pytest.raises(ValueError, match="expected"):
            DartsSpace(1).from_text(text)
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NASNET, "darts: expected operations out of none, .*, got sep_conv_7x7$"),
        (AMOEBANET, "darts: expected operations out of none, .*, got sep_conv_7x7, conv_7x1_1x7$"),
        (NASNET.replace("7x7", "5x5"), r"normal/node_1: expected two distinct items in 0\.\.2, ascending, got \[0, 0\]"),
        (
            genotype("[('none', 0), ('none', 2)]"),
            r"normal/node_0: expected two distinct items in 0\.\.1, ascending, got \[0, 2\]",
        ),
        (genotype("[('none', -1), ('none', 1)]"), r"normal/node_0: expected two distinct items .*, got \[-1, 1\]"),
        (genotype(ONE_NODE, normal_concat="[1, 2]"), r"normal_concat: expected every node, \[2\], got \[1, 2\]"),
        (genotype(ONE_NODE, reduce_concat="[]"), r"reduce_concat: expected every node, \[2\], got \[\]"),
        (
            genotype(ONE_NODE, reduce_concat="range(2, 10 ** 30)"),
            r"reduce_concat: expected a list of items or range\(first, end\)",
        ),
        (genotype(ONE_NODE, reduce_concat=f"range(2, {10**30})"), rf"expected every node, \[2\], got range\(2, {10**30}\)"),
        (genotype(ONE_NODE, normal_concat="range(2, 3, 0)"), "normal_concat: expected a list of items or range"),
        (genotype(ONE_NODE, normal_concat="range()"), "normal_concat: expected a list of items or range"),
        (genotype(ONE_NODE, normal_concat="[2.0]"), r"normal_concat: expected a list of items .*, got \[2\.0\]"),
        (genotype(ONE_NODE, "[('none', 0)]"), "reduce: expected 2 entries for each node, got 1"),
        (genotype(ONE_NODE, "[]"), "reduce: expected 1 nodes, got 0"),
        (genotype("[]"), "num_nodes: expected at least 1, got 0"),
        (genotype("[('none', True), ('none', 1)]"), r"normal: expected a list of \(operation, item\), got \[\('none', True\)"),
        (genotype("['none', 'none']"), r"normal: expected a list of \(operation, item\), got \['none', 'none'\]"),
        (genotype("None"), r"normal: expected a list of \(operation, item\), got None"),
        ("Genotype(normal=[])", "Genotype: expected normal, normal_concat, reduce, reduce_concat, got normal$"),
        ("Genotype([], [2], [], [2])", r"Genotype: expected normal, .*, got \[\], \[2\], \[\], \[2\]"),
        ("Genotype(**{})", "Genotype: expected normal, .*, got None"),
        ("Genotype()", "Genotype: expected normal, .*, got nothing"),
        ("Genotype(normal=[", r"expected Genotype\(normal=.*, got 'Genotype\(normal=\['"),
        ("Genotype", r"expected Genotype\(normal=.*, got 'Genotype'"),
        ("genotype.Genotype()", r"expected Genotype\(normal=.*, got 'genotype\.Genotype\(\)'"),
        ("Genotype()\x00", r"expected Genotype\(normal="),
        ("Genotype(" + 500 * "(", r"expected Genotype\(normal="),
        ("darts", r"expected Genotype\(normal=.*, got 'darts'"),
        ("0 1 2", r"darts: expected 6 numbers for each node \(6, 12, \.\.\.\), got 3"),
        ("", r"darts: expected 6 numbers for each node \(6, 12, \.\.\.\), got 0"),
    ],
)
def test_text_that_is_no_member_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=message):
        DartsConfig().for_text(text).make_space().from_text(text)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DartsSpace(0), "num_nodes: expected at least 1, got 0"),
        (lambda: DartsSpace(2, operations=()), r"operations: expected distinct names out of none, .*, got \[\]"),
        (lambda: DartsSpace(2, operations=("none",)), r"operations: .*, not none alone, got \['none'\]"),
        (lambda: DartsSpace(2, operations=("conv_3x3",)), r"operations: expected .* got \['conv_3x3'\]"),
        (lambda: DartsSpace(2, operations=("skip_connect",) * 2), "operations: expected distinct names"),
        (lambda: DartsSpace(2).decode([0] * 11), "darts: expected 12 tokens, got 11"),
        (lambda: DartsSpace(1).decode([1, *[0] * 5]), r"normal/node_0/pair: expected a token in 0\.\.0, got 1"),
        (lambda: DartsSpace(1).encode(CELLS), "normal: expected 1 nodes, got 2"),
        (
            lambda: DartsSpace(2, operations=("none", "skip_connect")).encode(CELLS),
            "darts: expected operations out of none, skip_connect, got sep_conv_3x3, dil_conv_5x5, max_pool_3x3, avg_pool_3x3",
        ),
        (lambda: DartsSpace(2).from_json({"normal": []}), "darts: expected 'normal' and 'reduce', lists of nodes"),
        (lambda: DartsSpace(1).from_json(json_of([0.0, 1.0])), "darts: expected 'normal' and 'reduce', lists of nodes"),
        (lambda: DartsSpace(1).from_json(json_of([float("inf"), 1])), "darts: expected 'normal' and 'reduce', lists of nodes"),
        (lambda: DartsSpace(1).from_json(json_of([1, 0])), r"normal/node_0: expected two distinct items .* got \[1, 0\]"),
        (lambda: DartsSpace(1).from_json(json_of([0, 1], [["none"], "none"])), r"expected operations .*, got \['none'\]"),
        (lambda: DartsConfig(num_layers=2), "num_layers: expected at least 3, got 2"),
        (lambda: DartsConfig(filters=1), "filters: expected at least 2, got 1"),
        (lambda: DartsConfig(keep_prob=0), r"keep_prob: expected a probability in \(0, 1\], got 0"),
        (lambda: DartsConfig(operations=("none",)), "operations: expected distinct names"),
        (lambda: DartsConfig().rescale(CELLS, MicroConfig()), "darts: expected a darts configuration, got MicroConfig"),
        (lambda: DartsConfig(num_nodes=2).rescale(CELLS, DartsConfig()), "normal: expected 4 nodes, got 2"),
    ],
)
def test_what_is_no_member_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def json_of(inputs, operations=("none", "none")):
    nodes = [{"inputs": inputs, "operations": operations}]
    return {"normal": nodes, "reduce": nodes}


def test_width_and_depth_do_not_matter_to_an_architecture():
    assert DartsConfig(num_nodes=2).rescale(CELLS, DartsConfig(num_nodes=2, num_layers=20, filters=36)) == CELLS
    assert DartsConfig(num_nodes=4).for_text(" ".join(map(str, TOKENS))).num_nodes == 2


def test_multiply_adds_of_a_pixel_are_the_weights_of_an_operations_convolutions():
    at_stride_1 = {operation: multiply_adds(operation, 10, stride=1) for operation in OPERATIONS}
    assert at_stride_1 == {
        **dict.fromkeys(OPERATIONS, 0),
        "sep_conv_3x3": 2 * (90 + 100),
        "sep_conv_5x5": 2 * (250 + 100),
        "dil_conv_3x3": 90 + 100,
        "dil_conv_5x5": 250 + 100,
    }
    assert {name: multiply_adds(name, 10, stride=2) for name in OPERATIONS} == {**at_stride_1, "skip_connect": 2 * 10 * 5}


def test_smallest_skips_where_that_is_free_and_pools_where_a_skip_is_a_reduction():
    smallest = DartsSpace(4).smallest()
    assert smallest.normal == (Node(inputs=(0, 1), operations=("skip_connect", "skip_connect")),) * 4
    assert smallest.reduce == (
        Node(inputs=(0, 1), operations=("max_pool_3x3", "max_pool_3x3")),
        Node(inputs=(0, 2), operations=("max_pool_3x3", "skip_connect")),
        *(Node(inputs=(2, 3), operations=("skip_connect", "skip_connect")),) * 2,
    )
    without_poolings = DartsSpace(2, operations=("sep_conv_3x3", "skip_connect")).smallest()
    assert without_poolings.reduce == (
        Node(inputs=(0, 1), operations=("skip_connect", "skip_connect")),
        Node(inputs=(0, 2), operations=("skip_connect", "skip_connect")),
    )


def test_largest_has_the_dearest_operation_and_never_none():
    assert {name for cell in DartsSpace(4).largest().cells for node in cell for name in node.operations} == {"sep_conv_5x5"}
    poor = DartsSpace(2, operations=("max_pool_3x3", "skip_connect", "none")).largest()
    assert {name for node in poor.normal for name in node.operations} == {"max_pool_3x3"}
    assert poor.reduce == (
        Node(inputs=(0, 1), operations=("skip_connect", "skip_connect")),
        Node(inputs=(0, 1), operations=("skip_connect", "skip_connect")),
    )


def test_drawing_has_a_block_a_node_with_a_chip_an_operation():
    graph = DartsSpace(2).graph(CELLS)
    normal, reduce = graph.cells
    assert (normal.name, reduce.name) == ("normal cell", "reduction cell")
    assert normal.blocks[1].chips == (Chip(operation="dil_conv_5x5", source=1), Chip(operation="max_pool_3x3", source=2))
    assert reduce.blocks[0].chips == (Chip(operation="none", source=0), Chip(operation="avg_pool_3x3", source=1))
    assert normal.outputs == reduce.outputs == (2, 3)
    check_drawing(DartsSpace(2).graph(DartsSpace(2).decode([0] * 12)))  # none everywhere is drawn, too


def test_mixed_operations_are_all_edges_of_both_cells():
    """14 edges a cell at four nodes, as in the authors' `alphas_normal` and `alphas_reduce`."""
    mixed = DartsConfig().make_space().mixed_operations
    assert len(mixed) == 2 * 14
    assert {place.choices for place in mixed} == {OPERATIONS}
    names = [f"node_{node}/item_{item}" for node in range(4) for item in range(2 + node)]
    assert [place.name for place in mixed] == [f"{cell}/{name}" for cell in ("normal", "reduce") for name in names]


def published_rule(weights, operations, num_nodes):
    """What `genotype` of the authors' model_search.py does to softmax weights, by the definition: brute force over pairs."""
    real = [index for index, operation in enumerate(operations) if operation != "none"]
    nodes, row = [], 0
    for node in range(num_nodes):
        rows = [weights[row + item] for item in range(2 + node)]
        row += 2 + node
        strength = [max(values[index] for index in real) for values in rows]
        pairs = itertools.combinations(range(2 + node), 2)
        low, high = max(pairs, key=lambda pair: sorted((strength[item] for item in pair), reverse=True))
        best = [operations[max(real, key=lambda index: rows[item][index])] for item in (low, high)]
        nodes.append(Node(inputs=(low, high), operations=tuple(best)))
    return tuple(nodes)


@pytest.mark.parametrize("operations", [OPERATIONS, OPERATIONS[1:], ("skip_connect", "none", "sep_conv_3x3"), ("sep_conv_5x5",)])
@pytest.mark.parametrize("num_nodes", [1, 2, 4])
def test_mixture_stands_for_the_two_strongest_edges_of_each_node(operations, num_nodes):
    space = DartsSpace(num_nodes, operations=operations)
    rng = np.random.default_rng(num_nodes)
    for _ in range(10):
        weights = rng.dirichlet(np.ones(len(operations)), size=len(space.mixed_operations))
        architecture = space.discretize(weights)
        halves = np.split(weights, 2)
        assert architecture.normal == published_rule(halves[0], operations, num_nodes)
        assert architecture.reduce == published_rule(halves[1], operations, num_nodes)
        space.encode(architecture)


def test_none_is_in_no_cell_however_strong_and_ties_go_to_the_first():
    space = DartsSpace(2)
    weights = np.zeros((10, 8))
    weights[:, 0] = 1.0  # none
    weights[4, 5] = 0.5  # normal cell, node 1, item 2
    architecture = space.discretize(weights)
    pools = ("max_pool_3x3", "max_pool_3x3")
    assert architecture.normal[0] == Node(inputs=(0, 1), operations=pools)
    assert architecture.normal[1] == Node(inputs=(0, 2), operations=("max_pool_3x3", "sep_conv_5x5"))
    assert architecture.reduce == (Node(inputs=(0, 1), operations=pools),) * 2


def test_micro_space_says_why_it_has_no_mixtures():
    space = MicroConfig().make_space()
    assert space.mixed_operations == ()
    with pytest.raises(
        ValueError, match="expected a space with mixtures, but its cell puts out the nodes that no other node picks"
    ):
        space.discretize(np.zeros((1, 1)))
