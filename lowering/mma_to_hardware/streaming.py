"""Stores past the caches, of whole registers at multiples of their size, under a condition.

Level: ``mma`` to hardware. A line that is written whole need not be read from memory first, nor drive others out of the
caches. A store past them must lie at a multiple of the register's size; where the rows begin is known only when the
program runs, so the choice is a branch, asked once per row::

    mma.store %f, %C[%i, %j] nontemporal if %large : !mma.fragment<1x64xf32, ...>, memref<?x?xf32>
    ==>
    %start = memref.extract_aligned_pointer_as_index %C           in the loop over rows
    %past = the last bits of (%start + 4 * %i * %n) are 0, and %large
    scf.if %past {                                                in the loop over columns
      vector.store %f0, %C[%at] {alignment = 64 : i64, nontemporal = true} : memref<?xf32>, vector<16xf32>
      ...
    } else {
      vector.store %f0, %C[%at] : memref<?xf32>, vector<16xf32>
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith, memref
from xdsl.dialects.builtin import MemRefType
from xdsl.ir import SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects.arith import CmpiOp
from crosstile.dialects.vector import StoreOp
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.loops import build_if
from crosstile.lowering.mma_to_hardware.access import Access
from crosstile.lowering.mma_to_hardware.state import NONE, element_bytes


def store_streamed(access: Access, registers: Sequence[SSAValue], condition: SSAValue) -> bool:
    """Store past the caches where ``condition`` and the alignment allow it; False, and nothing built, if never."""
    lowering, kernel = access.lowering, access.lowering.kernel
    places = [[Linear(coordinate) for coordinate in start] for start in access.registers.starts]
    whole = access.registers.group == 1 and not access.registers.replicated and access.is_consecutive()
    if not kernel.store_fence or not whole or any(access.mask(start) is not True for start in access.registers.starts):
        return False
    aligned = _aligned(access, places)
    if aligned is None:
        return False
    kernel.streams = True
    size = access.registers.lanes * element_bytes(access.type.element_type)

    def store(alignment: int | None) -> Sequence[SSAValue]:
        for register, place in zip(registers, places, strict=True):
            flat, at = access.address(place)
            lowering.insert(StoreOp(register, flat, [at], alignment))
        return ()

    build_if(
        lowering,
        lowering.index.build(arith.AndIOp(aligned, condition)).result,
        lambda: store(size),
        lambda: store(None),
    )
    return True


def _aligned(access: Access, places: Sequence[Sequence[Linear]]) -> SSAValue | None:
    """Whether the registers at ``places`` lie at multiples of their size; None if every trip would have to ask."""
    lowering, lanes = access.lowering, access.registers.lanes
    index, linear = lowering.index, lowering.linear
    type_ = access.memory.flat.type
    if not isa(type_, MemRefType) or type_.layout != NONE:
        return None
    rests = {_rest(access.position(place), lanes) for place in places}
    if len(rests) > 1:
        rests = _rests_of_rows(access, places)
    if rests is None or any(index.is_innermost(term.value) for rest in rests for term in rest.terms):
        return None
    size = element_bytes(access.type.element_type)
    start: SSAValue = index.build(memref.ExtractAlignedPointerAsIndexOp.get(access.memory.flat)).aligned_pointer
    for rest in rests:
        offset = index.value(index.mul(linear.value(rest), size))
        start = index.build((arith.AddiOp if len(rests) == 1 else arith.OrIOp)(start, offset)).result
    last_bits = index.build(arith.AndIOp(start, index.value(lanes * size - 1))).result
    return index.build(CmpiOp(last_bits, index.value(0), "eq")).result


def _rests_of_rows(access: Access, places: Sequence[Sequence[Linear]]) -> set[Linear] | None:
    """What must be a multiple of a register for all rows to begin at one: how far apart rows lie."""
    lanes, linear = access.registers.lanes, access.lowering.linear
    if access.memory.storage is not None or access.strides[-1] != 1:
        return None
    if any(_rest(access.coordinates(place)[-1], lanes) != Linear() for place in places):
        return None
    return {_rest(linear.of_new(stride), lanes) for stride in access.strides[:-1]} - {Linear()}


def _rest(position: Linear, lanes: int) -> Linear:
    """What of ``position`` is not known to be a multiple of ``lanes``."""
    terms = tuple(term for term in position.terms if term.factor * term.multiple % lanes)
    return Linear(position.constant % lanes, terms)
