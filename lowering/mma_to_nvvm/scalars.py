"""Rules for index arithmetic and scalars, which every thread computes.

%n = memref.dim %A, %c1 : memref<?x?xbf16>         ==> the kernel's parameter
%i = affine.apply affine_map<(d) -> (d + 1)>(%k)   ==> arith, outside of the loops that it does not depend on
"""

from __future__ import annotations

from xdsl.dialects import affine, arith, memref
from xdsl.ir import Operation

from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value, static_size
from crosstile.lowering.mma_to_nvvm.access import Place
from crosstile.lowering.mma_to_nvvm.memory import read
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering

DIVISIONS = (
    *(arith.DivUIOp, arith.DivSIOp, arith.RemUIOp, arith.RemSIOp),
    *(arith.FloorDivSIOp, arith.CeilDivSIOp, arith.CeilDivUIOp),
)


def lower_dim(op: memref.DimOp, lowering: NvvmLowering) -> None:
    """The size of a memref."""
    dim = constant_value(op.index)
    if dim is None:
        raise lowering.error("needs a constant dimension")
    size: Index | None = static_size(op.source, dim)
    lowering.replace(op, lowering.index.value(lowering.kernel.memories[op.source].sizes[dim] if size is None else size))


def lower_apply(op: affine.ApplyOp, lowering: NvvmLowering) -> None:
    """Index arithmetic, outside of the loops that it does not depend on."""
    lowering.replace(op, lowering.index.value(lowering.linear.value(lowering.linear.apply(op))))


def lower_ceildiv(op: arith.CeilDivSIOp | arith.CeilDivUIOp, lowering: NvvmLowering) -> None:
    """A division that rounds up, by a power of two where the divisor is known to be one and the dividend is a size."""
    lhs, rhs = op.operands
    known = constant_value(rhs)
    if known is not None and known > 0 and isinstance(lhs.owner, memref.DimOp):
        total = lowering.index.add(lowering.value(lhs), known - 1)
        lowering.replace(op, lowering.index.value(lowering.index.floor_div(total, known)))
        return
    lower_scalar(op, lowering)


def lower_memref_load(op: memref.LoadOp, lowering: NvvmLowering) -> None:
    """One element, by every thread."""
    place = Place(lowering, op.memref, (), None, list(op.indices), (), None, False)
    lowering.replace(op, read(lowering, place.pointer([]), op.res.type))


def lower_scalar(op: Operation, lowering: NvvmLowering) -> None:
    """Arithmetic on scalars: the same, moved out of loops and merged with equal operations where it may be."""
    new = type(op).create(
        operands=lowering.flatten(op.operands),
        result_types=[result.type for result in op.results],
        properties=dict(op.properties),
        attributes=dict(op.attributes),
    )
    traps = isinstance(op, DIVISIONS) and not constant_value(op.operands[1])
    if not op.regions and not traps:
        new = lowering.index.build(new)
    else:
        lowering.insert(new)
    lowering.replace(op, *new.results)
