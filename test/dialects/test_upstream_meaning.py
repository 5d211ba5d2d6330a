"""The meaning of arith, math, memref, tensor, scf, cf and affine, each against NumPy or exact arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.dialects.arith import AddfOp

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.upstream_meaning import MEANINGS
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.ir.verification import verify_module


def run(text: str, *arguments: Any, observe: Any = None) -> tuple[Any, ...]:
    module = parse_module(text, "test.mlir", make_context())
    verify_module(module)
    return Interpreter(module, MEANINGS, observe=observe).call("f", arguments)


def binary(op: str, type_: str, lhs: Any, rhs: Any) -> Any:
    body = f"%r = {op} %x, %y : {type_} func.return %r : {type_}"
    (result,) = run(f"func.func @f(%x: {type_}, %y: {type_}) -> {type_} {{ {body} }}", lhs, rhs)
    return result


@pytest.mark.parametrize(
    ("op", "lhs", "rhs", "expected"),
    [
        ("arith.divsi", -7, 2, -3),
        ("arith.divsi", 7, -2, -3),
        ("arith.floordivsi", -7, 2, -4),
        ("arith.ceildivsi", -7, 2, -3),
        ("arith.ceildivsi", 7, 2, 4),
        ("arith.remsi", -7, 2, -1),
        ("arith.remui", -7, 4, 1),
        ("arith.divui", -2, 2, 2**31 - 1),
        ("arith.minui", -1, 3, 3),
        ("arith.maxsi", -1, 3, 3),
        ("arith.addi", 2**31 - 1, 1, -(2**31)),
        ("arith.shrui", -1, 31, 1),
        ("arith.shrsi", -8, 1, -4),
        ("arith.xori", 6, 3, 5),
    ],
)
def test_integers_wrap_and_round_as_twos_complement(op: str, lhs: int, rhs: int, expected: int):
    assert binary(op, "i32", lhs, rhs) == expected
    if op not in {"arith.divui", "arith.shrui", "arith.addi", "arith.remui"}:
        assert binary(op, "index", lhs, rhs) == expected


def test_one_bit_integers_are_signed_where_the_operation_is():
    assert binary("arith.addi", "i1", True, True) == np.bool_(False)
    text = "func.func @f(%x: i1) -> (i32, i32, f32) { %s = arith.extsi %x : i1 to i32 %u = arith.extui %x : i1 to i32 "
    text += "%f = arith.sitofp %x : i1 to f32 func.return %s, %u, %f : i32, i32, f32 }"
    assert run(text, True) == (-1, 1, -1.0)


def test_maximum_and_minimum_order_zeros_and_propagate_nan():
    assert np.signbit(binary("arith.minimumf", "f32", 0.0, -0.0))
    assert not np.signbit(binary("arith.maximumf", "f32", -0.0, 0.0))
    assert np.isnan(binary("arith.maximumf", "f32", np.nan, 1.0))
    assert binary("arith.maxnumf", "f32", np.nan, 1.0) == 1.0


def test_scalar_bodies_run_on_whole_arrays():
    text = """func.func @f(%x: f32, %y: f32) -> f32 {
      %zero = arith.constant 0.0 : f32
      %less = arith.cmpf olt, %x, %zero : f32
      %r = arith.select %less, %y, %x : f32
      func.return %r : f32
    }"""
    module = parse_module(text, "test.mlir", make_context())
    interpreter = Interpreter(module, MEANINGS)
    x = np.array([-1.0, 2.0, np.nan], np.float32)
    block = interpreter.lookup("f").regions[0].block
    (result,) = interpreter.run_block(block, (x, np.float32(9)))
    np.testing.assert_array_equal(result, np.array([9.0, 2.0, np.nan], np.float32))
    assert result.dtype == np.float32


def test_fma_rounds_once():
    a = np.float32(1 + 2**-12)
    text = "func.func @f(%x: f32, %c: f32) -> f32 { %y = math.fma %x, %x, %c : f32 func.return %y : f32 }"
    assert run(text, a, np.float32(-1 - 2**-11)) == (np.float32(2**-24),)


def test_math_of_f32_is_rounded_once_from_float64():
    x = np.linspace(-3, 3, 101, dtype=np.float32)
    text = "func.func @f(%x: tensor<101xf32>) -> tensor<101xf32> "
    text += "{ %y = math.tanh %x : tensor<101xf32> func.return %y : tensor<101xf32> }"
    np.testing.assert_array_equal(run(text, x)[0], np.tanh(x.astype(np.float64)).astype(np.float32))


def test_views_alias_and_out_of_bounds_is_located():
    text = """func.func @f(%arena: memref<?xi8>, %n: index) -> f32 {
      %shift = arith.constant 8 : index
      %a = memref.view %arena[%shift][%n] : memref<?xi8> to memref<?xf32>
      %one = arith.constant 1 : index
      %v = memref.subview %a[1] [2] [1] : memref<?xf32> to memref<2xf32, strided<[1], offset: 1>>
      %x = arith.constant 2.5 : f32
      memref.store %x, %v[%one] : memref<2xf32, strided<[1], offset: 1>>
      %two = arith.constant 2 : index
      %r = memref.load %a[%two] : memref<?xf32>
      func.return %r : f32
    }"""
    arena = np.zeros(24, np.int8)
    assert run(text, arena, 4) == (2.5,)
    assert arena[16:20].view(np.float32)[0] == 2.5
    with pytest.raises(CrosstileError, match="bytes 8 to 28, the source has 24") as caught:
        run(text, arena, 5)
    assert "test.mlir" in str(caught.value.location)


def test_reading_fresh_memory_is_an_error():
    text = """func.func @f() -> f32 {
      %m = memref.alloc() : memref<4xf32>
      %i = arith.constant 3 : index
      %r = memref.load %m[%i] : memref<4xf32>
      func.return %r : f32
    }"""
    with pytest.raises(CrosstileError, match=r"reads element \[3\], which was never written"):
        run(text)


def test_structured_and_unstructured_control_flow_agree():
    structured = """func.func @f(%n: index) -> index {
      %zero = arith.constant 0 : index
      %one = arith.constant 1 : index
      %r = scf.for %i = %zero to %n step %one iter_args(%sum = %zero) -> (index) {
        %next = arith.addi %sum, %i : index
        scf.yield %next : index
      }
      func.return %r : index
    }"""
    unstructured = """func.func @f(%n: index) -> index {
      %zero = arith.constant 0 : index
      %one = arith.constant 1 : index
      cf.br ^head(%zero, %zero : index, index)
    ^head(%i: index, %sum: index):
      %more = arith.cmpi slt, %i, %n : index
      cf.cond_br %more, ^body, ^exit
    ^body:
      %next = arith.addi %sum, %i : index
      %after = arith.addi %i, %one : index
      cf.br ^head(%after, %next : index, index)
    ^exit:
      func.return %sum : index
    }"""
    for n in (0, 1, 7):
        assert run(structured, n) == run(unstructured, n) == (n * (n - 1) // 2,)


def test_affine_maps_divide_toward_minus_infinity():
    text = """func.func @f(%i: index) -> (index, index, index) {
      %q = affine.apply affine_map<(d0) -> (d0 floordiv 4)> (%i)
      %m = affine.apply affine_map<(d0) -> (d0 mod 4)> (%i)
      %c = affine.apply affine_map<(d0) -> (d0 ceildiv 4)> (%i)
      func.return %q, %m, %c : index, index, index
    }"""
    assert run(text, -5) == (-2, 3, -1)


def test_calls_check_arguments_and_name_what_exists():
    text = "func.func @f(%x: tensor<?x3xf32>) { func.return }"
    with pytest.raises(CrosstileError, match="argument 0 of 'f' is a tensor<\\?x3xf32>, found shape 2x4"):
        run(text, np.zeros((2, 4), np.float32))
    with pytest.raises(CrosstileError, match="takes 1 arguments, found 0"):
        run(text)
    with pytest.raises(CrosstileError, match="no function or kernel is named 'f'; the module defines 'g'"):
        run("func.func @g() { func.return }")


def test_an_operation_without_a_meaning_is_named():
    with pytest.raises(CrosstileError, match=r"'memref\.dma_wait' has no executable meaning here"):
        text = """func.func @f(%m: memref<1xi32>, %i: index) {
          "memref.dma_wait"(%m, %i, %i) : (memref<1xi32>, index, index) -> ()
          func.return
        }"""
        run(text, np.zeros(1, np.int32), 0)


def test_an_observer_sees_and_replaces_results():
    text = "func.func @f(%x: f32) -> f32 { %y = arith.addf %x, %x : f32 func.return %y : f32 }"

    def perturb(op: Any, results: Any) -> Any:
        return [results[0] + np.float32(1)] if isinstance(op, AddfOp) else results

    assert run(text, 2.0, observe=perturb) == (5.0,)


def test_tensor_slices_and_padding():
    text = """func.func @f(%x: tensor<3x4xf32>) -> (tensor<2xf32>, tensor<5x4xf32>) {
      %s = tensor.extract_slice %x[1, 0] [1, 2] [1, 2] : tensor<3x4xf32> to tensor<2xf32>
      %p = tensor.pad %x low[1, 0] high[1, 0] {
      ^bb0(%i: index, %j: index):
        %z = arith.constant 7.0 : f32
        tensor.yield %z : f32
      } : tensor<3x4xf32> to tensor<5x4xf32>
      func.return %s, %p : tensor<2xf32>, tensor<5x4xf32>
    }"""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    sliced, padded = run(text, x)
    np.testing.assert_array_equal(sliced, x[1, ::2])
    np.testing.assert_array_equal(padded, np.pad(x, ((1, 1), (0, 0)), constant_values=7))
