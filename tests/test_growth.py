from __future__ import annotations

import pytest

from enas.growth import Curve, draw_growth, save_growth

SIZES = (6, 9, 12, 18, 24)


def curve(*, factor: float = 2.0, power: float = 1.5, axis: str = "layers") -> Curve:
    return Curve(
        axis=axis,
        sizes=SIZES,
        seconds={"epoch": [factor * size**power for size in SIZES], "training": [3.0] * len(SIZES)},
    )


@pytest.mark.parametrize("power", [-0.5, 0.0, 1.0, 2.25])
def test_exponent_is_that_of_the_power_law(power):
    assert curve(power=power).exponent("epoch") == pytest.approx(power, abs=1e-9)


def test_exponent_between_two_sizes_is_the_slope_of_the_logarithms():
    assert Curve(axis="x", sizes=(1, 4), seconds={"epoch": (1.0, 8.0)}).exponent("epoch") == pytest.approx(1.5)


def test_picture_has_a_panel_a_curve_with_its_exponents():
    figure = draw_growth([curve(axis="layers"), curve(axis="filters", power=1.0), curve(axis="images of a minibatch")])
    assert [axes.get_xlabel() for axes in figure.axes] == ["layers", "filters", "images of a minibatch"]
    labels = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert labels[0] == ["epoch, exponent 1.50", "training, exponent 0.00"]
    assert labels[1] == ["epoch, exponent 1.00", "training, exponent 0.00"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["6", "9", "12", "18", "24"]
    lines = figure.axes[0].get_lines()
    assert list(lines[0].get_ydata()) == [2.0 * size**1.5 for size in SIZES]
    low, high = figure.axes[0].get_ylim()
    assert low < 3.0 < 2.0 * 24**1.5 < high


def test_same_curves_are_the_same_file(tmp_path):
    for name in ("a.svg", "b.svg"):
        save_growth([curve()], tmp_path / name)
    content = (tmp_path / "a.svg").read_bytes()
    assert b"exponent 1.50" in content
    assert (tmp_path / "b.svg").read_bytes() == content
