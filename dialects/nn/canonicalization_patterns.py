"""The rewrite patterns that ``canonicalization`` hands out; none of them changes a value."""

from __future__ import annotations

from xdsl.dialects.builtin import DYNAMIC_INDEX, Float16Type
from xdsl.ir import Attribute
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from crosstile.dialects.nn.elementwise import CastOp
from crosstile.dialects.nn.reshaping import BroadcastOp, ReshapeOp, TransposeOp
from crosstile.dialects.nn.shapes import float_width, is_float, tensor_of


class MergeTransposes(RewritePattern):
    """``transpose(transpose(x))`` -> one transpose by the composed permutation."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: TransposeOp, rewriter: PatternRewriter) -> None:
        """Compose the permutations."""
        inner = op.operand.owner
        if isinstance(inner, TransposeOp):
            rewriter.replace(op, TransposeOp(inner.operand, [inner.order[dim] for dim in op.order]))


class DropTranspose(RewritePattern):
    """A transpose by the identity -> its operand."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: TransposeOp, rewriter: PatternRewriter) -> None:
        """Match increasing dimensions."""
        if op.order == tuple(range(len(op.order))):
            rewriter.replace(op, (), (op.operand,))


class MergeReshapes(RewritePattern):
    """``reshape(reshape(x))`` -> one reshape, if what made the sizes of the second still does."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ReshapeOp, rewriter: PatternRewriter) -> None:
        """Read the operand of the inner reshape."""
        inner = op.operand.owner
        if isinstance(inner, ReshapeOp):
            rewriter.replace(op, ReshapeOp(inner.operand, tensor_of(op.result), tuple(op.sizes)))


class DropReshape(RewritePattern):
    """A reshape to the operand's own static shape, or with one ``?`` that must be the operand's -> its operand."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ReshapeOp, rewriter: PatternRewriter) -> None:
        """Match equal types of at most one ``?``; with more, sizes could be exchanged."""
        type_ = tensor_of(op.operand)
        if type_ == op.result.type and type_.get_shape().count(DYNAMIC_INDEX) <= 1 and 0 not in type_.get_shape():
            rewriter.replace(op, (), (op.operand,))


class DropBroadcast(RewritePattern):
    """A broadcast to the operand's own type, whose dimensions are then all kept -> its operand."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: BroadcastOp, rewriter: PatternRewriter) -> None:
        """Match equal types."""
        if op.operand.type == op.result.type:
            rewriter.replace(op, (), (op.operand,))


class DropCast(RewritePattern):
    """A cast to the operand's own type, or a widening cast and its inverse -> the operand of the first."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: CastOp, rewriter: PatternRewriter) -> None:
        """A narrowing pair rounds and stays."""
        inner = op.operand.owner
        if op.operand.type == op.result.type:
            rewriter.replace(op, (), (op.operand,))
        elif isinstance(inner, CastOp) and inner.operand.type == op.result.type:
            first, between = tensor_of(inner.operand).element_type, tensor_of(inner.result).element_type
            if _holds_exactly(between, first):
                rewriter.replace(op, (), (inner.operand,))


def _holds_exactly(wide: Attribute, narrow: Attribute) -> bool:
    """Whether every value of the float type ``narrow`` is one of ``wide``; f16 has fewer exponents than bf16."""
    if not is_float(wide) or not is_float(narrow):
        return False
    return float_width(wide) > float_width(narrow) or (wide == narrow and not isinstance(wide, Float16Type))
