from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import pickle
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import enas.checkpoint
from enas.atomic_file import write_atomically
from enas.checkpoint import (
    CURRENT,
    HASHES,
    PREVIOUS,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
    saved_unless_refused,
)
from enas.errors import CheckpointError
from enas.types import State


def state_of(number: int) -> State:
    """A state whose parts all tell which one it is."""
    return {"number": number, "weights": torch.full((50,), float(number)), "nested": {"list": [number] * 3, "none": None}}


def number_of(state: State | None) -> int:
    """Which state it is; fails for one that is mixed."""
    assert state is not None
    number = state["number"]
    assert torch.equal(state["weights"], torch.full((50,), float(number)))
    assert state["nested"] == {"list": [number] * 3, "none": None}
    return int(number)


def saved(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(1, count + 1):
        save_checkpoint(folder, state_of(number))
    return folder


def test_newest_state_is_loaded(tmp_path):
    for number in (1, 2, 3):
        save_checkpoint(tmp_path, state_of(number))
        assert number_of(load_checkpoint(tmp_path)) == number
    assert {path.name for path in tmp_path.iterdir()} == {CURRENT, PREVIOUS, HASHES}
    assert number_of(torch.load(tmp_path / PREVIOUS, weights_only=True)) == 2


def test_folder_without_checkpoint_gives_none(tmp_path):
    assert load_checkpoint(tmp_path) is None
    (tmp_path / "config.yaml").write_text("epochs: 3\n")
    assert load_checkpoint(tmp_path) is None


def test_hashes_are_in_the_format_of_sha256sum(tmp_path):
    saved(tmp_path, 2)
    text = (tmp_path / HASHES).read_bytes().decode("ascii")
    expected = [f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in (CURRENT, PREVIOUS)]
    assert text == "".join(expected)
    assert re.fullmatch(r"([0-9a-f]{64}  [\w.]+\n)+", text)
    if shutil.which("sha256sum"):
        check = subprocess.run(["sha256sum", "-c", HASHES], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert check.stdout.splitlines() == [f"{CURRENT}: OK", f"{PREVIOUS}: OK"]


# Kills: the save ends between any two of its file operations, or within one that writes.


class Killed(BaseException):
    """What stands for SIGKILL: nothing may catch it, and nothing after it runs."""


class Operations:
    """Counts file operations; the one numbered `fatal` (from 0) does not happen, or happens by half."""

    def __init__(self, fatal: int | None, *, by_half: bool = False) -> None:
        self.fatal = fatal
        self.by_half = by_half
        self.count = 0

    def dies_here(self) -> bool:
        self.count += 1
        return self.count - 1 == self.fatal


@contextmanager
def killing(operations: Operations) -> Iterator[None]:
    def wrapped(function: Callable[..., Any], half: Callable[..., Any] | None = None) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            if operations.dies_here():
                if half is not None and operations.by_half:
                    half(*arguments)
                raise Killed
            return function(*arguments, **options)

        return run

    def half_a_save(state: State, file: Any) -> None:
        save(state, file)
        size = file.tell()
        file.truncate(size // 2)
        file.flush()

    save = torch.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", wrapped(save, half_a_save))
        patch.setattr(Path, "open", wrapped(Path.open))
        for name in ("fsync", "open", "rename", "replace", "unlink"):
            patch.setattr(os, name, wrapped(getattr(os, name)))
        yield


def is_killed(folder: Path, number: int, fatal: int, *, by_half: bool = False) -> bool:
    """Save a state and die in an operation; False where the save has fewer and is complete."""
    try:
        with killing(Operations(fatal, by_half=by_half)):
            save_checkpoint(folder, state_of(number))
    except Killed:
        return True
    return False


def load_quietly(folder: Path) -> State | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a damaged file, which is what the test made
        return load_checkpoint(folder)


@pytest.mark.parametrize("by_half", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_save_killed_in_any_operation_leaves_the_old_or_the_new_state(count, by_half, tmp_path):
    numbers = []
    for fatal in itertools.count():
        folder = saved(tmp_path / str(fatal), count)
        if not is_killed(folder, count + 1, fatal, by_half=by_half):
            break
        state = load_checkpoint(folder)  # a warning would fail: nothing is damaged
        numbers.append(number_of(state) if state else 0)
        assert not list(folder.glob("*.tmp"))
        save_checkpoint(folder, state_of(9))
        assert number_of(load_checkpoint(folder)) == 9
    assert len(numbers) >= 8
    assert numbers == sorted(numbers)
    assert set(numbers) == {count, count + 1}


def test_two_killed_saves_in_a_row_lose_no_complete_one(tmp_path):
    for first in itertools.count():
        for second in itertools.count():
            folder = saved(tmp_path / f"{first}-{second}", 2)
            was_killed = is_killed(folder, 3, first)
            loaded = number_of(load_checkpoint(folder))
            assert loaded in (2, 3)
            if not is_killed(folder, 4, second):
                break
            assert number_of(load_checkpoint(folder)) in (loaded, 4)
        if not was_killed:
            break
    assert first >= 8


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file: os.truncate(file, 0),
    "flipped byte": flip_a_byte,
    "text": lambda file: file.write_text("no checkpoint"),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_gives_the_one_before_with_a_warning(damage, tmp_path):
    saved(tmp_path, 3)
    DAMAGES[damage](tmp_path / CURRENT)
    with pytest.warns(RuntimeWarning) as caught:
        assert number_of(load_checkpoint(tmp_path)) == 2
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path / CURRENT} is damaged; going on from {tmp_path / PREVIOUS}"
    ]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_previous_does_no_harm(damage, tmp_path):
    saved(tmp_path, 3)
    DAMAGES[damage](tmp_path / PREVIOUS)
    assert number_of(load_checkpoint(tmp_path)) == 3


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_damaged_is_an_error_that_names_them(damage, tmp_path):
    saved(tmp_path, 2)
    for name in (CURRENT, PREVIOUS):
        DAMAGES[damage](tmp_path / name)
    with pytest.raises(CheckpointError, match=r"no checkpoint is intact; checkpoint\.pt is damaged, checkpoint\.previous\.pt is"):
        load_checkpoint(tmp_path)


def test_only_checkpoint_damaged_is_an_error(tmp_path):
    saved(tmp_path, 1)
    flip_a_byte(tmp_path / CURRENT)
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"nonsense\n"])
def test_checkpoints_whose_hashes_are_lost_are_not_trusted(content, tmp_path):
    saved(tmp_path, 2)
    (tmp_path / HASHES).unlink() if content is None else (tmp_path / HASHES).write_bytes(content)
    with pytest.raises(CheckpointError, match="no checkpoint is intact"):
        load_checkpoint(tmp_path)


