"""Calling a tool in this process and looking at what it printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from run_lines import captured


@dataclass(frozen=True)
class Result:
    """Exit code and what went to standard output and standard error, as text."""

    code: int
    out: str
    err: str


def call(main: Callable[[list[str]], int], *arguments: str | Path, stdin: str | bytes = b"") -> Result:
    """Run ``main`` on ``arguments`` with ``stdin``; standard streams are captured."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    outcome = captured(lambda: main([str(argument) for argument in arguments]), data)
    return Result(outcome.code, outcome.stdout.decode(), outcome.stderr)
