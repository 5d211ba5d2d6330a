"""Every opcode that the simulator knows, and the rule that decodes it.

Level: the simulator. In: nothing. Out: :data:`RULES`; a rule takes the program, one instruction and its index, and gives
the closure that runs it.
"""

from __future__ import annotations

from collections.abc import Callable

from crosstile.targets.nvidia.ptx.module import Instruction
from crosstile.targets.nvidia.simulator import (
    async_copies,
    barriers,
    compare,
    convert,
    floating,
    integer,
    matrix_rules,
    mbarrier_rules,
    memory_rules,
    moves,
    warp_operations,
)
from crosstile.targets.nvidia.simulator.gang import Gang
from crosstile.targets.nvidia.simulator.program import Execute, Program

Rule = Callable[[Program, Instruction, int], Execute]


def _set_registers(program: Program, instruction: Instruction, site: int) -> Execute:
    """setmaxnreg says how many registers a warp has; the simulator has no such limit."""

    def run(gang: Gang) -> None:
        return None

    return run


RULES: dict[str, Rule] = {
    **integer.RULES,
    **floating.RULES,
    **convert.RULES,
    **compare.RULES,
    **moves.RULES,
    **memory_rules.RULES,
    **warp_operations.RULES,
    **barriers.RULES,
    **mbarrier_rules.RULES,
    **async_copies.RULES,
    **matrix_rules.RULES,
    "setmaxnreg": _set_registers,
}
