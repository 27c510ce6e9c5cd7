from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from enas.published import PUBLISHED, UNCONFIRMED
from enas.spaces import SPACES
from enas.spaces.darts import DartsConfig
from enas.spaces.macro import OPERATIONS, MacroArchitecture, MacroConfig
from enas.spaces.micro import MicroArchitecture, MicroConfig, Node, loose_items
from enas.spaces.rnn import RnnConfig

ROOT = Path(__file__).resolve().parents[1]


def micro() -> MicroArchitecture:
    return MicroConfig().make_space().from_text(PUBLISHED["enas-micro"].text)


def macro() -> MacroArchitecture:
    return MacroConfig(num_layers=24).make_space().from_text(PUBLISHED["enas-macro"].text)


def test_registry_is_sorted():
    assert list(PUBLISHED) == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_text_is_the_spaces_own(name):
    published = PUBLISHED[name]
    space = SPACES[published.space]().for_text(published.text).make_space()
    assert space.to_text(space.from_text(published.text)) == published.text


def test_micro_cells_have_the_five_nodes_of_the_authors_script():
    assert micro().normal == (
        Node(inputs=(0, 0), operations=("avg3x3", "sep3x3")),
        Node(inputs=(0, 0), operations=("identity", "sep5x5")),
        Node(inputs=(0, 1), operations=("identity", "sep5x5")),
        Node(inputs=(1, 0), operations=("sep3x3", "sep5x5")),
        Node(inputs=(0, 1), operations=("avg3x3", "sep5x5")),
    )
    assert micro().reduce == (
        Node(inputs=(1, 1), operations=("sep3x3", "sep3x3")),
        Node(inputs=(0, 0), operations=("max3x3", "avg3x3")),
        Node(inputs=(1, 3), operations=("sep5x5", "sep5x5")),
        Node(inputs=(1, 0), operations=("sep3x3", "identity")),
        Node(inputs=(0, 1), operations=("max3x3", "sep5x5")),
    )


def test_every_node_of_the_normal_cell_is_loose_and_the_reduction_cell_uses_one():
    assert loose_items(micro().normal) == (2, 3, 4, 5, 6)
    assert loose_items(micro().reduce) == (2, 4, 5, 6)


def test_macro_has_24_layers_without_pooling():
    architecture = macro()
    assert len(architecture.operations) == len(architecture.skips) == 24
    digits = [OPERATIONS.index(operation) for operation in architecture.operations]
    assert digits == [0, 3, 0, 2, 2, 3, 2, 2, 1, 0, 2, 0, 2, 1, 0, 2, 2, 2, 3, 3, 0, 3, 0, 0]


def test_macro_skips_are_those_of_the_authors_script():
    architecture = macro()
    assert architecture.skips[:6] == ((), (), (0,), (2,), (), (0, 1, 3))
    assert architecture.skips[9] == ()
    assert architecture.skips[23] == (0, 1, 5, 6, 7, 9, 13, 15, 18, 19)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_figure_names_its_source(name):
    published = PUBLISHED[name]
    assert published.parameters
    assert published.test_results
    assert all(figure.value and figure.source for figure in (*published.parameters, *published.test_results))


def test_figures_of_the_macro_network_are_marked_as_unconfirmed():
    published = PUBLISHED["enas-macro"]
    assert all(UNCONFIRMED in figure.source for figure in (*published.parameters, *published.test_results))
    assert published.parameters[0].in_words() == "21.3 M (ENAS paper, quoted from memory, not confirmed in a source)"


def test_figures_of_the_micro_network_are_those_that_others_quote():
    published = PUBLISHED["enas-micro"]
    assert [figure.value for figure in published.parameters] == ["4.6 M", "4.2 M"]
    assert [figure.value for figure in published.test_results] == ["2.89 %", "3.54 %", "2.91 %"]
    assert not any("memory" in figure.source for figure in (*published.parameters, *published.test_results))


def test_darts_cells_are_those_of_the_authors_file_whatever_the_order_in_a_pair():
    first_order = """DARTS_V1 = Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0),
        ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)],
        normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
        ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"""
    second_order = """DARTS_V2 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),
        ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
        normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
        ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"""
    space = DartsConfig().make_space()
    for name, authors in (("darts-v1", first_order), ("darts-v2", second_order)):
        assert space.from_text(PUBLISHED[name].text) == space.from_text(authors)


def test_figures_of_darts_are_those_of_its_table_and_readme():
    values = {name: PUBLISHED[name] for name in ("darts-v1", "darts-v2")}
    assert [figure.value for figure in values["darts-v1"].test_results] == ["3.00 +- .14 %"]
    assert [figure.value for figure in values["darts-v2"].test_results] == ["2.76 +- .09 %", "2.63 %"]
    assert [figure.value for figure in values["darts-v2"].parameters] == ["3.3 M", "3.349 M"]
    figures = [figure for one in values.values() for figure in (*one.parameters, *one.test_results)]
    assert not any(UNCONFIRMED in figure.source for figure in figures)


def test_recurrent_cell_of_darts_is_that_of_the_authors_file():
    second_order = """DARTS_V2 = Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2),
        ('sigmoid', 5), ('tanh', 3), ('relu', 5)], concat=range(1, 9))""".partition("= ")[2]
    space = RnnConfig().make_space()
    assert space.from_text(PUBLISHED["darts-rnn"].text) == space.from_text(second_order)


def test_cell_of_enas_for_text_has_eight_nodes_without_identities():
    architecture = RnnConfig().make_space().from_text(PUBLISHED["enas-rnn"].text)
    assert [node.previous for node in architecture.nodes] == [0, 1, 2, 2, 4, 5, 3, 6]
    functions = ["sigmoid", "tanh", "relu", "sigmoid", "tanh", "tanh", "sigmoid", "sigmoid"]
    assert [node.function for node in architecture.nodes] == functions


def test_results_are_perplexities_of_texts_and_errors_of_images():
    for published in PUBLISHED.values():
        assert published.result == ("perplexity" if SPACES[published.space].reads == "text" else "error")
        assert all(("%" in figure.value) == (published.result == "error") for figure in published.test_results)


def test_figures_of_the_recurrent_cells_are_those_of_the_authors_readmes():
    assert [figure.value for figure in PUBLISHED["enas-rnn"].test_results] == ["57.3 +- .1", "56.1 +- .1", "55.8"]
    assert UNCONFIRMED in PUBLISHED["enas-rnn"].parameters[0].source
    assert [figure.value for figure in PUBLISHED["darts-rnn"].test_results] == ["55.68", "58.1"]
    assert [figure.value for figure in PUBLISHED["darts-rnn"].parameters] == ["22.960 M"]


def test_reading_them_does_not_wait_for_torch():
    code = "import sys, enas.published; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
