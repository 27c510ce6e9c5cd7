"""The summary of several runs, over folders written by hand: files as `search` and `retrain` leave them, and nothing else."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import scripts.summarise
import scripts.trainings
from enas.configs import CollapseConfig, RankingConfig, RetrainConfig
from enas.spaces.macro import MacroConfig
from scripts.configuration import as_yaml, to_yaml
from scripts.presets import quickstart
from scripts.retrain import RetrainCommand
from scripts.search_config import SearchConfig

ROOT = Path(__file__).resolve().parents[2]
CHILD = MacroConfig(num_layers=2, filters=4)
SPACE = CHILD.make_space()
CONFIG = replace(quickstart(), child=CHILD, retrain=RetrainConfig(epochs=3, seeds=2, random=3))
ANSWER = SPACE.from_text("0 5 1").to_json()
OTHER = SPACE.from_text("1 2 0").to_json()
RANDOM = [SPACE.from_text(text).to_json() for text in ("2 2 0", "3 3 0", "4 4 1", "5 5 1")]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")


def write_result(folder: Path, accuracy: float, *, architecture: Any, seed: int, parameters: int = 1000) -> None:
    folder.mkdir(parents=True)
    result = {
        "test_accuracy": accuracy,
        "best_test_accuracy": 1.0,
        "train_loss": 0.5,
        "parameters": parameters,
        "seed": seed,
    }
    record = {"result": result, "history": [], "architecture": architecture}
    (folder / "result.json").write_text(json.dumps(record))


def write_search(
    folder: str, own: Sequence[float] = (), random: Sequence[float] = (), *, config: SearchConfig = CONFIG, answer: Any = ANSWER
) -> None:
    """A search's folder with trainings of its answer and of random architectures that succeeded each other in order."""
    Path(folder).mkdir()
    Path(folder, "config.yaml").write_text(to_yaml(config, threads=1))
    if answer is not None:
        record = {"space": "macro", "architecture": answer, "network": {"child": asdict(config.child)}}
        Path(folder, "best_architecture.json").write_text(json.dumps(record))
    write_trainings(Path(folder, "retrain"), "searched", own, random, seed=config.seed, architecture=answer)


def write_trainings(
    folder: Path, name: str, own: Sequence[float], random: Sequence[float], *, seed: int, architecture: Any
) -> None:
    for index, accuracy in enumerate(own):
        write_result(folder / f"{name}-{index}", accuracy, architecture=architecture, seed=100 * seed + index)
    for index, accuracy in enumerate(random):
        size = 2000 + index
        write_result(folder / f"random-{index}", accuracy, architecture=RANDOM[index], seed=100 * seed + index, parameters=size)


def write_retrain(folder: str, architecture: str, own: Sequence[float], random: Sequence[float] = (), **settings: Any) -> None:
    """A folder of `retrain`, whose settings are those of CONFIG but for `settings`."""
    command = RetrainCommand(
        architecture=architecture,
        run_dir=Path(folder),
        data=CONFIG.data,
        child=CHILD,
        retrain=CONFIG.retrain,
        split=CONFIG.split,
        augment=CONFIG.augment,
    )
    values = {name: value for name, value in asdict(replace(command, **settings)).items() if name not in ("run_dir", "device")}
    Path(folder).mkdir()
    Path(folder, "retrain.yaml").write_text(as_yaml(values))
    write_trainings(Path(folder), "architecture", own, random, seed=0, architecture=ANSWER)


SAME_SIZE = replace(CONFIG, retrain=replace(CONFIG.retrain, random_within=0.1))


def write_found(folder: str, found: Sequence[Any], *, answer: Any = ANSWER, complete: bool = True) -> None:
    """The file that keeps random architectures of about the same size."""
    drawn_for = {"tokens": [], "architecture": answer, "seed": 0, "within": 0.1, "count": 3}
    rows = [{"tokens": [], "architecture": architecture} for architecture in found]
    record = {"drawn_for": drawn_for, "draws": 2000, "complete": complete, "found": rows}
    Path(folder, "random.json").write_text(json.dumps(record))


