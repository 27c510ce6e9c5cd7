import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enas.children.cost import measure_cost
from enas.spaces import SPACES
from enas.spaces.macro import OPERATIONS, MacroArchitecture, MacroConfig, MacroSpace, deepen

ARC_STRING = "0\n3 1\n5 0 1\n2 1 1 0"
ARC_TOKENS = (0, 3, 1, 5, 0, 1, 2, 1, 1, 0)
ARC = MacroArchitecture(operations=("conv3x3", "sep5x5", "max3x3", "conv5x5"), skips=((), (0,), (1,), (0, 1)))


@st.composite
def members(draw):
    space = MacroSpace(draw(st.integers(1, 8)))
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
    assert len(tokens) == space.num_layers * (space.num_layers + 1) // 2


def test_arc_string_is_a_line_a_layer_operation_then_skip_bits():
    space = MacroSpace(4)
    assert space.decode(ARC_TOKENS) == ARC
    assert space.encode(ARC) == ARC_TOKENS
    assert space.to_text(ARC) == ARC_STRING
    assert space.from_text(ARC_STRING) == space.from_text(ARC_STRING.replace("\n", " ")) == ARC
    assert ARC.to_json() == {"operations": ["conv3x3", "sep5x5", "max3x3", "conv5x5"], "skips": [[], [0], [1], [0, 1]]}


def test_arc_strings_count_within_the_space_own_operations():
    space = MacroSpace(2, operations=("max3x3", "conv3x3"))
    assert space.decode([1, 0, 1]) == MacroArchitecture(operations=("conv3x3", "max3x3"), skips=((), (0,)))


def test_decisions_are_in_the_order_of_the_authors():
    space = MacroSpace(3)
    assert [decision.name for decision in space.decisions] == [
        *("layer_0/op", "layer_1/op", "layer_1/skip_0"),
        *("layer_2/op", "layer_2/skip_0", "layer_2/skip_1"),
    ]
    assert [decision.step for decision in space.decisions] == [0, 2, 3, 4, 5, 5]
    assert [step.input for step in space.steps] == ["start", "choice", "start", "choice", "anchors_mean", "choice"]
    assert [step.anchor for step in space.steps] == ["none", "value"] * 3
    assert [decision.anchors for decision in space.decisions if decision.kind == "skip"] == [
        *(((), (1,)), ((), (1,)), ((), (3,))),
    ]