def test_flipped_bit_among_the_hashes_costs_only_its_file(tmp_path):
    saved(tmp_path, 2)
    data = bytearray((tmp_path / HASHES).read_bytes())
    data[3] ^= 0x80
    (tmp_path / HASHES).write_bytes(data)
    with pytest.warns(RuntimeWarning, match="going on from"):
        assert number_of(load_checkpoint(tmp_path)) == 1


def test_save_after_damage_overwrites_the_damaged_file_only(tmp_path):
    saved(tmp_path, 3)
    flip_a_byte(tmp_path / CURRENT)
    save_checkpoint(tmp_path, state_of(4))
    assert number_of(load_checkpoint(tmp_path)) == 4
    flip_a_byte(tmp_path / CURRENT)
    with pytest.warns(RuntimeWarning, match="going on from"):
        assert number_of(load_checkpoint(tmp_path)) == 2


def test_save_after_damage_that_is_killed_in_any_operation_leaves_an_intact_state(tmp_path):
    for fatal in itertools.count():
        folder = saved(tmp_path / str(fatal), 3)
        flip_a_byte(folder / CURRENT)
        if not is_killed(folder, 4, fatal):
            break
        assert number_of(load_quietly(folder)) in (2, 4)
    assert fatal >= 8


def test_leftovers_of_killed_saves_are_swept(tmp_path):
    saved(tmp_path, 1)
    others = [tmp_path / "config.yaml.tmp", tmp_path / "checkpoint.txt"]
    for leftover in (tmp_path / f"{CURRENT}.tmp", tmp_path / f"{HASHES}.tmp", *others):
        leftover.write_text("half")
    assert number_of(load_checkpoint(tmp_path)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {CURRENT, HASHES, *(path.name for path in others)}


# Reading a run that is another's.


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_reading_changes_nothing(tmp_path):
    saved(tmp_path, 2)
    (tmp_path / f"{CURRENT}.tmp").write_text("half")
    before = contents(tmp_path)
    assert number_of(read_checkpoint(tmp_path)) == 2
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_finds_damage_as_loading_does(damage, tmp_path):
    saved(tmp_path, 2)
    DAMAGES[damage](tmp_path / CURRENT)
    with pytest.warns(RuntimeWarning, match=r"checkpoint\.pt is damaged; going on from .*checkpoint\.previous\.pt"):
        assert number_of(read_checkpoint(tmp_path)) == 1
    DAMAGES[damage](tmp_path / PREVIOUS)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged, checkpoint\.previous\.pt is damaged"):
        read_checkpoint(tmp_path)


def test_reading_amid_a_save_gives_the_old_or_the_new_state(tmp_path):
    numbers = []
    for fatal in itertools.count():
        folder = saved(tmp_path / str(fatal), 2)
        if not is_killed(folder, 3, fatal):
            break
        numbers.append(number_of(read_checkpoint(folder)))  # a warning would fail: nothing is damaged
    assert numbers == sorted(numbers)
    assert set(numbers) == {2, 3}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_saves_between_the_list_and_the_files_are_not_taken_for_damage(count, tmp_path, monkeypatch):
    saved(tmp_path, 2)
    newest, saves = enas.checkpoint._newest, iter(range(3, 3 + count))

    def after_saves(folder: Path, known: set[str]) -> tuple[State | None, list[str]]:
        for number in saves:
            save_checkpoint(folder, state_of(number))
        return newest(folder, known)

    monkeypatch.setattr(enas.checkpoint, "_newest", after_saves)
    assert number_of(read_checkpoint(tmp_path)) == 2 + count


class Malicious:
    """Runs a command where it is unpickled without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("write", [torch.save, lambda state, file: file.write_bytes(pickle.dumps(state, protocol=2))])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(write, tmp_path):
    marker, file = tmp_path / "executed", tmp_path / CURRENT
    write({"number": Malicious(marker)}, file)
    (tmp_path / HASHES).write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {CURRENT}\n")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is refused: it holds more than tensors, numbers, texts"):
        load_checkpoint(tmp_path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()  # the trap is a trap


def test_code_in_the_newest_gives_the_one_before(tmp_path):
    saved(tmp_path, 2)
    marker, file = tmp_path / "executed", tmp_path / CURRENT
    torch.save({"number": Malicious(marker)}, file)
    previous = hashlib.sha256((tmp_path / PREVIOUS).read_bytes()).hexdigest()
    (tmp_path / HASHES).write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {CURRENT}\n{previous}  {PREVIOUS}\n")
    with pytest.warns(RuntimeWarning, match=r"checkpoint\.pt is refused: .*; going on from .*checkpoint\.previous\.pt"):
        assert number_of(load_checkpoint(tmp_path)) == 1
    assert not marker.exists()


# A disk that refuses.


@contextmanager
def refusing(method: str, *, after: int) -> Iterator[None]:
    """Let the file operation number `after` (from 0) of its kind fail as on a full disk."""
    function, count = getattr(os, method), itertools.count()

    def run(*arguments: Any, **options: Any) -> Any:
        if next(count) == after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, method, run)
        yield


@pytest.mark.parametrize(("method", "after"), [("fsync", 0), ("fsync", 1), ("replace", 0), ("replace", 1), ("replace", 2)])
def test_refusing_disk_leaves_an_intact_state_and_no_temporary_file(method, after, tmp_path):
    saved(tmp_path, 2)
    warns = pytest.warns(RuntimeWarning, match=r"no checkpoint could be saved \(.*No space left")
    with refusing(method, after=after), warns:
        assert not saved_unless_refused(lambda: save_checkpoint(tmp_path, state_of(3)))
    assert {path.name for path in tmp_path.iterdir()} <= {CURRENT, PREVIOUS, HASHES}
    assert number_of(load_checkpoint(tmp_path)) == 2
    assert saved_unless_refused(lambda: save_checkpoint(tmp_path, state_of(4)))
    assert number_of(load_checkpoint(tmp_path)) == 4


class FullFile(io.BytesIO):
    """A file on a disk that is full after 100 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_disk_that_is_full_within_a_checkpoint_raises_what_the_disk_said(tmp_path, monkeypatch):
    saved(tmp_path, 1)
    open_file = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **_: FullFile() if mode == "wb" else open_file(path, mode))
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(tmp_path, state_of(2))
    monkeypatch.undo()
    assert number_of(load_checkpoint(tmp_path)) == 1


def test_state_that_could_not_be_loaded_again_is_kept_apart_from_the_folder(tmp_path):
    saved(tmp_path, 1)
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        save_checkpoint(tmp_path, {"function": lambda: 0})
    assert number_of(load_checkpoint(tmp_path)) == 1


def test_text_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "report.md"
    write_atomically(file, "älter\n")
    operations = Operations(None)
    with killing(operations):
        write_atomically(file, "neuer\n")
    assert file.read_bytes() == b"neuer\n"
    write_atomically(file, "älter\n")
    for fatal in range(operations.count):
        with killing(Operations(fatal)), pytest.raises(Killed):
            write_atomically(file, "neuer\n")
        assert file.read_bytes() == "älter\n".encode()
