"""The converter, on small folders and files that are laid out as NATS-Bench's own are."""

from __future__ import annotations

import bz2
import os
import pickle
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import envs  # noqa: F401  registers the environments
import scripts.convert_nasbench
from enas.spaces.nasbench201 import NasBench201Space
from enas.tables import load_table
from scripts.convert_nasbench import convert, parse_convert, read_pickle

ROOT = Path(__file__).parents[2]
SPACE = NasBench201Space()
SEEDS = {"12": (111, 777), "200": (777, 888, 999)}
SPLITS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}
WRONG = 1.0
"""What stands wherever the converter has no business."""


def trial_of(training: str, seed: int, epochs: int, base: float, *, params: float = 0.5) -> dict[str, Any]:
    """Return the state of one training: after the last epoch, split s has an accuracy of base + s + the seed's hundreds."""
    last = epochs - 1
    keys = [f"{split}@{epoch}" for split in SPLITS[training] for epoch in range(epochs)]
    others = dict.fromkeys(keys, WRONG)
    accuracies = dict(others)
    for index, split in enumerate(SPLITS[training]):
        accuracies[f"{split}@{last}"] = base + index + seed // 100
    return {
        "name": "infer.tiny",
        "net_state_dict": None,
        "train_acc1es": OrderedDict.fromkeys(range(epochs), WRONG),
        "train_acc5es": OrderedDict(),
        "train_losses": OrderedDict.fromkeys(range(epochs), WRONG),
        "train_times": OrderedDict((epoch, 2.0 + seed // 100) for epoch in range(epochs)),
        "arch_config": {"channel": 16, "num_cells": 5, "class_num": 10},
        "params": params,
        "flop": 40 * params,
        "seed": seed,
        "epochs": epochs,
        "latency": [0.01],
        "eval_names": list(SPLITS[training]),
        "eval_acc1es": accuracies,
        "eval_times": others,
        "eval_losses": others,
    }


def results_of(index: int, *, trainings: Any = SPLITS, hps: Any = SEEDS) -> dict[str, Any]:
    """Return the results of one cell: trainings by epochs; the bases of their accuracies are 10, 20, ... in `SPLITS`' order."""
    results = {}
    for hp, seeds in hps.items():
        base = 0.0 if hp == "200" else 40.0
        results[hp] = {
            "arch_index": index,
            "arch_str": SPACE.to_text(SPACE.of_official_index(index)),
            "all_results": {
                (training, seed): trial_of(training, seed, int(hp), base + 10 * (1 + list(SPLITS).index(training)) + index / 1000)
                for training in trainings
                for seed in seeds
            },
            "dataset_seed": {training: list(seeds) for training in trainings},
            "clear_net_done": True,
        }
    return results


def write(file: Path, content: Any) -> Path:
    with bz2.open(file, "wb") as opened:
        pickle.dump(content, opened, protocol=4)
    return file


def write_raw(file: Path, content: bytes) -> Path:
    file.write_bytes(bz2.compress(content))
    return file


def write_folder(folder: Path, cells: dict[int, Any]) -> Path:
    folder.mkdir()
    write(
        folder / "meta.pickle.pbz2",
        {"meta_archs": [], "total_archs": 15_625, "arch_strs": set(), "evaluated_indexes": set(cells)},
    )
    for index, results in cells.items():
        write(folder / f"{index:06d}.pickle.pbz2", results)
    return folder


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    """A folder with three cells."""
    return write_folder(tmp_path / "NATS-tss-v1_0-3ffb9-simple", {index: results_of(index) for index in (284, 0, 11)})


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["convert_nasbench", *map(str, arguments)])
    scripts.convert_nasbench.main()


# What is in the table.


def test_table_has_the_means_over_seeds_after_the_last_epoch(simple, tmp_path, monkeypatch, capsys):
    """By hand: 200 epochs have the seeds 777, 888, 999, mean 8; 12 epochs 111 and 777, mean 4. Cell 11 adds .011."""
    run(monkeypatch, "--source", simple, "--out", tmp_path / "table.npz")
    table = load_table(tmp_path / "table.npz")
    tokens = np.array([SPACE.encode(SPACE.of_official_index(index)) for index in (0, 11, 284)])
    assert table.codes.tolist() == tokens.tolist()
    assert table.datasets == ("cifar10", "cifar100", "imagenet16")
    plus = np.array([0, 0.011, 0.284])
    for data, valid, test in (("cifar10", 10, 20), ("cifar100", 30, 31), ("imagenet16", 40, 41)):
        assert table.accuracy(data, "valid") * 100 == pytest.approx(valid + 8 + plus)
        assert table.accuracy(data, "test") * 100 == pytest.approx(test + 8 + plus)
        assert table.accuracy(data, "valid", epochs=12) * 100 == pytest.approx(40 + valid + 4 + plus)
        assert table.accuracy(data, "test", epochs=12) * 100 == pytest.approx(40 + test + 4 + plus)
        assert table.train_seconds(data, epochs=200).tolist() == [200 * (2 + 8)] * 3
    assert table.parameters.tolist() == [500_000] * 3
    assert table.flops.tolist() == [20_000_000] * 3
    output = capsys.readouterr()
    assert output.out.startswith(f"{tmp_path / 'table.npz'}: 3 cells; cifar10_valid, ")
    assert sorted(file.name for file in tmp_path.iterdir()) == [simple.name, "table.npz"]


def test_environment_answers_from_a_converted_table(simple, tmp_path, monkeypatch):
    run(monkeypatch, "--source", simple, "--out", tmp_path / "table.npz")
    env = gym.make("enas/NasBench201Table-v0", table=str(tmp_path / "table.npz"), data="imagenet16", epochs=12)
    env.reset()
    _, reward, _, _, info = env.step(np.array(SPACE.encode(SPACE.of_official_index(11))))
    assert reward == pytest.approx(0.84011)
    assert info["seconds"] == pytest.approx(120)


def test_single_file_gives_the_same_table(simple, tmp_path):
    cells = {index: results_of(index) for index in (284, 0, 11)}
    file = write(
        tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2", {"meta_archs": [], "arch2infos": cells, "evaluated_indexes": {0, 11, 284}}
    )
    assert_same(convert(file), convert(simple))


def test_weights_of_the_full_files_are_read_past(simple, tmp_path, monkeypatch):
    cells = {index: results_of(index) for index in (0, 11, 284)}
    for results in cells.values():
        for state in results.values():
            for trial in state["all_results"].values():
                trial["net_state_dict"] = OrderedDict(
                    weight=torch.ones(2, 3), steps=torch.tensor(5), bias=torch.nn.Parameter(torch.ones(2))
                )
    full = write_folder(tmp_path / "full", cells)

    def refuse(*arguments: Any) -> None:
        raise AssertionError("a tensor was built")

    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        monkeypatch.setattr(torch._utils, name, refuse)
    monkeypatch.setattr(torch.storage, "_load_from_bytes", refuse)
    assert_same(convert(full), convert(simple))


def assert_same(one: Any, other: Any) -> None:
    assert one.codes.tolist() == other.codes.tolist()
    assert {name: values.tolist() for name, values in one.columns.items()} == {
        name: values.tolist() for name, values in other.columns.items()
    }


def test_numbers_of_numpy_are_read_too(simple, tmp_path):
    cells = {index: results_of(index) for index in (0, 11, 284)}
    for results in cells.values():
        for state in results.values():
            for trial in state["all_results"].values():
                trial["eval_acc1es"] = {key: np.float64(value) for key, value in trial["eval_acc1es"].items()}
                trial["params"], trial["epochs"] = np.float64(trial["params"]), np.int64(trial["epochs"])
                trial["latency"] = np.ones(3)
    assert_same(convert(write_folder(tmp_path / "numpy", cells)), convert(simple))


SCALAR = np.float64(0).__reduce__()[0]
"""What NumPy pickles numbers as a call of."""


@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f4", "<f2", "|i1", ">i2", "<u8", "|b1"])
def test_number_of_each_kind_has_its_value(kind, tmp_path):
    number = np.array(1, dtype=kind)
    assert read_pickle(write(tmp_path / "one.pickle.pbz2", Harm(SCALAR, number.dtype, number.tobytes()))) == 1


def test_numbers_that_numpy_1_wrote_are_read_and_arrays_are_read_past(tmp_path):
    content = pickle.dumps([np.float64(1.5), np.arange(3), np.int32(-7)], protocol=3)  # names as plain text
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != content
    first, array, last = read_pickle(write_raw(tmp_path / "old.pickle.pbz2", old))
    assert (first, last) == (1.5, -7)
    assert not isinstance(array, np.ndarray)


def test_seed_888_counts_where_sizes_disagree(tmp_path):
    """As the authors' API does: some files have wrong sizes under other seeds."""
    results = results_of(0)
    for seed, params in ((777, 0.3), (888, 0.7), (999, 0.3)):
        results["200"]["all_results"]["cifar10-valid", seed] = trial_of("cifar10-valid", seed, 200, 10, params=params)
    table = convert(write_folder(tmp_path / "odd", {0: results}))
    assert (table.parameters.tolist(), table.flops.tolist()) == ([700_000], [28_000_000])


def test_what_no_cell_has_is_left_out(tmp_path):
    results = results_of(0, trainings=["cifar10-valid"], hps={"12": (777,)})
    table = convert(write_folder(tmp_path / "part", {0: results}))
    assert list(table.columns) == ["e12_cifar10_valid"]
    untimed = results_of(0, trainings=["cifar10-valid"])
    untimed["200"]["all_results"]["cifar10-valid", 888]["train_times"] = None
    table = convert(write_folder(tmp_path / "untimed", {0: untimed}))
    assert list(table.columns) == ["cifar10_valid", "e12_cifar10_valid", "params_m", "flops_m"]


# What is refused.


class Harm:
    """Pickles as a call, and as a change of what it returned where a state is given."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "name"), [(os.mkdir, r"(posix|nt)\.mkdir"), (eval, r"builtins\.eval"), (Path, r"pathlib.*Path")]
)
def test_pickle_that_is_a_program_is_refused_and_not_run(function, name, tmp_path):
    made = tmp_path / "made"
    argument = f"__import__('os').mkdir({str(made)!r})" if function is eval else str(made)
    folder = write_folder(tmp_path / "harmful", {0: {"200": Harm(function, argument)}})
    with pytest.raises(
        ValueError, match=rf"000000\.pickle\.pbz2: expected .* plain data, got .*it names {name}, which is no data"
    ):
        convert(folder)
    assert not made.exists()


def test_calls_of_pytorch_are_not_run(tmp_path):
    file, made = tmp_path / "torch.pickle.pbz2", tmp_path / "made.pt"
    write(file, {"weights": Harm(torch.save, [1], str(made))})
    assert list(read_pickle(file)) == ["weights"]
    assert not made.exists()


POINTER = b"A" * 8
HIDDEN = Harm(np.dtype, "V8", state=(3, "|", None, ("f0",), {"f0": (np.dtype("O"), 0)}, 8, 1, 0))
UNCHECKED = Harm(OrderedDict, state={"code": "S8"})
ATTACKS = {
    "array": (Harm(np.ndarray, (), "O", POINTER), r"the results of one cell, .*float"),
    "array-of-pointers": (Harm(np.ndarray, (), np.dtype("O"), POINTER), "it names the type O8, which is not that of a number"),
    "hidden-pointer": (Harm(np.ndarray, (), HIDDEN, POINTER), "it names the type V8, which is not that of a number"),
    "pointer": (Harm(SCALAR, np.dtype("O"), POINTER), "it names the type O8, which is not that of a number"),
    "wrong-size": (Harm(SCALAR, np.dtype("f8"), POINTER[:7]), "cannot be read: buffer size"),
    "no-type": (Harm(SCALAR, UNCHECKED, POINTER), "it has a number without a type"),
    "codec": (Harm(str, b"a", "nope"), r"it names builtins\.str, which is no data"),
    "factory": (Harm(int, "9" * 400), r"it names builtins\.int, which is no data"),
    "deep-key": (b"\x80\x04})" + b"\x85" * 200_000 + b"K\x01s.", "it has more than 10,000 tuples in one another"),
    "change-of-a-class": (b"\x80\x04cnumpy\ndtype\nN}\x8c\x04code\x8c\x02O8s\x86b.", "cannot be read"),
    "change-of-a-number-class": (b"\x80\x04cnumpy.core.multiarray\nscalar\nN}\x8c\x07__add__Ns\x86b.", "cannot be read"),
}
"""Name -> a cell's `flop`, or a whole file, and how it is refused."""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a process says to the attacks, a line for each: one that takes the process down leaves none."""
    folder = tmp_path_factory.mktemp("attacks")
    for name, (attack, _) in ATTACKS.items():
        results = results_of(0)
        results["200"]["all_results"]["cifar10-valid", 777]["flop"] = attack
        write_folder(folder / name, {0: results})
        if isinstance(attack, bytes):
            write_raw(folder / name / "000000.pickle.pbz2", attack)
    code = (
        "import sys; from pathlib import Path; from scripts.convert_nasbench import convert\n"
        "for folder in sys.argv[1:]:\n"
        "    try: convert(Path(folder))\n"
        "    except ValueError as error: print(error, flush=True)\n"
        "    else: print(folder, 'was read', flush=True)\n"
    )
    command = [sys.executable, "-c", code, *(str(folder / name) for name in ATTACKS)]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60, check=False).stdout.splitlines()


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused_naming_the_file_and_the_process_lives(name, refusals):
    (line,) = [line for line in refusals if f"/{name}/" in line.replace(os.sep, "/")]
    assert re.search(rf"000000\.pickle\.pbz2: expected .*{ATTACKS[name][1]}", line)


