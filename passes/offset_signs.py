"""``offset-signs``: products of bytes whose signs no instruction takes become ones that an instruction takes.

Level: nest, before schedules are chosen. ``vpdpbusd`` multiplies unsigned by signed bytes. A signed right factor with
its sign bits flipped is unsigned and 128 too large, which adds 128 times the sums of the left factor's rows; an
unsigned one becomes signed and 128 too small. Sums of 32 bits wrap around, so what is subtracted at the end leaves the
product exact, whatever it passed through on the way::

    %c = nest.kernel @matmul (%a = %x : tensor<?x?xi8>, %b = %w : tensor<?x?xi8>)      signed by signed
    ==>
    %s = nest.kernel @row_sums (%x)         sums over k                one pass over the left factor
    %c = nest.kernel @matmul (%a = %x, %b = %w, %sums = %s) {
      %u = arith.xori %b, -128              where the right factor is packed
      product of %a by %u, unsigned
      %t = arith.muli %sum, 128             an epilogue, while the product is in registers
      %r = arith.subi %product, %t }

Where the left factor is computed in the kernel, its signs are flipped, and the right factor's columns are summed. A
product whose factor cannot be computed where it is staged has a kernel ``flip_signs`` before it. Kernels with a
schedule of their own stay as they are, and so do products that read through windows: the padding of a
convolution is zero before the signs are flipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerAttr, IntegerType, ModuleOp, TensorType
from xdsl.ir import Attribute, Block, BlockArgument, Operation, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.hints import isa

from crosstile.dialects.nest.analysis import element_type, shape_of
from crosstile.dialects.nest.attributes import IteratorAttr, IteratorKind
from crosstile.dialects.nest.axes import Axis, KernelAxes, axes_among
from crosstile.dialects.nest.contraction_roles import BYTE, ContractionRoles, contraction_roles
from crosstile.dialects.nest.generic import GenericOp, YieldOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.kernel_names import KernelNames
from crosstile.ir.diagnostics import op_error
from crosstile.passes.schedules.byte_signs import flipped_factor
from crosstile.passes.schedules.computed import can_compute
from crosstile.targets.host import resolve_machine
from crosstile.targets.model import Machine, UnknownNameError

OFFSET = 1 << (BYTE - 1)
"""What flipping the sign bit of a byte adds to it, read as unsigned instead of signed."""
_Build = Callable[[SSAValue], GenericOp]


def offset_factor(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> int | None:
    """The factor whose sign bits are to be flipped for ``machine`` to multiply these bytes; None if none is."""
    position = flipped_factor(roles, machine)
    along = [axes.of_operand(roles.nest, at) for at in (roles.lhs, roles.rhs)]
    plain = all(isinstance(entry, Axis) for entries in along for entry in entries)
    return position if plain and not roles.nest.clipped_inputs else None


class _Rewriting:
    """One product: the kernels before it, its own factors and the nest after it.

    The factor at ``position`` is flipped, the one at ``summed`` is added up.
    """

    def __init__(self, kernel: KernelOp, axes: KernelAxes, roles: ContractionRoles, names: KernelNames, position: int):
        self.kernel, self.axes, self.roles, self.names = kernel, axes, roles, names
        self.position, self.summed = position, roles.lhs if position == roles.rhs else roles.rhs
        self.side = 0 if position == roles.lhs else 1

    def run(self, staged: bool) -> None:
        """Rewrite in place; ``staged``: signs are flipped where the factor is staged."""
        signed = self.roles.factors[self.side] == "si8"
        flipped = self._flip_staged() if staged else self._add_input(self._flip_before(self._outer(self.position)))
        sums = self._sums(self._outer(self.summed))
        self._exchange_factor(flipped, signed)
        self._correct(self._add_input(sums), signed)
        self._drop_unused_inputs()

    def _outer(self, position: int) -> SSAValue:
        """The value outside the kernel that a factor is."""
        factor = self._factor(position)
        assert isinstance(factor, BlockArgument)
        return self.kernel.inputs[factor.index]

    def _factor(self, position: int) -> SSAValue:
        return self.roles.nest.inputs[position]

    # Before the product

    def _flip_before(self, value: SSAValue) -> SSAValue:
        names = [IteratorAttr.of(f"d{dim}", IteratorKind.PARALLEL) for dim in range(len(shape_of(value)))]
        return self._kernel_before("flip_signs", value, lambda source: _flip(source, names))

    def _flip_staged(self) -> SSAValue:
        nest = self.roles.nest
        along = self.axes.of_operand(nest, self.position)
        names = [IteratorAttr.of(axis.name, IteratorKind.PARALLEL) for axis in axes_among(along)]
        flipped = _flip(self._factor(self.position), names)
        for op in (flipped, *flipped.body.walk()):
            op.location = nest.location
        Rewriter.insert_op(flipped, InsertPoint.before(nest))
        return flipped.results[0]

    def _sums(self, value: SSAValue) -> SSAValue:
        """The sums over k of the factor that stays as it is."""
        along, reduced = self.axes.of_operand(self.roles.nest, self.summed), self.axes.reduced(self.roles.nest)
        kept = [dim for dim, axis in enumerate(along) if axis not in reduced]
        kinds = [IteratorKind.REDUCTION if axis in reduced else IteratorKind.PARALLEL for axis in along]
        names = [IteratorAttr.of(f"d{dim}", kind) for dim, kind in enumerate(kinds)]
        body = Block(arg_types=[IntegerType(BYTE)])
        widen = arith.ExtSIOp if self.roles.factors[1 - self.side] == "si8" else arith.ExtUIOp
        wide = widen(body.args[0], self._sum_type)
        body.add_ops([wide, YieldOp(wide.result)])
        rank = len(along)
        maps = [AffineMap.identity(rank), AffineMap(rank, 0, tuple(AffineExpr.dimension(dim) for dim in kept))]
        type_ = TensorType(self._sum_type, [shape_of(value)[dim] for dim in kept])
        return self._kernel_before(
            "row_sums" if self.side else "column_sums",
            value,
            lambda source: GenericOp([source], names, maps, body, [type_], "add", self._sum_type),
        )

    @property
    def _sum_type(self) -> IntegerType:
        assert isa(self.roles.element, IntegerType)
        return self.roles.element

    def _kernel_before(self, name: str, value: SSAValue, build: _Build) -> SSAValue:
        body = Block(arg_types=[value.type])
        body.args[0].name_hint = value.name_hint
        nest = build(body.args[0])
        body.add_ops([nest, YieldOp(*nest.results)])
        kernel = KernelOp(self.names.unique(name), [value], nest.result_types, body)
        for op in (kernel, *kernel.body.walk()):
            op.location = self.kernel.location
        Rewriter.insert_op(kernel, InsertPoint.before(self.kernel))
        return kernel.results[0]

    # The product

    def _add_input(self, value: SSAValue) -> SSAValue:
        block = self.kernel.body.block
        self.kernel.operands = [*self.kernel.inputs, value]
        return block.insert_arg(value.type, len(block.args))

    def _exchange_factor(self, flipped: SSAValue, signed: bool) -> None:
        """Read the flipped bytes, and widen them as what they are now."""
        nest = self.roles.nest
        nest.operands[self.position] = flipped
        argument = nest.body.block.args[self.position]
        for use in list(argument.uses):
            old = use.operation
            new: Operation = (arith.ExtUIOp if signed else arith.ExtSIOp)(argument, self._sum_type)
            new.location = old.location
            Rewriter.replace_op(old, new)

    def _correct(self, sums: SSAValue, signed: bool) -> None:
        """What the offset added is taken from the product, or what it lacks is added to it."""
        nest, element = self.roles.nest, self._sum_type
        product = nest.results[0]
        along = self.axes.of_result(product)
        reduced = self.axes.reduced(nest)
        kept = [axis for axis in self.axes.of_operand(nest, self.summed) if axis not in reduced]
        rank = len(along)
        body = Block(arg_types=[element, element])
        factor = arith.ConstantOp(IntegerAttr(OFFSET, element))
        surplus = arith.MuliOp(body.args[1], factor.result)
        right = (arith.SubiOp if signed else arith.AddiOp)(body.args[0], surplus.result)
        body.add_ops([factor, surplus, right, YieldOp(right.result)])
        names = [IteratorAttr.of(axis.name, IteratorKind.PARALLEL) for axis in axes_among(along)]
        every = AffineMap.identity(rank)
        over_kept = AffineMap(rank, 0, tuple(AffineExpr.dimension(along.index(axis)) for axis in kept))
        corrected = _nest([product, sums], names, [every, over_kept, every], body, product)
        for op in (corrected, *corrected.body.walk()):
            op.location = nest.location
        Rewriter.insert_op(corrected, InsertPoint.after(nest))
        product.replace_uses_with_if(corrected.results[0], lambda use: use.operation is not corrected)

    def _drop_unused_inputs(self) -> None:
        block = self.kernel.body.block
        kept = [position for position, argument in enumerate(block.args) if argument.uses]
        self.kernel.operands = [self.kernel.inputs[position] for position in kept]
        for argument in [argument for argument in block.args if not argument.uses]:
            block.erase_arg(argument)


def _flip(value: SSAValue, names: list[IteratorAttr]) -> GenericOp:
    """The bytes of ``value`` with their sign bits flipped."""
    body = Block(arg_types=[IntegerType(BYTE)])
    bit = arith.ConstantOp(IntegerAttr(-OFFSET, IntegerType(BYTE)))
    flipped = arith.XOrIOp(body.args[0], bit.result)
    body.add_ops([bit, flipped, YieldOp(flipped.result)])
    every = AffineMap.identity(len(names))
    return _nest([value], names, [every, every], body, value)


def _nest(
    inputs: list[SSAValue], names: list[IteratorAttr], maps: list[AffineMap], body: Block, like: SSAValue
) -> GenericOp:
    """An elementwise nest with a result of the type of ``like``."""
    types: list[Attribute] = [like.type]
    return GenericOp(inputs, names, maps, body, types)


@dataclass(frozen=True)
class OffsetSignsPass(ModulePass):
    """Products of bytes by an instruction for other signs, on the machine called ``target``."""

    name = "offset-signs"

    target: str = "x86-64-avx512"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the kernels of the module ``op`` in place."""
        try:
            machine = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"offset-signs: {error}") from error
        names: KernelNames | None = None
        for kernel in [each for each in op.walk() if isinstance(each, KernelOp) and each.schedules is None]:
            if not any(element_type(value) == IntegerType(BYTE) for value in kernel.inputs):
                continue
            axes = KernelAxes(kernel)
            roles = contraction_roles(axes)
            position = None if roles is None else offset_factor(axes, roles, machine)
            if roles is not None and position is not None:
                names = names or KernelNames(op)
                _Rewriting(kernel, axes, roles, names, position).run(staged=can_compute(axes, roles, machine))
