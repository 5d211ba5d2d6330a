"""The closed forms of fragments against the tables of the PTX ISA, written out as they stand there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator import fragments
from crosstile.targets.nvidia.simulator.elements import element
from crosstile.targets.nvidia.simulator.fragments import MMA_SHAPES, gather, mma_fragment, scatter, wgmma_fragment

Table = Callable[[int, int, int], tuple[int, int]]

# (operand, shape, type) -> (row, column) of element i, where g is groupID and t is threadID_in_group.
TABLES: dict[tuple[Any, tuple[int, int, int], str], Table] = {
    ("a", (8, 8, 4), "f64"): lambda g, t, i: (g, t),
    ("b", (8, 8, 4), "f64"): lambda g, t, i: (t, g),
    ("d", (8, 8, 4), "f64"): lambda g, t, i: (g, t * 2 + (i & 1)),
    ("a", (16, 8, 4), "f64"): lambda g, t, i: (g if i == 0 else g + 8, t),
    ("a", (16, 8, 8), "f64"): lambda g, t, i: (g if i in (0, 2) else g + 8, t if i in (0, 1) else t + 4),
    ("a", (16, 8, 16), "f64"): lambda g, t, i: (g, i * 2 + t) if i % 2 == 0 else (g + 8, i * 2 - 2 + t),
    ("b", (16, 8, 16), "f64"): lambda g, t, i: (t + i * 4, g),
    ("d", (16, 8, 16), "f64"): lambda g, t, i: (g if i < 2 else g + 8, t * 2 + (i & 1)),
    ("a", (16, 8, 4), "tf32"): lambda g, t, i: (g if i == 0 else g + 8, t),
    ("b", (16, 8, 4), "tf32"): lambda g, t, i: (t, g),
    ("a", (16, 8, 8), "tf32"): lambda g, t, i: (g if i in (0, 2) else g + 8, t if i in (0, 1) else t + 4),
    ("b", (16, 8, 8), "tf32"): lambda g, t, i: (t if i == 0 else t + 4, g),
    ("a", (16, 8, 8), "f16"): lambda g, t, i: (g if i in (0, 1) else g + 8, t * 2 + (i & 1)),
    ("b", (16, 8, 8), "bf16"): lambda g, t, i: (t * 2 + i, g),
    ("a", (16, 8, 16), "bf16"): lambda g, t, i: (
        g if 0 <= i < 2 or 4 <= i < 6 else g + 8,
        t * 2 + (i & 1) if i < 4 else t * 2 + (i & 1) + 8,
    ),
    ("b", (16, 8, 16), "f16"): lambda g, t, i: (t * 2 + (i & 1) if i < 2 else t * 2 + (i & 1) + 8, g),
    ("d", (16, 8, 16), "f16"): lambda g, t, i: (g if i < 2 else g + 8, t * 2 + (i & 1)),
    ("a", (8, 8, 16), "s8"): lambda g, t, i: (g, t * 4 + i),
    ("b", (8, 8, 16), "u8"): lambda g, t, i: (t * 4 + i, g),
    ("d", (8, 8, 16), "s8"): lambda g, t, i: (g, t * 2 + i),
    ("a", (16, 8, 16), "u8"): lambda g, t, i: (g if i < 4 else g + 8, t * 4 + (i & 3)),
    ("b", (16, 8, 16), "e4m3"): lambda g, t, i: (t * 4 + i, g),
    ("a", (16, 8, 32), "s8"): lambda g, t, i: (
        g if 0 <= i < 4 or 8 <= i < 12 else g + 8,
        t * 4 + (i & 3) if i < 8 else t * 4 + (i & 3) + 16,
    ),
    ("b", (16, 8, 32), "e5m2"): lambda g, t, i: (t * 4 + (i & 3) if i < 4 else t * 4 + (i & 3) + 16, g),
}


@pytest.mark.parametrize("operand", TABLES, ids=str)
def test_mma_fragments_are_those_of_the_manual(operand: Any) -> None:
    found, table = mma_fragment(*operand), TABLES[operand]
    for i, lane in np.ndindex(found.rows.shape):
        assert (found.rows[i, lane], found.columns[i, lane]) == table(lane >> 2, lane % 4, i)


def test_wgmma_fragments_are_those_of_the_manual() -> None:
    """Register Fragments and Shared Memory Matrix Layouts: row = 16 * warp + lane / 4 + 8 * ((i / 2) % 2), ..."""
    accumulator, left = wgmma_fragment("d", 24, "bf16"), wgmma_fragment("a", 24, "bf16")
    for i, thread in np.ndindex(accumulator.rows.shape):
        warp, lane = divmod(thread, 32)
        assert accumulator.rows[i, thread] == 16 * warp + lane // 4 + 8 * (i // 2 % 2)
        assert accumulator.columns[i, thread] == 8 * (i // 4) + 2 * (lane % 4) + i % 2
    for i, thread in np.ndindex(left.rows.shape):
        warp, lane = divmod(thread, 32)
        assert left.rows[i, thread] == 16 * warp + lane // 4 + 8 * (i // 2 % 2)
        assert left.columns[i, thread] == 8 * (i // 4) + 2 * (lane % 4) + i % 2


@pytest.mark.parametrize("name", MMA_SHAPES)
def test_a_fragment_holds_every_element_once(name: str) -> None:
    found = [mma_fragment(role, shape, name) for role in ("a", "b", "d") for shape in MMA_SHAPES[name]]
    if name != "f64":
        found += [wgmma_fragment("a", 8, name), wgmma_fragment("d", 8, name), wgmma_fragment("d", 256, name)]
    for fragment in found:
        held = np.zeros(fragment.shape, int)
        np.add.at(held, (fragment.rows, fragment.columns), 1)
        assert np.all(held == 1)


@pytest.mark.parametrize("name", ["f16", "tf32", "f64", "u8", "e4m3"])
def test_registers_and_matrices(name: str) -> None:
    fragment = mma_fragment("a", max(MMA_SHAPES[name]), name)
    kind = element(name)
    matrix = (np.arange(np.prod(fragment.shape)) % 200).reshape(fragment.shape).astype(kind.dtype)
    registers = scatter(matrix, fragment, name)
    assert registers.dtype == (np.uint64 if name == "f64" else np.uint32)
    assert registers.shape == (len(fragment.rows) // kind.per_register, 32)
    np.testing.assert_array_equal(gather(registers, fragment, name), matrix)
    # The first element of a register is in its low bits.
    low = int(registers[0, 5]) & ((1 << kind.bits) - 1)
    assert low == int(matrix[fragment.rows[0, 5], fragment.columns[0, 5]].tobytes()[::-1].hex(), 16)


def test_ldmatrix_gives_the_fragments_of_mma() -> None:
    """x4 of the quarters of a row-major 16x16 A, in the order of lanes; transposed, B from row-major memory."""
    matrix = np.arange(256, dtype=np.uint16).reshape(16, 16)
    quarters = [matrix[rows : rows + 8, k : k + 8] for k in (0, 8) for rows in (0, 8)]
    rows = np.stack([quarter.copy().view(np.uint8).reshape(8, 16) for quarter in quarters])
    want = scatter(matrix.view(np.float16), mma_fragment("a", (16, 8, 16), "f16"), "f16")
    np.testing.assert_array_equal(fragments.ldmatrix(rows), want)
    b = matrix[:, :8]
    halves = np.stack([b[k : k + 8].copy().view(np.uint8).reshape(8, 16) for k in (0, 8)])
    want = scatter(b.copy().view(np.float16), mma_fragment("b", (16, 8, 16), "f16"), "f16")
    np.testing.assert_array_equal(fragments.ldmatrix(halves, transposed=True), want)
    for transposed in (False, True):
        np.testing.assert_array_equal(fragments.stmatrix(fragments.ldmatrix(rows, transposed), transposed), rows)
    assert [fragments.matrix_row_lane(matrix, row) for matrix in (0, 3) for row in (0, 7)] == [0, 7, 24, 31]


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(CrosstileError, match=r"mma.sync .bf16 has no shape .m16n8k32; it has .m16n8k8, .m16n8k16"):
        mma_fragment("a", (16, 8, 32), "bf16")
    with pytest.raises(CrosstileError, match=r"no .m64n40 for .s8; n is one of 8, 16, 24, 32, 48"):
        wgmma_fragment("d", 40, "s8")
    with pytest.raises(CrosstileError, match=r"16x16 .f16 is 4 registers of 32 lanes, not 2 of 32"):
        gather(np.zeros((2, 32), np.uint32), mma_fragment("a", (16, 8, 16), "f16"), "f16")
    with pytest.raises(CrosstileError, match=r"no matrix instruction is simulated for .s4; known are .f64"):
        element("s4")
