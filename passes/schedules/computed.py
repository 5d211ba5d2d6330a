"""Schedules of products with factors that are computed in the same kernel, block by block, while they are staged.

Level: nest. In: a kernel whose root is a matrix product of which nests of the kernel compute a factor. Out: guarded
schedules for narrow results, a single row, few rows and the general case. A computed factor is always staged::

    left factor computed, 2046 x 1024:
    loops = [k : 1024 balanced 8, m : 2046 balanced 6, n : 192, m : 24, n : 64, m : 6], stage = [0, 1]
    right factor computed, 1024 x 128:
    loops = [k : 1024 balanced 8, m : 2046 balanced 6, n : 128, m : 24, n : 64, m : 6], stage = [1]

The blocks are those of a product with factors in memory, equal ones of rows: the right factor is staged again for each,
which a few rows that are left over would not be worth. A block of the left factor is computed before the panels of
the right one pass by, so each of its elements is computed once. Panels of the right one are as large as packed ones,
and are computed once for every block of rows. Of a few rows of the left factor all of k is computed
before the right one is read in place, some of its rows at a time; where those are computed, they wait in L2.
"""

from __future__ import annotations

from xdsl.dialects.builtin import AnyFloat
from xdsl.ir import BlockArgument, Operation

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, KernelAxes, axes_among
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.schedule import Comparison, GuardAttr, GuardedScheduleAttr, Loop, Schedule, ScheduleAttr
from crosstile.dialects.packing import packed_layout
from crosstile.passes.schedules.byte_signs import taken_factors
from crosstile.passes.schedules.products import (
    COLUMN_BLOCK,
    IN_PLACE,
    RESIDENT_SHARE,
    UNROLL,
    InPlace,
    packed_together,
    panel_depth,
)
from crosstile.passes.schedules.register_tiles import (
    RegisterTile,
    bits,
    register_tiles,
    round_up,
)
from crosstile.passes.schedules.sweeps import may_reorder
from crosstile.targets.model import Machine, MmaIntrinsic

LEAST_ROWS = 1020
"""Rows of a staged left factor, even if they exceed L2: a panel of the right one is packed for each block of them.
Measured on 1024^3: blocks of 510 rows and 512 of k, which stay in L2, are 5 % slower."""
LEFT_TIMES = 4
"""How often L2 a staged left factor may be as large, for the same reason: what is narrow has more rows."""
BYTES_DEPTH = 2048
"""Elements of k of a block of bytes, whose panels would leave a page between two rows of the left factor. Measured on
1024^3: with 4096 a product by ``vpdpbusd`` is 9 % slower."""
FEW_ROWS_DEPTH = 4096
"""Elements of k of which few rows are computed together: of 32 rows of f32 half a megabyte."""
STREAM_BYTES = 1 << 15
"""Bytes of a panel of the right factor that few rows read while it is in L1."""
MATH_WORK = 16
"""What an elementary function takes, in instructions of plain arithmetic."""


def computed_positions(roles: ContractionRoles) -> list[int]:
    """The factors that nests of the kernel compute."""
    return [at for at in (roles.lhs, roles.rhs) if not isinstance(roles.nest.inputs[at], BlockArgument)]


def computing(axes: KernelAxes, roles: ContractionRoles, position: int) -> list[GenericOp]:
    """The nests of the kernel that a factor is computed by, in order."""
    found: set[GenericOp] = set()
    pending = [roles.nest.inputs[position].owner]
    while pending:
        nest = pending.pop()
        if isinstance(nest, GenericOp) and nest not in found:
            found.add(nest)
            pending += [operand.owner for operand in nest.inputs]
    return [nest for nest in axes.nests if nest in found]


