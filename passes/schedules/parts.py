"""Into how many parts the sums of a matrix product are split so that they keep a whole machine busy.

Level: nest. In: a product whose sizes are in its types, on a machine of several multiprocessors. Out: a number of
parts, each a product over its own range of k, whose sums one more kernel adds up. 256 x 256 x 16384 of bf16 on an H100
is two blocks of 128 x 256, of 132 that could run at a time; in 32 parts of 512 it is 64 of them, and each of the
65536 sums is written and read 32 times.

What is compared are cycles as the machine's rows have them: rounds of blocks, steps of k at the rate of the
instruction or of what a multiprocessor reads, whichever is slower, and the sums' way through memory. A vector times a
matrix has no blocks, but warps that read columns, which wait for memory in every step.
"""

from __future__ import annotations

from math import ceil, prod

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, KernelAxes, axes_among
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.schedule import Schedule
from crosstile.passes.schedules.alignment import ALIGNMENT
from crosstile.passes.schedules.block_products import block_product_schedules
from crosstile.passes.schedules.block_sweeps import block_sweep_schedules
from crosstile.passes.schedules.register_tiles import bits
from crosstile.targets.model import ELEMENT_BITS, Machine, UnknownNameError

LAUNCH_SECONDS = 2e-6
"""What one more kernel costs on a stream: the end of the one before it, and its own start."""
FILL_STEPS = 4
"""Steps of k that a block takes beside its own: the first copies come, and the last sums go."""
LATENCY_SECONDS = 7e-7
"""A step of a warp that reads columns: from its loads of global memory to the end of its additions. An estimate."""
LEAST_GAIN = 1.1
"""A split must be faster by so much: it takes memory, and this is an estimate."""


def legal_parts(k: int, element_bits: int) -> list[int]:
    """The numbers of parts, increasing from 1, that ``k`` steps can be split into.

    They divide k, and where rows of k elements are multiples of 16 bytes, those of a part are too.
    """
    unit = max(1, ALIGNMENT * 8 // element_bits)
    unit = unit if k % unit == 0 else 1
    if k == 0:
        return [1]
    small = [parts for parts in range(1, int((k // unit) ** 0.5) + 1) if k // unit % parts == 0]
    return sorted({*small, *(k // unit // parts for parts in small)})


def factor_bits(roles: ContractionRoles) -> int:
    """The bits of an element of the left factor."""
    return bits(element_type(roles.nest.inputs[roles.lhs]))


def parts_for(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> int:
    """The number of parts that takes ``machine`` least time; 1 where splitting does not pay or sizes are not known."""
    result = [entry for entry in axes.of_result(roles.nest.results[0]) if isinstance(entry, Axis)]
    sizes = [axis.size for axis in (*result, roles.k)]
    if machine.warp_lanes is None or roles.k.size is None or not all(sizes):
        return 1
    try:
        cost: _Cost = _ColumnsCost(axes, roles, machine) if roles.m is None else _BlocksCost(axes, roles, machine)
    except UnknownNameError:
        return 1  # no schedule that takes k step by step
    best = min(legal_parts(roles.k.size, factor_bits(roles)), key=cost.cycles)
    return best if cost.cycles(best) * LEAST_GAIN <= cost.cycles(1) else 1


class _Cost:
    """How long a product takes in so many parts, in cycles of the machine."""

    def __init__(self, axes: KernelAxes, roles: ContractionRoles, machine: Machine, schedule: Schedule):
        sides = {loop.iterator: loop.step for loop in schedule.loops}
        result = [entry for entry in axes.of_result(roles.nest.results[0]) if isinstance(entry, Axis)]
        self._units = machine.levels[0].count
        self._blocks = prod(ceil((axis.size or 0) / sides[axis.name]) for axis in result)
        self._k, self._step = roles.k.size or 0, sides[roles.k.name]
        main, width = machine.memory("main").bandwidth, factor_bits(roles) / 8
        factors = (axes_among(axes.of_operand(roles.nest, position)) for position in (roles.lhs, roles.rhs))
        self._read_cycles = sum(prod(axis.size or 1 for axis in factor) for factor in factors) * width / main
        self._sum_cycles = prod(axis.size or 0 for axis in result) * bits(roles.element) / 8 / main
        self._launch_cycles = LAUNCH_SECONDS * machine.clock

    def cycles(self, parts: int) -> float:
        """The time of the product in ``parts`` parts, and of adding them up."""
        product = max(self._product_cycles(self._blocks * parts, ceil(self._k / parts / self._step)), self._read_cycles)
        return product + (0 if parts == 1 else 2 * parts * self._sum_cycles + self._launch_cycles)

    def _product_cycles(self, blocks: int, steps: int) -> float:
        """The time of ``blocks`` blocks of ``steps`` steps of k each if memory is no limit."""
        raise NotImplementedError


class _BlocksCost(_Cost):
    """Blocks of a matrix, one on each multiprocessor."""

    def __init__(self, axes: KernelAxes, roles: ContractionRoles, machine: Machine):
        schedule = block_product_schedules(axes, roles, machine)[0].schedule.data
        super().__init__(axes, roles, machine, schedule)
        row = next(row for row in machine.intrinsics if row.name == schedule.intrinsic)
        sides = {loop.iterator: loop.step for loop in schedule.loops}
        m, n = (1 if axis is None else sides[axis.name] for axis in (roles.m, roles.n))
        width = ELEMENT_BITS[row.lhs.element] / 8
        products = m * n * self._step / (row.m * row.n * row.k * row.rate)
        share = machine.memory("L2").bandwidth / self._units
        self._step_cycles = max(products, (m + n) * self._step * width / share)

    def _product_cycles(self, blocks: int, steps: int) -> float:
        return ceil(blocks / self._units) * (FILL_STEPS + steps) * self._step_cycles


class _ColumnsCost(_Cost):
    """A vector times a matrix whose columns a lane each adds up, many warps on each multiprocessor.

    Raises UnknownNameError where lanes share a row of k instead: then it is in parts already.
    """

    def __init__(self, axes: KernelAxes, roles: ContractionRoles, machine: Machine):
        schedule = next((each.schedule.data for each in block_sweep_schedules(axes, machine) or ()), Schedule())
        if schedule.lane != roles.n.name or machine.limits is None or not schedule.steps(roles.k.name):
            raise UnknownNameError(f"machine {machine.name} has no steps of k for a vector times a matrix")
        super().__init__(axes, roles, machine, schedule)
        self._resident = self._units * machine.limits.blocks_per_unit
        self._step_cycles = LATENCY_SECONDS * machine.clock

    def _product_cycles(self, blocks: int, steps: int) -> float:
        return ceil(blocks / self._resident) * (1 + steps) * self._step_cycles
