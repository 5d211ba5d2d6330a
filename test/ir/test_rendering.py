"""Golden texts of rendered errors."""

from __future__ import annotations

import pytest
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, LocationAttr, StringAttr, UnknownLoc

from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError, Diagnostic, Note, fuse_locations
from crosstile.ir.parsing import parse_module
from crosstile.ir.rendering import error_diagnostic, render
from crosstile.ir.verification import verify_module


def at(line: int, column: int, name: str = "f.mlir") -> LocationAttr:
    return FileLineColLoc(StringAttr(name), IntAttr(line), IntAttr(column))


SOURCES = {"f.mlir": "first line\n\tsecond line\nthird line\r\n"}


@pytest.mark.parametrize(
    ("diagnostic", "text"),
    [
        (Diagnostic("error", "bad", at(1, 7)), "f.mlir:1:7: error: bad\nfirst line\n      ^\n"),
        (Diagnostic("warning", "odd", at(2, 3)), "f.mlir:2:3: warning: odd\n\tsecond line\n\t ^\n"),
        (Diagnostic("remark", "done", at(3, 11)), "f.mlir:3:11: remark: done\nthird line\n          ^\n"),
        (Diagnostic("error", "bad", at(9, 1)), "f.mlir:9:1: error: bad\n"),
        (Diagnostic("error", "bad", at(1, 1, "other.mlir")), "other.mlir:1:1: error: bad\n"),
        (Diagnostic("error", "bad"), "error: bad\n"),
        (Diagnostic("error", "bad", UnknownLoc()), "error: bad\n"),
        (
            Diagnostic("error", "bad", at(1, 1), (Note("see"), Note("here", at(3, 1)))),
            "f.mlir:1:1: error: bad\nfirst line\n^\nnote: see\nf.mlir:3:1: note: here\nthird line\n^\n",
        ),
        (
            Diagnostic("error", "bad", fuse_locations(at(1, 1), at(3, 1))),
            "f.mlir:1:1: error: bad\nfirst line\n^\n"
            "f.mlir:3:1: note: the operation was fused from one here\nthird line\n^\n",
        ),
    ],
)
def test_rendering(diagnostic: Diagnostic, text: str):
    assert render(diagnostic, SOURCES) == text


def test_a_very_long_line_is_shown_around_the_caret():
    source = "a" * 500 + "!" + "b" * 500
    _, shown, caret = render(Diagnostic("error", "bad", at(1, 501)), {"f.mlir": source}).splitlines()
    assert len(shown) < 220 and shown.startswith("...a") and shown.endswith("b...")
    assert shown[caret.index("^")] == "!"


PROGRAMS = {
    "type mismatch": (
        "func.func @f(%a: i32, %b: i64) {\n  %c = arith.addi %a, %b : i32\n  func.return\n}\n",
        "f.mlir:2:23: error: operand is used with type i32, but has been previously used or defined with type i64\n"
        "  %c = arith.addi %a, %b : i32\n"
        "                      ^\n",
    ),
    "undefined value": (
        "func.func @f() {\n  %c = arith.addi %x, %x : i32\n  func.return\n}\n",
        "f.mlir:2:19: error: use of undefined value %x\n  %c = arith.addi %x, %x : i32\n                  ^\n",
    ),
    "defined twice": (
        "func.func @f(%a: i32) {\n  %a = arith.constant 1 : i32\n  func.return\n}\n",
        "f.mlir:2:3: error: SSA value %a is already defined\n  %a = arith.constant 1 : i32\n  ^\n",
    ),
    "unknown operation": (
        "func.func @f() {\n  func.retrun\n}\n",
        "f.mlir:2:3: error: unknown operation 'func.retrun'; did you mean 'func.return'?\n  func.retrun\n  ^\n",
    ),
    "unknown dialect": (
        "vectr.load\n",
        "f.mlir:1:1: error: unknown dialect 'vectr' of operation 'vectr.load'; did you mean 'vector'?\nvectr.load\n^\n",
    ),
    "unknown type": (
        "func.func private @f(!llvm.pointer)\n",
        "f.mlir:1:23: error: unknown type or attribute 'llvm.pointer'; did you mean 'llvm.ptr'?\n"
        "func.func private @f(!llvm.pointer)\n"
        "                      ^\n",
    ),
    "short name": (
        'func.func @f() {\n  "func.return"() : () -> ()\n}\nretrun\n',
        "f.mlir:4:1: error: unknown operation 'retrun'\nretrun\n^\n",
    ),
    "unclosed region": (
        "func.func @f() {\n  func.return\n",
        "f.mlir:3:1: error: expected an operation, a block label or '}' here\n\n^\n",
    ),
    "unmatched brace": (
        "func.func @f() {\n  func.return\n}\n}\n",
        "f.mlir:4:1: error: expected an operation here\n}\n^\n",
    ),
    "missing block": (
        "func.func @f() {\n  cf.br ^next\n}\n",
        "f.mlir:2:9: error: use of undefined block ^next\n  cf.br ^next\n        ^\n",
    ),
    "verifier": (
        "func.func @f() -> i32 {\n  func.return\n}\n",
        "f.mlir:2:3: error: 'func.return' op Expected arguments to have the same types as the function output types:"
        " expected [i32], got []\n  func.return\n  ^\n",
    ),
    "symbol": (
        "func.func @f() {\n  func.return\n}\nfunc.func @f() {\n  func.return\n}\n",
        "f.mlir:4:1: error: 'func.func' op symbol @f is defined twice\nfunc.func @f() {\n^\n"
        "f.mlir:1:1: note: it is defined here before\nfunc.func @f() {\n^\n",
    ),
    "wrong type for the operation": (
        "func.func @f(%a: f32) {\n  %b = arith.addi %a, %a : f32\n  func.return\n}\n",
        "f.mlir:2:3: error: 'arith.addi' op Unexpected attribute f32\n  %b = arith.addi %a, %a : f32\n  ^\n",
    ),
    "terminator": (
        "func.func @f() {\n  %a = arith.constant 1 : i32\n}\n",
        "f.mlir:2:3: error: 'arith.constant' op Operation arith.constant terminates block in single-block region but is"
        " not a terminator\n  %a = arith.constant 1 : i32\n  ^\n",
    ),
    "order": (
        "func.func @f(%a: i32) {\n  %b = arith.addi %c, %a : i32\n  %c = arith.addi %a, %a : i32\n  func.return\n}\n",
        "f.mlir:2:3: error: 'arith.addi' op operand #0 does not dominate this use\n"
        "  %b = arith.addi %c, %a : i32\n  ^\n"
        "f.mlir:3:3: note: the operand is defined here\n"
        "  %c = arith.addi %a, %a : i32\n  ^\n",
    ),
}


@pytest.mark.parametrize(("source", "text"), PROGRAMS.values(), ids=list(PROGRAMS))
def test_errors_in_programs(source: str, text: str):
    with pytest.raises(CrosstileError) as caught:
        verify_module(parse_module(source, "f.mlir", make_context()))
    assert render(error_diagnostic(caught.value), {"f.mlir": source}) == text