def can_compute(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> bool:
    """Whether the kernel's computed factors can be staged: one sum, folds along rows of the left.

    Bytes whose signs ``offset-signs`` is to flip count as what they will be.
    """
    plain = [axis for at in (0, 1) for axis in axes.of_operand(roles.nest, at)]
    if axes.reduced(roles.nest) != [roles.k] or not all(isinstance(axis, Axis) for axis in plain):
        return False
    if any(axis.size is None and axis.source is None for axis in axes.all()):
        return False
    factors = taken_factors(roles, machine)
    if factors is None:
        return False
    intrinsic = machine.choose_widening(*factors, str(roles.element))
    # Tile units pack both factors: measured on 1024^3 of bf16 on AMX, a left one that is computed in the product's
    # kernel takes 2.6 ms, in two kernels 1.6.
    if intrinsic.in_tiles:
        return False
    return all(_can_compute_one(axes, roles, position, intrinsic.n) for position in computed_positions(roles))


def _can_compute_one(axes: KernelAxes, roles: ContractionRoles, position: int, lanes: int) -> bool:
    """Whether a factor is a matrix of the product's axes, folded, if at all, along whole rows that lie in memory so.

    Lanes share the sums of a row, so they must not be ones that are to stay in order.
    """
    nests = computing(axes, roles, position)
    among = set(axes.of_operand(roles.nest, position))
    floats = [bits(type_) for nest in nests for type_ in _types(nest) if isinstance(type_, AnyFloat)]
    if any(not set(axes.of_nest(nest)) <= among for nest in nests) or max(floats, default=0) > bits(roles.element):
        return False
    folds = [nest for nest in nests if nest.combiner is not None]
    if not folds:
        return True
    if position != roles.lhs or any(axes.reduced(nest) != [roles.k] or not may_reorder(nest) for nest in folds):
        return False
    return axis_across(axes, roles, position, roles.k) is None


def _types(nest: GenericOp) -> list[object]:
    types: list[object] = [element_type(value) for value in (*nest.inputs, *nest.results)]
    return types if nest.accumulator_type is None else [*types, nest.accumulator_type]


def axis_across(axes: KernelAxes, roles: ContractionRoles, position: int, lanes: Axis) -> Axis | None:
    """The axis along which a tensor lies that a factor is computed from, if that is not ``lanes``, but it has both."""
    rows = roles.m if position == roles.lhs else roles.k
    for nest in computing(axes, roles, position):
        for at, operand in enumerate(nest.inputs):
            along = axes.of_operand(nest, at)
            if isinstance(operand, BlockArgument) and lanes in along and along[-1] == rows:
                return rows
    return None


def repeats(axes: KernelAxes, roles: ContractionRoles, machine: Machine, position: int) -> tuple[int, int]:
    """How often a factor is computed in the general case (2 if the size is not known), and for how many rows or columns
    of the result each time.

    A block of the left factor is staged for all columns, and a panel of the right one for a block of rows.
    """
    if position == roles.lhs or roles.m is None:
        return 1, 1
    pending, block = {roles.k.name, roles.n.name}, None
    for loop in computed_schedules(axes, roles, machine)[-1].schedule.data.loops:
        if not pending:
            break
        pending.discard(loop.iterator)
        block = loop.step if loop.iterator == roles.m.name else block
    if block is None:
        return 1, 1
    return (2 if roles.m.size is None else -(-roles.m.size // block)), block


def work_per_element(axes: KernelAxes, roles: ContractionRoles, position: int) -> int:
    """Instructions of plain arithmetic that an element of a factor takes."""

    def work(op: Operation) -> int:
        return MATH_WORK if op.name.startswith("math.") else 1

    return sum(work(op) for nest in computing(axes, roles, position) for op in nest.body.block.ops)


def computed_schedules(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """Guarded schedules: narrow results, a single row, few rows, and the general case."""
    return _Computed(axes, roles, machine).schedules()


class _Computed:
    """The schedules of one kernel."""

    def __init__(self, axes: KernelAxes, roles: ContractionRoles, machine: Machine):
        self.axes, self.roles, self.machine = axes, roles, machine
        factors = taken_factors(roles, machine) or roles.factors
        self.intrinsic: MmaIntrinsic = machine.choose_widening(*factors, str(roles.element))
        self.positions = computed_positions(roles)
        self.width = bits(roles.element) // 8 // self.intrinsic.k
        """Bytes of an element of a staged factor: an instruction of several k takes words of as many."""
        others = axes_among(axes.of_result(roles.nest.results[0]))
        self.others = [axis for axis in others if axis not in (roles.m, roles.n)]

    def schedules(self) -> list[GuardedScheduleAttr]:
        roles, tiles = self.roles, register_tiles(self.machine)
        rows = 1 if roles.m is None else roles.m.size
        result: list[GuardedScheduleAttr] = []

        def add(schedule: Schedule, *guard: Comparison) -> None:
            result.append(GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(schedule)))

        narrow = tiles[-1]
        if roles.n.size is not None and roles.n.size <= self.intrinsic.n:
            add(self._many(narrow))
            return result
        if roles.n.size is None and not self._is_packed:
            add(self._many(narrow), Comparison(roles.n.name, "<=", self.intrinsic.n))
        for way in IN_PLACE:
            if rows is None and roles.m is not None:
                add(self._few(way), Comparison(roles.m.name, "<=", way.most))
            elif rows is not None and rows <= way.most:
                add(self._few(way))
                return result
        add(self._many(tiles[0]))
        return result

    @property
    def _is_packed(self) -> bool:
        """Whether the right factor is packed in memory."""
        return packed_layout(self.roles.nest.inputs[self.roles.rhs].type) is not None

    @property
    def _is_along_n(self) -> bool:
        """Whether rows of the right factor can be read in place."""
        return self.axes.of_operand(self.roles.nest, self.roles.rhs)[-1] == self.roles.n

    @property
    def _staged(self) -> list[int]:
        """The factors that must be staged: computed ones, and a left one in memory that does not lie along k."""
        lhs, roles = self.roles.lhs, self.roles
        packed = packed_layout(roles.nest.inputs[lhs].type) is not None
        across = not packed and self.axes.of_operand(roles.nest, lhs)[-1] != roles.k
        return sorted({*self.positions, lhs}) if across else self.positions

    def _many(self, tile: RegisterTile) -> Schedule:
        """Blocks for the caches: a panel of the right factor, and the rows of the left one that meet it."""
        roles, columns = self.roles, tile.vectors * self.intrinsic.n
        row_bytes = columns * self.width
        together = [] if self._is_packed else packed_together(roles, self.machine, tile, columns, row_bytes)
        depth = panel_depth(self.machine, row_bytes, bool(together))
        k_step = self._k_step(min(depth, BYTES_DEPTH) if self.width == 1 and roles.lhs in self._staged else depth)
        loops = [Loop(roles.k.name, k_step, 8), *self._m_block(k_step, tile.rows), *together]
        loops.append(Loop(roles.n.name, columns))
        loops += [] if roles.m is None else [Loop(roles.m.name, tile.rows)]
        parallel, grain = self._split(roles.m, tile.rows)
        stage = {*self._staged, *(() if self._is_packed else (roles.rhs,))}
        return self._schedule(loops, parallel, grain, stage, UNROLL if tile.vectors > 1 else None)

    def _m_block(self, k_step: int, rows: int) -> list[Loop]:
        """The rows that meet a panel: those of a staged left factor stay in L2, unless that are few."""
        if self.roles.m is None:
            return []
        row_bytes = k_step * self.width
        block = self.machine.memory("L3").capacity // RESIDENT_SHARE // row_bytes
        if self.roles.lhs in self._staged:
            block = min(block, max(LEAST_ROWS, LEFT_TIMES * self.machine.memory("L2").capacity // row_bytes))
        if self.roles.m.size is not None:
            block = min(block, round_up(max(self.roles.m.size, 1), rows))
        return [Loop(self.roles.m.name, max(1, block // rows) * rows, rows)]

    def _few(self, way: InPlace) -> Schedule:
        """Some rows: some rows of the right factor at a time, in place or computed."""
        roles = self.roles
        tile = way.tile(self.machine, self.intrinsic.n, None, roles.n.size)
        if self._is_packed:
            widest = register_tiles(self.machine)[0]
            tile = RegisterTile(min(way.most, widest.rows), widest.vectors)
        columns = tile.vectors * self.intrinsic.n
        stage, loops = set(self._staged), list[Loop]()
        rows = [] if roles.m is None else [Loop(roles.m.name, round_up(way.most, tile.rows))]
        if tile.rows == 1:
            loops += rows
        if roles.lhs in stage:
            loops += [*(rows if tile.rows > 1 else ()), Loop(roles.k.name, self._k_step(FEW_ROWS_DEPTH), 8)]
        in_place = False
        if self._is_packed or not self._is_along_n:
            stage |= set() if self._is_packed else {roles.rhs}
            depth = max(8, STREAM_BYTES // (columns * self.width))
            loops += [Loop(roles.n.name, columns), Loop(roles.k.name, self._k_step(depth), 8)]
        elif roles.rhs in stage:
            width = COLUMN_BLOCK if roles.n.size is None else min(COLUMN_BLOCK, round_up(roles.n.size, columns))
            loops += [
                Loop(roles.n.name, round_up(width, columns)),
                Loop(roles.k.name, way.block),
                Loop(roles.n.name, columns),
            ]
        else:
            in_place = True
            loops += [Loop(roles.k.name, way.block), Loop(roles.n.name, columns)]
        if roles.m is not None and tile.rows > 1:
            loops.append(Loop(roles.m.name, tile.rows))
        parallel, grain = self._split(roles.n, columns)
        unroll = way.unroll(self.intrinsic) if in_place else None
        return self._schedule(loops, parallel, grain, stage, unroll, way.ahead if in_place else None)

    def _split(self, axis: Axis | None, grain: int) -> tuple[Axis, int]:
        """The axis to split over workers: batches, else the one given."""
        if self.others:
            return self.others[0], 1
        return (self.roles.n, self.intrinsic.n) if axis is None else (axis, grain)

    def _schedule(
        self,
        loops: list[Loop],
        parallel: Axis,
        grain: int,
        stage: set[int],
        unroll: int | None = None,
        prefetch: int | None = None,
    ) -> Schedule:
        return Schedule(
            loops=(*(Loop(axis.name, 1) for axis in self.others), *loops),
            parallel=parallel.name,
            grain=grain,
            lane=self.roles.n.name,
            stage=tuple(sorted(stage)),
            intrinsic=self.intrinsic.name,
            unroll=unroll,
            prefetch=prefetch,
        )

    def _k_step(self, most: int) -> int:
        step = max(8, most // 8 * 8)
        size = self.roles.k.size
        return step if size is None else min(step, round_up(max(size, 1), 8))
