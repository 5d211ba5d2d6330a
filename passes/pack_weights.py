"""``pack-weights``: right factors that stay the same from call to call are laid out once as kernels read them.

Level: nest, before ``choose-schedule``. In: kernels of matrix products and convolutions. Out: the same, with constants
written in the order in which the kernel walks through them, and with ``arguments`` also those that are marked as
weights, which the caller then brings in that order (``bind`` of the Python interface does)::

    func.func @main(%x : tensor<?x64xf32>, %w : tensor<64x96xf32> {nn.weight}) {
      nest.kernel @matmul (%a = %x : ..., %b = %w : tensor<64x96xf32>)
    ==>
    func.func @main(%x : tensor<?x64xf32>,
                    %w : tensor<64x96xf32, affine_map<(d0, d1) -> (d1 floordiv 16, d0, d1 mod 16)>> {nn.weight}) {

The layout is part of the type, so nothing else knows or keeps it, and every level computes the same results, bit for
bit. A weight is left as it is if something else than a product reads it, or two kernels want it in different layouts;
so is what a schedule in the file reads in a way that no layout serves. A schedule in the file no longer stages what is
packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from xdsl.context import Context
from xdsl.dialects import arith
from xdsl.dialects.builtin import ArrayAttr, DenseIntOrFPElementsAttr, ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, BlockArgument, SSAValue, Use
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter
from xdsl.utils.hints import isa

from crosstile.dialects.nest.attention_roles import attention_roles
from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.contraction_roles import contraction_roles
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.row_chain_roles import row_chain_roles
from crosstile.dialects.nest.schedule import GuardedScheduleAttr, ScheduleAttr
from crosstile.dialects.nn.weights import weight_arguments
from crosstile.dialects.packing import packed_tensor
from crosstile.ir.diagnostics import op_error
from crosstile.passes.choose_schedule import schedules_for
from crosstile.passes.schedules.packed import staged_layout, without_stages
from crosstile.targets.host import default_target, resolve_machine
from crosstile.targets.model import Machine, UnknownNameError
from crosstile.targets.packing import PackedLayout


def kernel_layouts(kernel: KernelOp, machine: Machine) -> dict[int, PackedLayout]:
    """The layouts in which ``kernel`` would like its inputs, by their positions; only those of its product."""
    axes = KernelAxes(kernel)
    roles = contraction_roles(axes)
    if roles is None or attention_roles(axes) is not None or row_chain_roles(axes) is not None:
        return {}
    guarded = schedules_for(kernel, machine) if kernel.schedules is None else list(kernel.schedules)
    schedules = [each.schedule.data for each in guarded]
    found: dict[int, PackedLayout] = {}
    for position in (roles.lhs, roles.rhs):
        argument = roles.nest.inputs[position]
        if not isinstance(argument, BlockArgument) or len(list(argument.uses)) != 1:
            continue
        written = kernel.schedules is not None
        if written and not all(position in schedule.stage for schedule in schedules):
            continue
        layout = staged_layout(axes, roles, position, schedules, machine)
        if layout is not None:
            found[argument.index] = layout
    return found


class _Function:
    """One function: what its kernels would like packed, and the packing of its constants and arguments."""

    def __init__(self, function: FuncOp, machine: Machine):
        self.function = function
        self._machine = machine
        self._layouts: dict[KernelOp, dict[int, PackedLayout]] = {}

    def pack_constants(self) -> None:
        """Give each kernel that wants a constant packed a copy of its own, one for all that want the same layout."""
        for constant in [op for op in self.function.body.walk() if isinstance(op, arith.ConstantOp)]:
            if not isinstance(constant.value, DenseIntOrFPElementsAttr) or not isa(constant.result.type, TensorType):
                continue
            by_layout: dict[PackedLayout, list[Use]] = {}
            for use in constant.result.uses:
                layout = self._wanted(use)
                if layout is not None:
                    by_layout.setdefault(layout, []).append(use)
            for layout, uses in by_layout.items():
                value = constant.value
                type_ = packed_tensor(constant.result.type, layout)
                packed = arith.ConstantOp(DenseIntOrFPElementsAttr(cast("TensorType[Any]", type_), value.data), type_)
                packed.location = constant.location
                packed.result.name_hint = constant.result.name_hint
                block = constant.parent_block()
                assert block is not None
                block.insert_op_after(packed, constant)
                for use in uses:
                    use.operation.operands[use.index] = packed.result
                    self._adopt(use, type_)
            if not constant.result.uses:
                constant.detach()
                constant.erase()

    def pack_arguments(self) -> None:
        """Lay out the arguments marked as weights whose uses agree on how."""
        for argument in weight_arguments(self.function):
            uses = list(argument.uses)
            wanted = {self._wanted(use) for use in uses}
            layout = wanted.pop() if len(wanted) == 1 else None
            if layout is None or not isa(argument.type, TensorType):
                continue
            type_ = packed_tensor(argument.type, layout)
            Rewriter.replace_value_with_new_type(argument, type_)
            for use in uses:
                self._adopt(use, type_)
        self.function.update_function_type()

    def _wanted(self, use: Use) -> PackedLayout | None:
        kernel = use.operation
        if not isinstance(kernel, KernelOp):
            return None
        if kernel not in self._layouts:
            self._layouts[kernel] = kernel_layouts(kernel, self._machine)
        return self._layouts[kernel].get(use.index)

    def _adopt(self, use: Use, type_: Attribute) -> None:
        """The kernel's own argument gets the packed type, and its schedules no longer stage it."""
        kernel = use.operation
        assert isinstance(kernel, KernelOp)
        argument = Rewriter.replace_value_with_new_type(cast(SSAValue, kernel.body.block.args[use.index]), type_)
        if kernel.schedules is None:
            return
        roles = contraction_roles(KernelAxes(kernel))
        assert roles is not None
        position = roles.nest.inputs.index(argument)
        kernel.schedules = ArrayAttr(_read_in_place(kernel.schedules.data, position))


def _read_in_place(schedules: Sequence[GuardedScheduleAttr], position: int) -> list[GuardedScheduleAttr]:
    return [
        GuardedScheduleAttr(guarded.guard, ScheduleAttr(without_stages(guarded.schedule.data, [position])))
        for guarded in schedules
    ]


@dataclass(frozen=True)
class PackWeightsPass(ModulePass):
    """Constants, and with ``arguments`` those marked ``nn.weight``, in the order in which kernels read them."""

    name = "pack-weights"

    target: str = field(default_factory=default_target)
    arguments: bool = False

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Pack in every function of the module ``op`` in place."""
        try:
            machine = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"pack-weights: {error}") from error
        for function in op.ops:
            if isinstance(function, FuncOp) and function.body.blocks:
                packing = _Function(function, machine)
                packing.pack_constants()
                if self.arguments:
                    packing.pack_arguments()
