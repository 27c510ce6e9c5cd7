"""scripts/run.py, in a small repository of its own with a pip that only takes notes; and scripts/test.py, its first command."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import tomllib
import venv
from pathlib import Path

import pytest

from scripts import run
from scripts import test as checks

HELLO = '''"""Say where the command runs.

More about it.
"""
import json, os, sys, time
STARTED = time.time()
from pathlib import Path

def main() -> None:
    paths = [str(Path(argument).resolve()) for argument in sys.argv[1:]]
    print(json.dumps({"started": STARTED, "pid": os.getpid(), "prefix": sys.prefix, "paths": paths}))
    sys.exit(7)

main()
'''

FAKE_PIP = """
import json, os, sys
from pathlib import Path
with Path("installs.txt").open("a") as notes:
    notes.write(json.dumps(sys.argv[1:]) + chr(10))
sys.exit(int(os.environ.get("FAKE_PIP_EXIT", "0")))
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with the commands `hello` and `say_more`, in a path with spaces."""
    root = (tmp_path / "a folder" / "the repo").resolve()
    (root / "scripts").mkdir(parents=True)
    shutil.copy(run.__file__, root / "scripts" / "run.py")
    (root / "scripts" / "__init__.py").touch()
    (root / "scripts" / "hello.py").write_text(HELLO)
    (root / "scripts" / "say_more.py").write_text(HELLO.replace("Say where", "Say again where"))
    (root / "scripts" / "build.py").write_text('"""No command: defines no main."""\n')
    (root / "pyproject.toml").write_text('[project]\nname = "hello"\n')
    return root


def make_venv(root: Path) -> None:
    """Make a real `.venv` whose pip is the fake one, at once and without a network."""
    venv.EnvBuilder(clear=True, symlinks=os.name != "nt").create(root / ".venv")
    packages = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(root / ".venv")}))
    for name, text in {
        "pip/__init__.py": "",
        "pip/__main__.py": FAKE_PIP,
        "pip-1.dist-info/METADATA": "Name: pip\nVersion: 1\n",
        "pip-1.dist-info/RECORD": "pip/__main__.py,,\n",
    }.items():
        (packages / name).parent.mkdir(exist_ok=True)
        (packages / name).write_text(text)


def make_ready(root: Path) -> None:
    make_venv(root)
    run.write_stamp(root, run.stamp_text(root))


class Steps:
    """Stands in for the two steps of a set-up and notes which were taken."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def create(self, root: Path) -> None:
        self.taken.append("create")
        make_venv(root)

    def install(self, root: Path) -> None:
        self.taken.append("install")

    def prepare(self, root: Path) -> list[str]:
        """Prepare `root`; return the steps that this call took."""
        self.taken = []
        run.prepare(root, create=self.create, install=self.install)
        return self.taken


