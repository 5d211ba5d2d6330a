"""``decompose``: composite operators of the ``nn`` level become primitives of the same level.

Level: nn. In: any nn program. Out: one of nn.constant, neg, abs, exp, log, tanh, erf, sqrt, rsqrt, add, sub, mul,
div, max, min, contract, reduce, causal_mask, transpose, reshape, broadcast and cast::

    %y = nn.relu %x : tensor<?x4xf32>    =>    %zero = nn.constant dense<0.0> : tensor<f32>
                                               %y = nn.max %x, %zero : tensor<?x4xf32>, tensor<f32>

Matrix products become contractions, gelu, silu, sigmoid and relu elementwise chains, softmax, layer_norm and rms_norm
reductions with elementwise operations between them, attention two contractions around a softmax; the formulas are
those of ``dialects/nn/composites.py``, and the attribute ``nn.origin`` of a primitive names the composite, for kernels
to be named after. A dynamic row length that a norm divides by is read with ``tensor.dim`` and becomes a tensor of
rank 0. ``fastmath`` flags are inherited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AnyFloat,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    StringAttr,
    TensorType,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
    op_type_rewrite_pattern,
)

from crosstile.dialects.nn import composites
from crosstile.dialects.nn.attention import AttentionOp, CausalMaskOp
from crosstile.dialects.nn.contraction import BatchMatmulOp, ContractOp, MatmulOp, MatrixProductOp
from crosstile.dialects.nn.elementwise import (
    BINARY,
    UNARY,
    AddOp,
    CastOp,
    ConstantOp,
    DivOp,
    ExpOp,
    GeluOp,
    MulOp,
    ReluOp,
    RsqrtOp,
    SigmoidOp,
    SiluOp,
)
from crosstile.dialects.nn.reduction import LayerNormOp, ReduceOp, RmsNormOp, SoftmaxOp
from crosstile.dialects.nn.reshaping import ReshapeOp
from crosstile.dialects.nn.shapes import computation_type, least_finite, tensor_of
from crosstile.dialects.nn.syntax import NnOp

_UNARY = {op.name: op for op in UNARY}
_BINARY = {op.name: op for op in BINARY}


def _with(flags: FastMathFlagsAttr, flag: FastMathFlag) -> FastMathFlagsAttr:
    return FastMathFlagsAttr(flags.data | {flag})


class PrimitiveBuilder:
    """The primitives of ``composites``, as operations inserted before the one that is being rewritten.

    Its operands and result have elements of type ``operands``; what is inserted computes in the type ``element``.
    """

    def __init__(
        self,
        rewriter: PatternRewriter,
        origin: Operation,
        operands: Attribute,
        element: Attribute,
        fastmath: FastMathFlagsAttr,
    ):
        self._rewriter = rewriter
        self._origin = StringAttr(origin.name.removeprefix("nn."))
        self._operands = operands
        self._element = element
        self._of_reductions = fastmath
        # The order of a sum is the only thing that reassoc frees here, and an elementwise operation has none.
        self._of_elements = FastMathFlagsAttr(fastmath.data - {FastMathFlag.REASSOC})
        self._free = free = FastMathFlag.REASSOC in fastmath.data
        self._of_quotients = _with(self._of_elements, FastMathFlag.ALLOW_RECIP) if free else self._of_elements
        self._of_approximations = _with(self._of_elements, FastMathFlag.APPROX_FUNC) if free else self._of_elements
        self._of_products = _with(self._of_elements, FastMathFlag.ALLOW_CONTRACT) if free else self._of_elements
        self._of_maxima = _with(fastmath, FastMathFlag.NO_SIGNED_ZEROS) if free else fastmath

    def _insert(self, op: Operation, hint: str | None = None) -> SSAValue:
        self._rewriter.insert(op)
        op.results[0].name_hint = hint
        if isinstance(op, NnOp) and not isinstance(op, ConstantOp):
            op.attributes[composites.ORIGIN] = self._origin
        return op.results[0]

    def constant(self, value: float) -> SSAValue:
        """A constant of rank 0."""
        return self._insert(ConstantOp.splat(value, self._element))

    def _size(self, x: SSAValue, dim: int, inverted: bool) -> SSAValue:
        """The number of elements along ``dim`` or its reciprocal: a constant if it is known, else computed once."""
        size = tensor_of(x).get_shape()[dim]
        if size != DYNAMIC_INDEX:
            return self.constant(1.0 / size if inverted and size else float(size))
        position = self._insert(arith.ConstantOp(IntegerAttr.from_index_int_value(dim)))
        count = self._insert(arith.IndexCastOp(self._insert(tensor.DimOp(x, position)), IntegerType(64)))
        number = self._insert(arith.SIToFPOp(count, cast(AnyFloat, self._element)))
        if inverted:
            one = self._insert(arith.ConstantOp(FloatAttr(1.0, cast(AnyFloat, self._element))))
            number = self._insert(arith.DivfOp(one, number))
        hint = "reciprocal" if inverted else "size"
        return self._insert(tensor.FromElementsOp(number, result_type=TensorType(self._element, [])), hint)

    def unary(self, name: str, x: SSAValue) -> SSAValue:
        """``nn.<name>``."""
        return self._insert(_UNARY[f"nn.{name}"](x, fastmath=self._of_elements), name)

    def binary(self, name: str, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
        """``nn.<name>``."""
        return self._insert(_BINARY[f"nn.{name}"](lhs, rhs, self._of_elements), name)

    def multiply_add(self, x: SSAValue, factor: SSAValue, summand: SSAValue) -> SSAValue:
        """``nn.mul`` and ``nn.add`` that may be rounded once."""
        product = self._insert(MulOp(x, factor, self._of_products), "mul")
        return self._insert(AddOp(product, summand, self._of_products), "add")

    def exponential(self, x: SSAValue) -> SSAValue:
        """``nn.exp`` that may be approximate."""
        return self._insert(ExpOp(x, fastmath=self._of_approximations), "exp")

    def quotient(self, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
        """``nn.div`` that may be a product with a reciprocal."""
        return self._insert(DivOp(lhs, rhs, self._of_quotients), "div")

    def reciprocal_root(self, x: SSAValue) -> SSAValue:
        """``nn.rsqrt`` that may be approximate."""
        return self._insert(RsqrtOp(x, fastmath=self._of_approximations), "rsqrt")

    def mean(self, x: SSAValue, dim: int) -> SSAValue:
        """A sum, and a product with the reciprocal of the number of elements if that may be, else a quotient."""
        total, size = self.reduce("add", x, dim), self._size(x, dim, self._free)
        return self.binary("mul" if self._free else "div", total, size)

    def reduce(self, kind: str, x: SSAValue, dim: int) -> SSAValue:
        """``nn.reduce`` that keeps the dimension; which zero is a maximum does not matter to what is shifted by it."""
        flags = self._of_maxima if kind == "max" else self._of_reductions
        return self._insert(ReduceOp(x, kind, [dim], keep_dims=True, fastmath=flags), kind)

    def widen(self, x: SSAValue) -> SSAValue:
        """``nn.cast`` if the types differ."""
        return self._cast(x, self._element)

    def narrow(self, x: SSAValue) -> SSAValue:
        """``nn.cast`` if the types differ."""
        return self._cast(x, self._operands)

    def _cast(self, x: SSAValue, element: Attribute) -> SSAValue:
        type_ = tensor_of(x)
        if type_.element_type == element:
            return x
        return self._insert(CastOp(x, element), "cast")

    def shift(self, x: SSAValue) -> SSAValue:
        """The value itself."""
        return x


class AttentionBuilder(PrimitiveBuilder):
    """The primitives of attention, as operations inserted before ``op``."""

    def __init__(self, rewriter: PatternRewriter, op: AttentionOp):
        super().__init__(rewriter, op, tensor_of(op.query).element_type, op.accumulator_type, op.fastmath)

    def contract(self, lhs: SSAValue, rhs: SSAValue, positions: Sequence[Sequence[int]], over_keys: bool) -> SSAValue:
        """``nn.contract``."""
        count = max(max(iterators) for iterators in positions) + 1
        maps = [AffineMap(count, 0, tuple(map(AffineDimExpr, iterators))) for iterators in positions]
        result = self._operands if over_keys else self._element
        accumulator = cast(AnyFloat, self._element)
        return self._insert(ContractOp(lhs, rhs, maps, accumulator, self._of_elements, result), "product")

    def reshape(self, x: SSAValue, shape: Sequence[composites.Size]) -> SSAValue:
        """``nn.reshape``; dynamic sizes are read with ``tensor.dim`` unless a single one can be inferred."""
        known = self.shape(x)
        sizes = [known[size.position] if isinstance(size, composites.Dim) else size for size in shape]
        dynamic = [size.position for size in shape if isinstance(size, composites.Dim) and known[size.position] < 0]
        read = dynamic if len(dynamic) > 1 or 0 in sizes else []
        operands = [
            self._insert(tensor.DimOp(x, self._insert(arith.ConstantOp(IntegerAttr.from_index_int_value(position)))))
            for position in read
        ]
        return self._insert(ReshapeOp(x, TensorType(tensor_of(x).element_type, sizes), operands))

    def shape(self, x: SSAValue) -> Sequence[int]:
        """The shape of the type."""
        return tensor_of(x).get_shape()

    def causal_mask(self, x: SSAValue) -> SSAValue:
        """``nn.causal_mask``."""
        return self._insert(CausalMaskOp(x), "masked")


def _builder(
    rewriter: PatternRewriter, op: Operation, operand: SSAValue, fastmath: FastMathFlagsAttr
) -> PrimitiveBuilder:
    element = tensor_of(operand).element_type
    return PrimitiveBuilder(rewriter, op, element, computation_type(element), fastmath)


def _replace(rewriter: PatternRewriter, op: Operation, result: SSAValue) -> None:
    """Use ``result`` in place of ``op``, under the name that the program gave it."""
    result.name_hint = op.results[0].name_hint or result.name_hint
    rewriter.replace(op, (), (result,))


class DecomposeRelu(RewritePattern):
    """``nn.relu`` -> a maximum."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ReluOp, rewriter: PatternRewriter) -> None:
        """Integers and floats alike, in their own type: a maximum rounds nothing."""
        element = tensor_of(op.operand).element_type
        builder = PrimitiveBuilder(rewriter, op, element, element, op.fastmath)
        _replace(rewriter, op, composites.relu(builder, op.operand))


