"""Executes the ``// RUN:`` lines of a test file without starting processes, as lit would with a shell.

Understood: ``crosstile-opt``, ``crosstile-translate``, ``crosstile``, ``xdsl-opt``, ``filecheck``, ``not``, ``cat``,
``echo``, ``rm -f``; pipes, ``&&``, ``>``, ``>>``, ``2>``, ``2>&1``, ``<``, ``%s``, ``%S``, ``%t``, ``%T``, ``%%``, a
backslash at the end of a RUN line. A pipeline fails if any of its commands does, as under lit's ``pipefail``.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

_RUN = re.compile(r"(?://|#|;)\s*RUN:\s?(.*)$")
_SUBSTITUTION = re.compile(r"%%|%[sStT]\b")
TOOLS = {
    "crosstile-opt": "crosstile.tools.opt",
    "crosstile-translate": "crosstile.tools.translate",
    "crosstile": "crosstile.tools.main",
}
_REDIRECTIONS = {">", ">>", "2>", "2>>", "<", "2>&1"}


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    stdout: bytes = b""
    stderr: str = ""


@dataclass
class Command:
    """One command of a pipeline: its words and its redirections as (operator, file)."""

    words: list[str] = field(default_factory=list[str])
    redirections: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def target(self, *operators: str) -> tuple[str, str] | None:
        """The last redirection with one of ``operators``, or None."""
        return next((entry for entry in reversed(self.redirections) if entry[0] in operators), None)


def run_lines(path: Path) -> list[str]:
    """The RUN lines of the file, continuations joined."""
    lines: list[str] = []
    continued = False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _RUN.search(line)
        if found is None:
            continue
        text = found.group(1).rstrip()
        if continued:
            lines[-1] += " " + text.rstrip("\\").rstrip()
        else:
            lines.append(text.rstrip("\\").rstrip())
        continued = text.endswith("\\")
    return lines


def execute(line: str, path: Path, scratch: Path) -> Outcome:
    """Execute one RUN line of the test ``path``; files named by ``%t`` and ``%T`` are in ``scratch``."""
    substitutions = {"%s": str(path), "%S": str(path.parent), "%t": str(scratch / path.name), "%T": str(scratch)}
    # Substituted word by word, so that a blank in the path of the checkout splits nothing.
    words = [_SUBSTITUTION.sub(lambda match: substitutions.get(match.group(), "%"), word) for word in _words(line)]
    return _execute(words, merge=False)


def execute_as_typed(line: str) -> Outcome:
    """Execute a command line without substitutions; errors go into the output, as a terminal shows them."""
    return _execute(_words(line), merge=True)


def can_execute(line: str) -> bool:
    """Whether all commands of ``line`` are known here and it uses nothing else of a shell."""
    if re.search(r"[;$`*]|\|\|", line):
        return False
    commands = [command for pipeline in _split(_words(line), "&&") for command in _split(pipeline, "|")]
    return all(command and (command[0] in TOOLS or command[0] in ("cat", "echo", "filecheck")) for command in commands)


def _execute(words: list[str], merge: bool) -> Outcome:
    outcome = Outcome(0)
    for pipeline in _split(words, "&&"):
        data, code, errors = b"", 0, ""
        for command in _split(pipeline, "|"):
            result = _run_command(_parse_command(command + ["2>&1"] * merge), data)
            data, code, errors = result.stdout, code or result.code, errors + result.stderr
        outcome = Outcome(code, outcome.stdout + data, outcome.stderr + errors)
        if code:
            break
    return outcome


def _words(line: str) -> list[str]:
    # "2>&1" and "2>" must stay one word each, but a "2" before a blank is an argument.
    line = re.sub(r"(^|\s)2>&1", r"\1'2>&1'", line)
    line = re.sub(r"(^|\s)(2>>?)", r"\1'\2' ", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def _split(words: Sequence[str], separator: str) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    for word in words:
        if word == separator:
            groups.append([])
        else:
            groups[-1].append(word)
    return groups


def _parse_command(words: Sequence[str]) -> Command:
    command = Command()
    remaining = iter(words)
    for word in remaining:
        if word == "2>&1":
            command.redirections.append((word, ""))
        elif word in _REDIRECTIONS:
            command.redirections.append((word, next(remaining)))
        else:
            command.words.append(word)
    if not command.words:
        raise ValueError("a RUN line has an empty command")
    return command


def _run_command(command: Command, data: bytes) -> Outcome:
    if (source := command.target("<")) is not None:
        data = Path(source[1]).read_bytes()
    outcome = _call(command.words, data, merge=command.target("2>&1") is not None)
    if (target := command.target("2>", "2>>")) is not None:
        with open(target[1], "a" if target[0] == "2>>" else "w", encoding="utf-8") as stream:
            stream.write(outcome.stderr)
        outcome.stderr = ""
    if (target := command.target(">", ">>")) is not None:
        with open(target[1], "ab" if target[0] == ">>" else "wb") as stream:
            stream.write(outcome.stdout)
        outcome.stdout = b""
    return outcome


def _call(words: Sequence[str], data: bytes, merge: bool) -> Outcome:
    name, arguments = words[0], list(words[1:])
    if name == "not":
        outcome = _call(arguments, data, merge)
        return Outcome(0 if outcome.code else 1, outcome.stdout, outcome.stderr)
    if name in TOOLS:
        return captured(lambda: import_module(TOOLS[name]).main(arguments), data, merge)
    if name in ("filecheck", "FileCheck"):
        return captured(lambda: import_module("filecheck.main").main([name, *arguments]), data, merge)
    if name == "xdsl-opt":
        return captured(lambda: import_module("xdsl.xdsl_opt_main").xDSLOptMain(args=arguments).run(), data, merge)
    if name == "cat":
        return Outcome(0, b"".join(Path(argument).read_bytes() for argument in arguments) if arguments else data)
    if name == "echo":
        return Outcome(0, (" ".join(arguments) + "\n").encode())
    if name == "rm" and arguments[:1] == ["-f"]:
        for argument in arguments[1:]:
            Path(argument).unlink(missing_ok=True)
        return Outcome(0)
    raise ValueError(f"RUN lines cannot call '{name}'; they know {', '.join(TOOLS)}, filecheck, not, cat, echo, rm -f")


class _Tee(io.TextIOWrapper):
    """A text stream over bytes in memory, as ``sys.stdout`` is over a file."""

    def __init__(self, data: bytes = b""):
        self.memory = io.BytesIO(data)
        super().__init__(self.memory, encoding="utf-8", newline="", write_through=True)


def captured(main: Callable[[], int | None], data: bytes = b"", merge: bool = False) -> Outcome:
    """Call a tool's ``main`` with standard streams in memory; ``merge`` sends errors into the output."""
    stdin, stdout = _Tee(data), _Tee()
    stderr = stdout if merge else _Tee()
    with _streams(stdin, stdout, stderr):
        try:
            code = main() or 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    errors = "" if merge else stderr.memory.getvalue().decode()
    return Outcome(code, stdout.memory.getvalue(), errors)


@contextmanager
def _streams(stdin: _Tee, stdout: _Tee, stderr: _Tee) -> Generator[None]:
    saved = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = stdin, stdout, stderr
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = saved


def run_test(path: Path, scratch: Path) -> str | None:
    """Execute all RUN lines of ``path`` in order; None if they pass, else the line, its exit code and its output."""
    lines = run_lines(path)
    if not lines:
        return f"{path}: a test file needs a '// RUN:' line"
    os.makedirs(scratch, exist_ok=True)
    for line in lines:
        outcome = execute(line, path, scratch)
        if outcome.code:
            output = outcome.stdout.decode(errors="replace")
            return f"RUN: {line}\nexit code {outcome.code}\n{outcome.stderr}{output}"
    return None
