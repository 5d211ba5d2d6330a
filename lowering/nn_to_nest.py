"""``nn-to-nest``: primitive tensor operators become loop nests.

Level: nn, after ``decompose``. In: a program of primitives. Out: one ``nest.generic`` per operator, with scalar code of
``arith`` and ``math`` as its body; broadcasting and transposition are said by index maps::

    %y = nn.add %x, %b : tensor<?x64xf32>, tensor<64xf32>
    ==>
    %y = nest.generic [i : parallel, j : parallel] ins(%x (i, j), %b (j) : tensor<?x64xf32>, tensor<64xf32>)
        -> (i, j) : tensor<?x64xf32> { ^bb0(%0: f32, %1: f32): arith.addf, nest.yield }

A constant of one value becomes a scalar in the bodies that use it; other constants are ``arith.constant``. A reshape
moves nothing, as tensors are contiguous: it becomes ``tensor.collapse_shape`` and ``tensor.expand_shape``. Sizes that
no operand has come in through a ``tensor.empty`` that is never read. ``func``, ``tensor`` and ``arith`` stay, but a
``tensor.dim`` of what a nest computes reads the size from where that nest has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, prod
from typing import ClassVar, cast

from xdsl.dialects import arith, tensor
from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AnyFloat,
    ArrayAttr,
    IndexType,
    IntegerAttr,
    StringAttr,
    TensorType,
    f32,
    i64,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects.arith import CmpiOp, SelectOp
from crosstile.dialects.nest.analysis import SizeSource, trace_size
from crosstile.dialects.nest.attributes import IteratorAttr, IteratorKind
from crosstile.dialects.nest.generic import GenericOp, IndexOp
from crosstile.dialects.nn import elementwise
from crosstile.dialects.nn.attention import CausalMaskOp
from crosstile.dialects.nn.composites import ORIGIN
from crosstile.dialects.nn.contraction import ContractOp
from crosstile.dialects.nn.convolution import Conv2dOp
from crosstile.dialects.nn.reduction import ReduceOp
from crosstile.dialects.nn.reshaping import BroadcastOp, ReshapeOp, TransposeOp
from crosstile.dialects.nn.shapes import is_float, tensor_of
from crosstile.lowering.convolution_nest import Convolution
from crosstile.lowering.driver import Lowering, LoweringPass, Rule
from crosstile.lowering.nn_scalar_code import SCALARS, ScalarBody, cast_scalar

_NAMES = "ijklpqrs"
_ZERO = AffineExpr.constant(0)


def iterator_names(count: int) -> list[str]:
    """Names for the dimensions of a tensor of rank ``count``."""
    return [_NAMES[position] if position < len(_NAMES) else f"i{position}" for position in range(count)]


def _iterators(names: Sequence[str], reduced: Sequence[int] = ()) -> list[IteratorAttr]:
    return [
        IteratorAttr.of(name, IteratorKind.REDUCTION if position in reduced else IteratorKind.PARALLEL)
        for position, name in enumerate(names)
    ]


def _dims(*positions: int | None, count: int) -> AffineMap:
    """A map over ``count`` iterators to those at ``positions``; None stands for the constant 0."""
    return AffineMap(count, 0, tuple(_ZERO if at is None else AffineExpr.dimension(at) for at in positions))


def _splat_value(value: SSAValue) -> float | None:
    """The value that every element of a constant has; None for anything else."""
    owner = value.owner
    if not isinstance(owner, elementwise.ConstantOp) or not owner.value.get_values() or not owner.value.is_splat():
        return None
    return cast(float, owner.value.get_values()[0])


# Elementwise


def _lower_elementwise(op: elementwise.UnaryOp | elementwise.BinaryOp, lowering: Lowering) -> None:
    """One nest over the result; operands of size 1 that broadcast are read at 0, constants are part of the body."""
    shape = tensor_of(op.result).get_shape()
    read = [operand for operand in dict.fromkeys(op.operands) if _splat_value(operand) is None]
    body = ScalarBody(*(tensor_of(operand).element_type for operand in read))
    elements = dict[SSAValue, SSAValue](zip(read, body.block.args, strict=True))
    for operand in op.operands:
        if (value := _splat_value(operand)) is not None:
            elements[operand] = body.constant(value, tensor_of(operand).element_type)
    result = SCALARS[type(op)](body, [elements[operand] for operand in op.operands], op.fastmath)
    maps = [_broadcast_map(tensor_of(operand).get_shape(), shape) for operand in read]
    _replace(op, lowering, read, maps, body.finish(result))


def _broadcast_map(shape: Sequence[int], result: Sequence[int]) -> AffineMap:
    """Where an operand of ``shape`` is read for a result whose last dimensions it is aligned with."""
    first = len(result) - len(shape)
    places = [None if size == 1 != result[first + dim] else first + dim for dim, size in enumerate(shape)]
    return _dims(*places, count=len(result))


def _replace(
    op: Operation, lowering: Lowering, read: Sequence[SSAValue], maps: Sequence[AffineMap], body: Block
) -> None:
    """Let an elementwise nest over the dimensions of its result stand for ``op``."""
    rank = len(tensor_of(op.results[0]).get_shape())
    result_map = _dims(*range(rank), count=rank)
    names = iterator_names(rank)
    inputs = [lowering.value(operand) for operand in read]
    nest = GenericOp(inputs, _iterators(names), [*maps, result_map], body, [op.results[0].type])
    _insert(op, nest, lowering)


def _insert(op: Operation, nest: GenericOp, lowering: Lowering) -> None:
    """Let ``nest`` stand for ``op``, and say which composite it is part of."""
    if (origin := op.attributes.get(ORIGIN)) is not None:
        nest.attributes[ORIGIN] = origin
    lowering.replace(op, lowering.insert(nest).results[0])


def _lower_cast(op: elementwise.CastOp, lowering: Lowering) -> None:
    """To a narrower float round to nearest even, to an integer toward zero; i1 is 0 or 1."""
    source, target = tensor_of(op.operand).element_type, tensor_of(op.result).element_type
    rank = len(tensor_of(op.operand).get_shape())
    body = ScalarBody(source)
    result = cast_scalar(body, body.block.args[0], target)
    _replace(op, lowering, [op.operand], [_dims(*range(rank), count=rank)], body.finish(result))


def _lower_causal_mask(op: CausalMaskOp, lowering: Lowering) -> None:
    """A selection by column - row, at most columns - rows; that comes in as a tensor of rank 0 where it is dynamic."""
    type_ = tensor_of(op.operand)
    rank, (rows, columns) = len(type_.get_shape()), type_.get_shape()[-2:]
    every = _dims(*range(rank), count=rank)
    names, index = iterator_names(rank), IndexType()
    static = DYNAMIC_INDEX not in (rows, columns)
    body = ScalarBody(type_.element_type, *(() if static else (index,)))
    row, column = (body.add(IndexOp(name)) for name in names[-2:])
    limit = body.constant(columns - rows, index) if static else body.block.args[1]
    seen = body.add(CmpiOp(body.add(arith.SubiOp(column, row)), limit, "sle"))
    least = body.constant(-inf, type_.element_type)
    inputs, maps = [lowering.value(op.operand)], [every]
    if not static:
        inputs.append(_more_columns_than_rows(op, lowering))
        maps.append(_dims(count=rank))
    block = body.finish(body.add(SelectOp(seen, body.block.args[0], least)))
    _insert(op, GenericOp(inputs, _iterators(names), [*maps, every], block, [op.result.type]), lowering)


def _more_columns_than_rows(op: CausalMaskOp, lowering: Lowering) -> SSAValue:
    """How many more columns than rows the operand has, as a tensor of rank 0."""
    rank = len(tensor_of(op.operand).get_shape())
    rows, columns = (_size(SizeSource(lowering.value(op.operand), dim), lowering) for dim in (rank - 2, rank - 1))
    more = lowering.insert(arith.SubiOp(columns, rows)).result
    return lowering.insert(tensor.FromElementsOp(more, result_type=TensorType(IndexType(), []))).result


# Constants


def _lower_constant(op: elementwise.ConstantOp, lowering: Lowering) -> None:
    """Nothing where bodies hold the value; else a nest that fills a tensor, or a constant of ``arith``."""
    value = _splat_value(op.result)
    if value is None:
        lowering.replace(op, lowering.insert(arith.ConstantOp(op.value)).result)
        return
    if all(isinstance(use.operation, elementwise.UnaryOp | elementwise.BinaryOp) for use in op.result.uses):
        return
    body = ScalarBody()
    _replace(op, lowering, [], [], body.finish(body.constant(value, tensor_of(op.result).element_type)))


# Contractions and reductions


def _lower_contract(op: ContractOp, lowering: Lowering) -> None:
    """A sum of products in the accumulator type, rounded once to the result's; without a summed iterator, a product."""
    count = op.maps[0].num_dims
    kept = op.maps[2].used_dims()
    reduced = [position for position in range(count) if position not in kept]
    accumulator = op.accumulator_type
    body = ScalarBody(*(tensor_of(operand).element_type for operand in op.operands))
    unsigned = op.unsigned_a is not None, op.unsigned_b is not None
    lhs, rhs = (body.widen(*factor) for factor in zip(body.block.args, (accumulator,) * 2, unsigned, strict=True))
    if is_float(accumulator):
        flags = FastMathFlagsAttr(op.fastmath.data - {FastMathFlag.REASSOC})
        product = body.add(arith.MulfOp(lhs, rhs, flags))
    else:
        product = body.add(arith.MuliOp(lhs, rhs))
    inputs = [lowering.value(operand) for operand in op.operands]
    iterators = _iterators(op.iterator_names, reduced)
    if reduced:
        folding = ("add", accumulator, op.fastmath if op.fastmath.data else None)
        type_ = op.result.type
        sums = TensorType(accumulator, type_.get_shape()) if is_float(accumulator) else type_
        nest = GenericOp(inputs, iterators, op.maps, body.finish(product), [sums], *folding, precision=op.precision)
        if sums != type_:
            _insert(op, _rounded(lowering.insert(nest).results[0], type_), lowering)
            return
    else:
        rounded = cast_scalar(body, product, tensor_of(op.result).element_type)
        nest = GenericOp(inputs, iterators, op.maps, body.finish(rounded), [op.result.type])
    _insert(op, nest, lowering)


