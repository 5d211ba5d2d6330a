"""``crosstile machines``: what machines and matrix intrinsics there are, and what is known of each.

In: names of machines and intrinsics, or ``host``. Out: their rows as text; layouts are drawn. Docs: docs/machines.md.

    crosstile machines
    crosstile machines host
    crosstile machines nvidia.mma.m16n8k16.f32.bf16
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from crosstile.targets.host import resolve_machine
from crosstile.targets.model import Machine, MmaIntrinsic, UnknownNameError, intrinsic, machines
from crosstile.tools.command_line import ArgumentParser, UsageError, run_tool, write_output

PROG = "crosstile machines"
_NUMBER = re.compile(r"[\d.e+]+( [KMG]?i?B| [GT]op/s)?")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on ``argv`` and return its exit code."""
    return run_tool(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    parser = ArgumentParser(PROG, "List the machines, or say what is known of some machines and intrinsics.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a machine, an intrinsic, or 'host' for this machine")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    parser.add_argument("-h", "--help", action="store_true", help="show this and exit")
    arguments = parser.parse(argv)
    if arguments.help:
        write_output(None, parser.format_help())
        return 0
    names: list[str] = arguments.names
    write_output(None, "\n".join(map(_describe, names)) if names else _list())
    return 0


def _describe(name: str) -> str:
    try:
        return _intrinsic(name) if "." in name else _machine(name)
    except UnknownNameError as error:
        hint = f"'{PROG}' lists the machines, '{PROG} MACHINE' its intrinsics"
        raise UsageError(str(error)).with_note(hint) from error


def _list() -> str:
    rows = [("machine", "units", "vectors", "intrinsics", "widest")]
    for row in sorted(machines().values(), key=lambda row: row.name):
        units = " x ".join(f"{level.count} {level.name}" for level in row.levels)
        widest = max(row.intrinsics, key=lambda choice: choice.operations)
        vectors = f"{row.vector_registers} x {row.vector_bits} bits"
        rows.append((row.name, units, vectors, str(len(row.intrinsics)), widest.name))
    return table(rows)


def _machine(name: str) -> str:
    row = resolve_machine(name)
    cpu = " ".join(filter(None, (row.triple or "(the triple of this process)", row.cpu)))
    facts = [
        ("machine", row.name),
        ("for LLVM", cpu),
        ("needs", ", ".join(row.features) or "nothing"),
        ("units", ", ".join(f"{level.count} {level.name}" for level in row.levels)),
        ("vectors", f"{row.vector_registers} registers of {row.vector_bits} bits"),
        ("clock", f"{row.clock / 1e9:.2f} GHz"),
    ]
    memories = [("memory", "one per", "capacity", "bytes/cycle", "line")]
    for memory in row.memories:
        memories.append(
            (memory.name, memory.scope, _bytes(memory.capacity), f"{memory.bandwidth:g}", f"{memory.line} B")
        )
    products = [("intrinsic", "per cycle", "latency", "peak", "arithmetic")]
    for choice in row.intrinsics:
        peak = _rate(row.peak(choice))
        products.append((choice.name, f"{choice.rate:.4g}", str(choice.latency), peak, str(choice.numerics)))
    return "\n".join((_facts(facts), table(memories), table(products)))


def _intrinsic(name: str) -> str:
    row = intrinsic(name)
    facts = [
        ("intrinsic", row.name),
        ("computes", f"{row.m}x{row.n} += {row.m}x{row.k} * {row.k}x{row.n}, {row.operations} operations"),
        ("arithmetic", f"{row.numerics}{' (assumed)' if row.assumed else ''}"),
        ("issues", f"{row.rate:.4g} per cycle, latency {row.latency} cycles"),
        ("needs", row.feature or "nothing"),
        ("machines", ", ".join(owner.name for owner in _owners(row))),
        ("document", row.document),
    ]
    parts = [_facts(facts)]
    for role, operand in (("lhs", row.lhs), ("rhs", row.rhs), ("accumulator", row.accumulator)):
        homes = " or ".join(home.value for home in operand.homes)
        layout = f"\n{operand.layout}\n{operand.layout.draw()}" if operand.layout is not None else ""
        parts.append(f"{role}: {operand.element} in {homes}{layout}\n")
    return "\n".join(parts)


def _owners(row: MmaIntrinsic) -> list[Machine]:
    return [owner for owner in machines().values() if row in owner.intrinsics]


def _rate(operations: float) -> str:
    return f"{operations / 1e12:.4g} Top/s" if operations >= 1e12 else f"{operations / 1e9:.4g} Gop/s"


def _bytes(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} B"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in facts)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in facts)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns, the first row above a line; cells that look like numbers stand at the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns]
    lines = [
        "  ".join(
            f"{cell:>{width}}" if end else f"{cell:<{width}}"
            for cell, width, end in zip(row, widths, right, strict=True)
        )
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "".join(line.rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
