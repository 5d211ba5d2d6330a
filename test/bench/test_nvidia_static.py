"""The static comparison runs on what is installed here, and our kernels keep what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import nvidia_static
import pytest


def test_kernels_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    target = tmp_path / "static.json"
    monkeypatch.setattr("sys.argv", ["nvidia_static.py", "--only", "gemm-sm80", "gemm-sm90", "--json", str(target)])
    assert nvidia_static.main() == 0
    assert capsys.readouterr().out.startswith("kernel")
    ampere, hopper = (row["crosstile"] for row in json.loads(target.read_text()))
    assert ampere["spilled"] == hopper["spilled"] == 0
    assert (ampere["matrix"], hopper["matrix"]) == (64, 4)
    assert ampere["ways"] == hopper["ways"] == 1
    assert ampere["stall"] <= 530 and hopper["loop"] <= 40
