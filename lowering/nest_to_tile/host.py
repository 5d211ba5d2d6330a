"""The host side of ``nest-to-tile``: tensors become memrefs, results become arguments, kernels become launches.

    func.func @main(%x : tensor<?x64xf32>) -> tensor<?x10xf32>      func.func @main(%x : memref<?x64xf32>, %y : ...) {
      %h = nest.kernel @first (%a = %x ...)                    =>     %n = memref.dim %x, %c0
      %y = nest.kernel @second (%a = %h ...)                          %h = memref.alloc(%n) : memref<?x96xf32>
      func.return %y                                                  tile.launch @first(%x, %h) {stage = 0}
                                                                      tile.launch @second(%h, %y) {stage = 1}

A kernel writes what the function returns straight into the result's memory; anything else that is returned - an
argument, a constant, one value twice - is copied. Memrefs are contiguous, so a reshape is a view. Dimensions of inputs
that the program takes to be equal are compared first: one ``cf.assert`` each, before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import cast

from xdsl.dialects import arith, func, memref, scf, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseIntOrFPElementsAttr,
    DictionaryAttr,
    FunctionType,
    IntegerAttr,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
)
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap
from xdsl.utils.hints import isa

from crosstile.dialects import tile
from crosstile.dialects.host import host_attributes
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, KernelAxes
from crosstile.dialects.nest.kernel import CallOp, KernelOp
from crosstile.dialects.nest.schedule import PREDICATES, Comparison, GuardAttr
from crosstile.dialects.nest.work import operations_per_point
from crosstile.dialects.packing import memref_of_tensor
from crosstile.ir.index_math import Index
from crosstile.lowering.driver import Lowering, Rule, keep
from crosstile.lowering.hoisting import Hoister
from crosstile.lowering.nest_to_tile.host_sizes import Computed, Dimension, HostSizes, dynamic_dims
from crosstile.lowering.nest_to_tile.kernel import lower_kernel_body

COMPARISONS = {"<=": "sle", "<": "slt", ">=": "sge", ">": "sgt", "==": "eq"}
"""A guard's predicates as ``arith.cmpi`` calls them."""

AnyTensor = TensorType[Attribute]


def memref_type(type_: Attribute) -> Attribute:
    """The contiguous memref for a tensor, or one packed as its encoding says; other types stay as they are."""
    return memref_of_tensor(cast(AnyTensor, type_)) if isinstance(type_, TensorType) else type_


