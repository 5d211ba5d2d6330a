"""``convert-to-llvm``: upstream's ``func``, ``cf``, ``arith``, ``math``, ``memref``, ``vector`` and those of chips.

In: a module at hardware level without structured control flow. Out: ``llvm`` operations only; what is ``llvm`` already
stays. Each dialect has its table of rules in ``<dialect>_to_llvm.py``; the types are in ``llvm_types.py``. ::

    func.func @axpy(%a: f32, %x: memref<?xf32>, %i: index) {
      %v = vector.load %x[%i] : memref<?xf32>, vector<16xf32>
      ...
    ==>
    llvm.func @axpy(%a: f32, %x_0: !llvm.ptr, %x_1: i64, %i: i64) {
      %0 = llvm.getelementptr %x_0[%i] : (!llvm.ptr, i64) -> !llvm.ptr, f32
      %v = llvm.load %0 {alignment = 4 : i64} : !llvm.ptr -> vector<16xf32>
      ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import BFloat16Type, ModuleOp
from xdsl.dialects.llvm import CallOp, FuncOp, GlobalOp, LinkageAttr, LLVMFunctionType
from xdsl.ir import Attribute, Operation

from crosstile.dialects.arith import element_type
from crosstile.lowering import (
    amx_to_llvm,
    arith_to_llvm,
    cf_to_llvm,
    func_to_llvm,
    llvm_types,
    math_to_llvm,
    memref_to_llvm,
    vector_to_llvm,
    x86vector_to_llvm,
)
from crosstile.lowering.driver import Lowering, LoweringPass, Rule
from crosstile.passes.arith_emulate_unsupported_floats import computes


def not_of_bf16(rule: Rule) -> Rule:
    """A rule for an operation that computes: a bf16 is an integer of its bits from here on."""

    def checked(op: Operation, lowering: Lowering) -> None:
        if any(isinstance(element_type(value.type), BFloat16Type) for value in (*op.operands, *op.results)):
            raise lowering.error("there is no arithmetic of bf16 here: run arith-emulate-unsupported-floats first")
        rule(op, lowering)

    return checked


COMPUTING: Mapping[type[Operation], Rule] = {**arith_to_llvm.RULES, **math_to_llvm.RULES, **vector_to_llvm.RULES}
"""Rules for operations that compute, and for some that only move numbers."""


class ConvertToLlvmPass(LoweringPass):
    """Everything at hardware level to the ``llvm`` dialect."""

    name = "convert-to-llvm"
    rules: ClassVar[Mapping[type[Operation], Rule]] = {
        **func_to_llvm.RULES,
        **cf_to_llvm.RULES,
        **memref_to_llvm.RULES,
        **COMPUTING,
        **{op: not_of_bf16(rule) for op, rule in COMPUTING.items() if computes(op)},
        **x86vector_to_llvm.RULES,
        **amx_to_llvm.RULES,
    }
    kept_dialects: ClassVar[frozenset[str]] = frozenset(("llvm",))

    def convert_type(self, type_: Attribute) -> Sequence[Attribute]:
        """The ``llvm`` types of the values that stand for a value of ``type_``."""
        return llvm_types.convert_type(type_)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Lower ``op`` in place and declare the library functions it now calls."""
        super().apply(ctx, op)
        declare_callees(op)


def declare_callees(module: ModuleOp) -> None:
    """Declare every function that is called in ``module`` and not defined there."""
    known = {symbol.sym_name.data for symbol in module.ops if isinstance(symbol, FuncOp | GlobalOp)}
    for op in list(module.walk()):
        if not isinstance(op, CallOp) or op.callee is None or op.callee.root_reference.data in known:
            continue
        name = op.callee.root_reference.data
        known.add(name)
        output = op.returned.type if op.returned is not None else None
        function_type = LLVMFunctionType([argument.type for argument in op.args], output)
        module.body.block.add_op(FuncOp(name, function_type, LinkageAttr("external")))
