"""``--target``: the whole list of passes of a machine, from ``nn`` down to its last level.

A machine's family is the folder of ``targets/`` its row is in; a family with a pipeline is one row here, which names a
function ``pipeline(machine: str) -> str``. ``host`` stands for the machine at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.registry import did_you_mean, load_object

PIPELINES: dict[str, str] = {
    "generic": "crosstile.targets.cpu_pipeline:pipeline",
    "x86": "crosstile.targets.cpu_pipeline:pipeline",
}
"""The pipeline of each family that has one."""


def target_pipeline(name: str) -> str:
    """All passes of the target ``name``; a CrosstileError if there is no such machine, or no pipeline for it yet."""
    from crosstile.targets.host import resolve_machine
    from crosstile.targets.model import UnknownNameError, families, family_machines

    names = {row.name: family for family in families() for row in family_machines(family)}
    runnable = ["host", *(known for known, family in names.items() if family in PIPELINES)]
    note = f"targets with a pipeline: {', '.join(runnable)}"
    try:
        machine = resolve_machine(name)
    except UnknownNameError as error:
        raise CrosstileError(f"unknown target '{name}'{did_you_mean(name, ['host', *names])}").with_note(
            note
        ) from error
    row = PIPELINES.get(names[machine.name])
    if row is None:
        raise CrosstileError(f"target '{name}' has no pipeline yet; its kernels are written by hand").with_note(note)
    return cast(Callable[[str], str], load_object(row))(name)
