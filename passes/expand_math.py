"""``expand-math``: elementary functions of floats become arithmetic and bit operations, on scalars and vectors.

In and out: a module at hardware level. ``exp``, ``exp2``, ``log``, ``tanh``, ``erf`` and ``rsqrt`` of f32 and f64 are
replaced by the formulas of ``math_formulas.py``; what they compute is then the same, bit for bit, in NumPy and on any
machine with a correctly rounded fma. Other functions stay and become calls of the C library. ::

    %y = math.exp2 %x : vector<16xf32>
    ==>
    %low = arith.constant dense<-151.0> : vector<16xf32>     (constants stand at the start of the function)
    ...
    %below = arith.cmpf olt, %x, %low : vector<16xf32>
    %0 = arith.select %below, %low, %x : vector<16xi1>, vector<16xf32>
    ...
    %y = arith.mulf %8, %9 : vector<16xf32>

For a ``target`` with instructions for exponents (``passes/exponent_instructions.py``) they take the place of what a
formula does to exponents; the bits of all results are the same. A function that the target computes by one instruction,
about as exactly, stays where it is ``fastmath<afn>``; ``exp`` with that flag is made of such an ``exp2``. The largest
errors are the rows of ``dialects/math_accuracy.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.arith import ConstantOp, FastMathFlagsAttr
from xdsl.dialects.builtin import ModuleOp, TensorType, f32
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.traits import IsolatedFromAbove

from crosstile.dialects.arith import element_type
from crosstile.ir.diagnostics import op_error
from crosstile.passes.exponent_instructions import FORMULAS_WITH
from crosstile.passes.math_coefficients import NUMBERS
from crosstile.passes.math_formulas import BY_ONE_INSTRUCTION, FORMULAS, Constant, Formula
from crosstile.targets.host import resolve_machine
from crosstile.targets.model import UnknownNameError


@dataclass(frozen=True)
class ExpandMathPass(ModulePass):
    """Elementary functions of f32 and f64 to arithmetic, for any machine or with the instructions of the ``target``."""

    name = "expand-math"

    target: str | None = None

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Expand every function that has a formula, in place."""
        try:
            machine = None if self.target is None else resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"expand-math: {error}") from error
        constants = Constants()
        family, known = ("", ()) if machine is None else (machine.exponents, machine.approximations)
        functions = [
            old
            for old in op.walk()
            if type(old) in FORMULAS
            and has_formulas(old.results[0].type)
            and _name(old) not in approximations(old, known)
        ]
        while functions:
            together = neighbours(functions)
            expand(together, constants, family, known)
            functions = functions[len(together) :]


def neighbours(functions: Sequence[Operation]) -> list[Operation]:
    """The first of ``functions`` and those like it that stand right after it and do not depend on each other."""
    first = functions[0]
    found = [first]
    for op in functions[1:]:
        last = found[-1]
        alike = type(op) is type(first) and op.results[0].type == first.results[0].type and last.next_op is op
        alike = alike and may_approximate(op) == may_approximate(first)
        if not alike or any(operand.owner in found for operand in op.operands):
            break
        found.append(op)
    return found


def approximations(op: Operation, known: Sequence[str]) -> Sequence[str]:
    """Those of the ``known`` approximations, which are of f32, that ``op`` may be computed by."""
    return known if may_approximate(op) and element_type(op.results[0].type) == f32 else ()


def may_approximate(op: Operation) -> bool:
    """Whether ``op`` says that an approximation will do."""
    flags = op.properties.get("fastmath")
    return isinstance(flags, FastMathFlagsAttr) and FastMathFlag.APPROX_FUNC in flags.data


def _name(op: Operation) -> str:
    return op.name.removeprefix("math.")


def has_formulas(type_: Attribute) -> bool:
    """Whether ``type_`` is f32, f64 or a vector of either; tensors belong to higher levels."""
    return not isinstance(type_, TensorType) and type(element_type(type_)) in NUMBERS


class Constants:
    """Constants at the start of each function, one per value."""

    def __init__(self):
        self._values: dict[tuple[Block, Attribute], SSAValue] = {}
        self._last: dict[Block, Operation] = {}

    def get(self, value: Constant, user: Operation) -> SSAValue:
        """The constant ``value`` in the function of ``user``, whose location a new one inherits."""
        home = outermost_block(user)
        if (home, value) not in self._values:
            new = ConstantOp(value)
            new.location = user.location
            if home in self._last:
                home.insert_op_after(new, self._last[home])
            else:
                assert home.first_op is not None
                home.insert_op_before(new, home.first_op)
            self._last[home] = new
            self._values[home, value] = new.result
        return self._values[home, value]


def expand(together: Sequence[Operation], constants: Constants, family: str, known: Sequence[str]) -> None:
    """Replace functions of one kind that stand side by side by their formula, taking turns operation by operation.

    ``known`` are the functions of f32 that the machine approximates by one instruction. One after the other each would
    be a chain in which every operation waits for the one before; side by side they fill the time that each waits.
    """
    copies: list[list[Operation]] = []
    write = FORMULAS[type(together[0])]
    by_one = BY_ONE_INSTRUCTION.get(type(together[0]))
    if by_one is not None and by_one[0] in approximations(together[0], known):
        write = by_one[1]
    for op in together:
        made: list[Operation] = []
        type_ = op.results[0].type
        kind = next((kind for kind in FORMULAS_WITH.get(family, ()) if kind.takes(type_)), Formula)
        formula = kind(type_, made.append, lambda value, op=op: constants.get(value, op))
        result = write(formula, op.operands[0])
        result.name_hint = op.results[0].name_hint or result.name_hint
        op.results[0].replace_all_uses_with(result)
        copies.append(made)
    block = together[0].parent
    assert block is not None
    for turn in zip(*copies, strict=True):
        for op, new in zip(together, turn, strict=True):
            new.location = op.location
            block.insert_op_before(new, together[0])
    for op in together:
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
