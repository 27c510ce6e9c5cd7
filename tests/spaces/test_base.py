import math

import pytest

from enas.spaces.base import ChildConfig, Decision, Step
from enas.spaces.graph import GraphNode
from enas.spaces.macro import MacroConfig


def decision(**changes):
    return Decision(**{"name": "d", "kind": "op", "choices": ("a", "b"), "vocabulary": "v", "step": 2} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": ()}, "d: expected at least one choice, got none"),
        ({"bias": (1.0,)}, "d: expected 2 biases, got 1"),
        ({"learned_bias": (1.0,)}, "d: expected 2 biases, got 1"),
        ({"tanh_reduce": 0.0}, "d: expected a tanh_reduce above 0, got 0.0"),
        ({"anchors": ((0,), (1,))}, r"d: an op decision has no anchors, got \(\(0,\), \(1,\)\)"),
        ({"kind": "input", "anchors": ((0,),)}, "d: expected anchors for 2 choices, got 1"),
        ({"kind": "input", "anchors": ((0,), (0, 1))}, r"d: a input decision needs \(1, 1\) anchors per choice"),
        ({"kind": "pair", "anchors": ((0, 1), (1,))}, r"d: a pair decision needs \(2, 2\) anchors per choice"),
        ({"kind": "skip", "anchors": ((0,), (0,))}, r"d: a skip decision needs \(0, 1\) anchors per choice"),
        ({"kind": "skip", "choices": ("a", "b", "c"), "anchors": ((), (0,), (1,))}, r"d: a skip decision needs \(0, 1\)"),
        ({"kind": "input", "anchors": ((0,), (2,))}, r"d: anchors must be steps before 2, got \(\(0,\), \(2,\)\)"),
    ],
)
def test_decision_whose_parts_do_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        decision(**changes)


def test_decision_with_one_choice_is_allowed():
    assert decision(choices=("only",)).choices == ("only",)


def test_number_of_choices_and_size_follow_from_the_decisions(chain_space):
    space = chain_space(3, 1, 4)
    assert space.num_choices.tolist() == [3, 1, 4]
    assert space.log10_size == pytest.approx(math.log10(12))


def test_validate_returns_plain_ints(chain_space):
    space = chain_space(3, 1, 4)
    assert space.validate(space.num_choices - 1) == (2, 0, 3)
    assert {type(token) for token in space.validate(space.num_choices - 1)} == {int}


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([0, 0], "planted: expected 3 tokens, got 2"),
        ([0, 0, 0, 0], "planted: expected 3 tokens, got 4"),
        ([0, 1, 9], r"op_1: expected a token in 0\.\.0, got 1"),
        ([-1, 0, 0], r"op_0: expected a token in 0\.\.2, got -1"),
    ],
)
def test_tokens_that_do_not_fit_are_refused_by_name(tokens, message, chain_space):
    with pytest.raises(ValueError, match=message):
        chain_space(3, 1, 4).validate(tokens)


def test_text_is_the_tokens_unless_a_space_says_otherwise(chain_space):
    space = chain_space(3, 1, 4)
    assert space.to_text(space.decode([2, 0, 3])) == "2 0 3"
    assert space.from_text(" 2 0\n3 ") == space.decode([2, 0, 3])


@pytest.mark.parametrize("word", ["x", "-1", "1.5", "+1"])
def test_text_with_anything_but_whole_numbers_is_refused(word, chain_space):
    with pytest.raises(ValueError, match=f"planted: expected whole numbers separated by blanks, got '{word[0]}"):
        chain_space(3, 1, 4).from_text(f"0 0 {word}")


def test_default_graph_is_a_chain_of_anchors_with_an_edge_for_each_choice_of_one(planted_space):
    op = {"kind": "op", "choices": ("conv", "pool"), "vocabulary": "op"}
    space = type(planted_space)(
        [
            Decision(name="op_1", step=1, **op),
            Decision(name="op_1b", step=2, **op),
            Decision(name="input_2", kind="input", choices=("0", "1"), vocabulary="in", step=3, anchors=((0,), (2,))),
            Decision(name="op_2", step=4, **op),
            Decision(name="skip", kind="skip", choices=("no", "yes"), vocabulary="in", step=5, anchors=((), (2,))),
        ],
        [
            Step(input="start", anchor="value"),
            Step(input="start"),
            Step(input="choice", anchor="value"),
            Step(input="start"),
            Step(input="anchor", anchor="value"),
            Step(input="choice"),
        ],
    )
    graph = space.graph(space.decode([0, 1, 0, 1, 1]))
    assert [node.label for node in graph.nodes] == ["input", "conv\npool", "pool", "input"]
    assert [node.group for node in graph.nodes] == ["input", "conv", "pool", "input"]
    assert graph.edges == ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3))
    without_output = space.graph(space.decode([0, 1, 1, 1, 0]))
    assert len(without_output.nodes) == 3
    assert without_output.edges == ((0, 1), (1, 2))


def test_default_graph_of_a_space_without_anchors_is_one_node(chain_space):
    space = chain_space(2, 2)
    graph = space.graph(space.decode([0, 1]))
    assert graph.nodes == (GraphNode(label="0\n1", group="0"),)
    assert graph.edges == ()


class OneSpaceConfig(ChildConfig):
    def __init__(self, space):
        self.space = space

    def make_space(self):
        return self.space

    def make_child(self, *, input_shape, num_classes, architecture=None):
        raise NotImplementedError


def test_rescale_keeps_an_architecture_of_the_same_space_and_refuses_others(chain_space):
    config = OneSpaceConfig(chain_space(2, 3))
    architecture = config.space.decode([1, 2])
    assert config.rescale(architecture, OneSpaceConfig(chain_space(2, 3))) is architecture
    with pytest.raises(ValueError, match="planted: an architecture of this space can't be translated to another depth"):
        config.rescale(architecture, MacroConfig())
