"""Every command in the documentation is executed, and prints what the page says it prints.

In a fenced block of language ``console`` a line ``$ command`` is run from the root of the project, and the lines below
it are its output. ``...`` stands for any text within a line, and alone on a line for any lines. A command with no
output below it only has to succeed; one that has to fail ends its output with ``(exit code 1)``. A block of language
``pycon`` is a Python session in the manner of doctest; a blank line ends it.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from round_trip import parse
from run_lines import can_execute, execute_as_typed
from xdsl.passes import ModulePass

from crosstile.ir.context import make_context
from crosstile.ir.passes import run_passes
from crosstile.ir.printing import print_module
from crosstile.ir.registry import find_pass

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ASSIGNMENTS = re.compile(r"(?:[A-Z_]+=\S* )*")
_EXIT_CODE = re.compile(r"\(exit code (\d+)\)")


@dataclass(frozen=True)
class Example:
    """A command of a page and the output below it."""

    page: Path
    line: int
    command: str
    expected: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def examples(page: Path) -> list[Example]:
    """All commands of ``page``."""
    text = page.read_text(encoding="utf-8")
    found: list[Example] = []
    for block in _BLOCK.finditer(text):
        first_line = text.count("\n", 0, block.start(1)) + 1
        for offset, line in enumerate(block.group(1).splitlines()):
            if line.startswith("$ "):
                found.append(Example(page, first_line + offset, line[2:], ()))
            elif found:
                last = found.pop()
                found.append(Example(page, last.line, last.command, (*last.expected, line)))
    return found


EXAMPLES = {page: found for page in PAGES if (found := examples(page))}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the root of the project, where the commands of one page may leave files."""
    for path in ROOT.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of ``command``; our own tools run in this process, which is much faster."""
    assignments = _ASSIGNMENTS.match(command)
    if assignments is not None and can_execute(line := command[assignments.end() :]):
        variables = dict(word.split("=", 1) for word in assignments.group().split())
        with patch.dict(os.environ, variables):
            outcome = execute_as_typed(line)
        return outcome.code, outcome.stdout.decode()
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout


def pattern(expected: tuple[str, ...]) -> re.Pattern[str]:
    """A regular expression for the expected lines."""
    pieces = [
        r"(?:.*\n)*?" if line.strip() == "..." else ".*?".join(map(re.escape, line.rstrip().split("..."))) + r"[ \t]*\n"
        for line in expected
    ]
    return re.compile("".join(pieces))


def difference(example: Example, folder: Path) -> str | None:
    """What is wrong with the output of ``example``, or None."""
    expected = example.expected
    wanted_code = 0
    if expected and (found := _EXIT_CODE.fullmatch(expected[-1])) is not None:
        wanted_code, expected = int(found.group(1)), expected[:-1]
    code, output = run(example.command, folder)
    output = output.rstrip("\n") + "\n"
    if code == wanted_code and (not expected or pattern(expected).fullmatch(output)):
        return None
    return f"{example}: $ {example.command}\n{output}(exit code {code})"


@pytest.mark.parametrize("page", EXAMPLES, ids=lambda page: page.name)
def test_commands_print_what_the_page_says(page: Path, workplace: Path):
    wrong = [text for example in EXAMPLES[page] if (text := difference(example, workplace)) is not None]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if ">>>" in page.read_text("utf-8")], ids=lambda page: page.name
)
def test_python_sessions_print_what_the_page_says(page: Path):
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted > 0 and result.failed == 0, f"{page.name}: the sessions' differences are on standard output"


def test_the_pass_of_contributing_works():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    source = next(block for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) if "class " in block)
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    names: dict[str, type[ModulePass]] = {}
    exec(compile(source, "CONTRIBUTING.md", "exec"), names)
    (program,) = re.findall(r"^```mlir\n(.*?)^```$", text, re.M | re.S)
    context, module = make_context(), parse(program)
    run_passes(context, module, [names["DoubleNegationPass"](), find_pass("dce")()])
    wanted = [line.split(": ", 1)[1] for line in program.splitlines() if line.startswith("// CHECK")]
    assert "\n    ".join(wanted) in print_module(module)


def test_there_are_commands_to_execute():
    assert sum(map(len, EXAMPLES.values())) >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"
