"""The rules of the tree: imports go one way, and every pass, dialect and tool has its test and its page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from crosstile.ir.registry import DIALECTS, LEVELS, PASSES, DialectRow, PassRow, load_object

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("dialects", "ir", "lowering", "passes", "targets", "tools")
MOST_LINES = 500

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "test").rglob("*.py")) + sorted((ROOT / "bench").rglob("*.py"))


def layer(parts: Sequence[str]) -> int:
    """The height of a module, given its path below the package; it may import its own height and those below."""
    package = parts[0]
    if package == "targets":
        # Machine rows, layouts and arithmetic are the bottom; pipelines, runners and the LLVM text are near the top.
        is_shared_data = len(parts) <= 2 and not parts[-1].startswith("llvm_")
        return 0 if is_shared_data or parts[-1] in ("machine", "__init__") else 5
    return {"ir": 1, "dialects": 2, "passes": 3, "lowering": 4, "tools": 6}[package]


def imported_modules(path: Path) -> Iterator[tuple[str, ...]]:
    """The modules of ours that ``path`` imports, wherever it does, as paths below the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: imports within the package are absolute"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = tuple(name.split(".")[1:])
            if name.startswith("crosstile.") and parts[0] in PACKAGES and is_module(parts):
                yield parts


def is_module(parts: tuple[str, ...]) -> bool:
    return (ROOT.joinpath(*parts).with_suffix(".py")).exists() or ROOT.joinpath(*parts).is_dir()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path):
    own = layer(path.relative_to(ROOT).with_suffix("").parts)
    for parts in imported_modules(path):
        if parts == ("targets",):
            continue
        assert layer(parts) <= own, f"{path.relative_to(ROOT)} must not import crosstile.{'.'.join(parts)}"


def test_machine_data_imports_nothing_of_ours_but_machine_data():
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if layer(parts) == 0:
            assert all(imported[0] == "targets" for imported in imported_modules(path)), path


def test_target_packages_are_empty():
    for path in (ROOT / "targets").glob("*/__init__.py"):
        assert path.read_text().strip() == "", f"{path.relative_to(ROOT)} must be empty"


def test_private_xdsl_interfaces_are_used_in_ir_only():
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] != "ir":
            found = re.search(r"reportPrivateUsage", path.read_text(encoding="utf-8"))
            assert found is None, f"{path.relative_to(ROOT)} uses a private interface; wrap it in ir/"


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path: Path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES, f"{lines} lines; a file of more than {MOST_LINES} has more than one subject"


@pytest.mark.parametrize("row", PASSES, ids=lambda row: row.name)
def test_a_pass_is_named_as_its_file_its_test_and_its_entry(row: PassRow):
    stem = row.name.replace("-", "_")
    module = row.target.split(":")[0]
    assert module.rsplit(".", 1)[-1] == stem, f"pass '{row.name}' should live in a file named {stem}.py"
    assert getattr(load_object(row.target), "name") == row.name  # noqa: B009 - the class is known by name only
    tests = [*(ROOT / "test").rglob(f"test_{stem}*.py"), *(ROOT / "test").rglob(f"{stem}*.mlir")]
    assert tests, f"no test_{stem}*.py or {stem}*.mlir under test/"
    entry = f"| `{row.name}` |"
    assert entry in (ROOT / "docs" / "passes.md").read_text(), f"docs/passes.md has no row for `{row.name}`"
    assert row.summary and len(row.summary) <= 80 and not row.summary.endswith("."), "one short line, no full stop"


@pytest.mark.parametrize("row", DIALECTS, ids=lambda row: row.name)
def test_a_dialect_has_its_test_and_its_entry(row: DialectRow):
    assert getattr(load_object(row.target), "name") == row.name  # noqa: B009
    assert list((ROOT / "test" / "dialects").rglob(f"*{row.name}*")), f"no test of '{row.name}' under test/dialects"
    entry = f"| `{row.name}` |"
    assert entry in (ROOT / "docs" / "dialects.md").read_text(), f"docs/dialects.md has no row for `{row.name}`"
    if row.name in LEVELS:
        assert (ROOT / "docs" / f"{row.name}.md").exists(), f"no page docs/{row.name}.md for the level"


def test_a_tool_has_its_test_and_its_page():
    for path in (ROOT / "tools").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        if "\ndef main(" in source:
            stem = path.stem
            assert list((ROOT / "test" / "tools").glob(f"test_{stem}*.py")), f"no test of tools/{path.name}"
            page = "README" if stem == "main" else stem
            assert (ROOT / "docs" / f"{page}.md").exists(), f"no page docs/{page}.md"


def test_every_page_is_in_the_contents():
    contents = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in contents, f"docs/README.md does not list {page.name}"


def test_nothing_else_at_the_top():
    known = {"bench", "dialects", "docs", "examples", "ir", "lowering", "passes", "targets", "test", "tools"}
    known |= {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "__init__.py", "pyproject.toml"}
    known |= {"setup.py"}
    generated = {"build", "dist", "__pycache__"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.suffix != ".egg-info"}
    assert found - known - generated == set()
