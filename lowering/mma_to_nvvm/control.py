"""Rules for kernels, grids, roles and loops.

    mma.kernel @gemm(%A: memref<?x?xbf16>, ...) target "sm_80" warps(4) {
      mma.parallel (%i, %j), (%mc, %nc) = (0, 0) to (%M, %N) step (128, 128) { ... }
    ==>
    llvm.func @gemm(%A: !llvm.ptr<1>, %A_0: i32, %A_1: i32, ...)
        attributes {nvvm.kernel, nvvm.reqntid = array<i32: 128>, crosstile.grid = ..., crosstile.shared = ...}
      %i = ctaid.y * 128, %mc = min(128, %M - %i), ...

A ring's place in its round is carried by the loops and branches around its operations, as one or two more values.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import affine, arith, func, llvm, memref, scf
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
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.mma.roles import Role
from crosstile.dialects.mma.types import GROUPS
from crosstile.dialects.nvvm.special import BlockIdXOp, BlockIdYOp, BlockIdZOp, GridDimXOp
from crosstile.dialects.nvvm.synchronisation import SetMaxRegisterOp
from crosstile.dialects.tile.launch import ALIGNMENT
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value, static_size
from crosstile.lowering.loops import run_if
from crosstile.lowering.mma_to_nvvm.access import Place
from crosstile.lowering.mma_to_nvvm.fragments import LANES
from crosstile.lowering.mma_to_nvvm.memory import read
from crosstile.lowering.mma_to_nvvm.rings import finish_barriers, plan_rings, ring_uses
from crosstile.lowering.mma_to_nvvm.state import (
    GENERIC,
    GLOBAL,
    INDEX,
    Cursor,
    GlobalMemory,
    KernelState,
    NvvmLowering,
    Program,
)
from crosstile.lowering.mma_to_nvvm.tensor_maps import size_recipe
from crosstile.targets.model import machine

GRID, SHARED_BYTES, ARGUMENTS = "crosstile.grid", "crosstile.shared", "crosstile.arguments"
TENSOR_MAPS = "crosstile.tensor_maps"
"""Attributes of a kernel's function that tell how it is launched; docs/nvidia.md explains them."""
REGISTERS_OF_A_BLOCK = 65536
"""32-bit registers of a multiprocessor (CUDA C++ Programming Guide, "Compute Capabilities")."""


def lower_kernel(op: mma.KernelOp, lowering: NvvmLowering) -> None:
    """A function with, for each memref, its pointer and the sizes and strides that its type does not say."""
    if op.target is None:
        raise lowering.error('has no target; a kernel for a GPU says which, as in target "sm_80"')
    kernel = KernelState(machine(op.target.data), op.warp_count)
    if kernel.machine.warp_lanes is None:
        raise lowering.error(f"is placed on {kernel.machine.name}, which has no warps; expects a kernel for a GPU")
    lowering.enter_kernel(kernel)
    aligned = op.attributes.get(ALIGNMENT)
    lowering.alignment = aligned.value.data if isinstance(aligned, IntegerAttr) else lowering.usual_alignment
    inner = list(op.walk())
    written = any(
        isinstance(one, mma.AllocOp) or (isinstance(one, mma.RingOp) and one.result.type.protocol.data == GROUPS)
        for one in inner
    )
    kernel.shows_writes = written and any(isinstance(one, mma.MmaAsyncOp) for one in inner)
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
            value = lowering.index.build(arith.IndexCastOp(value, INDEX)).result
        lowering.map_value(argument, value)
        return
    lowering.map_value(argument, parameters[0])
    rest = iter(parameters[1:])
    shape = type_.get_shape()
    sizes: list[Index] = [_index(next(rest), lowering) if size == DYNAMIC_INDEX else size for size in shape]
    if isinstance(type_.layout, StridedLayoutAttr):
        if type_.layout.offset != IntAttr(0):
            raise lowering.error(f"{type_}: an offset is added to the pointer by the caller; expects offset 0")
        known = type_.get_strides() or ()
        strides: list[Index] = [_index(next(rest), lowering) if step is None else step for step in known]
    elif isinstance(type_.layout, NoneAttr):
        strides = [lowering.index.product(sizes[dim + 1 :][::-1]) for dim in range(len(sizes))]
    else:
        raise lowering.error(f"the layout of {type_} is neither row-major nor strided<[...]>")
    lowering.kernel.memories[argument] = GlobalMemory(parameters[0], tuple(sizes), tuple(strides), number)


