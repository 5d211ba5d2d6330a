"""What can be said of a kernel's PTX without a GPU: assembled by the same ptxas for everybody, and read back."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from crosstile.targets.model import Machine
from crosstile.targets.nvidia.ptxas import assemble, disassemble
from crosstile.targets.nvidia.sass import read_sass


@dataclass(frozen=True)
class Measured:
    """Registers of a thread, bytes spilled, shared memory and occupancy of a block, and the main loop.

    ``occupancy`` is the share of the threads that a multiprocessor can hold; ``loop`` its instructions, of which
    ``matrix`` run on a matrix unit, with a sum of stall counts ``stall``; the ``spread`` is instructions per matrix
    instruction. Without a loop (``has_loop``) they are of all up to the last exit. ``ways`` are the turns that the
    worst access to shared memory takes per turn that it needs.
    """

    registers: int
    spilled: int
    shared: int
    occupancy: float
    has_loop: bool
    loop: int
    matrix: int
    stall: int
    seconds: float
    ways: float

    @property
    def spread(self) -> float | None:
        """Instructions of the loop per matrix instruction."""
        return self.loop / self.matrix if self.matrix else None

    def json(self) -> dict[str, Any]:
        """One object of the report."""
        return {**asdict(self), "spread": self.spread}


def measure(ptx: str, machine: Machine, threads: int, shared: int, seconds: float, ways: float) -> Measured:
    """Assemble the only kernel of ``ptx`` for ``machine`` and read it.

    ``seconds`` is what it took to make the PTX, ``ways`` what the simulator counted.
    """
    cubin, remarks = assemble(ptx, machine.cpu)
    (function,) = read_sass(disassemble(cubin, encodings=True))
    loop = function.main_loop()
    body = loop or function.straight
    registers = int(_number(r"Used (\d+) registers", remarks))
    spilled = _number(r"(\d+) bytes spill stores", remarks) + _number(r"(\d+) bytes spill loads", remarks)
    limits = machine.limits
    assert limits is not None
    blocks = limits.resident_blocks(threads, registers, shared)
    return Measured(
        registers=registers,
        spilled=spilled,
        shared=shared,
        occupancy=blocks * threads / limits.threads_per_unit,
        has_loop=loop is not None,
        loop=len(body.instructions),
        matrix=body.matrix_instructions,
        stall=body.stall,
        seconds=seconds,
        ways=ways,
    )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0
