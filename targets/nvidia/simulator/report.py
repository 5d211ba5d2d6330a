"""What a simulated kernel did, as text and as JSON.

Level: the simulator. In: the counts of a run. Out: :class:`Report`: instructions by kind, in total and per iteration of
each innermost loop, matrix instructions, bytes by memory, and the turns of every access to shared memory.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from crosstile.targets.nvidia.ptx.module import Instruction, Kernel, Module
from crosstile.targets.nvidia.simulator.block import Launch
from crosstile.targets.nvidia.simulator.counts import BankUse, Counts

MATRIX = ("mma", "wgmma.mma_async")


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its PTX lines, how often a warp went round on average, and what one round executes."""

    first_line: int
    last_line: int
    iterations: float
    per_iteration: dict[str, float]

    @property
    def instructions(self) -> float:
        """Instructions of a warp in one iteration."""
        return sum(self.per_iteration.values())

    @property
    def matrix_instructions(self) -> float:
        """Matrix instructions of a warp in one iteration."""
        return sum(count for kind, count in self.per_iteration.items() if kind in MATRIX)


@dataclass(frozen=True)
class Report:
    """The counts of one launch."""

    module: Module
    kernel: Kernel
    counts: Counts
    launch: Launch
    static_shared_bytes: int

    @property
    def executed(self) -> list[Instruction]:
        """The instructions that a warp came to at least once, in the order of the text."""
        return [one for one, count in zip(self.kernel.body, self.counts.executed, strict=True) if count]

    @property
    def instructions(self) -> dict[str, int]:
        """Instructions executed, by kind, counted once per warp."""
        found: Counter[str] = Counter()
        for instruction, count in zip(self.kernel.body, self.counts.executed, strict=True):
            if count:
                found[kind(instruction)] += count
        return dict(found.most_common())

    @property
    def loops(self) -> list[Loop]:
        """The innermost loops that ran, in the order of the text."""
        body, labels = self.kernel.body, self.kernel.labels
        spans: list[tuple[int, int]] = []
        for index, instruction in enumerate(body):
            if instruction.opcode == "bra" and self.counts.jumps[index]:
                target = labels[str(instruction.operands[0])]
                if target <= index:
                    spans.append((target, index))
        # The wait of an mbarrier goes round by itself, it is no loop of the program.
        spans = [span for span in spans if span[1] - span[0] > 2]
        inner = [one for one in spans if not any(one != other and _within(other, one) for other in spans)]
        found: list[Loop] = []
        for first, last in sorted(set(inner)):
            rounds = self.counts.executed[last]
            entries = rounds - self.counts.jumps[last]
            per: Counter[str] = Counter()
            for index in range(first, last + 1):
                per[kind(body[index])] += self.counts.executed[index]
            shares = {name: count / rounds for name, count in per.most_common() if count}
            iterations = rounds / entries if entries else float(rounds)
            found.append(Loop(body[first].line, body[last].line, iterations, shares))
        return found

    @property
    def shared_accesses(self) -> list[tuple[Instruction, BankUse]]:
        """Every instruction that touched shared memory, and how."""
        return [(self.kernel.body[site], use) for site, use in sorted(self.counts.banks.items())]

    @property
    def worst_ways(self) -> float:
        """The most turns per needed turn that an access to shared memory took; 1 is free of conflicts."""
        return max((use.ways for use in self.counts.banks.values()), default=1.0)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "kernel": self.kernel.name,
            "architecture": self.launch.architecture,
            "grid": list(self.launch.grid),
            "block": list(self.launch.block),
            "cluster": list(self.launch.cluster),
            "shared_bytes": self.static_shared_bytes + self.launch.shared_bytes,
            "warps": self.counts.warps,
            "instructions": self.instructions,
            "bytes": self.counts.bytes,
            "loops": [
                {
                    "lines": [loop.first_line, loop.last_line],
                    "iterations": loop.iterations,
                    "instructions": loop.instructions,
                    "matrix_instructions": loop.matrix_instructions,
                    "per_iteration": loop.per_iteration,
                }
                for loop in self.loops
            ],
            "shared_accesses": [
                {
                    "line": one.line,
                    "instruction": str(one),
                    "accesses": use.accesses,
                    "turns": use.turns,
                    "fewest": use.fewest,
                    "ways": use.ways,
                }
                for one, use in self.shared_accesses
            ],
        }

    def json(self) -> str:
        """:meth:`as_dict` as text."""
        return json.dumps(self.as_dict(), indent=2)

    def __str__(self) -> str:
        launch = self.launch
        warps = max(1, self.counts.warps)
        total = sum(self.instructions.values())
        lines = [
            f"kernel {self.kernel.name} on {launch.architecture}: grid {launch.grid}, block {launch.block}, "
            f"{self.static_shared_bytes + launch.shared_bytes} bytes of shared memory",
            f"  {total / warps:.0f} instructions per warp, {self.counts.warps} warps",
        ]
        most = list(self.instructions.items())[:12]
        lines.append("  " + ", ".join(f"{name} {count / warps:.4g}" for name, count in most))
        for loop in self.loops:
            shares = ", ".join(f"{name} {count:.4g}" for name, count in list(loop.per_iteration.items())[:8])
            lines.append(
                f"  loop at PTX lines {loop.first_line} to {loop.last_line}: {loop.iterations:.4g} iterations of "
                f"{loop.instructions:.4g} instructions, {loop.matrix_instructions:.4g} of them matrix ({shares})"
            )
        lines += [f"  {name}: {count} bytes" for name, count in sorted(self.counts.bytes.items())]
        conflicts = [entry for entry in self.shared_accesses if entry[1].turns > entry[1].fewest]
        lines.append(
            f"  shared memory: {len(self.counts.banks)} instructions, "
            + (f"{len(conflicts)} of them with bank conflicts" if conflicts else "free of bank conflicts")
        )
        for one, use in sorted(conflicts, key=lambda entry: -entry[1].turns)[:8]:
            lines.append(f"    PTX line {one.line}: {use.ways:.2g} ways, {one}")
        return "\n".join(lines) + "\n"


def kind(instruction: Instruction) -> str:
    """What an instruction counts as: its opcode, with the parts that make it another one."""
    if instruction.opcode in ("wgmma", "mbarrier", "fence"):
        return ".".join((instruction.opcode, *instruction.modifiers[:1]))
    if instruction.opcode in ("ld", "st", "atom", "red"):
        space = next((one for one in instruction.modifiers if one.split("::")[0] in _SPACES), "generic")
        return f"{instruction.opcode}.{space.split('::')[0]}"
    if instruction.opcode == "cp" and instruction.modifiers[1] in ("ca", "cg"):
        return "cp.async"
    if instruction.opcode == "cp":
        return ".".join((instruction.opcode, *instruction.modifiers[: 3 if "tensor" in instruction.modifiers else 2]))
    return instruction.opcode


_SPACES = ("global", "shared", "local", "param", "const")


def _within(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]
