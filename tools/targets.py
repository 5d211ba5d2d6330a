"""``--target``: the whole list of passes of a machine, from ``nn`` down to its last level.

A machine's family is the folder of ``targets/`` its row is in; a family with a pipeline is one row of each table here.
``host`` stands for the machine at hand.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.registry import did_you_mean

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.targets.model import Machine

PIPELINES: dict[str, str] = {
    "generic": "crosstile.targets.cpu_pipeline",
    "x86": "crosstile.targets.cpu_pipeline",
    "nvidia": "crosstile.targets.nvidia.pipeline",
}
"""The module with the pipeline of each family that has one: ``LEVELS``, ``steps`` and ``pipeline``."""

EMITTERS: dict[str, str] = {
    "generic": "crosstile.targets.x86.emit",
    "x86": "crosstile.targets.x86.emit",
    "nvidia": "crosstile.targets.nvidia.translate",
}
"""The module that writes the programs of each family down: ``FORMATS`` and ``emit``."""


class Pipeline(Protocol):
    """What a family's pipeline module has."""

    LEVELS: tuple[str, ...]

    def steps(self, machine: str, level: str, bound: bool = False) -> list[str]:
        """The passes that lead to ``level`` from the one above."""
        ...

    def pipeline(self, machine: str) -> str:
        """All passes, from ``nn`` to the last level."""
        ...


class Emitter(Protocol):
    """What a family's module for writing programs down has."""

    FORMATS: dict[str, str]

    def emit(self, module: ModuleOp, machine: Machine, form: str) -> str | bytes:
        """The program as one of the ``FORMATS``."""
        ...


def family_of(machine: Machine) -> str:
    """The family of a machine: the folder of its row."""
    return _families()[machine.name]


def pipeline_of(machine: Machine) -> Pipeline:
    """The pipeline of a machine that ``find_machine`` gave."""
    return cast(Pipeline, import_module(PIPELINES[family_of(machine)]))


def emitter_of(machine: Machine) -> Emitter:
    """What writes programs for a machine that ``find_machine`` gave."""
    return cast(Emitter, import_module(EMITTERS[family_of(machine)]))


def find_machine(name: str) -> Machine:
    """The machine called ``name``, which has a pipeline; a CrosstileError for others."""
    from crosstile.targets.host import TARGET, resolve_machine
    from crosstile.targets.model import UnknownNameError

    name = str(name)  # from Python it may be anything
    names = _families()
    runnable = ["host", *(known for known, family in names.items() if family in PIPELINES)]
    note = f"targets with a pipeline: {', '.join(runnable)}"
    try:
        machine = resolve_machine(name)
    except UnknownNameError as error:
        origin = f" in {TARGET}" if os.environ.get(TARGET) == name else ""
        message = f"unknown target '{name}'{origin}{did_you_mean(name, ['host', *names])}"
        raise CrosstileError(message).with_note(note) from error
    if names[machine.name] not in PIPELINES:
        message = f"target '{name}' has no pipeline yet; its kernels are written by hand"
        raise CrosstileError(message).with_note(note)
    return machine


def check_kernels(module: ModuleOp, machine: Machine) -> None:
    """Raise a CrosstileError for a kernel of ``module`` that is placed on a machine which ``machine`` cannot stand for.

    CPUs are told apart when code is loaded. A GPU runs kernels of older ones.
    """
    from crosstile.dialects.mma.kernel import KernelOp
    from crosstile.ir.diagnostics import op_error
    from crosstile.targets.host import resolve_machine

    for op in module.ops:
        if not isinstance(op, KernelOp) or op.target is None:
            continue
        owner = resolve_machine(op.target.data)
        missing = [feature for feature in owner.features if feature not in machine.features]
        other = PIPELINES.get(family_of(owner)) != PIPELINES.get(family_of(machine))
        if other or (machine.warp_lanes is not None and missing):
            lacks = f", which has no {', '.join(missing)}" if missing else ""
            message = f"kernel '{op.sym_name.data}' is placed on {owner.name} and does not run on {machine.name}{lacks}"
            raise op_error(op, message).with_note(f"--target {owner.name} runs it")


def target_pipeline(name: str) -> str:
    """All passes of the target ``name``; a CrosstileError if there is no such machine, or no pipeline for it yet."""
    return pipeline_of(find_machine(name)).pipeline(name)


def _families() -> dict[str, str]:
    """The family of every machine."""
    from crosstile.targets.model import families, family_machines

    return {row.name: family for family in families() for row in family_machines(family)}
