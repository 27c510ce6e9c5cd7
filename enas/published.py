"""Networks that the authors of ENAS and of DARTS published, as data: their texts, and what was reported of them.

The arc strings are those of ENAS' `scripts/cifar10_macro_final.sh` and `cifar10_micro_final.sh` (melodyguan/enas) and, of both
recurrent cells, of the README of `enas_lm` (google-research); the genotypes are those of DARTS' `cnn/genotypes.py`
(quark0/darts), of each node's two entries the lower item's first. Every figure names where it was read; `UNCONFIRMED` marks one
that is quoted from memory of the paper. Not covered: how they are trained (`scripts.retrain_presets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UNCONFIRMED = "ENAS paper, quoted from memory, not confirmed in a source"
"""The source of a figure that nobody has looked up again."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A reported figure.

    Attributes:
        value: with its unit, such as `4.6 M`, `2.89 %` or, of a perplexity, `57.3`.
        source: where it was read, and under which conditions.
    """

    value: str
    source: str

    def in_words(self) -> str:
        """Return the figure with its source in brackets."""
        return f"{self.value} ({self.source})"


@dataclass(frozen=True, kw_only=True)
class Published:
    """An architecture that was published.

    Attributes:
        space: name of its space.
        text: in the space's own format, with the authors' operations in the authors' order.
        network: what the figures are of: depth, width and data.
        parameters: of that network, without the auxiliary head.
        test_results: of that network, on the test split.
        note: what else there is to know before comparing with it.
        result: what the test results are: `error`, percent of the images, or `perplexity`.
    """

    space: str
    text: str
    network: str
    parameters: tuple[Figure, ...]
    test_results: tuple[Figure, ...]
    note: str
    result: Literal["error", "perplexity"] = "error"


_MACRO = """\
0
3 0
0 1 0
2 0 0 1
2 0 0 0 0
3 1 1 0 1 0
2 0 0 0 0 0 1
2 0 1 1 0 1 1 1
1 0 1 1 1 0 1 0 1
0 0 0 0 0 0 0 0 0 0
2 0 0 0 0 0 1 0 0 0 0
0 1 0 0 1 1 0 0 0 0 1 1
2 0 1 0 0 0 0 0 1 0 1 1 0
1 0 0 1 0 0 0 1 1 1 0 1 0 1
0 1 1 0 1 0 1 0 0 0 0 0 1 0 0
2 0 0 1 0 0 0 0 0 0 0 1 0 1 0 1
2 0 1 0 0 0 1 0 0 1 1 1 1 0 0 1 0
2 0 0 0 0 1 0 1 0 1 0 0 1 0 1 0 0 1
3 0 1 1 0 1 0 0 0 0 0 1 0 1 0 1 0 0 0
3 0 1 1 0 0 0 0 0 0 0 0 0 1 1 0 0 0 0 1
0 1 0 0 1 0 1 1 0 0 0 1 0 0 0 0 0 1 1 0 0
3 0 1 0 1 1 0 0 1 0 1 1 0 1 1 0 1 0 0 1 0 0
0 1 0 1 0 1 0 0 0 0 0 0 0 0 1 0 1 0 0 1 0 0 0
0 1 1 0 0 0 1 1 1 0 1 0 0 0 1 0 1 0 0 1 1 0 0 0"""

_MICRO = """\
0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1
1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"""

_DARTS_V1 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('avg_pool_3x3', 0), ('skip_connect', 2)], reduce_concat=range(2, 6))"
)
_DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('max_pool_3x3', 1), ('skip_connect', 2)], reduce_concat=range(2, 6))"
)
_ENAS_LM = "README of enas_lm (google-research)"
_DARTS_NETWORK = "20 cells, 36 filters, CIFAR-10"
_DARTS_TABLE = "table 1 of the DARTS paper"
_DARTS_README = "README of quark0/darts, for the weights that it offers"


PUBLISHED: dict[str, Published] = {
    "darts-rnn": Published(
        space="rnn",
        text="0 2 1 1 1 1 1 3 2 0 5 2 3 0 5 1",
        network="850 units, Penn Treebank",
        parameters=(Figure(value="22.960 M", source=f"{_DARTS_README}, with 10,000 biases of the softmax"),),
        test_results=(
            Figure(value="55.68", source=_DARTS_README),
            Figure(value="58.1", source=f"{_ENAS_LM}, retrained there as its own cell, with 800 units"),
        ),
        note="Found by the second order approximation. Trained for 8,000 epochs by DARTS' recipe, for 3,000 by that of enas_lm.",
        result="perplexity",
    ),
    "darts-v1": Published(
        space="darts",
        text=_DARTS_V1,
        network=_DARTS_NETWORK,
        parameters=(Figure(value="3.3 M", source=_DARTS_TABLE),),
        test_results=(Figure(value="3.00 +- .14 %", source=f"{_DARTS_TABLE}, with cutout"),),
        note=(
            "Found by the first order approximation. The genotype that the authors' code names so has 3.17 M parameters, less "
            "than the table says."
        ),
    ),
    "darts-v2": Published(
        space="darts",
        text=_DARTS_V2,
        network=_DARTS_NETWORK,
        parameters=(
            Figure(value="3.3 M", source=_DARTS_TABLE),
            Figure(value="3.349 M", source=_DARTS_README),
        ),
        test_results=(
            Figure(value="2.76 +- .09 %", source=f"{_DARTS_TABLE}, with cutout; README of quark0/darts: the mean of 10 runs"),
            Figure(value="2.63 %", source=_DARTS_README),
        ),
        note="Found by the second order approximation. The same table has 3.29 +- .15 % for random search in this space.",
    ),
    "enas-macro": Published(
        space="macro",
        text=_MACRO,
        network="24 layers of 96 filters, CIFAR-10",
        parameters=(Figure(value="21.3 M", source=UNCONFIRMED),),
        test_results=(
            Figure(value="4.23 %", source=UNCONFIRMED),
            Figure(value="3.87 %", source=f"with 38.0 M parameters; {UNCONFIRMED}"),
        ),
        note=(
            "The authors' code trains full convolutions where the arc string names separable ones (operations 1 and 3), "
            "which gives about twice the published number of parameters."
        ),
    ),
    "enas-micro": Published(
        space="micro",
        text=_MICRO,
        network="15 + 2 cells, 36 filters, CIFAR-10",
        parameters=(
            Figure(value="4.6 M", source="ENAS paper as quoted by DARTS' table"),
            Figure(value="4.2 M", source="rerun by DARTS' authors"),
        ),
        test_results=(
            Figure(value="2.89 %", source="ENAS paper as quoted by DARTS' table, with cutout"),
            Figure(value="3.54 %", source="without cutout; melodyguan/enas issue 39"),
            Figure(value="2.91 %", source="rerun by DARTS' authors, who searched anew; the mean of 8 runs"),
        ),
        note="DARTS' authors report 3.29 +- .15 % for random search in their own space.",
    ),
    "enas-rnn": Published(
        space="rnn",
        text="0 2 1 0 2 1 2 2 4 0 5 0 3 2 6 2",
        network="800 units, Penn Treebank",
        parameters=(Figure(value="24 M", source=f"of the paper's cell, which is another one; {UNCONFIRMED}"),),
        test_results=(
            Figure(value="57.3 +- .1", source=f"{_ENAS_LM}, 10 runs of its code for GPUs"),
            Figure(
                value="56.1 +- .1",
                source="the same, 10 runs of its code for TPUs: 850 units, the new state is the mean of unread nodes only",
            ),
            Figure(value="55.8", source="abstract of the ENAS paper, for another cell"),
        ),
        note="The same README has 58.21 for an LSTM (AWD-LSTM) and 58.1 for the cell of DARTS.",
        result="perplexity",
    ),
}
"""Every published architecture by its name."""
