"""Errors of passes name the pass, the pattern and the operation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import ReturnOp
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, PatternRewriteWalker, RewritePattern, op_type_rewrite_pattern
from xdsl.utils.exceptions import PassFailedException

from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError, op_error
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.rendering import error_diagnostic, render

TEXT = """func.func @f(%a: i32) -> i32 {
  %b = arith.addi %a, %a : i32
  func.return %b : i32
}
"""


def run(apply: Callable[[ModuleOp], object]) -> str:
    """The rendered error of a pass that does ``apply``."""

    class _TestPass(ModulePass):
        name = "test-pass"

        def apply(self, ctx: Context, op: ModuleOp) -> None:
            apply(op)

    module = parse_module(TEXT, "f.mlir", make_context())
    with pytest.raises(CrosstileError) as caught:
        run_passes(make_context(), module, [_TestPass()])
    return render(error_diagnostic(caught.value), {"f.mlir": TEXT})


def pattern(action: Callable[[arith.AddiOp, PatternRewriter], object]) -> Callable[[ModuleOp], object]:
    """A pass body that applies ``action`` to every addition, from a pattern."""

    class RewriteAdd(RewritePattern):
        @op_type_rewrite_pattern
        def match_and_rewrite(self, op: arith.AddiOp, rewriter: PatternRewriter) -> None:
            action(op, rewriter)

    return lambda module: PatternRewriteWalker(RewriteAdd()).rewrite_module(module)


def test_an_error_for_the_user_names_the_pass():
    def refuse(op: arith.AddiOp, rewriter: PatternRewriter) -> None:
        raise op_error(op, "additions are not allowed; use a subtraction")

    assert run(pattern(refuse)) == (
        "f.mlir:2:3: error: additions are not allowed; use a subtraction\n"
        "  %b = arith.addi %a, %a : i32\n"
        "  ^\n"
        "note: in pass 'test-pass'\n"
    )


def test_a_failure_the_pass_foresaw_names_pattern_and_operation():
    def fail(op: arith.AddiOp, rewriter: PatternRewriter) -> None:
        raise PassFailedException("no luck")

    assert run(pattern(fail)).startswith("f.mlir:2:3: error: test-pass: RewriteAdd: 'arith.addi': no luck\n")


def test_a_defect_of_a_pattern_is_an_internal_error_at_the_operation():
    def crash(op: arith.AddiOp, rewriter: PatternRewriter) -> None:
        raise KeyError("oops")

    text = run(pattern(crash))
    assert text.startswith("f.mlir:2:3: error: test-pass: RewriteAdd: 'arith.addi': internal error: KeyError: 'oops'\n")
    assert text.endswith("note: this is a defect of the pass; --debug shows the traceback\n")


def test_a_defect_outside_of_patterns():
    def crash(module: ModuleOp) -> None:
        raise IndexError("far away")

    assert run(crash).startswith("f.mlir:1:1: error: test-pass: internal error: IndexError: far away\n")


def test_an_invalid_result_names_the_pass_that_made_it():
    def break_return(module: ModuleOp) -> None:
        for op in list(module.walk()):
            if isinstance(op, ReturnOp):
                op.operands = []

    assert run(break_return) == (
        "f.mlir:3:3: error: 'func.return' op Expected arguments to have the same types as the function output types:"
        " expected [i32], got []\n"
        "  func.return %b : i32\n"
        "  ^\n"
        "note: pass 'test-pass' left the module invalid\n"
    )


def test_a_pass_that_breaks_the_order_of_definitions_is_found():
    def move_up(module: ModuleOp) -> None:
        add = next(op for op in module.walk() if isinstance(op, arith.AddiOp))
        constant = arith.ConstantOp.from_int_and_width(1, 32)
        assert add.parent is not None
        add.parent.insert_op_after(constant, add)
        add.operands[1] = constant.result

    assert "'arith.addi' op operand #1 does not dominate this use" in run(move_up)
