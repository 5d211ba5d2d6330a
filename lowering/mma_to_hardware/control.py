"""Rules for kernels: functions with this worker's share of the range, buffers in the kernel's scratch.

mma.kernel @k(%A : memref<?xf32>) target "x86-64-avx512" {
  mma.parallel %begin to %end = %zero to %n grain 8 { ... }
==>
func.func private @k(%A : memref<?xf32>, %scratch : memref<?xi8>, %part : index, %parts : index) {
  %begin, %end = the part-th of parts nearly equal runs of blocks of 8
  scf.if %begin < %end { ... }
"""

from __future__ import annotations

from math import prod

from xdsl.dialects import affine, arith, func, memref, scf
from xdsl.dialects.builtin import IntegerAttr, MemRefType
from xdsl.dialects.llvm import CallIntrinsicOp
from xdsl.ir import Block, Region, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.arith import CmpiOp
from crosstile.dialects.mma.kernel import integer_list
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.driver import keep
from crosstile.lowering.mma_to_hardware.state import (
    BYTES,
    INDEX,
    HardwareLowering,
    KernelState,
    buffer_bytes,
    scratch_bytes,
)
from crosstile.targets.model import machine

SCRATCH_BYTES = "crosstile.scratch"
"""The attribute of a kernel's function that says how many bytes of scratch each worker needs."""
EXPORTED = "crosstile.exported"
"""Marks a kernel whose host function is in another module, so that its function must be visible."""


def lower_kernel(op: mma.KernelOp, lowering: HardwareLowering) -> None:
    """A private function with three more arguments: scratch, which worker this is, how many there are."""
    block = Block()
    for argument in op.body.block.args:
        lowering.add_argument(block, argument)
    scratch, part, parts = (block.insert_arg(type_, len(block.args)) for type_ in (BYTES, INDEX, INDEX))
    scratch.name_hint, part.name_hint, parts.name_hint = "scratch", "part", "parts"
    fence = "" if op.target is None else machine(op.target.data).store_fence
    lowering.enter_kernel(KernelState(scratch, part, parts, fence))
    with lowering.index.function(block):
        lowering.lower_ops(op.body.block)
    function = func.FuncOp(
        op.sym_name.data, (block.arg_types, []), Region(block), None if EXPORTED in op.attributes else "private"
    )
    function.attributes[SCRATCH_BYTES] = IntegerAttr(scratch_bytes(op), INDEX)
    lowering.insert(function)


def lower_return(op: mma.ReturnOp, lowering: HardwareLowering) -> None:
    """The end of the function, behind a fence if it has written past the caches."""
    if lowering.kernel.streams and lowering.kernel.store_fence:
        lowering.insert(CallIntrinsicOp(lowering.kernel.store_fence, [], []))
    lowering.insert(func.ReturnOp())


def lower_parallel(op: mma.ParallelOp, lowering: HardwareLowering) -> None:
    """This worker's share: a contiguous range of blocks, or of tiles of the grid in row-major order."""
    if op.is_grid:
        _lower_grid(op, lowering)
    else:
        _lower_range(op, lowering)


def _lower_range(op: mma.ParallelOp, lowering: HardwareLowering) -> None:
    assert op.grain is not None
    index, grain = lowering.index, op.grain.value.data
    lower, upper = _bound(op.lower_bounds[0], lowering), _bound(op.upper_bounds[0], lowering)
    blocks = index.floor_div(index.add(_distance(lowering, lower, upper), grain - 1), grain)
    first, last = _share(lowering, blocks)
    begin = index.add(lower, index.mul(first, grain))
    end = index.minimum(upper, index.add(lower, index.mul(last, grain)))
    not_empty = lowering.insert(CmpiOp(index.value(begin), index.value(end), "slt")).result
    for argument, value in zip(op.body.block.args, (begin, end), strict=True):
        lowering.map_value(argument, index.value(value))
    lowering.insert(scf.IfOp(not_empty, [], Region(_body(op, lowering))))


def _body(op: mma.ParallelOp, lowering: HardwareLowering, block: Block | None = None) -> Block:
    """The body of ``op`` in ``block``, ended by an ``scf.yield``; its arguments must have been mapped."""
    block = Block() if block is None else block
    with lowering.at(block):
        for inner in op.body.block.ops:
            if not isinstance(inner, mma.YieldOp):
                lowering.lower_op(inner)
        lowering.insert(scf.YieldOp())
    return block


