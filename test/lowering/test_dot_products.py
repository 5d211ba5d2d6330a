"""Products of bf16 and of bytes by instructions that take words of several k: tile, mma and machine code agree."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cpu_kernels import check_kernel, host_features, lowered

from crosstile.dialects.nn.error_bound import bound_program, compare
from crosstile.targets.host import resolve_machine
from crosstile.targets.x86.emit import emit
from crosstile.tools.program import Program

GEMM = """
tile.kernel @gemm(%A : memref<?x?xIN>, %B : memref<?x?xIN>, %C : memref<?x?xOUT>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %M = tile.dim %A, 0 : memref<?x?xIN>
  %K = tile.dim %A, 1 : memref<?x?xIN>
  %N = tile.dim %C, 1 : memref<?x?xOUT>
  %K_end = arith.maxsi %K, %c1 : index
  tile.parallel %i0 to %i1 = %c0 to %M grain 4 {
    tile.for %j, %nc = %c0 to %N step 128 {
      tile.for %k, %kblock = %c0 to %K_end step 24 balanced(8) {
        %k_rest = arith.subi %K, %k : index
        %kc = arith.minsi %kblock, %k_rest : index
        %later = arith.cmpi sgt, %k, %c0 : index
        STAGE
        tile.for %jr, %nr = %c0 to %nc step COLUMNS {
          tile.for %ir, %mr = %i0 to %i1 step 4 {
            %cw = tile.window %C[%ir, %j + %jr] extent [%mr, %nr] : memref<?x?xOUT> -> !tile.window<4xCOLUMNSxOUT>
            %acc = tile.load %cw if %later else ZERO : !tile.window<4xCOLUMNSxOUT> -> !tile.tile<4xCOLUMNSxOUT>
            %aw = tile.window %A[%ir, %k] extent [%mr, %kc] : memref<?x?xIN> -> !tile.window<4x24xIN>
            PIECE
            %r = tile.contract LHS, %b, %acc extent %kc intrinsic "INTRINSIC"
              : LHSTYPE, !tile.window<24xCOLUMNSxIN> -> !tile.tile<4xCOLUMNSxOUT>
            tile.store %r, %cw : !tile.tile<4xCOLUMNSxOUT>, !tile.window<4xCOLUMNSxOUT>
          }
        }
      }
    }
  }
}
"""
ROWS = "%B[%k, %j] extent [%kc, %nc] : memref<?x?xIN>"
COLUMNS = "%B by affine_map<(d0, d1)[s0, s1] -> (d1 + s1, d0 + s0)> [%k, %j] extent [%kc, %nc] : memref<?x?xIN>"
STAGED = (
    "%bp = tile.window BMEMORY -> !tile.window<24x128xIN>\n"
    "%bb = tile.stage %bp : !tile.window<24x128xIN> -> !tile.buffer<24x128xIN>"
)
STAGED_LHS = "%as = tile.stage %aw : !tile.window<4x24xIN> -> !tile.buffer<4x24xIN>\n"
FROM_BUFFER = "%b = tile.window %bb[0, %jr] extent [%kc, %nr] : !tile.buffer<24x128xIN> -> !tile.window<24xCOLUMNSxIN>"
IN_PLACE = "%b = tile.window %B[%k, %j + %jr] extent [%kc, %nr] : memref<?x?xIN> -> !tile.window<24xCOLUMNSxIN>"

BF16 = ("x86-64-avx512-bf16", "bf16", "f32", 64, "x86.avx512.vdpbf16ps.1x16x2.f32.bf16")
UNSIGNED_SIGNED = ("x86-64-avx512-vnni", "i8", "i32", 64, "x86.avx512.vpdpbusd.1x16x4.i32.ui8.si8")
SIGNED_UNSIGNED = ("x86-64-avx512-vnni", "i8", "i32", 32, "x86.avx512.vpdpbusd.1x16x4.i32.si8.ui8")
AVX_VNNI = ("x86-64-avx2-vnni", "i8", "i32", 16, "x86.avx.vpdpbusd.1x8x4.i32.ui8.si8")
KINDS = {"bf16": BF16, "ui8 x si8": UNSIGNED_SIGNED, "si8 x ui8": SIGNED_UNSIGNED, "avx-vnni": AVX_VNNI}
SIZES = [(1, 1, 1), (4, 64, 24), (5, 65, 25), (13, 131, 50), (3, 7, 0), (0, 5, 3), (7, 129, 7), (2, 16, 31)]


def gemm(kind: str, staged: bool, transposed: bool = False, lhs_tile: bool = False) -> str:
    _, element, result, columns, intrinsic = KINDS[kind]
    text = GEMM.replace("STAGE", STAGED if staged else "").replace("PIECE", FROM_BUFFER if staged else IN_PLACE)
    text = text.replace("BMEMORY", COLUMNS if transposed else ROWS)
    if lhs_tile:
        text = text.replace("%r = tile.contract", f"{STAGED_LHS}            %r = tile.contract")
    text = text.replace("LHSTYPE", "!tile.buffer<4x24xIN>" if lhs_tile else "!tile.window<4x24xIN>")
    text = text.replace("LHS", "%as" if lhs_tile else "%aw").replace("INTRINSIC", intrinsic)
    text = text.replace("COLUMNS", str(columns)).replace("ZERO", "0.0" if result == "f32" else "0")
    return text.replace("OUT", result).replace("IN", element)


def operands(kind: str, m: int, n: int, k: int, transposed: bool = False) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(m + 3 * n + 7 * k)
    shapes = (m, k), ((n, k) if transposed else (k, n))
    if kind == "bf16":
        a, b = (random.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in shapes)
        return a, b, np.full((m, n), np.nan, np.float32)
    a, b = (random.integers(-128, 128, shape).astype(np.int8) for shape in shapes)
    return a, b, np.full((m, n), -77, np.int32)


def exact(kind: str, a: Any, b: Any) -> Any:
    """The product in float64, or of the bytes with the signs that the instruction reads."""
    if kind == "bf16":
        with np.errstate(invalid="ignore"):
            return a.astype(np.float64) @ b.astype(np.float64)
    unsigned_lhs = "ui8" in KINDS[kind][4].split(".")[-2]
    a, b = (a.view(np.uint8), b) if unsigned_lhs else (a, b.view(np.uint8))
    return a.astype(np.int32) @ b.astype(np.int32)


def check(kind: str, text: str, size: tuple[int, int, int], transposed: bool = False, parts: int = 1) -> None:
    a, b, c = operands(kind, *size, transposed)
    _, _, found = check_kernel(text, "gemm", KINDS[kind][0], [a, b, c], parts)
    expected = exact(kind, a, b.T if transposed else b)
    if kind == "bf16":
        bound = (size[2] + 2) * 2.0**-24 * exact(kind, abs(a), abs(b.T if transposed else b))
        assert (abs(found - expected) <= bound + 1e-30).all()
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("staged", [True, False], ids=["packed", "in place"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_ragged_sizes(kind: str, staged: bool, size: tuple[int, int, int]) -> None:
    check(kind, gemm(kind, staged), size, parts=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(5, 65, 25), (4, 64, 24), (3, 17, 3)])
def test_right_factor_stored_by_columns_is_packed(kind: str, size: tuple[int, int, int]) -> None:
    check(kind, gemm(kind, True, transposed=True), size, transposed=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(3, 64, 160), (2, 65, 131), (1, 1, 70), (1, 17, 64)])
def test_words_of_rows_move_as_one_through_a_transposition(kind: str, size: tuple[int, int, int]) -> None:
    text = gemm(kind, True, transposed=True).replace("24x", "80x").replace("x24x", "x80x").replace("step 24", "step 80")
    check(kind, text, size, transposed=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(5, 65, 25), (4, 64, 24), (3, 17, 3)])
def test_left_factor_in_scratch(kind: str, size: tuple[int, int, int]) -> None:
    check(kind, gemm(kind, True, lhs_tile=True), size)


def test_infinities_beyond_the_end_of_k_do_not_reach_the_sum() -> None:
    """What lacks to whole words of k is zero in both factors, whatever stands next in memory."""
    a, b, c = operands("bf16", 4, 64, 25)
    a[1:, 0] = np.inf  # what follows the last element of the row before
    memory = np.full((26, 64), np.nan, ml_dtypes.bfloat16)
    memory[:25] = b
    for staged in (True, False):
        _, _, found = check_kernel(gemm("bf16", staged), "gemm", BF16[0], [a, memory[:25], c])
        assert np.isfinite(found[0]).all()


def test_special_values_of_bf16() -> None:
    """Subnormal numbers count as zero, infinities and NaN travel as through a multiply-add."""
    a, b, c = operands("bf16", 4, 64, 24)
    a[0, :4] = [np.inf, -np.inf, np.nan, 1e-40]
    b[1, :5] = [1e-40, -1e-40, np.inf, 3e38, -3e38]
    a[2] *= ml_dtypes.bfloat16(1e-30)
    b[:, 7] *= ml_dtypes.bfloat16(1e-12)
    found, expected = (
        np.isnan(x) for x in (check_kernel(gemm("bf16", True), "gemm", BF16[0], [a, b, c])[2], exact("bf16", a, b))
    )
    np.testing.assert_array_equal(found[1:], expected[1:])


def test_packed_words_are_read_in_single_loads() -> None:
    text = str(lowered(gemm("bf16", True), "tile-to-mma{target=x86-64-avx512-bf16}"))
    assert "(d1 floordiv 64), (d0 floordiv 2), (d1 mod 64), (d0 mod 2)" in text


MATMUL = """
func.func @main(%a: tensor<?x?xbf16>, %b: tensor<RHSxbf16>) -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b FLAGS accumulate f32 : tensor<?x?xbf16>, tensor<RHSxbf16> -> tensor<?x?xf32>
  func.return %c : tensor<?x?xf32>
}
"""


@pytest.mark.skipif("avx512bf16" not in host_features(), reason="this processor has no vdpbf16ps")
@pytest.mark.parametrize("transposed", [False, True], ids=["rows", "columns"])
def test_matmul_of_the_nn_level_is_inside_its_bound(transposed: bool) -> None:
    text = MATMUL.replace("RHS", "?x?").replace("FLAGS", "{transpose_b}" if transposed else "")
    program = Program.load(text, "x86-64-avx512-bf16")
    function = program.compile().function
    for m, n, k in [(1, 1, 1), (0, 3, 2), (3, 4, 0), (13, 17, 1031), (37, 131, 50), (97, 101, 3)]:
        a, b, _ = operands("bf16", m, n, k, transposed)
        inputs = function.check_inputs([a, b])
        (found,) = results = function.new_outputs(inputs)
        function(inputs, results)
        ((expected, bound),) = bound_program(lowered(text, ""), "main", [a, b])
        assert compare(found, expected, bound).right


def test_the_bound_lets_subnormal_numbers_vanish_and_no_others() -> None:
    module = lowered(MATMUL.replace("RHS", "?x?").replace("FLAGS", ""), "")
    one, nothing = np.ones((1, 1)).astype(ml_dtypes.bfloat16), np.zeros((1, 1), np.float32)
    for size, vanishes in ((2.0**-127, True), (2.0**-124, False)):
        ((expected, bound),) = bound_program(module, "main", [np.full((1, 1), size).astype(one.dtype), one])
        assert compare(nothing, expected, bound).right == vanishes


def test_a_product_of_bf16_chooses_the_dot_product_and_on_other_machines_the_multiply_add_of_f32() -> None:
    text = MATMUL.replace("RHS", "?x?").replace("FLAGS", "")
    passes = "decompose,nn-to-nest,fuse,choose-schedule{{target={}}}"
    assert "vdpbf16ps.1x16x2" in str(lowered(text, passes.format("x86-64-avx512-bf16")))
    assert 'intrinsic = "x86.avx2.fma.1x8x1.f32"' in str(lowered(text, passes.format("x86-64-avx2")))


def test_the_inner_loop_is_dot_products_and_loads() -> None:
    """One loop holds all full steps: a dot product per accumulator, no scalar arithmetic, nothing spilled."""
    passes = "tile-to-mma{target=x86-64-avx512-bf16},mma-to-hardware,expand-math,convert-scf-to-cf,convert-to-llvm"
    text = emit(lowered(gemm("bf16", True), passes), resolve_machine("x86-64-avx512-bf16"), "asm")
    assert isinstance(text, str)
    blocks = re.split(r"^\.LBB\d+_\d+:", text, flags=re.M)
    loop = next(block for block in blocks if "vdpbf16ps" in block)
    assert loop.count("vdpbf16ps") == 16
    assert loop.count("vbroadcastss") + loop.count("vpbroadcastd") == 4
    assert "rsp" not in loop and "ss\t" not in loop.replace("vbroadcastss", "")
