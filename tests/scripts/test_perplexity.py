"""A search on a text through all commands: everything that people read tells perplexities."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import enas.datasets.text_file
import scripts.compare
import scripts.evaluate
import scripts.rank
import scripts.search
import scripts.summarise
from controllers.gaea import GaeaConfig
from scripts.build import build_search
from scripts.configuration import parse_search
from scripts.retrain import parse_retrain
from scripts.search_config import ControllerSettings, SearchConfig

SETTINGS = (
    "--space rnn --data text:words.txt --reward perplexity --child.num-nodes 2 --child.hidden 4 --text.bptt 5 --threads 1 "
    "--shared.batch-size 4 --shared.valid-batch-size 2 --shared.steps-per-epoch 3 --shared.weight-decay 0 --epochs 2 "
    "--schedule.controller-steps 2 --schedule.architectures-per-step 3 --schedule.candidates 3 --device cpu "
    "--retrain.epochs 1 --retrain.batch-size 4 --retrain.use-valid False --retrain.seeds 1 --retrain.random 0"
)


def write_text() -> None:
    words = np.random.default_rng(0).choice(["to", "be", "or", "not", "that", "is"], 800)
    Path("words.txt").write_text(" ".join(words))


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def call() -> Callable[..., None]:
    def run(module: Any, line: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [module.__name__, *line.split()])
            patch.setenv("COLUMNS", "200")
            module.main()

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, call: Callable[..., None]) -> Iterator[Path]:
    """Return a run's folder, in a folder of its own that everything runs in."""
    folder = tmp_path_factory.mktemp("text")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_text()
        call(scripts.search, f"{SETTINGS} --retrain.random 2 --objective.max-parameters 1000000 --run-dir run")
        yield folder / "run"


def test_report_and_files_of_a_search_tell_perplexities(finished):
    answer = json.loads((finished / "best_architecture.json").read_text())
    assert answer["valid_perplexity"] == math.exp(answer["valid_loss"])
    report = (finished / "report.md").read_text()
    assert f"Shared-weight perplexity on the whole validation set: {answer['valid_perplexity']:.2f}; " in report
    assert "multiply-adds for one token." in report
    assert "| architecture | trainings | test perplexity | validation perplexity | best test perplexity | parameters |" in report
    assert "## Perplexity against parameters" in report
    assert "| `vocabulary.json` | " in report
    assert (finished / "vocabulary.json").exists()
    assert not any(word in report for word in ("accurac", "image"))
    drawing = (finished / "best_architecture.svg").read_text()
    assert f"shared-weight validation perplexity {answer['valid_perplexity']:.2f}, " in drawing


def test_record_and_scalars_of_a_search_hold_perplexities(finished):
    answer = json.loads((finished / "best_architecture.json").read_text())
    rows, metrics = rows_of(finished / "architectures.jsonl"), rows_of(finished / "metrics.jsonl")
    for row in (row for row in rows if row["phase"] != "shared"):
        assert row["reward"] == pytest.approx(80 / row["perplexity"])
    derived = next(row for row in metrics if "derive/best" in row)
    perplexities = [row["perplexity"] for row in rows if row["phase"] == "derive"]
    assert derived["derive/best"] == answer["valid_perplexity"] == min(perplexities)
    assert derived["derive/mean"] == pytest.approx(np.exp(np.mean(np.log(perplexities))), rel=1e-9)
    results = [json.loads(file.read_text())["result"] for file in finished.glob("retrain/searched-*/result.json")]
    (outcome,) = (row["retrain/test_perplexity"] for row in metrics if "retrain/test_perplexity" in row)
    assert outcome == pytest.approx(np.mean([math.exp(result["test_loss"]) for result in results]))
    assert {"shared/perplexity", "controller/perplexity"} <= {tag for row in metrics for tag in row}


def test_evaluate_tells_perplexities(finished, call, capsys):
    call(scripts.evaluate, "--run run --architecture run --json found.json")
    (row,) = json.loads(Path("found.json").read_text())["architectures"]
    assert row["perplexity"] == pytest.approx(math.exp(row["loss"]))
    assert {"num_tokens", "accuracy"} <= set(row)
    assert "num_images" not in row
    headings = capsys.readouterr().out.splitlines()[2]
    assert [cell.strip() for cell in headings.split("┃")[2:-1]] == [
        "perplexity",
        "loss (nats)",
        "parameters",
        "multiply-adds",
        "tokens",
    ]