def _rounded(sums: SSAValue, type_: TensorType[Attribute]) -> GenericOp:
    """``sums`` in a narrower type, rounded once: an epilogue, so that the sums stay those of an accumulator."""
    rank = len(type_.get_shape())
    body = ScalarBody(tensor_of(sums).element_type)
    block = body.finish(cast_scalar(body, body.block.args[0], type_.element_type))
    every = _dims(*range(rank), count=rank)
    return GenericOp([sums], _iterators(iterator_names(rank)), [every, every], block, [type_])


def _lower_conv2d(op: Conv2dOp, lowering: Lowering) -> None:
    """A contraction over channels and places; the image is read where the filter lies, and is zero outside."""
    convolution = Convolution(op, lowering)
    element, accumulator = tensor_of(op.image).element_type, op.accumulator_type
    inputs, sizes = convolution.inputs(), convolution.size_inputs()
    body = ScalarBody(element, element, *(element for _ in sizes))
    lhs, rhs = (body.widen(argument, accumulator) for argument in body.block.args[:2])
    product = body.add(arith.MulfOp(lhs, rhs, FastMathFlagsAttr(op.fastmath.data - {FastMathFlag.REASSOC})))
    letters = convolution.iterators
    result = convolution.result_type
    nest = GenericOp(
        [*inputs, *(value for value, _ in sizes)],
        [IteratorAttr.of(name, IteratorKind.REDUCTION if name in "rsc" else IteratorKind.PARALLEL) for name in letters],
        [
            *convolution.maps(),
            *(_dims(letters.index(name), count=len(letters)) for _, name in sizes),
            convolution.written,
        ],
        body.finish(product),
        [TensorType(accumulator, result.get_shape())],
        "add",
        accumulator,
        op.fastmath if op.fastmath.data else None,
        (0,) if any(axis.before or axis.after for axis in op.axes) else (),
        op.precision,
    )
    nest.attributes[ORIGIN] = StringAttr("conv2d")
    sums = lowering.insert(nest).results[0]
    if sums.type != result:
        sums = lowering.insert(_rounded(sums, result)).results[0]
    lowering.replace(op, convolution.finish(sums))


