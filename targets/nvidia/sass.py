"""SASS, NVIDIA's machine code, as nvdisasm prints it: instructions, their stall counts, and the loop that matters.

Level: below PTX; for measuring code without a GPU. In: the text of ``nvdisasm -hex``. Out: what a loop costs to issue::

    (kernel,) = read_sass(text)
    loop = kernel.main_loop()
    len(loop.instructions), loop.count("HMMA"), loop.stall

Every instruction is 128 bits; bits 105 to 108 say how many cycles the warp waits before it issues the next one (Jia et
al., arXiv 1804.06826, section 2.1: control information). Their sum over a loop is what a trip takes at least on an
otherwise idle scheduler; what waits for memory or for a matrix unit through scoreboards comes on top.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STALL_BIT, STALL_BITS = 105, 4
MATRIX_OPCODES = ("HMMA", "HGMMA", "IMMA", "IGMMA", "DMMA", "QGMMA", "BGMMA")
"""Instructions of the matrix units."""

_FUNCTION = re.compile(r"^\.text\.(\S+):")
_LABEL = re.compile(r"^(\.L_[\w$.]+):")
_FIRST = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;\s*/\* 0x([0-9a-f]{16}) \*/")
_SECOND = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/")
_TARGET = re.compile(r"`\((\.L_[\w$.]+)\)")


@dataclass(frozen=True)
class Instruction:
    """One instruction: byte address, opcode with modifiers, its text, and the stall count in cycles.

    ``target`` is the label that a branch goes to, "" for other instructions.
    """

    address: int
    opcode: str
    text: str
    stall: int
    target: str

    @property
    def is_matrix(self) -> bool:
        """Whether a matrix unit executes it."""
        return self.opcode.partition(".")[0] in MATRIX_OPCODES


@dataclass(frozen=True)
class Loop:
    """The instructions from a backward branch's target to the branch itself."""

    instructions: tuple[Instruction, ...]

    def count(self, *opcodes: str) -> int:
        """How many instructions have one of these base opcodes."""
        return sum(instruction.opcode.partition(".")[0] in opcodes for instruction in self.instructions)

    @property
    def matrix_instructions(self) -> int:
        """How many instructions run on a matrix unit."""
        return sum(instruction.is_matrix for instruction in self.instructions)

    @property
    def stall(self) -> int:
        """The sum of stall counts: cycles of one warp's scheduler."""
        return sum(instruction.stall for instruction in self.instructions)


@dataclass(frozen=True)
class Function:
    """The machine code of one kernel."""

    name: str
    instructions: tuple[Instruction, ...]
    labels: tuple[tuple[str, int], ...]

    @property
    def straight(self) -> Loop:
        """The instructions up to the last exit: not the subroutines behind it, which special values take."""
        exits = [place for place, one in enumerate(self.instructions) if one.opcode == "EXIT"]
        return Loop(self.instructions[: exits[-1] + 1] if exits else self.instructions)

    def loops(self) -> list[Loop]:
        """Every loop, one per backward branch, in the order of the branches."""
        places = dict(self.labels)
        found: list[Loop] = []
        for instruction in self.instructions:
            begin = places.get(instruction.target, instruction.address)
            if instruction.opcode.startswith("BRA") and begin < instruction.address:
                body = (one for one in self.instructions if begin <= one.address <= instruction.address)
                found.append(Loop(tuple(body)))
        return found

    def main_loop(self) -> Loop | None:
        """The innermost loop with the most matrix instructions, the first if its last trips are a loop of their own;
        without any the longest innermost loop; None without loops."""
        loops = self.loops()
        innermost = [loop for loop in loops if not any(_contains(loop, other) for other in loops)]
        most = max(innermost, key=lambda loop: (loop.matrix_instructions, len(loop.instructions)), default=None)
        if most is None or not most.matrix_instructions:
            return most
        return next(loop for loop in innermost if loop.matrix_instructions == most.matrix_instructions)


def read_sass(text: str) -> list[Function]:
    """The functions in the output of ``nvdisasm -hex``, in order."""
    functions: list[Function] = []
    name, pending = "", None
    instructions: list[Instruction] = []
    labels: list[tuple[str, int]] = []
    waiting: list[str] = []

    def finish() -> None:
        if name:
            functions.append(Function(name, tuple(instructions), tuple(labels)))

    for line in text.splitlines():
        if match := _FUNCTION.match(line):
            finish()
            name, instructions, labels, waiting = match[1], [], [], []
        elif match := _LABEL.match(line):
            waiting.append(match[1])
        elif match := _FIRST.match(line):
            pending = match
            labels += [(label, int(match[1], 16)) for label in waiting]
            waiting = []
        elif pending is not None and (match := _SECOND.match(line)):
            word = int(match[1], 16) << 64 | int(pending[3], 16)
            instructions.append(_instruction(int(pending[1], 16), pending[2], word))
            pending = None
    finish()
    return functions


def _instruction(address: int, text: str, word: int) -> Instruction:
    opcode = next(part for part in text.split() if not part.startswith(("@", "{")))
    target = _TARGET.search(text)
    stall = word >> STALL_BIT & ((1 << STALL_BITS) - 1)
    return Instruction(address, opcode, text, stall, target[1] if target else "")


def _contains(loop: Loop, other: Loop) -> bool:
    """Whether ``other`` is a smaller loop inside ``loop``."""
    outer, inner = ((one.instructions[0].address, one.instructions[-1].address) for one in (loop, other))
    return outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]
