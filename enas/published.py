"""CIFAR-10 networks that the authors of ENAS and of DARTS published, as data: their texts, and what was reported of them.

The arc strings are those of ENAS' `scripts/cifar10_macro_final.sh` and `cifar10_micro_final.sh` (melodyguan/enas), the genotypes
those of DARTS' `cnn/genotypes.py` (quark0/darts), of each node's two entries the lower item's first. Every figure names where it
was read; `UNCONFIRMED` marks one that is quoted from memory of the paper. Not covered: how they are trained
(`scripts.retrain_presets`), and networks for text, whose space this project does not have yet.
"""

from __future__ import annotations

from dataclasses import dataclass

UNCONFIRMED = "ENAS paper, quoted from memory, not confirmed in a source"
"""The source of a figure that nobody has looked up again."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A reported figure.

    Attributes:
        value: with its unit, such as `4.6 M` or `2.89 %`.
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
        test_error: of that network, percent of the test images.
        note: what else there is to know before comparing with it.
    """

    space: str
    text: str
    network: str
    parameters: tuple[Figure, ...]
    test_error: tuple[Figure, ...]
    note: str


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
_DARTS_NETWORK = "20 cells, 36 filters, CIFAR-10"
_DARTS_TABLE = "table 1 of the DARTS paper"


PUBLISHED: dict[str, Published] = {
    "darts-v1": Published(
        space="darts",
        text=_DARTS_V1,
        network=_DARTS_NETWORK,
        parameters=(Figure(value="3.3 M", source=_DARTS_TABLE),),
        test_error=(Figure(value="3.00 +- .14 %", source=f"{_DARTS_TABLE}, with cutout"),),
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
            Figure(value="3.349 M", source="README of quark0/darts, for the weights that it offers"),
        ),
        test_error=(
            Figure(value="2.76 +- .09 %", source=f"{_DARTS_TABLE}, with cutout; README of quark0/darts: the mean of 10 runs"),
            Figure(value="2.63 %", source="README of quark0/darts, for the weights that it offers"),
        ),
        note="Found by the second order approximation. The same table has 3.29 +- .15 % for random search in this space.",
    ),
    "enas-macro": Published(
        space="macro",
        text=_MACRO,
        network="24 layers of 96 filters, CIFAR-10",
        parameters=(Figure(value="21.3 M", source=UNCONFIRMED),),
        test_error=(
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
        test_error=(
            Figure(value="2.89 %", source="ENAS paper as quoted by DARTS' table, with cutout"),
            Figure(value="3.54 %", source="without cutout; melodyguan/enas issue 39"),
            Figure(value="2.91 %", source="rerun by DARTS' authors, who searched anew; the mean of 8 runs"),
        ),
        note="DARTS' authors report 3.29 +- .15 % for random search in their own space.",
    ),
}
"""Every published architecture by its name."""
