"""Rules for host functions: launches become calls by one worker of many, run-time checks become a status.

func.func @main(%x : memref<?x8xf32>, %y : memref<?x8xf32>, %arena : memref<?xi8>) attributes {crosstile.inputs ..} {
  cf.assert %equal, "..."
  tile.launch @k(%x, %y) {stage = 0}
==>
func.func @main(%x, %y, %arena, %stage : index, %part : index, %parts : index) -> i32 attributes {crosstile.entry, ..} {
  %status = 0, or the position of the first check that fails, or -1 if the arena is too small
  scf.if %status == 0 {
    scf.if %stage < 0 or %stage == 0 { func.call @k(%x, %y, this worker's scratch, %part, %parts) } }
  func.return %status

One call with a negative stage runs everything; several workers are each called with stage 0, then stage 1, and so on.
The arena holds the scratch of every worker first, then what ``plan-buffers`` put there; ``@main.arena`` gets one more
argument, the number of workers, and counts both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from xdsl.dialects import arith, cf, func, memref, scf
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, UnitAttr, i32
from xdsl.ir import Block, Operation, Region, SSAValue

from crosstile.dialects import mma, tile
from crosstile.dialects.host import is_host, stage_count
from crosstile.ir.index_math import Index
from crosstile.lowering.driver import keep
from crosstile.lowering.mma_to_hardware.control import SCRATCH_BYTES
from crosstile.lowering.mma_to_hardware.state import BYTES, INDEX, HardwareLowering, HostState, scratch_bytes
from crosstile.targets.signature import ARENA_SUFFIX

ENTRY = "crosstile.entry"
"""Marks a function that is called from outside with an array of words; ``convert-to-llvm`` makes that entry."""


def lower_function(op: func.FuncOp, lowering: HardwareLowering) -> None:
    """A host function and the function that computes the size of its arena; any other stays as it is."""
    if is_host(op):
        _lower_host(op, lowering)
    elif op.sym_name.data.endswith(ARENA_SUFFIX) and _host_of(op) is not None:
        _lower_arena(op, lowering)
    else:
        keep(op, lowering)


def _host_of(op: func.FuncOp) -> func.FuncOp | None:
    """The host function that ``op`` computes the size of the arena for."""
    name = op.sym_name.data.removesuffix(ARENA_SUFFIX)
    for other in _siblings(op):
        if isinstance(other, func.FuncOp) and other.sym_name.data == name and is_host(other):
            return other
    return None


def _siblings(op: Operation) -> Sequence[Operation]:
    module = op.parent_op()
    return tuple(module.body.block.ops) if isinstance(module, ModuleOp) else ()


def _worker_scratch(host: func.FuncOp) -> int:
    """The bytes of scratch that one worker needs for the kernels of ``host``: those of the largest."""
    needed: dict[str, int] = {}
    for op in _siblings(host):
        if isinstance(op, mma.KernelOp):
            needed[op.sym_name.data] = scratch_bytes(op)
        elif isinstance(op, func.FuncOp) and isinstance(said := op.attributes.get(SCRATCH_BYTES), IntegerAttr):
            needed[op.sym_name.data] = said.value.data
    launched = (launch.kernel.root_reference.data for launch in host.walk() if isinstance(launch, tile.LaunchOp))
    return max((needed.get(name, 0) for name in launched), default=0)


def _lower_arena(op: func.FuncOp, lowering: HardwareLowering) -> None:
    """The size function with the number of workers as one more argument, and their scratch added."""
    host = _host_of(op)
    assert host is not None
    scratch = _worker_scratch(host)
    block = Block()
    for argument in op.body.block.args:
        lowering.add_argument(block, argument)
    parts = block.insert_arg(INDEX, len(block.args))
    parts.name_hint = "parts"
    with lowering.index.function(block):
        for inner in op.body.block.ops:
            if not isinstance(inner, func.ReturnOp):
                lowering.lower_op(inner)
                continue
            planned = lowering.value(inner.arguments[0])
            total = lowering.index.add(planned, lowering.index.mul(parts, scratch))
            lowering.insert(func.ReturnOp(lowering.index.value(total)))
    lowering.insert(func.FuncOp(op.sym_name.data, (block.arg_types, [INDEX]), Region(block)))


def _lower_host(op: func.FuncOp, lowering: HardwareLowering) -> None:
    old_block = op.body.block
    if not old_block.args or old_block.args[-1].type != BYTES:
        raise lowering.error("the host function has no arena: run plan-buffers first")
    block = Block()
    for argument in old_block.args:
        lowering.add_argument(block, argument)
    arena = block.args[-1]
    stage, part, parts = (block.insert_arg(INDEX, len(block.args)) for _ in range(3))
    stage.name_hint, part.name_hint, parts.name_hint = "stage", "part", "parts"
    scratch = _worker_scratch(op)
    *body, last = old_block.ops
    assert isinstance(last, func.ReturnOp)
    checked = len(body) - sum(1 for _ in takewhile(lambda inner: not isinstance(inner, cf.AssertOp), reversed(body)))
    with lowering.index.function(block):
        size_of_arena = [*block.args[: len(old_block.args) - 1], parts]
        needed = lowering.insert(func.CallOp(op.sym_name.data + ARENA_SUFFIX, size_of_arena, [INDEX])).res[0]
        status = _status(lowering, body[:checked], _too_small(lowering, arena, needed))
        zero = lowering.constant(0, i32)
        sound = lowering.insert(arith.CmpiOp(status, zero, "eq")).result
        run = Block()
        with lowering.at(run):
            own = lowering.index.mul(part, scratch)
            host = HostState(stage, part, parts, stage_count(op), _scratch_view(lowering, arena, own, scratch))
            lowering.enter_host(host)
            lowering.map_value(old_block.args[-1], _planned_part(lowering, arena, parts, scratch))
            for inner in body[checked:]:
                lowering.lower_op(inner)
            lowering.insert(scf.YieldOp())
        lowering.insert(scf.IfOp(sound, [], Region(run)))
        lowering.insert(func.ReturnOp(status))
    function = func.FuncOp(op.sym_name.data, (block.arg_types, [i32]), Region(block), arg_attrs=None)
    function.attributes = {**op.attributes, ENTRY: UnitAttr()}
    lowering.insert(function)


def _too_small(lowering: HardwareLowering, arena: SSAValue, needed: SSAValue) -> SSAValue:
    size = lowering.size(arena, 0)
    return lowering.insert(arith.CmpiOp(lowering.index.value(size), needed, "slt")).result


def _status(lowering: HardwareLowering, checks: Sequence[Operation], too_small: SSAValue) -> SSAValue:
    """0, or the position (from 1) of the first check that does not hold, or -1 if only the arena is too small."""
    conditions: list[SSAValue] = []
    for op in checks:
        if isinstance(op, cf.AssertOp):
            conditions.append(lowering.value(op.arg))
        else:
            lowering.lower_op(op)
    zero, small = lowering.constant(0, i32), lowering.constant(-1, i32)
    status = lowering.insert(arith.SelectOp(too_small, small, zero)).result
    for position, condition in reversed(list(enumerate(conditions, 1))):
        failed = lowering.constant(position, i32)
        status = lowering.insert(arith.SelectOp(condition, status, failed)).result
    return status


def _scratch_view(lowering: HardwareLowering, arena: SSAValue, start: Index, size: Index) -> SSAValue:
    """``size`` bytes of the arena from ``start``."""
    operands = lowering.index.values([start, size])
    return lowering.index.build(memref.ViewOp(arena, operands[0], operands[1:], BYTES)).result


def _planned_part(lowering: HardwareLowering, arena: SSAValue, parts: SSAValue, scratch: int) -> SSAValue:
    """The arena behind the workers' scratch."""
    if scratch == 0:
        return arena
    start = lowering.index.mul(parts, scratch)
    return _scratch_view(lowering, arena, start, lowering.index.sub(lowering.size(arena, 0), start))