@pytest.fixture
def summarise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[list[list[str]], str]]:
    """Return a runner of the command; it returns the cells of its table, and what follows the table."""

    def call(*arguments: str) -> tuple[list[list[str]], str]:
        monkeypatch.setattr(sys, "argv", ["summarise", *arguments])
        scripts.summarise.main()
        lines = capsys.readouterr().out.splitlines()
        last = next(index for index, line in enumerate(lines) if line.startswith("└"))
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
        return rows, "\n".join(lines[last + 1 :])

    return call


# The table.


def test_a_search_counts_once_with_the_mean_of_its_trainings(summarise):
    write_search("a", [0.90, 0.94], [0.5, 0.6, 0.7], config=replace(CONFIG, seed=1))
    write_search("b", [0.80, 0.82], config=replace(CONFIG, seed=2), answer=OTHER)
    rows, text = summarise("a", "b")
    deviation = 100 * np.std([0.92, 0.81], ddof=1)
    assert rows == [
        ["enas, paths: controller", "2", "4", f"86.50 +- {deviation:.2f} %", "1,000"],
        ["random architectures", "-", "3", "60.00 +- 10.00 %", "2,000 to 2,002"],
    ]
    test = stats.ttest_ind([0.92, 0.81], [0.5, 0.6, 0.7], equal_var=False).confidence_interval(0.95)
    interval = f"95 % interval {100 * test.low:+.2f} to {100 * test.high:+.2f}"
    first, *others = text.splitlines()
    assert first.startswith("enas, paths: controller: ")
    assert f"+26.50 points, {interval}" in first
    assert others == ["Incomplete: b has 0 of 3 random architectures."]


def test_searches_are_grouped_by_strategy_and_path_rule(summarise):
    names = {
        "a": CONFIG,
        "b": replace(CONFIG, strategy="evolution"),
        "c": replace(CONFIG, paths="uniform"),
        "d": replace(CONFIG, strategy="evolution", seed=3),
    }
    for folder, config in names.items():
        write_search(folder, [0.9, 0.9], [0.5, 0.4, 0.6], config=config)
    rows, text = summarise(*names)
    assert [row[:3] for row in rows] == [
        ["enas, paths: controller", "1", "2"],
        ["enas, paths: uniform", "1", "2"],
        ["evolution, paths: controller", "2", "4"],
        ["random architectures", "-", "6"],  # three of the runs of seed 0, three of the other
    ]
    assert "evolution, paths: controller: The search beat random architectures: +40.00 points" in text
    assert "enas, paths: uniform: Not shown that the search beat random architectures: +40.00 points, but n=1" in text


def test_random_architectures_that_runs_share_count_once(summarise):
    write_search("a", [0.9, 0.9], [0.5, 0.6, 0.7])
    write_search("b", [0.8, 0.8], [0.5, 0.6, 0.7], config=replace(CONFIG, strategy="uniform"))
    rows, _ = summarise("a", "b")
    assert rows[-1] == ["random architectures", "-", "3", "60.00 +- 10.00 %", "2,000 to 2,002"]
    write_search("c", [0.9, 0.9], [0.8, 0.8, 0.8], config=replace(CONFIG, seed=4))  # the same ones, trained with other seeds
    assert summarise("a", "b", "c")[0][-1][2] == "6"


