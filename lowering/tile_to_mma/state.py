"""What the rules of ``tile-to-mma`` share: the machine, the layouts its registers give tiles, index arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

from xdsl.dialects.builtin import IndexType
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.ir.affine import AffineMap

from crosstile.dialects import mma, tile
from crosstile.dialects.mma.attributes import LayoutAttr
from crosstile.dialects.tile.types import is_float_type
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.driver import Lowering, Rule
from crosstile.lowering.hoisting import Hoister, defining_block
from crosstile.lowering.linear_index import LinearBuilder
from crosstile.lowering.loops import build_for
from crosstile.lowering.tile_to_mma.homes import Homes, is_in_scratch, rows_in_scratch
from crosstile.lowering.tile_to_mma.steps import Plan
from crosstile.lowering.tile_to_mma.uses import extents_of
from crosstile.lowering.vector_registers import factor_layout, lanes_of, register_layout, registers_of
from crosstile.targets.layout import Layout
from crosstile.targets.model import Machine, Memory, Operand

INDEX = IndexType()


class TileLowering(Lowering):
    """The driver with the machine that tiles are placed on. ``lanes`` are those of the kernel being lowered."""

    def __init__(
        self,
        pass_name: str,
        rules: Mapping[type[Operation], Rule],
        kept_dialects: frozenset[str],
        machine: Machine,
    ):
        super().__init__(pass_name, rules, kept_dialects, self.register_types)
        self.machine = machine
        self.index = Hoister(self)
        self.linear = LinearBuilder(self.index)
        self.lanes = 1
        self.rows_in_scratch: frozenset[int] = frozenset()
        self.plans: dict[Block, Plan] = {}
        self.homes = Homes(self, self.plans, 0, machine.memories[0], self.home_map)
        self._extents: tuple[SSAValue, ...] = ()

    def enter_kernel(self, kernel: tile.KernelOp) -> None:
        """Choose how many lanes the tiles of ``kernel`` lie across, as many as its widest float has, and their homes.

        A tile lives in scratch if one of as many rows does not fit the registers.
        """
        types = {type_ for op in kernel.walk() for type_ in op.result_types if isinstance(type_, tile.TileType)}
        elements = {str(type_.element_type) for type_ in types if is_float_type(type_.element_type)}
        self.lanes = min(lanes_of(self.machine, element) for element in elements or {"f32"})
        self.rows_in_scratch = rows_in_scratch(kernel, self.lanes, self.machine)
        self.plans = {}
        has_instances = any(isinstance(op, tile.ParallelOp) for op in kernel.body.block.ops)
        depth = len(self.open_blocks) + has_instances
        self.homes = Homes(self, self.plans, depth, self._scratch_memory(), self.home_map)
        self._extents = tuple(dict.fromkeys(value for op in kernel.walk() for value in extents_of(op)))

    def _scratch_memory(self) -> Memory:
        """The memory that scratch should stay in: the last that a core has for itself."""
        return [memory for memory in self.machine.memories if memory.scope == "core"][-1]

    # Tiles in scratch

    def in_scratch(self, value: SSAValue) -> bool:
        """Whether an old value is a tile whose home is scratch."""
        type_ = value.type
        return isinstance(type_, tile.TileType) and is_in_scratch(type_, self.rows_in_scratch)

    def home_map(self, value: SSAValue) -> AffineMap | None:
        """How the home of an old value, a tile in scratch, is laid out; None for row by row."""
        return None

    def extents_seen_from(self, op: Operation) -> list[SSAValue]:
        """The extents of the kernel, old values, that ``op`` might use."""
        return [
            extent
            for extent in self._extents
            if (block := defining_block(extent)) is not None and block.find_ancestor_op_in_block(op) is not None
        ]

    @contextmanager
    def about(self, op: Operation) -> Generator[None]:
        """Inside the ``with`` statement ``op`` is the operation that is lowered."""
        outer, self.current_op = self.current_op, op
        try:
            yield
        finally:
            self.current_op = outer

    # Fragments

    def fragment(self, shape: Sequence[int], element: Attribute, lanes: int | None = None) -> mma.FragmentType:
        """The registers of a tile, of the kernel's lanes or of ``lanes``; an error if it does not fit the machine's."""
        layout = register_layout(tuple(shape), self.lanes if lanes is None else lanes)
        count = len(registers_of(layout).starts)
        if count > self.machine.vector_registers:
            largest = self.machine.vector_registers
            raise self.error(
                f"a tile of {'x'.join(map(str, shape))} {element} takes {count} registers of {self.lanes} lanes; "
                f"{self.machine.name} has {largest}, which hold up to {largest * self.lanes} elements"
            )
        return mma.FragmentType.of(shape, element, LayoutAttr(layout))

    def factor(self, shape: tuple[int, int], element: Attribute, operand: Operand) -> mma.FragmentType:
        """The registers of a factor that is made of an instruction's operands."""
        if operand.layout is None:
            raise self.error(f"the factors of this machine's products are in registers, not {operand}")
        return mma.FragmentType.of(shape, element, LayoutAttr(factor_layout(shape, operand.layout)))

    def words(self, shape: tuple[int, int], element: Attribute, group: int, lanes: int) -> mma.FragmentType:
        """The registers of a few columns in words of ``group`` rows, ``lanes`` words in each."""
        word = Layout.of((group, lanes), lane=[(lanes, 1)], element=[(group, lanes)])
        return mma.FragmentType.of(shape, element, LayoutAttr(factor_layout(shape, word)))

    def register_types(self, type_: Attribute) -> Sequence[Attribute]:
        """A tile becomes a fragment; everything else stays."""
        if not isinstance(type_, tile.TileType):
            return (type_,)
        if is_in_scratch(type_, self.rows_in_scratch):
            raise self.error(
                f"passes on a {type_}, which does not fit the registers and lives in scratch; only tile.for, scf.if "
                "and operations that go through it row by row can: make it smaller, or stage it"
            )
        try:
            return (self.fragment(type_.get_shape(), type_.element_type),)
        except CrosstileError as error:
            raise error if error.location is not None else self.error(error.message) from error

    def fragment_type(self, old: SSAValue) -> mma.FragmentType:
        """The type of the fragment that the tile ``old`` becomes."""
        (type_,) = self.register_types(old.type)
        assert isinstance(type_, mma.FragmentType)
        return type_

    # Loops

    def repeat(self, begin: Index, end: Index, step: int, body: Callable[[Index], None], name: str) -> None:
        """``body`` in a loop from ``begin`` to ``end`` whose index is called ``name``, or once if that is one trip."""
        if isinstance(begin, int) and isinstance(end, int) and end - begin <= step:
            if begin < end:
                body(begin)
            return

        def trip(start: SSAValue, _carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            body(start)
            return []

        build_for(self, self.index.bounds(begin, end, step), [], trip, name)

    # Indices

    def as_index(self, old: SSAValue) -> Index:
        """The new value of an index, a number if it is known."""
        new = self.value(old)
        constant = constant_value(new)
        return new if constant is None else constant
