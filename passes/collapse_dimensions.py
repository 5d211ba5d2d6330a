"""``collapse-dimensions``: elementwise kernels walk dimensions that lie one after the other in memory as one.

Level: nest, after fusion. In: kernels without folds. Out: the same, with neighbouring iterators made one where every
tensor of the kernel has both, side by side, or neither::

    %y = nest.kernel @exp (%a = %x : tensor<?x17xf32>) { nest.generic [i, j : parallel] ... }
    ==>
    %flat = tensor.collapse_shape %x [[0, 1]] : tensor<?x17xf32> into tensor<?xf32>
    %z = nest.kernel @exp (%a = %flat : tensor<?xf32>) { nest.generic [i : parallel] ... }
    %y = tensor.expand_shape %z [[0, 1]] output_shape [%n, 17] : tensor<?xf32> into tensor<?x17xf32>

Rows that are no whole number of a sweep's steps would each end in a step with masks, and short ones would be nothing
else. Rows that are stay as they are. Only the outermost of the dimensions made one may be of a size known at run time,
so that sizes that must agree still can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, ArrayAttr, IntegerAttr, ModuleOp, TensorType, i64
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap
from xdsl.passes import ModulePass

from crosstile.dialects.nest.analysis import element_type, is_elementwise, is_plain_map, shape_of
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, KernelAxes
from crosstile.dialects.nest.generic import GenericOp, IndexOp, YieldOp
from crosstile.dialects.nest.kernel import KernelOp

STEP = 64
"""Elements that the steps of sweeps divide, on all machines."""


class CollapseDimensionsPass(ModulePass):
    """Dimensions that lie one after the other, made one."""

    name = "collapse-dimensions"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Collapse in every kernel of the module ``op``, in place."""
        for kernel in list(op.walk()):
            if isinstance(kernel, KernelOp) and kernel.schedules is None and all(map(_is_plain, kernel.generics)):
                axes = KernelAxes(kernel)
                groups = _groups(axes)
                if groups and all(axis.size is not None or axis.source is not None for axis in axes.all()):
                    _Collapsed(axes, groups).replace()


def _is_plain(nest: GenericOp) -> bool:
    return (
        is_elementwise(nest) and not nest.clipped_inputs and all(is_plain_map(map_.data) for map_ in nest.indexing_maps)
    )


def _groups(axes: KernelAxes) -> list[tuple[Axis, ...]]:
    """The axes to make one, the outermost of each group first."""
    pending, found = list(axes.of_nest(axes.root)), list[tuple[Axis, ...]]()
    along = list(_all_along(axes))
    asked = {
        axes.of_nest(nest)[op.position] for nest in axes.nests for op in nest.body.block.ops if isinstance(op, IndexOp)
    }
    while pending:
        group = [pending.pop()]
        while pending and group[0].size is not None and not asked & {pending[-1], *group}:
            ragged = prod(axis.size or 1 for axis in group) % STEP
            if not ragged or not all(_side_by_side(entries, pending[-1], group[0]) for entries in along):
                break
            group.insert(0, pending.pop())
        if len(group) > 1:
            found.append(tuple(group))
    return found


def _all_along(axes: KernelAxes) -> list[tuple[AxisOrUnit, ...]]:
    return [axes.along(nest, map_.data) for nest in axes.nests for map_ in nest.indexing_maps] + [
        tuple(axes.of_nest(nest)) for nest in axes.nests
    ]


def _side_by_side(along: Sequence[AxisOrUnit], outer: Axis, inner: Axis) -> bool:
    """Whether ``inner`` follows ``outer``, or neither is there."""
    if outer not in along or inner not in along:
        return outer not in along and inner not in along
    return along.index(inner) == along.index(outer) + 1


