"""Operations are counted from shapes: products 2 M N K, and one per float operation of an element."""

from __future__ import annotations

from pathlib import Path

import pytest
from operators import OPERATORS, arguments_of, program_text

from crosstile.tools.operation_count import count_operations
from crosstile.tools.program import Program

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_products_count_2_m_n_k():
    program = Program.load(EXAMPLES / "matmul.mlir")
    assert count_operations(program.at("nest"), "main", [(1000, 1001), (1001, 999)]) == 2 * 1000 * 999 * 1001
    assert count_operations(program.at("nest"), "main", [(0, 5), (5, 7)]) == 0


def test_hand_written_tile_programs_count_what_is_inside_the_extents():
    program = Program.load(EXAMPLES / "tile" / "gemm_cpu.mlir", start="tile")
    assert count_operations(program.at("tile"), "main", [(37, 600), (600, 70)]) == 2 * 37 * 600 * 70


def test_elementary_functions_count_one():
    counts = {name: count(name, "nest") for name in ("add", "exp", "matmul_add", "reduce_add", "transpose", "softmax")}
    elements = 7 * 9
    assert counts == {
        "add": elements,
        "exp": elements,
        "matmul_add": 2 * 7 * 9 * 5 + elements,
        "reduce_add": elements,
        "transpose": 0,
        "softmax": 5 * elements,
    }


def count(name: str, level: str) -> int:
    shapes = [array.shape for array in arguments_of(name)]
    return count_operations(Program.load(program_text(name)).at(level), "main", shapes)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_tile_level_computes_at_least_what_the_nests_ask_for(name: str):
    assert count(name, "tile") >= count(name, "nest")
