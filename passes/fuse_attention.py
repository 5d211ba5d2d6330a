"""``fuse-attention``: two products with a softmax between them become one kernel that never holds all scores.

Level: nest. In: kernels as ``fuse`` leaves them. Out: for every attention among them, by whatever operators it was
written, one kernel whose fold over the keys is the combiner ``softmax_weighted_sum``::

    %s = nest.kernel @attention { product; scale, mask }              %o = nest.kernel @attention {
    %w = nest.kernel @attention_1 { max; exp; sum; div }        ==>     %s = product; scale, mask
    %o = nest.kernel @attention_2 { product; what follows }             %m, %l, %a = softmax_weighted_sum of %s and V
                                                                        %o = %a / %l; what follows }

What counts as attention is said in ``dialects/nest/attention_pattern.py``. The sums of the softmax must be
``fastmath<reassoc>``: with a running maximum they depend, in the last bits, on how the keys are divided into blocks
(and on nothing else). Where the scores or the weights have other readers, or on blocks of warps where a head is large,
of unknown size, or has one query, the kernels stay as they are.

The quotient moves behind the sum, as all weights of a row are divided by the same number. Weights that were rounded to
the type of the values are rounded before that division instead (``combiners.Yielded.factor``). Without keys it would be
0 / 0: unless the total is raised to a positive number anyway, the answer is then selected to be the empty sum, 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr, ModuleOp, TensorType, f32
from xdsl.ir import Block, BlockArgument, Operation, Region, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineExpr, AffineMap
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from crosstile.dialects.nest.analysis import element_type, shape_of
from crosstile.dialects.nest.attention_pattern import Attention, find_attention
from crosstile.dialects.nest.attention_roles import COMBINER, attention_roles
from crosstile.dialects.nest.attributes import IteratorAttr, IteratorKind
from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.generic import GenericOp, YieldOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.merging import rename_iterators
from crosstile.dialects.nest.shared_iterators import SharedIterators
from crosstile.ir.diagnostics import fuse_locations, op_error
from crosstile.passes.join_kernels import replace_kernels
from crosstile.targets.host import resolve_machine
from crosstile.targets.model import Machine, UnknownNameError

NAME = "attention"
MOST_HEAD_OF_WARPS = 256
"""The largest head of which a block of warps holds the sums in registers."""
PAYLOAD = "e"
"""The iterator over the dimension of a value."""


@dataclass(frozen=True)
class FuseAttentionPass(ModulePass):
    """Attention in one kernel, as far as the machine called ``target`` has one."""

    name = "fuse-attention"

    target: str = "x86-64-avx512"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Fuse every attention among the kernels of the module ``op``, in place."""
        try:
            machine = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"fuse-attention: {error}") from error
        for kernel in list(op.walk()):
            if isinstance(kernel, KernelOp) and kernel.parent is not None and kernel.schedules is None:
                found = next((found for nest in kernel.generics if (found := find_attention(nest)) is not None), None)
                if found is not None and _has_kernel(found, machine):
                    _fuse(found, op, needs_rows=machine.warp_lanes is not None)


def _has_kernel(found: Attention, machine: Machine) -> bool:
    """Whether heads are of a size for which ``machine`` has a kernel: blocks of warps hold whole heads."""
    most = [size for size in found.head_sizes if isinstance(size, int)]
    return machine.warp_lanes is None or (len(most) == 2 and max(most) <= MOST_HEAD_OF_WARPS)


def _fuse(found: Attention, module: ModuleOp, needs_rows: bool) -> bool:
    """Replace the kernels of ``found`` by one; False, and nothing changed, if they cannot be one.

    ``needs_rows``: a single query, whose block would have one row, is none of the machine's.
    """
    kernels = _kernels(found)
    if kernels is None:
        return False
    joined = _Joined(found, kernels)
    kernel = joined.rewrite(needs_rows)
    if kernel is None:
        return False
    last = kernels[-1]
    block = last.parent
    assert block is not None
    for op in joined.before:
        block.insert_op_before(op, last)
    replace_kernels(kernels, kernel, NAME, module)
    return True


def _kernels(found: Attention) -> list[KernelOp] | None:
    """The kernels that hold the nests of ``found``, in program order; None if all but the last hold anything else."""
    parents = {nest.parent_op() for nest in found.nests}
    kernels = [op for op in parents if isinstance(op, KernelOp) and op.schedules is None]
    blocks = {kernel.parent for kernel in kernels}
    block = blocks.pop()
    if len(kernels) != len(parents) or blocks or block is None:
        return None
    ordered = [op for op in block.ops if isinstance(op, KernelOp) and op in kernels]
    others = [op for kernel in ordered[:-1] for op in kernel.body.block.ops if not isinstance(op, YieldOp)]
    if ordered[-1] is not found.product.parent_op() or any(op not in found.nests for op in others):
        return None
    return ordered


