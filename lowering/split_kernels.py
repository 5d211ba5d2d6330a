"""A program of the mma level as its host functions and one module per kernel, to be compiled apart.

In: host functions and ``mma.kernel`` in one module. Out: the host functions with a declaration of each kernel's
function as ``mma-to-hardware`` makes it, and every kernel in a module of its own, to be called from other modules::

    mma.kernel @k(%A : memref<?xf32>) { ... }
    func.func @main(%x : memref<?xf32>) { tile.launch @k(%x) ... }
    ==>
    func.func private @k.kernel(memref<?xf32>, memref<?xi8>, index, index) attributes {crosstile.scratch = 4096 : index}
    func.func @main(%x : memref<?xf32>) { tile.launch @k.kernel(%x) ... }
    // and apart from it
    mma.kernel @k.kernel(%A : memref<?xf32>) { ... } {crosstile.exported}
"""

from __future__ import annotations

from xdsl.dialects import affine, arith, memref
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr, SymbolRefAttr, UnitAttr
from xdsl.dialects.func import FuncOp
from xdsl.dialects.scf import IfOp
from xdsl.ir import Operation, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.tile.launch import LaunchOp
from crosstile.lowering.mma_to_hardware.control import EXPORTED, SCRATCH_BYTES
from crosstile.lowering.mma_to_hardware.state import BYTES, INDEX, scratch_bytes
from crosstile.targets.signature import KERNEL_SUFFIX


def split_kernels(module: ModuleOp) -> dict[str, ModuleOp]:
    """Take the kernels out of ``module``: each by its name as a module of its own."""
    kernels: dict[str, ModuleOp] = {}
    for op in module.ops:
        if not isinstance(op, mma.KernelOp):
            continue
        name = op.sym_name.data
        types = [*op.body.block.arg_types, BYTES, INDEX, INDEX]
        declaration = FuncOp.external(name + KERNEL_SUFFIX, types, [])
        declaration.attributes[SCRATCH_BYTES] = IntegerAttr(scratch_bytes(op), INDEX)
        declaration.location = op.location
        module.body.block.insert_op_before(declaration, op)
        op.detach()
        op.properties["sym_name"] = StringAttr(name + KERNEL_SUFFIX)
        op.attributes[EXPORTED] = UnitAttr()
        kernels[name] = ModuleOp([op])
        kernels[name].location = op.location
    for launch in module.walk():
        if isinstance(launch, LaunchOp) and launch.kernel.root_reference.data in kernels:
            launch.properties["kernel"] = SymbolRefAttr(launch.kernel.root_reference.data + KERNEL_SUFFIX)
    return kernels


def certain_launches(host: FuncOp) -> set[str]:
    """The kernels that every call of ``host`` launches, or that may be launched for other reasons than sizes."""
    return {
        op.kernel.root_reference.data
        for op in host.walk()
        if isinstance(op, LaunchOp) and not _depends_on_sizes(op, host)
    }


def _depends_on_sizes(launch: LaunchOp, host: FuncOp) -> bool:
    """Whether sizes of arguments decide if ``launch`` runs, and nothing else does."""
    outer = launch.parent_op()
    if outer is host:
        return False
    while isinstance(outer, IfOp) and _is_of_sizes(outer.cond):
        outer = outer.parent_op()
    return outer is host


def _is_of_sizes(value: SSAValue) -> bool:
    """Whether ``value`` is computed from sizes and constants alone."""
    op = value.owner
    if not isinstance(op, Operation):
        return False
    if isinstance(op, memref.DimOp):
        return True
    is_arithmetic = op.dialect_name() == arith.Arith.name or isinstance(op, affine.ApplyOp)
    return is_arithmetic and all(map(_is_of_sizes, op.operands))
