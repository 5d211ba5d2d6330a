"""``split-contraction``: a product of few blocks and a long k becomes parts of k side by side, and a sum of the parts.

Level: nest, before schedules are chosen. In: kernels of a matrix product. Out: where the product may be reassociated
and a schedule says ``split = 32``, or the machine has more units than the result has blocks, two kernels::

    %y = nest.kernel @matmul (%a = %x : tensor<64x8192xbf16>, %b = %w : tensor<8192x64xbf16>) {
      nest.generic [m, n : parallel, k : reduction] ... fastmath<reassoc> ... -> (m, n) : tensor<64x64xf32>
      nest.generic ... }
    ==>
    %p = tensor.expand_shape %x [[0], [1, 2]] output_shape [64, 32, 256]       the same memory, k in 32 parts
    %q = tensor.expand_shape %w [[0, 1], [2]] output_shape [32, 256, 64]
    %s = nest.kernel @matmul_parts (%a = %p, %b = %q) {
      nest.generic [part, m, n : parallel, k : reduction] ... -> (part, m, n) : tensor<32x64x64xf32> }
    %y = nest.kernel @matmul (%c = %s : tensor<32x64x64xf32>) {
      nest.generic [m, n : parallel, part : reduction] combiner<add> ... -> (m, n) : tensor<64x64xf32>
      nest.generic ... }                                                        what the program does with the product

Each part is one chain over its range of k, and the parts are added in their order: results are the same bits in every
run. Sums of floats may be split where the nest says ``fastmath<reassoc>``; sums of integers always, since they are
exact in any order. A schedule of ``split`` alone leaves all else to ``choose-schedule``; ``split = 1`` forbids a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from xdsl.context import Context
from xdsl.dialects import arith, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    NoneAttr,
    TensorType,
    i64,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineExpr, AffineMap
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.hints import isa

from crosstile.dialects.nest.analysis import element_type, is_elementwise, shape_of
from crosstile.dialects.nest.attributes import IteratorAttr, IteratorKind
from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.contraction_roles import ContractionRoles, contraction_roles
from crosstile.dialects.nest.generic import GenericOp, YieldOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.kernel_names import KernelNames
from crosstile.dialects.nest.schedule import GuardAttr, GuardedScheduleAttr, Loop, Schedule, ScheduleAttr
from crosstile.ir.diagnostics import op_error
from crosstile.passes.schedules.parts import factor_bits, legal_parts, parts_for
from crosstile.targets.host import default_target, resolve_machine
from crosstile.targets.model import UnknownNameError

PART = "part"
"""The iterator over parts, with a number if the kernel has one of this name."""


@dataclass(frozen=True)
class SplitContractionPass(ModulePass):
    """Products of few blocks and a long k, in parts that keep the machine called ``target`` busy."""

    name = "split-contraction"

    target: str = field(default_factory=default_target)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Split in the module ``op``, in place. Raises CrosstileError for a schedule whose split cannot be served."""
        try:
            machine = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"split-contraction: {error}") from error
        names: KernelNames | None = None
        for kernel in [each for each in op.walk() if isinstance(each, KernelOp)]:
            written = _written(kernel)
            if kernel.schedules is not None and written is None:
                continue
            if written == 1:
                kernel.schedules = _whole(kernel)
                continue
            axes = KernelAxes(kernel)
            roles = contraction_roles(axes)
            obstacle = _obstacle(kernel, roles)
            if written is not None and obstacle is not None:
                raise _error(kernel, written, obstacle)
            if obstacle is not None or roles is None:
                continue
            parts = parts_for(axes, roles, machine) if written is None else written
            if written is not None and (problem := _problem(roles, written)) is not None:
                raise _error(kernel, written, problem)
            if parts > 1:
                names = names or KernelNames(op)
                _Split(kernel, axes, roles, parts, names).replace()


def _error(kernel: KernelOp, parts: int, problem: str) -> Exception:
    return op_error(
        kernel, f"split-contraction: the schedule of @{kernel.kernel_name.data} has split = {parts}; {problem}"
    )


def _written(kernel: KernelOp) -> int | None:
    """The number of parts that the schedules of ``kernel`` ask for; all of them must ask for the same."""
    splits = {guarded.schedule.data.split for guarded in kernel.schedules or ()}
    if splits <= {None}:
        return None
    if len(splits) > 1:
        found = " and ".join(sorted("none" if split is None else str(split) for split in splits))
        raise op_error(
            kernel,
            f"split-contraction: the schedules of @{kernel.kernel_name.data} have the splits {found}: expects one for "
            "all of them, as parts are kernels of their own",
        )
    return splits.pop()


def _whole(kernel: KernelOp) -> ArrayAttr[GuardedScheduleAttr] | None:
    """The schedules of ``kernel`` for a product that stays whole; None if they say nothing but that."""
    schedules = kernel.schedules or ()
    if all(guarded.schedule.data == Schedule(split=1) for guarded in schedules):
        return None
    return ArrayAttr(
        GuardedScheduleAttr(guarded.guard, ScheduleAttr(replace(guarded.schedule.data, split=None)))
        for guarded in schedules
    )