def _lower_reduce(op: ReduceOp, lowering: Lowering) -> None:
    """A fold along the reduced dimensions; 16-bit floats are folded in f32 and rounded once."""
    element = tensor_of(op.operand).element_type
    accumulator = f32 if is_float(element) and cast(AnyFloat, element).bitwidth < 32 else element
    rank = len(tensor_of(op.operand).get_shape())
    body = ScalarBody(element)
    block = body.finish(body.widen(body.block.args[0], accumulator))
    kept = [None if dim in op.reduced_dims else dim for dim in range(rank)]
    places = kept if op.keep_dims is not None else [dim for dim in kept if dim is not None]
    nest = GenericOp(
        [lowering.value(op.operand)],
        _iterators(iterator_names(rank), op.reduced_dims),
        [_dims(*range(rank), count=rank), _dims(*places, count=rank)],
        block,
        [op.result.type],
        op.kind.data,
        accumulator,
        op.fastmath if op.fastmath.data else None,
    )
    _insert(op, nest, lowering)


# Shapes


def _lower_transpose(op: TransposeOp, lowering: Lowering) -> None:
    """A copy that reads in another order."""
    rank = len(op.order)
    body = ScalarBody(tensor_of(op.operand).element_type)
    places = [op.order.index(dim) for dim in range(rank)]
    _replace(op, lowering, [op.operand], [_dims(*places, count=rank)], body.finish(body.block.args[0]))


