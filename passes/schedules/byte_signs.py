"""Which signs a machine's instructions read the bytes of a product's factors with.

``vpdpbusd`` multiplies unsigned by signed bytes. ``offset-signs`` makes its left factor of one with other signs, so all
that asks whether a machine multiplies bytes asks here::

    taken_factors(si8 x si8 + i32, x86-64-avx512-vnni) = (ui8, si8)        once the left factor's sign bits are flipped
    taken_factors(si8 x ui8 + i32, x86-64-avx512-vnni) = None
"""

from __future__ import annotations

from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.targets.model import Machine, UnknownNameError

FLIPPED = {"si8": "ui8", "ui8": "si8"}
"""What a byte is read as once its sign bit is flipped."""


def taken_factors(roles: ContractionRoles, machine: Machine) -> tuple[str, str] | None:
    """The types with which ``machine`` multiplies the factors, as they are or with the left one's signs flipped."""
    lhs, rhs = roles.factors
    for left in (lhs, FLIPPED.get(lhs)):
        if left is None:
            continue
        try:
            machine.choose_widening(left, rhs, str(roles.element))
        except UnknownNameError:
            continue
        return left, rhs
    return None
