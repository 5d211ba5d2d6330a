"""Products and sums of a body that ``fastmath<contract>`` allows to be rounded once.

Level: nest. In: the bodies of nests after merging. Out: the same with fewer roundings, here and at all levels below::

    %p = arith.mulf %x, %gamma fastmath<contract> : f32
    %y = arith.addf %p, %beta fastmath<contract> : f32     ==>     %y = math.fma %x, %gamma, %beta : f32
"""

from __future__ import annotations

from xdsl.dialects import arith, math
from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import Float32Type, Float64Type
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Block, SSAValue


def round_once(body: Block) -> None:
    """Make every sum with a product that nothing else reads an fma, where both may be contracted; f32 and f64."""
    for op in list(body.ops):
        if not isinstance(op, arith.AddfOp) or not _may_contract(op) or op.parent is None:
            continue
        for product, other in ((op.lhs, op.rhs), (op.rhs, op.lhs)):
            if _is_product(product, op):
                multiplied = product.owner
                assert isinstance(multiplied, arith.MulfOp)
                fma = math.FmaOp(multiplied.lhs, multiplied.rhs, other)
                fma.location = op.location
                body.insert_op_before(fma, op)
                fma.result.name_hint = op.result.name_hint
                op.result.replace_all_uses_with(fma.result)
                body.erase_op(op)
                body.erase_op(multiplied)
                break


def _is_product(value: SSAValue, reader: arith.AddfOp) -> bool:
    """Whether ``value`` is a product that may be contracted with the sum ``reader``, the only operation to read it."""
    owner = value.owner
    if not isinstance(owner, arith.MulfOp) or owner.parent is not reader.parent or not value.has_one_use():
        return False
    return _may_contract(owner)


def _may_contract(op: arith.AddfOp | arith.MulfOp) -> bool:
    flags = op.fastmath
    assert isinstance(flags, FastMathFlagsAttr)
    return FastMathFlag.ALLOW_CONTRACT in flags.data and isinstance(op.result.type, Float32Type | Float64Type)
