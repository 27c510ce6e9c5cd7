"""Run a command of this repository in its own virtual environment: `python3 scripts/run.py NAME [arguments]`.

The first call makes `.venv` beside pyproject.toml and installs the project with its test extra. Later calls compare a stamp and
start the command, which keeps the current folder: relative paths mean what they say. `.venv` belongs to this file: one that
does not run, or was made for another Python or another place, is made anew. Not covered: packages changed in it by hand.

Standard library only, in syntax that Python 3.8 parses, so that an old Python is told what is missing.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from typing import Literal, NoReturn

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
UNFINISHED = "unfinished"


class SetupError(Exception):
    """A step of the set-up failed; the message says which."""


def version_error(found: tuple[int, ...]) -> str:
    """Say what is wrong with a Python of version `found`; empty where nothing is."""
    if found[:2] >= OLDEST:
        return ""
    expected, actual = (".".join(map(str, version)) for version in (OLDEST, found[:3]))
    return f"expected Python >= {expected}, got {actual} ({sys.executable}): call this file with a newer Python"


def commands(root: Path) -> dict[str, Path]:
    """Return the modules in scripts/ that define `main`, by name."""
    files = [file for file in sorted((root / "scripts").glob("*.py")) if file.name != "run.py"]
    return {file.stem: file for file in files if "\ndef main(" in file.read_text(encoding="utf-8")}


def listing(root: Path) -> str:
    """Return the help text: how to call this file, and a line for each command."""
    import ast

    lines = ["usage: python3 scripts/run.py NAME [arguments]", "", "commands:"]
    for name, file in commands(root).items():
        try:
            docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        except SyntaxError:
            docstring = "(this file has a syntax error)"
        lines.append(f"  {name:<12} {(docstring or '').partition(chr(10))[0]}".rstrip())
    return "\n".join(lines)


def python_of(root: Path) -> Path:
    """Return where the Python of `.venv` stands, whether or not it is there."""
    return root / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def stamp_text(root: Path, *, finished: bool = True) -> str:
    """Return what the stamp of a `.venv` says: the Python and the place that it is for, and the pyproject.toml in it."""
    digest = hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest() if finished else UNFINISHED
    return f"{sys.implementation.cache_tag} {sys.platform}\n{root}\n{digest}\n"


def read_stamp(root: Path) -> str:
    """Return the stamp of `.venv`, empty where there is none."""
    file = root / ".venv" / "stamp.txt"
    return file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""


def write_stamp(root: Path, text: str) -> None:
    """Put a stamp into `.venv`: as a whole or, where the process dies, not at all."""
    draft = root / ".venv" / "stamp.new"
    draft.write_text(text, encoding="utf-8", errors="surrogateescape")
    draft.replace(draft.with_suffix(".txt"))


def has_python(root: Path) -> bool:
    """Whether `.venv` has a Python, and the one that it was made from still exists (known without starting it)."""
    settings = root / ".venv" / "pyvenv.cfg"
    if not (python_of(root).exists() and settings.exists()):
        return False
    pairs = (line.partition("=") for line in settings.read_text(encoding="utf-8", errors="surrogateescape").splitlines())
    return any(key.strip() == "home" and Path(value.strip()).is_dir() for key, _, value in pairs)


def runs(root: Path) -> bool:
    """Whether the Python of `.venv` starts, has a complete pip (RECORD is what an install writes last) and is of this version."""
    import subprocess

    question = "import importlib.metadata as m, sys; print(sys.implementation.cache_tag if m.files('pip') else '')"
    command = [str(python_of(root)), "-I", "-c", question]
    try:
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout.strip() == sys.implementation.cache_tag


def state(root: Path) -> Literal["ready", "install", "create"]:
    """Say what `.venv` needs: nothing, an install, or to be made anew."""
    if not has_python(root):
        return "create"
    found, wanted, unfinished = read_stamp(root), stamp_text(root), stamp_text(root, finished=False)
    if found == wanted:
        return "ready"
    # pip takes a package that a killed install left half written for installed: only a fresh folder repairs that.
    elsewhere = found.splitlines()[:2] != wanted.splitlines()[:2]
    if found == unfinished or (found and elsewhere) or not runs(root):
        return "create"
    return "install"


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file unless another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 2**30, os.SEEK_SET)  # Windows refuses reads of locked bytes: lock one behind the last
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock of `file`; the steps inherit it, so a pip that outlives a killed call keeps the next call waiting."""
    import time

    with file.open("rb+") as held:
        os.set_inheritable(held.fileno(), True)
        free = try_lock(held.fileno())
        if not free:
            print("Waiting for another call that sets up .venv ...", file=sys.stderr, flush=True)
        while not free:
            time.sleep(0.2)
            free = try_lock(held.fileno())
        yield


