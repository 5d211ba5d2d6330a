"""The pytest plugin of this tree: every ``.mlir`` file under test/ is a test made of its ``// RUN:`` lines."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings
from run_lines import run_test

ROOT = Path(__file__).resolve().parent.parent

# A busy machine is no reason for a generated test to fail.
settings.register_profile("crosstile", deadline=None)
settings.load_profile("crosstile")

# Tests that start processes find the package as this process does, installed or not.
if (ROOT / ".typings" / "crosstile").exists():
    os.environ["PYTHONPATH"] = str(ROOT / ".typings")

# A job in a shell's background ignores interrupts, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests compile what they test, and leave the user's cache alone.
os.environ["CROSSTILE_CACHE"] = "0"


class RunLinesFailed(Exception):
    """A RUN line of a test file failed; the text says which and how."""


class RunLinesItem(pytest.Item):
    """All RUN lines of one file."""

    def runtest(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            failure = run_test(self.path, Path(scratch))
        if failure is not None:
            raise RunLinesFailed(failure)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, RunLinesFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[os.PathLike[str], int, str]:
        return self.path, 0, f"RUN: {self.path.relative_to(ROOT)}"


class RunLinesFile(pytest.File):
    """A test file in MLIR."""

    def collect(self) -> list[RunLinesItem]:
        make = cast("Callable[..., RunLinesItem]", RunLinesItem.from_parent)  # pyright: ignore[reportUnknownMemberType]
        return [make(self, name="RUN")]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.File | None:
    """Collect ``.mlir`` files, but not the inputs kept in folders named ``inputs``."""
    if file_path.suffix == ".mlir" and "inputs" not in file_path.parts:
        make = cast("Callable[..., RunLinesFile]", RunLinesFile.from_parent)  # pyright: ignore[reportUnknownMemberType]
        return make(parent, path=file_path)
    return None
