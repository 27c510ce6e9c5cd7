from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_hex

from enas.compare.budget import Budget
from enas.compare.checklist import fill_in
from enas.compare.curves import Axis, bands_of
from enas.compare.document import Paragraph, Picture, to_html, to_markdown
from enas.compare.outcome_statistics import summarise
from enas.compare.picture import draw_curves, draw_outcomes, picture_bytes
from enas.compare.report import judge, report_blocks, write_pictures
from enas.compare.results import results_json
from enas.compare.verdicts import notes, outcome_table, verdicts
from enas.draw.palette import line_colour
from enas.metrics import METRICS


@pytest.fixture(scope="module")
def no_pictures() -> list[Picture]:
    names = ("outcomes", "curves", "regret", "pareto-parameters")
    return [Picture(name=name, alt=name, png=b"png") for name in names]


def markdown(study, pictures):
    return to_markdown(report_blocks(study, judge(study), pictures))


def test_verdicts_name_every_strategy_but_the_reference(make_study):
    texts = sentences(make_study())
    assert texts[0].startswith("**better beats random: yes** (difference +5.25 points, 95 % interval +3.")
    assert texts[1].startswith("**alike| beats random: not shown** (difference +0.00 points, 95 % interval -1.")
    assert all(text.endswith("after the correction for 2 comparisons (Holm)).") for text in texts)
    assert all("; 4 of 4 runs ended; p" in text for text in texts)


def sentences(study):
    return [block.text for block in verdicts(study, judge(study)["digits test"]) if isinstance(block, Paragraph)]


def test_single_comparison_is_not_told_to_be_one_of_several(make_study):
    study = make_study(strategies={"uniform": "", "better": ""})
    (text,) = sentences(study)
    assert text.endswith("; 4 of 4 runs ended).")
    assert "Holm" in notes(2)
    assert "Holm" not in notes(1)


def test_strategy_whose_runs_failed_is_told_and_never_beats_random(make_study, no_pictures):
    study = make_study()
    kept = [one for one in study.outcomes if (one.strategy, one.seed) != ("better", 1) and one.strategy != "alike|"]
    failures = {"better, seed 1": "no finite loss", **{f"alike|, seed {seed}": "no finite loss" for seed in range(4)}}
    study = make_study(outcomes=kept, failures=failures)
    first, second = sentences(study)
    assert first.startswith("**better beats random: not shown: 1 of 4 runs failed** (difference +4.92")
    assert "3 of 4 runs ended" in first
    assert second == "**alike| beats random: not shown: 4 of 4 runs failed**."
    assert outcome_table(study, judge(study)["digits test"]).rows[-1] == ["alike|", "0", *[""] * 6, "not shown"]
    assert "**5 runs failed and are left out of all figures below**" in markdown(study, no_pictures)


def test_table_has_the_figures_of_the_statistics(make_study):
    study = make_study()
    table = outcome_table(study, judge(study)["digits test"])
    rows = {row[0]: row for row in table.rows}
    assert rows["uniform"][1:5] == ["4", "90.75", "0.96", "90.50"]
    assert rows["uniform"][-1] == "reference"
    assert rows["better"][1:5] == ["4", "96.00", "0.82", "96.00"]
    assert rows["better"][5] == "n=4: no interval"
    assert rows["better"][6].startswith("1.00 (0.5")
    assert rows["better"][-1] == "yes"
    assert all(len(row) == len(table.headings) for row in table.rows)


@pytest.fixture
def of_text(make_study):
    """The study's figures as perplexities: 100 / accuracy, so that what was better is lower."""

    def told(one):
        front = {name: (costs, 100 / values) for name, (costs, values) in one.fronts.items()}
        history = replace(one.history, values=100 / one.history.values, truths=None)
        return replace(one, measures={name: 100 / value for name, value in one.measures.items()}, fronts=front, history=history)

    study = make_study()
    measures = {"digits test": "test perplexity", "best reward": "the reward"}
    return replace(study, metric=METRICS["perplexity"], outcomes=[told(one) for one in study.outcomes], measures=measures)


def test_lower_perplexities_beat_random(of_text):
    first, second = sentences(of_text)
    assert first.startswith("**better beats random: yes** (difference -6.03 in perplexity, 95 % interval -7.")
    assert second.startswith("**alike| beats random: not shown** (difference +0.00 in perplexity")
    table = outcome_table(of_text, judge(of_text)["digits test"])
    assert table.headings[2:5] == ("mean", "deviation", "IQM")
    rows = {row[0]: row for row in table.rows}
    assert rows["better"][2] == f"{np.mean([100 / value for value in (0.96, 0.97, 0.95, 0.96)]):.2f}"
    assert rows["better"][6].startswith("1.00 (0.5")
    uniform = replace(of_text, reference="better")  # and the other way round
    assert sentences(uniform)[0].startswith("**uniform beats random: no** (difference +6.03 in perplexity")