def lower_if(op: scf.IfOp, lowering: HardwareLowering) -> None:
    """As it is; what only its condition makes sound stays in its branches."""
    with lowering.index.branches():
        keep(op, lowering)


def _lower_grid(op: mma.ParallelOp, lowering: HardwareLowering) -> None:
    index, steps = lowering.index, integer_list(op.steps)
    lowers = [_bound(bound, lowering) for bound in op.lower_bounds]
    uppers = [_bound(bound, lowering) for bound in op.upper_bounds]
    counts = [
        index.floor_div(index.add(_distance(lowering, lower, upper), step - 1), step)
        for lower, upper, step in zip(lowers, uppers, steps, strict=True)
    ]
    first, last = _share(lowering, index.product(counts))
    block = Block(arg_types=[INDEX])
    with lowering.at(block):
        rest: Index = block.args[0]
        for dim in reversed(range(len(steps))):
            rest, at = _divide(lowering, rest, counts[dim]) if dim else (0, rest)
            start = index.add(lowers[dim], index.mul(at, steps[dim]))
            extent = index.minimum(steps[dim], index.sub(uppers[dim], start))
            lowering.map_value(op.body.block.args[dim], index.value(start))
            lowering.map_value(op.body.block.args[len(steps) + dim], index.value(extent))
    _body(op, lowering, block)
    lower, upper, step = index.bounds(first, last, 1)
    lowering.insert(scf.ForOp(lower, upper, step, [], Region(block)))


def _bound(old: SSAValue, lowering: HardwareLowering) -> Index:
    constant = constant_value(old)
    return lowering.value(old) if constant is None else constant


def _distance(lowering: HardwareLowering, lower: Index, upper: Index) -> Index:
    """``upper - lower``, or 0 if that is negative."""
    return lowering.index.maximum(lowering.index.sub(upper, lower), 0)


def _share(lowering: HardwareLowering, count: Index) -> tuple[Index, Index]:
    """The first of ``count`` blocks that this worker runs, and the first that the next one runs."""
    index, kernel = lowering.index, lowering.kernel
    after = index.add(kernel.part, 1)
    shares: list[SSAValue] = []
    for part in (kernel.part, after):
        scaled = index.value(index.mul(count, part))
        shares.append(lowering.insert(arith.DivUIOp(scaled, kernel.parts)).result)
    return shares[0], shares[1]


def _divide(lowering: HardwareLowering, value: Index, divisor: Index) -> tuple[Index, Index]:
    """Quotient and remainder; inside the grid's loop no count is 0."""
    index = lowering.index
    quotient = lowering.insert(arith.DivUIOp(index.value(value), index.value(divisor))).result
    return quotient, index.sub(value, index.mul(quotient, divisor))


def lower_alloc(op: mma.AllocOp, lowering: HardwareLowering) -> None:
    """The next bytes of the kernel's scratch, as a row of elements."""
    type_, kernel = op.result.type, lowering.kernel
    if type_.swizzle != type(type_).of(type_.get_shape(), type_.element_type).swizzle:
        raise lowering.error(f"a core's memory has no swizzles: {type_}")
    flat = MemRefType(type_.element_type, [prod(type_.storage_shape())])
    offset = lowering.index.value(kernel.used)
    kernel.used += buffer_bytes(type_)
    lowering.replace(op, lowering.index.build(memref.ViewOp(kernel.scratch, offset, [], flat)).result)


def lower_apply(op: affine.ApplyOp, lowering: HardwareLowering) -> None:
    """Index arithmetic, outside of the loops that it does not depend on."""
    lowering.replace(op, lowering.index.value(lowering.linear.value(lowering.linear.apply(op))))


def lower_dim(op: memref.DimOp, lowering: HardwareLowering) -> None:
    """The size of a memref, read once at the start of the function."""
    dim = constant_value(op.index)
    if dim is None:
        raise lowering.error("needs a constant dimension")
    lowering.replace(op, lowering.index.value(lowering.size(lowering.value(op.source), dim)))
