"""``--target``: the whole list of passes of a machine, from ``nn`` down to its last level.

A machine's family is the folder of ``targets/`` its row is in; a family with a pipeline is one row here, which names a
function ``pipeline(machine: str) -> str``. ``host`` stands for the machine at hand.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.registry import did_you_mean, load_object

if TYPE_CHECKING:
    from crosstile.targets.model import Machine

PIPELINES: dict[str, str] = {
    "generic": "crosstile.targets.cpu_pipeline:pipeline",
    "x86": "crosstile.targets.cpu_pipeline:pipeline",
}
"""The pipeline of each family that has one."""


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


def target_pipeline(name: str) -> str:
    """All passes of the target ``name``; a CrosstileError if there is no such machine, or no pipeline for it yet."""
    row = PIPELINES[_families()[find_machine(name).name]]
    return cast(Callable[[str], str], load_object(row))(name)


def _families() -> dict[str, str]:
    """The family of every machine."""
    from crosstile.targets.model import families, family_machines

    return {row.name: family for family in families() for row in family_machines(family)}