def _obstacle(kernel: KernelOp, roles: ContractionRoles | None) -> str | None:
    """Why no part of the product of ``kernel`` can be a product of its own; None if it can."""
    if roles is None:
        return "the kernel's first contraction is no matrix product with sums in the type of its result"
    nest = roles.nest
    flags = nest.fastmath.data if nest.fastmath is not None else ()
    if not isinstance(roles.element, IntegerType) and FastMathFlag.REASSOC not in flags:
        return "that adds products in another order, which the program does not allow: expects fastmath<reassoc>"
    if nest.clipped_inputs or len(nest.positions(IteratorKind.REDUCTION)) != 1:
        return "the product sums over more than one iterator or reads through a window: expects a plain product"
    if any(each is not nest and not is_elementwise(each) for each in kernel.generics):
        return "another nest of the kernel folds: expects elementwise nests after the product"
    (k,) = nest.positions(IteratorKind.REDUCTION)
    for position, (value, map_) in enumerate(zip(nest.inputs, nest.input_maps, strict=True)):
        if not isinstance(value, BlockArgument):
            return f"input {position} of the product is computed in the same kernel: expects an input of the kernel"
        along = [dim for dim, index in enumerate(map_.results) if k in index.used_dims()]
        plain = len(along) == 1 and isinstance(map_.results[along[0]], AffineDimExpr)
        if not plain if position <= 1 else along:
            return f"input {position} of the product is not indexed by '{roles.k}' alone in one dimension"
        if isa(value.type, TensorType) and not isinstance(value.type.encoding, NoneAttr):
            return f"input {position} of the product is packed: expects one that lies as it is"
    return None


def _problem(roles: ContractionRoles, parts: int) -> str | None:
    """Why k cannot be in so many parts; None if it can."""
    size = roles.k.size
    if size is None:
        return f"the size of '{roles.k}' is only known at run time: expects it in the type"
    if parts in (legal := legal_parts(size, factor_bits(roles))):
        return None
    nearest = min(legal, key=lambda each: (abs(each - parts), each))
    return (
        f"'{roles.k}' has {size} steps, which are no such number of equal parts of whole 16 bytes: the nearest number "
        f"that is legal is {nearest}"
    )


