"""Seconds from the start of a process to its first result and to its end: without the cache, with it, and of a command.

    python bench/start_up.py [--processes N] [--size N] [--json]

Each row is a process of its own, run ``--processes`` times after one that is not counted; rows take turns, so that a
busy machine disturbs all of them alike. The least counts most. Bytecode goes to a temporary folder: a process finds the
modules compiled, as after an installation, whatever ``PYTHONDONTWRITEBYTECODE`` says.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
MATMUL, LAYER = (str(ROOT / "examples" / f"{name}.mlir") for name in ("matmul", "matmul_bias_gelu"))
CALL = """
import os, sys
import numpy as np
import crosstile
function, size = crosstile.compile(sys.argv[1]), int(sys.argv[2])
matrix, row = np.ones((size, size), np.float32), np.ones(size, np.float32)
function(*([matrix, matrix] if "bias" not in sys.argv[1] else [matrix, matrix, row]), threads=1)
os.write(1, b"done")
"""
COMMAND = "import sys; from crosstile.tools.console import crosstile; sys.exit(crosstile())"


@dataclass(frozen=True)
class Row:
    """A process: what is said of it, its command, and whether it may use the cache."""

    name: str
    command: list[str]
    cached: bool


def rows(size: int) -> list[Row]:
    """The processes, with matrices of ``size`` x ``size``."""
    dims = [text for name in "MNK" for text in ("--dim", f"{name}={size}")]
    found = [Row("import numpy, llvmlite.binding", ["-c", "import numpy, llvmlite.binding"], False)]
    for name, path in (("matmul", MATMUL), ("matmul + bias + gelu", LAYER)):
        found.append(Row(f"{name}, nothing cached", ["-c", CALL, path, str(size)], False))
        found.append(Row(f"{name}, cached", ["-c", CALL, path, str(size)], True))
    run = ["-c", COMMAND, "run", MATMUL, *dims, "--repeat", "1", "--threads", "1"]
    return [*found, Row("crosstile run, cached", run, True)]


@dataclass(frozen=True)
class Seconds:
    """From the start of a process to what it first writes, which is when it has its first result, and to its end."""

    result: float
    end: float


def run(command: list[str], environment: dict[str, str]) -> Seconds:
    """The seconds of one process."""
    begin = perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        result = perf_counter() - begin
        process.stdout.read()
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
        return Seconds(result, perf_counter() - begin)


def measure(found: list[Row], processes: int, folder: str) -> dict[str, list[Seconds]]:
    """The seconds of every process of each row."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": folder, "CROSSTILE_CACHE_DIR": os.path.join(folder, "objects")}
    seconds: dict[str, list[Seconds]] = {row.name: [] for row in found}
    for turn in range(1 + processes):
        for row in found:
            times = run([sys.executable, *row.command], {**environment, "CROSSTILE_CACHE": str(int(row.cached))})
            if turn:
                seconds[row.name].append(times)
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=7)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(rows(arguments.size), arguments.processes, folder)
    if arguments.json:
        print(json.dumps({name: [vars(each) for each in times] for name, times in seconds.items()}))
        return
    print(f"{'':<36} {'first result':^15} {'end of process':^15}")
    print(f"{'process':<36} {'least':>7} {'median':>7} {'least':>7} {'median':>7}")
    for name, times in seconds.items():
        columns = [each.result for each in times], [each.end for each in times]
        print(f"{name:<36} " + " ".join(f"{min(column):7.3f} {median(column):7.3f}" for column in columns))


if __name__ == "__main__":
    main()
