"""Schedules for ``host`` follow the caches that this machine has, not those of the row it runs."""

from __future__ import annotations

from pathlib import Path

from crosstile.ir.printing import print_module
from crosstile.passes.schedules.products import PANEL_BYTES, PANEL_SHARE
from crosstile.passes.schedules.register_tiles import register_tiles
from crosstile.targets.host import host_machine
from crosstile.tools.program import Program

MATMUL = Path(__file__).resolve().parents[2] / "examples" / "matmul.mlir"


def test_a_panel_takes_its_share_of_this_machines_l2():
    host = host_machine()
    columns = register_tiles(host)[0].vectors * host.choose("f32", "f32", "f32").n
    step = min(host.memory("L2").capacity // PANEL_SHARE, PANEL_BYTES) // (columns * 4) // 8 * 8
    assert f"step {step} balanced(8)" in print_module(Program.load(MATMUL, "host").at("tile"))
