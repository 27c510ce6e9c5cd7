"""What a wheel of this project holds, and that the files that name its version agree."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

import hatchling.build
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"enas", "controllers", "envs"}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # a build backend builds the folder that it is called in (PEP 517)
        name = hatchling.build.build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as wheel:
        return wheel.namelist()


def test_wheel_holds_the_three_packages_and_its_metadata_only(wheel_files: list[str]) -> None:
    assert {name.partition("/")[0] for name in wheel_files} == PACKAGES | {f"enas-{VERSION}.dist-info"}


def test_each_package_is_marked_as_typed(wheel_files: list[str]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel_files)


def test_wheel_holds_every_module_of_the_tree(wheel_files: list[str]) -> None:
    modules = {file.relative_to(ROOT).as_posix() for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert {name for name in wheel_files if name.endswith(".py")} == modules


def test_wheel_carries_the_license(wheel_files: list[str]) -> None:
    assert f"enas-{VERSION}.dist-info/licenses/LICENSE" in wheel_files


def test_citation_names_the_version_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == VERSION
