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

import scripts.compare
import scripts.evaluate
import scripts.rank
import scripts.search
import scripts.summarise
from controllers.gaea import GaeaConfig
from scripts.build import build_search
from scripts.configuration import parse_search
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
    assert not any(word in report for word in ("accurac", "image"))
    drawing = (finished / "best_architecture.svg").read_text()
    assert f"shared-weight validation perplexity {answer['valid_perplexity']:.2f}, " in drawing


def test_record_and_scalars_of_a_search_hold_perplexities(finished):
    answer = json.loads((finished / "best_architecture.json").read_text())
    rows, metrics = rows_of(finished / "architectures.jsonl"), rows_of(finished / "metrics.jsonl")
    for row in (row for row in rows if row["phase"] != "shared"):
        assert row["reward"] == pytest.approx(80 / row["perplexity"])
    derived = next(row for row in metrics if "derive/best" in row)
    assert derived["derive/best"] == answer["valid_perplexity"] <= derived["derive/mean"]
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