def test_trainings_of_an_earlier_answer_do_not_count(summarise):
    write_search("a", [0.9, 0.2], [0.5, 0.5, 0.5])
    file = Path("a/retrain/searched-1/result.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "architecture": OTHER}))
    rows, text = summarise("a")
    assert rows[0][1:4] == ["1", "1", "90.00 %"]
    assert "Incomplete: a has 1 of 2 trainings of its architecture." in text


def test_random_architectures_of_about_the_same_size_count_if_they_were_drawn_for_the_answer(summarise):
    write_search("a", [0.9, 0.9], [0.5, 0.6, 0.7], config=SAME_SIZE)
    write_found("a/retrain", RANDOM[:3])
    rows, text = summarise("a")
    assert rows[-1][2:4] == ["3", "60.00 +- 10.00 %"]
    assert "Incomplete" not in text


@pytest.mark.parametrize(
    ("found", "answer", "counted"),
    [
        ([RANDOM[0], RANDOM[3], RANDOM[2]], ANSWER, ["0.5", "0.7"]),  # the second has not been trained yet
        ([RANDOM[1], RANDOM[3], RANDOM[0]], ANSWER, []),  # trained before, but with the seed of another place
        (RANDOM[:3], OTHER, []),  # nothing has been drawn for this answer yet
        (None, ANSWER, []),
    ],
)
@pytest.mark.parametrize("kind", ["search", "retrain"])
def test_random_architectures_drawn_for_an_earlier_answer_do_not_count(kind, found, answer, counted, summarise):
    folder = "a/retrain" if kind == "search" else "a"
    if kind == "search":
        write_search("a", [0.9, 0.9], [0.5, 0.6, 0.7], config=SAME_SIZE)
    else:
        write_retrain("a", "0 5 1", [0.9, 0.9], [0.5, 0.6, 0.7], retrain=SAME_SIZE.retrain)
    if found is not None:
        write_found(folder, found, answer=answer)
    rows, text = summarise("a")
    assert len(rows) == (2 if counted else 1)
    if counted:
        assert rows[1][2:4] == ["2", f"60.00 +- {100 * np.std([0.5, 0.7], ddof=1):.2f} %"]
    assert f"Incomplete: a has {len(counted)} of 3 random architectures." in text


def test_file_of_random_architectures_is_read_as_training_writes_it(summarise, images):
    import torch

    from enas.datasets.augment import Augmentation
    from enas.recipe import RANDOM_FILE, Recipe

    recipe = Recipe(
        child=CHILD,
        data=images,
        retrain=SAME_SIZE.retrain,
        augmentation=Augmentation(),
        seed=0,
        device=torch.device("cpu"),
        precision="fp32",
    )
    write_search("a", [0.9, 0.9], config=SAME_SIZE)
    members = recipe.random_architectures(SPACE.from_json(ANSWER), Path("a/retrain"))
    for index, member in enumerate(members):
        write_result(Path(f"a/retrain/random-{index}"), 0.5, architecture=member.to_json(), seed=index)
    rows, text = summarise("a")
    assert RANDOM_FILE == scripts.trainings.RANDOM_FILE
    assert (len(members), rows[-1][2]) == (3, "3")
    assert "Incomplete" not in text


def test_two_folders_of_the_same_search_count_as_one(summarise):
    ranking = RankingConfig(every_epochs=9)  # it only watches
    watch = {"ranking": ranking, "collapse": CollapseConfig(window=9)}
    again = replace(CONFIG, device="cpu", threads=3, data_dir=Path("x"), preset="enas-macro", **watch)
    write_search("a", [0.90, 0.94], [0.5, 0.5, 0.5])
    write_search("b", [0.80, 0.84], [0.5, 0.5, 0.5], config=again, answer=OTHER)  # another machine's last bits
    write_search("c", [0.70, 0.70], [0.5, 0.5, 0.5], config=replace(CONFIG, seed=1))
    write_retrain("d", "b", [0.6, 0.6])
    write_retrain("e", "a", [0.9, 0.9])
    rows, text = summarise("a", "b", "c", "d", "e")
    deviation = 100 * np.std([0.87, 0.70], ddof=1)
    assert rows[0][:4] == ["enas, paths: controller", "2", "6", f"78.50 +- {deviation:.2f} %"]
    assert [line for line in text.splitlines() if line.startswith("Counted")] == [
        "Counted as one search: b repeats that of a, with the same settings and seed.",
        "Counted as one search: d repeats that of a, with the same settings and seed.",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 60},
        {"shared": replace(CONFIG.shared, batch_size=32)},
        {"controller": replace(CONFIG.controller, enas=replace(CONFIG.controller.enas, learning_rate=0.1))},
        {"warm_start": Path("w")},
        {"seed": 1},
    ],
)
def test_searches_that_differ_in_a_setting_or_the_seed_are_two(changes, summarise):
    write_search("a", [0.9, 0.9], [0.5, 0.5, 0.5])
    write_search("b", [0.8, 0.8], [0.5, 0.5, 0.5], config=replace(CONFIG, **changes))
    rows, text = summarise("a", "b")
    assert rows[0][1] == "2"
    assert "Counted" not in text


