"""The floors of the house: a package imports only packages that stand below it.

Not covered: imports by a string (`importlib.import_module`).
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ABOVE = {
    "enas": {"controllers", "envs", "scripts", "tests"},
    "controllers": {"envs", "scripts", "tests"},
    "envs": {"controllers", "scripts", "tests"},
}
"""What each package must not import: the floors above it and, for the two in the middle, each other."""

FILES = [file.relative_to(ROOT).as_posix() for package in ABOVE for file in sorted((ROOT / package).rglob("*.py"))]


def imported_packages(source: str) -> set[str]:
    """Return the top-level packages that a source text imports, wherever in it; a relative import stays in its own."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            modules.add(node.module)
    return {module.partition(".")[0] for module in modules}


def violations(package: str, source: str) -> set[str]:
    """Return the packages that a file of `package` imports and must not."""
    return imported_packages(source) & ABOVE[package]


@pytest.mark.parametrize("file", FILES)
def test_file_imports_only_lower_floors(file: str) -> None:
    package = file.partition("/")[0]
    assert violations(package, (ROOT / file).read_text(encoding="utf-8")) == set()


def test_every_package_has_files_to_check() -> None:
    assert {file.partition("/")[0] for file in FILES} == set(ABOVE)


@pytest.mark.parametrize(
    ("package", "source", "found"),
    [
        ("enas", "import controllers.lstm as lstm", {"controllers"}),
        ("enas", "def late():\n    from envs import vector", {"envs"}),
        ("enas", "if TYPE_CHECKING:\n    import torch, scripts.build", {"scripts"}),
        ("controllers", "from envs.tokens import TokenEnv", {"envs"}),
        ("envs", "from controllers import CONTROLLERS", {"controllers"}),
    ],
)
def test_planted_violation_is_found(package: str, source: str, found: set[str]) -> None:
    assert violations(package, source) == found


@pytest.mark.parametrize("source", ["from enas import types", "from .envs import x", "import torch", "'import scripts'"])
def test_lower_floor_and_outside_are_allowed(source: str) -> None:
    assert violations("controllers", source) == set()
