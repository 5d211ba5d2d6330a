"""How much memory a call takes: the peak of the process during it, above what it had before.

    python bench/memory.py [--threads N] [--json]

The limit is 1.2 times inputs + outputs + planned buffers (the arena: temporaries and workers' scratch). Inputs exist
before the call, so what a call really adds is outputs and arena; both numbers are printed. Linux only: the peak is read
from /proc/self/status, after resetting it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import crosstile

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
LIMIT = 1.2


@dataclass(frozen=True)
class Row:
    """Bytes: what a call added to the process at its peak, and what it is made of."""

    name: str
    added: int
    inputs: int
    outputs: int
    planned: int

    @property
    def ratio(self) -> float:
        """The peak in units of inputs + outputs + planned buffers."""
        return self.added / (self.inputs + self.outputs + self.planned)


def resident(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, in bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) << 10


def measure(name: str, shapes: list[tuple[int, ...]], threads: int) -> Row:
    """The first call of an example with one result on arrays of ``shapes``: there is no memory to be reused yet."""
    function = crosstile.compile(EXAMPLES / name)
    random = np.random.default_rng(0)
    inputs: list[Any] = [random.standard_normal(shape, np.float32) for shape in shapes]
    before = resident("VmRSS")
    CLEAR.write_text(RESET_PEAK)
    outputs: list[Any] = [function(*inputs, threads=threads)]
    added = resident("VmHWM") - before
    planned = function.host_function.arena_size(inputs, outputs, threads)
    return Row(name, added, sum(x.nbytes for x in inputs), sum(x.nbytes for x in outputs), planned)


def main() -> None:
    """Measure and print; exit code 1 if the limit is passed."""
    parser = argparse.ArgumentParser(description="memory that a call adds to the process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if not STATUS.exists():
        sys.exit("this needs /proc/self/status, so Linux")
    batch = 200_000
    rows = [
        measure("matmul.mlir", [(3000, 3000), (3000, 3000)], arguments.threads),
        measure("softmax.mlir", [(8000, 4000)], arguments.threads),
        measure("digits/digits.mlir", [(batch, 64), (64, 96), (96,), (96,), (96,), (96, 10), (10,)], arguments.threads),
    ]
    if arguments.json:
        print(json.dumps([{**vars(row), "ratio": row.ratio} for row in rows], indent=2))
    else:
        print(f"{'program':<22} {'added MB':>9} {'inputs':>8} {'outputs':>8} {'planned':>8} {'ratio':>6}")
        for row in rows:
            parts = (row.added, row.inputs, row.outputs, row.planned)
            added, inputs, outputs, planned = (f"{part / 1e6:.1f}" for part in parts)
            print(f"{row.name:<22} {added:>9} {inputs:>8} {outputs:>8} {planned:>8} {row.ratio:>6.2f}")
    if any(row.ratio > LIMIT for row in rows):
        sys.exit(f"more than {LIMIT} times inputs + outputs + planned buffers")


if __name__ == "__main__":
    main()