def test_setting_that_another_strategy_reads_or_an_older_folder_lacks_makes_no_other_search(summarise):
    other = replace(CONFIG.controller, evolution=replace(CONFIG.controller.evolution, population=99))
    write_search("a", [0.9, 0.9], [0.5, 0.5, 0.5])
    write_search("b", [0.8, 0.8], [0.5, 0.5, 0.5], config=replace(CONFIG, controller=other), answer=OTHER)
    file = Path("b/config.yaml")
    text, count = re.subn(r"  restart_factor: 2\n", "", file.read_text())
    assert count == 1
    file.write_text(text)
    assert summarise("a", "b")[0][0][1:3] == ["1", "4"]


def test_retraining_of_a_searchs_answer_belongs_to_that_search(summarise):
    write_search("a", [0.9, 0.9], [0.5, 0.5, 0.5])
    write_retrain("wider", "a", [0.7, 0.7])
    write_retrain("again", "a/best_architecture.json", [0.7, 0.7])
    rows, _ = summarise("wider", "again")
    assert rows[0] == ["enas, paths: controller", "1", "2", "70.00 %", "1,000"]
    rows, _ = summarise("a", "wider")
    assert rows[0][1:3] == ["1", "2"]  # the same seeds: the same trainings


def test_retraining_of_a_given_architecture_is_named_for_it(summarise):
    write_retrain("a", "enas-macro", [0.7, 0.8], [0.5, 0.5, 0.5])
    write_retrain("b", "0\n5 1", [0.6, 0.6])
    write_retrain("c", " ".join("0" * 30), [0.6, 0.6])
    write_search("enas-macro", [0.1, 0.1])  # a folder of a published name is not what the name means
    rows, _ = summarise("a", "b", "c")
    assert [row[0] for row in rows] == [f"given: {'0 ' * 18}0...", "given: 0 5 1", "given: enas-macro", "random architectures"]
    assert rows[2][1:4] == ["1", "2", "75.00 %"]


def test_runs_without_random_architectures_have_no_verdict(summarise):
    write_search("a", [0.9, 0.9], config=replace(CONFIG, retrain=replace(CONFIG.retrain, random=0)))
    rows, text = summarise("a")
    assert [row[0] for row in rows] == ["enas, paths: controller"]
    assert text == "No random architectures are there to compare with."


def test_file_holds_the_table_and_the_words(summarise):
    write_search("a", [0.9, 0.9], [0.5, 0.5, 0.5])
    rows, text = summarise("a", "--markdown", "summary.md")
    headings, line, *others = Path("summary.md").read_text().splitlines()
    assert headings == "| architectures of | searches | trainings | test accuracy | parameters |"
    assert line == "|:--|--:|--:|--:|--:|"
    assert others[:2] == [f"| {' | '.join(row)} |" for row in rows]
    assert [line for line in others[2:] if line] == text.splitlines()


def test_folders_are_only_read(summarise):
    write_search("a", [0.9], [0.5])
    before = {path: path.stat().st_mtime_ns for path in [Path("a"), *Path("a").rglob("*")]}
    summarise("a")
    assert {path: path.stat().st_mtime_ns for path in [Path("a"), *Path("a").rglob("*")]} == before


# What is said beside it.


def test_runs_that_are_not_complete_are_named(summarise):
    write_search("done", [0.9, 0.9], [0.5, 0.5, 0.5])
    write_search("searching", answer=None, config=replace(CONFIG, seed=1))
    write_search("training", [0.9], [0.5], config=replace(CONFIG, seed=2))
    write_retrain("again", "enas-macro", [0.9, 0.9], [0.5])
    _, text = summarise("done", "searching", "training", "again")
    assert text.splitlines()[2:] == [
        "Incomplete: searching has no answer yet.",
        "Incomplete: training has 1 of 2 trainings of its architecture and 1 of 3 random architectures.",
        "Incomplete: again has 1 of 3 random architectures.",
    ]