def _index(value: SSAValue, lowering: NvvmLowering) -> SSAValue:
    return lowering.index.build(arith.IndexCastOp(value, INDEX)).result


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
    lowering.insert(llvm.ReturnOp())


def _grid(op: mma.KernelOp, lowering: NvvmLowering) -> Attribute:
    """Per dimension of the grid, the contiguous one first: ``{from, to, step}``; empty for a range."""
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
        entries.append(DictionaryAttr({"from": begin, "to": end, "step": IntegerAttr(step, i64)}))
    return ArrayAttr(entries[::-1])


def lower_parallel(op: mma.ParallelOp, lowering: NvvmLowering) -> None:
    """The tile, or the range, of this block."""
    if op.is_grid:
        _lower_grid(op, lowering)
    else:
        _lower_range(op, lowering)


def _lower_grid(op: mma.ParallelOp, lowering: NvvmLowering) -> None:
    """Blocks are counted along x and y in the two innermost dimensions, along z in all others together."""
    index, steps = lowering.index, integer_list(op.steps)
    rank = len(steps)
    bounds = [
        tuple(_bound(bound, lowering) for bound in pair) for pair in zip(op.lower_bounds, op.upper_bounds, strict=True)
    ]
    for dim, at in enumerate(_block_numbers(bounds, steps, lowering)):
        lower, upper = bounds[dim]
        start = index.add(lower, index.mul(at, steps[dim]))
        extent: Index = 1 if steps[dim] == 1 else index.minimum(index.sub(upper, start), steps[dim])
        lowering.map_value(op.body.block.args[dim], index.value(start))
        lowering.map_value(op.body.block.args[rank + dim], index.value(extent))
    _lower_body(op.body.block, lowering)


def _block_numbers(bounds: Sequence[tuple[Index, ...]], steps: Sequence[int], lowering: NvvmLowering) -> list[SSAValue]:
    """The number of this block along each dimension of its grid."""
    index, rank = lowering.index, len(steps)
    registers = (BlockIdXOp, BlockIdYOp, BlockIdZOp)[: min(rank, 3)]
    numbers = [_index(index.build(register()).result, lowering) for register in registers]
    if rank <= 3:
        return numbers[::-1]
    *inner, rest = numbers
    outer: list[SSAValue] = []
    for dim in range(rank - 3, 0, -1):
        lower, upper = bounds[dim]
        blocks = index.value(index.floor_div(index.add(index.sub(upper, lower), steps[dim] - 1), steps[dim]))
        outer.insert(0, lowering.insert(arith.RemUIOp(rest, blocks)).result)
        rest = lowering.insert(arith.DivUIOp(rest, blocks)).result
    return [rest, *outer, *inner[::-1]]


def _lower_range(op: mma.ParallelOp, lowering: NvvmLowering) -> None:
    assert op.grain is not None
    index, grain = lowering.index, op.grain.value.data
    lower, upper = _bound(op.lower_bounds[0], lowering), _bound(op.upper_bounds[0], lowering)
    distance = index.maximum(index.sub(upper, lower), 0)
    blocks = index.floor_div(index.add(distance, grain - 1), grain)
    part = _index(index.build(BlockIdXOp()).result, lowering)
    parts = _index(index.build(GridDimXOp()).result, lowering)
    total = index.value(index.add(blocks, index.sub(parts, 1)))
    share = lowering.insert(arith.DivUIOp(total, parts)).result
    begin = index.minimum(upper, index.add(lower, index.mul(index.mul(part, share), grain)))
    end = index.minimum(upper, index.add(begin, index.mul(share, grain)))
    for argument, value in zip(op.body.block.args, (begin, end), strict=True):
        lowering.map_value(argument, index.value(value))
    _lower_body(op.body.block, lowering)


