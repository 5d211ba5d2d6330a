"""Single elements and single rows of lanes from and to memory, with the conditions under which they are valid.

Level: ``mma`` to hardware; what ``memory`` and ``words`` build their loads and stores of whole registers from. ::

    %m = vector.create_mask %nr : vector<16xi1>
    %f = vector.maskedload %flat[%at], %m, %zero : memref<?xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import memref, vector
from xdsl.dialects.builtin import VectorType
from xdsl.ir import SSAValue

from crosstile.lowering.linear_index import Linear
from crosstile.lowering.loops import build_if, run_if
from crosstile.lowering.mma_to_hardware.access import Access


def load_lanes(access: Access, start: Sequence[int], pad: float, otherwise: SSAValue | None = None) -> SSAValue:
    """An element per lane, consecutive in memory; what is not valid is ``pad``, or the lane of ``otherwise``."""
    lowering = access.lowering
    type_ = VectorType(access.type.element_type, [access.registers.lanes])
    mask = access.mask(start)
    if mask is False:
        return lowering.constant(pad, type_) if otherwise is None else otherwise
    flat, at = access.address([Linear(coordinate) for coordinate in start])
    if mask is True:
        return lowering.insert(vector.LoadOp(flat, [at], type_)).result
    padding = lowering.constant(pad, type_) if otherwise is None else otherwise
    return lowering.insert(vector.MaskedLoadOp(flat, [at], mask, padding, type_)).result


def load_element(access: Access, place: Sequence[Linear], pad: float) -> SSAValue:
    """One element, or ``pad`` if it is not valid."""
    lowering = access.lowering

    def load() -> list[SSAValue]:
        flat, at = access.address(place)
        return [lowering.insert(memref.LoadOp.get(flat, [at])).res]

    valid = access.holds(access.all_conditions(place))
    if valid is True:
        return load()[0]
    padding = lowering.constant(pad, access.type.element_type)
    return padding if valid is False else build_if(lowering, valid, load, lambda: [padding])[0]


def lane_place(access: Access, start: Sequence[int], lane: SSAValue) -> list[Linear]:
    """The coordinates of a lane of the register that begins at ``start``."""
    *rows, last = (Linear(coordinate) for coordinate in start)
    return [*rows, last + access.lowering.linear.of_new(lane)]


def store_element(access: Access, place: Sequence[Linear], register: SSAValue, lane: SSAValue | int) -> None:
    """One element of a register, if its place is valid."""
    lowering = access.lowering

    def store() -> None:
        scalar = lowering.insert(vector.ExtractOp(register, [lane], access.type.element_type)).result
        flat, at = access.address(place)
        lowering.insert(memref.StoreOp.get(scalar, flat, [at]))

    run_if(lowering, access.holds(access.all_conditions(place)), store)
