"""Microseconds per operation to parse, verify and print a module and to run each pass on it, next to xDSL's own tools.

    python bench/compile_time.py [FILE.mlir] [--pass-pipeline PIPELINE] [--repeat N] [--json]

Without a file a program of 2000 operations in ``func``, ``arith``, ``scf`` and ``memref`` is generated. Everything is
measured in one process, alternating between the two, and the least of the repetitions counts, so the ratios hold on a
busy machine; start-up is measured in processes of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.passes import ModulePass
from xdsl.printer import Printer

from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_pass
from crosstile.ir.pipeline import PassSpec, make_pass, parse_pipeline
from crosstile.ir.printing import print_module
from crosstile.ir.verification import verify_module

FUNCTION = """func.func @f{index}(%m: memref<64xf32>, %n: index) -> f32 {{
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %start = arith.constant 0.0 : f32
  %sum = scf.for %i = %zero to %n step %one iter_args(%s = %start) -> (f32) {{
    %x = memref.load %m[%i] : memref<64xf32>
    %square = arith.mulf %x, %x : f32
    %next = arith.addf %s, %square : f32
    scf.yield %next : f32
  }}
  func.return %sum : f32
}}
"""


def least(repeat: int, *actions: Callable[[], object]) -> list[float]:
    """The least seconds each of ``actions`` takes; they take turns."""
    seconds = [float("inf")] * len(actions)
    for _ in range(repeat):
        for index, action in enumerate(actions):
            start = time.perf_counter()
            action()
            seconds[index] = min(seconds[index], time.perf_counter() - start)
    return seconds


def pass_seconds(text: str, filename: str, specs: list[PassSpec], repeat: int) -> list[tuple[str, int, float, float]]:
    """For each pass in turn: its text, the operations it started from, seconds with and without keeping locations."""
    context = make_context()
    module = parse_module(text, filename, context)
    rows: list[tuple[str, int, float, float]] = []
    for spec in specs:
        module_pass = make_pass(spec)
        before = count(module)
        seconds = [float("inf"), float("inf")]
        for _ in range(repeat):
            for index, run in enumerate((partial(run_pass, context), partial(run_plain, context))):
                clone = module.clone()
                # Freeing the previous clone must not be counted as work of the pass.
                gc.collect()
                start = time.perf_counter()
                run(clone, module_pass)
                seconds[index] = min(seconds[index], time.perf_counter() - start)
        run_pass(context, module, module_pass)
        rows.append((str(spec), before, seconds[0], seconds[1]))
    return rows


def run_plain(context: Context, module: ModuleOp, module_pass: ModulePass) -> None:
    """Run a pass as xdsl-opt does."""
    module_pass.apply(context, module)


def start_up_seconds(repeat: int) -> list[float]:
    """Seconds of a process that reads and prints ten lines: crosstile-opt, xdsl-opt."""
    ten_lines = FUNCTION.format(index=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ten.mlir"
        path.write_text(ten_lines)

        def process(code: str) -> Callable[[], object]:
            command = [sys.executable, "-c", code, str(path)]
            return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        return least(
            repeat,
            process("from crosstile.tools.opt import main; raise SystemExit(main())"),
            process("from xdsl.xdsl_opt_main import xDSLOptMain; xDSLOptMain().run()"),
        )


def count(module: ModuleOp) -> int:
    """The operations of ``module``."""
    return sum(1 for _ in module.walk())


def print_plain(module: ModuleOp) -> None:
    """Print as xdsl-opt does."""
    with open("/dev/null", "w") as null:
        Printer(null).print_op(module)


def measure(text: str, filename: str, pipeline: str, repeat: int) -> list[dict[str, object]]:
    """One row per phase: its name, operations, and microseconds per operation here and with plain xDSL."""
    context, plain_context = make_context(), make_context()
    module = parse_module(text, filename, context)
    size = count(module)
    phases = {
        "parse": least(
            repeat,
            lambda: parse_module(text, filename, context),
            lambda: Parser(plain_context, text, filename).parse_module(),
        ),
        "verify": least(repeat, lambda: verify_module(module), lambda: module.verify()),
        "print": least(repeat, lambda: print_module(module), lambda: print_plain(module)),
    }
    rows = [(name, size, *seconds) for name, seconds in phases.items()]
    rows += pass_seconds(text, filename, parse_pipeline(pipeline), repeat)
    return [
        {
            "phase": name,
            "operations": operations,
            "microseconds": 1e6 * ours / operations,
            "xdsl": 1e6 * plain / operations,
        }
        for name, operations, ours, plain in rows
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="microseconds per operation of each phase of crosstile-opt")
    parser.add_argument("file", nargs="?", help="an MLIR file; without it a program is generated")
    parser.add_argument("--pass-pipeline", default="canonicalize,cse", help="passes to measure, one after the other")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    text = "".join(FUNCTION.format(index=index) for index in range(200))
    if arguments.file:
        text = Path(arguments.file).read_text()
    rows = measure(text, arguments.file or "generated.mlir", arguments.pass_pipeline, arguments.repeat)
    ours, theirs = start_up_seconds(arguments.repeat)
    if arguments.json:
        print(json.dumps({"phases": rows, "start-up seconds": {"crosstile-opt": ours, "xdsl-opt": theirs}}))
        return 0
    print(f"{'phase':<40} {'ops':>6} {'us per op':>10} {'xDSL':>8} {'ratio':>6}")
    for row in rows:
        name, operations, here, there = row.values()
        assert isinstance(here, float) and isinstance(there, float)
        print(f"{name!s:<40} {operations!s:>6} {here:>10.1f} {there:>8.1f} {here / there:>6.2f}")
    print(f"start-up on ten lines: crosstile-opt {ours:.3f} s, xdsl-opt {theirs:.3f} s, ratio {ours / theirs:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
