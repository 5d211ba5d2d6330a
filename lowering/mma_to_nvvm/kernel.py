"""Rules for kernels: a function, what its parameters stand for, and what its attributes tell of a launch.

mma.kernel @gemm(%A: memref<?x?xbf16>, ...) target "sm_80" warps(4) { ... }
==>
llvm.func @gemm(%A: !llvm.ptr<1>, %A_0: i32, %A_1: i32, ...)
    attributes {nvvm.kernel, nvvm.reqntid = array<i32: 128>, crosstile.grid = ..., crosstile.shared = ...}
"""

from __future__ import annotations

from xdsl.dialects import func, llvm
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    DictionaryAttr,
    IndexType,
    IntAttr,
    IntegerAttr,
    MemRefType,
    NoneAttr,
    StridedLayoutAttr,
    StringAttr,
    UnitAttr,
    i32,
    i64,
)
from xdsl.dialects.llvm import LLVMFunctionType, LLVMVoidType
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.grid_order import ANY_ORDER
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.mma.types import GROUPS
from crosstile.dialects.tile.launch import ALIGNMENT
from crosstile.ir.index_math import Index
from crosstile.lowering.mma_to_nvvm.box_stores import finish_box_stores, only_goes_through, plan_box_stores
from crosstile.lowering.mma_to_nvvm.fragments import LANES
from crosstile.lowering.mma_to_nvvm.kernel_state import GENERIC, GLOBAL, GlobalMemory, KernelState
from crosstile.lowering.mma_to_nvvm.rings import plan_rings
from crosstile.lowering.mma_to_nvvm.rounding import plan_rounding
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.mma_to_nvvm.tensor_maps import size_recipe
from crosstile.targets.model import machine

GRID, SHARED_BYTES, ARGUMENTS = "crosstile.grid", "crosstile.shared", "crosstile.arguments"
TENSOR_MAPS, PERSISTENT = "crosstile.tensor_maps", "crosstile.persistent"
"""Attributes of a kernel's function that tell how it is launched; docs/nvidia.md explains them."""
REGISTERS_OF_A_BLOCK = 65536
"""32-bit registers of a multiprocessor (CUDA C++ Programming Guide, "Compute Capabilities")."""


def lower_kernel(op: mma.KernelOp, lowering: NvvmLowering) -> None:
    """A function with, for each memref, its pointer and the sizes and strides that its type does not say."""
    if op.target is None:
        raise lowering.error('has no target; a kernel for a GPU says which, as in target "sm_80"')
    orders = [inner.order for inner in op.walk() if isinstance(inner, mma.ParallelOp)]
    order = orders[0] if orders else ANY_ORDER
    kernel = KernelState(machine(op.target.data), op.warp_count, order.cluster)
    if kernel.machine.warp_lanes is None:
        raise lowering.error(f"is placed on {kernel.machine.name}, which has no warps; expects a kernel for a GPU")
    most = 1 if kernel.machine.limits is None else kernel.machine.limits.cluster
    if order.cluster_blocks > most:
        raise lowering.error(
            f"has clusters of {order.cluster_blocks} blocks; {kernel.machine.name} runs {most} together"
        )
    lowering.enter_kernel(kernel)
    aligned = op.attributes.get(ALIGNMENT)
    lowering.alignment = aligned.value.data if isinstance(aligned, IntegerAttr) else lowering.usual_alignment
    inner = list(op.walk())
    written = any(
        (isinstance(one, mma.AllocOp) and not only_goes_through(one))
        or (isinstance(one, mma.RingOp) and one.result.type.protocol.data == GROUPS)
        for one in inner
    )
    kernel.has_products_in_flight = any(isinstance(one, mma.MmaAsyncOp) for one in inner)
    kernel.shows_writes = written and kernel.has_products_in_flight
    block = Block()
    described: list[Attribute] = []
    arguments = list(op.body.block.args)
    parameters: dict[SSAValue, list[SSAValue]] = {}
    for number, argument in enumerate(arguments):
        types = parameter_types(argument.type, lowering)
        parameters[argument] = [block.insert_arg(type_, len(block.args)) for type_ in types]
        for place, value in enumerate(parameters[argument]):
            value.name_hint = argument.name_hint if place == 0 else f"{argument.name_hint}_{place - 1}"
        described += [_described(number, place, argument.type) for place in range(len(types))]
    with lowering.index.function(block):
        for number, argument in enumerate(arguments):
            _open(argument, number, parameters[argument], lowering)
        plan_rings(op, lowering)
        plan_box_stores(op, lowering)
        plan_rounding(op, lowering)
        maps = _tensor_map_arguments(block, lowering)
        lowering.lower_ops(op.body.block)
    function = llvm.FuncOp(
        op.sym_name,
        LLVMFunctionType(list(block.arg_types), LLVMVoidType()),
        llvm.LinkageAttr("external"),
        body=Region(block),
    )
    attributes: dict[str, Attribute] = {
        "nvvm.kernel": UnitAttr(),
        "nvvm.reqntid": DenseArrayBase.from_list(i32, [op.warp_count * LANES]),
        "crosstile.target": StringAttr(kernel.machine.name),
        SHARED_BYTES: IntegerAttr(kernel.shared, i64),
        ALIGNMENT: IntegerAttr(lowering.alignment, i64),
        ARGUMENTS: ArrayAttr(described),
        TENSOR_MAPS: ArrayAttr(maps),
        GRID: _grid(op, lowering),
    }
    if order.persistent is not None:
        attributes[PERSISTENT] = IntegerAttr(order.persistent, i64)
    if order.cluster:
        attributes["nvvm.cluster_dim"] = DenseArrayBase.from_list(i32, [order.cluster_blocks, 1, 1])
    if any(isinstance(inner, mma.RolesOp) and any(role.registers for role in inner.roles) for inner in op.walk()):
        attributes["nvvm.maxnreg"] = IntegerAttr(launch_registers(op.warp_count), i32)
    function.attributes.update(attributes)
    lowering.insert(function)