class _Split:
    """A kernel whose product becomes ``parts`` products side by side."""

    def __init__(self, kernel: KernelOp, axes: KernelAxes, roles: ContractionRoles, parts: int, names: KernelNames):
        self.kernel, self.nest, self.roles, self.parts, self.names = kernel, roles.nest, roles, parts, names
        (self._k,) = self.nest.positions(IteratorKind.REDUCTION)
        taken, count = {axis.name.lower() for axis in axes.all()}, 0
        self._part = PART
        while self._part in taken:
            count += 1
            self._part = f"{PART}{count}"

    def replace(self) -> None:
        """Put a kernel of the parts before the kernel, whose product becomes their sum."""
        products = self._products()
        block = self.kernel.body.block
        self.kernel.operands = [*self.kernel.inputs, products]
        argument = block.insert_arg(products.type, len(block.args))
        total = self._total(argument)
        for before, after in zip(self.nest.results, total.results, strict=True):
            after.name_hint = before.name_hint
        Rewriter.replace_op(self.nest, total)
        self.kernel.schedules = None
        kept = [position for position, each in enumerate(block.args) if each.uses]
        self.kernel.operands = [self.kernel.inputs[position] for position in kept]
        for unused in [each for each in block.args if not each.uses]:
            block.erase_arg(unused)

    # The parts

    def _products(self) -> SSAValue:
        """The kernel of the parts: its result has one more dimension, the first."""
        nest = self.nest
        outer: list[SSAValue] = []
        maps: list[AffineMap] = []
        for position, (value, map_) in enumerate(zip(nest.inputs, nest.input_maps, strict=True)):
            assert isinstance(value, BlockArgument)
            source = self.kernel.inputs[value.index]
            at = next((dim for dim, index in enumerate(map_.results) if self._k in index.used_dims()), None)
            outer.append(source if at is None else self._in_parts(source, at))
            maps.append(self._with_part(map_, at if position <= 1 else None))
        maps.append(self._with_part(nest.result_maps[0], 0))
        body = Block(arg_types=[value.type for value in outer])
        for value, argument in zip(nest.inputs, body.args, strict=True):
            argument.name_hint = value.name_hint
        type_ = TensorType(self.roles.element, [self.parts, *shape_of(nest.results[0])])
        parts = GenericOp(
            body.args,
            [IteratorAttr.of(self._part, IteratorKind.PARALLEL), *nest.iterators],
            maps,
            nest.body.clone(),
            [type_],
            nest.combiner,
            nest.accumulator_type,
            nest.fastmath,
            precision=nest.precision,
        )
        parts.attributes |= nest.attributes
        parts.results[0].name_hint = "parts"
        body.add_ops([parts, YieldOp(*parts.results)])
        name = self.names.unique(f"{self.kernel.kernel_name.data}_parts")
        kernel = KernelOp(name, outer, [type_], body, self._schedules())
        for op in kernel.walk():
            op.location = nest.location
        Rewriter.insert_op(kernel, InsertPoint.before(self.kernel))
        kernel.results[0].name_hint = "parts"
        return kernel.results[0]

    def _with_part(self, map_: AffineMap, before: int | None) -> AffineMap:
        """``map_`` over one more iterator, the first, which indexes a new dimension ``before`` an old one."""
        shifted = [AffineExpr.dimension(position + 1) for position in range(map_.num_dims)]
        results = list(map_.replace_dims_and_symbols(shifted, (), map_.num_dims + 1, 0).results)
        if before is not None:
            results.insert(before, AffineExpr.dimension(0))
        return AffineMap(map_.num_dims + 1, 0, tuple(results))

    def _in_parts(self, value: SSAValue, at: int) -> SSAValue:
        """``value`` with its dimension ``at``, k, as parts and steps of a part; no element moves."""
        shape = list(shape_of(value))
        sizes = [self._size(value, dim) for dim, size in enumerate(shape) if size == DYNAMIC_INDEX]
        shape[at : at + 1] = [self.parts, shape[at] // self.parts]
        groups = [[dim + (dim > at)] if dim != at else [at, at + 1] for dim in range(len(shape) - 1)]
        reassociation = ArrayAttr([ArrayAttr([IntegerAttr(dim, i64) for dim in group]) for group in groups])
        type_ = TensorType(element_type(value), shape)
        op = self._insert(tensor.ExpandShapeOp(value, sizes, reassociation, shape, type_))
        op.results[0].name_hint = value.name_hint
        return op.results[0]

    def _size(self, value: SSAValue, dim: int) -> SSAValue:
        position = self._insert(arith.ConstantOp(IntegerAttr.from_index_int_value(dim)))
        return self._insert(tensor.DimOp(value, position.results[0])).results[0]

    def _insert(self, op: Operation) -> Operation:
        op.location = self.nest.location
        Rewriter.insert_op(op, InsertPoint.before(self.kernel))
        return op

    # Their sum

    def _total(self, products: SSAValue) -> GenericOp:
        """The nest that adds the parts up, in order, in place of the product."""
        nest = self.nest
        kept = nest.positions(IteratorKind.PARALLEL)
        names = [nest.iterators.data[position] for position in kept]
        places = [AffineExpr.constant(0)] * len(nest.iterators)
        for place, position in enumerate(kept):
            places[position] = AffineExpr.dimension(place)
        count = len(kept) + 1
        whole = nest.result_maps[0].replace_dims_and_symbols(places, (), count, 0)
        part = AffineMap(count, 0, (AffineExpr.dimension(count - 1), *whole.results))
        body = Block(arg_types=[self.roles.element])
        body.add_op(YieldOp(body.args[0]))
        total = GenericOp(
            [products],
            [*names, IteratorAttr.of(self._part, IteratorKind.REDUCTION)],
            [part, whole],
            body,
            list(nest.result_types),
            "add",
            self.roles.element,
        )
        total.attributes |= nest.attributes
        for op in total.walk():
            op.location = nest.location
        return total

    # Schedules

    def _schedules(self) -> list[GuardedScheduleAttr] | None:
        """The schedules of the file for the parts, each of which is a block of its own; guards on k are decided.

        None where the file says nothing but the number of parts.
        """
        if self.kernel.schedules is None:
            return None
        if all(guarded.schedule.data == Schedule(split=self.parts) for guarded in self.kernel.schedules):
            return None
        found: list[GuardedScheduleAttr] = []
        k = self.roles.k
        for guarded in self.kernel.schedules:
            about_k = [each for each in guarded.guard.data if each.iterator.lower() == k.name.lower()]
            if all(each.holds(k.size or 0) for each in about_k):
                rest = tuple(each for each in guarded.guard.data if each not in about_k)
                found.append(GuardedScheduleAttr(GuardAttr(rest), ScheduleAttr(self._of_parts(guarded.schedule.data))))
                if not rest:
                    break
        return found

    def _of_parts(self, schedule: Schedule) -> Schedule:
        """``schedule`` with a loop over parts around its own, which workers divide."""
        return replace(
            schedule,
            split=None,
            loops=(
                Loop(self._part, 1),
                *_up_to(schedule.loops, self.roles.k.name, (self.roles.k.size or 0) // self.parts),
            ),
            grid=(self._part, *schedule.grid) if schedule.grid else (),
            parallel=self._part if schedule.parallel is not None else None,
            grain=1,
        )


def _up_to(loops: Sequence[Loop], iterator: str, size: int) -> list[Loop]:
    """``loops`` with steps over ``iterator`` of at most ``size``."""
    return [replace(loop, step=min(loop.step, max(size, 1))) if loop.iterator == iterator else loop for loop in loops]