class _Joined:
    """One kernel made of all nests of some kernels, in which the nests of the softmax become a weighted sum.

    ``before`` is what has to be computed before the kernel, on the host.
    """

    def __init__(self, found: Attention, kernels: Sequence[KernelOp]):
        self.before: list[Operation] = []
        self._found = found
        self._kernels = kernels
        self._block = Block()
        self._inputs: dict[SSAValue, BlockArgument] = {}
        self._new: dict[SSAValue, SSAValue] = {}
        self._nests: dict[GenericOp, GenericOp] = {}
        """The clone of each nest."""

    def rewrite(self, needs_rows: bool) -> KernelOp | None:
        """The kernel, in no block yet; None if its loops do not fit into one, or there are no rows that it needs."""
        for kernel in self._kernels:
            for nest in kernel.generics:
                self._clone(nest, kernel)
        yielded = [self._new[value] for value in self._kernels[-1].yield_op.arguments]
        shared = SharedIterators(list(self._nests.values()))
        if shared.general is None and shared.conflict is None:
            yielded = self._weigh(shared, yielded)
        self._block.add_op(YieldOp(*yielded))
        kernel = KernelOp(NAME, list(self._inputs), [value.type for value in yielded], self._block)
        kernel.location = fuse_locations(*(old.location for old in self._kernels))
        axes = KernelAxes(kernel) if shared.general is None and shared.conflict is None else None
        roles = None if axes is None else attention_roles(axes)
        if axes is None or roles is None or (needs_rows and roles.m is None):
            kernel.erase()
            return None
        for nest in kernel.generics:
            rename_iterators(nest, [axis.name for axis in axes.of_nest(nest)])
        return kernel

    # One kernel

    def _clone(self, nest: GenericOp, kernel: KernelOp) -> None:
        for operand in nest.inputs:
            if operand not in self._new:
                self._new[operand] = self._outside(operand, kernel)
        clone = nest.clone(self._new)
        for old, new in zip(nest.results, clone.results, strict=True):
            new.name_hint = old.name_hint
        self._block.add_op(clone)
        self._nests[nest] = clone

    def _outside(self, argument: SSAValue, kernel: KernelOp) -> SSAValue:
        """What an argument of ``kernel`` is in the new one: a value of an earlier nest, else an input."""
        assert isinstance(argument, BlockArgument)
        value = kernel.inputs[argument.index]
        if isinstance(owner := value.owner, KernelOp) and owner in self._kernels:
            return self._new[owner.yield_op.arguments[owner.results.index(value)]]
        return self._input(value)

    def _input(self, value: SSAValue) -> BlockArgument:
        if value not in self._inputs:
            argument = self._inputs[value] = self._block.insert_arg(value.type, len(self._block.args))
            argument.name_hint = value.name_hint
        return self._inputs[value]

    # The weighted sum

    def _weigh(self, shared: SharedIterators, yielded: Sequence[SSAValue]) -> list[SSAValue]:
        """Put the weighted sum and the final quotient in the place of softmax and product."""
        found = self._found
        product, quotient = self._nests[found.product], self._nests[found.quotient]
        self._widen_scores()
        weighted = self._weighted_sum(shared)
        final = self._final(shared, weighted.results[2])
        rows = [self._nests[nest] for nest in found.rows]
        self._nests[found.total].results[0].replace_all_uses_with(weighted.results[1])
        for op in rows:
            op.detach()
        for op in (weighted, *rows, final):
            self._block.insert_op_before(op, product)
        new = [final.results[0] if value is product.results[0] else value for value in yielded]
        product.results[0].replace_all_uses_with(final.results[0])
        gone = (product, quotient, *(self._nests[nest] for nest in (found.total, found.exponential)))
        softmax = [found.maximum] if found.floor is None else [found.floor, found.maximum]
        for nest in (*gone, *(self._nests[nest] for nest in softmax)):
            nest.detach()
            nest.erase()
        return new

    def _widen_scores(self) -> None:
        """Let the chain widen the scores that it rounded: its readers did so, each for itself."""
        chain = None if self._found.chain is None else self._nests[self._found.chain]
        if chain is None or element_type(chain.results[0]) == f32:
            return
        end = chain.yield_op
        wide = arith.ExtFOp(end.arguments[0], f32)
        chain.body.block.insert_op_before(wide, end)
        end.operands[0] = wide.result
        Rewriter.replace_value_with_new_type(chain.results[0], TensorType(f32, shape_of(chain.results[0])))

    def _weighted_sum(self, shared: SharedIterators) -> GenericOp:
        """``softmax_weighted_sum`` of the scores and the values, over the iterators of the product."""
        found = self._found
        product, maximum, total = (self._nests[nest] for nest in (found.product, found.maximum, found.total))
        (n,) = product.positions(IteratorKind.REDUCTION)
        value = 1 - found.weights
        along = product.input_maps[found.weights].used_dims()
        iterators: list[IteratorAttr] = []
        for position, loop in enumerate(product.loops):
            kind = IteratorKind.PAYLOAD if position not in along else loop.kind
            iterators.append(IteratorAttr.of(PAYLOAD if position not in along else loop.name, kind))
        if len({iterator.data.name for iterator in iterators}) != len(iterators):
            iterators = [IteratorAttr.of(f"i{at}", one.data.kind) for at, one in enumerate(iterators)]
        assert product.loops[n].kind is IteratorKind.REDUCTION

        def moved(nest: GenericOp, map_: AffineMap) -> AffineMap:
            return _moved(shared, nest, map_, product, range(len(product.loops)))

        block = Block(arg_types=[f32, element_type(product.inputs[value])])
        block.add_op(YieldOp(*block.args))
        maps = [
            moved(maximum, maximum.input_maps[0]),
            product.input_maps[value],
            moved(maximum, maximum.result_maps[0]),
            moved(total, total.result_maps[0]),
            product.result_maps[0],
        ]
        types = [maximum.results[0].type, total.results[0].type, product.results[0].type]
        inputs = [maximum.inputs[0], product.inputs[value]]
        weighted = GenericOp(inputs, iterators, maps, block, types, COMBINER, f32, total.fastmath)
        weighted.location = fuse_locations(maximum.location, total.location, product.location)
        for result, name in zip(weighted.results, ("maximum", "total", "weighted"), strict=True):
            result.name_hint = name
        return weighted

    def _final(self, shared: SharedIterators, weighted: SSAValue) -> GenericOp:
        """The quotient, of the sums instead of the exponentials, over the iterators of the product's result."""
        found = self._found
        product, quotient = self._nests[found.product], self._nests[found.quotient]
        kept = product.positions(IteratorKind.PARALLEL)
        body = _unrounded(quotient)
        inputs, maps = list[SSAValue](), list[AffineMap]()
        for position, (value, map_) in enumerate(zip(quotient.inputs, quotient.input_maps, strict=True)):
            here = position == found.weighted.index
            inputs.append(weighted if here else value)
            maps.append(
                _moved(shared, product, product.result_maps[0], product, kept)
                if here
                else _moved(shared, quotient, map_, product, kept)
            )
        maps.append(_moved(shared, product, product.result_maps[0], product, kept))
        if not found.positive_total and (keys := self._key_count()) is not None:
            inputs.append(keys)
            maps.insert(len(maps) - 1, AffineMap(len(kept), 0, ()))
            _select_if_any(body.block)
        iterators = [product.iterators.data[position] for position in kept]
        final = GenericOp(inputs, iterators, maps, body, [product.results[0].type])
        final.location = quotient.location
        final.results[0].name_hint = product.results[0].name_hint
        return final

    def _key_count(self) -> SSAValue | None:
        """The number of keys as a tensor of rank 0, computed before the kernel; None if there certainly are some."""
        found = self._found
        (n,) = found.product.positions(IteratorKind.REDUCTION)
        position = 1 - found.weights
        dim = found.product.input_maps[position].results.index(AffineExpr.dimension(n))
        outside = next(
            value for value, argument in self._inputs.items() if argument is self._new[found.product.inputs[position]]
        )
        if shape_of(outside)[dim] > 0:
            return None
        constant = arith.ConstantOp(IntegerAttr.from_index_int_value(dim))
        size = tensor.DimOp(outside, constant)
        scalar = tensor.FromElementsOp(size.result, result_type=TensorType(IndexType(), []))
        self.before = [constant, size, scalar]
        for op in self.before:
            op.location = found.product.location
        return self._input(scalar.results[0])


