"""Tensor maps: which copies are of whole boxes of a tensor, and what the host must encode for them.

A copy into a ring is one of boxes if nothing is gathered, the memref's last dimension is contiguous, rows of the tile
are rows of memory or those of a box (``box_walks``), and what is valid is what lies inside the tensor. The extent says
where that ends, which need not be the memref's own size::

    mma.copy_async %B[%k, %j] extent [%kc, %nc] to %b     %kc = min(%K - %k, 64), %nc the extent of the grid's tile
    ==> {argument = 1, sizes = [[0, 1], [1, 1]], box = [64, 64], swizzle = 128}      K is dimension 1 of argument 0

A store through scratch is one of boxes by the same rules: what lies outside is not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from xdsl.dialects import arith, memref
from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IntegerAttr,
    MemRefType,
    NoneAttr,
    StridedLayoutAttr,
    i64,
)
from xdsl.ir import Attribute, Block, SSAValue, TypeAttribute
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
)
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.mma.place import listed_extents
from crosstile.lowering.divisibility import constant_value, is_same
from crosstile.lowering.mma_to_nvvm.box_walks import walk_of
from crosstile.lowering.mma_to_nvvm.fragments import memory_bytes
from crosstile.lowering.mma_to_nvvm.kernel_state import INDEX
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering

SWIZZLED_ROWS = 8
"""Rows after which swizzles repeat (PTX ISA, "Swizzling Modes")."""
MOST_BOX = 256
"""The largest size of a box (CUDA driver API, cuTensorMapEncodeTiled)."""
MOST_STEP = 8
"""The largest distance of elements of a box, its elementStrides."""


@dataclass(frozen=True)
class Panels:
    """Scratch as panels of ``width`` elements: rows along dimension ``rows``, their elements along ``inner``."""

    inner: int
    rows: int
    width: int
    panels: int
    row_bytes: int
    panel_bytes: int


def panels_of(type_: mma.SlotType | mma.BufferType | mma.RingType) -> Panels | None:
    """How two-dimensional scratch is stored, if it is in panels; None otherwise."""
    shape, size = type_.get_shape(), memory_bytes(type_.element_type)
    if len(shape) != 2:
        return None
    inner, rows, width = 1, 0, shape[1]
    if not isinstance(type_.map, NoneAttr):
        results = type_.map.data.results
        last, above = results[-1], results[-2]
        if not isinstance(above, AffineDimExpr):
            return None
        rows, inner = above.position, 1 - above.position
        if len(results) == 2:
            if last != AffineExpr.dimension(inner):
                return None
            width = shape[inner]
        else:
            width = _by(last, inner, AffineBinaryOpKind.Mod)
            if len(results) != 3 or not width or _by(results[0], inner, AffineBinaryOpKind.FloorDiv) != width:
                return None
    count = -(-shape[inner] // width)
    return Panels(inner, rows, width, count, width * size, width * size * shape[rows])


@dataclass(frozen=True)
class Parts:
    """Into how many parts a copy is cut that blocks of a cluster make for each other: of panels, or of rows."""

    panels: int
    rows: int


def parts_of(op: mma.CopyAsyncOp, panels: Panels, lowering: NvvmLowering) -> Parts:
    """How a copy is shared out: by whole panels if they divide, else by rows, in whole periods of the swizzle."""
    parts = prod(lowering.kernel.cluster[dim] for dim in op.shared_dims)
    rows = op.slot_type.get_shape()[panels.rows]
    if panels.panels % parts == 0:
        return Parts(parts, 1)
    if rows % (parts * SWIZZLED_ROWS) == 0:
        return Parts(1, parts)
    raise lowering.error(
        f"{parts} blocks of a cluster cannot share a copy of {panels.panels} panels of {rows} rows: expects a number "
        f"of blocks that divides the panels, or {rows // SWIZZLED_ROWS}, the groups of {SWIZZLED_ROWS} rows"
    )


def _by(expression: AffineExpr, dim: int, kind: AffineBinaryOpKind) -> int:
    """The constant c of ``dim kind c``; 0 for another expression."""
    match expression:
        case AffineBinaryOpExpr(kind=found, lhs=AffineDimExpr(position=at), rhs=AffineConstantExpr(value=value)):
            return value if found is kind and at == dim else 0
        case _:
            return 0


def size_recipe(value: SSAValue) -> Attribute | None:
    """A size as the host computes it: a number, or ``[argument, dimension]``; None for anything else."""
    if (known := constant_value(value)) is not None:
        return IntegerAttr(known, i64)
    op = value.owner
    if isinstance(op, memref.DimOp) and isinstance(op.source.owner, Block):
        dim = constant_value(op.index)
        if dim is not None:
            return _pair(op.source.owner.args.index(op.source), dim)
    if isinstance(op, Block) and isinstance(op.parent_op(), mma.KernelOp):
        return _pair(op.args.index(value), -1)
    return None


def _pair(argument: int, dim: int) -> Attribute:
    return ArrayAttr([IntegerAttr(argument, i64), IntegerAttr(dim, i64)])


def valid_end(start: SSAValue, extent: SSAValue, capacity: int) -> SSAValue | None:
    """The coordinate at which elements stop being valid, if extents are cut off at one coordinate for all tiles."""
    owner = extent.owner
    if isinstance(owner, Block):
        parallel = owner.parent_op()
        if isinstance(parallel, mma.ParallelOp) and parallel.is_grid:
            rank = len(parallel.upper_bounds)
            dim = owner.args.index(extent) - rank
            if dim >= 0 and owner.args[dim] is start:
                return parallel.upper_bounds[dim]
        return None
    if isinstance(owner, arith.MinSIOp):
        for rest, most in ((owner.lhs, owner.rhs), (owner.rhs, owner.lhs)):
            known = constant_value(most)
            if known is not None and known >= capacity:
                return valid_end(start, rest, capacity)
        return None
    if isinstance(owner, arith.SubiOp) and is_same(owner.rhs, start):
        return owner.lhs
    return None


def copy_recipe(op: mma.CopyAsyncOp, lowering: NvvmLowering) -> Attribute | None:
    """What the host encodes for ``op``; None if it is not a copy of boxes."""
    panels = panels_of(op.slot_type)
    if panels is None or (shape := op.slot_type.get_shape())[0] > MOST_BOX:
        return None
    return _recipe(op, op.source, shape, op.slot_type.swizzle, panels, shape[0] // parts_of(op, panels, lowering).rows)


def store_recipe(op: mma.StoreOp, through: mma.BufferType, panels: Panels, rows: int) -> Attribute | None:
    """What the host encodes for a store of boxes of ``rows`` rows of a panel; None if it is not one of boxes."""
    return _recipe(op, op.destination, op.value_type.get_shape(), through.swizzle, panels, rows)


def _recipe(
    op: mma.CopyAsyncOp | mma.StoreOp,
    memory: SSAValue,
    shape: Sequence[int],
    swizzled: Attribute,
    panels: Panels,
    rows: int,
) -> Attribute | None:
    """``op`` moves a tile of ``shape`` between ``memory`` and panels; a box is ``rows`` rows of one of them."""
    type_ = memory.type
    if not isa(type_, MemRefType) or not isinstance(memory.owner, Block):
        return None
    rank, clip = type_.get_num_dims(), op.clip is not None
    if rank > 5 or (clip and 0 in type_.get_shape()) or any(index.type != INDEX for index in op.indices):
        return None
    whole = None if op.map is None else walk_of(op.map.data, shape[0])
    walk = None if whole is None else whole.part(rows)
    if op.map is not None and (walk is None or max(walk.box) > MOST_BOX):
        return None
    if walk is not None and max(walk.steps) > (MOST_STEP if isinstance(op, mma.CopyAsyncOp) else 1):
        return None
    if isinstance(type_.layout, StridedLayoutAttr) and (type_.get_strides() or (0,))[-1] != 1:
        return None
    if panels.inner != 1 or panels.width > MOST_BOX:
        return None
    swizzle = swizzled.data if isinstance(swizzled, mma.SwizzleAttr) else 0
    if panels.row_bytes % 16 or (swizzle and panels.row_bytes != swizzle):
        return None
    argument = memory.owner.args.index(memory)
    sizes: list[Attribute] = [_pair(argument, dim) for dim in range(rank)]
    extents = listed_extents(op.extents, op.extent_dims, len(shape))
    for dim, extent in enumerate(extents):
        if extent is None:
            continue
        at = rank - len(shape) + dim
        end = None if walk is not None and dim != len(shape) - 1 else valid_end(op.indices[at], extent, shape[dim])
        recipe = None if end is None else size_recipe(end)
        if recipe is None or (clip and recipe not in (_pair(argument, at), IntegerAttr(type_.get_shape()[at], i64))):
            return None
        sizes[at] = recipe
    box = [*([1] * (rank - 2) + [rows] if walk is None else walk.box), panels.width]
    steps = {} if walk is None or max(walk.steps) == 1 else {"steps": _numbers([*walk.steps, 1])}
    element = type_.get_element_type()
    assert isinstance(element, TypeAttribute)
    return DictionaryAttr(
        {
            "argument": IntegerAttr(argument, i64),
            "element": element,
            "sizes": ArrayAttr(sizes),
            "box": _numbers(box),
            "swizzle": IntegerAttr(swizzle, i64),
            **steps,
        }
    )


def _numbers(numbers: Sequence[int]) -> Attribute:
    return ArrayAttr([IntegerAttr(number, i64) for number in numbers])
