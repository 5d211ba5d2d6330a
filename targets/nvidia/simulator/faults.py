"""What goes wrong in a simulated kernel: one error with the PTX line and the operation it came from.

Level: the simulator. In: a message and the instructions that take part. Out: :class:`SimulatedFault`, which tools show
like every other error, with the source line of the ``.mlir`` file that ``.loc`` names::

    matmul.mlir:12:5: error: data race on shared memory at 0x400: warp 3 of block (0, 0, 0) reads what warp 0 wrote ...
    note: PTX line 214: ld.shared.b32 %r55, [%r37];
    note: PTX line 200: st.shared.b32 [%r34], %r54;
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crosstile.ir.diagnostics import CrosstileError, Note
from crosstile.targets.nvidia.ptx.module import Instruction, Location

if TYPE_CHECKING:
    from xdsl.dialects.builtin import LocationAttr


class SimulatedFault(CrosstileError):
    """A kernel did what the machine leaves undefined, or never ends.

    ``kind`` is one word for programs: ``race``, ``deadlock``, ``bounds``, ``alignment``, ``uninitialised``, ``pending``
    (a result used before its wait), ``barrier``, ``convergence``, ``operand`` or ``limit``. ``lines`` are the PTX lines
    of the instructions that take part, the one that noticed first.
    """

    def __init__(self, kind: str, message: str, *instructions: Instruction):
        location = attribute(instructions[0].location) if instructions else None
        notes = tuple(_note(one) for one in instructions)
        super().__init__(message, location, notes)
        self.kind = kind
        self.lines = tuple(one.line for one in instructions)
        self._made_of = (kind, message, *instructions)

    def __reduce__(self) -> tuple[type[SimulatedFault], tuple[Any, ...]]:
        """Made again of the same: a fault in another process is reported here."""
        return SimulatedFault, self._made_of


class Trouble(Exception):
    """A fault inside one instruction, before the scheduler adds which; ``sites`` are other instructions' indices."""

    def __init__(self, kind: str, message: str, *sites: int):
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.sites = tuple(site for site in sites if site >= 0)


class NotSimulated(CrosstileError):
    """An instruction, type or modifier that the simulator does not know; the message says which are known."""


def not_simulated(instruction: Instruction, what: str) -> NotSimulated:
    """The error for something in ``instruction`` that has no rule, to be raised by the caller."""
    return NotSimulated(f"the simulator has no {what}", attribute(instruction.location), (Note(_line(instruction)),))


def _line(instruction: Instruction) -> str:
    comment = f"   // {instruction.comment}" if instruction.comment else ""
    return f"PTX line {instruction.line}: {instruction}{comment}"


def _note(instruction: Instruction) -> Note:
    return Note(_line(instruction), attribute(instruction.location))


def attribute(location: Location | None) -> LocationAttr | None:
    """The location as errors carry it: the place in the function that everything was inlined into."""
    if location is None:
        return None
    from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr

    place = location.outermost
    return FileLineColLoc(StringAttr(place.file), IntAttr(place.line), IntAttr(place.column))
