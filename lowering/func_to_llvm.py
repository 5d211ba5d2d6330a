"""Rules for ``func``: functions, calls and returns; several results travel in a struct.

A private function becomes internal. ``passthrough`` (function attributes of LLVM, such as ``["noinline"]``), argument
attributes (``llvm.noalias`` of a memref goes to its pointer) and other attributes are kept. A function marked
``crosstile.entry`` also gets ``@name.entry(!llvm.ptr) -> i32``, through which the host calls it: the argument points to
64-bit words, one per argument of the lowered function, in order. ::

    func.func @f(%m: memref<?xf32>, %n: index) attributes {crosstile.entry} { return }
    ==> llvm.func @f(%m: !llvm.ptr, %m_size: i64, %n: i64) { llvm.return }
        llvm.func @f.entry(%words: !llvm.ptr) -> i32 {
          %0 = llvm.load %words : !llvm.ptr -> !llvm.ptr
          ...
          llvm.call @f(%0, %1, %2) : (!llvm.ptr, i64, i64) -> ()
          llvm.return %zero : i32 }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects import func
from xdsl.dialects import llvm as xllvm
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    DictionaryAttr,
    IntegerType,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects.llvm import PoisonOp
from crosstile.lowering.driver import Lowering, Rule
from crosstile.lowering.llvm_types import constant
from crosstile.lowering.math_to_llvm import LIBRARY_FUNCTIONS
from crosstile.targets.signature import ENTRY_SUFFIX

ENTRY_ATTRIBUTE = "crosstile.entry"
LIBRARY_NAMES = frozenset(LIBRARY_FUNCTIONS.values())


def result_type(types: Sequence[Attribute]) -> Attribute | None:
    """The one type in which values of ``types`` are returned; None if there are none."""
    if not types:
        return None
    return types[0] if len(types) == 1 else xllvm.LLVMStructType.from_type_list(types)


def symbol(name: str) -> str:
    """The symbol of the function called ``name``: another where the C library has one of that name, which we call."""
    return f"crosstile.{name}" if name.removesuffix("f") in LIBRARY_NAMES or name in LIBRARY_NAMES else name


def lower_func(op: func.FuncOp, lowering: Lowering) -> None:
    """``func.func``, with a body or as a declaration."""
    inputs = lowering.convert_types(op.function_type.inputs.data)
    output = result_type(lowering.convert_types(op.function_type.outputs.data))
    private = op.sym_visibility is not None and op.sym_visibility.data == "private" and not op.is_declaration
    attributes = {name: value for name, value in op.attributes.items() if name not in (ENTRY_ATTRIBUTE, "passthrough")}
    properties: dict[str, Attribute | None] = {"arg_attrs": argument_attributes(op, lowering)}
    if isa(passthrough := op.attributes.get("passthrough"), ArrayAttr[Attribute]):
        properties["passthrough"] = passthrough
    body = lowering.lower_region(op.body)
    new_op = xllvm.FuncOp(
        symbol(op.sym_name.data),
        xllvm.LLVMFunctionType(inputs, output),
        xllvm.LinkageAttr("internal" if private else "external"),
        body=body,
        other_props=properties,
        extra_attrs=attributes,
    )
    lowering.insert(new_op)
    if ENTRY_ATTRIBUTE in op.attributes:
        lowering.insert(entry(op.sym_name.data, new_op, lowering))


def argument_attributes(op: func.FuncOp, lowering: Lowering) -> Attribute | None:
    """Attributes of the new arguments: an old argument's go to the first value that stands for it."""
    if op.arg_attrs is None:
        return None
    result: list[DictionaryAttr] = []
    for type_, attributes in zip(op.function_type.inputs.data, op.arg_attrs, strict=True):
        result += [attributes] + [DictionaryAttr({})] * (len(lowering.convert_type(type_)) - 1)
    return ArrayAttr(result)


def entry(name: str, function: xllvm.FuncOp, lowering: Lowering) -> xllvm.FuncOp:
    """The function through which the host calls ``function``, known as ``name``, with an array of words."""
    types = function.function_type.inputs.data
    for type_ in types:
        if not isinstance(type_, xllvm.LLVMPointerType) and type_ != i64:
            raise lowering.error(f"an entry function takes memrefs and index values only, not {type_}")
    pointer = xllvm.LLVMPointerType()
    block = Block(arg_types=[pointer])
    with lowering.at(block):
        words = block.args[0]
        words.name_hint = "words"
        arguments = [_word(lowering, words, number, type_) for number, type_ in enumerate(types)]
        output = function.function_type.output
        returned = None if isinstance(output, xllvm.LLVMVoidType) else output
        if returned is not None and returned not in (i32, i64):
            raise lowering.error(f"an entry function returns nothing, an i32 or an index, not {returned}")
        status = lowering.insert(xllvm.CallOp(function.sym_name.data, *arguments, return_type=returned)).returned
        if status is None:
            status = constant(lowering, 0, i32)
        elif status.type != i32:
            status = lowering.insert(xllvm.TruncOp(status, i32)).res
        lowering.insert(xllvm.ReturnOp(status))
    function_type = xllvm.LLVMFunctionType([pointer], IntegerType(32))
    linkage = xllvm.LinkageAttr("external")
    return xllvm.FuncOp(name + ENTRY_SUFFIX, function_type, linkage, body=Region(block))


def _word(lowering: Lowering, words: SSAValue, number: int, type_: Attribute) -> SSAValue:
    address = words
    if number:
        address = lowering.insert(xllvm.GEPOp.from_mixed_indices(words, [number], i64)).result
    return lowering.insert(xllvm.LoadOp(address, type_, alignment=8)).dereferenced_value


def lower_call(op: func.CallOp, lowering: Lowering) -> None:
    """``func.call``."""
    types = [lowering.convert_type(result.type) for result in op.results]
    flat = [type_ for group in types for type_ in group]
    new_op = xllvm.CallOp(
        symbol(op.callee.root_reference.data), *lowering.flatten(op.arguments), return_type=result_type(flat)
    )
    returned = lowering.insert(new_op).returned
    values: list[SSAValue] = [] if returned is None else [returned]
    if returned is not None and len(flat) > 1:
        positions = [DenseArrayBase.from_list(i64, [number]) for number in range(len(flat))]
        pairs = zip(positions, flat, strict=True)
        values = [lowering.insert(xllvm.ExtractValueOp(place, returned, type_)).res for place, type_ in pairs]
    remaining = iter(values)
    for result, group in zip(op.results, types, strict=True):
        lowering.map_value(result, *(next(remaining) for _ in group))


def lower_return(op: func.ReturnOp, lowering: Lowering) -> None:
    """``func.return``."""
    values = lowering.flatten(op.arguments)
    if len(values) <= 1:
        lowering.insert(xllvm.ReturnOp(values[0] if values else None))
        return
    struct = xllvm.LLVMStructType.from_type_list([value.type for value in values])
    packed: SSAValue = lowering.insert(PoisonOp(struct)).res
    for number, value in enumerate(values):
        place = DenseArrayBase.from_list(i64, [number])
        packed = lowering.insert(xllvm.InsertValueOp(place, packed, value)).res
    lowering.insert(xllvm.ReturnOp(packed))


RULES: Mapping[type[Operation], Rule] = {
    func.FuncOp: lower_func,
    func.CallOp: lower_call,
    func.ReturnOp: lower_return,
}
