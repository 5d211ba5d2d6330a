"""What of a block is done in one loop: operations on tiles in scratch, put together where they go through equal rows.

A tile in scratch is processed in sub-tiles that fit the registers. Maps, reductions, loads and stores of tiles of
equal size share one loop over sub-tiles (a *sweep*), in which values that only they use stay in registers. A
contraction has a loop of its own (a *product*) that takes maps of its accumulator along. Between them everything else
stays as it is; what is pure moves up as far as its operands allow, so that it does not part a sweep::

    %m = tile.reduce max %s into %m1 dims [0]          sweep 1, over the rows of %s
    %b = tile.map (%m : 1x48)                          fits the registers
    %p = tile.map (%s, %b : 64x48, 1x48)               sweep 2
    %l1 = tile.map (%l0, ... : 1x48)                   moves up, before sweep 2
    %l2 = tile.reduce add %p into %l1 dims [0]         sweep 2
    %a1 = tile.map (%a0, ... : 64x48, 1x48)            product, with
    %a2 = tile.contract %v, %p, %a1                    its contraction
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from xdsl.dialects import affine, scf
from xdsl.ir import Block, Operation, SSAValue

from crosstile.dialects import tile
from crosstile.lowering.affine_steps import runs_along

InScratch = Callable[[SSAValue], bool]
OnTileUnit = Callable[[tile.ContractOp], bool]
Made = tile.SplatOp | tile.IotaOp
"""What is made again wherever it is used, part by part."""
_SWEPT = (tile.LoadOp, tile.StoreOp, tile.MapOp, tile.ReduceOp, tile.MaskOp)
_PURE = (tile.WindowOp, tile.DimOp, tile.MapOp, tile.ReduceOp, tile.MaskOp, tile.SplatOp, tile.IotaOp, affine.ApplyOp)


@dataclass
class Group:
    """Operations that share a loop over sub-tiles of tiles with ``rows`` rows and ``columns`` (or 1) columns."""

    rows: int
    columns: int
    ops: list[Operation] = field(default_factory=list[Operation])
    alone: bool = False
    """Whether nothing else may join the loop."""

    @property
    def product(self) -> tile.ContractOp | None:
        """The contraction, if this is a product."""
        return self.ops[-1] if isinstance(self.ops[-1], tile.ContractOp) else None

    @property
    def is_transposed(self) -> bool:
        """Whether it reads or writes memory that is contiguous along the rows."""
        return any(is_transposed(op) for op in self.ops)

    @property
    def crosses_columns(self) -> bool:
        """Whether a sub-tile needs whole rows: it is reduced."""
        return any(isinstance(op, tile.ReduceOp) for op in self.ops)

    def takes(self, op: Operation, rows: int, columns: int) -> bool:
        """Whether ``op`` on tiles of this size may join the loop."""
        if (
            self.alone
            or self.product is not None
            or self.rows != rows
            or (columns > 1 and self.columns not in (1, columns))
        ):
            return False
        if any(_conflict(op, other) for other in self.ops):
            return False
        transposed = self.is_transposed or is_transposed(op)
        return not (transposed and (self.crosses_columns or isinstance(op, tile.ReduceOp)))


Step = Operation | Group


class Plan:
    """The steps of one block, in order."""

    def __init__(self, block: Block, in_scratch: InScratch, on_tile_unit: OnTileUnit):
        self.steps: list[Step] = []
        self._block = block
        self._in_scratch = in_scratch
        self._on_tile_unit = on_tile_unit
        self._step_of: dict[Operation, Step] = {}
        self._last: Step | None = None
        prologues = {op for op in block.ops if self._is_prologue(op)}
        for op in block.ops:
            if op not in prologues and not self._is_made_where_used(op):
                self._place(op)

    def reads_before(self, reader: Operation, writer: Operation, user: Operation, operand: int) -> bool:
        """Whether ``reader``, or ``user`` inside of it, has read its operand before ``writer`` writes.

        In the loop of the writer's own group an element may be overwritten once its sub-tile has been read; the factors
        of a product are read again for other sub-tiles.
        """
        first, second = self._step_of.get(reader), self._step_of.get(writer)
        if first is second:
            return isinstance(second, Group) and not (isinstance(user, tile.ContractOp) and operand < 2)
        positions = {id(step): position for position, step in enumerate(self.steps)}
        return first is not None and positions[id(first)] < positions[id(second)]

    def _is_prologue(self, op: Operation) -> bool:
        """Whether ``op`` is a map of a contraction's accumulator that nothing else needs, in vector registers."""
        contract = self._summed_into(op)
        return contract is not None and not self._on_tile_unit(contract)

    def _is_summed_in_tiles(self, op: Operation) -> bool:
        """The same for an accumulator in tile registers: a sweep of its own, as all of its rows are read."""
        contract = self._summed_into(op)
        return contract is not None and self._on_tile_unit(contract)

    def _summed_into(self, op: Operation) -> tile.ContractOp | None:
        """The contraction of this block whose accumulator ``op`` maps, if that is all that needs the result."""
        if not isinstance(op, tile.MapOp) or not self._in_scratch(op.result) or op.result.uses.get_length() != 1:
            return None
        (use,) = op.result.uses
        contract = use.operation
        if not isinstance(contract, tile.ContractOp) or use.index != 2 or contract.parent is not self._block:
            return None
        return contract

    def _is_made_where_used(self, op: Operation) -> bool:
        """Whether ``op`` needs no home, since all that use it go through it part by part, or copy it."""
        if not isinstance(op, Made) or not self._in_scratch(op.result):
            return False
        return all(
            isinstance(use.operation, (*_SWEPT, tile.ForOp, tile.YieldOp, scf.YieldOp))
            or (isinstance(use.operation, tile.ContractOp) and use.index == 2)
            for use in op.result.uses
        )

    # Placing

    def _place(self, op: Operation) -> None:
        touched = [value for value in (*op.operands, *op.results) if self._in_scratch(value)]
        if isinstance(op, tile.ContractOp) and self._in_scratch(op.result):
            initial = op.accumulator.owner
            prologue = [initial] if isinstance(initial, Operation) and self._is_prologue(initial) else []
            self._append(Group(*_shape(op.result), [*prologue, op]))
        elif self._is_summed_in_tiles(op):
            self._append(Group(*_shape(op.results[0]), [op], alone=True))
        elif isinstance(op, (*_SWEPT, tile.SplatOp, tile.IotaOp)) and touched:
            rows, columns = _shape(touched[0])[0], max(_shape(value)[1] for value in touched)
            self._sweep(op, rows, columns)
        elif isinstance(op, _PURE) or (op.dialect_name() in ("arith", "math") and not op.regions):
            self._insert(op, self._earliest(op))
        else:
            self._append(op)

    def _sweep(self, op: Operation, rows: int, columns: int) -> None:
        for step in self.steps[self._earliest(op) :]:
            if isinstance(step, Group) and step.takes(op, rows, columns):
                step.ops.append(op)
                step.columns = max(step.columns, columns)
                self._step_of[op] = step
                return
        self._append(Group(rows, columns, [op]))

    def _append(self, step: Step) -> None:
        self._insert(step, len(self.steps))
        if not isinstance(step, Group) or any(_memory(op) is not None for op in step.ops):
            self._last = step

    def _insert(self, step: Step, position: int) -> None:
        self.steps.insert(position, step)
        for op in step.ops if isinstance(step, Group) else [step]:
            self._step_of[op] = step

    def _earliest(self, op: Operation) -> int:
        """The position of the first step that may hold ``op``, or of the step before which it may be inserted."""
        positions = {id(step): position for position, step in enumerate(self.steps)}
        earliest = 0
        for definition in self._definitions(op.operands if not op.regions else _operands(op)):
            step = self._step_of[definition]
            joins = isinstance(step, Group) and step.product is None and _is_known_in_loop(definition)
            joins = joins and self._is_swept(op)
            earliest = max(earliest, positions[id(step)] + (not joins))
        if _memory(op) is not None and self._last is not None:
            # Nothing that reads or writes memory passes another.
            joins = isinstance(self._last, Group) and self._last.product is None
            earliest = max(earliest, positions[id(self._last)] + (not joins))
        return earliest

    def _is_swept(self, op: Operation) -> bool:
        return isinstance(op, _SWEPT) and any(map(self._in_scratch, (*op.operands, *op.results)))

    def _definitions(self, operands: Iterable[SSAValue]) -> list[Operation]:
        """The operations of this block that define ``operands``; through those that are made again where used."""
        found: list[Operation] = []
        for value in operands:
            owner = value.owner
            if not isinstance(owner, Operation) or owner.parent is not self._block:
                continue
            if self._is_made_where_used(owner):
                found += self._definitions(owner.operands)
            else:
                found.append(owner)
        return found