def test_run_with_fewer_random_architectures_of_about_the_same_size_than_asked_for_is_complete(summarise):
    write_search("a", [0.9, 0.9], [0.5, 0.6], config=SAME_SIZE)
    write_found("a/retrain", RANDOM[:2])
    write_retrain("b", "a", [0.9, 0.9], [0.5, 0.6], retrain=SAME_SIZE.retrain)
    write_found("b", RANDOM[:2])
    assert "Incomplete" not in summarise("a", "b")[1]
    write_found("a/retrain", RANDOM[:2], complete=False)  # stopped while looking
    write_found("b", RANDOM[:3])
    assert summarise("a", "b")[1].splitlines()[1:3] == [
        "Incomplete: a has 2 of 3 random architectures.",
        "Incomplete: b has 2 of 3 random architectures.",
    ]


def test_searches_of_a_row_that_were_set_up_differently_are_noted(summarise):
    longer = replace(CONFIG, epochs=60, seed=1, shared=replace(CONFIG.shared, batch_size=32))
    controller = replace(CONFIG.controller, enas=replace(CONFIG.controller.enas, learning_rate=0.1))
    for folder, config in {"a": CONFIG, "b": longer, "c": replace(CONFIG, seed=2, controller=controller)}.items():
        write_search(folder, [0.9, 0.9], [0.5, 0.5, 0.5], config=config)
    _, text = summarise("a", "b", "c")
    changed = "epochs, shared.batch_size, controller.enas.learning_rate"
    assert f"Searches of the row enas, paths: controller differ in {changed}." in text


# Of texts.


def tell_perplexities(folder: str, losses: dict[str, float]) -> None:
    """Make the trainings of a folder those of a text. Args: losses: on the test split, by the training's folder."""
    for name, loss in losses.items():
        file = Path(folder, "retrain", name, "result.json")
        record = json.loads(file.read_text())
        record["result"] |= {"metric": "perplexity", "test_loss": loss, "best_test_loss": loss}
        file.write_text(json.dumps(record))


def test_perplexities_are_summarised_the_lower_the_better(summarise):
    for seed, perplexity in enumerate((80.0, 82.0)):
        write_search(f"run{seed}", own=[0.5], random=[0.5, 0.5], config=replace(CONFIG, seed=seed))
        losses = {"searched-0": perplexity, "random-0": 95.0 + seed, "random-1": 97.0 + seed}
        tell_perplexities(f"run{seed}", {name: math.log(value) for name, value in losses.items()})
    rows, words = summarise("run0", "run1")
    assert [row[3] for row in rows] == ["81.00 +- 1.41", "96.50 +- 1.29"]
    assert "The search beat random architectures: -15.50 in perplexity, 95 % interval -" in words