DEEP = 10_001
NESTED = {
    "one-by-one": b")" + b"\x85" * DEEP,
    "in-marks": b"(" * DEEP + b"t" * DEEP,
    "in-sets": b"(" * DEEP + b"\x91" * DEEP,
    "through-the-memo": b")q\x00" + b"0h\x00\x85q\x00" * DEEP,
    "past-marks": b")" + b"(0\x85" * DEEP,
    "beside-others": b")" + b"N(K\x01K\x021N\x87" * DEEP,
}


@pytest.mark.parametrize("nesting", NESTED.values(), ids=list(NESTED))
def test_tuples_too_deep_are_refused_however_they_were_built(nesting, tmp_path):
    with pytest.raises(ValueError, match=r"deep\.pickle\.pbz2: .*it has more than 10,000 tuples in one another"):
        read_pickle(write_raw(tmp_path / "deep.pickle.pbz2", b"\x80\x04" + nesting + b"."))


def test_tuples_as_deep_as_admitted_and_many_flat_ones_are_read(tmp_path):
    deepest = read_pickle(write_raw(tmp_path / "deep.pickle.pbz2", b"\x80\x04(0)" + b"\x85" * (DEEP - 1) + b"."))
    depth = 0
    while deepest:
        (deepest,), depth = deepest, depth + 1
    assert depth == DEEP - 1
    flat = [{(index, (index, index)): frozenset((index,))} for index in range(DEEP)]
    assert read_pickle(write(tmp_path / "flat.pickle.pbz2", flat)) == flat


