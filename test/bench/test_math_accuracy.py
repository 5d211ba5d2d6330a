"""The bench of elementary functions' errors: what it prints, and that it fails where a row promises too much."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import math_accuracy
import pytest


def test_a_sample_of_f64(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "rows.json"
    assert (
        math_accuracy.main(["--only", "exp2", "erf", "--element", "f64", "--samples", "100000", "--json", str(path)])
        == 0
    )
    assert "stated" in capsys.readouterr().out
    rows = json.loads(path.read_text())
    assert [row["function"] for row in rows] == ["exp2", "erf"]
    assert all(0.5 < row["ulp"] <= row["stated"] for row in rows)


def test_too_small_a_row_fails(monkeypatch: pytest.MonkeyPatch):
    rows = [replace(row, ulp=0.4) for row in math_accuracy.ROWS]
    monkeypatch.setattr(math_accuracy, "ROWS", rows)
    assert math_accuracy.main(["--only", "tanh", "--element", "f64", "--samples", "10000"]) == 1
