"""Products of 8-bit floats: every number is widened exactly, and products are right on a core, of any sizes."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from command import call
from xdsl.dialects.builtin import f32

import crosstile
from crosstile.dialects.nn.bounded import format_of
from crosstile.dialects.nn.bounded_sums import cut_sums
from crosstile.dialects.nn.error_bound import bound_program, compare
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.targets.numerics import TruncatedSum
from crosstile.targets.truncated_sum import truncated_sum
from crosstile.tools.check import main as check

DTYPES = {"f8E4M3FN": ml_dtypes.float8_e4m3fn, "f8E5M2": ml_dtypes.float8_e5m2}
WIDER = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "f32": np.float32, "f64": np.float64}


@pytest.mark.parametrize("wide", WIDER)
@pytest.mark.parametrize("element", DTYPES)
def test_every_number_is_widened_exactly(element: str, wide: str) -> None:
    text = f"""func.func @main(%x: tensor<?x{element}>) -> tensor<?x{wide}> {{
      %y = nn.cast %x : tensor<?x{element}> -> tensor<?x{wide}>
      func.return %y : tensor<?x{wide}>
    }}"""
    every = np.arange(256, dtype=np.uint8).view(DTYPES[element])
    found = crosstile.compile(text, target="x86-64-avx2")(every)
    expected = every.astype(WIDER[wide])
    assert np.array_equal(found != found, expected != expected)
    finite = expected == expected
    assert np.array_equal(found[finite].view(np.uint8), expected[finite].view(np.uint8))


@pytest.mark.parametrize("sizes", [(35, 17, 13), (1, 1, 1), (4, 5, 0), (0, 3, 2)])
@pytest.mark.parametrize("element", DTYPES)
def test_right_on_a_core(element: str, sizes: tuple[int, int, int], tmp_path: Path) -> None:
    x = f"tensor<?x?x{element}>"
    path = tmp_path / "product.mlir"
    path.write_text(f"""func.func @main(%a: {x} {{nn.dims = ["M", "K"]}}, %b: {x} {{nn.dims = ["K", "N"]}})
        -> tensor<?x?xf32> {{
      %c = nn.matmul %a, %b accumulate f32 precision fast_accumulation : {x}, {x}
      func.return %c : tensor<?x?xf32>
    }}""")
    dims = [word for name, size in zip("MNK", sizes, strict=True) for word in ("--dim", f"{name}={size}")]
    result = call(check, path, *dims)
    assert result.code == 0, result.out + result.err


@pytest.mark.parametrize("k", [1, 32, 97, 640])
def test_the_bound_of_fast_accumulation_holds_for_sums_of_13_bits(k: int) -> None:
    assert cut_sums(format_of(f32)).roundoff == 2.0**-12
    x = "tensor<?x?xf8E4M3FN>"
    module = parse_module(
        f"""func.func @main(%a: {x}, %b: {x}) -> tensor<?x?xf32> {{
          %c = nn.matmul %a, %b accumulate f32 precision fast_accumulation : {x}, {x}
          func.return %c : tensor<?x?xf32>
        }}""",
        "product.mlir",
        make_context(),
    )
    random = np.random.default_rng(k)
    a, b = (random.standard_normal(shape).astype(DTYPES["f8E4M3FN"]) for shape in ((24, k), (k, 24)))
    ((expected, bound),) = bound_program(module, "main", [a, b])

    def summed(last: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        arithmetic, zeros = TruncatedSum(13, 32, result_fraction_bits=13), np.zeros((24, 24), np.float32)
        return truncated_sum(a[:, :last], b[:last], zeros, arithmetic, elements=("f8E4M3FN", "f8E4M3FN", "f32"))

    assert compare(summed(k), expected, bound).right
    assert not compare(summed(k // 2), expected, bound).right
