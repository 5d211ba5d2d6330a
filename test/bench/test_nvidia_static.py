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


def test_rows_stay_as_short_as_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "static.json"
    most = {"any_softmax-sm80": (217, 530), "layer_norm-sm80": (172, 450), "any_rms_norm-sm90": (147, 320)}
    monkeypatch.setattr("sys.argv", ["nvidia_static.py", "--only", *most, "--json", str(target)])
    assert nvidia_static.main() == 0
    for row in json.loads(target.read_text()):
        found = row["crosstile"]
        assert found["spilled"] == 0 and found["ways"] == 1
        assert found["loop"] <= most[row["row"]][0] and found["stall"] <= most[row["row"]][1], row["row"]


def test_main_loops_of_convolutions_are_those_of_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "static.json"
    monkeypatch.setattr("sys.argv", ["nvidia_static.py", "--only", "conv2d-sm80", "conv2d-sm90", "--json", str(target)])
    monkeypatch.setattr(nvidia_static, "CONTENDERS", {"crosstile": "static_gpu.ours"})
    assert nvidia_static.main() == 0
    ampere, hopper = (row["crosstile"] for row in json.loads(target.read_text()))
    assert ampere["spilled"] == hopper["spilled"] == 0
    assert ampere["ways"] == hopper["ways"] == 1
    assert ampere["stall"] <= 530 and hopper["loop"] <= 40