class HostLowering:
    """The rules of the host side, and what they know of the function being lowered."""

    def __init__(self, module: ModuleOp) -> None:
        self.kernels: list[Operation] = []
        """Tile kernels and constants, to be placed before the function."""
        self._taken = {op.sym_name.data for op in module.walk() if isinstance(op, func.FuncOp | tile.KernelOp)}
        self._destinations: dict[SSAValue, SSAValue] = {}
        self._function: HostSizes | None = None
        self._operations: list[AffineMap] = []
        self._stage = 0

    @property
    def sizes(self) -> HostSizes:
        """The sizes of the function being lowered."""
        assert self._function is not None
        return self._function

    @property
    def index(self) -> Hoister:
        """Index arithmetic in the function being lowered."""
        return self.sizes.index

    def rules(self) -> dict[type[Operation], Rule]:
        """The table of rules."""
        return {
            func.FuncOp: self.lower_function,
            func.ReturnOp: self.lower_return,
            KernelOp: self.lower_kernel,
            CallOp: self.lower_call,
            tensor.DimOp: self.lower_dim,
            tensor.EmptyOp: self.lower_empty,
            tensor.FromElementsOp: self.lower_from_elements,
            tensor.CastOp: self.lower_cast,
            tensor.CollapseShapeOp: self.lower_reshape,
            tensor.ExpandShapeOp: self.lower_reshape,
            arith.ConstantOp: self.lower_constant,
        }

    # Functions

    def lower_function(self, op: func.FuncOp, lowering: Lowering) -> None:
        """A host function: destinations after the inputs, and the attributes of ``dialects/host.py``."""
        if not op.body.blocks:
            raise lowering.error("a function without a body has nothing to run")
        returned = op.body.block.last_op
        if not isinstance(returned, func.ReturnOp):
            raise lowering.error("expects one block that ends in func.return")
        results = [memref_type(type_) for type_ in op.function_type.outputs]
        if not all(isinstance(type_, MemRefType) for type_ in results):
            raise lowering.error("a program returns tensors; return a scalar as a tensor of rank 0")
        block = Block()
        index = Hoister(lowering)
        with index.function(block):
            for argument in op.body.block.args:
                lowering.add_argument(block, argument)
            inputs = len(block.args)
            self._function, self._stage, self._operations = HostSizes(block.args, index), 0, []
            destinations = [block.insert_arg(type_, len(block.args)) for type_ in results]
            self._destinations = {}
            for value, destination in zip(returned.operands, destinations, strict=True):
                if isinstance(value.owner, KernelOp) and value not in self._destinations:
                    self._destinations[value] = destination
                elif isinstance(value.owner, tensor.ExpandShapeOp) and value not in self._destinations:
                    self._expand_into(value.owner, destination, lowering)
            self._returned = destinations
            lowering.lower_ops(op.body.block)
        self.sizes.insert_checks(block, op.location)
        shapes = [self._result_shape(lowering, value) for value in returned.operands]
        arg_attrs = op.arg_attrs
        if arg_attrs is not None:
            arg_attrs = ArrayAttr([*arg_attrs.data, *([DictionaryAttr({})] * len(results))])
        types = FunctionType.from_lists([argument.type for argument in block.args], [])
        new = func.FuncOp(op.sym_name.data, types, Region(block), op.sym_visibility, arg_attrs=arg_attrs)
        new.attributes = {**op.attributes, **host_attributes(inputs, shapes, self._operations)}
        for kernel in self.kernels:
            lowering.insert(kernel)
        self.kernels = []
        lowering.insert(new)

    def _expand_into(self, op: tensor.ExpandShapeOp, destination: SSAValue, lowering: Lowering) -> None:
        """Let a kernel whose result is only expanded write where the expanded result is returned."""
        source = op.src
        if not isinstance(source.owner, KernelOp) or len(list(source.uses)) != 1:
            return
        type_ = cast(MemRefType, memref_type(source.type))
        if len(dynamic_dims(type_)) > 1 or 0 in type_.get_shape():
            return
        self._destinations[op.result] = destination
        self._destinations[source] = self._view(destination, type_, self._inferred(destination, type_), lowering)

    def _inferred(self, source: SSAValue, type_: MemRefType) -> dict[int, Computed]:
        """The one size of ``type_`` that is not known, if there is one: the elements of ``source`` over the others."""
        return {dim: self.sizes.inferred(source, type_) for dim in dynamic_dims(type_)}

    def _result_shape(self, lowering: Lowering, value: SSAValue) -> AffineMap:
        shape = self.sizes.result_shape(lowering.value(value))
        if shape is None:
            raise lowering.error("the shape of a result must follow from the shapes of the inputs")
        return shape

    def lower_return(self, op: func.ReturnOp, lowering: Lowering) -> None:
        """What no kernel has written to its destination is copied there."""
        for value, destination in zip(op.operands, self._returned, strict=True):
            if self._destinations.get(value) is not destination:
                lowering.insert(memref.CopyOp(lowering.value(value), destination))
        lowering.insert(func.ReturnOp())

    def lower_dim(self, op: tensor.DimOp, lowering: Lowering) -> None:
        """The size is known or read from the input it comes from."""
        owner = op.index.owner
        if not isinstance(owner, arith.ConstantOp) or not isinstance(owner.value, IntegerAttr):
            raise lowering.error("expects a constant dimension")
        lowering.replace(op, self.index.value(self.sizes.size(lowering.value(op.source), owner.value.value.data)))

    # Memory

    def lower_empty(self, op: tensor.EmptyOp, lowering: Lowering) -> None:
        """A tensor that gives sizes only: memory that nobody reads."""
        type_ = cast(MemRefType, memref_type(op.tensor.type))
        alloc = lowering.insert(memref.AllocOp(lowering.flatten(op.dynamic_sizes), [], type_))
        for dim, size in zip(dynamic_dims(type_), alloc.dynamic_sizes, strict=True):
            self.sizes.record(alloc.memref, dim, self.sizes.computed(size))
        lowering.replace(op, alloc.memref)

    def lower_from_elements(self, op: tensor.FromElementsOp, lowering: Lowering) -> None:
        """Scalars that the host computes, written to a temporary."""
        type_ = cast(MemRefType, memref_type(op.result.type))
        temporary = lowering.insert(memref.AllocOp([], [], type_)).memref
        for element, place in zip(op.elements, product(*map(range, type_.get_shape())), strict=True):
            indices = self.index.values(place)
            lowering.insert(memref.StoreOp.get(lowering.value(element), temporary, indices))
        lowering.replace(op, temporary)

    def lower_constant(self, op: arith.ConstantOp, lowering: Lowering) -> None:
        """A tensor becomes a constant global; scalars stay."""
        if not isa(op.result.type, TensorType):
            keep(op, lowering)
            return
        type_ = cast(MemRefType, memref_type(op.result.type))
        value = op.value
        if not isinstance(value, DenseIntOrFPElementsAttr):
            raise lowering.error(f"expects a dense constant, got {value}")
        name = self._unique("constant")
        constant = memref.GlobalOp.get(StringAttr(name), type_, value, constant=UnitAttr(), alignment=64)
        self.kernels.append(constant)
        constant.location = op.location
        lowering.replace(op, lowering.insert(memref.GetGlobalOp(name, type_)).memref)

    def lower_cast(self, op: tensor.CastOp, lowering: Lowering) -> None:
        """Sizes known or forgotten: the same memory; a size that becomes known is checked at run time."""
        source = lowering.value(op.source)
        type_ = cast(MemRefType, memref_type(op.dest.type))
        result = lowering.insert(memref.CastOp.get(source, type_)).dest
        for dim, (before, after) in enumerate(
            zip(cast(MemRefType, source.type).get_shape(), type_.get_shape(), strict=True)
        ):
            if before == DYNAMIC_INDEX != after:
                self.sizes.require_equal([(source, dim)], after)
            elif after == DYNAMIC_INDEX:
                self.sizes.record(result, dim, Dimension(source, dim))
        lowering.replace(op, result)

    def lower_reshape(self, op: tensor.CollapseShapeOp | tensor.ExpandShapeOp, lowering: Lowering) -> None:
        """The same elements in the same order under another shape; a single unknown size follows from the others.

        That is, if there are elements: where another size is 0, nothing follows.
        """
        source = lowering.value(op.operands[0])
        type_ = cast(MemRefType, memref_type(op.results[0].type))
        dynamic = dynamic_dims(type_)
        if len(dynamic) == 1 and 0 not in type_.get_shape():
            computed = self._inferred(source, type_)
        elif isinstance(op, tensor.CollapseShapeOp):
            groups = [[dim.value.data for dim in group] for group in op.reassociation]
            computed = {dim: self.sizes.product(source, groups[dim]) for dim in dynamic}
        else:
            given = lowering.flatten(op.operands[1:])
            computed = {dim: self.sizes.computed(size) for dim, size in zip(dynamic, given, strict=True)}
        result = self._view(source, type_, computed, lowering)
        if (destination := self._destinations.get(op.results[0])) is not None:
            for dim, size in computed.items():
                self.sizes.record(destination, dim, size)
            result = destination
        lowering.replace(op, result)

    def _view(self, source: SSAValue, type_: MemRefType, computed: dict[int, Computed], lowering: Lowering) -> SSAValue:
        """The memory ``source`` as a ``type_``, whose sizes are known or ``computed``."""
        sizes = [computed[dim].value if dim in computed else size for dim, size in enumerate(type_.get_shape())]
        strides: list[Index] = [1]
        for size in reversed(sizes[1:]):
            strides.insert(0, self.index.mul(strides[0], size))
        view = memref.ReinterpretCastOp.from_dynamic(source, [0], sizes, strides[: len(sizes)], type_)
        result = lowering.insert(view).result
        for dim, size in computed.items():
            self.sizes.record(result, dim, size)
        return result

    # Launches

    def _unique(self, name: str) -> str:
        candidate, suffix = name, 0
        while candidate in self._taken:
            suffix += 1
            candidate = f"{name}_{suffix}"
        self._taken.add(candidate)
        return candidate

    def _results(self, op: KernelOp | CallOp, lowering: Lowering, axes: KernelAxes | None) -> list[SSAValue]:
        """The memory for each result: the function's own if it is returned, else a temporary."""
        memory: list[SSAValue] = []
        for position, result in enumerate(op.results):
            type_ = cast(MemRefType, memref_type(result.type))
            sizes = self._dynamic_sizes(lowering, axes, position, type_)
            value = self._destinations.get(result)
            if value is None:
                dynamic = [self.index.value(self.sizes.size(size.value, size.dim)) for size in sizes.values()]
                value = lowering.insert(memref.AllocOp(dynamic, [], type_)).memref
            for dim, size in sizes.items():
                self.sizes.record(value, dim, size)
            memory.append(value)
        return memory

    def _dynamic_sizes(
        self, lowering: Lowering, axes: KernelAxes | None, position: int, type_: MemRefType
    ) -> dict[int, Dimension]:
        """Where each dynamic dimension of result ``position`` gets its size from."""
        dynamic = dynamic_dims(type_)
        if not dynamic:
            return {}
        if axes is None:
            raise lowering.error("a called kernel must have results of static shape")
        along = axes.of_result(axes.kernel.yield_op.arguments[position])
        return {dim: self._source(lowering, axes, along[dim]) for dim in dynamic}

    def _source(self, lowering: Lowering, axes: KernelAxes, axis: AxisOrUnit) -> Dimension:
        """The new memref and its dimension that give the size of a dynamic axis."""
        if not isinstance(axis, Axis) or axis.source is None:
            raise lowering.error(f"no input of the kernel gives the size of iterator '{axis}'")
        argument, dim = axis.source
        return Dimension(lowering.value(axes.kernel.inputs[argument.index]), dim)

    def lower_kernel(self, op: KernelOp, lowering: Lowering) -> None:
        """One tile kernel per schedule, and the launches that choose between them by the guards."""
        if op.schedules is None:
            raise lowering.error("the kernel has no schedule: run choose-schedule first, or write one")
        outputs = list(op.yield_op.arguments)
        if any(not isinstance(value, OpResult) for value in outputs) or len(set(outputs)) != len(outputs):
            raise lowering.error("a kernel yields distinct results of its nests")
        axes = KernelAxes(op)
        for axis in axes.all():
            places = [(lowering.value(axes.kernel.inputs[argument.index]), dim) for argument, dim in axes.places(axis)]
            self.sizes.require_equal(places, axis.size)
        self._count_operations(lowering, axes)
        memory = self._results(op, lowering, axes)
        arguments = [*lowering.flatten(op.inputs), *memory]
        variants: list[tuple[GuardAttr, str]] = []
        for guarded in op.schedules:
            if (split := guarded.schedule.data.split) is not None:
                raise lowering.error(f"a schedule has split = {split}: run split-contraction first")
            name = self._unique(op.kernel_name.data)
            kernel = lower_kernel_body(lowering, op, axes, guarded, name)
            self.kernels.append(kernel)
            variants.append((guarded.guard, name))
        self._launch(lowering, axes, variants, arguments)
        self._stage += 1
        lowering.replace(op, *memory)

    def _count_operations(self, lowering: Lowering, axes: KernelAxes) -> None:
        """Note what each nest computes, as far as the sizes of inputs say."""
        for nest in axes.nests:
            sizes = [self._expression(lowering, axes, axis) for axis in axes.of_nest(nest)]
            known = [size for size in sizes if size is not None]
            if len(known) == len(sizes):
                factors = (AffineExpr.constant(operations_per_point(nest)), *known)
                self._operations.append(self.sizes.map(factors))

    def _expression(self, lowering: Lowering, axes: KernelAxes, axis: Axis) -> AffineExpr | None:
        """The size of ``axis`` from the inputs' dynamic dimensions; None if it is no expression of them."""
        if axis.size is not None:
            return AffineExpr.constant(axis.size)
        if axis.source is None:
            return None
        source = self._source(lowering, axes, axis)
        return self.sizes.expression(source.value, source.dim)

    def _launch(
        self,
        lowering: Lowering,
        axes: KernelAxes,
        variants: Sequence[tuple[GuardAttr, str]],
        arguments: Sequence[SSAValue],
    ) -> None:
        (guard, name), *others = variants
        launch = tile.LaunchOp(SymbolRefAttr(name), arguments, self._stage)
        if not others or not guard.data:
            lowering.insert(launch)
            return
        condition = self._condition(lowering, axes, guard)
        with lowering.at(chosen := Block()):
            lowering.insert(launch)
            lowering.insert(scf.YieldOp())
        with lowering.at(other := Block()):
            self._launch(lowering, axes, others, arguments)
            lowering.insert(scf.YieldOp())
        lowering.insert(scf.IfOp(condition, [], Region(chosen), Region(other)))

    def _condition(self, lowering: Lowering, axes: KernelAxes, guard: GuardAttr) -> SSAValue:
        """A guard as an i1 computed from the sizes of the inputs."""
        holds = [self._compare(lowering, axes, comparison) for comparison in guard.data]
        result = holds[0]
        for condition in holds[1:]:
            result = self.index.build(arith.AndIOp(result, condition)).result
        return result

    def _compare(self, lowering: Lowering, axes: KernelAxes, comparison: Comparison) -> SSAValue:
        axis = axes.by_name(comparison.iterator)
        assert axis is not None and comparison.predicate in PREDICATES
        size: Index | None = axis.size
        if size is None:
            source = self._source(lowering, axes, axis)
            size = self.sizes.size(source.value, source.dim)
        if comparison.modulus is not None:
            size = self.index.remainder(size, comparison.modulus)
        bound = self.index.value(comparison.bound)
        return self.index.build(arith.CmpiOp(self.index.value(size), bound, COMPARISONS[comparison.predicate])).result

    def lower_call(self, op: CallOp, lowering: Lowering) -> None:
        """A kernel kept as text beside its operator is launched as it is."""
        memory = self._results(op, lowering, None)
        lowering.insert(tile.LaunchOp(op.kernel, [*lowering.flatten(op.inputs), *memory], self._stage))
        self._stage += 1
        lowering.replace(op, *memory)
