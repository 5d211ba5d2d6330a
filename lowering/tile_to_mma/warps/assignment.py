"""Which layout each tile of a kernel gets, from its contractions outwards.

Tiles that an elementwise operation, a loop or a branch ties together are one *family*, and a family has one layout: no
element changes its register. A contraction says the layout of its accumulator, and of a factor that is computed in
registers. A tile with a size of 1 where another of its operation has more (the row sums of a block of scores) is laid
out as that one's projection: replicated in every lane that needs it. What nothing asks for is laid out for memory::

    %s   = tile.contract ...                     anchor: the instruction's accumulator
    %max = tile.reduce max %s dims [1]           projection of %s
    %p   = tile.map (%s, %max) ...               family of %s
    %w   = tile.load ...; tile.map (%p, %w)      family of %s

Where two ask for different layouts the first is followed, and the other's operand is moved (``mma.relayout``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from xdsl.dialects import scf
from xdsl.ir import Attribute, Operation, SSAValue

from crosstile.dialects import tile
from crosstile.dialects.mma.attributes import canonical, projected
from crosstile.dialects.tile.types import capacity_type
from crosstile.lowering.llvm_types import element_bytes
from crosstile.lowering.tile_to_mma.warps.layouts import Arrangement, memory_layout
from crosstile.targets.layout import Layout, LayoutError
from crosstile.targets.model import MmaIntrinsic


@dataclass
class Assignment:
    """The layouts of the tiles of one kernel: of every old value whose type is a tile's."""

    warps: int
    arrangement: Arrangement
    rows: Mapping[tile.ContractOp, MmaIntrinsic]
    whole: tuple[int, ...] = ()
    """The dimensions of tiles that each thread has all of, where no contraction says what it holds."""
    _parents: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    _layouts: dict[SSAValue, Layout] = field(default_factory=dict[SSAValue, Layout])
    _accessed: list[SSAValue] = field(default_factory=list[SSAValue])
    """The tiles that are loaded or stored."""

    @staticmethod
    def of(
        kernel: tile.KernelOp,
        warps: int,
        arrangement: Arrangement,
        rows: Mapping[tile.ContractOp, MmaIntrinsic],
        whole: tuple[int, ...] = (),
    ) -> Assignment:
        """The layouts of ``kernel`` on ``warps`` warps; ``rows`` are the instructions of its contractions."""
        assignment = Assignment(warps, arrangement, rows, whole)
        ops = list(kernel.walk())
        anchors = [anchor for op in ops for anchor in assignment._anchors(op)]
        for value, layout in anchors:
            assignment._layouts.setdefault(value, layout)
        for one, other in (pair for op in ops for pair in _ties(op)):
            assignment._join(one, other)
        assignment._accessed = [value for op in ops for value in _accessed(op)]
        assignment._project(ops)
        return assignment

    def layout(self, value: SSAValue) -> Layout:
        """The layout of the tile ``value``."""
        root = self._find(value)
        if root not in self._layouts:
            # Memory says how wide accesses are: what is computed in f32 from bf16 and stored as such lies as bf16 does.
            members = [other for other in self._accessed if self._find(other) is root] or [value]
            bits = max(_bits(capacity_type(member).element_type) for member in members)
            self._layouts[root] = memory_layout(_shape(value), self.warps, self.arrangement.lanes, bits, self.whole)
        return self._layouts[root]

    def _find(self, value: SSAValue) -> SSAValue:
        while (parent := self._parents.get(value)) is not None:
            value = parent
        return value

    def _join(self, one: SSAValue, other: SSAValue) -> None:
        """Make one family of two, unless both have layouts and they differ."""
        one, other = self._find(one), self._find(other)
        if one is other or _shape(one) != _shape(other):
            return
        if one in self._layouts and other in self._layouts:
            if canonical(self._layouts[one]) != canonical(self._layouts[other]):
                return
        elif other in self._layouts:
            one, other = other, one
        self._parents[other] = one

    def _anchors(self, op: Operation) -> Iterator[tuple[SSAValue, Layout]]:
        """What a contraction says of the tiles in registers that it takes and gives."""
        if not isinstance(op, tile.ContractOp):
            return
        row = self.rows[op]
        (m, n), k = capacity_type(op.accumulator).get_shape(), capacity_type(op.lhs).get_shape()[1]
        yield op.result, self.arrangement.accumulator(row, m, n)
        if isinstance(op.lhs.type, tile.TileType) and row.lhs.layout is not None:
            yield op.lhs, self.arrangement.lhs(row, m, k, n)

    def _project(self, ops: list[Operation]) -> None:
        """Give families of projections their layouts, following those that have one until nothing changes."""
        pairs = [pair for op in ops for pair in _projections(op)]
        for known in (True, False):
            changed = True
            while changed:
                changed = False
                for whole, part in pairs:
                    if known and self._find(whole) not in self._layouts:
                        continue
                    if self._find(part) in self._layouts:
                        continue
                    try:
                        self._layouts[self._find(part)] = projected(self.layout(whole), _shape(part))
                    except LayoutError:
                        continue
                    changed = True


def _accessed(op: Operation) -> Iterator[SSAValue]:
    """The tile that ``op`` loads or stores."""
    if isinstance(op, tile.LoadOp):
        yield op.result
    elif isinstance(op, tile.StoreOp):
        yield op.value


def _shape(value: SSAValue) -> tuple[int, ...]:
    return capacity_type(value).get_shape()


def _bits(element: Attribute) -> int:
    return 8 * element_bytes(element)


def _is_tile(value: SSAValue | None) -> bool:
    return value is not None and isinstance(value.type, tile.TileType)


def _ties(op: Operation) -> Iterator[tuple[SSAValue, SSAValue]]:
    """The pairs of tiles that ``op`` wants in the same layout."""
    pairs: list[tuple[SSAValue, SSAValue]] = []
    match op:
        case tile.MapOp():
            pairs = [(op.result, value) for value in op.inputs]
        case tile.MaskOp():
            pairs = [(op.result, op.value)]
        case tile.ContractOp():
            pairs = [(op.result, op.accumulator)]
        case tile.ReduceOp() if op.into is not None:
            pairs = [(op.result, op.into)]
        case tile.ForOp():
            carried = zip(op.results, op.body.block.args[2:], op.yield_op.arguments, op.iter_args, strict=True)
            pairs = [(result, other) for result, *others in carried for other in others]
        case scf.IfOp():
            branches = [region.block.last_op for region in op.regions if region.blocks]
            pairs = [
                (result, value)
                for branch in branches
                if branch is not None
                for result, value in zip(op.results, branch.operands, strict=True)
            ]
        case _:
            pass
    yield from ((one, other) for one, other in pairs if _is_tile(one) and _shape(one) == _shape(other))


def _projections(op: Operation) -> Iterator[tuple[SSAValue, SSAValue]]:
    """The pairs (whole, part) of tiles of which ``op`` wants the second laid out as the first's projection."""
    match op:
        case tile.MapOp():
            for value in op.inputs:
                if _shape(value) != _shape(op.result):
                    yield op.result, value
        case tile.ReduceOp():
            yield op.value, op.result
        case _:
            pass
