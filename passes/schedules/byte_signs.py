"""Which signs a machine's instructions read the bytes of a product's factors with.

``vpdpbusd`` multiplies unsigned by signed bytes, of which either may be the left factor. ``offset-signs`` flips the
signs of a factor where that is missing, so all that asks whether a machine multiplies bytes asks here::

    taken_factors(si8 x si8 + i32, x86-64-avx512-vnni) = (si8, ui8)        once the right factor's sign bits are flipped
    taken_factors(si8 x si8 + i32, x86-64-amx)         = (si8, si8)        as they are
"""

from __future__ import annotations

from xdsl.ir import BlockArgument

from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.targets.model import Machine, UnknownNameError

FLIPPED = {"si8": "ui8", "ui8": "si8"}
"""What a byte is read as once its sign bit is flipped."""


def taken_factors(roles: ContractionRoles, machine: Machine) -> tuple[str, str] | None:
    """The types with which ``machine`` multiplies the factors, as they are or with the signs of one flipped."""
    return next(iter(_ways(roles, machine).values()), None)


def flipped_factor(roles: ContractionRoles, machine: Machine) -> int | None:
    """The position of the factor whose signs are to be flipped; None if none is, or if that does not help."""
    return next(iter(_ways(roles, machine)), None)


def _ways(roles: ContractionRoles, machine: Machine) -> dict[int | None, tuple[str, str]]:
    """The types that ``machine`` multiplies, by the factor whose signs are flipped, the best way first.

    A right factor is packed anyway, and the left one is read in place then; its rows are summed faster than columns.
    Either way the factor that is summed must be in memory.
    """
    lhs, rhs = roles.factors
    found: dict[int | None, tuple[str, str]] = {None: (lhs, rhs)}
    if lhs in FLIPPED and rhs in FLIPPED:
        if isinstance(roles.nest.inputs[roles.lhs], BlockArgument):
            found[roles.rhs] = (lhs, FLIPPED[rhs])
        if isinstance(roles.nest.inputs[roles.rhs], BlockArgument):
            found[roles.lhs] = (FLIPPED[lhs], rhs)
    return {flipped: types for flipped, types in found.items() if _multiplies(machine, *types, str(roles.element))}


def _multiplies(machine: Machine, lhs: str, rhs: str, sums: str) -> bool:
    try:
        machine.choose_widening(lhs, rhs, sums)
    except UnknownNameError:
        return False
    return True
