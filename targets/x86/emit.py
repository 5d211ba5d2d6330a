"""Text and objects for CPUs: a module in the ``llvm`` dialect as LLVM IR, assembly or an object file.

In: the module after ``convert-to-llvm``. Out, for ``--to``: ``llvmir`` (text with the target's triple and processor in
it), ``asm`` (assembly text) or ``obj`` (a relocatable ELF or Mach-O file). ``generic`` machines and other architectures
take the same way; only running needs this process's own architecture.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets import llvm_codegen
from crosstile.targets.llvm_text import print_llvm
from crosstile.targets.model import Machine

FORMATS = {
    "llvmir": "LLVM IR text, complete with target and processor",
    "asm": "assembly text",
    "obj": "a relocatable object file",
}


def llvm_ir(module: ModuleOp, machine: Machine) -> str:
    """LLVM IR text of a module in the ``llvm`` dialect, complete with target and processor."""
    return print_llvm(module, llvm_codegen.function_attributes(machine), llvm_codegen.header(machine))


def emit(module: ModuleOp, machine: Machine, form: str) -> str | bytes:
    """``module`` as ``llvmir`` or ``asm`` text, or the bytes of an ``obj`` file; a CrosstileError for others."""
    if form not in FORMATS:
        raise CrosstileError(f"a program for {machine.name} can be written as {', '.join(FORMATS)}, not as '{form}'")
    text = llvm_ir(module, machine)
    parsed = llvm_codegen.parse(text)
    if form == "llvmir":
        return text
    if form == "asm":
        return llvm_codegen.assembly(parsed, machine)
    return llvm_codegen.object_code(parsed, machine)
