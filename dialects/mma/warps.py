"""Do fragments live where the program runs? Every layout must say what each warp of the program, or of its role, holds.

    mma.kernel @f() warps(12) { mma.roles { role @load warps(4) { ... }   role @compute warps(8) { ... } } }

A fragment of role @compute has ``warp`` modes of 8 in all in its layout; one that all its warps hold, ``warp(8:0)``.
"""

from __future__ import annotations

from xdsl.ir import Operation, Region
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.mma.roles import RolesOp
from crosstile.dialects.mma.types import FragmentType
from crosstile.ir.diagnostics import first_file_location


def verify_warps(program: Region, warps: int, who: str) -> None:
    """Raise VerifyException for a fragment in ``program`` that is not laid out over ``warps`` warps."""
    for block in program.blocks:
        for op in block.ops:
            if isinstance(op, RolesOp):
                _verify_roles(op, warps, who)
                continue
            for result in op.results:
                if isinstance(result.type, FragmentType):
                    _verify_fragment(op, result.type, warps, who)
            for region in op.regions:
                verify_warps(region, warps, who)


def _verify_roles(op: RolesOp, warps: int, who: str) -> None:
    total = sum(role.warps for role in op.roles)
    if total != warps:
        raise VerifyException(f"{who} runs on {warps} warps, and its roles share out {total}")
    for role in op.roles:
        verify_warps(role.body, role.warps, f"role @{role.name}")


def _verify_fragment(op: Operation, type_: FragmentType, warps: int, who: str) -> None:
    found = type_.layout.data.size("warp")
    if found != warps:
        place = first_file_location(op.location)
        where = "" if place is None else f" at line {place.line.data}"
        raise VerifyException(
            f"the result of {op.name}{where} is laid out over {found} warps, {who} runs on {warps}: {type_.layout.data}"
        )