# What can't be compared.


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Return a runner of a command line that is wrong; it returns the message."""

    def call(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["summarise", *line.split()])
        with pytest.raises(SystemExit) as caught:
            scripts.summarise.main()
        assert caught.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        return " ".join(re.sub(r"[╭╮╰╯│─]", " ", printed.err).split())

    return call


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "mnist"}, "data digits, as in a, got mnist"),
        ({"precision": "bf16"}, "precision fp32, as in a, got bf16"),
        ({"split": replace(CONFIG.split, num_train=500)}, "split.num_train None, as in a, got 500"),
        ({"child": replace(CHILD, filters=8)}, "child.filters 4, as in a, got 8"),
        ({"child": replace(CHILD, operations=("conv3x3",))}, "child.operations ['conv3x3', 'sep3x3',"),
        ({"retrain": replace(CONFIG.retrain, epochs=9)}, "retrain.epochs 3, as in a, got 9"),
        ({"retrain": replace(CONFIG.retrain, use_valid=False)}, "retrain.use_valid True, as in a, got False"),
        ({"augment": replace(CONFIG.augment, cutout=2)}, "augment.cutout 0, as in a, got 2"),
    ],
)
@pytest.mark.parametrize("kind", ["search", "retrain"])
def test_runs_whose_trainings_follow_from_other_settings_are_refused(kind, changes, message, refused):
    write_search("a", [0.9, 0.9], [0.5, 0.5, 0.5])
    if kind == "search":
        write_search("b", [0.9, 0.9], [0.5, 0.5, 0.5], config=replace(CONFIG, **changes))
    else:
        write_retrain("b", "a", [0.9, 0.9], **changes)
    assert f"error: b: expected {message}" in refused("a b")


def test_trainings_told_by_different_metrics_are_refused(refused):
    write_search("a", own=[0.5])
    write_search("b", own=[0.5], config=replace(CONFIG, seed=1))
    tell_perplexities("b", {"searched-0": 4.0})
    message = "error: b: expected trainings told by their accuracy, as in a, got perplexity; they can't be compared"
    assert message in refused("a b")


def test_seed_machine_and_number_of_trainings_may_differ(summarise):
    write_search("a", [0.9, 0.9], [0.5, 0.5, 0.5])
    other = replace(CONFIG, seed=9, threads=4, device="cpu", data_dir=Path("x"), preset="enas-macro", warm_start=Path("a"))
    write_search("b", [0.9], config=replace(other, retrain=replace(CONFIG.retrain, seeds=1, random=0)))
    assert summarise("a", "b")[0][0][:3] == ["enas, paths: controller", "2", "3"]


def test_settings_that_an_older_folder_lacks_have_their_default(summarise):
    write_search("a", [0.9, 0.9], [0.5, 0.5, 0.5])
    write_search("b", [0.8, 0.8], config=replace(CONFIG, seed=1))
    for setting in (r"  restart_epochs: null\n(?=  aux_weight)", r"  double_filters: false\n"):
        text, count = re.subn(setting, "", Path("b/config.yaml").read_text())
        assert count == 1
        Path("b/config.yaml").write_text(text)
    assert summarise("a", "b")[0][0][1] == "2"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "runs: expected at least one folder, got none"),
        ("a a", "runs: expected each folder once, got a and a"),
        ("a ../a/../{here}/a", "runs: expected each folder once, got a and ../a/../"),
        ("missing", "runs: expected the folder of a run, with a config.yaml or a retrain.yaml, got missing"),
        ("a empty", "runs: expected the folder of a run, with a config.yaml or a retrain.yaml, got empty"),
        ("a/config.yaml", "runs: expected the folder of a run, with a config.yaml or a retrain.yaml, got a/config.yaml"),
        ("young", "runs: expected at least one finished training, got none: Incomplete: young has no answer yet."),
        ("a --markdown empty", "--markdown: expected a file in a folder that exists, got empty"),
        ("a --markdown missing/x.md", "--markdown: expected a file in a folder that exists, got missing/x.md"),
        (
            "a --markdown a/config.yaml",
            "--markdown: expected a file outside the runs' folders, which are only read, got a/config",
        ),
        ("damaged", "damaged/retrain/random-0/result.json: expected the result of a training, got JSONDecodeError"),
        ("lacking", "lacking/retrain/random-0/result.json: expected the result of a training, got KeyError('result')"),
        ("drawn", "drawn/retrain/random.json: expected the random architectures of about the same size, got KeyError('found')"),
        ("newer", "newer/config.yaml: retrain: RetrainConfig.__init__() got an unexpected keyword argument 'warmup'"),
        ("broken", "broken/config.yaml: expected YAML, got"),
        ("a --bogus", "Unrecognized options: --bogus"),
    ],
)
def test_mistake_is_named(line, message, refused, tmp_path):
    write_search("a", [0.9, 0.9], [0.5, 0.5, 0.5])
    write_search("young", answer=None)
    for folder, text in {"damaged": "{", "lacking": "{}"}.items():
        write_search(folder, [0.9, 0.9], [0.5, 0.5, 0.5])
        Path(folder, "retrain/random-0/result.json").write_text(text)
    for folder, (old, new) in {"newer": ("retrain:\n", "retrain:\n  warmup: 3\n"), "broken": ("retrain:", "retrain: [")}.items():
        write_search(folder)
        file = Path(folder, "config.yaml")
        file.write_text(file.read_text().replace(old, new))
    write_search("drawn", [0.9, 0.9], config=SAME_SIZE)
    Path("drawn/retrain/random.json").write_text("{}")
    Path("empty").mkdir()
    assert message in refused(line.replace("{here}", tmp_path.name))


def test_help_does_not_wait_for_torch():
    code = f"import atexit, sys; sys.argv = ['summarise', '--help']; sys.path.insert(0, {str(ROOT)!r})\n"
    code += "atexit.register(lambda: print({'torch', 'scipy'} & set(sys.modules)))\n"
    code += "from scripts import summarise; summarise.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
