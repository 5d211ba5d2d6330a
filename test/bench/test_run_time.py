"""The benchmarks of run time and memory run, and their numbers are where they have to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def report(script: str, *flags: str) -> Any:
    command = [sys.executable, ROOT / "bench" / script, "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_cpu_smoke_reports_every_problem():
    found = report("cpu_smoke.py", "--repeat=1")
    rows = {row["name"].split()[0]: row for row in found["rows"]}
    assert rows.keys() == {"matmul", "softmax", "layer_norm", "gelu"} and len(found["rows"]) == 6
    assert all(row["seconds"] > 0 and row["numpy_seconds"] > 0 for row in found["rows"])
    # What the numbers are is the benchmark's to say; here they only have to be there.
    large = next(row for row in found["rows"] if row["name"] == "matmul 1024x1024x1024")
    assert large["share_of_peak"] > 0 and found["tile_over_nn"] > 0 and found["digits_compile_seconds"] > 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no threads")
def test_two_threads_are_held_against_one():
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    found = report("threads.py", "--only", "matmul-64", "matmul-256")
    assert found.keys() == {"matmul-64", "matmul-256"} and all(min(times) > 0 for times in found.values())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from /proc")
def test_a_call_takes_no_more_memory_than_its_arrays_and_buffers():
    for row in report("memory.py"):
        planned = row["outputs"] + row["planned"]
        assert row["ratio"] < 1.2 and row["added"] < 1.2 * planned + (8 << 20), row
