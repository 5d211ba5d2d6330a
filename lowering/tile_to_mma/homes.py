"""Where tiles live that registers cannot hold: buffers in scratch, one for values that may follow each other in it.

A tile has a home in scratch if it, or another tile of as many rows, takes more registers than the machine has. The
buffer stands outside of all loops. A value may take over the buffer of one that nothing reads any more: what a loop
carries is updated in place, and weights replace the scores that they are computed from::

    %acc = tile.for ... iter_args(%acc1 = %zero) -> (!tile.tile<64x48xf32>) {
      %acc2 = tile.contract %v, %p, %acc1 : ...       reads and writes %home, a !mma.buffer<64x48xf32>
      tile.yield %acc2 : ...

Whether a value is still read follows from the order of steps (``steps``): a loop over the rows of a tile may write the
rows that it has read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod

from xdsl.dialects import scf
from xdsl.dialects.builtin import AffineMapAttr, NoneAttr
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.ir.affine import AffineMap

from crosstile.dialects import mma, tile
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.diagnostics import CrosstileError
from crosstile.lowering.driver import Lowering
from crosstile.lowering.llvm_types import element_bytes
from crosstile.lowering.tile_to_mma.steps import Plan
from crosstile.lowering.vector_registers import register_layout, registers_needed, registers_of, tile_registers_needed
from crosstile.targets.model import Machine, Memory, MmaIntrinsic, UnknownNameError

HomeMap = Callable[[SSAValue], AffineMap | None]
ACCUMULATOR = 2
"""The operand of ``tile.contract`` that it adds to."""


def rows_in_scratch(kernel: tile.KernelOp, lanes: int, machine: Machine) -> frozenset[int]:
    """The numbers of rows of tiles that do not fit the vector registers of ``machine``, of ``lanes`` lanes.

    What products on tile registers are summed into is no matter of vector registers.
    """
    available = machine.vector_registers
    products = [op for op in kernel.walk() if isinstance(op, tile.ContractOp)]
    in_tiles = {op for op in products if _fits_tiles(op, machine)}
    results = (result for op in kernel.walk() for result in op.results if not _is_sum_in_tiles(result, in_tiles))
    types = {result.type for result in results if isinstance(result.type, tile.TileType)}
    too_large = {type_ for type_ in types if _registers(type_, lanes) > available}
    too_large |= {op.result.type for op in products if op not in in_tiles and _needed(op, lanes) > available}
    shapes = [type_.get_shape() for type_ in too_large]
    return frozenset(shape[0] for shape in shapes if len(shape) == 2)


def is_on_tile_unit(op: tile.ContractOp, machine: Machine) -> bool:
    """Whether the instruction that ``op`` names, or the machine's fastest for it, works on tile registers."""
    return _tile_unit(op, machine) is not None


def _tile_unit(op: tile.ContractOp, machine: Machine) -> MmaIntrinsic | None:
    if op.intrinsic is not None:
        named = (row for row in machine.intrinsics if row.name == op.intrinsic.data)
        return next((row for row in named if row.in_tiles), None)
    types = [str(capacity_type(value).element_type) for value in (op.lhs, op.rhs, op.accumulator)]
    try:
        row = machine.choose(*types)
    except UnknownNameError:
        return None
    return row if row.in_tiles else None


