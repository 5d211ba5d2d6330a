"""Attention by its structure: two contractions with a softmax between them, whoever wrote it and in how many kernels.

    scores       sum over d of query * key
    chain        elementwise: scale, bias, soft cap, mask                                (may be missing)
    maximum      max over n of the scores
    floor        max(maximum, least finite number): a row that sees nothing              (may be missing)
    exponential  exp(scores - maximum)
    total        sum over n of the exponentials
    rows         elementwise over the totals, such as max(total, small)                  (may be missing)
    quotient     exponential / total, or times anything else that does not vary along n; rounded to the values' type
    product      sum over n of quotient * value

Queries, keys and values are f32, or all bf16 or f16; everything between the products is f32, except that the chain may
round its scores to a narrower type, which is widened by what reads them.

Values are followed through the kernels that ``fuse`` has put the nests into. Nothing between the scores and the product
may be used by anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import BFloat16Type, Float16Type, Float32Type, FloatAttr
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import BlockArgument, OpResult, SSAValue
from xdsl.ir.affine import AffineDimExpr

from crosstile.dialects.nest.analysis import (
    depends_on,
    element_type,
    is_contraction,
    is_elementwise,
    is_plain_map,
    iterator_sizes,
)
from crosstile.dialects.nest.attributes import IteratorKind
from crosstile.dialects.nest.generic import GenericOp, IndexOp, YieldOp
from crosstile.dialects.nest.kernel import KernelOp

FACTOR_TYPES = (Float32Type, BFloat16Type, Float16Type)
"""The types that queries, keys and values may have."""
LEAST_FLOAT32 = -3.4028234663852886e38
"""The least finite f32: a floor no higher changes nothing but the maximum of a row that sees nothing."""


@dataclass(frozen=True)
class Attention:
    """The nests of one attention, as the module docstring names them."""

    scores: GenericOp
    chain: GenericOp | None
    maximum: GenericOp
    floor: GenericOp | None
    exponential: GenericOp
    total: GenericOp
    rows: tuple[GenericOp, ...]
    quotient: GenericOp
    product: GenericOp
    weights: int
    """The input of the product that is the quotient."""
    weighted: BlockArgument
    """The element of the exponentials in the body of the quotient."""

    @property
    def nests(self) -> tuple[GenericOp, ...]:
        """All of them, in an order in which they can run."""
        found = (self.scores, self.chain, self.maximum, self.floor, self.exponential, self.total, *self.rows)
        return (*(nest for nest in found if nest is not None), self.quotient, self.product)

    @property
    def head_sizes(self) -> tuple[int | None, int | None]:
        """The dimension of a query and a key, and that of a value, None for what is known at run time."""
        (d,) = self.scores.positions(IteratorKind.REDUCTION)
        value_map = self.product.input_maps[1 - self.weights]
        (e,) = value_map.used_dims() - self.product.input_maps[self.weights].used_dims()
        sizes = iterator_sizes(self.scores)[d], iterator_sizes(self.product)[e]
        return sizes[0] if isinstance(sizes[0], int) else None, sizes[1] if isinstance(sizes[1], int) else None

    @property
    def positive_total(self) -> bool:
        """Whether what divides is more than 0 even if there is no key: it is raised to a positive constant."""
        return len(self.rows) == 1 and (floor := _floor(self.rows[0])) is not None and floor > 0

    @property
    def divides_by_total(self) -> bool:
        """Whether a weight is its exponential divided by the total, which at most is raised to a positive constant."""
        division = before_rounding(self.quotient).owner
        if not isinstance(division, arith.DivfOp) or not isinstance(division.rhs, BlockArgument):
            return False
        total = source(self.quotient.inputs[division.rhs.index])
        return total is self.total.results[0] or (self.positive_total and total is self.rows[0].results[0])


def source(value: SSAValue) -> SSAValue:
    """Where a value comes from: into kernels by their inputs, out of them by what they yield."""
    while True:
        block = value.owner
        if isinstance(value, BlockArgument) and isinstance(kernel := value.block.parent_op(), KernelOp):
            value = kernel.inputs[value.index]
        elif isinstance(value, OpResult) and isinstance(block, KernelOp):
            value = block.yield_op.arguments[value.index]
        else:
            return value


def readers(value: SSAValue) -> set[GenericOp] | None:
    """The nests that read ``value``, in any kernel; None if something else does."""
    found: set[GenericOp] = set()
    pending = [value]
    while pending:
        for use in pending.pop().uses:
            match use.operation:
                case GenericOp() as nest:
                    found.add(nest)
                case KernelOp() as kernel:
                    pending.append(kernel.body.block.args[use.index])
                case YieldOp() as end if isinstance(kernel := end.parent_op(), KernelOp):
                    pending.append(kernel.results[use.index])
                case _:
                    return None
    return found


def before_rounding(nest: GenericOp) -> SSAValue:
    """What an elementwise ``nest`` yields, before it is rounded to a narrower float if it is."""
    (result,) = nest.yield_op.arguments
    return result.owner.input if isinstance(result.owner, arith.TruncFOp) else result


def before_widening(value: SSAValue) -> SSAValue:
    """``value``, before it is widened if it is."""
    return value.owner.input if isinstance(value.owner, arith.ExtFOp) else value


def find_attention(product: GenericOp) -> Attention | None:
    """The attention whose last nest is ``product``, if it is one that may and can be computed in one sweep over keys.

    Its scores and sums must be f32, its factors of one type, and the sum of its softmax ``reassoc``.
    """
    found = find_softmax(product)
    flags = None if found is None else found.total.fastmath
    return found if flags is not None and FastMathFlag.REASSOC in flags.data else None


def find_softmax(product: GenericOp) -> Attention | None:
    """The same, whatever order the sum of the softmax is to have."""
    if not _is_plain_contraction(product):
        return None
    return next((found for weights in (0, 1) if (found := _find(product, weights)) is not None), None)


def _find(product: GenericOp, weights: int) -> Attention | None:
    quotient = _elementwise(product.inputs[weights])
    if quotient is None or _read_by(quotient) != {product}:
        return None
    (reduced,) = product.positions(IteratorKind.REDUCTION)
    if len(product.input_maps[weights].used_dims()) != len(quotient.iterators):
        return None
    n = _connected(quotient, product, weights, reduced)
    if n is None or (weighted := _scaled(quotient, n)) is None:
        return None
    exponential = _elementwise(quotient.inputs[weighted.index])
    if exponential is None:
        return None
    n = _connected(exponential, quotient, weighted.index, n)
    shifted = None if n is None else _shifted(exponential, n)
    if shifted is None:
        return None
    score, shift = shifted
    scores = source(exponential.inputs[score.index])
    floor, maximum = _maximum(exponential.inputs[shift.index])
    if maximum is None or not _reduces(maximum, "max", scores):
        return None
    found = _total(quotient, weighted, exponential)
    if found is None or _read_by(exponential) != {found[0], quotient}:
        return None
    total, rows = found
    above_maximum = {exponential} if floor is None else {floor}
    if _read_by(maximum) != above_maximum or (floor is not None and _read_by(floor) != {exponential}):
        return None
    if readers(scores) != {maximum, exponential}:
        return None
    root, chain = _scores(scores)
    if root is None or (chain is not None and _read_by(root) != {chain}):
        return None
    result = Attention(root, chain, maximum, floor, exponential, total, rows, quotient, product, weights, weighted)
    return result if _is_legal(result) else None


def _owner(value: SSAValue) -> GenericOp | None:
    owner = source(value).owner
    return owner if isinstance(owner, GenericOp) and len(owner.results) == 1 else None


def _elementwise(value: SSAValue) -> GenericOp | None:
    owner = _owner(value)
    return owner if owner is not None and is_elementwise(owner) and _is_plain(owner) else None


def _read_by(nest: GenericOp) -> set[GenericOp] | None:
    return readers(nest.results[0])


def _is_plain(nest: GenericOp) -> bool:
    return not nest.clipped_inputs and all(is_plain_map(map_.data) for map_ in nest.indexing_maps)


def _is_plain_contraction(nest: GenericOp) -> bool:
    return (
        is_contraction(nest)
        and len(nest.inputs) == 2
        and _is_plain(nest)
        and len(nest.positions(IteratorKind.REDUCTION)) == 1
    )


def _connected(producer: GenericOp, consumer: GenericOp, position: int, iterator: int) -> int | None:
    """The iterator of ``producer`` along the dimension of its result that ``iterator`` of ``consumer`` indexes."""
    for written, read in zip(producer.result_maps[0].results, consumer.input_maps[position].results, strict=True):
        if isinstance(read, AffineDimExpr) and read.position == iterator and isinstance(written, AffineDimExpr):
            return written.position
    return None


def _scaled(quotient: GenericOp, n: int) -> BlockArgument | None:
    """The element that ``quotient`` multiplies or divides by something that does not vary along ``n``."""
    result = before_rounding(quotient)
    candidates: Sequence[tuple[SSAValue, SSAValue]]
    match result.owner:
        case arith.DivfOp() as division:
            candidates = [(division.lhs, division.rhs)]
        case arith.MulfOp() as product:
            candidates = [(product.lhs, product.rhs), (product.rhs, product.lhs)]
        case _:
            return None
    if any(isinstance(op, IndexOp) for op in quotient.body.block.ops):
        return None
    along = depends_on(quotient)
    for element, factor in candidates:
        if isinstance(element, BlockArgument) and n in along[element] and n not in along[factor]:
            return element if len(list(element.uses)) == 1 else None
    return None


def _shifted(exponential: GenericOp, n: int) -> tuple[BlockArgument, BlockArgument] | None:
    """The two elements of ``exp(score - shift)``, of which the second does not vary along ``n``."""
    (result,) = exponential.yield_op.arguments
    if not isinstance(result.owner, math.ExpOp) or not isinstance(
        difference := result.owner.operand.owner, arith.SubfOp
    ):
        return None
    score, shift = before_widening(difference.lhs), difference.rhs
    if not isinstance(score, BlockArgument) or not isinstance(shift, BlockArgument):
        return None
    along = depends_on(exponential)
    everything = set(range(len(exponential.iterators)))
    return (score, shift) if along[score] == everything and along[shift] == everything - {n} else None


def _maximum(value: SSAValue) -> tuple[GenericOp | None, GenericOp | None]:
    """The floor, if there is one, and the nest below it."""
    nest = _owner(value)
    if nest is None or not is_elementwise(nest):
        return None, nest
    least = _floor(nest)
    return (nest, _owner(nest.inputs[0])) if least is not None and least <= LEAST_FLOAT32 else (None, None)


def _floor(nest: GenericOp) -> float | None:
    """The constant that ``nest`` raises its one input to, element by element."""
    (result,) = nest.yield_op.arguments
    if not _is_plain(nest) or len(nest.inputs) != 1 or not isinstance(result.owner, arith.MaximumfOp | arith.MaxnumfOp):
        return None
    sides = [result.owner.lhs, result.owner.rhs]
    if nest.body.block.args[0] not in sides:
        return None
    (constant,) = [side.owner for side in sides if side is not nest.body.block.args[0]] or [None]
    if isinstance(constant, arith.ConstantOp) and isinstance(constant.value, FloatAttr):
        return constant.value.value.data
    return None


def _reduces(nest: GenericOp, combiner: str, value: SSAValue) -> bool:
    """Whether ``nest`` folds elements of ``value``, as they are, along one iterator."""
    return (
        nest.combiner is not None
        and nest.combiner.data == combiner
        and len(nest.inputs) == 1
        and _is_plain(nest)
        and source(nest.inputs[0]) is value
        and before_widening(nest.yield_op.arguments[0]) is nest.body.block.args[0]
        and len(nest.positions(IteratorKind.REDUCTION)) == 1
        and len(nest.input_maps[0].used_dims()) == len(nest.iterators)
    )


def _total(
    quotient: GenericOp, weighted: BlockArgument, exponential: GenericOp
) -> tuple[GenericOp, tuple[GenericOp, ...]] | None:
    """The sum of the exponentials, and the elementwise nests between it and the quotient."""
    total: GenericOp | None = None
    rows: list[GenericOp] = []
    pending = [value for position, value in enumerate(quotient.inputs) if position != weighted.index]
    while pending:
        nest = _owner(pending.pop())
        if nest is None or nest in rows or nest is total:
            continue
        if _reduces(nest, "add", exponential.results[0]):
            if total is not None:
                return None
            total = nest
        elif is_elementwise(nest) and _is_plain(nest) and (users := _read_by(nest)) and users <= {quotient, *rows}:
            rows.insert(0, nest)
            pending += nest.inputs
    if total is None or (users := _read_by(total)) is None or not users <= {quotient, *rows}:
        return None
    return total, tuple(rows)


def _scores(value: SSAValue) -> tuple[GenericOp | None, GenericOp | None]:
    """The contraction behind the scores, and the elementwise nest over it, if there is one."""
    nest = _owner(value)
    if nest is None or not is_elementwise(nest):
        return (nest if nest is not None and _is_plain_contraction(nest) else None), None
    if not _is_plain(nest):
        return None, None
    # Other contractions may be operands of the chain, as a bias is; the scores' own stands in its kernel.
    owners = [_owner(value) for value in nest.inputs]
    near = {root for root in owners if root is not None and root.parent is nest.parent and _is_plain_contraction(root)}
    if len(near) != 1:
        return None, None
    root = near.pop()
    reads = [map_ for owner, map_ in zip(owners, nest.input_maps, strict=True) if owner is root]
    whole = len(reads) == 1 and len(reads[0].used_dims()) == len(nest.iterators)
    return (root, nest) if whole else (None, None)


def _is_legal(found: Attention) -> bool:
    if not _has_legal_types(found):
        return False
    (n,) = found.product.positions(IteratorKind.REDUCTION)
    value_map = found.product.input_maps[1 - found.weights]
    payload = value_map.used_dims() - found.product.input_maps[found.weights].used_dims()
    if len(payload) != 1 or n not in value_map.used_dims():
        return False
    return 0 not in found.head_sizes


def _has_legal_types(found: Attention) -> bool:
    """Whether all factors are of one float type, weights among them, and everything else is f32."""
    factors = {element_type(value) for value in (*found.scores.inputs, *found.product.inputs)}
    rounded = (found.quotient, found.chain)
    inner = {element_type(nest.results[0]) for nest in found.nests if nest not in rounded}
    scores = element_type((found.chain or found.scores).results[0])
    legal = all(isinstance(type_, FACTOR_TYPES) for type_ in (*factors, scores))
    return len(factors) == 1 and legal and inner == {Float32Type()}
