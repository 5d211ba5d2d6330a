"""Kernels for NVIDIA compared without a GPU: ours beside Triton's and TileLang's, assembled by the same ptxas.

    python bench/nvidia_static.py [--only ROW ...] [--json FILE]

Per kernel: registers of a thread, bytes spilled, shared memory of a block, the share of a multiprocessor's threads that
run at once, and of the main loop the instructions, those on matrix units, and the sum of the stall counts that ptxas
gave them (``targets/nvidia/sass.py``). The simulator runs each kernel on a small problem and counts bank conflicts: the
ways of the worst access to shared memory, 1 without. Seconds are from source to PTX, the least of a few. A kernel
without a loop (marked *) is measured up to its last exit, without the subroutines for special values behind it. Triton
and TileLang are compared where they are installed (extras ``triton`` and ``tilelang``), ptxas comes with the extra
``nvidia``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from static_gpu.measure import Measured, measure

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.host import resolve_machine

KINDS = (
    "gemm",
    "attention",
    "conv2d",
    "softmax",
    "any_softmax",
    "layer_norm",
    "any_layer_norm",
    "rms_norm",
    "any_rms_norm",
)
MACHINES = {"sm80": "sm_80", "sm90": "sm_90a"}
ROWS = tuple(f"{kind}-{name}" for kind in KINDS for name in MACHINES)
CONTENDERS = {
    "crosstile": "static_gpu.ours",
    "triton": "static_gpu.triton_kernels",
    "tilelang": "static_gpu.tilelang_kernels",
}


def contender(name: str, row: str) -> Measured | str:
    """What a contender's kernel for a row is like, or why there is none."""
    try:
        compile_kernel = import_module(CONTENDERS[name]).compile_kernel
    except ImportError as error:
        return f"not installed ({error.name})"
    machine = resolve_machine(MACHINES[row.rpartition("-")[2]])
    try:
        compiled = compile_kernel(row)
        ways = compiled.run().worst_ways
        return measure(compiled.ptx, machine, compiled.threads, compiled.shared, compiled.seconds, ways)
    except CrosstileError as error:
        return error.message.splitlines()[0]


def text(results: dict[str, dict[str, Measured | str]]) -> str:
    """The table."""
    head = f"{'kernel':<20} {'by':<10} {'regs':>5} {'spill':>6} {'shared':>7} {'occupancy':>10} "
    lines = [head + f"{'loop':>5} {'matrix':>7} {'each':>6} {'stall':>6} {'ways':>5} {'to PTX':>8}"]
    for row, found in results.items():
        for name, one in found.items():
            if isinstance(one, str):
                lines.append(f"{row:<20} {name:<10} {one}")
                continue
            each = "" if one.spread is None else f"{one.spread:.1f}"
            loop = f"{one.loop:>5}{'' if one.has_loop else '*'}"
            lines.append(
                f"{row:<20} {name:<10} {one.registers:>5} {one.spilled:>6} {one.shared:>7} {one.occupancy:>10.0%} "
                f"{loop:<6}{one.matrix:>7} {each:>6} {one.stall:>6} {one.ways:>5.3g} {one.seconds:>7.2f}s"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", default=ROWS, help=f"rows: {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    arguments = parser.parse_args()
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    results = {row: {name: contender(name, row) for name in CONTENDERS} for row in arguments.only}
    sys.stdout.write(text(results))
    if arguments.json is not None:
        rows: list[dict[str, Any]] = [
            {"row": row, **{n: one if isinstance(one, str) else one.json() for n, one in found.items()}}
            for row, found in results.items()
        ]
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
