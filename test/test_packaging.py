"""The wheel holds the package and nothing else, and the tests run whatever the clone's folder is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IGNORED = shutil.ignore_patterns(
    ".git", ".venv", ".typings", "build", "dist", "*.egg-info", "__pycache__", ".hypothesis", ".ruff_cache"
)


def run(*command: str | Path, cwd: Path = ROOT, pythonpath: str = "") -> str:
    """Run a command that must succeed and return its output."""
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if pythonpath:
        environment["PYTHONPATH"] = pythonpath
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree in a folder whose name is no Python identifier."""
    folder = tmp_path_factory.mktemp("clones") / "1 odd-name"
    shutil.copytree(ROOT, folder, ignore=IGNORED)
    return folder


def test_packages_list_is_complete():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = settings["tool"]["setuptools"]["packages"]
    top = ("dialects", "ir", "lowering", "passes", "targets", "tools")
    folders = {path.parent.relative_to(ROOT) for name in top for path in (ROOT / name).rglob("*.py")}
    expected = {"crosstile", *(".".join(("crosstile", *folder.parts)) for folder in folders)}
    assert listed == sorted(expected)
    assert all((ROOT / folder / "__init__.py").exists() for folder in folders)


def test_wheel_installs_only_the_package(copy: Path, tmp_path: Path):
    leftover = copy / "build" / "lib" / "crosstile" / "passes" / "deleted_long_ago.py"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, copy)
    (wheel,) = tmp_path.glob("*.whl")

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    assert sorted(path.name.split("-")[0] for path in site.iterdir()) == ["crosstile", "crosstile"]
    assert not (site / "crosstile" / "test").exists()
    assert not (site / "crosstile" / "passes" / "deleted_long_ago.py").exists()
    installed = {path.relative_to(site / "crosstile") for path in (site / "crosstile").rglob("*.py")}
    top = ("dialects", "ir", "lowering", "passes", "targets", "tools")
    sources = {path.relative_to(ROOT) for name in top for path in (ROOT / name).rglob("*.py")}
    assert installed == sources | {Path("__init__.py")}

    dependencies = Path(pytest.__file__).resolve().parent.parent
    program = tmp_path / "f.mlir"
    program.write_text("func.func @f() {\n  func.return\n}\n")
    output = run(tmp_path / "venv" / "bin" / "crosstile-opt", program, cwd=tmp_path, pythonpath=str(dependencies))
    assert "func.func @f()" in output


def test_tests_pass_in_a_folder_of_any_name(copy: Path):
    (copy / ".typings").mkdir(exist_ok=True)
    (copy / ".typings" / "crosstile").symlink_to("..")
    output = run(
        sys.executable, "-m", "pytest", "-q", "test/ir/test_locations.py", "test/tools/opt_roundtrip.mlir", cwd=copy
    )
    assert "passed" in output