def test_texts_without_end_are_not_shown(tmp_path):
    """Where an error would show what is nested deeper than Python prints."""
    key = write_raw(tmp_path / "key.pickle.pbz2", b"\x80\x04})" + b"\x85" * 5000 + b"K\x01s.")
    with pytest.raises(ValueError, match=r"key\.pickle\.pbz2: expected 'arch2infos' .*, got a dict with \(\(\("):
        convert(key)
    results = results_of(0)
    results["200"]["all_results"]["cifar10", 888]["epochs"] = "nested"
    folder = write_folder(tmp_path / "nested", {0: results})
    content = pickle.dumps(results, protocol=3)  # without frames, whose lengths would change
    nested = content.replace(b"X\x06\x00\x00\x00nested", b"]" * 5000 + b"a" * 4999)
    assert nested != content
    write_raw(folder / "000000.pickle.pbz2", nested)
    with pytest.raises(ValueError, match=r"000000\.pickle\.pbz2: expected the results of one cell, .*recursion"):
        convert(folder)


def drop_seeds(results: Any) -> None:
    del results["200"]["dataset_seed"]


def drop_split(results: Any) -> None:
    del results["200"]["all_results"]["cifar100", 888]["eval_acc1es"]["x-test@199"]


def shorten(results: Any) -> None:
    results["12"]["all_results"]["cifar10", 111]["epochs"] = 11


