"""What a second core is worth: milliseconds of calls with one thread and with two, and their ratio.

    taskset -c 2,3 python bench/threads.py [--only PROBLEM ...] [--json]

Calls of either kind take turns in short runs, and the ratio is that of the medians. The caller and its helper are
pinned to a processor each, the last two that the process may use, which should have nothing else to do. A call that is
not worth sharing shows what sharing costs: its ratio is below one.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

import crosstile

RUN_SECONDS, RUNS = 0.05, 7
SIZES = (64, 128, 256, 512, 1024, 2048)
ATTENTION = """func.func @main(%q: tensor<?x?x?x64xf32>, %k: tensor<?x?x?x64xf32>, %v: tensor<?x?x?x64xf32>)
    -> tensor<?x?x?x64xf32> {
  %o = nn.attention %q, %k, %v accumulate f32 : tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>, tensor<?x?x?x64xf32>
  func.return %o : tensor<?x?x?x64xf32>
}
"""
MATMUL = """func.func @main(%a: tensor<?x?xf32>, %b: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %c : tensor<?x?xf32>
}
"""
Call = Callable[[int], object]
"""Of a number of threads."""


def problems() -> dict[str, Callable[[], Call]]:
    """By name, what makes the arrays of a problem and gives its call."""
    generator = np.random.default_rng(0)

    def make(text: str, shape: tuple[int, ...], count: int) -> Call:
        function = crosstile.compile(text)
        arrays = [generator.standard_normal(shape, np.float32) for _ in range(count)]
        out = np.empty(shape, np.float32)
        return lambda threads: function(*arrays, out=out, threads=threads)

    found: dict[str, Callable[[], Call]] = {
        f"matmul-{size}": lambda size=size: make(MATMUL, (size, size), 2) for size in SIZES
    }
    return found | {"attention-1024": lambda: make(ATTENTION, (1, 8, 1024, 64), 3)}


def pin(first: int, second: int) -> None:
    """The caller to one processor, its helper to another."""
    for thread in threading.enumerate():
        assert thread.native_id is not None
        os.sched_setaffinity(thread.native_id, {first if thread is threading.main_thread() else second})


def seconds(call: Call) -> dict[int, float]:
    """The median time of a call with one thread and with two."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(RUNS):
        for threads, found in times.items():
            end = perf_counter() + RUN_SECONDS
            while (begin := perf_counter()) < end:
                call(threads)
                found.append(perf_counter() - begin)
    return {threads: median(found) for threads, found in times.items()}


def main() -> None:
    """Print the table."""
    known = problems()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=known, default=list(known), metavar="PROBLEM")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    processors = sorted(os.sched_getaffinity(0))[-2:]
    if len(processors) < 2:
        parser.error("two processors are needed")
    table: dict[str, dict[int, float]] = {}
    for name in arguments.only:
        call = known[name]()
        call(1)
        call(2)
        pin(*processors)
        table[name] = seconds(call)
    if arguments.json:
        print(json.dumps({name: [found[1], found[2]] for name, found in table.items()}))
        return
    for name, found in table.items():
        print(f"{name:<16} {1e3 * found[1]:8.3f} {1e3 * found[2]:8.3f} ms  ratio {found[1] / found[2]:.2f}")


if __name__ == "__main__":
    main()