def call(root: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts" / "run.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd or root, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_first_call_creates_and_installs_and_a_repeat_does_neither(repo: Path) -> None:
    steps = Steps()
    assert steps.prepare(repo) == ["create", "install"]
    assert steps.prepare(repo) == []


def test_edited_pyproject_is_installed_again_into_the_same_venv(repo: Path) -> None:
    make_ready(repo)
    (repo / "pyproject.toml").write_text('[project]\nname = "hello"\ndependencies = ["numpy"]\n')
    steps = Steps()
    assert steps.prepare(repo) == ["install"]
    assert steps.prepare(repo) == []


def test_absent_stamp_means_install_again(repo: Path) -> None:
    make_venv(repo)
    assert Steps().prepare(repo) == ["install"]


def test_killed_install_is_repaired_by_the_next_call(repo: Path) -> None:
    make_venv(repo)
    dies = (
        "import os, sys, pathlib; from scripts import run; run.prepare(pathlib.Path(sys.argv[1]), install=lambda _: os._exit(9))"
    )
    killed = subprocess.run([sys.executable, "-c", dies, str(repo)], cwd=run.ROOT, check=False)
    assert killed.returncode == 9
    steps = Steps()
    assert steps.prepare(repo) == ["create", "install"], "half of a package may be left: the folder has to be a fresh one"
    assert steps.prepare(repo) == []


def test_pyproject_edited_during_the_install_is_installed_by_the_next_call(repo: Path) -> None:
    def edit(root: Path) -> None:
        (root / "pyproject.toml").write_text('[project]\nname = "renamed"\n')

    make_venv(repo)
    run.prepare(repo, install=edit)
    assert run.state(repo) == "install"


@pytest.mark.parametrize(
    "damage", ["no python", "base python gone", "python does not start", "half a pip", "moved", "other version"]
)
def test_unusable_venv_is_made_anew(repo: Path, damage: str) -> None:
    make_ready(repo)
    python, stamp, settings = run.python_of(repo), repo / ".venv" / "stamp.txt", repo / ".venv" / "pyvenv.cfg"
    if damage == "no python":
        python.unlink()
    elif damage == "base python gone":
        settings.write_text(re.sub("home = .*", lambda _: f"home = {repo / 'gone'}", settings.read_text()))
    elif damage == "python does not start":
        python.unlink()
        python.write_text("no program")
        stamp.unlink()
    elif damage == "half a pip":
        next((repo / ".venv").rglob("RECORD")).unlink()
        stamp.unlink()
    elif damage == "moved":
        repo = repo.rename(repo.with_name("moved repo"))
    else:
        stamp.write_text(stamp.read_text().replace(str(sys.implementation.cache_tag), "cpython-310"))
    assert Steps().prepare(repo) == ["create", "install"]


def test_two_first_calls_at_once_install_once(repo: Path) -> None:
    make_venv(repo)
    installs: list[Path] = []

    def install(root: Path) -> None:
        installs.append(root)
        time.sleep(0.5)

    callers = [threading.Thread(target=lambda: run.prepare(repo, install=install)) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert installs == [repo]


def test_set_up_calls_pip_once_and_leaves_stdout_to_the_command(repo: Path) -> None:
    make_venv(repo)
    first, second = call(repo, "hello"), call(repo, "hello")
    (install,) = (repo / "installs.txt").read_text().splitlines()
    assert json.loads(install)[-2:] == ["-e", ".[test]"]
    assert "Setting up .venv" in first.stderr
    assert second.stderr == ""
    assert json.loads(first.stdout)["prefix"] == json.loads(second.stdout)["prefix"] == str(repo / ".venv")


def test_failed_install_says_so_and_the_next_call_tries_again(repo: Path) -> None:
    make_venv(repo)
    failed = call(repo, "hello", FAKE_PIP_EXIT="3")
    assert failed.returncode == 1
    assert "pip install" in failed.stderr
    assert "(exit code 3)" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert call(repo, "hello").returncode == 7


def test_exit_code_is_that_of_the_command(repo: Path) -> None:
    make_ready(repo)
    assert call(repo, "hello").returncode == 7


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot replace a process")
def test_command_takes_the_place_of_the_wrapper_so_a_signal_reaches_it_once(repo: Path) -> None:
    make_ready(repo)
    command = [sys.executable, str(repo / "scripts" / "run.py"), "hello"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.communicate()[0])["pid"] == process.pid


def test_relative_paths_are_read_from_the_users_folder(repo: Path, tmp_path: Path) -> None:
    make_ready(repo)
    elsewhere = (tmp_path / "some where").resolve()
    (elsewhere / "scripts").mkdir(parents=True)
    (elsewhere / "scripts" / "__init__.py").touch()  # a package of the same name, which must not hide ours
    answer = json.loads(call(repo, "hello", "in put.txt", "../x", cwd=elsewhere).stdout)
    assert answer["paths"] == [str(elsewhere / "in put.txt"), str(tmp_path.resolve() / "x")]


def test_repeat_call_costs_less_than_three_tenths_of_a_second(repo: Path) -> None:
    make_ready(repo)
    overheads = []
    for _ in range(5):
        before = time.time()
        overheads.append(json.loads(call(repo, "hello").stdout)["started"] - before)
    assert min(overheads) < 0.3


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["run"], ["build"], ["../scripts/hello"], ["--nonsense"]])
def test_what_is_no_command_exits_2_with_the_list(repo: Path, arguments: list[str]) -> None:
    answer = call(repo, *arguments)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "  hello        Say where the command runs.\n" in answer.stderr
    assert not (repo / ".venv").exists()


def test_help_lists_the_modules_with_a_main_by_their_first_line(repo: Path) -> None:
    answer = call(repo, "--help")
    assert answer.returncode == 0
    assert answer.stdout.splitlines()[-2:] == [
        "  hello        Say where the command runs.",
        "  say_more     Say again where the command runs.",
    ]


def test_dashes_in_a_name_stand_for_underscores(repo: Path) -> None:
    make_ready(repo)
    assert call(repo, "say-more").returncode == 7


def test_old_python_is_told_which_version_is_needed() -> None:
    assert re.match(r"expected Python >= 3\.11, got 3\.8\.18 \(.+\)", run.version_error((3, 8, 18)))
    assert run.version_error((3, 11, 0)) == run.version_error((4, 0, 0)) == ""


def test_oldest_python_is_the_one_that_pyproject_requires() -> None:
    project = tomllib.loads((run.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, run.OLDEST))


def test_python_3_8_can_parse_the_file_and_it_needs_the_standard_library_only() -> None:
    tree = ast.parse(Path(run.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names


def test_paths_among_pytest_arguments_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "enas").touch()
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    given = ["-x", "enas", "enas::test_a", "-k", "enas", "absent"]
    assert checks.with_absolute_paths(given) == ["-x", str(here / "enas"), f"{here / 'enas'}::test_a", "-k", "enas", "absent"]


def test_checks_stop_at_the_first_failure_with_its_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert checks.run_checks([["platform"], ["calendar", "--no-such-option"], ["this"]]) == 2
    assert capfd.readouterr().out.splitlines()[-1] == "$ python -m calendar --no-such-option"


def test_test_files_are_shared_out_among_the_cores_unless_the_user_says_otherwise(monkeypatch):
    seen = []
    monkeypatch.setattr(checks, "run_checks", lambda commands: seen.extend(commands) or 0)
    monkeypatch.setattr(checks.os, "cpu_count", lambda: 64)
    if sys.platform == "linux":
        monkeypatch.setattr(checks.os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(sys, "argv", ["test", "--only-tests", "-n", "0", "-k", "words"])
    assert checks.main() == 0
    assert seen == [["pytest", "-n", str(checks.MOST_WORKERS), "--dist", "worksteal", "-n", "0", "-k", "words"]]
