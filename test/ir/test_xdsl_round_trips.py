"""xDSL's own round-trip tests give through crosstile-opt exactly what they give through xdsl-opt.

They are the ``.mlir`` files of ``dialects``, ``mlir-conversion`` and ``parser-printer`` under ``tests/filecheck`` of
xDSL's source distribution, which its wheel lacks; ``make test`` downloads it into the environment.
"""

from __future__ import annotations

import re
import sys
import tarfile
import warnings
from pathlib import Path

import pytest
from run_lines import captured
from xdsl.dialect_interfaces.op_asm import OpAsmDialectInterface
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.test import Test
from xdsl.xdsl_opt_main import xDSLOptMain

from crosstile.tools import opt

ARCHIVE = Path(sys.prefix) / "share" / "xdsl-0.74.0.tar.gz"
FETCH = f"pip download --no-deps --no-binary xdsl --dest {ARCHIVE.parent} xdsl==0.74.0"
TESTS = re.compile(r"[^/]+/tests/filecheck/(dialects|mlir-conversion|parser-printer)/.*\.mlir")


def folders() -> dict[str, list[str]]:
    """The files of the archive by folder; none if it has not been downloaded."""
    result: dict[str, list[str]] = {}
    if ARCHIVE.exists():
        with tarfile.open(ARCHIVE) as archive:
            for name in sorted(filter(TESTS.fullmatch, archive.getnames())):
                result.setdefault(str(Path(name).parent), []).append(name)
    return result


FOLDERS = folders()
EMPTY = ("builtin.module {\n}\n", '"builtin.module"() ({\n^bb0:\n}) : () -> ()\n')


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive's files."""
    folder = tmp_path_factory.mktemp("xdsl")
    with tarfile.open(ARCHIVE) as archive:
        members = [member for member in archive.getmembers() if TESTS.fullmatch(member.name)]
        archive.extractall(folder, members, filter="data")
    return folder


def xdsl_opt(*arguments: str) -> str | None:
    """What xdsl-opt prints, or None if it fails."""

    def main() -> None:
        # xDSL keeps resources for the life of the process, which for xdsl-opt is one file.
        for dialect in (Builtin, Test):
            interface = dialect.get_interface(OpAsmDialectInterface)
            assert interface is not None
            interface.__init__()
        xDSLOptMain(args=list(arguments)).run()

    limit = sys.getrecursionlimit()
    try:
        with warnings.catch_warnings(action="ignore"):
            outcome = captured(main)
    # xdsl-opt shows whatever goes wrong as a traceback, some of it not even derived from Exception.
    except BaseException:
        return None
    finally:
        sys.setrecursionlimit(limit)
    return outcome.stdout.decode() if outcome.code == 0 else None


def crosstile_opt(*arguments: str) -> str | None:
    """What crosstile-opt prints, or None if it fails."""
    with warnings.catch_warnings(action="ignore"):
        outcome = captured(lambda: opt.main(list(arguments)))
    return outcome.stdout.decode() if outcome.code == 0 else None


@pytest.mark.parametrize("folder", FOLDERS)
def test_both_tools_print_the_same(folder: str, unpacked: Path):
    for name in FOLDERS[folder]:
        path = unpacked / name
        text = path.read_text(encoding="utf-8")
        flags = [flag for flag in ("--split-input-file", "--allow-unregistered-dialect") if flag in text]
        for theirs, ours in (((), ()), (("--print-op-generic",), ("--mlir-print-op-generic",))):
            expected = xdsl_opt(str(path), *flags, *theirs)
            printed = crosstile_opt(str(path), *flags, *ours)
            if printed in EMPTY and expected is None:
                continue  # an empty input is an empty module, as for mlir-opt
            # xdsl-opt ends its output with an empty line.
            assert printed == (expected and expected[:-1]), f"{name} {' '.join(flags)}"


def test_the_archive_covers_most_dialects():
    assert ARCHIVE.exists(), f"xDSL's source distribution is missing; fetch it with '{FETCH}'"
    assert len(FOLDERS) >= 50
    assert sum(len(names) for names in FOLDERS.values()) >= 350