def is_transposed(op: Operation) -> bool:
    """Whether a load or store accesses memory that is contiguous along the first dimension, not the last."""
    if not isinstance(op, tile.LoadOp | tile.StoreOp) or not isinstance(window := op.window.owner, tile.WindowOp):
        return False
    return runs_along(window.map.data, 0)


def _is_known_in_loop(op: Operation) -> bool:
    """Whether the result of ``op`` is known sub-tile by sub-tile: it is no reduction over rows."""
    return not (isinstance(op, tile.ReduceOp) and 0 in op.reduced_dims)


def _shape(value: SSAValue) -> tuple[int, int]:
    assert isinstance(value.type, tile.TileType)
    rows, columns = value.type.get_shape()
    return rows, columns


def _operands(op: Operation) -> list[SSAValue]:
    """What ``op`` and the operations in it use."""
    return [value for inner in op.walk() for value in inner.operands]


def _memory(op: Operation) -> SSAValue | None:
    """The memory that a load or store accesses."""
    if not isinstance(op, tile.LoadOp | tile.StoreOp) or not isinstance(window := op.window.owner, tile.WindowOp):
        return None
    return window.source


def _conflict(op: Operation, other: Operation) -> bool:
    """Whether one of two accesses writes what the other may access."""
    memory = _memory(op)
    return memory is not None and memory is _memory(other) and tile.StoreOp in (type(op), type(other))