class DecomposeSigmoid(RewritePattern):
    """``nn.sigmoid`` -> a quotient by an exponential."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: SigmoidOp, rewriter: PatternRewriter) -> None:
        """Every float type."""
        _replace(rewriter, op, composites.sigmoid(_builder(rewriter, op, op.operand, op.fastmath), op.operand))


class DecomposeSilu(RewritePattern):
    """``nn.silu`` -> a quotient by an exponential."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: SiluOp, rewriter: PatternRewriter) -> None:
        """Every float type."""
        _replace(rewriter, op, composites.silu(_builder(rewriter, op, op.operand, op.fastmath), op.operand))


class DecomposeGelu(RewritePattern):
    """``nn.gelu`` -> the error function, or the hyperbolic tangent where it approximates."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: GeluOp, rewriter: PatternRewriter) -> None:
        """Both forms."""
        builder = _builder(rewriter, op, op.operand, op.fastmath)
        _replace(rewriter, op, composites.gelu(builder, op.operand, op.approximate.data))


class DecomposeSoftmax(RewritePattern):
    """``nn.softmax`` -> two reductions and what is between them."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: SoftmaxOp, rewriter: PatternRewriter) -> None:
        """Along any dimension."""
        builder = _builder(rewriter, op, op.operand, op.fastmath)
        _replace(rewriter, op, composites.softmax(builder, op.operand, op.dim.value.data))