def test_rank_takes_test_perplexities_for_the_truth_and_losses_for_scores(finished, call, capsys):
    call(scripts.rank, "--runs run --truth retrain --num-architectures 3 --out ranks")
    record = json.loads(Path("ranks/rank.json").read_text())
    assert record["score"] == "loss"
    files = [Path(f"ranks/retrain-1/architecture-{index}/result.json") for index in range(3)]
    losses = [json.loads(file.read_text())["result"]["test_loss"] for file in files]
    truths = [row["truth"][0] for row in record["architectures"]]
    assert truths == pytest.approx(np.exp(losses).tolist())
    scores = [row["loss"][0] for row in record["architectures"]]
    best = int(np.argmin(scores))
    assert record["runs"][0]["by_loss"]["regrets"]["1"] == pytest.approx(truths[best] - min(truths))
    assert "loss under shared weights against test perplexity when trained from scratch" in capsys.readouterr().out


def test_compare_judges_by_test_perplexity(finished, call, capsys):
    call(scripts.compare, f"{SETTINGS} --preset quickstart --strategies uniform evolution --seeds 1 --run-dir compared")
    record = json.loads(Path("compared/results.json").read_text())
    assert (record["metric"], record["judged"]) == ("perplexity", "test perplexity from scratch")
    result = json.loads(Path("compared/evolution/seed-0/retrain/searched-0/result.json").read_text())["result"]
    outcome = next(one for one in record["outcomes"] if one["strategy"] == "evolution")
    assert outcome["measures"]["test perplexity from scratch"] == pytest.approx(math.exp(result["test_loss"]))
    report = Path("compared/report.md").read_text()
    assert "Reward: 80 / perplexity. Strategies are judged by perplexity alone" in report
    assert "accurac" not in report
    assert "evolution beats random: " in capsys.readouterr().out


def test_summarise_tells_perplexities(finished, call, capsys):
    call(scripts.summarise, "run")
    assert "test perplexity" in capsys.readouterr().out


def test_strategies_that_learn_otherwise_are_refused_with_their_reason(finished):
    config = parse_search(SETTINGS.split())

    def with_gaea(**settings: Any) -> SearchConfig:
        return replace(config, strategy="gaea", controller=ControllerSettings(gaea=GaeaConfig(kind="sampled", **settings)))

    assert with_gaea().reward == "perplexity"
    with pytest.raises(ValueError, match=r"--reward: expected accuracy, .* learns from accuracies on training minibatches alone"):
        with_gaea(level="single")
    with pytest.raises(ValueError, match="darts does not fit, rnn: expected a space with mixtures"):
        replace(config, strategy="darts")


def test_next_token_accuracy_may_be_the_reward(finished, tmp_path):
    config = parse_search(SETTINGS.replace("--reward perplexity", "--reward accuracy").split())
    with build_search(config, tmp_path / "run") as run:
        run.search.run()
    rows = [row for row in rows_of(tmp_path / "run" / "architectures.jsonl") if row["phase"] == "controller"]
    assert all(row["reward"] == row["accuracy"] for row in rows)
    assert all(row["perplexity"] > 1 for row in rows)


def test_mistake_that_only_a_whole_file_tells_ends_the_command_in_a_message(tmp_path, call, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_text()
    monkeypatch.setattr(enas.datasets.text_file, "HEAD_BYTES", 500)
    parse_search([*SETTINGS.split(), "--shared.batch-size", "200"])
    for flags, message in (
        ("--shared.batch-size 200", "shared.batch_size: expected at most 128, the number of sequences of 5 tokens, got 200"),
        ("--split.num-train 700", "num_train: expected 2 to 641 of the 641 training tokens, got 700"),
    ):
        with pytest.raises(SystemExit) as caught:
            call(scripts.search, f"{SETTINGS} {flags} --run-dir run")
        assert (caught.value.code, capsys.readouterr().err) == (2, f"error: {message}\n")
    assert not Path("run").exists()


def test_penn_treebank_needs_no_flag_but_its_folder(tmp_path):
    words = " ".join(np.random.default_rng(0).choice(["to", "be", "or", "not"], 8_000))
    for name in ("train", "valid", "test"):
        (tmp_path / f"ptb.{name}.txt").write_text(words)
    assert parse_search(["--preset", "rnn-small", "--data", f"ptb:{tmp_path}"]).space == "rnn"
    assert parse_retrain(["--architecture", "enas-rnn", "--data", f"ptb:{tmp_path}"])[0].space == "rnn"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--reward perplexity", "reward: expected accuracy or cost_product with images, which have no perplexity"),
        (
            "--preset rnn-small --reward cost_product --objective.cost flops --objective.target 1e5",
            "reward: expected accuracy or perplexity with a text; cost_product weighs accuracy",
        ),
    ],
)
def test_rewards_of_other_data_are_refused_with_their_reason(flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_search(flags.split())
    assert caught.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_preset_for_texts_may_be_changed_into_one_for_images():
    config = parse_search(["--preset", "rnn-small", "--space", "macro", "--data", "digits"])
    assert (config.space, config.reward) == ("macro", "accuracy")
    assert parse_search(["--preset", "rnn-small", "--objective.max-parameters", "1e6"]).reward == "perplexity"
