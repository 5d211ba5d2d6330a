"""The benchmark of one core measures, checks and reports; what it cannot measure is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from one_core.rounds import Process, idlest_core
from one_core.rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script on its tiniest row."""
    command = [sys.executable, str(BENCH / "cpu.py"), "--only", "matmul-16", "--rounds", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_row_reports_ours_the_limit_and_the_peers(tmp_path: Path):
    report = tmp_path / "cpu.json"
    done = run("--peers", "numpy", "--json", str(report))
    assert done.returncode == 0, done.stderr
    [row] = json.loads(report.read_text())
    assert row["row"] == "matmul-16"
    assert row["error"] == ""
    assert row["peers"].keys() == {"numpy"}
    assert 0 < row["limit"] < row["ours"]
    assert row["share"] == pytest.approx(row["limit"] / row["ours"])
    assert row["ratio_to_best"] > 0
    assert row["best"] == "numpy"
    assert "| matmul-16 |" in done.stdout
    assert "[1/1] matmul-16: numpy" in done.stderr
    assert ", ratio " in done.stderr


def test_an_interrupt_ends_with_the_rows_so_far(tmp_path: Path):
    report = tmp_path / "cpu.json"
    command = [sys.executable, str(BENCH / "cpu.py"), "--only", "matmul-256", "matmul-16", "--rounds", "2"]
    with subprocess.Popen(
        [*command, "--peers", "numpy", "--json", str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("[2/2]"):
                break
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "| matmul-256" in out and "| matmul-16" not in out
    assert "interrupted after 1 of 2 rows" in error and "Traceback" not in error
    assert [row["row"] for row in json.loads(report.read_text())] == ["matmul-256"]


@pytest.mark.parametrize("option", ["--json", "--picture"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(option: str):
    done = run("--peers", "numpy", option, "/nowhere/file")
    assert done.returncode == 2
    assert "cannot write '/nowhere/file': No such file or directory" in done.stderr


def test_an_unknown_row_is_refused():
    done = subprocess.run(
        [sys.executable, str(BENCH / "cpu.py"), "--only", "nothing"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "invalid choice: 'nothing'" in done.stderr


def test_a_wrong_result_is_found():
    row = next(row for row in ROWS if row.name == "matmul-16")
    expected = row.reference(row.inputs())
    right = expected.astype(np.float32)
    assert row.error(right, expected) < 1
    wrong = right.copy()
    wrong[3, 5] += 1e-3
    assert row.error(wrong, expected) > 1
    wrong[3, 5] = np.nan
    assert row.error(wrong, expected) > 1
    assert row.error(right[1:], expected) > 1


def test_a_process_that_ends_is_an_answer(monkeypatch: pytest.MonkeyPatch):
    process = Process("numpy", idlest_core())
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "the process ended" in process.ask(do="version")["error"]


def test_every_program_names_its_result():
    assert all("func.return" in row.text and row.aim > 0 for row in ROWS)
    assert len({row.name for row in ROWS}) == len(ROWS)
