"""xDSL's own round-trip tests give through crosstile-opt exactly what they give through xdsl-opt.

``inputs/xdsl-0.74.0-filecheck.tar.xz`` holds, unchanged, the ``.mlir`` files of ``dialects``, ``mlir-conversion`` and
``parser-printer`` of ``tests/filecheck`` in xDSL's source distribution (Apache-2.0 with LLVM exception), which its
wheel lacks. ``pip download xdsl==0.74.0 --no-deps --no-binary :all:`` fetches that distribution.
"""

from __future__ import annotations

import re
import sys
import tarfile
import warnings
from pathlib import Path

import pytest
from run_lines import captured
from xdsl.xdsl_opt_main import xDSLOptMain

from crosstile.tools import opt

ARCHIVE = Path(__file__).parent / "inputs" / "xdsl-0.74.0-filecheck.tar.xz"


def folders() -> dict[str, list[str]]:
    """The files of the archive by folder."""
    result: dict[str, list[str]] = {}
    with tarfile.open(ARCHIVE) as archive:
        for name in sorted(archive.getnames()):
            if name.endswith(".mlir"):
                result.setdefault(str(Path(name).parent), []).append(name)
    return result


FOLDERS = folders()
EMPTY = ("builtin.module {\n}\n", '"builtin.module"() ({\n^bb0:\n}) : () -> ()\n')


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive's files."""
    folder = tmp_path_factory.mktemp("xdsl")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def xdsl_opt(*arguments: str) -> str | None:
    """What xdsl-opt prints, or None if it fails."""

    def main() -> None:
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
            assert normalized(printed) == normalized(expected and expected[:-1]), f"{name} {' '.join(flags)}"


def normalized(text: str | None) -> str | None:
    """The text without the numbers that xDSL adds to a resource when one process reads it twice."""
    return text and re.sub(r"(dense_resource<\w+?)(_\d+)*>", r"\1>", text)


def test_the_archive_covers_most_dialects():
    assert len(FOLDERS) >= 50
    assert sum(len(names) for names in FOLDERS.values()) >= 350
