import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from enas.spaces.graph import Chip
from enas.spaces.nasbench201 import EDGES, OPERATIONS, NasBench201Config, NasBench201Space, live_nodes

SPACE = NasBench201Space()
# Authors: exps/NAS-Bench-201/main.py asserts these of its shuffled list.
OFFICIAL = {
    0: "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    9: "|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
    123: "|avg_pool_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|",
}
TABLE = Path(__file__).parents[2] / "../shared/data/nasbench201.npz"


def test_string_names_the_operations_of_each_node_in_edge_order():
    architecture = SPACE.decode([0, 1, 2, 3, 4, 0])
    assert architecture.operations == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none")
    text = "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"
    assert SPACE.to_text(architecture) == text
    assert SPACE.from_text(f" {text[:20]}\n{text[20:]} ") == architecture


def test_tokens_separated_by_blanks_are_read():
    assert SPACE.from_text("0 1 2 3 4 0") == SPACE.decode([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("index", OFFICIAL)
def test_official_index_is_the_benchmark_own(index):
    assert SPACE.to_text(SPACE.of_official_index(index)) == OFFICIAL[index]
    assert SPACE.official_index(SPACE.from_text(OFFICIAL[index])) == index


def test_official_indices_number_all_cells_once():
    indices = [SPACE.official_index(SPACE.decode(tokens)) for tokens in product(range(5), repeat=6)]
    assert sorted(indices) == list(range(15_625))


def test_official_order_is_that_of_the_published_table():
    if not TABLE.exists():
        pytest.skip("the benchmark's table is not here")
    with np.load(TABLE) as table:
        codes, names = table["codes"], table["ops"].tolist()
    order = [OPERATIONS.index(name) for name in names]
    cells = [SPACE.encode(SPACE.of_official_index(index)) for index in range(len(codes))]
    assert np.array_equal(np.array(order)[codes], cells)


def test_space_has_15625_cells_of_six_independent_operations():
    assert SPACE.log10_size == pytest.approx(math.log10(15_625))
    assert [decision.name for decision in SPACE.decisions] == [
        "edge_0_1",
        "edge_0_2",
        "edge_1_2",
        "edge_0_3",
        "edge_1_3",
        "edge_2_3",
    ]


def test_smallest_skips_everywhere_and_largest_convolves_everywhere():
    assert set(SPACE.smallest().operations) == {"skip_connect"}
    assert set(SPACE.largest().operations) == {"nor_conv_3x3"}


@pytest.mark.parametrize(
    ("tokens", "live"),
    [
        ([3, 3, 3, 3, 3, 3], (True, True, True, True)),
        ([3, 3, 3, 0, 0, 0], (False, False, False, True)),
        ([0, 0, 0, 0, 0, 3], (False, False, True, True)),
        ([3, 3, 0, 0, 1, 0], (True, True, False, True)),
        ([0, 1, 1, 0, 0, 4], (True, True, True, True)),
    ],
)
def test_a_node_lives_where_the_output_depends_on_it(tokens, live):
    assert live_nodes(SPACE.decode(tokens).operations) == live


def test_every_node_of_a_drawing_has_a_chip():
    for cell in (SPACE.graph(SPACE.decode(tokens)).cells[0] for tokens in product((0, 3), repeat=6)):
        assert all(block.chips for block in cell.blocks)


def test_drawing_leaves_out_edges_that_are_none():
    (cell,) = SPACE.graph(SPACE.decode([3, 0, 0, 1, 4, 0])).cells
    assert [block.chips for block in cell.blocks] == [
        (Chip(operation="nor_conv_3x3", source=0),),
        (Chip(operation="none", source=0), Chip(operation="none", source=1)),
        (Chip(operation="skip_connect", source=0), Chip(operation="avg_pool_3x3", source=1)),
    ]
    assert cell.outputs == (3,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SPACE.from_text("mine"), r"nasbench201: expected a cell such as \|operation~0\|\+.*, got 'mine'"),
        (lambda: SPACE.from_text("0 1 2 3 4"), "nasbench201: expected 6 tokens, got 5"),
        (lambda: SPACE.from_text(OFFICIAL[0][:-1]), "nasbench201: expected a cell such as"),
        (lambda: SPACE.from_text(OFFICIAL[0].replace("+", "")), r"nasbench201: expected \|avg_pool_3x3~0\|\+"),
        (lambda: SPACE.from_text(OFFICIAL[0].replace("~2", "~1")), "nasbench201: expected a cell such as"),
        (
            lambda: SPACE.from_text(OFFICIAL[0].replace("nor_conv_1x1", "sep_conv_3x3")),
            "expected operations out of .*'sep_conv_3x3'",
        ),
        (lambda: SPACE.from_json({"operations": ["none"] * 5}), "nasbench201: expected 6 operations, got 5"),
        (lambda: SPACE.from_json({"operations": ["nothing"] * 6}), "expected operations out of none, .* got 'nothing'"),
        (lambda: SPACE.from_json({}), "nasbench201: expected 'operations', a list of 6 names"),
        (lambda: SPACE.of_official_index(15_625), r"expected an index in 0\.\.15624, got 15625"),
        (lambda: NasBench201Config(filters=1), "filters: expected at least 2, got 1"),
        (lambda: NasBench201Config(cells_per_stage=0), "cells_per_stage: expected at least 1, got 0"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_mixed_operations_are_the_decisions():
    assert [mixed.name for mixed in SPACE.mixed_operations] == [f"edge_{a}_{b}" for a, b in EDGES]
    assert {mixed.choices for mixed in SPACE.mixed_operations} == {OPERATIONS}


def test_mixture_stands_for_the_strongest_operation_of_each_edge_the_first_of_equal_ones():
    weights = np.array(
        [
            [0.1, 0.2, 0.3, 0.25, 0.15],
            [0.9, 0.1, 0.0, 0.0, 0.0],
            [0.2, 0.2, 0.2, 0.2, 0.2],
            [0.0, 0.3, 0.2, 0.3, 0.2],
            [-9.0, -3.0, -5.0, -4.0, -2.0],
            [0.0, 0.0, 0.0, 1.0, 0.0],
        ]
    )
    assert SPACE.encode(SPACE.discretize(weights)) == (2, 0, 0, 1, 4, 3)


@pytest.mark.parametrize("shape", [(6, 4), (5, 5), (30,)])
def test_weights_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"nasbench201: expected weights \(6, 5\) of its mixed operations"):
        SPACE.discretize(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    weights = np.zeros((6, 5))
    weights[3, 2] = value
    with pytest.raises(ValueError, match="expected finite weights, got others at edge_0_3"):
        SPACE.discretize(weights)