class DecomposeLayerNorm(RewritePattern):
    """``nn.layer_norm`` -> two means, a scale, an affine map."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: LayerNormOp, rewriter: PatternRewriter) -> None:
        """Along the last dimension."""
        builder = _builder(rewriter, op, op.operand, op.fastmath)
        dim = tensor_of(op.operand).get_num_dims() - 1
        result = composites.layer_norm(builder, op.operand, op.gamma, op.beta, dim, op.epsilon.value.data)
        _replace(rewriter, op, result)


class DecomposeRmsNorm(RewritePattern):
    """``nn.rms_norm`` -> a mean of squares, a scale, a product."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: RmsNormOp, rewriter: PatternRewriter) -> None:
        """Along the last dimension."""
        builder = _builder(rewriter, op, op.operand, op.fastmath)
        dim = tensor_of(op.operand).get_num_dims() - 1
        _replace(rewriter, op, composites.rms_norm(builder, op.operand, op.gamma, dim, op.epsilon.value.data))


class DecomposeAttention(RewritePattern):
    """``nn.attention`` -> two contractions around a softmax."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: AttentionOp, rewriter: PatternRewriter) -> None:
        """With or without bias, mask and grouped heads."""
        operands, least, causal = (op.query, op.key, op.value), least_finite(op.accumulator_type), op.causal is not None
        on = AttentionBuilder(rewriter, op)
        result = composites.attention(on, operands, op.bias, op.factor, causal, op.group, least)
        _replace(rewriter, op, result)


def _to_contract(rewriter: PatternRewriter, op: MatrixProductOp) -> None:
    element = tensor_of(op.result).element_type
    unsigned = op.unsigned_a is not None, op.unsigned_b is not None
    new = ContractOp(
        op.lhs, op.rhs, op.indexing_maps, op.accumulator_type, op.fastmath, element, unsigned, op.precision
    )
    rewriter.replace(op, new)


class MatmulToContract(RewritePattern):
    """``nn.matmul`` -> ``nn.contract`` over m, n, k."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: MatmulOp, rewriter: PatternRewriter) -> None:
        """Transposed operands are a matter of the index maps."""
        _to_contract(rewriter, op)


class BatchMatmulToContract(RewritePattern):
    """``nn.batch_matmul`` -> ``nn.contract`` over the batches and m, n, k."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: BatchMatmulOp, rewriter: PatternRewriter) -> None:
        """Transposed operands are a matter of the index maps."""
        _to_contract(rewriter, op)


@dataclass(frozen=True)
class DecomposePass(ModulePass):
    """Composite operators to primitives."""

    name = "decompose"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite every composite of the module ``op`` in place."""
        patterns: list[RewritePattern] = [
            DecomposeRelu(),
            DecomposeSigmoid(),
            DecomposeSilu(),
            DecomposeGelu(),
            DecomposeSoftmax(),
            DecomposeLayerNorm(),
            DecomposeRmsNorm(),
            DecomposeAttention(),
            MatmulToContract(),
            BatchMatmulToContract(),
        ]
        applier = GreedyRewritePatternApplier(patterns, dce_enabled=False)
        PatternRewriteWalker(applier, apply_recursively=False).rewrite_module(op)
