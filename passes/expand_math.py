"""``expand-math``: elementary functions of f32 become arithmetic and bit operations, on scalars and vectors.

In and out: a module at hardware level. ``exp``, ``exp2``, ``log``, ``tanh``, ``erf`` and ``rsqrt`` of f32 are replaced
by the formulas of ``math_formulas.py``; what they compute is then the same, bit for bit, in NumPy and on any machine
with a correctly rounded fma. Other types and functions stay and become calls of the C library. ::

    %y = math.exp2 %x : vector<16xf32>
    ==>
    %low = arith.constant dense<-151.0> : vector<16xf32>     (constants stand at the start of the function)
    ...
    %below = arith.cmpf olt, %x, %low : vector<16xf32>
    %0 = arith.select %below, %low, %x : vector<16xi1>, vector<16xf32>
    ...
    %y = arith.mulf %8, %9 : vector<16xf32>

The largest errors are the rows of ``dialects/math_accuracy.py``.
"""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects.arith import ConstantOp
from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.traits import IsolatedFromAbove

from crosstile.dialects.arith import element_type
from crosstile.passes.math_formulas import FORMULAS, Constant, Formula


class ExpandMathPass(ModulePass):
    """Elementary functions of f32 to arithmetic."""

    name = "expand-math"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Expand every function of f32 that has a formula, in place."""
        constants: dict[tuple[Block, Attribute], SSAValue] = {}
        for old in list(op.walk()):
            if type(old) in FORMULAS and element_type(old.results[0].type) == f32:
                expand(old, constants)


def expand(op: Operation, constants: dict[tuple[Block, Attribute], SSAValue]) -> None:
    """Replace ``op`` by its formula; ``constants`` are those that each function has so far."""
    block = op.parent
    assert block is not None
    home = outermost_block(op)

    def insert(new: Operation) -> None:
        new.location = op.location
        block.insert_op_before(new, op)

    def constant(value: Constant) -> SSAValue:
        if (home, value) not in constants:
            new = ConstantOp(value)
            new.location = op.location
            if home.first_op is None:
                home.add_op(new)
            else:
                home.insert_op_before(new, home.first_op)
            constants[home, value] = new.result
        return constants[home, value]

    result = FORMULAS[type(op)](Formula(op.results[0].type, insert, constant), op.operands[0])
    if op.results[0].name_hint is not None:
        result.name_hint = op.results[0].name_hint
    op.results[0].replace_all_uses_with(result)
    block.erase_op(op)


def outermost_block(op: Operation) -> Block:
    """The first block of the function that ``op`` is in: constants there are seen by all of its operations."""
    while True:
        parent = op.parent_op()
        assert parent is not None
        if parent.has_trait(IsolatedFromAbove) or parent.parent_op() is None:
            region = op.parent_region()
            assert region is not None and region.first_block is not None
            return region.first_block
        op = parent
