"""``plan-buffers``: the temporaries of a host function move into one arena and share it where their lives allow.

Level: host functions of the tile level and below. In: ``memref.alloc`` at the top level of a host function. Out: views
of a new last argument, and a function that computes how many bytes it must have::

    func.func @main(%x, %y) {                          func.func @main(%x, %y, %arena : memref<?xi8>) {
      %n = memref.dim %x, %c0                            %n = memref.dim %x, %c0
      %t = memref.alloc(%n) : memref<?x32xf32>    =>     %t = memref.view %arena[%offset][%n]
                                                         ...
                                                       func.func @main.arena(%x, %y) -> index

A buffer is live from its allocation to the last operation of the top level that uses it, views of it included. Buffers
get slots greedily in program order: one whose earlier occupants are all dead is taken again, and a slot is as large as
the largest of its occupants, which for dynamic sizes is a maximum computed at run time. Every slot starts on a cache
line. A buffer that the host function itself stores to has a slot of its own, because the function runs once for every
stage of its launches. Sizes must be computable from the arguments alone; anything else is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import accumulate
from math import prod
from typing import cast

from xdsl.context import Context
from xdsl.dialects import arith, memref
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FixedBitwidthType,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    ModuleOp,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.passes import ModulePass

from crosstile.dialects.host import host_functions
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.index_math import Index, IndexBuilder
from crosstile.targets.signature import ARENA_SUFFIX

ALIGNMENT = 64
"""Bytes; a cache line of every target so far."""

VIEW_OPS = (memref.CastOp, memref.ReinterpretCastOp, memref.SubviewOp, memref.ViewOp)


@dataclass
class Slot:
    """A range of the arena: the buffers that take turns in it and the last use of the latest one."""

    buffers: list[memref.AllocOp] = field(default_factory=list[memref.AllocOp])
    last_use: int = -1

    def occupant_type(self) -> Attribute:
        """The type of the latest buffer: an equal one fits without growing the slot."""
        return self.buffers[-1].memref.type


def last_use(value: SSAValue, positions: dict[Operation, int], block: Block) -> int:
    """The position in ``block`` of the last operation that uses ``value`` or a view of it; -1 if there is none."""
    latest = -1
    for use in value.uses:
        ancestor = block.find_ancestor_op_in_block(use.operation)
        assert ancestor is not None
        latest = max(latest, positions[ancestor])
        if isinstance(use.operation, VIEW_OPS):
            latest = max(latest, last_use(use.operation.results[0], positions, block))
    return latest


def is_stored_by_host(alloc: memref.AllocOp) -> bool:
    """Whether the host function itself stores to the buffer: it does so again in every stage, whoever is live then."""
    return any(isinstance(use.operation, memref.StoreOp) and use.index == 1 for use in alloc.memref.uses)


def assign_slots(block: Block) -> list[Slot]:
    """The slots for all ``memref.alloc`` of ``block``, in program order."""
    positions = {op: position for position, op in enumerate(block.ops)}
    slots: list[Slot] = []
    for op, position in positions.items():
        if not isinstance(op, memref.AllocOp):
            continue
        free = (slot for slot in slots if slot.last_use < position)
        if is_stored_by_host(op):
            slots.append(Slot([op], last_use=len(positions)))
            continue
        type_ = op.memref.type
        slot = min(free, key=lambda slot: slot.occupant_type() != type_, default=None)
        if slot is None:
            slots.append(slot := Slot())
        slot.buffers.append(op)
        slot.last_use = max(position, last_use(op.memref, positions, block))
    return slots


class SizeComputation:
    """Recomputes the sizes of buffers in another place, from the arguments of a function alone."""

    def __init__(self, insert: Callable[[Operation], object], arguments: Mapping[SSAValue, SSAValue]):
        self.index = IndexBuilder(insert)
        self._insert = insert
        self._sizes: dict[tuple[Attribute | SSAValue, ...], Index] = {}
        self._copies: dict[SSAValue, SSAValue] = dict(arguments)

    def bytes_of(self, alloc: memref.AllocOp) -> Index:
        """The size of a buffer in bytes, rounded up to whole cache lines."""
        key = (alloc.memref.type, *alloc.dynamic_sizes)
        if key not in self._sizes:
            type_ = alloc.memref.type
            known = prod(size for size in type_.get_shape() if size != DYNAMIC_INDEX)
            # An index is a word of 64 bits on every machine.
            element = type_.element_type
            known *= 8 if isinstance(element, IndexType) else cast(FixedBitwidthType, element).size
            size = self.index.product([known, *(self.copy(size) for size in alloc.dynamic_sizes)])
            self._sizes[key] = self.index.round_up(size, ALIGNMENT)
        return self._sizes[key]

    def copy(self, value: SSAValue) -> Index:
        """``value`` recomputed here; constants come back as numbers."""
        if value in self._copies:
            return self._copies[value]
        op = value.owner
        if isinstance(op, arith.ConstantOp) and isinstance(op.value, IntegerAttr):
            return op.value.value.data
        if not isinstance(op, memref.DimOp | arith.SignlessIntegerBinaryOperation):
            raise CrosstileError(
                "plan-buffers: the size of a temporary must come from arguments through memref.dim and arithmetic",
                op.location if isinstance(op, Operation) else None,
            )
        operands = [self.index.value(self.copy(operand)) for operand in op.operands]
        copied = type(op).create(operands=operands, result_types=[value.type], properties=dict(op.properties))
        copied.location = op.location
        self._insert(copied)
        self._copies[value] = copied.results[0]
        return copied.results[0]


def slot_sizes(slots: Sequence[Slot], sizes: SizeComputation) -> list[Index]:
    """The size in bytes of each slot: its largest occupant."""
    result: list[Index] = []
    for slot in slots:
        occupants = dict.fromkeys(sizes.bytes_of(buffer) for buffer in slot.buffers)
        size = reduce(sizes.index.maximum, occupants)
        result.append(size)
    return result


def arena_function(function: FuncOp, slots: Sequence[Slot]) -> FuncOp:
    """``@main.arena``: the bytes that all slots take together, from the arguments of ``function``."""
    types = function.function_type.inputs.data
    result = FuncOp(function.sym_name.data + ARENA_SUFFIX, (types, [IndexType()]))
    result.location = function.location
    block = result.body.block
    sizes = SizeComputation(
        block.add_op, dict[SSAValue, SSAValue](zip(function.body.block.args, block.args, strict=True))
    )
    total = sizes.index.value(sizes.index.sum(slot_sizes(slots, sizes)))
    block.add_op(ReturnOp(total))
    return result


def plan(function: FuncOp) -> FuncOp:
    """Move the temporaries of ``function`` into an arena; returns the function that computes its size."""
    block = function.body.block
    slots = assign_slots(block)
    size_function = arena_function(function, slots)
    arena_type = MemRefType(IntegerType(8), [DYNAMIC_INDEX])
    arena = block.insert_arg(arena_type, len(block.args))
    arena.name_hint = "arena"
    function.update_function_type()
    first = block.first_op
    assert first is not None

    def insert_first(op: Operation) -> None:
        block.insert_op_before(op, first)

    sizes = SizeComputation(insert_first, {argument: argument for argument in block.args})
    sizes_of_slots = slot_sizes(slots, sizes)
    offsets = [sizes.index.value(offset) for offset in accumulate(sizes_of_slots[:-1], sizes.index.add, initial=0)]
    for slot, offset in zip(slots, offsets, strict=False):
        for alloc in slot.buffers:
            view = memref.ViewOp(arena, offset, alloc.dynamic_sizes, alloc.memref.type)
            view.location = alloc.location
            view.result.name_hint = alloc.memref.name_hint
            block.insert_op_before(view, alloc)
            alloc.memref.replace_all_uses_with(view.result)
            alloc.detach()
            alloc.erase()
    return size_function


@dataclass(frozen=True)
class PlanBuffersPass(ModulePass):
    """Temporaries of host functions into one arena, reused where their live ranges allow."""

    name = "plan-buffers"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Plan every host function of the module ``op`` in place."""
        for function in list(host_functions(op)):
            op.body.block.insert_op_after(plan(function), function)
