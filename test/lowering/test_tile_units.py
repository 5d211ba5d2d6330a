"""Products on tile registers: tile, mma and machine code agree bit for bit, at any size and however they are packed."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cpu_kernels import check_kernel, host_features, lowered

import crosstile
from crosstile.dialects.nn.error_bound import bound_program, compare
from crosstile.targets.host import resolve_machine
from crosstile.targets.x86.emit import emit
from crosstile.tools.program import Program

TARGET = "x86-64-amx"
GEMM = """
tile.kernel @gemm(%A : memref<?x?xIN>, %B : memref<?x?xIN>, %C : memref<?x?xOUT>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %M = tile.dim %C, 0 : memref<?x?xOUT>
  %K = tile.dim %B, 0 : memref<?x?xIN>
  %N = tile.dim %C, 1 : memref<?x?xOUT>
  %K_end = arith.maxsi %K, %c1 : index
  tile.parallel %i0 to %i1 = %c0 to %M grain 32 {
    tile.for %j, %nc = %c0 to %N step 64 {
      tile.for %k, %kblock = %c0 to %K_end step 128 balanced(64) {
        %k_rest = arith.subi %K, %k : index
        %kc = arith.minsi %kblock, %k_rest : index
        %later = arith.cmpi sgt, %k, %c0 : index
        %bp = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xIN> -> !tile.window<128x64xIN>
        %bb = tile.stage %bp : !tile.window<128x64xIN> -> !tile.buffer<128x64xIN>
        tile.for %ir, %mr = %i0 to %i1 step 32 {
          %aw = tile.window LEFT extent [%mr, %kc] : memref<?x?xIN> -> !tile.window<32x128xIN>
          %as = tile.stage %aw : !tile.window<32x128xIN> -> !tile.buffer<32x128xIN>
          tile.for %jr, %nr = %c0 to %nc step 32 {
            %cw = tile.window %C[%ir, %j + %jr] extent [%mr, %nr] : memref<?x?xOUT> -> !tile.window<32x32xOUT>
            %acc = tile.load %cw if %later else ZERO : !tile.window<32x32xOUT> -> !tile.tile<32x32xOUT>
            %b = tile.window RIGHT extent [%kc, %nr] : RIGHTMEMORY -> !tile.window<128x32xIN>
            %r = tile.contract LHS, %b, %acc extent %kc intrinsic "INTRINSIC"
              : LHSTYPE, !tile.window<128x32xIN> -> !tile.tile<32x32xOUT>
            tile.store %r, %cw : !tile.tile<32x32xOUT>, !tile.window<32x32xOUT>
          }
        }
      }
    }
  }
}
"""
BF16 = "x86.amx.tdpbf16ps.16x16x32.f32.bf16"
BYTES = {
    "s x s": "x86.amx.tdpbssd.16x16x64.i32.si8",
    "s x u": "x86.amx.tdpbsud.16x16x64.i32.si8.ui8",
    "u x s": "x86.amx.tdpbusd.16x16x64.i32.ui8.si8",
    "u x u": "x86.amx.tdpbuud.16x16x64.i32.ui8",
}
SIZES = [(1, 1, 1), (32, 32, 64), (33, 65, 97), (64, 64, 256), (3, 7, 0), (0, 5, 3), (7, 129, 200), (70, 31, 131)]
COLUMNS = "%A by affine_map<(d0, d1)[s0, s1] -> (d1 + s1, d0 + s0)> [%ir, %k]"


def gemm(intrinsic: str, staged: bool = True, transposed: bool = False) -> str:
    text = GEMM.replace("INTRINSIC", intrinsic).replace("LEFT", COLUMNS if transposed else "%A[%ir, %k]")
    text = text.replace("RIGHTMEMORY", "!tile.buffer<128x64xIN>" if staged else "memref<?x?xIN>")
    text = text.replace("RIGHT", "%bb[0, %jr]" if staged else "%B[%k, %j + %jr]")
    text = text.replace("LHSTYPE", "!tile.buffer<32x128xIN>" if staged else "!tile.window<32x128xIN>")
    text = text.replace("LHS", "%as" if staged else "%aw")
    types = ("bf16", "f32", "0.0") if intrinsic == BF16 else ("i8", "i32", "0")
    for name, value in zip(("IN", "OUT", "ZERO"), types, strict=True):
        text = re.sub(rf"(?<![A-Z]){name}(?![A-Z])", value, text)
    return text


def operands(intrinsic: str, m: int, n: int, k: int) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(m + 3 * n + 7 * k)
    if intrinsic == BF16:
        a, b = (random.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in ((m, k), (k, n)))
        return a, b, np.full((m, n), np.nan, np.float32)
    a, b = (random.integers(-128, 128, shape).astype(np.int8) for shape in ((m, k), (k, n)))
    return a, b, np.full((m, n), -77, np.int32)


def exact(intrinsic: str, a: Any, b: Any) -> Any:
    if intrinsic == BF16:
        return a.astype(np.float64) @ b.astype(np.float64)
    unsigned = intrinsic.split(".")[2][4:6]
    a, b = (x.view(np.uint8) if sign == "u" else x for x, sign in zip((a, b), unsigned, strict=True))
    return a.astype(np.int32) @ b.astype(np.int32)


def check(intrinsic: str, text: str, size: tuple[int, int, int], transposed: bool = False) -> None:
    a, b, c = operands(intrinsic, *size)
    given = np.ascontiguousarray(a.T) if transposed else a
    _, _, found = check_kernel(text, "gemm", TARGET, [given, b, c], 2)
    if intrinsic == BF16:
        bound = (size[2] + 2) * 2.0**-24 * exact(intrinsic, abs(a), abs(b))
        assert (abs(found - exact(intrinsic, a, b)) <= bound + 1e-30).all()
    else:
        np.testing.assert_array_equal(found, exact(intrinsic, a, b))


@pytest.mark.parametrize("size", SIZES)
def test_ragged_sizes_of_bf16(size: tuple[int, int, int]) -> None:
    check(BF16, gemm(BF16), size)


@pytest.mark.parametrize("signs", BYTES)
@pytest.mark.parametrize("size", SIZES[2:5])
def test_ragged_sizes_of_bytes(signs: str, size: tuple[int, int, int]) -> None:
    check(BYTES[signs], gemm(BYTES[signs]), size)


@pytest.mark.parametrize("intrinsic", [BF16, BYTES["u x s"]])
@pytest.mark.parametrize("size", [(33, 65, 97), (5, 3, 64)])
def test_factors_that_are_not_packed_are_packed_where_they_are_used(intrinsic: str, size: tuple[int, int, int]) -> None:
    check(intrinsic, gemm(intrinsic, staged=False), size)


@pytest.mark.parametrize("size", [(33, 35, 70), (32, 32, 128), (1, 3, 5), (0, 3, 2), (5, 3, 0), (70, 31, 131)])
@pytest.mark.parametrize("intrinsic", [BF16, BYTES["s x s"]])
def test_a_left_factor_stored_by_columns(intrinsic: str, size: tuple[int, int, int]) -> None:
    check(intrinsic, gemm(intrinsic, transposed=True), size, transposed=True)


def test_columns_of_a_left_factor_are_transposed_in_registers() -> None:
    """Sixteen loads of words, shuffles, sixteen stores of rows; no element is moved by itself."""
    text = str(lowered(gemm(BF16, transposed=True), f"tile-to-mma{{target={TARGET}}}"))
    words = r"mma.load %A\[.*!mma.fragment<32x16xbf16, #mma.layout<tile\(32, 16\) element\(2:16\)"
    assert re.search(words, text) and "mma.transpose" in text and "!mma.fragment<1x1xbf16" not in text


def test_infinities_beyond_the_end_of_k_do_not_reach_the_sum() -> None:
    a, b, c = operands(BF16, 40, 40, 33)
    a[1:, 0] = np.inf  # what follows the last element of the row before
    memory = np.full((64, 40), np.nan, ml_dtypes.bfloat16)
    memory[:33] = b
    for staged in (True, False):
        _, _, found = check_kernel(gemm(BF16, staged), "gemm", TARGET, [a, memory[:33], c])
        assert np.isfinite(found[0]).all()


def test_the_inner_loop_is_four_loads_and_four_products_and_nothing_is_spilled() -> None:
    passes = f"tile-to-mma{{target={TARGET}}},mma-to-hardware,expand-math,convert-scf-to-cf,convert-to-llvm"
    text = emit(lowered(gemm(BF16), passes), resolve_machine(TARGET), "asm")
    assert isinstance(text, str)
    assert text.count("ldtilecfg") == 1
    loop = next(block for block in re.split(r"^\.LBB\d+_\d+:", text, flags=re.M) if "tdpbf16ps" in block)
    loop = loop[: loop.index("\tj", loop.index("tdpbf16ps"))]
    assert [loop.count(name) for name in ("tdpbf16ps", "tileloadd\t", "tileloaddt1", "tilestored")] == [4, 2, 2, 0]
    # Each register is loaded right before the first product that takes it.
    order = "".join("p" if name == "tdpbf16ps" else "l" for name in re.findall(r"tdpbf16ps|tileloaddt?1?", loop))
    assert order == "llplplpp"


def test_tile_registers_that_are_read_side_by_side_lie_behind_each_other() -> None:
    """The 16 words of a row of a register, then those of the next: a register is a kilobyte of whole lines."""
    text = str(lowered(gemm(BF16), f"tile-to-mma{{target={TARGET}}}"))
    right = "(d0, d1) -> ((d1 floordiv 16), (d0 floordiv 2), (d1 mod 16), (d0 mod 2))"
    left = "(d0, d1) -> ((d0 floordiv 32), (d1 floordiv 32), (d0 mod 32), (d1 mod 32))"
    assert re.findall(r"mma.alloc : !mma.buffer<\w+, affine_map<(.*)>>", text)[:2] == [right, left]


def wide(columns: int) -> str:
    """The product with blocks of so many columns."""
    return (
        gemm(BF16)
        .replace("32x32x", f"32x{columns}x")
        .replace("128x32x", f"128x{columns}x")
        .replace("step 32 {\n            %cw", f"step {columns} {{\n            %cw")
    )


@pytest.mark.parametrize("size", [(33, 70, 97), (32, 64, 128), (1, 1, 1), (5, 130, 0)])
def test_sums_that_exceed_the_tile_registers_live_in_scratch(size: tuple[int, int, int]) -> None:
    check(BF16, wide(64), size)


MATMUL = """
func.func @main(%a: tensor<?x?xbf16>, %b: tensor<?x?xbf16>, %d: tensor<?xf32>) -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b accumulate f32 : tensor<?x?xbf16>, tensor<?x?xbf16> -> tensor<?x?xf32>
  %e = nn.add %c, %d : tensor<?x?xf32>, tensor<?xf32>
  %r = nn.relu %e : tensor<?x?xf32>
  func.return %r : tensor<?x?xf32>
}
"""


@pytest.mark.skipif(not set(resolve_machine(TARGET).features) <= host_features(), reason="no tile registers here")
def test_matmul_of_the_nn_level_with_an_epilogue_is_inside_its_bound_and_rows_do_not_depend_on_the_batch() -> None:
    function = Program.load(MATMUL, TARGET).compile().function
    for m, n, k in [(1, 1, 1), (0, 3, 2), (3, 4, 0), (17, 17, 1031), (37, 131, 50), (97, 101, 3)]:
        a, b, _ = operands(BF16, m, n, k)
        inputs = function.check_inputs([a, b, np.linspace(-1, 1, n, dtype=np.float32)])
        (found,) = results = function.new_outputs(inputs)
        function(inputs, results, 2)
        ((expected, bound),) = bound_program(lowered(MATMUL, ""), "main", inputs)
        assert compare(found, expected, bound).right
        if m > 1:
            first = [inputs[0][:1], *inputs[1:]]
            (alone,) = results = function.new_outputs(first)
            function(first, results)
            np.testing.assert_array_equal(alone, found[:1])


@pytest.mark.skipif(not set(resolve_machine(TARGET).features) <= host_features(), reason="no tile registers here")
@pytest.mark.parametrize(("element", "total", "dtype"), [("bf16", "f32", ml_dtypes.bfloat16), ("i8", "i32", np.int8)])
def test_products_of_a_single_row_are_left_to_vector_registers(element: str, total: str, dtype: Any) -> None:
    text = f"""func.func @main(%q: tensor<3x65x{element}>, %k: tensor<3x?x65x{element}>) -> tensor<3x?x{total}> {{
      %y = nn.contract [h, n, d] %q (h, d), %k (h, n, d) -> (h, n) accumulate {total}
          : tensor<3x65x{element}>, tensor<3x?x65x{element}> -> tensor<3x?x{total}>
      func.return %y : tensor<3x?x{total}>
    }}"""
    function, random = crosstile.compile(text, target=TARGET), np.random.default_rng(0)
    for rows in (0, 1, 17, 133):
        q, k = ((9 * random.standard_normal(shape)).astype(dtype) for shape in ((3, 65), (3, rows, 65)))
        expected = np.einsum("hd,hnd->hn", q.astype(float), k.astype(float))
        np.testing.assert_allclose(function(q, k), expected, rtol=1e-4, atol=1e-3)


INTEGERS = """
func.func @main(%a: tensor<?x?xi8>, %b: tensor<?x?xi8>) -> tensor<?x?xi32> {
  %c = nn.matmul %a, %b {MARKS} accumulate i32 : tensor<?x?xi8>, tensor<?x?xi8> -> tensor<?x?xi32>
  func.return %c : tensor<?x?xi32>
}
"""
MARKS = {"s x s": "", "u x s": "unsigned_a", "s x u": "unsigned_b", "u x u": "unsigned_a, unsigned_b"}


@pytest.mark.skipif(not set(resolve_machine(TARGET).features) <= host_features(), reason="no tile registers here")
@pytest.mark.parametrize("signs", MARKS)
def test_products_of_bytes_are_exact_at_the_nn_level(signs: str) -> None:
    text = INTEGERS.replace("{MARKS} ", f"{{{MARKS[signs]}}} " if MARKS[signs] else "")
    assert BYTES[signs] in str(Program.load(text, TARGET).at("tile"))
    function = Program.load(text, TARGET).compile().function
    for m, n, k in [(1, 1, 1), (0, 3, 2), (3, 4, 0), (37, 131, 70), (17, 5, 1031)]:
        a, b, _ = operands(BYTES[signs], m, n, k)
        inputs = function.check_inputs([a, b])
        (found,) = results = function.new_outputs(inputs)
        function(inputs, results)
        ((expected, bound),) = bound_program(lowered(text, ""), "main", inputs)
        np.testing.assert_array_equal(found, exact(BYTES[signs], a, b))
        assert compare(found, expected, bound).right
        assert not k or not found.size or not compare(found + 1, expected, bound).right
