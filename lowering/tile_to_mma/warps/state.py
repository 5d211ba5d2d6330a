"""What the rules for blocks of warps share: the layouts of a kernel's tiles, and where scratch is made."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from math import gcd, prod

from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects import mma, tile
from crosstile.dialects.grid_order import ANY_ORDER
from crosstile.dialects.mma.attributes import LayoutAttr, canonical
from crosstile.dialects.mma.intrinsics import STORED_AS, find_intrinsic
from crosstile.dialects.tile.types import capacity_type
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.warps.assignment import Assignment
from crosstile.lowering.tile_to_mma.warps.layouts import Arrangement, group_of, is_scalar
from crosstile.targets.layout import Layout
from crosstile.targets.model import ELEMENT_BITS, MmaIntrinsic

MOST_WARPS = 8
"""Warps that share one product: two groups of four, each thread with up to 128 registers of accumulators."""

MOST_SUMS = 128
"""Words of the accumulators of several products that a thread has room for."""

WARP_TILE = 64
"""Rows and columns of an accumulator of 32 bits that one warp keeps in its registers; of f64 half as many columns."""

LEAST_WARP_TILE = 32
"""Its least rows and columns: smaller blocks of a result are shared out among more warps, down to this."""

FEW_WARPS = 4
"""One warp to each scheduler of an SM, so that one's loads and copies lie beside another's products."""

FEW_ELEMENTS = 4
"""So many elements of the largest tile are worth a thread of their own."""

MANY_ELEMENTS = 32
"""More elements of a tile than so many are more than a thread should hold where nothing is multiplied."""

MOST_ROW_WARPS = 16
"""Warps of a kernel without products whose tiles are that large."""


class WarpLowering(TileLowering):
    """The driver for one kernel after the other; ``warps`` run the current one."""

    warps: int
    rows: dict[tile.ContractOp, MmaIntrinsic]
    arrangement: Arrangement
    assignment: Assignment
    slots: dict[tile.StageOp, SSAValue]
    """The slots that stages copied ahead are in."""
    rings: dict[tile.StageOp, SSAValue]
    """The rings of stages that roles of their own fill."""
    copied: dict[tile.StageOp, SSAValue]
    """The rings that copies fill instead, of stages whose rows and columns a role exchanges on the way to ``rings``."""
    multicast: dict[tile.StageOp, list[int]]
    """The dimensions of the grid along which blocks of a cluster copy a stage for each other."""
    pieces: dict[tuple[tuple[int, int], Attribute], SSAValue]
    """Scratch that stores go through, by its shape and element type."""
    held: list[list[SSAValue]]
    """Per body that is open the slots that are released at its end."""
    begun_with_barrier: set[Block]
    """The bodies of loops whose trips begin with a barrier of all warps."""
    has_roles: bool
    staging_warps: int
    """Warps of the roles that copy and exchange."""
    is_persistent: bool
    scratch_depth: int

    def enter_kernel(self, kernel: tile.KernelOp) -> None:
        """Choose the instructions of the contractions, the warps and the layouts of ``kernel``."""
        contracts = [op for op in kernel.walk() if isinstance(op, tile.ContractOp)]
        self.rows = {op: self._choose(op) for op in contracts}
        self.arrangement = self._arrange(contracts)
        if contracts:
            groups = {self.arrangement.warps(row) for row in self.rows.values()}
            if len(groups) > 1:
                raise self.error("its contractions need different numbers of warps; name one kind of intrinsic")
            self.warps = groups.pop()
        whole = () if contracts else _folded_in_order(kernel)
        if not contracts:
            self.warps = _warps_for(kernel, self.lanes_of_warp, whole)
        self.assignment = Assignment.of(kernel, self.warps, self.arrangement, self.rows, whole)
        self.slots, self.rings, self.copied, self.multicast = {}, {}, {}, {}
        self.held, self.begun_with_barrier = [], set()
        self.pieces = {}
        self.staging_warps = 0
        self.has_roles = any(isinstance(op, tile.ForOp) and op.role is not None for op in kernel.walk())
        if self.has_roles and kernel.parallel is None:
            raise self.error("a loop has a role of its own for staging, but the kernel has no tile.parallel for roles")
        self.is_persistent = kernel.parallel is not None and kernel.parallel.order.persistent is not None
        if self.is_persistent and not self.has_roles:
            raise self.error(
                "its grid is persistent, which pays if a role of its own copies ahead for the next instance; no loop "
                "of it has one: expects pipeline(n) role, or leave out 'persistent'"
            )
        self._check_cluster(kernel)
        self.scratch_depth = len(self.open_blocks) + (kernel.parallel is not None)

    def _check_cluster(self, kernel: tile.KernelOp) -> None:
        """A cluster is for roles that copy, and of as many blocks as the machine runs together."""
        order = ANY_ORDER if kernel.parallel is None else kernel.parallel.order
        most = 1 if self.machine.limits is None else self.machine.limits.cluster
        if order.cluster_blocks > most:
            nearest = f"the nearest is one of {most}" if most > 1 else "leave out 'cluster'"
            raise self.error(
                f"its grid has clusters of {order.cluster_blocks} blocks; {self.machine.name} runs {most} together: "
                f"{nearest}"
            )
        if order.cluster and not self.has_roles:
            raise self.error(
                "its grid has clusters, whose blocks copy for each other by a role of its own; no loop of it has one: "
                "expects pipeline(n) role, or leave out 'cluster'"
            )

    @property
    def lanes_of_warp(self) -> int:
        """How many lanes a warp has."""
        lanes = self.machine.warp_lanes
        assert lanes is not None
        return lanes

    # Instructions

    def _choose(self, op: tile.ContractOp) -> MmaIntrinsic:
        """The instruction that ``op`` names, or the machine's fastest whose blocks its shape is made of."""
        machine = self.machine
        (m, n), k = capacity_type(op.accumulator).get_shape(), capacity_type(op.lhs).get_shape()[1]
        if op.intrinsic is not None:
            try:
                row = find_intrinsic(op.intrinsic.data)
            except VerifyException as error:
                raise self.error(str(error.args[0])) from error
            if row not in machine.intrinsics:
                raise self.error(f"{row.name} is no instruction of {machine.name}")
            if m % row.m or n % row.n or k % row.k:
                raise self.error(f"{m}x{n}x{k} is no multiple of the {row.m}x{row.n}x{row.k} of {row.name}")
            return row
        types = [str(capacity_type(value).element_type) for value in (op.lhs, op.rhs, op.accumulator)]
        rows = [row for row in machine.intrinsics if _stored_types(row) == types]
        fitting = [row for row in rows if not (m % row.m or n % row.n or k % row.k)]
        if not fitting:
            shapes = ", ".join(f"{row.m}x{row.n}x{row.k}" for row in rows) or "none"
            raise self.error(
                f"no instruction of {machine.name} multiplies {types[0]} by {types[1]} into {types[2]} in blocks that "
                f"make up {m}x{n}x{k}; there are {shapes}"
            )
        return max(fitting, key=lambda row: (row.operations * row.rate, row.n))

    def _arrange(self, contracts: Sequence[tile.ContractOp]) -> Arrangement:
        """How warps share out the accumulators: the same way for all, by rows alone where rows are reduced."""
        lanes = self.lanes_of_warp
        if not contracts:
            return Arrangement(1, 1, lanes)
        rows, columns, most = 0, 0, MOST_WARPS
        for op in contracts:
            row, (m, n) = self.rows[op], capacity_type(op.accumulator).get_shape()
            most = min(most, MOST_WARPS // group_of(row))
            rows, columns = gcd(rows, m // row.m), gcd(columns, n // row.n)
        if len(contracts) > 1:
            return Arrangement(self._warps_down(contracts, rows, most), 1, lanes)
        row, (m, n) = self.rows[contracts[0]], capacity_type(contracts[0].accumulator).get_shape()
        if group_of(row) > 1:
            return Arrangement(_largest_divisor(rows, most), 1, lanes)
        least = LEAST_WARP_TILE
        height = width = least if is_scalar(row) else WARP_TILE
        width //= max(1, ELEMENT_BITS[row.accumulator.element] // 32)
        while not is_scalar(row) and (m // height) * (n // width) < FEW_WARPS and max(height, width) > least:
            height, width = (height, width // 2) if width > least else (height // 2, width)
        down = _largest_divisor(rows, max(1, min(most, m // height)))
        across = _largest_divisor(columns, max(1, min(most // down, n // width)))
        return Arrangement(down, across, lanes)

    def _warps_down(self, contracts: Sequence[tile.ContractOp], rows: int, most: int) -> int:
        """Warps, or groups, for several products: few, as each loads factors for all its rows, with room for sums."""
        bits = sum(
            prod(capacity_type(op.accumulator).get_shape()) * ELEMENT_BITS[self.rows[op].accumulator.element]
            for op in contracts
        )
        if not any(is_scalar(self.rows[op]) or group_of(self.rows[op]) > 1 for op in contracts):
            most = min(most, max(FEW_WARPS, -(-bits // (32 * MOST_SUMS * self.lanes_of_warp))))
            most = next(count for count in range(most, MOST_WARPS + 1) if rows % count == 0 or count == MOST_WARPS)
        return _largest_divisor(rows, most)

    # Fragments

    def in_scratch(self, value: SSAValue) -> bool:
        """No tile of a block of warps lives in scratch."""
        return False

    def fragment_of(self, old: SSAValue, layout: Layout) -> mma.FragmentType:
        """The fragment of the tile ``old`` laid out as ``layout``."""
        type_ = capacity_type(old)
        return mma.FragmentType.of(type_.get_shape(), type_.element_type, LayoutAttr(layout))

    def fragment_type(self, old: SSAValue) -> mma.FragmentType:
        """The type of the fragment that the tile ``old`` becomes."""
        return self.fragment_of(old, self.assignment.layout(old))

    def register_types(self, type_: Attribute) -> Sequence[Attribute]:
        """Types other than tiles stay; what a tile becomes depends on the value."""
        if isinstance(type_, tile.TileType):
            raise self.error(f"passes on a {type_} in a way that gives it no layout")
        return (type_,)

    def add_argument(self, block: Block, old: SSAValue) -> tuple[SSAValue, ...]:
        """An argument of ``block`` that stands for ``old``, laid out as it is if it is a tile."""
        if not isinstance(old.type, tile.TileType):
            return super().add_argument(block, old)
        new = block.insert_arg(self.fragment_type(old), len(block.args))
        self.map_value(old, new)
        return (new,)

    def conform(self, value: SSAValue, type_: mma.FragmentType) -> SSAValue:
        """``value`` as a fragment of ``type_``, moved between registers if it is laid out in another way."""
        return value if value.type == type_ else self.insert(mma.RelayoutOp(value, type_)).result

    def value_as(self, old: SSAValue, layout: Layout) -> SSAValue:
        """The fragment of ``old`` where ``layout`` wants its elements; another order of modes makes no difference."""
        new = self.value(old)
        assert isinstance(new.type, mma.FragmentType)
        if canonical(new.type.layout.data) == canonical(layout):
            return new
        return self.conform(new, self.fragment_of(old, layout))

    # Scratch

    def insert_outside(self, op: Operation) -> None:
        """Insert ``op`` where scratch is made: in the body of the parallel loop, outside of all others."""
        if self.current_op is not None:
            op.location = self.current_op.location
        blocks = self.open_blocks
        blocks[min(self.scratch_depth, len(blocks) - 1)].add_op(op)

    @property
    def in_loop(self) -> bool:
        """Whether what is being built may run again on the same scratch: in this instance, or in the next one."""
        return self.is_persistent or len(self.open_blocks) - 1 > self.scratch_depth + self.has_roles

    @property
    def scratch_may_be_read(self) -> bool:
        """Whether warps may still read what an earlier run of what is being built has left in scratch.

        They do not in a trip that begins with a barrier of all.
        """
        return self.in_loop and self.open_blocks[-1] not in self.begun_with_barrier

    @contextmanager
    def holding(self) -> Generator[None]:
        """Build a body at whose end the slots that it waits for are released."""
        self.held.append([])
        try:
            yield
        finally:
            self.held.pop()


def _stored_types(row: MmaIntrinsic) -> list[str]:
    """The types of an instruction's operands as MLIR names them; tf32 is not what a program of f32 asks for."""
    operands = (row.lhs, row.rhs, row.accumulator)
    return [o.element if o.element == "tf32" else STORED_AS.get(o.element, o.element) for o in operands]


def _largest_divisor(number: int, most: int) -> int:
    return max(divisor for divisor in range(1, max(most, 1) + 1) if number % divisor == 0)


def _folded_in_order(kernel: tile.KernelOp) -> tuple[int, ...]:
    """The rows of tiles whose columns are folded into what was before: one chain, in the registers of one thread."""
    folds = (op for op in kernel.walk() if isinstance(op, tile.ReduceOp) and op.into is not None)
    return (0,) if any(op.reduced_dims == [0] for op in folds) else ()


def _warps_for(kernel: tile.KernelOp, lanes: int, whole: Sequence[int]) -> int:
    """The warps of a kernel without contractions: as many as its largest tile keeps busy, less dimensions ``whole``."""
    sizes = [1]
    for op in kernel.walk():
        for result in op.results:
            if isinstance(result.type, tile.TileType):
                sizes.append(prod(size for dim, size in enumerate(result.type.get_shape()) if dim not in whole))
    largest, grain = max(sizes), lanes * FEW_ELEMENTS
    warps = max(1, min(MOST_WARPS, 1 << max(0, (largest // grain).bit_length() - 1)))
    while largest > MANY_ELEMENTS * lanes * warps and warps < MOST_ROW_WARPS:
        warps *= 2
    while warps > 1 and largest % (grain * warps):  # the others would hold copies
        warps //= 2
    return warps
