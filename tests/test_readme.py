"""The README's commands parse and its Python runs."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enas.configs import ScheduleConfig
from enas.spaces.nasbench201 import OPERATIONS
from scripts.build import build_search, derive_answer
from scripts.compare import parse_compare
from scripts.configuration import parse_search
from scripts.convert_nasbench import parse_convert
from scripts.evaluate import parse_evaluate
from scripts.presets import nasbench201, rnn_small
from scripts.rank import parse_rank
from scripts.retrain import parse_retrain
from scripts.search_config import SearchConfig
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
    assert {
        "bench",
        "compare",
        "convert_nasbench",
        "evaluate",
        "rank",
        "search",
        "summarise",
        "test",
        "retrain",
        "versus_uniform",
    } <= names
    assert all((ROOT / "scripts" / f"{name}.py").is_file() for name in names)


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in README
    assert not re.findall(r"^[A-Z0-9]{5,}$", README, flags=re.MULTILINE)


def write_table(file: Path) -> None:
    """Write a table of all cells of NAS-Bench-201, with numbers that mean nothing."""
    codes = np.array(list(product(range(len(OPERATIONS)), repeat=6)), dtype=np.uint8)
    numbers = np.linspace(1, 90, len(codes), dtype=np.float32)
    names = [
        f"{start}{data}_{split}" for start in ("", "e12_") for data in ("cifar10", "cifar100") for split in ("valid", "test")
    ]
    names += ["cifar10valid_train_s", "cifar100_train_s", "params_m", "flops_m"]
    np.savez(file, ops=list(OPERATIONS), codes=codes, **dict.fromkeys(names, numbers))


def search_for_a_moment(preset: SearchConfig, folder: Path) -> None:
    """Search to an answer, as the README's runs are found."""
    shared = replace(preset.shared, steps_per_epoch=1)
    schedule = ScheduleConfig(controller_steps=1, architectures_per_step=2)
    with build_search(replace(preset, epochs=1, shared=shared, schedule=schedule), folder) as run:
        run.search.run()
        derive_answer(run)


def search_on_a_table(folder: Path) -> None:
    """Search NAS-Bench-201 on the images of `cifar10.npz`."""
    preset = nasbench201()
    split = replace(preset.split, num_train=200, num_valid=2_000, image_size=4)
    child = replace(preset.child, filters=2)
    search_for_a_moment(replace(preset, data="npz:cifar10.npz", child=child, split=split), folder)


def write_texts(folder: Path) -> None:
    """Write a Penn Treebank and a book of no meaning, as large as the README's commands need."""
    words = [f"w{number}" for number in np.random.default_rng(0).integers(50, size=20_000)]
    text = "\n".join(" ".join(words[start : start + 10]) for start in range(0, len(words), 10)) + "\n"
    (folder / "ptb").mkdir()
    for split in ("train", "valid", "test"):
        (folder / "ptb" / f"ptb.{split}.txt").write_text((10 if split == "train" else 1) * text, encoding="utf-8")
    (folder / "book.txt").write_text(text, encoding="utf-8")


def search_on_a_text(folder: Path) -> None:
    """Search a recurrent cell on the Penn Treebank of `write_texts`."""
    preset = rnn_small()
    text, split = replace(preset.text, bptt=35), replace(preset.split, num_train=5_000)
    search_for_a_moment(replace(preset, data="ptb:ptb", child=replace(preset.child, hidden=2), text=text, split=split), folder)


@pytest.mark.slow
def test_python_runs_and_commands_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "nasbench201.npz")
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
    write_texts(tmp_path)
    few = np.zeros((50_000, 1, 1, 3), dtype=np.uint8)
    np.savez("cifar10.npz", x_train=few, y_train=np.arange(50_000) % 10, x_test=few[:20], y_test=np.arange(20) % 10)
    for flags in commands("search"):
        assert parse_search(flags).epochs >= 1
    for flags in commands("summarise"):
        assert len(parse_summarise(flags).runs) >= 3
    search_on_a_text(tmp_path / "runs" / "ptb-enas-0")
    layers = [" ".join(["0"] + ["1"] * layer) for layer in range(12)]
    (tmp_path / "arc.txt").write_text("\n".join(layers), encoding="utf-8")
    for flags in commands("retrain"):
        command, stored = parse_retrain(flags)
        assert stored.for_child(command.child) is not None
    for flags in commands("evaluate"):
        assert len(parse_evaluate(flags).architectures) >= 1
    search_on_a_table(tmp_path / "runs" / "nb201-enas-0")
    for name in sorted({word.removeprefix("runs/") for flags in commands("rank") for word in flags if "nb201-" in word}):
        if name != "nb201-enas-0":
            shutil.copytree(tmp_path / "runs" / "nb201-enas-0", tmp_path / "runs" / name)
    for flags in commands("rank"):
        assert len(parse_rank(flags).tokens) >= 30
    for flags in commands("compare"):
        assert len(parse_compare(flags).strategies) >= 2
    (tmp_path / "NATS-tss-v1_0-3ffb9-simple").mkdir()
    for flags in commands("convert_nasbench"):
        (tmp_path / "nasbench201.npz").unlink()  # a table is never overwritten
        assert parse_convert(flags).source.is_dir()
    for flags in commands("versus_uniform"):
        assert parse_search(flags[2:]).epochs >= 1
