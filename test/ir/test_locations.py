"""Every operation and block argument knows its place in the text, before and after rewriting."""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import FileLineColLoc, FusedLoc, ModuleOp, UnknownLoc
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, PatternRewriteWalker, RewritePattern, op_type_rewrite_pattern
from xdsl.rewriter import Rewriter

from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import first_file_location, fuse_locations, part_locations
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.printing import print_module


def parse(text: str, first_line: int = 1) -> ModuleOp:
    return parse_module(text, "f.mlir", make_context(), first_line)


def place(op: Operation) -> tuple[int, int]:
    found = first_file_location(op.location)
    assert found is not None, f"{op.name} has no location"
    return found.line.data, found.column.data


LOOP = """func.func @f(%m: memref<8xf32>, %n: index) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  scf.for %i = %zero to %n step %one {
    %x = memref.load %m[%i] : memref<8xf32>
      memref.store %x, %m[%i] : memref<8xf32>
  }
  func.return
}
"""


def test_nested_operations_terminators_and_arguments_are_stamped():
    module = parse(LOOP)
    places = {op.name: place(op) for op in module.walk()}
    assert places["func.func"] == (1, 1)
    assert places["arith.constant"] == (3, 3)
    assert places["memref.load"] == (5, 5)
    assert places["memref.store"] == (6, 7)
    assert places["scf.yield"] == places["scf.for"] == (4, 3)
    arguments = [argument for op in module.walk() for region in op.regions for argument in region.block.args]
    assert [str(argument.location) for argument in arguments] == [
        'loc("f.mlir":1:14)',
        'loc("f.mlir":1:33)',
        'loc("f.mlir":4:11)',
    ]


def test_generic_form_block_labels_and_a_line_offset():
    text = """"func.func"() <{sym_name = "f", function_type = (i32) -> ()}> ({
^bb0(%a: i32):
  "func.return"() : () -> ()
}) : () -> ()
"""
    module = parse(text, first_line=11)
    function = next(op for op in module.walk() if op.name == "func.func")
    assert place(function) == (11, 1)
    argument = function.regions[0].block.args[0]
    assert str(argument.location) == 'loc("f.mlir":12:6)'


def test_locations_in_the_text_win():
    text = 'func.func @f() {\n  func.return loc("original.py":7:9)\n} loc(unknown)\n'
    module = parse(text)
    locations = {op.name: op.location for op in module.walk()}
    assert str(locations["func.return"]) == 'loc("original.py":7:9)'
    assert isinstance(locations["func.func"], UnknownLoc)


def test_fusing():
    first, second = (parse("func.func @f() {\n  func.return\n}", line).location for line in (1, 5))
    assert fuse_locations(first, UnknownLoc(), first) == first
    assert fuse_locations() == UnknownLoc()
    fused = fuse_locations(first, second)
    assert isinstance(fused, FusedLoc) and part_locations(fused) == (first, second)
    assert fuse_locations(fused, second, first) == fused


PROGRAM = """func.func @f(%a: i32) -> i32 {
  %one = arith.constant 1 : i32
  %two = arith.constant 2 : i32
  %three = arith.addi %one, %two : i32
  %b = arith.addi %a, %three : i32
  func.return %b : i32
}
"""


def test_xdsl_passes_keep_locations():
    module = parse(PROGRAM)
    run_passes(make_context(), module, [make_pass(spec) for spec in parse_pipeline("canonicalize,cse,dce")])
    places = {op.name: place(op) for op in module.walk()}
    # The folded constant stands where the addition stood.
    assert places["arith.constant"] == (4, 3)
    assert places["arith.addi"] == (5, 3)


def test_lowerings_of_xdsl_leave_nothing_without_a_place():
    module = parse(LOOP)
    run_passes(
        make_context(), module, [make_pass(spec) for spec in parse_pipeline("convert-scf-to-cf,convert-memref-to-ptr")]
    )
    assert all(isinstance(first_file_location(op.location), FileLineColLoc) for op in module.walk())
    assert "scf.for" not in print_module(module)


class _AddChain(RewritePattern):
    """``(a + b) + c`` to ``a * (b - c)``: nonsense that makes two operations."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: arith.AddiOp, rewriter: PatternRewriter) -> None:
        inner = op.lhs.owner
        if isinstance(inner, arith.AddiOp):
            rewriter.insert(difference := arith.SubiOp(inner.rhs, op.rhs))
            rewriter.replace(op, arith.MuliOp(inner.lhs, difference.result))


class _AddChainPass(ModulePass):
    name = "add-chain"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        PatternRewriteWalker(_AddChain(), apply_recursively=False).rewrite_module(op)


CHAIN = """func.func @f(%a: i32, %b: i32, %c: i32) -> i32 {
  %d = arith.addi %a, %b : i32
  %e = arith.addi %d, %c : i32
  func.return %e : i32
}
"""


def test_inserted_operations_inherit_from_the_matched_one():
    module = parse(CHAIN)
    run_passes(make_context(), module, [_AddChainPass()])
    places = {op.name: place(op) for op in module.walk()}
    assert places["arith.subi"] == places["arith.muli"] == (3, 3)


class _FuseBoth(RewritePattern):
    """Two additions of a chain become one multiplication."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: arith.AddiOp, rewriter: PatternRewriter) -> None:
        users = [use.operation for use in op.result.uses]
        if len(users) == 1 and isinstance(users[0], arith.AddiOp):
            product = arith.MuliOp(op.lhs, op.rhs)
            rewriter.replace(op, product)
            rewriter.replace(users[0], [], [product.result])


class _FuseBothPass(ModulePass):
    name = "fuse-both"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        PatternRewriteWalker(_FuseBoth()).rewrite_module(op)


def test_an_operation_that_replaces_two_gets_both_locations():
    module = parse(CHAIN)
    run_passes(make_context(), module, [_FuseBothPass()])
    product = next(op for op in module.walk() if op.name == "arith.muli")
    assert str(product.location) == 'loc(fused["f.mlir":2:3, "f.mlir":3:3])'


class _PlainRewriterPass(ModulePass):
    """Uses neither patterns nor builders that could know a location."""

    name = "plain-rewriter"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for add in [nested for nested in op.walk() if isinstance(nested, arith.AddiOp)]:
            difference = arith.SubiOp(add.lhs, add.rhs)
            assert add.parent is not None
            add.parent.insert_op_before(difference, add)
            Rewriter.replace_op(add, arith.MuliOp(difference.result, difference.result))


def test_operations_made_in_other_ways_get_the_location_of_their_user():
    module = parse(CHAIN)
    run_passes(make_context(), module, [_PlainRewriterPass()])
    places = [(op.name, place(op)) for op in module.walk() if op.name.startswith("arith.")]
    assert places == [("arith.subi", (2, 3)), ("arith.muli", (2, 3)), ("arith.subi", (3, 3)), ("arith.muli", (3, 3))]
