"""From LLVM IR text to assembly text or object code with llvmlite's LLVM, for any machine row that LLVM has.

No mid-level passes run: lowerings write loops and addresses in the form that the code generator wants, and the code
generator's own passes (strength reduction, loop-invariant motion, scheduling) do the rest. LLVM's errors become
CrosstileErrors; what would abort the process is refused before LLVM sees it. llvmlite is imported when first used.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from crosstile.ir.diagnostics import CrosstileError

if TYPE_CHECKING:
    from crosstile.targets.model import Machine

ModuleRef = Any
TargetMachine = Any
"""llvmlite's classes; it ships no types."""

OPTIMIZATION_LEVEL = 1
"""The code generator's level: 0 keeps values in memory, 2 and 3 take longer for the same inner loops."""


@cache
def llvm() -> Any:
    """llvmlite's binding, with this process's own target ready."""
    binding = import_module("llvmlite.binding")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    return binding


def triple_of(machine: Machine) -> str:
    """The target triple of ``machine``; a machine without one is the kind this process runs on."""
    return machine.triple or llvm().get_process_triple()


def is_native(machine: Machine) -> bool:
    """Whether code for ``machine`` is of the architecture of this process."""
    return triple_of(machine).split("-")[0] == llvm().get_process_triple().split("-")[0]


def header(machine: Machine) -> list[str]:
    """The lines that name the target in LLVM IR text."""
    target_machine = create_target_machine(machine)
    layout = str(target_machine.target_data)
    return [f'target datalayout = "{layout}"', f'target triple = "{triple_of(machine)}"']


def function_attributes(machine: Machine) -> list[str]:
    """The function attributes that make LLVM IR text carry its processor with it."""
    attributes = ["nounwind", f'"target-cpu"="{machine.cpu}"']
    return [*attributes, f'"target-features"="{machine.attributes}"'] if machine.attributes else attributes


@cache
def create_target_machine(machine: Machine, level: int = OPTIMIZATION_LEVEL) -> TargetMachine:
    """LLVM's code generator for ``machine``; a CrosstileError for a triple that this LLVM does not have."""
    binding = llvm()
    if not is_native(machine):
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
    try:
        target = binding.Target.from_triple(triple_of(machine))
    except RuntimeError as error:
        raise CrosstileError(f"machine {machine.name}: LLVM has no target '{triple_of(machine)}': {error}") from error
    return target.create_target_machine(
        cpu=machine.cpu, features=machine.attributes, opt=level, reloc="pic", codemodel="default"
    )


def parse(text: str) -> ModuleRef:
    """LLVM's module for ``text``, verified; a CrosstileError with the offending line if LLVM refuses it."""
    try:
        module = llvm().parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CrosstileError(f"internal error: LLVM refuses the LLVM IR that was made: {reason}") from error
    return module


def assembly(module: ModuleRef, machine: Machine, level: int = OPTIMIZATION_LEVEL) -> str:
    """The assembly text of ``module`` for ``machine``; the same refusal as for object code."""
    _refuse_foreign_inline_assembly(module, machine)
    try:
        return create_target_machine(machine, level).emit_assembly(module)
    except RuntimeError as error:
        raise CrosstileError(f"machine {machine.name}: LLVM cannot generate code: {error}") from error


def object_code(module: ModuleRef, machine: Machine, level: int = OPTIMIZATION_LEVEL) -> bytes:
    """The relocatable object file of ``module`` for ``machine``; inline assembly is refused for other architectures."""
    _refuse_foreign_inline_assembly(module, machine)
    try:
        return create_target_machine(machine, level).emit_object(module)
    except RuntimeError as error:
        raise CrosstileError(f"machine {machine.name}: LLVM cannot generate code: {error}") from error


def _refuse_foreign_inline_assembly(module: ModuleRef, machine: Machine) -> None:
    """LLVM would end the process: llvmlite carries an assembler for this process's architecture only."""
    if not is_native(machine) and " asm " in str(module):
        raise CrosstileError(
            f"machine {machine.name}: code with inline assembly can be generated for {llvm().get_process_triple()} "
            "only; LLVM IR text can be written for any machine"
        )