def spoil(results: Any) -> None:
    results["12"]["all_results"]["cifar10", 111]["eval_acc1es"]["ori-test@11"] = 1000.0


def swell(results: Any) -> None:
    results["200"]["all_results"]["cifar10-valid", 999]["params"] = 10**400


def overflow(results: Any) -> None:
    results["200"]["all_results"]["cifar10-valid", 888]["params"] = 1e300


def rename(results: Any) -> None:
    results["200"]["arch_str"] = SPACE.to_text(SPACE.of_official_index(12))


def empty(results: Any) -> None:
    results.clear()


def drop_training(results: Any) -> None:
    results["200"]["dataset_seed"]["ImageNet16-120"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_seeds, r"000011\.pickle\.pbz2: expected the results of one cell, found no 'dataset_seed' in them"),
        (drop_split, r"000011\.pickle\.pbz2: expected the results of one cell, found no 'x-test@199' in them"),
        (shorten, r"000011\.pickle\.pbz2: expected trainings of 12 epochs on cifar10, got 11"),
        (rename, r"000011\.pickle\.pbz2: expected cell 11, \|.*, got \|"),
        (swell, r"000011\.pickle\.pbz2: expected the results of one cell, got values that cannot be meant \(.*too large"),
        (empty, r"000011\.pickle\.pbz2: expected trainings of 200 or 12 epochs, got a dict with nothing"),
        (
            drop_training,
            r"000011.*: expected the same numbers as of the first cell, but only one .* imagenet16_test, imagenet16_train_s, ",
        ),
        (overflow, r"simple: params_m: expected float32 numbers from 0, got 1e\+300"),
        (spoil, r"simple: e12_cifar10_test: expected percent in \[0, 100\], got"),
    ],
)
def test_cell_of_another_layout_is_refused_naming_the_file(change, message, tmp_path):
    cells = {index: results_of(index) for index in (0, 11)}
    change(cells[11])
    with pytest.raises(ValueError, match=message):
        convert(write_folder(tmp_path / "simple", cells))


