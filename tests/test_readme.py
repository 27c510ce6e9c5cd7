"""The README's commands parse and its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.configuration import parse_search
from scripts.evaluate import parse_evaluate
from scripts.retrain import parse_retrain
from scripts.summarise import parse_summarise

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(name: str) -> list[list[str]]:
    """Return the flags of every `python3 scripts/run.py NAME ...` in the README."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    start = f"python3 scripts/run.py {name}"
    return [shlex.split(line.removeprefix(start)) for line in lines if line == start or line.startswith(f"{start} ")]


def test_every_command_named_is_a_module() -> None:
    names = set(re.findall(r"scripts/run\.py (\w+)", README))
    assert {"bench", "evaluate", "search", "summarise", "test", "retrain", "versus_uniform"} <= names
    assert all((ROOT / "scripts" / f"{name}.py").is_file() for name in names)


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README


@pytest.mark.slow
def test_python_runs_and_commands_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec", dont_inherit=True), namespace)
    run = tmp_path / "runs" / "mine"
    assert (run / "best_architecture.json").is_file()
    assert (tmp_path / "runs" / "chain" / "best_architecture.json").is_file()

    run.rename(run.with_name("NAME"))  # the README's name for a finished run
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(900):
            Image.new("L", (70, 64)).save(tmp_path / "photos" / name / f"{number}.png")
    few = np.zeros((50_000, 1, 1, 3), dtype=np.uint8)
    np.savez("cifar10.npz", x_train=few, y_train=np.arange(50_000) % 10, x_test=few[:20], y_test=np.arange(20) % 10)
    for flags in commands("search"):
        assert parse_search(flags).epochs >= 1
    for flags in commands("summarise"):
        assert len(parse_summarise(flags).runs) >= 3
    layers = [" ".join(["0"] + ["1"] * layer) for layer in range(12)]
    (tmp_path / "arc.txt").write_text("\n".join(layers), encoding="utf-8")
    for flags in commands("retrain"):
        command, stored = parse_retrain(flags)
        assert stored.for_child(command.child) is not None
    for flags in commands("evaluate"):
        assert len(parse_evaluate(flags).architectures) >= 1
    for flags in commands("versus_uniform"):
        assert parse_search(flags[2:]).epochs >= 1
