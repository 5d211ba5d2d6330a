"""The loops of x86 assembly text that hold no other loop: what a kernel spends its time in."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_LABEL = re.compile(r"^([\w.$]+):")
_JUMP = re.compile(r"^\s+j\w+\s+(\.L\w+)$")
_SCALAR_FMA = re.compile(r"^vfn?m(add|sub)\d+s[sd]$")


@dataclass(frozen=True)
class InnerLoop:
    """One loop: the function it stands in and its instructions, in order."""

    function: str
    lines: tuple[str, ...]

    @property
    def counts(self) -> Counter[str]:
        """How often each instruction occurs."""
        return Counter(line.split()[0] for line in self.lines)

    @property
    def fma(self) -> int:
        """Multiply-adds of whole vectors."""
        return sum(count for name, count in self.counts.items() if re.fullmatch(r"vfmadd\d+p[sd]", name))

    @property
    def spills(self) -> list[str]:
        """Instructions that touch the stack."""
        return [line for line in self.lines if "rsp" in line]

    @property
    def masked(self) -> bool:
        """Whether a mask holds an instruction back: a loop of an edge's tiles."""
        return any("{%k" in line for line in self.lines)

    @property
    def scalar_fma(self) -> list[str]:
        """Multiply-adds of single numbers."""
        return [line for line in self.lines if _SCALAR_FMA.match(line.split()[0])]

    @property
    def integers(self) -> list[str]:
        """Everything but vector instructions and the jump at the end: counters and addresses."""
        return [line for line in self.lines[:-1] if not line.startswith("v")]


def inner_loops(text: str) -> list[InnerLoop]:
    """The innermost loops of ``text``, in order: from a label to the jump back to it, no other such jump between."""
    found: list[InnerLoop] = []
    function = ""
    lines: list[str] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if (label := _LABEL.match(line)) is not None:
            if not label[1].startswith(".L"):
                function, lines, labels = label[1], [], {}
            labels[label[1]] = len(lines)
            continue
        instruction = line.strip()
        if not instruction or instruction.startswith((".", "#")):
            continue
        lines.append(instruction)
        if (jump := _JUMP.match(line)) is not None and (begin := labels.get(jump[1])) is not None:
            found.append(InnerLoop(function, tuple(lines[begin:])))
            labels = {}  # a jump back further encloses this loop
    return found