def test_twelve_layers_have_78_decisions():
    space = MacroSpace(12)
    assert space.num_choices.tolist().count(6) == 12
    assert space.num_choices.tolist().count(2) == 66
    assert space.log10_size == pytest.approx(12 * math.log10(6) + 66 * math.log10(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MacroSpace(0), "num_layers: expected at least 1, got 0"),
        (lambda: MacroSpace(2, operations=()), r"operations: expected distinct names out of conv3x3, .*, got \[\]"),
        (lambda: MacroSpace(2, operations=("conv7x7",)), r"operations: expected .* got \['conv7x7'\]"),
        (lambda: MacroSpace(2, operations=("conv3x3", "conv3x3")), "operations: expected distinct names"),
        (lambda: MacroSpace(4).decode(ARC_TOKENS[:-1]), "macro: expected 10 tokens, got 9"),
        (lambda: MacroSpace(2).decode([6, 0, 0]), r"layer_0/op: expected a token in 0\.\.5, got 6"),
        (lambda: MacroSpace(2).decode([0, 0, 2]), r"layer_1/skip_0: expected a token in 0\.\.1, got 2"),
        (lambda: MacroSpace(2).from_text("0\n0 a"), "macro: expected whole numbers separated by blanks, got 'a'"),
        (lambda: MacroSpace(3).encode(ARC), "macro: expected 3 operations and skip lists, got 4 and 4"),
        (
            lambda: MacroSpace(4, operations=("conv3x3",)).encode(ARC),
            "layer 1: expected an operation out of conv3x3, got 'sep5x5'",
        ),
        (lambda: MacroSpace(1).from_json({}), r"macro: expected 'operations' \(names\) and 'skips' \(lists of sources\), got {}"),
        (lambda: MacroSpace(1).from_json({"operations": ["conv3x3"], "skips": [["x"]]}), "macro: expected 'operations'"),
        (lambda: MacroSpace(1).from_json({"operations": ["conv3x3"], "skips": [[0]]}), "layer 0: expected distinct skip sources"),
        (lambda: MacroSpace(1).from_json({"operations": ["conv3x3"], "skips": []}), "expected 1 operations .* got 1 and 0"),
        (lambda: MacroSpace(1).graph(ARC), "macro: expected 1 operations"),
        (lambda: MacroConfig(filters=1), "filters: expected at least 2, got 1"),
        (lambda: MacroConfig(keep_prob=0.0), r"keep_prob: expected a probability in \(0, 1\], got 0.0"),
        (lambda: MacroConfig(num_layers=0), "num_layers: expected at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("sources", [(1, 0), (0, 0), (-1,), (2,)])
def test_skip_sources_that_no_tokens_can_say_are_refused(sources):
    architecture = MacroArchitecture(operations=("conv3x3",) * 3, skips=((), (), sources))
    with pytest.raises(ValueError, match="layer 2: expected distinct skip sources below 2, sorted, got"):
        MacroSpace(3).encode(architecture)


def test_json_takes_skip_sources_in_any_order():
    space = MacroSpace(3)
    data = {"operations": ["conv3x3"] * 3, "skips": [[], [0], [1, 0, 1]]}
    assert space.from_json(data).skips == ((), (0,), (0, 1))


@pytest.mark.parametrize(
    ("num_layers", "operations"),
    [
        pytest.param(2, OPERATIONS, marks=pytest.mark.slow),
        pytest.param(3, ("conv3x3", "max3x3"), marks=pytest.mark.slow),
        (2, ("max3x3", "avg3x3")),
        (2, ("sep5x5", "sep3x3")),
        (3, ("avg3x3",)),
    ],
)
def test_smallest_and_largest_are_those_of_brute_force(num_layers, operations):
    config = MacroConfig(num_layers=num_layers, filters=4, operations=operations)
    space = config.make_space()

    def rank(tokens):
        cost = measure_cost(config, space.decode(tokens), input_shape=(3, 8, 8), num_classes=10)
        return cost.flops, cost.parameters, tokens

    ranked = sorted(map(rank, itertools.product(*map(range, space.num_choices.tolist()))))
    assert space.encode(space.smallest()) == ranked[0][-1]
    assert space.encode(space.largest()) == ranked[-1][-1]


def test_graph_has_stem_layers_and_classifier_with_an_arc_for_each_skip():
    graph = MacroSpace(4).graph(ARC)
    assert [node.group for node in graph.nodes] == ["stem", *ARC.operations, "output"]
    assert [node.label for node in graph.nodes[1:3]] == ["0\nconv3x3", "1\nsep5x5"]
    chain = {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)}
    assert set(graph.edges) - chain == {(0, 2), (1, 3), (0, 4), (1, 4)}
    assert chain <= set(graph.edges)


def test_deepening_doubles_layers_and_keeps_the_skips_of_the_first_copies():
    old = MacroArchitecture(operations=("conv3x3", "sep3x3", "max3x3"), skips=((), (0,), (0, 1)))
    new = deepen(old, 6)
    assert new.operations == ("conv3x3", "conv3x3", "sep3x3", "sep3x3", "max3x3", "max3x3")
    assert new.skips == ((), (), (0,), (), (0, 2), ())  # source 1, the output of layer 0, is now that of layer 1


@given(members(), st.integers(0, 9))
def test_deepened_architecture_is_a_member_whose_skips_come_from_copies_of_their_sources(member, more):
    space, old = member
    num_layers = space.num_layers + more
    new = deepen(old, num_layers)
    MacroSpace(num_layers).encode(new)  # raises where a source is not below its layer
    origin = [layer * space.num_layers // num_layers for layer in range(num_layers)]
    assert new.operations == tuple(old.operations[layer] for layer in origin)
    assert sum(map(len, new.skips)) == sum(map(len, old.skips))
    for layer, sources in enumerate(new.skips):
        assert {origin[source - 1] + 1 if source else 0 for source in sources} <= set(old.skips[origin[layer]])
    if not more:
        assert new == old


def test_twelve_layers_become_twenty_four():
    config, target = MacroConfig(), MacroConfig(num_layers=24, filters=96, double_filters=True)
    old = config.make_space().largest()
    new = config.rescale(old, target)
    assert target.make_space().decode(target.make_space().encode(new)) == new
    assert new.skips[22] == (0, *range(2, 22, 2))
    assert new.skips[23] == ()
    assert config.rescale(old, config) == old


def test_fewer_layers_or_another_space_are_refused():
    with pytest.raises(ValueError, match="num_layers: expected at least the architecture's 4, got 3"):
        deepen(ARC, 3)
    with pytest.raises(ValueError, match="macro: expected a macro configuration, got str"):
        MacroConfig().rescale(ARC, "nasbench201")


def test_macro_is_registered_with_the_values_of_the_authors():
    config = SPACES["macro"]()
    assert config == MacroConfig(num_layers=12, filters=36, keep_prob=0.9, double_filters=False, operations=OPERATIONS)
    assert OPERATIONS == ("conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3")