def launch_registers(warps: int) -> int:
    """The registers of a thread when a block of so many warps starts, a multiple of 8."""
    return min(255, REGISTERS_OF_A_BLOCK // (warps * LANES)) // 8 * 8


def parameter_types(type_: Attribute, lowering: NvvmLowering) -> list[Attribute]:
    """The types of the parameters that stand for a kernel's argument."""
    if isa(type_, MemRefType):
        sizes = [size for size in type_.get_shape() if size == DYNAMIC_INDEX]
        strides: list[int | None] = []
        if isinstance(type_.layout, StridedLayoutAttr):
            strides = [step for step in type_.get_strides() or () if step is None]
        return [GLOBAL, *[i32] * len(sizes), *[i64] * len(strides)]
    return [i32] if isinstance(type_, IndexType) else [type_]


def _described(number: int, place: int, type_: Attribute) -> Attribute:
    """What a parameter is: ``[argument, "pointer" | "size" | "stride" | "value", dimension]``."""
    kind, dim = "value", 0
    if isa(type_, MemRefType):
        dims = [dim for dim, size in enumerate(type_.get_shape()) if size == DYNAMIC_INDEX]
        kind, dim = "pointer", 0
        if 0 < place <= len(dims):
            kind, dim = "size", dims[place - 1]
        elif place:
            known = type_.get_strides() or ()
            unknown = [dim for dim, step in enumerate(known) if step is None]
            kind, dim = "stride", unknown[place - 1 - len(dims)]
    return ArrayAttr([IntegerAttr(number, i64), StringAttr(kind), IntegerAttr(dim, i64)])


def _open(argument: SSAValue, number: int, parameters: list[SSAValue], lowering: NvvmLowering) -> None:
    """Map an argument to its parameters; sizes and strides become indices."""
    type_ = argument.type
    if not isa(type_, MemRefType):
        value = parameters[0]
        if isinstance(type_, IndexType):
            value = lowering.to_index(value)
        lowering.map_value(argument, value)
        return
    lowering.map_value(argument, parameters[0])
    rest = iter(parameters[1:])
    shape = type_.get_shape()
    sizes: list[Index] = [lowering.to_index(next(rest)) if size == DYNAMIC_INDEX else size for size in shape]
    if isinstance(type_.layout, StridedLayoutAttr):
        if type_.layout.offset != IntAttr(0):
            raise lowering.error(f"{type_}: an offset is added to the pointer by the caller; expects offset 0")
        known = type_.get_strides() or ()
        strides: list[Index] = [lowering.to_index(next(rest)) if step is None else step for step in known]
    elif isinstance(type_.layout, NoneAttr):
        strides = [lowering.index.product(sizes[dim + 1 :][::-1]) for dim in range(len(sizes))]
    else:
        raise lowering.error(f"the layout of {type_} is neither row-major nor strided<[...]>")
    lowering.kernel.memories[argument] = GlobalMemory(parameters[0], tuple(sizes), tuple(strides), number)


def _tensor_map_arguments(block: Block, lowering: NvvmLowering) -> list[Attribute]:
    """One more parameter per tensor map; the recipes by which the host makes them."""
    recipes = list(lowering.kernel.tensor_maps)
    for number, recipe in enumerate(recipes):
        value = block.insert_arg(GENERIC, len(block.args))
        value.name_hint = f"tensor_map_{number}"
        lowering.kernel.tensor_maps[recipe] = value
    return recipes


def lower_host(op: func.FuncOp, lowering: NvvmLowering) -> None:
    """What runs on the host stays as it is, and so do its launches."""
    lowering.insert(op.clone())


def lower_return(op: mma.ReturnOp, lowering: NvvmLowering) -> None:
    """The end of the function."""
    finish_box_stores(lowering)
    lowering.insert(llvm.ReturnOp())


def _grid(op: mma.KernelOp, lowering: NvvmLowering) -> Attribute:
    """Per dimension of the grid, the contiguous one first: ``{from, to, step}``, and how many blocks of a cluster are
    along it if there are any; empty for a range."""
    parallels = [inner for inner in op.walk() if isinstance(inner, mma.ParallelOp)]
    if not parallels or not parallels[0].is_grid:
        return ArrayAttr([])
    entries: list[Attribute] = []
    parallel = parallels[0]
    for lower, upper, step in zip(
        parallel.lower_bounds, parallel.upper_bounds, integer_list(parallel.steps), strict=True
    ):
        begin, end = size_recipe(lower), size_recipe(upper)
        if begin is None or end is None:
            raise lowering.error("a bound of the grid is neither a number nor the size of a memref")
        entry: dict[str, Attribute] = {"from": begin, "to": end, "step": IntegerAttr(step, i64)}
        if parallel.order.cluster:
            entry["cluster"] = IntegerAttr(parallel.order.cluster[len(entries)], i64)
        entries.append(DictionaryAttr(entry))
    return ArrayAttr(entries[::-1])