class _Collapsed:
    """A kernel whose ``groups`` of axes become one axis each."""

    def __init__(self, axes: KernelAxes, groups: Sequence[tuple[Axis, ...]]):
        self.axes, self.kernel = axes, axes.kernel
        self._inner = {axis for group in groups for axis in group[1:]}

    def replace(self) -> None:
        """Put the new kernel in the place of the old one, between changes of shape."""
        old = self.kernel
        along = self._along_inputs()
        inputs = [self._collapse(value, along.get(at)) for at, value in enumerate(old.inputs)]
        block = Block(arg_types=[value.type for value in inputs])
        values: dict[SSAValue, SSAValue] = dict(zip(old.body.block.args, block.args, strict=True))
        for before, after in zip(old.body.block.args, block.args, strict=True):
            after.name_hint = before.name_hint
        for nest in self.axes.nests:
            block.add_op(self._nest(nest, values))
        yielded = [values[value] for value in old.yield_op.arguments]
        block.add_op(YieldOp(*yielded))
        new = KernelOp(old.kernel_name.data, inputs, [value.type for value in yielded], block)
        new.attributes |= old.attributes
        self._insert(new)
        for value, before, after in zip(old.yield_op.arguments, old.results, new.results, strict=True):
            result = self._expand(after, before, value)
            result.name_hint = before.name_hint
            before.replace_all_uses_with(result)
        old.detach()
        old.erase()

    def _insert(self, op: Operation) -> None:
        op.location = self.kernel.location
        block = self.kernel.parent
        assert block is not None
        block.insert_op_before(op, self.kernel)

    def _along_inputs(self) -> dict[int, tuple[AxisOrUnit, ...]]:
        """How each input lies along the axes: however it is read, it has all axes of a group or none."""
        found: dict[int, tuple[AxisOrUnit, ...]] = {}
        for nest in self.axes.nests:
            for position, operand in enumerate(nest.inputs):
                if operand in self.kernel.body.block.args:
                    found.setdefault(self.kernel.body.block.args.index(operand), self.axes.of_operand(nest, position))
        return found

    def _dims(self, along: Sequence[AxisOrUnit]) -> list[list[int]]:
        """The dimensions that each dimension of the collapsed tensor stands for."""
        result: list[list[int]] = []
        for dim, entry in enumerate(along):
            if entry in self._inner:
                result[-1].append(dim)
            else:
                result.append([dim])
        return result

    def _type(self, value: SSAValue, dims: Sequence[Sequence[int]]) -> TensorType[Attribute]:
        shape = shape_of(value)
        sizes = [[shape[dim] for dim in group] for group in dims]
        return TensorType(
            element_type(value), [DYNAMIC_INDEX if DYNAMIC_INDEX in each else prod(each) for each in sizes]
        )

    def _collapse(self, value: SSAValue, along: tuple[AxisOrUnit, ...] | None) -> SSAValue:
        dims = [] if along is None else self._dims(along)
        if along is None or len(dims) == len(along):
            return value
        properties = {"reassociation": _reassociation(dims)}
        op = tensor.CollapseShapeOp(operands=[value], result_types=[self._type(value, dims)], properties=properties)
        self._insert(op)
        op.result.name_hint = value.name_hint
        return op.result

    def _expand(self, value: SSAValue, old: SSAValue, yielded: SSAValue) -> SSAValue:
        along = self.axes.of_result(yielded)
        dims = self._dims(along)
        if len(dims) == len(along):
            return value
        shape = shape_of(old)
        sizes = [self._size(along[dim]) for dim, size in enumerate(shape) if size == DYNAMIC_INDEX]
        type_ = TensorType(element_type(old), shape)
        op = tensor.ExpandShapeOp(value, sizes, _reassociation(dims), shape, type_)
        self._insert(op)
        return op.result

    def _size(self, axis: AxisOrUnit) -> SSAValue:
        assert isinstance(axis, Axis) and axis.source is not None
        argument, dim = axis.source
        position = arith.ConstantOp(IntegerAttr.from_index_int_value(dim))
        self._insert(position)
        size = tensor.DimOp(self.kernel.inputs[argument.index], position.result)
        self._insert(size)
        return size.result

    def _nest(self, nest: GenericOp, values: dict[SSAValue, SSAValue]) -> GenericOp:
        """``nest`` over the axes that are left; its results are noted in ``values``."""
        own = self.axes.of_nest(nest)
        kept = [position for position, axis in enumerate(own) if axis not in self._inner]

        def collapsed(map_: AffineMap) -> AffineMap:
            along = self.axes.along(nest, map_)
            results = (result for result, axis in zip(map_.results, along, strict=True) if axis not in self._inner)
            places = [
                AffineExpr.dimension(kept.index(at)) if at in kept else AffineExpr.constant(0) for at in range(len(own))
            ]
            return AffineMap(len(own), 0, tuple(results)).replace_dims_and_symbols(places, (), len(kept), 0)

        types = [self._type(result, self._dims(self.axes.of_result(result))) for result in nest.results]
        new = GenericOp(
            [values[operand] for operand in nest.inputs],
            [nest.iterators.data[position] for position in kept],
            [collapsed(map_.data) for map_ in nest.indexing_maps],
            nest.body.clone(),
            types,
            nest.combiner,
            nest.accumulator_type,
            nest.fastmath,
            precision=nest.precision,
        )
        new.attributes |= nest.attributes
        new.location = nest.location
        for old, result in zip(nest.results, new.results, strict=True):
            result.name_hint = old.name_hint
            values[old] = result
        return new


def _reassociation(dims: Sequence[Sequence[int]]) -> ArrayAttr[ArrayAttr[IntegerAttr]]:
    return ArrayAttr([ArrayAttr([IntegerAttr(dim, i64) for dim in group]) for group in dims])