def test_report_of_a_text_is_in_its_words(of_text, no_pictures):
    text = markdown(replace(of_text, is_proxy=True), no_pictures)
    for part in (
        "Differences from uniform, in perplexity (below zero is better):",
        "lies below zero (yes), above it (no)",
        "Interquartile mean over seeds of the perplexity of the best reward so far. Bands:",
        "## Perplexity against cost",
        "measured again on all validation tokens",
        "**A proxy**: shared-weight perplexity is not what a network reaches alone.",
    ):
        assert part in text
    assert "(%)" not in text
    assert "accurac" not in text.replace("best accuracy there is", "")
    assert results_json(of_text, judge(of_text))["metric"] == "perplexity"


def test_pictures_of_a_text_show_perplexities(of_text, tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr("enas.compare.report.save_picture", lambda draw, stem: figures.update({stem.name: draw()}) or b"")
    write_pictures(of_text, judge(of_text)["digits test"], tmp_path)
    assert sorted(figures) == ["curves", "outcomes", "pareto-parameters"]
    curves, outcomes, front = (figures[name].axes[0] for name in ("curves", "outcomes", "pareto-parameters"))
    assert curves.get_ylabel() == "perplexity of the best reward so far"
    assert curves.lines[0].get_ydata()[-1] == pytest.approx(np.mean([100 / 0.90, 100 / 0.91]))  # uniform's middle half
    assert outcomes.get_xlabel() == "digits test; mark: IQM"
    assert front.get_ylabel() == "best perplexity at the cost or below"
    assert front.lines[0].get_ydata()[0] == 200.0


def test_infinite_perplexities_leave_gaps_in_curves(of_text, tmp_path, monkeypatch):
    monkeypatch.setattr("enas.compare.report.save_picture", lambda draw, _: picture_bytes(draw, "svg"))
    values = np.array([np.inf, np.inf])
    spoilt = [replace(one, history=replace(one.history, values=values)) for one in of_text.outcomes if one.strategy == "uniform"]
    kept = [one for one in of_text.outcomes if one.strategy != "uniform"]
    pictures = write_pictures(replace(of_text, outcomes=[*spoilt, *kept]), judge(of_text)["digits test"], tmp_path)
    assert all(len(picture.png) > 1000 for picture in pictures)


def test_single_seed_has_no_interval_and_says_so(make_study, no_pictures):
    study = make_study()
    text = markdown(make_study(outcomes=[one for one in study.outcomes if one.seed == 0], seeds=[0]), no_pictures)
    assert "better beats random: not shown: n=1, no interval** (difference +6.00 points; 1 of 1 runs ended)" in text
    assert "nan" not in text.lower()


def test_proxy_and_failed_runs_are_told_at_the_top(make_study, no_pictures):
    text = markdown(make_study(is_proxy=True, failures={"better, seed 3": "no finite loss"}), no_pictures)
    assert "**A proxy**" in text.split("##")[0]
    assert "**1 run failed and is left out of all figures below**: better, seed 3: no finite loss." in text.split("##")[0]


def test_markdown_and_html_have_the_same_tables(make_study, no_pictures):
    study = make_study()
    blocks = report_blocks(study, judge(study), no_pictures)
    text, page = to_markdown(blocks), to_html(blocks, title=study.title)
    assert "| alike\\| |" in text
    for words in ("90.75", "0.82", "1.00 (0.5", "accuracy (%) within parameters of"):
        assert words in text
        assert words in page
    assert "| better | 50.00 | 96.00 |" in text  # interquartile means of 50 and of 95, 96, 96, 97
    assert "the same digits &lt;for&gt; all" in page


def test_results_hold_every_outcome_and_statistic_as_json(make_study):
    study = make_study()
    record = json.loads(json.dumps(results_json(study, judge(study)), allow_nan=False))
    assert len(record["outcomes"]) == 12
    assert record["outcomes"][4]["measures"] == {"digits test": 0.96, "best reward": 0.48}
    versus = record["statistics"]["digits test"]["versus"]["better"]
    assert versus["verdict"] == "yes"
    assert versus["pairs"]["num"] == 4
    assert versus["difference"] == pytest.approx(0.0525)
    single = make_study(outcomes=[one for one in study.outcomes if one.seed == 0])
    assert results_json(single, judge(single))["statistics"]["digits test"]["summaries"]["better"]["deviation"] is None


# The checklist.


def answers(study):
    return {item.number: (item.answer, item.fact) for item in fill_in(study)}


def test_checklist_has_the_14_practices_and_leaves_open_what_runs_do_not_know(make_study):
    found = answers(make_study())
    assert list(found) == list(range(1, 15))
    assert [number for number, (answer, _) in found.items() if answer == "you must answer"] == [1, 2, 3, 12]


def test_checklist_is_filled_in_from_the_runs(make_study):
    found = answers(make_study())
    assert found[5] == ("partly", "2 variants of enas; whether they cover what matters, you must answer.")
    assert found[8][0] == "partly"
    assert found[9] == ("yes", "Runs that gave an answer: uniform 4, better 4, alike| 4; seeds 0 to 3.")
    assert found[10][0] == "no"
    assert found[11][0] == "partly"
    assert "All strategies have their defaults. Whether all were tuned as much, you must answer." in found[11][1]
    assert ": 100 s." in found[13][1]
    assert "a box; package enas" in found[14][1]
    tuned = answers(make_study(tuned={"uniform": "", "better": "hidden 8 (default 64)"}))
    assert "differ from a strategy's defaults: better: hidden 8 (default 64)." in tuned[11][1]
    study = make_study()
    other = answers(
        make_study(
            names={"uniform": "uniform", "better": "enas", "alike|": "ppo"},
            machines=["a box", "another"],
            sampling=0.5,
            best_truth=0.98,
            is_proxy=True,
            outcomes=[one for one in study.outcomes if one.seed == 0 or one.strategy != "better"],
        )
    )
    assert [other[number][0] for number in (5, 6, 8, 9, 10, 11)] == ["no", "no", "yes", "no", "yes", "no"]
    assert "Random sampling: 50.00%, the mean of all architectures in the table." in other[8][1]


# Pictures.


def test_pictures_are_written_and_show_something(make_study, tmp_path):
    study = make_study(best_truth=0.99)
    pictures = write_pictures(study, judge(study)["digits test"], tmp_path)
    assert [picture.name for picture in pictures] == ["outcomes", "curves", "regret", "pareto-parameters"]
    for picture in pictures:
        assert (tmp_path / f"{picture.name}.png").read_bytes() == picture.png
        pixels = matplotlib.image.imread(tmp_path / f"{picture.name}.png")
        assert pixels.shape[1] > 600
        assert 0.002 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.4
    svg = Path(tmp_path, "outcomes.svg").read_text(encoding="utf-8")
    for words in ("uniform (n=4)", "better (n=4)", "best there is"):
        assert words in svg


def test_points_stand_where_the_outcomes_are_and_bars_at_the_intervals(make_study):
    study = make_study()
    judged = judge(study)["digits test"]
    values = {name: np.array(list(runs.values())) for name, runs in study.values("digits test").items()}
    order = list(study.strategies)
    (axes,) = draw_outcomes(values, judged.summaries, axis="accuracy", best=None, order=order).axes
    for row, (name, points) in enumerate(zip(values, axes.collections, strict=True)):
        offsets = np.asarray(points.get_offsets())
        np.testing.assert_allclose(offsets[:, 0], 100 * values[name])
        assert (np.abs(offsets[:, 1] - row) <= 0.25).all()
    assert [line for line in axes.lines if len(line.get_xdata()) == 2] == []  # 4 runs have no interval
    many = {"better": np.linspace(0.9, 0.95, 9)}
    summary = summarise(many["better"].tolist())
    (axes,) = draw_outcomes(many, {"better": summary}, axis="accuracy", best=None, order=order).axes
    (bar,) = [line for line in axes.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(bar.get_xdata(), [100 * bound for bound in summary.interval or ()])
    assert to_hex(np.asarray(axes.collections[0].get_facecolor())[0]) == line_colour(1).lower()  # its own, not the first


def test_panels_have_the_same_axis_and_few_runs_their_range(make_study):
    study = make_study()
    runs = {name: study.of(name) for name in study.strategies}
    axes: tuple[Axis, ...] = ("architectures", "seconds")
    panels = [(bands_of(runs, axis=axis, quantity="regret", best_truth=0.99), axis, "simple regret (points)") for axis in axes]
    first, second = draw_curves(panels, order=list(study.strategies)).axes
    assert first.get_ylim() == second.get_ylim()
    assert all(line.get_drawstyle() == "steps-post" for line in first.lines)
    legend = first.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(study.strategies)
    assert legend.get_title().get_text() == "light bands: lowest to highest run"


def test_curve_of_a_single_run_has_no_band(make_study):
    study = make_study()
    bands = bands_of({"better": study.of("better")[:1]}, axis="seconds", quantity="reward")
    (axes,) = draw_curves([(bands, "seconds", "best reward so far (%)")], order=list(study.strategies)).axes
    assert len(axes.collections) == 0
    assert axes.lines[0].get_ydata().tolist()[-1] == 96


@pytest.mark.parametrize(("seconds", "is_told"), [((100.0, 104.0, 96.0), False), ((100.0, 118.0, 96.0), True)])
def test_seconds_that_strategies_took_unequally_are_told_beside_the_verdicts(seconds, is_told, make_study, no_pictures):
    study = make_study(budget=Budget(kind="seconds", amount=100))
    spent = dict(zip(study.strategies, seconds, strict=True))
    study = replace(study, outcomes=[replace(one, spent={"seconds of search": spent[one.strategy]}) for one in study.outcomes])
    text = markdown(study, no_pictures)
    told = "**Budgets were not equal**: beside the 100 seconds searches took uniform +0%, better +18%, alike"
    assert (told in text) is is_told
    random = next(item for item in fill_in(study) if item.number == 8)
    assert ("a budget that was to be the same and was not" in random.fact) is is_told