def _bound(old: SSAValue, lowering: NvvmLowering) -> Index:
    known = constant_value(old)
    return lowering.value(old) if known is None else known


def _lower_body(block: Block, lowering: NvvmLowering) -> None:
    for inner in block.ops:
        if not isinstance(inner, mma.YieldOp):
            lowering.lower_op(inner)


# Roles


def lower_roles(op: mma.RolesOp, lowering: NvvmLowering) -> None:
    """A branch by the number of the warp; a role whose work is tensor copies runs on one thread."""
    finish_barriers(lowering)
    outer = lowering.program
    first = outer.first_warp
    start = launch_registers(lowering.kernel.warps)
    for number, role in enumerate(op.roles):
        lowering.program = outer
        thread = lowering.thread()
        here = lowering.both(
            lowering.compare("sge", thread, (first - outer.first_warp) * LANES) if first > outer.first_warp else True,
            lowering.less(thread, (first - outer.first_warp + role.warps) * LANES)
            if first + role.warps < outer.first_warp + outer.warps
            else True,
        )
        lowering.program = Program(first, role.warps, number + 1, single=_is_single(role.body.block, lowering))

        def body(role: Role = role) -> None:
            if role.registers:
                action = "increase" if role.registers > start else "decrease"
                lowering.insert(SetMaxRegisterOp(action, role.registers))
            if lowering.program.single:
                run_if(
                    lowering,
                    lowering.compare("eq", lowering.thread(), 0),
                    lambda: _lower_body(role.body.block, lowering),
                )
            else:
                _lower_body(role.body.block, lowering)

        saved = dict(lowering.kernel.cursors)
        run_if(lowering, here, body)
        lowering.kernel.cursors = saved
        first += role.warps
    lowering.program = outer


def _is_single(block: Block, lowering: NvvmLowering) -> bool:
    """Whether a role does nothing but fill rings with tensor copies."""
    copies = False
    for op in block.walk():
        if isinstance(op, mma.CopyAsyncOp):
            copies = True
            if op not in lowering.kernel.tensor_copies:
                return False
        elif isinstance(op, mma.AcquireOp | mma.CommitOp | mma.YieldOp) or op.name.split(".")[0] in ("scf", "arith"):
            continue
        else:
            return False
    return copies


# Loops and branches


def lower_for(op: scf.ForOp, lowering: NvvmLowering) -> None:
    """A loop that also carries where the rings used in it stand."""
    uses = ring_uses(op, lowering)
    cursors = lowering.kernel.cursors
    carried = [value for use in uses for value in _cursor_values(cursors[use], use, lowering)]
    block = Block(arg_types=[INDEX])
    lowering.map_value(op.body.block.args[0], block.args[0])
    for argument in op.body.block.args[1:]:
        lowering.add_argument(block, argument)
    extra = [block.insert_arg(INDEX, len(block.args)) for _ in carried]
    _set_cursors(uses, extra, lowering)
    with lowering.at(block):
        *inner, terminator = op.body.block.ops
        for old in inner:
            lowering.lower_op(old)
        left = [value for use in uses for value in _cursor_values(cursors[use], use, lowering)]
        lowering.insert(scf.YieldOp(*lowering.flatten(terminator.operands), *left))
    initial = [*lowering.flatten(op.iter_args), *carried]
    bounds = [lowering.value(value) for value in (op.lb, op.ub, op.step)]
    loop = lowering.insert(scf.ForOp(bounds[0], bounds[1], bounds[2], initial, Region(block)))
    remaining = list(loop.results)
    for result in op.results:
        count = len(lowering.convert_type(result.type))
        lowering.map_value(result, *remaining[:count])
        remaining = remaining[count:]
    _set_cursors(uses, remaining, lowering)


