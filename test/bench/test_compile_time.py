"""The benchmark of compile time runs and reports every phase."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_reports_every_phase(tmp_path: Path):
    program = tmp_path / "f.mlir"
    program.write_text("func.func @f(%a: i32) -> i32 {\n  %b = arith.addi %a, %a : i32\n  func.return %b : i32\n}\n")
    command = [
        sys.executable,
        ROOT / "bench" / "compile_time.py",
        program,
        "--repeat=1",
        "--pass-pipeline=cse,dce",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    report = json.loads(done.stdout)
    assert [row["phase"] for row in report["phases"]] == ["parse", "verify", "print", "cse", "dce"]
    assert all(row["operations"] == 4 and row["microseconds"] > 0 and row["xdsl"] > 0 for row in report["phases"])
    assert report["start-up seconds"].keys() == {"crosstile-opt", "xdsl-opt"}