def _lower_broadcast(op: BroadcastOp, lowering: Lowering) -> None:
    """A copy that reads some elements many times; sizes that are operands come in through an empty tensor."""
    shape, operand = tensor_of(op.result).get_shape(), tensor_of(op.operand)
    element = operand.element_type
    pairs = zip(operand.get_shape(), op.result_dims, strict=True)
    maps = [_dims(*(None if size == 1 != shape[dim] else dim for size, dim in pairs), count=len(shape))]
    inputs = [lowering.value(op.operand)]
    if op.sizes:
        sizes = [lowering.value(size) for size in op.sizes]
        empty = tensor.EmptyOp(sizes, TensorType(element, [DYNAMIC_INDEX] * len(sizes)))
        inputs.append(lowering.insert(empty).tensor)
        maps.append(_dims(*op.sized_dims, count=len(shape)))
    body = ScalarBody(*(element for _ in inputs))
    block = body.finish(body.block.args[0])
    result_map = _dims(*range(len(shape)), count=len(shape))
    nest = GenericOp(inputs, _iterators(iterator_names(len(shape))), [*maps, result_map], block, [op.result.type])
    _insert(op, nest, lowering)


def _lower_reshape(op: ReshapeOp, lowering: Lowering) -> None:
    """The same memory under another shape: collapsed to one dimension, then expanded."""
    source, target = tensor_of(op.operand), tensor_of(op.result)
    value = lowering.value(op.operand)
    if source == target:
        lowering.replace(op, value)
    elif not source.get_shape():
        lowering.replace(op, _retype(_repeat_scalar(value, len(target.get_shape()), lowering), target, lowering))
    elif not target.get_shape():
        ones = TensorType(source.element_type, [1] * len(source.get_shape()))
        value = _retype(value, ones, lowering)
        lowering.replace(op, lowering.insert(_collapse(value, target, ())).result)
    else:
        every = tuple(range(len(source.get_shape())))
        if len(every) > 1:
            flat = TensorType(source.element_type, [_element_count(source)])
            value = lowering.insert(_collapse(value, flat, every)).result
        value = _retype(value, TensorType(source.element_type, [_element_count(target)]), lowering)
        lowering.replace(op, _expand(op, value, lowering) if len(target.get_shape()) > 1 else value)


def _element_count(type_: TensorType[Attribute]) -> int:
    shape = type_.get_shape()
    return DYNAMIC_INDEX if DYNAMIC_INDEX in shape else prod(shape)


