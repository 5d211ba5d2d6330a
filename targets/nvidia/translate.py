"""Text and machine code for NVIDIA's GPUs: PTX, a cubin, or the cubin's SASS.

In: the module after ``mma-to-nvvm``. Out, for ``--to``: ``ptx`` (text), ``cubin`` (assembled by ptxas) or ``sass``
(what ptxas made of it, as text). No GPU is needed; the last two need the extra ``nvidia``.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.model import Machine
from crosstile.targets.nvidia.emit import emit as emit_ptx
from crosstile.targets.nvidia.ptxas import assemble, disassemble

FORMATS = {
    "ptx": "PTX text",
    "cubin": "machine code, assembled by ptxas",
    "sass": "the machine code as text",
}


def emit(module: ModuleOp, machine: Machine, form: str) -> str | bytes:
    """``module`` as ``ptx`` or ``sass`` text, or the bytes of a ``cubin``; a CrosstileError for others."""
    if form not in FORMATS:
        raise CrosstileError(f"a program for {machine.name} can be written as {', '.join(FORMATS)}, not as '{form}'")
    ptx = emit_ptx(module)
    if form == "ptx":
        return ptx
    cubin, _ = assemble(ptx, machine.cpu)
    return cubin if form == "cubin" else disassemble(cubin)
