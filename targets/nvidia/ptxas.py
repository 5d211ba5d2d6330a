"""NVIDIA's assembler and disassembler, as PyPI's wheels bring them: PTX to a cubin, a cubin to SASS.

Level: the last step of ``crosstile translate --to cubin|sass``, and of the tests that assemble every instruction. In:
PTX text and an architecture. Out: machine code, and what ptxas says of it (registers, spills)::

    cubin, remarks = assemble(ptx, "sm_90a")        ptxas -arch=sm_90a -v
    print(disassemble(cubin))                       nvdisasm

The tools come with the extra ``nvidia`` (wheels nvidia-cuda-nvcc and nvidia-cuda-nvdisasm), or are found on PATH.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from crosstile.ir.diagnostics import CrosstileError

TIMEOUT = 300
"""Seconds that a tool may take."""
MOST_LINES = 12
"""Lines of what a tool says that an error repeats."""


@cache
def find_tool(name: str) -> Path:
    """``ptxas`` or ``nvdisasm``: of the wheels beside this Python, else on PATH; raises :class:`CrosstileError`."""
    for folder in map(Path, sys.path):
        for found in sorted(folder.glob(f"nvidia/*/bin/{name}")):
            return found
    if on_path := shutil.which(name):
        return Path(on_path)
    raise CrosstileError(f"{name} is not installed: 'pip install crosstile[nvidia]' brings it, no GPU is needed")


def assemble(ptx: str, architecture: str) -> tuple[bytes, str]:
    """The cubin for ``architecture`` ("sm_90a") and ptxas's remarks; raises :class:`CrosstileError` with its errors."""
    with tempfile.TemporaryDirectory(prefix="crosstile-") as folder:
        source, result = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        remarks = _run(find_tool("ptxas"), f"-arch={architecture}", "-v", str(source), "-o", str(result))
        return result.read_bytes(), remarks


def disassemble(cubin: bytes, encodings: bool = False) -> str:
    """The SASS of a cubin, as nvdisasm prints it, if wanted with ``encodings``; raises :class:`CrosstileError`."""
    with tempfile.TemporaryDirectory(prefix="crosstile-") as folder:
        source = Path(folder, "kernel.cubin")
        source.write_bytes(cubin)
        return _run(find_tool("nvdisasm"), *(["-hex", "-c"] if encodings else []), str(source))


def _run(tool: Path, *arguments: str) -> str:
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CrosstileError(f"{tool.name} could not be run: {error}") from error
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
        rest = [f"and {len(said) - MOST_LINES} lines more"] if len(said) > MOST_LINES else []
        raise CrosstileError("\n".join((f"{tool.name} refused the program:", *said[:MOST_LINES], *rest)))
    return done.stdout + done.stderr