def _retype(value: SSAValue, type_: TensorType[Attribute], lowering: Lowering) -> SSAValue:
    """``value`` with sizes known or forgotten as ``type_`` says."""
    return value if value.type == type_ else lowering.insert(tensor.CastOp(value, type_)).dest


def _repeat_scalar(value: SSAValue, rank: int, lowering: Lowering) -> SSAValue:
    """A tensor of rank 0 as one of sizes 1, which upstream's reshaping operations cannot say."""
    element = tensor_of(value).element_type
    body = ScalarBody(element)
    maps = [_dims(count=rank), _dims(*range(rank), count=rank)]
    result = TensorType(element, [1] * rank)
    block = body.finish(body.block.args[0])
    return lowering.insert(GenericOp([value], _iterators(iterator_names(rank)), maps, block, [result])).results[0]


def _reassociation(dims: Sequence[int]) -> ArrayAttr[ArrayAttr[IntegerAttr]]:
    groups = [ArrayAttr([IntegerAttr(dim, i64) for dim in dims])] if dims else []
    return ArrayAttr(groups)


def _collapse(value: SSAValue, type_: TensorType[Attribute], dims: Sequence[int]) -> tensor.CollapseShapeOp:
    properties = {"reassociation": _reassociation(dims)}
    return tensor.CollapseShapeOp(operands=[value], result_types=[type_], properties=properties)


def _expand(op: ReshapeOp, flat: SSAValue, lowering: Lowering) -> SSAValue:
    target = tensor_of(op.result)
    shape = target.get_shape()
    sizes = [lowering.value(size) for size in op.sizes]
    if not sizes and DYNAMIC_INDEX in shape:
        count = lowering.insert(tensor.DimOp(flat, _index(0, lowering))).result
        rest = prod(size for size in shape if size != DYNAMIC_INDEX)
        sizes = [lowering.insert(arith.DivUIOp(count, _index(rest, lowering))).result]
    grouped = _reassociation(range(len(shape)))
    return lowering.insert(tensor.ExpandShapeOp(flat, sizes, grouped, shape, target)).result


def _lower_dim(op: tensor.DimOp, lowering: Lowering) -> None:
    """The size read where no nest computes it, so that a tensor need not be in memory for its size's sake."""
    source, dim = lowering.value(op.source), constant_index(op.index)
    if dim is None:
        lowering.replace(op, lowering.insert(tensor.DimOp(source, lowering.value(op.index))).result)
        return
    lowering.replace(op, _size(SizeSource(source, dim), lowering))


def _size(source: SizeSource, lowering: Lowering) -> SSAValue:
    """A size, read from where it comes from."""
    size = trace_size(source)
    if isinstance(size, int):
        return _index(size, lowering)
    return lowering.insert(tensor.DimOp(size.value, _index(size.dim, lowering))).result


def constant_index(value: SSAValue) -> int | None:
    """The number that an index is, if an ``arith.constant`` says it."""
    owner = value.owner
    constant = owner.value if isinstance(owner, arith.ConstantOp) else None
    return constant.value.data if isinstance(constant, IntegerAttr) else None


def _index(value: int, lowering: Lowering) -> SSAValue:
    return lowering.insert(arith.ConstantOp(IntegerAttr.from_index_int_value(value))).result


RULES: dict[type[Operation], Rule] = {
    **dict.fromkeys(SCALARS, _lower_elementwise),
    CausalMaskOp: _lower_causal_mask,
    elementwise.CastOp: _lower_cast,
    elementwise.ConstantOp: _lower_constant,
    ContractOp: _lower_contract,
    Conv2dOp: _lower_conv2d,
    ReduceOp: _lower_reduce,
    TransposeOp: _lower_transpose,
    BroadcastOp: _lower_broadcast,
    ReshapeOp: _lower_reshape,
    tensor.DimOp: _lower_dim,
}
"""One rule for each primitive, and one for sizes."""


class NnToNestPass(LoweringPass):
    """Primitive tensor operators to loop nests."""

    name = "nn-to-nest"
    rules: ClassVar[Mapping[type[Operation], Rule]] = RULES
    kept_dialects: ClassVar[frozenset[str]] = frozenset({"func", "tensor", "arith", "nest"})
