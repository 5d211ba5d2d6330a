"""Ctrl-C at any moment: exit code 130, no traceback, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest

MATMUL = Path(__file__).resolve().parents[2] / "examples" / "matmul.mlir"
START = """
import sys
print("up", flush=True)
from crosstile.tools.console import crosstile
sys.exit(crosstile())
"""


def interrupted(arguments: list[str], seconds: float) -> tuple[int, str]:
    """The exit code and the messages of a command that is interrupted so many seconds after it came up."""
    command = [sys.executable, "-c", START, *arguments]
    environment = {**os.environ, "CROSSTILE_CACHE": "0"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize("seconds", [0.03, 0.06, 0.1, 0.15, 0.25, 0.4])
def test_while_the_tool_and_the_compiler_are_imported(seconds: float):
    # A product of some seconds: a busy machine may be late with the signal, but not as late.
    sizes = [word for size in ("M=9000", "N=9000", "K=2000") for word in ("--dim", size)]
    code, errors = interrupted(["run", str(MATMUL), *sizes], seconds)
    assert code == 130
    assert errors in ("", "crosstile run: interrupted\n")


def test_during_a_long_compilation(tmp_path: Path):
    lines = [
        f"  %{number + 1} = nn.gelu %{number} : tensor<?x?xf32>\n"
        f"  %p{number} = nn.matmul %{number + 1}, %w accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>\n"
        f"  %{number + 2} = nn.softmax %p{number} dim 1 : tensor<?x?xf32>\n"
        for number in range(0, 200, 2)
    ]
    program = tmp_path / "long.mlir"
    program.write_text(
        "func.func @main(%w: tensor<?x?xf32>, %0: tensor<?x?xf32>) -> tensor<?x?xf32> {\n"
        f"{''.join(lines)}  func.return %200 : tensor<?x?xf32>\n}}\n"
    )
    code, errors = interrupted(["translate", str(program), "--to", "asm", "-o", str(tmp_path / "out.s")], 2.0)
    assert (code, errors) == (130, "crosstile-translate: interrupted\n")
    assert list(tmp_path.iterdir()) == [program]
