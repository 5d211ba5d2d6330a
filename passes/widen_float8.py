"""``widen-float8``: products of 8-bit floats that the machine does not multiply, or not exactly enough, become bf16.

Level: nn, after ``decompose``. In: contractions of f8E4M3FN or f8E5M2. Out: those whose permission and order of
dimensions fit an instruction of the machine as they were; others with factors of bf16, which holds every number of
both types, between the same sums of f32::

    %c = nn.contract [m, n, k] %a (m, k), %b (k, n) -> (m, n) accumulate f32 : tensor<?x?xf8E4M3FN>, ...
    ==>
    %w = nn.cast %a : tensor<?x?xf8E4M3FN> -> tensor<?x?xbf16>      and %b
    %c = nn.contract [m, n, k] %w (m, k), %v (k, n) -> (m, n) accumulate f32 : tensor<?x?xbf16>, ... -> tensor<?x?xf32>

Tensor cores of Hopper keep 13 bits of a sum of such products. ``precision fast_accumulation`` allows that. Factors
whose last dimension is one of a stack's are widened too: no copy of a block is along it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, bf16
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from crosstile.dialects.nn.contraction import ContractOp
from crosstile.dialects.nn.elementwise import CastOp
from crosstile.dialects.nn.shapes import is_float8, tensor_of
from crosstile.ir.diagnostics import op_error
from crosstile.targets.host import default_target, resolve_machine
from crosstile.targets.model import Machine, UnknownNameError


def is_multiplied(op: ContractOp, machine: Machine) -> bool:
    """Whether ``machine`` has an instruction for ``op`` as it is, and the program allows what it loses."""
    lhs, rhs, result = op.positions
    elements = sorted(str(tensor_of(factor).element_type) for factor in op.operands)
    summed = [iterator for iterator in lhs if iterator not in result]
    batches = [iterator for iterator in result if iterator in lhs and iterator in rhs]
    if op.precision is None or len(summed) != 1 or lhs[-1] in batches or rhs[-1] in batches:
        return False
    rows = [row for row in machine.intrinsics if row.accumulator.element == str(op.accumulator_type)]
    kept = [iterator for iterator in result if iterator not in rhs]
    return bool(kept) and any(sorted((row.lhs.element, row.rhs.element)) == elements for row in rows)


def widen(op: ContractOp) -> None:
    """Replace one product."""
    lhs, rhs = (CastOp(factor, bf16) for factor in op.operands)
    element = tensor_of(op.result).element_type
    new = ContractOp(lhs, rhs, op.maps, op.accumulator_type, op.fastmath, element)
    for each in (lhs, rhs, new):
        each.location = op.location
    new.attributes |= op.attributes
    name = op.result.name_hint
    Rewriter.replace_op(op, [lhs, rhs, new])
    new.result.name_hint = name


@dataclass(frozen=True)
class WidenFloat8Pass(ModulePass):
    """Products of 8-bit floats as products of bf16 where ``target`` (``host``: this machine) lacks them."""

    name = "widen-float8"

    target: str = field(default_factory=default_target)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the contractions of the module ``op`` in place."""
        products = [each for each in op.walk() if isinstance(each, ContractOp)]
        narrow = [each for each in products if is_float8(tensor_of(each.lhs).element_type)]
        if not narrow:
            return
        try:
            machine = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"widen-float8: {error}") from error
        for each in narrow:
            if not is_multiplied(each, machine):
                widen(each)