def lower_launch(op: tile.LaunchOp, lowering: HardwareLowering) -> None:
    """A call by this worker, if it is the launch's stage or all stages run in one call."""
    host = lowering.host
    call = Block()
    with lowering.at(call):
        arguments = [*lowering.flatten(op.arguments), host.scratch, host.part, host.parts]
        lowering.insert(func.CallOp(op.kernel.root_reference.data, arguments, []))
        lowering.insert(scf.YieldOp())
    stage = 0 if op.stage is None else op.stage.value.data
    lowering.insert(scf.IfOp(_its_turn(lowering, stage), [], Region(call)))


def lower_copy(op: memref.CopyOp, lowering: HardwareLowering) -> None:
    """Made by the first worker in the last stage, which is for copies."""
    host = lowering.host
    first = lowering.index.build(arith.CmpiOp(host.part, lowering.index.value(0), "eq")).result
    runs = lowering.index.build(arith.AndIOp(_its_turn(lowering, host.stages - 1), first)).result
    copy = Block()
    with lowering.at(copy):
        lowering.insert(memref.CopyOp(lowering.value(op.source), lowering.value(op.destination)))
        lowering.insert(scf.YieldOp())
    lowering.insert(scf.IfOp(runs, [], Region(copy)))


def _its_turn(lowering: HardwareLowering, stage: int) -> SSAValue:
    """Whether this call is for ``stage`` or for all stages."""
    everything = lowering.index.build(arith.CmpiOp(lowering.host.stage, lowering.index.value(0), "slt")).result
    this = lowering.index.build(arith.CmpiOp(lowering.host.stage, lowering.index.value(stage), "eq")).result
    return lowering.index.build(arith.OrIOp(everything, this)).result