def _moved(
    shared: SharedIterators, nest: GenericOp, map_: AffineMap, product: GenericOp, kept: Sequence[int]
) -> AffineMap:
    """A map of ``nest`` to plain iterators as one of the iterators of ``product`` at the positions ``kept``."""
    place = {shared.representative(product, position): at for at, position in enumerate(kept)}
    results = tuple(
        AffineExpr.dimension(place[shared.representative(nest, expression.position)])
        if isinstance(expression, AffineDimExpr)
        else expression
        for expression in map_.results
    )
    return AffineMap(len(kept), 0, results)


def _unrounded(quotient: GenericOp) -> Region:
    """The body of ``quotient``, whose result nobody rounds: only weights were to be of the values' type."""
    body = quotient.body.clone()
    end = body.block.last_op
    assert isinstance(end, YieldOp)
    if isinstance(rounding := end.arguments[0].owner, arith.TruncFOp):
        end.operands[0] = rounding.input
        rounding.detach()
        rounding.erase()
    return body


def _select_if_any(block: Block) -> None:
    """Yield 0 instead if the new last argument, a number of keys, is 0."""
    keys = block.insert_arg(IndexType(), len(block.args))
    end = block.last_op
    assert isinstance(end, YieldOp)
    none = arith.ConstantOp(IntegerAttr.from_index_int_value(0))
    zero = arith.ConstantOp(FloatAttr(0.0, f32))
    some = arith.CmpiOp(keys, none, "sgt")
    chosen = arith.SelectOp(some, end.arguments[0], zero)
    block.insert_ops_before([none, zero, some, chosen], end)
    end.operands[0] = chosen.result
