"""PTX text becomes instructions with their registers, guards, operands and places in the source program."""

from __future__ import annotations

import pytest

from crosstile.targets.nvidia.ptx.module import (
    Address,
    Immediate,
    Instruction,
    Module,
    Negated,
    Pair,
    Predicate,
    Register,
    Sink,
    Symbol,
    Vector,
)
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.ptx.scanner import PtxSyntaxError

HEADER = ".version 8.0\n.target sm_90a\n.address_size 64\n"


def module(body: str, declarations: str = "") -> Module:
    return parse_ptx(f"{HEADER}{declarations}\n.visible .entry k(.param .u64 p)\n{{\n{body}\n}}\n")


def instructions(body: str) -> tuple[Instruction, ...]:
    return module(".reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %rd<9>;\n" + body).functions["k"].body


@pytest.mark.parametrize(
    ("text", "operands"),
    [
        ("add.s32 %r3, %r1, -4;", (Register("%r3"), Register("%r1"), Immediate(-4))),
        ("mov.f32 %r1, 0f3F800000;", (Register("%r1"), Immediate(0x3F800000, "f32"))),
        ("mov.f32 %r1, -1.5;", (Register("%r1"), Immediate(0xBFF8000000000000, "f64"))),
        ("mov.u32 %r1, 0xffU;", (Register("%r1"), Immediate(255))),
        ("mov.u32 %r1, 017;", (Register("%r1"), Immediate(15))),
        ("mov.u32 %r1, smem+16;", (Register("%r1"), Symbol("smem", 16))),
        ("ld.shared.v2.b32 {%r1, %r2}, [%r3+-8];",
         (Vector((Register("%r1"), Register("%r2"))), Address(Register("%r3"), -8))),
        ("ld.param.u64 %rd1, [p];", (Register("%rd1"), Address(Symbol("p")))),
        ("elect.sync _|%p1, -1;", (Pair(Sink(), Register("%p1")), Immediate(-1))),
        ("selp.b32 %r1, 1, 0, !%p2;", (Register("%r1"), Immediate(1), Immediate(0), Negated(Register("%p2")))),
        ("cp.async.bulk.tensor.2d.shared::cluster.global.tile [%r1], [%rd1, {%r2, 8}], [%r3];",
         (Address(Register("%r1")), Address(Register("%rd1"), 0, (Vector((Register("%r2"), Immediate(8))),)),
          Address(Register("%r3")))),
        ("mov.u32 %r1, %tid.x;", (Register("%r1"), Register("%tid.x"))),
    ],
)  # fmt: skip
def test_operands(text: str, operands: tuple[object, ...]):
    (found,) = instructions(text)
    assert found.operands == operands
    assert parse_ptx(f".target sm_80\n.entry k() {{ .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<9>; {found} }}")


def test_opcode_modifiers_guard_and_comment():
    (found,) = instructions("@!%p1 ld.global.L1::no_allocate.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1]; // memref.load")
    assert (found.opcode, found.modifiers) == ("ld", ("global", "L1::no_allocate", "v4", "b32"))
    assert found.predicate == Predicate("%p1", True)
    assert found.comment == "memref.load"
    assert str(found) == "@!%p1 ld.global.L1::no_allocate.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1];"


def test_locations_name_the_file_even_if_it_is_declared_last():
    text = (
        HEADER + ".entry k()\n{\n.loc 1 12 5\nbar.sync 0;\n.loc 2 3 1, function_name $L, inlined_at 1 40 7\nret;\n}\n"
    )
    body = parse_ptx(text + '.file 1 "a.mlir"\n.file 2 "b.mlir"\n').functions["k"].body
    assert [str(one.location) for one in body] == ["a.mlir:12:5", "b.mlir:3:1, inlined at a.mlir:40:7"]
    assert str(body[1].location and body[1].location.outermost) == "a.mlir:40:7"
    assert [one.line for one in body] == [7, 9]


def test_names_of_an_inner_block_are_its_own():
    found = module(
        ".reg .pred done; .reg .b32 %r<3>;\n"
        "{ .reg .pred done; .reg .b32 %r<2>; wait: setp.eq.u32 done, %r1, %r2; @!done bra wait; }\n"
        "{ .reg .pred done; wait: @!done bra wait; }\n"
        "@done bra wait;\nwait: ret;\n"
    ).functions["k"]
    first, branch, second, last, _ = found.body
    assert first.operands == (Register("done#1"), Register("%r1#1"), Register("%r2#1"))
    assert (branch.predicate, branch.operands) == (Predicate("done#1", True), (Symbol("wait#1"),))
    assert (second.predicate, second.operands) == (Predicate("done#2", True), (Symbol("wait#2"),))
    assert (last.predicate, last.operands) == (Predicate("done"), (Symbol("wait"),))
    assert found.labels == {"wait#1": 0, "wait#2": 2, "wait": 4}


def test_variables_parameters_and_directives():
    text = (
        HEADER
        + ".global .align 4 .f32 table[2] = {1.5, -2.0};\n.extern .shared .align 1024 .b8 smem[];\n"
        + ".entry k(.param .align 64 .b8 map[128], .param .u64 .ptr .global .align 16 x, .param .f32 s)\n"
        + ".reqntid 384, 1, 1\n.minnctapersm 1\n{ .shared .align 8 .b64 bars[4]; ret; }\n"
    )
    found = parse_ptx(text)
    assert [(one.name, one.space, one.bytes, one.alignment) for one in found.globals] == [
        ("table", "global", 8, 4),
        ("smem", "shared", 0, 1024),
    ]
    assert found.globals[0].initial == bytes.fromhex("0000c03f 000000c0")
    kernel = found.functions["k"]
    assert [(one.bytes, one.alignment) for one in kernel.parameters] == [(128, 64), (8, 8), (4, 4)]
    assert kernel.directives == {"reqntid": (384, 1, 1), "minnctapersm": (1,)}
    assert [(one.name, one.bytes) for one in kernel.shared] == [("bars", 32)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("add.s32 %r1, %r2", "PTX line 6: expected ',' or ';', found '}'"),
        ("mov.u32 %r1, #;", "PTX line 5: unexpected character '#'"),
        (".reg .q32 %x;", "PTX line 5: unknown type '.q32'"),
        ("ld.global.u32 %r1, [%r1", "PTX line 6: expected ']', found '}'"),
    ],
)
def test_what_makes_no_sense_is_reported_with_its_line(body: str, message: str):
    text = f"{HEADER}.entry k() {{ .reg .b32 %r<3>;\n{body}\n}}\n"
    with pytest.raises(PtxSyntaxError) as error:
        parse_ptx(text)
    assert error.value.message == message
