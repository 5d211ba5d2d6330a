"""The benchmark of process starts runs every row, and cached processes start sooner."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_is_measured():
    command = [sys.executable, str(ROOT / "bench" / "start_up.py"), "--processes", "1", "--size", "8", "--json"]
    seconds = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)
    assert all(len(times) == 1 and 0 < times[0]["result"] <= times[0]["end"] for times in seconds.values())
    for name in ("matmul", "matmul + bias + gelu"):
        assert seconds[f"{name}, cached"][0]["result"] < seconds[f"{name}, nothing cached"][0]["result"]