@pytest.mark.parametrize("content", [[1, 2], 3.5, {"200": [1]}, {"200": {"arch_str": []}}])
def test_pickle_of_something_else_is_refused(content, tmp_path):
    with pytest.raises(ValueError, match=r"000000\.pickle\.pbz2: expected the results of one cell"):
        convert(write_folder(tmp_path / "other", {0: content}))
    with pytest.raises(ValueError, match=r"all\.pickle\.pbz2: expected 'arch2infos' with the results of each cell"):
        convert(write(tmp_path / "all.pickle.pbz2", content))


@pytest.mark.parametrize("damage", [b"", b"no archive", "cut", "changed"])
def test_damaged_file_is_refused_naming_it(damage, simple):
    file = simple / "000011.pickle.pbz2"
    content = file.read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 255
    file.write_bytes({"cut": content[: len(content) // 2], "changed": bytes(changed)}.get(damage, damage))
    with pytest.raises(ValueError, match=r"000011\.pickle\.pbz2: expected a bz2-compressed pickle of plain data"):
        convert(simple)


def test_number_that_the_benchmark_does_not_have_is_refused(tmp_path):
    folder = write_folder(tmp_path / "large", {0: results_of(0)})
    (folder / "000000.pickle.pbz2").rename(folder / "015625.pickle.pbz2")
    with pytest.raises(ValueError, match=r"015625\.pickle\.pbz2: .*expected an index in 0\.\.15624, got 15625"):
        convert(folder)


def test_folder_without_cells_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none: expected files such as 000000\.pickle\.pbz2, got none"):
        convert(write_folder(tmp_path / "none", {}))


def test_nothing_is_overwritten_or_left_behind(simple, tmp_path, monkeypatch, capsys):
    out = tmp_path / "table.npz"
    out.write_bytes(b"precious")
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--source", simple, "--out", out)
    assert ended.value.code == 2
    assert "--out: expected a file that does not exist yet" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    (simple / "000011.pickle.pbz2").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--source", simple, "--out", tmp_path / "other.npz")
    assert ended.value.code == 2
    assert "000011.pickle.pbz2" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == [simple.name, "table.npz"]


def test_file_that_appears_meanwhile_is_kept(simple, tmp_path, monkeypatch):
    out = tmp_path / "table.npz"
    command = parse_convert(["--source", str(simple), "--out", str(out)])
    out.write_bytes(b"precious")
    with pytest.raises(ValueError, match="--out: expected a file that does not exist yet"):
        scripts.convert_nasbench.run_convert(command)
    assert out.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("nowhere", "table.npz", "--source: expected a folder or a file of NATS-Bench, found nothing at nowhere"),
        (".", "table.csv", r"--out: expected an \.npz file in a folder that exists, got table\.csv"),
        (".", "nowhere/table.npz", r"--out: expected an \.npz file in a folder that exists"),
    ],
)
def test_wrong_paths_are_refused_before_anything_is_read(source, out, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        parse_convert(["--source", source, "--out", out])