def step(root: Path, command: list[str]) -> None:
    """Run one step of the set-up in `root`, its output on stderr. Raises: SetupError where it fails."""
    import shlex
    import subprocess

    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, stdout=sys.stderr, close_fds=False, check=False)
    if done.returncode:
        raise SetupError(f"this step failed (exit code {done.returncode}), in {root}:\n  {shlex.join(command)}")


def create_venv(root: Path) -> None:
    """Make an empty `.venv`, whatever was there."""
    # From inside `.venv` the base interpreter makes it: a folder in use cannot be cleared on Windows.
    base = str(getattr(sys, "_base_executable", sys.executable))
    step(root, [base, "-I", "-m", "venv", "--clear", str(root / ".venv")])


def install_project(root: Path) -> None:
    """Install the project into `.venv`, editable and with its test extra."""
    options = ["--no-input", "--disable-pip-version-check"]
    step(root, [str(python_of(root)), "-I", "-m", "pip", "install", *options, "-e", ".[test]"])


def prepare(
    root: Path,
    *,
    create: Callable[[Path], None] = create_venv,
    install: Callable[[Path], None] = install_project,
) -> None:
    """Bring `.venv` to what pyproject.toml asks for; nothing is done where its stamp says so already."""
    if state(root) == "ready":
        return
    # The lock is on pyproject.toml because `.venv` comes and goes.
    with locked(root / "pyproject.toml"):
        needed = state(root)
        if needed == "ready":
            return
        print("Setting up .venv (first call: a few minutes) ...", file=sys.stderr, flush=True)
        if needed == "create":
            create(root)
        wanted = stamp_text(root)  # before the install: a pyproject.toml edited meanwhile has to be installed again
        write_stamp(root, stamp_text(root, finished=False))
        try:
            install(root)
        except SetupError:
            (root / ".venv" / "stamp.txt").unlink()  # pip ended by itself: what it left can be installed over
            raise
        write_stamp(root, wanted)


def wait_for(child: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a child that gets the terminal's Ctrl-C itself: how to end is its business."""
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def launch(root: Path, name: str, arguments: list[str]) -> NoReturn:
    """Run scripts/`name`.py in the current folder and exit with its code; on POSIX it takes the place of this process."""
    # -P: a folder `scripts` where the user stands must not hide ours.
    command = [str(python_of(root)), "-P", "-m", f"scripts.{name}", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONHOME"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    if sys.platform == "win32":
        import subprocess

        sys.exit(wait_for(subprocess.Popen(command, env=environment)))
    else:
        os.execve(command[0], command, environment)  # noqa: S606


def main() -> int:
    """Set up `.venv` where needed, then run the command. Returns the exit code where it does not come to that."""
    arguments = sys.argv[1:]
    complaint = version_error(sys.version_info[:3])
    if complaint:
        print(f"run.py: {complaint}", file=sys.stderr)
        return 2
    if arguments[:1] in (["-h"], ["--help"]):
        print(listing(ROOT))
        return 0
    name = arguments[0].replace("-", "_") if arguments else ""
    if name not in commands(ROOT):
        reason = f"unknown command {arguments[0]!r}" if arguments else "expected the name of a command"
        print(f"run.py: {reason}\n\n{listing(ROOT)}", file=sys.stderr)
        return 2
    try:
        prepare(ROOT)
        launch(ROOT, name, arguments[1:])
    except (SetupError, OSError) as error:
        print(f"run.py: {error}\nTo try again, repeat the call; if that does not help, delete .venv first.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("run.py: interrupted; the next call sets up .venv again", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
