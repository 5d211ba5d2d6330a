"""What a call costs besides the work: microseconds of calls on arrays of 16 elements, on one thread.

    python bench/call_overhead.py [--json]

The least of many short measurements counts, which a busy machine disturbs least; the cost of an empty Python function
on the same machine stands beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from time import perf_counter

import numpy as np

import crosstile

ADD = """func.func @main(%x: tensor<?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
  %z = nn.add %x, %y : tensor<?xf32>, tensor<?xf32>
  func.return %z : tensor<?xf32>
}
"""
CALLS, REPEATS = 100, 3000


def microseconds(call: Callable[[], object]) -> float:
    """The least time of a call."""
    times: list[float] = []
    for _ in range(REPEATS):
        begin = perf_counter()
        for _ in range(CALLS):
            call()
        times.append((perf_counter() - begin) / CALLS)
    return 1e6 * min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    add = crosstile.compile(ADD)
    x, y, z = (np.ones(16, np.float32) for _ in range(3))
    found = {
        "nothing": microseconds(lambda: None),
        "numpy.add": microseconds(lambda: np.add(x, y)),
        "add(x, y)": microseconds(lambda: add(x, y)),
        "add(x, y, out=z)": microseconds(lambda: add(x, y, out=z)),
    }
    if arguments.json:
        print(json.dumps(found))
        return
    for name, time in found.items():
        print(f"{name:<18} {time:6.2f} us")


if __name__ == "__main__":
    main()