def lower_if(op: scf.IfOp, lowering: NvvmLowering) -> None:
    """A branch that also yields where the rings used in it stand."""
    uses = ring_uses(op, lowering)
    before = dict(lowering.kernel.cursors)
    blocks: list[Block] = []
    with lowering.index.branches():
        for region in (op.true_region, op.false_region):
            lowering.kernel.cursors.clear()
            lowering.kernel.cursors.update(before)
            block = Block()
            yielded: list[SSAValue] = []
            with lowering.at(block):
                if region.blocks:
                    *inner, terminator = region.block.ops
                    for old in inner:
                        lowering.lower_op(old)
                    yielded = lowering.flatten(terminator.operands)
                cursors = lowering.kernel.cursors
                left = [value for use in uses for value in _cursor_values(cursors[use], use, lowering)]
                lowering.insert(scf.YieldOp(*yielded, *left))
            blocks.append(block)
    types = [*lowering.convert_types([result.type for result in op.results])]
    types += [INDEX for use in uses for _ in _cursor_values(before[use], use, lowering)]
    has_else = bool(op.false_region.blocks) or bool(types)
    new = scf.IfOp(lowering.value(op.cond), types, Region(blocks[0]), Region(blocks[1]) if has_else else None)
    lowering.insert(new)
    remaining = list(new.results)
    for result in op.results:
        count = len(lowering.convert_type(result.type))
        lowering.map_value(result, *remaining[:count])
        remaining = remaining[count:]
    _set_cursors(uses, remaining, lowering)


def _cursor_values(cursor: Cursor, use: tuple[SSAValue, str], lowering: NvvmLowering) -> list[SSAValue]:
    return [cursor.number, cursor.phase] if lowering.kernel.rings[use[0]].has_parity else [cursor.number]


def _set_cursors(uses: Sequence[tuple[SSAValue, str]], values: Sequence[SSAValue], lowering: NvvmLowering) -> None:
    rest = list(values)
    for use in uses:
        number = rest.pop(0)
        phase = rest.pop(0) if lowering.kernel.rings[use[0]].has_parity else number
        lowering.kernel.cursors[use] = Cursor(number, phase)


# Scalars


def lower_dim(op: memref.DimOp, lowering: NvvmLowering) -> None:
    """The size of a memref."""
    dim = constant_value(op.index)
    if dim is None:
        raise lowering.error("needs a constant dimension")
    size: Index | None = static_size(op.source, dim)
    lowering.replace(op, lowering.index.value(lowering.kernel.memories[op.source].sizes[dim] if size is None else size))


def lower_apply(op: affine.ApplyOp, lowering: NvvmLowering) -> None:
    """Index arithmetic, outside of the loops that it does not depend on."""
    lowering.replace(op, lowering.index.value(lowering.linear.value(lowering.linear.apply(op))))


def lower_ceildiv(op: arith.CeilDivSIOp | arith.CeilDivUIOp, lowering: NvvmLowering) -> None:
    """A division that rounds up, by a power of two where the divisor is known to be one and the dividend is a size."""
    lhs, rhs = op.operands
    known = constant_value(rhs)
    if known is not None and known > 0 and isinstance(lhs.owner, memref.DimOp):
        total = lowering.index.add(lowering.value(lhs), known - 1)
        lowering.replace(op, lowering.index.value(lowering.index.floor_div(total, known)))
        return
    lower_scalar(op, lowering)


def lower_memref_load(op: memref.LoadOp, lowering: NvvmLowering) -> None:
    """One element, by every thread."""
    place = Place(lowering, op.memref, (), None, list(op.indices), (), None, False)
    lowering.replace(op, read(lowering, place.pointer([]), op.res.type))


def lower_scalar(op: Operation, lowering: NvvmLowering) -> None:
    """Arithmetic on scalars: the same, moved out of loops and merged with equal operations where it may be."""
    new = type(op).create(
        operands=lowering.flatten(op.operands),
        result_types=[result.type for result in op.results],
        properties=dict(op.properties),
        attributes=dict(op.attributes),
    )
    traps = isinstance(op, DIVISIONS) and not constant_value(op.operands[1])
    if not op.regions and not traps:
        new = lowering.index.build(new)
    else:
        lowering.insert(new)
    lowering.replace(op, *new.results)


DIVISIONS = (
    *(arith.DivUIOp, arith.DivSIOp, arith.RemUIOp, arith.RemSIOp),
    *(arith.FloorDivSIOp, arith.CeilDivSIOp, arith.CeilDivUIOp),
)