def _fits_tiles(op: tile.ContractOp, machine: Machine) -> bool:
    """Whether ``op`` is on tile registers, and all of its sums and one step of its factors fit them at once."""
    if (row := _tile_unit(op, machine)) is None:
        return False
    m, n = op.result.type.get_shape()
    return tile_registers_needed(-(-m // row.m), -(-n // row.n)) <= machine.tile_registers


def _is_sum_in_tiles(value: SSAValue, products: Collection[Operation]) -> bool:
    """Whether ``value`` is the result of one of ``products``, or an accumulator that only they read."""
    if value.owner in products:
        return True
    uses = [(use.operation, use.index) for use in value.uses]
    return bool(uses) and all(op in products and index == ACCUMULATOR for op, index in uses)


def is_in_scratch(type_: tile.TileType, rows: frozenset[int]) -> bool:
    """Whether the home of tiles of ``type_`` is scratch, given the ``rows_in_scratch``."""
    return type_.get_num_dims() == 2 and type_.get_shape()[0] in rows


def _registers(type_: tile.TileType, lanes: int) -> int:
    try:
        return len(registers_of(register_layout(type_.get_shape(), lanes)).starts)
    except CrosstileError:
        return 0  # refused where a fragment of it is made


def _needed(op: tile.ContractOp, lanes: int) -> int:
    """The registers of a product; 0 if its accumulator has no layout, which is refused elsewhere."""
    rows, columns = op.result.type.get_shape()
    return 0 if columns % lanes else registers_needed(rows, columns // lanes)


class Homes:
    """The buffers of one kernel, which must fit ``memory``, and the old values that are, or were, in each.

    They are made in the ``depth``-th of the open blocks: in the body of the parallel loop, if there is one, and outside
    of all others. ``map_of`` says how a value is to be laid out, None for row by row.
    """

    def __init__(self, lowering: Lowering, plans: Mapping[Block, Plan], depth: int, memory: Memory, map_of: HomeMap):
        self._lowering = lowering
        self._plans = plans
        self._depth = depth
        self._memory = memory
        self._map_of = map_of
        self._bytes = 0
        self._residents: dict[SSAValue, list[SSAValue]] = {}
        self._wanted: dict[SSAValue, SSAValue] = {}

    def holds(self, value: SSAValue) -> bool:
        """Whether ``value`` is, or was, in a buffer."""
        return any(value in residents for residents in self._residents.values())

    def settle(self, value: SSAValue, home: SSAValue) -> None:
        """``value`` is in ``home`` from now on."""
        self._residents.setdefault(home, []).append(value)
        self._lowering.map_value(value, home)

    def prefer(self, value: SSAValue, home: SSAValue) -> None:
        """``value`` is to be computed in ``home`` if nothing reads what is there any more."""
        self._wanted[value] = home

    def choose(self, value: SSAValue, writer: Operation, candidates: Sequence[SSAValue]) -> SSAValue:
        """The home of ``value``, written by ``writer``: the preferred one, or that of a candidate, or a new one."""
        options = [*([self._wanted[value]] if value in self._wanted else []), *map(self._lowering.value, candidates)]
        for home in options:
            assert isinstance(home.type, mma.BufferType)
            same = home.type == self._type(value)
            if same and self._may_overwrite(home, writer):
                return home
        return self.new(value)

    def new(self, value: SSAValue) -> SSAValue:
        """A new buffer as large as the tile ``value``. Raises CrosstileError if all of them exceed the memory."""
        shape, element = _capacity(value)
        type_ = self._type(value)
        size = prod(shape) * element_bytes(element)
        if self._bytes + size > self._memory.capacity:
            memory = self._memory
            rows = max((memory.capacity - self._bytes) // (size // shape[0]), 0)
            raise self._lowering.error(
                f"a tile of {'x'.join(map(str, shape))} {element} takes {size} bytes of scratch, beside {self._bytes} "
                f"for other tiles; {memory.name} has {memory.capacity}, in which {rows} rows of it would fit"
            )
        self._bytes += size
        alloc = mma.AllocOp(type_)
        op = self._lowering.current_op
        alloc.location = op.location if op is not None else alloc.location
        blocks = self._lowering.open_blocks
        blocks[min(self._depth, len(blocks) - 1)].add_op(alloc)
        return alloc.result

    def _type(self, value: SSAValue) -> mma.BufferType:
        shape, element = _capacity(value)
        map_ = self._map_of(value)
        return mma.BufferType.of(shape, element, NoneAttr() if map_ is None else AffineMapAttr(map_))

    def _may_overwrite(self, home: SSAValue, writer: Operation) -> bool:
        """Whether nothing that is in ``home`` is read after ``writer``, or by it in other rows than it writes."""
        return all(self._is_dead_after(value, writer) for value in self._residents.get(home, ()))

    def _is_dead_after(self, value: SSAValue, writer: Operation) -> bool:
        origin = value.owner if isinstance(value.owner, Block) else value.owner.parent
        assert origin is not None
        around = origin.find_ancestor_op_in_block(writer)
        if around is None or around is value.owner:
            return True  # of a region that has been left, or what the writer is a part of
        block, at = writer.parent, writer
        checked: list[Block] = []
        while block is not None:
            for use in value.uses:
                reader = block.find_ancestor_op_in_block(use.operation)
                if reader is None or any(inner.find_ancestor_op_in_block(use.operation) for inner in checked):
                    continue
                if isinstance(at, scf.IfOp) and reader is at:
                    continue  # the other branch
                if not self._plans[block].reads_before(reader, at, use.operation, use.index):
                    return False
            if block is origin:
                return True
            checked.append(block)
            parent = block.parent_op()
            if not isinstance(parent, scf.IfOp):
                return False  # read again in the loop's next trip
            block, at = parent.parent, parent
        return False


def _capacity(value: SSAValue) -> tuple[tuple[int, ...], Attribute]:
    assert isinstance(value.type, tile.TileType)
    return value.type.get_shape(), value.type.element_type
