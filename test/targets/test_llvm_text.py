"""LLVM IR text: what each construct looks like, that LLVM reads it, and what is refused with a location."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_code import parse
from xdsl.dialects.builtin import BFloat16Type, Float16Type, f32, f64, i1, i32

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets import llvm_codegen
from crosstile.targets.llvm_constants import element_text, string_bytes
from crosstile.targets.llvm_text import print_llvm


def printed(text: str) -> str:
    """The LLVM IR of ``text``, which LLVM has read and verified."""
    result = print_llvm(parse(text))
    llvm_codegen.parse(result)
    return result


def test_a_loop_becomes_phis_and_constants_stand_where_they_are_used():
    text = printed("""llvm.func @sum(%p: !llvm.ptr {llvm.noalias, llvm.align = 64 : i64}, %n: i64) -> f32 {
      %zero = llvm.mlir.constant(0) : i64
      %one = llvm.mlir.constant(1) : i64
      %start = llvm.mlir.constant(0.5 : f32) : f32
      llvm.br ^loop(%zero, %start : i64, f32)
    ^loop(%i: i64, %sum: f32):
      %q = llvm.getelementptr %p[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
      %x = llvm.load %q {alignment = 4 : i64} : !llvm.ptr -> f32
      %next = llvm.fadd %sum, %x {fastmathFlags = #llvm.fastmath<nnan,contract>} : f32
      %j = llvm.add %i, %one overflow<nsw> : i64
      %again = llvm.icmp "slt" %j, %n : i64
      llvm.cond_br %again, ^loop(%j, %next : i64, f32), ^exit
    ^exit:
      llvm.return %next : f32
    }""")
    assert text.splitlines() == [
        "define float @sum(ptr noalias align 64 %p, i64 %n) {",
        "entry:",
        "  br label %block",
        "block:",
        "  %i = phi i64 [ 0, %entry ], [ %j, %block ]",
        "  %sum = phi float [ 0x3FE0000000000000, %entry ], [ %next, %block ]",
        "  %q = getelementptr float, ptr %p, i64 %i",
        "  %x = load float, ptr %q, align 4",
        "  %next = fadd nnan contract float %sum, %x",
        "  %j = add nsw i64 %i, 1",
        "  %again = icmp slt i64 %j, %n",
        "  br i1 %again, label %block, label %block.1",
        "block.1:",
        "  ret float %next",
        "}",
    ]


def test_intrinsics_are_declared_once_with_the_types_in_their_names():
    v, m = "vector<16xf32>", "vector<16xi1>"
    text = printed(f"""llvm.func @f(%v: {v}, %m: {m}, %p: !llvm.ptr) {{
      %a = llvm.intr.fma(%v, %v, %v) : ({v}, {v}, {v}) -> {v}
      %b = llvm.intr.fma(%a, %v, %v) : ({v}, {v}, {v}) -> {v}
      %c = llvm.intr.masked.load %p, %m, %b {{alignment = 4 : i32}} : (!llvm.ptr, {m}, {v}) -> {v}
      llvm.intr.masked.store %c, %p, %m {{alignment = 4 : i32}} : {v}, {m} into !llvm.ptr
      llvm.return
    }}""")
    declarations = [line for line in text.splitlines() if line.startswith("declare")]
    assert declarations == [
        "declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)",
        "declare <16 x float> @llvm.masked.load.v16f32.p0(ptr, i32 immarg, <16 x i1>, <16 x float>)",
        "declare void @llvm.masked.store.v16f32.p0(<16 x float>, ptr, i32 immarg, <16 x i1>)",
    ]


def test_function_attributes_are_grouped():
    module = parse("""
      llvm.func internal @a() attributes {passthrough = ["noinline", ["frame-pointer", "all"]]} { llvm.return }
      llvm.func @b() { llvm.return }
      llvm.func @c() { llvm.return }""")
    text = print_llvm(module, ["nounwind", '"target-cpu"="x86-64-v4"'])
    assert "define internal void @a() #0 {" in text
    assert "define void @b() #1 {" in text and "define void @c() #1 {" in text
    assert 'attributes #0 = { noinline "frame-pointer"="all" nounwind "target-cpu"="x86-64-v4" }' in text
    llvm_codegen.parse(text)


def test_globals_calls_structs_and_inline_assembly():
    text = printed("""
      llvm.mlir.global internal constant @table(dense<[1, 2]> : tensor<2xi32>) {alignment = 64} : !llvm.array<2 x i32>
      llvm.func @exp(f64) -> f64
      llvm.func @f(%x: f64, %i: i32) -> !llvm.struct<(f64, i32)> {
        %t = llvm.mlir.addressof @table : !llvm.ptr
        %e = llvm.call @exp(%x) : (f64) -> f64
        llvm.inline_asm has_side_effects "nop", "" : () -> ()
        %s = llvm.mlir.poison : !llvm.struct<(f64, i32)>
        %a = llvm.insertvalue %e, %s[0] : !llvm.struct<(f64, i32)>
        %b = llvm.insertvalue %i, %a[1] : !llvm.struct<(f64, i32)>
        llvm.return %b : !llvm.struct<(f64, i32)>
      }""")
    assert '@table = internal constant [8 x i8] c"\\01\\00\\00\\00\\02\\00\\00\\00", align 64' in text
    assert "declare double @exp(double)" in text
    assert "%e = call double @exp(double %x)" in text
    assert '  call void asm sideeffect "nop", ""()' in text
    assert "%b = insertvalue { double, i32 } %a, i32 %i, 1" in text


def test_names_never_clash():
    text = printed("""llvm.func @f(%block: i32, %v: i32) -> i32 {
      %0 = llvm.add %block, %v : i32
      llvm.br ^next
    ^next:
      %1 = llvm.add %0, %v : i32
      llvm.br ^last(%1 : i32)
    ^last(%v_1: i32):
      llvm.return %v_1 : i32
    }""")
    defined = [line.split(" = ")[0].strip() for line in text.splitlines() if " = " in line]
    assert len(defined) == len(set(defined))


@pytest.mark.parametrize(
    ("value", "type_", "text"),
    [
        (True, i1, "true"),
        (-5, i32, "-5"),
        (1.0, f32, "0x3FF0000000000000"),
        (-0.0, f64, "0x8000000000000000"),
        (math.inf, f32, "0x7FF0000000000000"),
        (0.1, f32, "0x3FB99999A0000000"),
        (1.5, Float16Type(), "0xH3E00"),
        (1.5, BFloat16Type(), "0xR3FC0"),
    ],
)
def test_numbers_are_written_by_their_bits(value: float, type_: object, text: str):
    assert element_text(value, type_) == text  # pyright: ignore[reportArgumentType]


@given(st.floats(width=32))
def test_every_f32_reaches_llvm_unchanged(value: float):
    written = int(element_text(value, f32), 16)
    (read,) = struct.unpack("<d", written.to_bytes(8, "little"))
    assert struct.pack("<f", read) == struct.pack("<f", value) or math.isnan(value)


def test_strings_escape_what_is_not_printable():
    assert string_bytes(b'a"\\\x00z') == "a\\22\\5C\\00z"


def test_an_operation_without_text_is_an_error_at_its_place():
    module = parse("""llvm.func @f(%p: !llvm.ptr) {
      %x = llvm.load %p atomic seq_cst {alignment = 4 : i64} : !llvm.ptr -> i32
      llvm.return
    }""")
    with pytest.raises(CrosstileError, match="atomic loads and stores have no text here") as caught:
        print_llvm(module)
    assert caught.value.location is not None
    with pytest.raises(CrosstileError, match=r"'func\.func' has no LLVM IR"):
        print_llvm(parse("func.func @f() { func.return }"))


def test_one_block_entered_twice_with_different_values_is_refused():
    module = parse("""llvm.func @f(%c: i1, %x: i32, %y: i32) -> i32 {
      llvm.cond_br %c, ^exit(%x : i32), ^exit(%y : i32)
    ^exit(%r: i32):
      llvm.return %r : i32
    }""")
    with pytest.raises(CrosstileError, match="enters one block with different values"):
        print_llvm(module)


def test_llvm_refusing_the_text_is_an_error_and_not_the_end():
    with pytest.raises(CrosstileError, match="LLVM refuses the LLVM IR that was made"):
        llvm_codegen.parse("define void @f() { ret i32 %nothing }")
